//! Locks of image files that all programs of QEMU's heed (block/file-posix.c): a byte for each permission that
//! is held, and one for each that others may not have.

use std::fs::File;

use nix::fcntl::{FcntlArg, fcntl};
use qom::{Error, Result};

/// First of the bytes for permissions that are held.
const PERM_BASE: i64 = 100;
/// First of the bytes for permissions that others may not have.
const SHARED_BASE: i64 = 200;

/// Read, and what is read is consistent.
pub const CONSISTENT_READ: u32 = 1;
/// Write.
pub const WRITE: u32 = 2;
/// Change the size.
pub const RESIZE: u32 = 8;
/// Permissions there are, and what messages call them.
const NAMES: [&str; 4] = ["consistent read", "write", "write unchanged", "resize"];

fn range(kind: i32, start: i64) -> nix::libc::flock {
    nix::libc::flock {
        l_type: kind as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: start,
        l_len: 1,
        l_pid: 0,
    }
}

/// Takes locks, and checks that nobody has one that conflicts (`raw_handle_perm_lock`).
///
/// # Errors
/// When another has the file, with QEMU's hint.
pub fn lock(file: &File, path: &str, held: u32, unshared: u32) -> Result<()> {
    let bits = || (0..NAMES.len()).map(|bit| (bit as i64, 1u32 << bit));
    for (bit, mask) in bits() {
        for (base, wanted) in [(PERM_BASE, held), (SHARED_BASE, unshared)] {
            if wanted & mask != 0 {
                fcntl(file, FcntlArg::F_OFD_SETLK(&range(nix::libc::F_RDLCK, base + bit)))
                    .map_err(|_| Error::new(format!("Failed to lock byte {}", base + bit)))?;
            }
        }
    }
    for (bit, mask) in bits() {
        for (base, wanted, shared) in [(SHARED_BASE, held, ""), (PERM_BASE, unshared, "shared ")] {
            if wanted & mask != 0 && is_locked(file, base + bit) {
                let message = format!("Failed to get {shared}\"{}\" lock", NAMES[bit as usize]);
                let hint = format!("Is another process using the image [{path}]?");
                return Err(Error::new(message).with_hint(hint));
            }
        }
    }
    Ok(())
}

fn is_locked(file: &File, byte: i64) -> bool {
    let mut found = range(nix::libc::F_WRLCK, byte);
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut found));
    asked.is_ok() && i32::from(found.l_type) != nix::libc::F_UNLCK
}
