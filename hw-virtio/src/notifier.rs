//! How a driver's notification of a queue becomes a call of its handler.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memory::EventNotifier;
use parking_lot::{Mutex, ReentrantMutex};
use util::event_loop::{EventLoop, FdWatch, Interest};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// A queue's eventfd, which the accelerator signals when the driver notifies, and the watch on it.
struct Watched {
    eventfd: Arc<EventFd>,
    watch: Option<FdWatch>,
}

/// The ways to a queue's handler. One of its calls runs at a time.
#[derive(Default)]
pub(crate) struct HostNotifier {
    watched: Mutex<Option<Watched>>,
    /// A call is on its way to the loop.
    scheduled: AtomicBool,
    /// Held while the handler runs.
    handling: ReentrantMutex<()>,
}

impl HostNotifier {
    /// Watches a new eventfd on `event_loop`, where `call` runs for each time it is signalled.
    pub fn start(
        &self,
        event_loop: &EventLoop,
        call: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Arc<EventFd>> {
        let eventfd = self.make()?;
        let to_read = eventfd.clone();
        let handler = Arc::new(move |_| {
            // Nothing to read means that an earlier call has done this one's work.
            if to_read.read().is_ok() {
                call();
            }
        });
        let watch = event_loop.add_fd(EventNotifier(eventfd.clone()), Interest::READ, handler)?;
        *self.watched.lock() = Some(Watched { eventfd: eventfd.clone(), watch: Some(watch) });
        Ok(eventfd)
    }

    /// Makes an eventfd that somebody else waits for, such as the kernel.
    pub fn make(&self) -> io::Result<Arc<EventFd>> {
        let eventfd = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        *self.watched.lock() = Some(Watched { eventfd: eventfd.clone(), watch: None });
        Ok(eventfd)
    }

    /// Ends the watch; gives the eventfd, if there was one.
    pub fn stop(&self) -> Option<Arc<EventFd>> {
        let watched = self.watched.lock().take();
        watched.map(|watched| watched.eventfd)
    }

    /// Does not look at the eventfd while the machine is stopped. What comes is not lost.
    pub fn pause(&self, paused: bool) {
        let interest = if paused { Interest::empty() } else { Interest::READ };
        if let Some(watch) = self.watched.lock().as_ref().and_then(|watched| watched.watch.as_ref()) {
            // epoll takes an eventfd whenever it took it before.
            let _ = watch.set_interest(interest);
        }
    }

    /// Signals the eventfd, as the accelerator does; `false` if there is none.
    pub fn signal(&self) -> bool {
        let watched = self.watched.lock();
        // Only a counter that is full refuses, which wakes whoever waits, too.
        watched.as_ref().map(|watched| watched.eventfd.write(1)).is_some()
    }

    /// Has `call` run on `event_loop`, unless it is about to anyway.
    pub fn schedule(self: &Arc<Self>, event_loop: &EventLoop, call: impl FnOnce() + Send + 'static) {
        if self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = self.clone();
        event_loop.schedule(move || {
            this.scheduled.store(false, Ordering::Release);
            call();
        });
    }

    /// Runs the handler, after another thread that runs it.
    pub fn run(&self, handler: impl FnOnce()) {
        let _handling = self.handling.lock();
        handler();
    }

    /// Returns when no other thread runs the handler.
    pub fn wait(&self) {
        drop(self.handling.lock());
    }
}
