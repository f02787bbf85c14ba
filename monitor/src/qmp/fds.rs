//! Descriptors that clients pass: by name for one monitor, and in sets that paths name.
//!
//! Source: QEMU `monitor/fds.c`, `qapi/misc.json`.

use std::os::fd::OwnedFd;

use hw_core::runstate;
use parking_lot::Mutex;
use qapi::QapiType;
use qom::{Error, Result, bail};
use util::fdset;

use super::session::current;

/// A monitor's named descriptors. A client has few.
pub(super) type NamedFds = Mutex<Vec<(String, OwnedFd)>>;

/// Named descriptors that a monitor keeps at most: the host gives a process about as many.
const NAMED_LIMIT: usize = 1024;

/// Takes the descriptor that the client of the monitor whose command this thread carries out called `name`
/// (`monitor_get_fd`); nothing where it carries out none.
pub(super) fn take_named_fd(name: &str) -> Option<std::result::Result<OwnedFd, String>> {
    let monitor = current()?;
    let mut fds = monitor.fds.lock();
    let at = fds.iter().position(|(n, _)| n == name);
    Some(
        at.map(|at| fds.remove(at).1)
            .ok_or_else(|| format!("File descriptor named '{name}' has not been found")),
    )
}

fn passed_fd() -> Result<OwnedFd> {
    match current() {
        Some(monitor) => monitor.take_passed_fd(),
        None => bail!("No file descriptor supplied via SCM_RIGHTS"),
    }
}

fn not_found(name: &str) -> Error {
    Error::new(format!("File descriptor named '{name}' not found"))
}

/// Gives the descriptor that comes with this command a name.
#[qapi::command("getfd")]
fn getfd(
    /// Its name, which does not begin with a digit. One that had it before is closed.
    fdname: String,
) -> Result<()> {
    let fd = passed_fd()?;
    if fdname.starts_with(|c: char| c.is_ascii_digit()) {
        bail!("Parameter 'fdname' expects a name not starting with a digit");
    }
    let Some(monitor) = current() else { return Ok(()) };
    let mut fds = monitor.fds.lock();
    fds.retain(|(name, _)| *name != fdname);
    if fds.len() >= NAMED_LIMIT {
        bail!("too many file descriptors have names");
    }
    fds.push((fdname, fd));
    Ok(())
}

/// Closes a descriptor that has a name.
#[qapi::command("closefd")]
fn closefd(
    /// Its name.
    fdname: String,
) -> Result<()> {
    let monitor = current().ok_or_else(|| not_found(&fdname))?;
    let mut fds = monitor.fds.lock();
    let at = fds.iter().position(|(name, _)| *name == fdname).ok_or_else(|| not_found(&fdname))?;
    drop(fds.remove(at));
    Ok(())
}

/// Where a descriptor was added.
#[derive(QapiType)]
struct AddfdInfo {
    /// The set.
    fdset_id: i64,
    /// The descriptor's number here.
    fd: i64,
}

/// Adds the descriptor that comes with this command to a set, which `/dev/fdset/N` opens.
#[qapi::command("add-fd")]
fn add_fd(
    /// The set; without it a new one is made.
    fdset_id: Option<i64>,
    /// A text for whoever asks about the set.
    opaque: Option<String>,
) -> Result<AddfdInfo> {
    let fd = passed_fd()?;
    if fdset_id.is_some_and(|id| id < 0) {
        bail!("Parameter 'fdset-id' expects a non-negative value");
    }
    let (fdset_id, fd) = fdset::add(fd, fdset_id, opaque);
    Ok(AddfdInfo { fdset_id, fd })
}

/// Removes descriptors from a set.
#[qapi::command("remove-fd")]
fn remove_fd(
    /// The set.
    fdset_id: i64,
    /// The descriptor; without it all are removed.
    fd: Option<i64>,
) -> Result<()> {
    if fdset::remove(fdset_id, fd, runstate::is_running()) {
        return Ok(());
    }
    Err(not_found(&match fd {
        Some(fd) => format!("fdset-id:{fdset_id}, fd:{fd}"),
        None => format!("fdset-id:{fdset_id}"),
    }))
}

/// A descriptor of a set.
#[derive(QapiType)]
struct FdsetFdInfo {
    /// Its number here.
    fd: i64,
    /// The text that came with it.
    opaque: Option<String>,
}

/// A set of descriptors.
#[derive(QapiType)]
struct FdsetInfo {
    /// Its number.
    fdset_id: i64,
    /// Its descriptors.
    fds: Vec<FdsetFdInfo>,
}

/// The sets of descriptors.
#[qapi::command("query-fdsets")]
fn query_fdsets() -> Result<Vec<FdsetInfo>> {
    let info = |fd: fdset::FdInfo| FdsetFdInfo { fd: fd.fd, opaque: fd.opaque };
    let set = |(fdset_id, fds): (i64, Vec<fdset::FdInfo>)| FdsetInfo {
        fdset_id,
        fds: fds.into_iter().map(info).collect(),
    };
    Ok(fdset::list().into_iter().map(set).collect())
}
