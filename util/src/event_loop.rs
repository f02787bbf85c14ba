//! The event loop (util/main-loop.c, util/async.c): file descriptors, bottom halves and timers on one thread.
//!
//! Handlers run with no lock held: they may add and remove watches and timers, and schedule. An idle loop
//! sleeps in `epoll_pwait2` until something happens; where that was soon after ([`PollLimits`]), it looks for a
//! moment before it sleeps. Creating a loop makes no system call: the epoll instance comes with the first watch
//! or wait.

mod polling;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bitflags::bitflags;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use self::polling::Polling;
use crate::timer;

pub use self::polling::PollLimits;

bitflags! {
    /// What a watch waits for. With none, a watch stays registered but is not called.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Interest: u8 {
        /// Data, or a connection, or the end of the input, can be read.
        const READ = 1;
        /// Writing would not block.
        const WRITE = 2;
        /// The other end went away: for one who wants to know no more at present.
        const HANGUP = 4;
    }

    /// What a watch's handler is called for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ready: u8 {
        /// Reading would not block.
        const READ = 1;
        /// Writing would not block.
        const WRITE = 2;
        /// The other end is gone; input may be left to read.
        const HANGUP = 4;
        /// An error is pending on the descriptor.
        const ERROR = 8;
    }
}

/// What a watch calls.
pub type FdHandler = Arc<dyn Fn(Ready) + Send + Sync>;
type BottomHalfFn = Box<dyn FnOnce() + Send>;

/// The loop's own wake-up descriptor among the epoll events; watches count from 1.
const WAKE_TOKEN: u64 = 0;
/// Events fetched by one wait.
const EVENTS_PER_WAIT: usize = 32;
const NO_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

/// A handle to an event loop; clones are handles to the same loop.
#[derive(Clone)]
pub struct EventLoop(Arc<Shared>);

struct Shared {
    poll: OnceLock<Poll>,
    watches: Mutex<Watches>,
    bottom_halves: Mutex<Vec<BottomHalfFn>>,
    polling: Mutex<Polling>,
    /// A wake-up was asked for that the loop has not seen yet.
    notified: AtomicBool,
    /// The loop's thread sleeps or is about to: it needs the eventfd to wake.
    waiting: AtomicBool,
    /// The main loop runs the timers.
    has_timers: bool,
}

struct Poll {
    epoll: OwnedFd,
    wake: OwnedFd,
}

#[derive(Default)]
struct Watches {
    last_token: u64,
    by_token: HashMap<u64, Arc<Watch>>,
    /// Those whose file epoll does not take.
    always_ready: Vec<Arc<Watch>>,
}

struct Watch {
    token: u64,
    fd: Box<dyn AsFd + Send + Sync>,
    handler: FdHandler,
    state: Mutex<WatchState>,
}

#[derive(Clone, Copy)]
struct WatchState {
    interest: Interest,
    /// Registered with epoll at present.
    polled: bool,
    /// A regular file, or /dev/null: reads and writes never wait, and epoll refuses it.
    always_ready: bool,
}

impl EventLoop {
    /// A new loop without timers, for an I/O thread.
    #[must_use]
    pub fn new() -> Self {
        Self::with_timers(false)
    }

