//! Sets of descriptors that stand for files: `/dev/fdset/N` opens one of set N (monitor/fds.c, util/osdep.c).
//!
//! Whoever manages the machine may open files that the program itself cannot, and pass them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::fs::{OFlags, fcntl_getfl};

/// A descriptor of a set.
#[derive(Debug)]
struct Member {
    fd: OwnedFd,
    opaque: Option<String>,
    removed: bool,
}

#[derive(Debug)]
struct Set {
    id: i64,
    members: Vec<Member>,
    /// One of its descriptors was opened through its path.
    used: bool,
}

/// A descriptor of a set, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdInfo {
    /// Its number in this process.
    pub fd: i64,
    /// What whoever passed it calls it.
    pub opaque: Option<String>,
}

/// By number.
static SETS: Mutex<Vec<Set>> = Mutex::new(Vec::new());
/// The clients of monitors, on whose behalf unused sets are kept.
static CLIENTS: AtomicUsize = AtomicUsize::new(0);

/// Takes the descriptor that a monitor's client passed under a name, or says that there is none; nothing where the
/// calling thread carries out no monitor's command.
pub type NamedFdSource = fn(&str) -> Option<Result<OwnedFd, String>>;

static NAMED: OnceLock<NamedFdSource> = OnceLock::new();

/// Says who takes named descriptors; the first call counts.
pub fn set_named_source(source: NamedFdSource) {
    let _ = NAMED.set(source);
}

/// See [`NamedFdSource`].
pub fn take_named(name: &str) -> Option<Result<OwnedFd, String>> {
    NAMED.get().and_then(|take| take(name))
}

/// The descriptor that `text` names: its number, of which a copy is given, or the name under which the monitor's client
/// whose command is carried out has passed it (`monitor_fd_param`).
///
/// # Errors
/// For the user, when there is none.
pub fn fd_param(text: &str) -> Result<OwnedFd, String> {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    if !is_number && let Some(taken) = take_named(text) {
        return taken;
    }
    let Ok(number) = text.parse() else { return Err(format!("Invalid file descriptor number '{text}'")) };
    crate::sockets::duplicate_fd(number).map_err(|error| format!("fd {text}: {}", crate::log::OsError(error)))
}

/// A copy of a descriptor that the program was started with; not one of its own, which other programs do not inherit.
///
/// # Errors
/// For the user, when there is none.
pub fn inherited(number: i32) -> Result<OwnedFd, String> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    if flags.is_none_or(|flags| flags & OFlags::CLOEXEC.bits() != 0) {
        return Err("fd is not valid or already in use".to_owned());
    }
    let copy = crate::sockets::duplicate_fd(number);
    copy.map_err(|error| format!("error duplicating fd: {}", crate::log::OsError(error)))
}

/// Adds a descriptor to set `id`, or to a new one; gives the set's number and the descriptor's
/// (`monitor_fdset_add_fd`).
pub fn add(fd: OwnedFd, id: Option<i64>, opaque: Option<String>) -> (i64, i64) {
    let mut sets = SETS.lock();
    let lowest_free = || (0..).find(|n| sets.iter().all(|set| set.id != *n)).unwrap_or(i64::MAX);
    let id = id.unwrap_or_else(lowest_free);
    let at = sets.binary_search_by_key(&id, |set| set.id).unwrap_or_else(|at| {
        sets.insert(at, Set { id, members: Vec::new(), used: false });
        at
    });
    let number = i64::from(fd.as_raw_fd());
    sets[at].members.push(Member { fd, opaque, removed: false });
    (id, number)
}

/// Removes a descriptor from set `id`, or all (`qmp_remove_fd`). They are closed once the machine runs. `false` when
/// there is none.
pub fn remove(id: i64, fd: Option<i64>, running: bool) -> bool {
    let mut found = false;
    if let Some(set) = SETS.lock().iter_mut().find(|set| set.id == id) {
        for member in &mut set.members {
            if fd.is_none_or(|fd| fd == i64::from(member.fd.as_raw_fd())) {
                member.removed = true;
                found = true;
            }
        }
        found |= fd.is_none();
    }
    cleanup(running);
    found
}

/// The sets and their descriptors.
pub fn list() -> Vec<(i64, Vec<FdInfo>)> {
    let info = |m: &Member| FdInfo { fd: m.fd.as_raw_fd().into(), opaque: m.opaque.clone() };
    SETS.lock().iter().rev().map(|set| (set.id, set.members.iter().map(info).collect())).collect()
}

/// A client of a monitor came.
pub fn client_opened() {
    CLIENTS.fetch_add(1, Ordering::Relaxed);
}

/// A client of a monitor went: what nobody used goes with the last.
pub fn client_closed(running: bool) {
    // One that comes and goes in between only keeps sets longer.
    let _ = CLIENTS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    cleanup(running);
}

fn cleanup(running: bool) {
    if !running {
        return;
    }
    let alone = CLIENTS.load(Ordering::Relaxed) == 0;
    let mut sets = SETS.lock();
    for set in &mut *sets {
        let unused = alone && !set.used;
        set.members.retain(|member| !member.removed && !unused);
    }
    sets.retain(|set| !set.members.is_empty() || set.used);
}

/// Opens a file, or a descriptor of the set that `path` names, whose access is that of `flags` (`qemu_open`).
///
/// # Errors
/// What the host says; for a set `ENOENT` without it, `EACCES` when none of its descriptors has the access.
pub fn open(path: &str, flags: OFlags, options: &OpenOptions) -> io::Result<File> {
    let Some(id) = path.strip_prefix("/dev/fdset/") else { return options.open(path) };
    let id: i64 = id.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut sets = SETS.lock();
    let set = sets.iter_mut().find(|set| set.id == id).ok_or(rustix::io::Errno::NOENT)?;
    for member in set.members.iter().filter(|member| !member.removed) {
        if fcntl_getfl(&member.fd)? & OFlags::RWMODE == flags & OFlags::RWMODE {
            let fd = member.fd.try_clone()?;
            set.used = true;
            return Ok(fd.into());
        }
    }
    Err(rustix::io::Errno::ACCESS.into())
}
