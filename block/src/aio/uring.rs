//! Rings shared with the kernel (Linux `io_uring`).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};
use parking_lot::Mutex;

use super::{Completed, Entry, MAX_REQUESTS, Ring};

/// The id of an entry that only ends a wait.
const WAKE: u64 = 0;
/// `io_uring_enter(2)`: wait for what is done (`linux/io_uring.h`, `IORING_ENTER_GETEVENTS`).
const ENTER_GETEVENTS: u32 = 1;
/// How often a ring is looked at that the kernel does not serve.
const BROKEN_POLL: Duration = Duration::from_millis(10);

struct Uring {
    ring: IoUring,
    file: Arc<File>,
    /// Held by the one who puts an entry in, and by the one who takes them out.
    submission: Mutex<()>,
    completion: Mutex<()>,
    /// The kernel refused what is in the ring: it must never be told of it again, for it is no longer ours.
    broken: AtomicBool,
}

/// A ring for a file.
///
/// # Errors
/// The kernel has none, or forbids it.
pub(super) fn new(file: &Arc<File>) -> io::Result<Box<dyn Ring>> {
    // One more entry than requests, to end a wait with.
    Ok(Box::new(Uring::of(IoUring::new(MAX_REQUESTS + 1)?, file)))
}

impl Uring {
    fn of(ring: IoUring, file: &Arc<File>) -> Uring {
        let (submission, completion) = (Mutex::default(), Mutex::default());
        Uring { ring, file: file.clone(), submission, completion, broken: AtomicBool::new(false) }
    }

    fn push(&self, entry: &squeue::Entry) -> io::Result<()> {
        let _alone = self.submission.lock();
        if self.broken.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        {
            // SAFETY: whoever makes the submission queue holds its lock.
            let mut queue = unsafe { self.ring.submission_shared() };
            // SAFETY: what the entry points to belongs to a request that is kept until it is done (`Queue::submit`),
            // as its file is by the ring.
            unsafe { queue.push(entry) }.map_err(|_| io::ErrorKind::WouldBlock)?;
        }
        // It is in the ring, and cannot be taken out again: the kernel takes it sooner or later, or nothing any more.
        while let Err(error) = self.ring.submit() {
            match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => std::thread::yield_now(),
                _ => {
                    self.broken.store(true, Ordering::Release);
                    return Err(error);
                }
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
        if self.broken.load(Ordering::Acquire) {
            std::thread::sleep(BROKEN_POLL);
        } else {
            // SAFETY: nothing is handed over: whoever puts an entry in does that.
            let waited = unsafe { self.ring.submitter().enter::<()>(0, 1, ENTER_GETEVENTS, None) };
            // A signal, or a ring that will turn out to be broken; the caller looks again.
            if waited.is_err() {
                std::thread::yield_now();
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_the_kernel_does_not_serve_takes_nothing() {
        let file = Arc::new(File::open("/dev/zero").expect("the device"));
        // It refuses everything with an error that is nobody's passing trouble, until it is enabled.
        let ring = IoUring::builder().setup_r_disabled().build(8).expect("a ring");
        let uring = Uring::of(ring, &file);
        let nop = opcode::Nop::new().build().user_data(7);
        let refused = uring.push(&nop).expect_err("it is disabled");
        assert_eq!(refused.raw_os_error(), Some(libc::EBADFD));
        uring.ring.submitter().register_enable_rings().expect("it is enabled");
        // What was refused is never carried out: whoever asked for it was told so.
        assert_eq!(uring.push(&nop).expect_err("it is broken").kind(), io::ErrorKind::BrokenPipe);
        let mut completed = Vec::new();
        uring.wait(&mut completed);
        assert!(completed.is_empty());
    }
}