    /// The process's main loop, which runs the timers.
    pub fn main() -> &'static EventLoop {
        static MAIN: OnceLock<EventLoop> = OnceLock::new();
        MAIN.get_or_init(|| Self::with_timers(true))
    }

    /// Whether this is the main loop.
    #[must_use]
    pub fn is_main(&self) -> bool {
        self.0.has_timers
    }

    fn with_timers(has_timers: bool) -> Self {
        EventLoop(Arc::new(Shared {
            poll: OnceLock::new(),
            watches: Mutex::default(),
            bottom_halves: Mutex::default(),
            polling: Mutex::default(),
            notified: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            has_timers,
        }))
    }

    /// Watches `fd` (its own value, an `Arc`, or a `BorrowedFd<'static>`): the watch keeps it open, so its
    /// number cannot come to mean another file. `handler` runs on the loop's thread, again and again as
    /// long as the condition holds. [`Ready::HANGUP`] and [`Ready::ERROR`] come with any interest but none.
    ///
    /// # Errors
    /// `EEXIST` if this descriptor is watched on this loop already, or what epoll says.
    pub fn add_fd<F>(&self, fd: F, interest: Interest, handler: FdHandler) -> io::Result<FdWatch>
    where
        F: AsFd + Send + Sync + 'static,
    {
        let mut watches = self.0.watches.lock();
        watches.last_token += 1;
        let watch = Arc::new(Watch {
            token: watches.last_token,
            fd: Box::new(fd),
            handler,
            state: Mutex::new(WatchState { interest: Interest::empty(), polled: false, always_ready: false }),
        });
        self.0.set_interest(&watch, interest)?;
        if watch.state.lock().always_ready {
            watches.always_ready.push(watch.clone());
        }
        watches.by_token.insert(watch.token, watch.clone());
        drop(watches);
        self.notify();
        Ok(FdWatch { shared: self.0.clone(), watch })
    }

    /// Runs `work` on the loop's thread at its next turn (aio_bh_schedule_oneshot); callable from any thread.
    /// What a guest can trigger again and again should use a [`BottomHalf`], which queues once only.
    pub fn schedule(&self, work: impl FnOnce() + Send + 'static) {
        self.0.bottom_halves.lock().push(Box::new(work));
        self.notify();
    }

    /// Bounds how long the loop looks for events before it sleeps (aio_context_set_poll_params); at first it does
    /// not look. On a host with one CPU it never does.
    pub fn set_poll_limits(&self, limits: PollLimits) {
        self.0.polling.lock().limits = limits;
    }

    /// Makes the loop go round once more; callable from any thread (qemu_notify_event).
    pub fn notify(&self) {
        self.0.notify();
    }

    /// One turn: waits until something happens, `timeout` at most (`None`: as long as it takes), then runs
    /// what is ready. Only one thread may run a loop; handlers may run a turn of it themselves.
    ///
    /// # Errors
    /// When the epoll instance cannot be made.
    pub fn run_once(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.run_once(timeout)
    }

    /// Runs until `done` says so; it is asked before every turn. Whatever makes it true must happen on the
    /// loop's thread or be followed by [`EventLoop::notify`].
    ///
    /// # Errors
    /// As [`EventLoop::run_once`].
    pub fn run_until(&self, mut done: impl FnMut() -> bool) -> io::Result<()> {
        while !done() {
            self.run_once(None)?;
        }
        Ok(())
    }
}

impl Default for EventLoop {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("has_timers", &self.0.has_timers).finish_non_exhaustive()
    }
}

impl Shared {
    fn poll(&self) -> io::Result<&Poll> {
        if let Some(poll) = self.poll.get() {
            return Ok(poll);
        }
        let poll = Poll {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        };
        let data = epoll::EventData::new_u64(WAKE_TOKEN);
        epoll::add(&poll.epoll, &poll.wake, data, epoll::EventFlags::IN)?;
        Ok(self.poll.get_or_init(|| poll))
    }

    fn notify(&self) {
        self.notified.store(true, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst)
            && let Some(poll) = self.poll.get()
        {
            // Only a full counter refuses, and then the loop wakes anyway.
            let _ = rustix::io::write(&poll.wake, &1u64.to_ne_bytes());
        }
    }

