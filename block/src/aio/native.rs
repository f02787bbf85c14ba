//! Linux's older asynchronous I/O (`io_submit(2)`), by the kernel's calls themselves: no crate at hand has them.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::{Completed, Entry, MAX_REQUESTS, Ring};

/// `linux/aio_abi.h`.
const IOCB_CMD_PREADV: u16 = 7;
const IOCB_CMD_PWRITEV: u16 = 8;
const IOCB_FLAG_RESFD: u32 = 1;

/// `struct iocb` of a little-endian machine.
#[repr(C)]
#[derive(Default)]
struct ControlBlock {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

struct Native {
    context: libc::c_ulong,
    file: Arc<File>,
    /// Signalled when requests are done.
    event: EventFd,
}

/// A context for a file.
///
/// # Errors
/// The kernel has none, or no more of them (`/proc/sys/fs/aio-max-nr`).
pub(super) fn new(file: &Arc<File>) -> io::Result<Box<dyn Ring>> {
    let event = EventFd::new(0)?;
    let mut context: libc::c_ulong = 0;
    // SAFETY: the kernel writes the new context's name to a variable that lives here.
    let made = unsafe { libc::syscall(libc::SYS_io_setup, MAX_REQUESTS, &raw mut context) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Box::new(Native { context, file: file.clone(), event }))
}

impl Ring for Native {
    fn submit(&self, entry: &Entry) -> io::Result<()> {
        let mut block = ControlBlock {
            data: entry.id,
            opcode: if entry.is_write { IOCB_CMD_PWRITEV } else { IOCB_CMD_PREADV },
            file: self.file.as_raw_fd() as u32,
            buffer: entry.parts.as_ptr() as u64,
            bytes: entry.parts.len() as u64,
            offset: i64::try_from(entry.offset).map_err(|_| io::ErrorKind::InvalidInput)?,
            flags: IOCB_FLAG_RESFD,
            eventfd: self.event.as_raw_fd() as u32,
            ..ControlBlock::default()
        };
        let mut blocks = [&raw mut block];
        // SAFETY: the kernel reads one control block and the vector that it points to before this returns; the memory
        // in that belongs to a request that is kept until it is done (`Queue::submit`).
        let taken = unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, blocks.as_mut_ptr()) };
        match taken {
            1 => Ok(()),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn wait(&self, completed: &mut Vec<Completed>) {
        // An error is a signal's doing; the caller looks again.
        let _ = self.event.read();
        let mut events = [Event::default(); MAX_REQUESTS as usize];
        let none: *const libc::timespec = std::ptr::null();
        // SAFETY: the kernel writes at most as many events as there is room for; it waits for none, so the missing
        // time-out is never looked at.
        let count = unsafe {
            libc::syscall(libc::SYS_io_getevents, self.context, 0, MAX_REQUESTS, events.as_mut_ptr(), none)
        };
        let count = usize::try_from(count).unwrap_or(0);
        completed.extend(events.iter().take(count).map(|event| {
            let moved = u32::try_from(event.result);
            (event.data, moved.map_err(|_| io::Error::from_raw_os_error(-event.result as i32)))
        }));
    }

    fn wake(&self) {
        let _ = self.event.write(1);
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the context is this one's own, and nobody uses it any more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}
