//! The host's calls that read into and write from guest memory.
//!
//! The one place of this crate with `unsafe`: the libraries' safe wrappers take `&mut [u8]`, which guest memory must
//! never be.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use memory::IoVecs;

use crate::driver::IoVec;

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

fn transfer(
    way: Way,
    fd: BorrowedFd<'_>,
    offset: u64,
    parts: IoVec<'_, '_>,
    flags: i32,
) -> io::Result<usize> {
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let iov = IoVecs::new(parts);
    let (fd, base, count) = (fd.as_raw_fd(), iov.as_ptr(), iov.len() as i32);
    // SAFETY: each iovec is a `VolatileSlice` that `parts` borrows, so its memory is mapped, readable and writable
    // until this returns. The kernel accesses it as a guest does; no reference to it exists.
    let moved = unsafe {
        match way {
            Way::In => libc::preadv2(fd, base, count, offset, flags),
            Way::Out => libc::pwritev2(fd, base, count, offset, flags),
        }
    };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Moves all of the parts; at the end of the file, reads give zeroes.
fn transfer_all(way: Way, fd: BorrowedFd<'_>, offset: u64, parts: IoVec<'_, '_>) -> io::Result<()> {
    let total = crate::driver::iov_size(parts);
    let mut done = 0;
    while done < total {
        let rest;
        let left = if done == 0 {
            parts
        } else {
            rest = crate::driver::iov_slice(parts, done, total - done);
            &rest[..]
        };
        match transfer(way, fd, offset + done, left, 0) {
            Ok(0) if way == Way::In => {
                crate::driver::iov_zero(left);
                return Ok(());
            }
            Ok(0) => return Err(io::ErrorKind::StorageFull.into()),
            Ok(moved) => done += moved as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads into all of the parts.
///
/// # Errors
/// What the host says.
pub fn preadv(fd: BorrowedFd<'_>, offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
    transfer_all(Way::In, fd, offset, to)
}

/// Writes all of the parts.
///
/// # Errors
/// What the host says.
pub fn pwritev(fd: BorrowedFd<'_>, offset: u64, from: IoVec<'_, '_>) -> io::Result<()> {
    transfer_all(Way::Out, fd, offset, from)
}

/// Writes what needs no waiting for: the number of bytes.
///
/// # Errors
/// As [`preadv_nowait`].
pub fn pwritev_nowait(fd: BorrowedFd<'_>, offset: u64, from: IoVec<'_, '_>) -> io::Result<usize> {
    transfer(Way::Out, fd, offset, from, libc::RWF_NOWAIT)
}

/// Reads what needs no waiting for: the number of bytes.
///
/// # Errors
/// What the host says; `WouldBlock` when nothing is there at once.
pub fn preadv_nowait(fd: BorrowedFd<'_>, offset: u64, to: IoVec<'_, '_>) -> io::Result<usize> {
    transfer(Way::In, fd, offset, to, libc::RWF_NOWAIT)
}