    fn run_once(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = [NO_EVENT; EVENTS_PER_WAIT];
        let poll = self.poll()?;
        self.waiting.store(true, Ordering::SeqCst);
        let ready = self.wait(poll, &mut events, timeout);
        self.waiting.store(false, Ordering::SeqCst);
        match ready {
            Ok(ready) => self.dispatch(poll, events.get(..ready).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.dispatch_always_ready();
        // What was said until here ends this turn, and needs no other.
        self.notified.store(false, Ordering::SeqCst);
        // One scheduled by one of these runs at the next turn.
        let bottom_halves = std::mem::take(&mut *self.bottom_halves.lock());
        for bottom_half in bottom_halves {
            bottom_half();
        }
        if self.has_timers {
            timer::run_all_timers();
        }
        Ok(())
    }

    /// Waits for events, looking for them first when polling is on. How many there are.
    fn wait(
        &self,
        poll: &Poll,
        events: &mut [epoll::Event],
        timeout: Option<Duration>,
    ) -> rustix::io::Result<usize> {
        let time = self.time_to_wait(timeout);
        let Some(window) = self.polling.lock().window() else {
            return sleep(poll, events, time);
        };
        let start = Instant::now();
        let look = time.map_or(window, |time| time.min(window));
        let mut ready = 0;
        while ready == 0 && start.elapsed() < look && !self.has_work() {
            ready = sleep(poll, events, Some(Duration::ZERO))?;
            // Whoever makes the events may need this CPU.
            rustix::thread::sched_yield();
        }
        if ready == 0 {
            let timeout = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            ready = sleep(poll, events, self.time_to_wait(timeout))?;
        }
        self.polling.lock().adjust(start.elapsed());
        Ok(ready)
    }

    /// Whether there is something to do already.
    fn has_work(&self) -> bool {
        self.notified.load(Ordering::SeqCst)
            || !self.bottom_halves.lock().is_empty()
            || self.always_ready().next().is_some()
    }

    /// The time to wait: none when there is work already, else until the next timer.
    fn time_to_wait(&self, timeout: Option<Duration>) -> Option<Duration> {
        let timer = if self.has_timers { timer::time_to_next() } else { None };
        if self.has_work() { Some(Duration::ZERO) } else { timeout.into_iter().chain(timer).min() }
    }

    fn dispatch(&self, poll: &Poll, events: &[epoll::Event]) {
        for event in events {
            let (token, flags) = (event.data.u64(), event.flags);
            if token == WAKE_TOKEN {
                // Empties the counter; nothing to read is as good.
                let _ = rustix::io::read(&poll.wake, &mut [0u8; 8]);
                continue;
            }
            // An earlier handler of this turn may have removed or changed it.
            let Some(watch) = self.watches.lock().by_token.get(&token).cloned() else { continue };
            watch.call(ready_flags(flags));
        }
    }

    fn always_ready(&self) -> impl Iterator<Item = Arc<Watch>> + use<> {
        let watches = self.watches.lock().always_ready.clone();
        watches.into_iter().filter(|watch| !watch.state.lock().interest.is_empty())
    }

    fn dispatch_always_ready(&self) {
        for watch in self.always_ready() {
            if self.watches.lock().by_token.contains_key(&watch.token) {
                watch.call(Ready::READ | Ready::WRITE);
            }
        }
    }

    /// Registers, changes or takes back what epoll watches.
    fn set_interest(&self, watch: &Watch, interest: Interest) -> io::Result<()> {
        let mut state = watch.state.lock();
        if !state.always_ready && state.interest != interest {
            let poll = self.poll()?;
            let data = epoll::EventData::new_u64(watch.token);
            let flags = epoll_flags(interest);
            let fd = watch.fd.as_fd();
            let done = match (state.polled, interest.is_empty()) {
                (false, false) => epoll::add(&poll.epoll, fd, data, flags),
                (true, false) => epoll::modify(&poll.epoll, fd, data, flags),
                // Hang-ups are reported for any registered descriptor, and would spin.
                (true, true) => epoll::delete(&poll.epoll, fd),
                (false, true) => Ok(()),
            };
            match done {
                Ok(()) => state.polled = !interest.is_empty(),
                Err(Errno::PERM) => state.always_ready = true,
                Err(error) => return Err(error.into()),
            }
        }
        state.interest = interest;
        Ok(())
    }
}

/// Sleeps until there are events. How many there are.
fn sleep(poll: &Poll, events: &mut [epoll::Event], time: Option<Duration>) -> rustix::io::Result<usize> {
    // A time too long for a timespec is forever.
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    epoll::wait(&poll.epoll, events, time.as_ref())
}

fn epoll_flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN | epoll::EventFlags::RDHUP, interest.contains(Interest::READ));
    flags.set(epoll::EventFlags::OUT, interest.contains(Interest::WRITE));
    flags
}

