//! Reads and writes that the host's kernel carries out while no thread waits for them: `aio=io_uring` (block/io_uring.c)
//! and `aio=native` (block/linux-aio.c).
//!
//! A file has a queue to the kernel, and a thread, made with the first request, that hears from it what is done.

mod native;
mod uring;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use memory::IoVecs;
use parking_lot::Mutex;
use qom::{Error, Result};
use util::log::OsError;

use crate::backend::{Completion, Op, Request, Submitted};
use crate::driver::{IoVec, iov_size, iov_slice, iov_zero};
use crate::options::BlockdevAioOptions;
use crate::sys;

/// Most requests under way in a file's queue; what comes besides is for threads.
const MAX_REQUESTS: u32 = 128;

/// A read or write as the kernel is told of it.
struct Entry {
    /// What the kernel calls it when it is done.
    id: u64,
    is_write: bool,
    offset: u64,
    /// The request's memory, which stays where it is until the request is done.
    parts: IoVecs,
}

/// What the kernel says of a request: its id, and the bytes moved.
type Completed = (u64, io::Result<u32>);

/// A queue to the kernel.
trait Ring: Send + Sync {
    /// Hands a request over.
    ///
    /// # Errors
    /// What the kernel says; it has not taken it then.
    fn submit(&self, entry: &Entry) -> io::Result<()>;

    /// Waits until requests are done, or [`Ring::wake`] is called.
    fn wait(&self, completed: &mut Vec<Completed>);

    /// Ends a wait.
    fn wake(&self);
}

/// A file's queue.
pub(crate) struct Queue(Arc<Shared>);

struct Shared {
    ring: Box<dyn Ring>,
    file: Arc<File>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: HashMap<u64, UnderWay>,
    last_id: u64,
    has_thread: bool,
    /// Nobody will ask for more.
    closed: bool,
}

/// What comes before a request's end is told; with a request that is not taken it is dropped.
pub(crate) type AtEnd = Box<dyn FnOnce(&io::Result<()>) + Send>;

/// A request in the kernel's hands.
struct UnderWay {
    /// The kernel reads them, too.
    entry: Entry,
    request: Request,
    at_end: AtEnd,
    done: Completion,
}

impl Queue {
    /// For a file as the user wants it; none where threads are to do the work.
    ///
    /// # Errors
    /// For the user: the host has no such queues.
    pub fn new(aio: BlockdevAioOptions, file: &Arc<File>) -> Result<Option<Queue>> {
        let (ring, what) = match aio {
            BlockdevAioOptions::Threads => return Ok(None),
            BlockdevAioOptions::IoUring => {
                (uring::new(file), "Unable to use io_uring: failed to init linux io_uring ring")
            }
            BlockdevAioOptions::Native => {
                (native::new(file), "Unable to use native AIO: failed to create linux AIO context")
            }
        };
        let ring = ring.map_err(|error| Error::new(format!("{what}: {}", OsError(error))))?;
        let (file, state) = (file.clone(), Mutex::default());
        Ok(Some(Queue(Arc::new(Shared { ring, file, state }))))
    }

    /// Has the kernel carry out a read or write at `offset`, and `at_end` and `done` called when it is; gives request and
    /// `done` back where it does not take it.
    pub fn submit(&self, offset: u64, request: Request, at_end: AtEnd, done: Completion) -> Submitted {
        let is_write = match request.op {
            Op::Read => false,
            Op::Write => true,
            Op::WriteZeroes { .. } | Op::Discard | Op::Flush => return Err((request, done)),
        };
        let mut state = self.0.state.lock();
        if state.under_way.len() >= MAX_REQUESTS as usize || !self.has_thread(&mut state) {
            return Err((request, done));
        }
        state.last_id += 1;
        let id = state.last_id;
        let parts = IoVecs::new(&request.memory.parts());
        let entry = Entry { id, is_write, offset, parts };
        // Under the lock, so that its end is heard of when it is known.
        match self.0.ring.submit(&entry) {
            Ok(()) => {
                state.under_way.insert(id, UnderWay { entry, request, at_end, done });
                Ok(())
            }
            Err(_) => Err((request, done)),
        }
    }

    fn has_thread(&self, state: &mut State) -> bool {
        if !state.has_thread {
            let shared = self.0.clone();
            let thread = std::thread::Builder::new().name("aio".to_owned());
            state.has_thread = thread.spawn(move || shared.serve()).is_ok();
        }
        state.has_thread
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.ring.wake();
    }
}

impl Shared {
    /// The thread: ends when nobody asks for anything any more, and all that was asked for is done.
    fn serve(&self) {
        let mut completed = Vec::new();
        loop {
            self.ring.wait(&mut completed);
            for (id, moved) in completed.drain(..) {
                let found = self.state.lock().under_way.remove(&id);
                if let Some(UnderWay { entry, request, at_end, done }) = found {
                    let result = self.complete(entry.offset, &request, moved);
                    at_end(&result);
                    done(request, result);
                }
            }
            let state = self.state.lock();
            if state.closed && state.under_way.is_empty() {
                break;
            }
        }
    }

    /// Carries out here what the kernel has left: at the end of the file, or when it was disturbed.
    fn complete(&self, offset: u64, request: &Request, moved: io::Result<u32>) -> io::Result<()> {
        let moved = match moved {
            Ok(moved) => u64::from(moved),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => 0,
            Err(error) => return Err(error),
        };
        if moved == request.bytes {
            return Ok(());
        }
        let parts = request.memory.parts();
        let rest: IoVec<'_, '_> = &iov_slice(&parts, moved, iov_size(&parts) - moved);
        let offset = offset + moved;
        if request.op == Op::Write {
            return sys::pwritev(self.file.as_fd(), offset, rest);
        }
        let metadata = self.file.metadata()?;
        if metadata.is_file() && offset >= metadata.len() {
            iov_zero(rest);
            return Ok(());
        }
        sys::preadv(self.file.as_fd(), offset, rest)
    }
}
