//! Owners, permissions and types that the guest sets and the host keeps beside its own: in extended attributes
//! `user.virtfs.*`, or in a file of the same name in a folder `.virtfs_metadata` beside it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::{SecurityModel, open_directory, open_file, proc_path};
use crate::fs::{Cred, Result, Stat};

/// The folder with the files that say what is known of their neighbours.
pub(super) const METADATA_FOLDER: &str = ".virtfs_metadata";
/// The file that says it of the shared folder itself.
const METADATA_ROOT: &str = ".virtfs_metadata_root";
/// Longest of those files: four short lines.
const METADATA_MAX: usize = 400;

/// Whether a name is of a file that says something of others.
pub(super) fn is_metadata(name: &[u8]) -> bool {
    name == METADATA_FOLDER.as_bytes() || name == METADATA_ROOT.as_bytes()
}

/// That something was not there is no error.
pub(super) fn unless_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// The folder for what is known of the files in a directory; made, if `make`.
pub(super) fn metadata_folder(directory: BorrowedFd<'_>, make: bool) -> Result<OwnedFd> {
    if make {
        match fs::mkdirat(directory, METADATA_FOLDER, Mode::RWXU) {
            Err(Errno::EXIST) => (),
            made => made?,
        }
    }
    open_directory(directory, METADATA_FOLDER.as_bytes())
}

/// Puts what is kept of a file in place of what the host says.
pub(super) fn apply(model: SecurityModel, directory: BorrowedFd<'_>, name: &[u8], stat: &mut Stat) {
    match model {
        SecurityModel::MappedXattr => {
            let path = proc_path(directory, name);
            let cred = read_xattrs(|attribute, value| fs::lgetxattr(&path[..], attribute, value));
            fill_in(&cred, stat);
        }
        SecurityModel::MappedFile => fill_in(&read_file(directory, name).unwrap_or_default(), stat),
        SecurityModel::None | SecurityModel::Passthrough => (),
    }
}

/// The same of an open file, where attributes keep it.
pub(super) fn apply_open(fd: impl AsFd, stat: &mut Stat) {
    fill_in(&read_xattrs(|attribute, value| fs::fgetxattr(&fd, attribute, value)), stat);
}

fn fill_in(cred: &Cred, stat: &mut Stat) {
    stat.uid = cred.uid.unwrap_or(stat.uid);
    stat.gid = cred.gid.unwrap_or(stat.gid);
    stat.mode = cred.mode.unwrap_or(stat.mode);
    stat.rdev = cred.rdev.unwrap_or(stat.rdev);
}

fn read_xattrs(get: impl Fn(&str, &mut [u8]) -> Result<usize>) -> Cred {
    let number = |attribute: &str| {
        let mut value = [0; 8];
        let len = get(attribute, &mut value).ok()?;
        (len > 0).then_some(u64::from_le_bytes(value))
    };
    let short = |attribute: &str| number(attribute).map(|value| value as u32);
    Cred {
        uid: short("user.virtfs.uid"),
        gid: short("user.virtfs.gid"),
        mode: short("user.virtfs.mode"),
        rdev: number("user.virtfs.rdev"),
    }
}

/// Keeps what `cred` says of a file.
pub(super) fn store(model: SecurityModel, directory: BorrowedFd<'_>, name: &[u8], cred: &Cred) -> Result<()> {
    if model == SecurityModel::MappedFile {
        return write_file(directory, name, cred);
    }
    let path = proc_path(directory, name);
    let set = |attribute: &str, value: Option<&[u8]>| match value {
        Some(value) => fs::lsetxattr(&path[..], attribute, value, XattrFlags::empty()),
        None => Ok(()),
    };
    set("user.virtfs.uid", cred.uid.map(u32::to_le_bytes).as_ref().map(|v| &v[..]))?;
    set("user.virtfs.gid", cred.gid.map(u32::to_le_bytes).as_ref().map(|v| &v[..]))?;
    set("user.virtfs.mode", cred.mode.map(u32::to_le_bytes).as_ref().map(|v| &v[..]))?;
    set("user.virtfs.rdev", cred.rdev.map(u64::to_le_bytes).as_ref().map(|v| &v[..]))
}

/// The folder and the file in it that say what is known of `name`.
fn metadata_place<'a>(directory: BorrowedFd<'_>, name: &'a [u8], make: bool) -> Result<(OwnedFd, &'a [u8])> {
    match name {
        b"." => Ok((open_directory(directory, b".")?, METADATA_ROOT.as_bytes())),
        name => Ok((metadata_folder(directory, make)?, name)),
    }
}

fn read_file(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Cred> {
    let (folder, name) = metadata_place(directory, name, false)?;
    let fd = open_file(folder, name, OFlags::RDONLY, Mode::empty())?;
    let mut text = [0; METADATA_MAX];
    let len = rustix::io::read(fd, &mut text)?;
    let text = String::from_utf8_lossy(text.get(..len).unwrap_or_default()).into_owned();
    let number = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        lines.next_back()?.trim().parse::<i64>().ok()
    };
    let short = |name: &str| number(name).map(|value| value as u32);
    Ok(Cred {
        uid: short("virtfs.uid"),
        gid: short("virtfs.gid"),
        mode: short("virtfs.mode"),
        rdev: number("virtfs.rdev").map(|value| value as u64),
    })
}

fn write_file(directory: BorrowedFd<'_>, name: &[u8], cred: &Cred) -> Result<()> {
    let known = match read_file(directory, name) {
        Err(Errno::NOENT) => Cred::default(),
        known => known?,
    };
    let (folder, name) = metadata_place(directory, name, true)?;
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CREATE;
    let fd = open_file(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
    fs::fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    // As QEMU's, which reads signed numbers.
    let line = |name: &str, value: Option<u32>| {
        value.map(|value| format!("{name}={}\n", value as i32)).unwrap_or_default()
    };
    let text = [
        line("virtfs.uid", cred.uid.or(known.uid)),
        line("virtfs.gid", cred.gid.or(known.gid)),
        line("virtfs.mode", cred.mode.or(known.mode)),
        line("virtfs.rdev", cred.rdev.or(known.rdev).map(|rdev| rdev as u32)),
    ];
    let text = text.concat();
    match rustix::io::write(fd, text.as_bytes())? {
        len if len == text.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}