fn ready_flags(flags: epoll::EventFlags) -> Ready {
    let mut ready = Ready::empty();
    ready.set(Ready::READ, flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP));
    ready.set(Ready::WRITE, flags.contains(epoll::EventFlags::OUT));
    ready.set(Ready::HANGUP, flags.contains(epoll::EventFlags::HUP));
    ready.set(Ready::ERROR, flags.contains(epoll::EventFlags::ERR));
    ready
}

impl Watch {
    fn call(&self, ready: Ready) {
        let interest = self.state.lock().interest;
        if interest.is_empty() {
            return;
        }
        let wanted = Ready::from_bits_truncate(interest.bits()) | Ready::HANGUP | Ready::ERROR;
        let ready = ready & wanted;
        if !ready.is_empty() {
            (self.handler)(ready);
        }
    }
}

/// A watched file descriptor. Dropping it ends the watch and lets go of the descriptor; a handler that has
/// begun on the loop's thread still ends.
pub struct FdWatch {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
}

impl FdWatch {
    /// Changes what is waited for.
    ///
    /// # Errors
    /// What epoll says.
    pub fn set_interest(&self, interest: Interest) -> io::Result<()> {
        self.shared.set_interest(&self.watch, interest)?;
        if self.watch.state.lock().always_ready {
            let mut watches = self.shared.watches.lock();
            if !watches.always_ready.iter().any(|other| other.token == self.watch.token) {
                watches.always_ready.push(self.watch.clone());
            }
            drop(watches);
            self.shared.notify();
        }
        Ok(())
    }

    /// What is waited for.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.watch.state.lock().interest
    }
}

impl Drop for FdWatch {
    fn drop(&mut self) {
        let mut watches = self.shared.watches.lock();
        watches.by_token.remove(&self.watch.token);
        watches.always_ready.retain(|other| other.token != self.watch.token);
        drop(watches);
        // Taking an open descriptor back cannot fail.
        let _ = self.shared.set_interest(&self.watch, Interest::empty());
    }
}

impl fmt::Debug for FdWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FdWatch").field("interest", &self.interest()).finish_non_exhaustive()
    }
}

/// Work for the loop's thread that is queued at most once until it runs (QEMUBH).
#[derive(Clone)]
pub struct BottomHalf(Arc<BottomHalfShared>);

struct BottomHalfShared {
    event_loop: EventLoop,
    queued: AtomicBool,
    callback: Box<dyn Fn() + Send + Sync>,
}

impl BottomHalf {
    /// A bottom half on `event_loop`, not scheduled.
    pub fn new(event_loop: &EventLoop, callback: impl Fn() + Send + Sync + 'static) -> Self {
        BottomHalf(Arc::new(BottomHalfShared {
            event_loop: event_loop.clone(),
            queued: AtomicBool::new(false),
            callback: Box::new(callback),
        }))
    }

    /// Queues it, unless it is queued (qemu_bh_schedule). Callable from any thread, the callback included.
    pub fn schedule(&self) {
        if self.0.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = self.0.clone();
        self.0.event_loop.schedule(move || {
            if shared.queued.swap(false, Ordering::AcqRel) {
                (shared.callback)();
            }
        });
    }

    /// Takes it back, if it has not begun (qemu_bh_cancel).
    pub fn cancel(&self) {
        self.0.queued.store(false, Ordering::Release);
    }
}
