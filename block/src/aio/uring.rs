//! Rings shared with the kernel (Linux `io_uring`).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};
use parking_lot::Mutex;

use super::{Completed, Entry, MAX_REQUESTS, Ring};

/// The id of an entry that only ends a wait.
const WAKE: u64 = 0;

struct Uring {
    ring: IoUring,
    file: Arc<File>,
    /// Held by the one who puts an entry in, and by the one who takes them out.
    submission: Mutex<()>,
    completion: Mutex<()>,
}

/// A ring for a file.
///
/// # Errors
/// The kernel has none, or forbids it.
pub(super) fn new(file: &Arc<File>) -> io::Result<Box<dyn Ring>> {
    // One more entry than requests, to end a wait with.
    let ring = IoUring::new(MAX_REQUESTS + 1)?;
    Ok(Box::new(Uring {
        ring,
        file: file.clone(),
        submission: Mutex::default(),
        completion: Mutex::default(),
    }))
}

impl Uring {
    fn push(&self, entry: &squeue::Entry) -> io::Result<()> {
        let _alone = self.submission.lock();
        {
            // SAFETY: whoever makes the submission queue holds its lock.
            let mut queue = unsafe { self.ring.submission_shared() };
            // SAFETY: what the entry points to belongs to a request that is kept until it is done (`Queue::submit`),
            // as its file is by the ring.
            unsafe { queue.push(entry) }.map_err(|_| io::ErrorKind::WouldBlock)?;
        }
        // It is in the ring: there is no way back, and the kernel takes it sooner or later.
        while let Err(error) = self.ring.submit() {
            match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => std::thread::yield_now(),
                _ => break,
            }
        }
        Ok(())
    }
}

impl Ring for Uring {
    fn submit(&self, entry: &Entry) -> io::Result<()> {
        let file = types::Fd(self.file.as_raw_fd());
        let (parts, count) = (entry.parts.as_ptr(), entry.parts.len() as u32);
        let built = if entry.is_write {
            opcode::Writev::new(file, parts, count).offset(entry.offset).build()
        } else {
            opcode::Readv::new(file, parts, count).offset(entry.offset).build()
        };
        self.push(&built.user_data(entry.id))
    }

    fn wait(&self, completed: &mut Vec<Completed>) {
        // An error is a signal's doing; the caller looks again.
        let _ = self.ring.submitter().submit_and_wait(1);
        let _alone = self.completion.lock();
        // SAFETY: whoever makes the completion queue holds its lock.
        let queue = unsafe { self.ring.completion_shared() };
        completed.extend(queue.filter(|entry| entry.user_data() != WAKE).map(|entry| {
            let moved = u32::try_from(entry.result());
            (entry.user_data(), moved.map_err(|_| io::Error::from_raw_os_error(-entry.result())))
        }));
    }

    fn wake(&self) {
        let _ = self.push(&opcode::Nop::new().build().user_data(WAKE));
    }
}
