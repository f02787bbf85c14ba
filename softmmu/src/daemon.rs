//! `-daemonize`, and the pid file.
//!
//! The program starts itself anew as the daemon and waits until that has set up its machine: so errors
//! still come to the terminal and in the exit status. Source for what is expected: QEMU `os-posix.c`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use qom::{Error, Result, bail};
use rustix::fs::{FlockOperation, flock};
use util::log::OsError;

use crate::privileges::Privileges;

/// Set for the daemon by the process that starts it.
const DAEMON: &str = "SOFTMMU_DAEMON";

/// What the daemon still owes the process that started it.
pub struct Daemon(());

/// In the process the user started: starts the daemon, waits, and ends with its success. In the daemon: goes
/// on (`os_daemonize`).
///
/// # Errors
/// When the host refuses a process.
pub fn daemonize() -> Result<Daemon> {
    chardev::forbid_stdio();
    if std::env::var_os(DAEMON).is_some() {
        rustix::process::setsid().map_err(|e| Error::new(format!("-daemonize: {e}")))?;
        return Ok(Daemon(()));
    }
    let program = std::env::current_exe().map_err(|e| Error::new(format!("-daemonize: {e}")))?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(DAEMON, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Error::new(format!("-daemonize: {e}")))?;
    let mut ready = [0];
    let started = child.stdout.take().is_some_and(|mut out| out.read_exact(&mut ready).is_ok());
    if started {
        std::process::exit(0);
    }
    let status = child.wait().ok().and_then(|s| s.code()).unwrap_or(1);
    std::process::exit(if status == 0 { 1 } else { status });
}

impl Daemon {
    /// The machine is set up: gives up what is to be given up, lets the starting process end, and leaves its terminal
    /// (`os_setup_post`).
    ///
    /// # Errors
    /// When the starting process is gone, or the host refuses.
    pub fn ready(self, privileges: &Privileges) -> Result<()> {
        let refuse = |e: std::io::Error| Error::new(format!("-daemonize: {e}"));
        std::env::set_current_dir("/").map_err(refuse)?;
        // There may be none where the program is confined to.
        let null = File::options().read(true).write(true).open("/dev/null").map_err(refuse)?;
        privileges.give_up()?;
        let mut out = std::io::stdout();
        out.write_all(b"r").and_then(|()| out.flush()).map_err(refuse)?;
        rustix::stdio::dup2_stdout(&null).map_err(|e| refuse(e.into()))?;
        rustix::stdio::dup2_stderr(&null).map_err(|e| refuse(e.into()))?;
        Ok(())
    }
}

/// A file with the process's number, locked while it lives and removed at its end.
pub struct PidFile {
    path: PathBuf,
    _file: File,
}

impl PidFile {
    /// Makes it (`qemu_create_pidfile`).
    ///
    /// # Errors
    /// When another process holds it, or it cannot be written.
    pub fn create(path: &str) -> Result<PidFile> {
        let refuse = |e: std::io::Error| {
            Error::new(format!("cannot create PID file: Could not create '{path}': {}", OsError(e)))
        };
        let mut file = File::options().create(true).truncate(false).write(true).open(path).map_err(refuse)?;
        if flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("cannot create PID file: Failed to lock '{path}': another process holds it");
        }
        file.set_len(0).map_err(refuse)?;
        writeln!(file, "{}", std::process::id()).map_err(refuse)?;
        let path = std::path::absolute(path).map_err(refuse)?;
        Ok(PidFile { path, _file: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}
