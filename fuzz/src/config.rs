//! Configuration files (`-readconfig`), and `-set`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, memfd_create};
use softmmu::cli::{CommandLine, Request};

use crate::options;

/// A file.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = util::config::parse_set(text);
    let fd = memfd_create("config", MemfdFlags::CLOEXEC).expect("a file in memory");
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    File::from(fd.try_clone().expect("a descriptor")).write_all(data).expect("it takes all");
    let arguments = ["-readconfig".to_owned(), path];
    if let Ok(Request::Run(line)) = CommandLine::parse(arguments.map(OsString::from)) {
        options::read(line);
    }
}
