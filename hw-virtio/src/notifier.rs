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
    /// Watches an eventfd on `event_loop`, where `call` runs for each time it is signalled. One that is lent stays so.
    pub fn start(
        &self,
        event_loop: &EventLoop,
        call: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Arc<EventFd>> {
        if let Some(watched) = self.watched.lock().as_ref() {
            return Ok(watched.eventfd.clone());
        }
        let eventfd = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let watch = Self::watch(&eventfd, event_loop, call)?;
        *self.watched.lock() = Some(Watched { eventfd: eventfd.clone(), watch: Some(watch) });
        Ok(eventfd)
    }

    fn watch(
        eventfd: &Arc<EventFd>,
        event_loop: &EventLoop,
        call: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<FdWatch> {
        let to_read = eventfd.clone();
        let handler = Arc::new(move |_| {
            // Nothing to read means that an earlier call has done this one's work.
            if to_read.read().is_ok() {
                call();
            }
        });
        event_loop.add_fd(EventNotifier(eventfd.clone()), Interest::READ, handler)
    }

    /// Gives the eventfd to somebody else who waits for it from now on, such as the kernel.
    pub fn lend(&self) -> io::Result<Arc<EventFd>> {
        let mut watched = self.watched.lock();
        let (eventfd, watch) = match watched.take() {
            Some(Watched { eventfd, watch }) => (eventfd, watch),
            None => (Arc::new(EventFd::new(EFD_NONBLOCK)?), None),
        };
        *watched = Some(Watched { eventfd: eventfd.clone(), watch: None });
        drop(watched);
        drop(watch);
        Ok(eventfd)
    }

    /// Watches an eventfd again that was lent, if there still is one.
    pub fn take_back(
        &self,
        event_loop: &EventLoop,
        call: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<()> {
        if let Some(watched) = self.watched.lock().as_mut() {
            watched.watch = Some(Self::watch(&watched.eventfd, event_loop, call)?);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_comes_while_it_is_lent_is_the_borrowers_and_later_ours_again() {
        let (event_loop, calls) = (EventLoop::new(), Arc::new(AtomicU32::new(0)));
        let counted = || {
            let calls = calls.clone();
            move || {
                calls.fetch_add(1, Ordering::Relaxed);
            }
        };
        let turn = || {
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
            calls.load(Ordering::Relaxed)
        };
        let notifier = HostNotifier::default();
        let eventfd = notifier.start(&event_loop, counted()).unwrap();
        assert!(notifier.signal());
        assert_eq!(turn(), 1);
        let lent = notifier.lend().unwrap();
        // The accelerator's stays the same.
        assert!(Arc::ptr_eq(&lent, &eventfd));
        assert!(Arc::ptr_eq(&notifier.start(&event_loop, counted()).unwrap(), &eventfd));
        assert!(notifier.signal());
        assert_eq!(turn(), 1);
        assert_eq!(lent.read().unwrap(), 1);
        // What the borrower has not come to is not lost.
        assert!(notifier.signal());
        notifier.take_back(&event_loop, counted()).unwrap();
        assert_eq!(turn(), 2);
    }

    #[test]
    fn one_that_is_stopped_while_it_is_lent_is_not_taken_back() {
        let notifier = HostNotifier::default();
        notifier.lend().unwrap();
        notifier.stop();
        notifier.take_back(&EventLoop::new(), || {}).unwrap();
        assert!(!notifier.signal());
    }
}
