//! Timers (util/qemu-timer.c): one list a clock, run by the main event loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{self, ClockType};
use crate::event_loop::EventLoop;

/// "Not armed" in [`Inner::expire`] and "no timer" in [`TimerList::earliest`].
const NEVER: u64 = u64::MAX;

/// The callbacks run in one pass over a list at most: a timer that keeps arming itself in the past must
/// not keep the loop from its file descriptors.
const PASS_LIMIT: u32 = 64;

struct Inner {
    id: u64,
    clock: ClockType,
    /// Deadline, or [`NEVER`]. Written under the list's lock only.
    expire: AtomicU64,
    callback: Box<dyn Fn() + Send + Sync>,
}

/// A one-shot timer. Its callback runs on the main loop's thread with no lock held, and may arm it again.
/// Dropping the timer disarms it; a callback that has begun on the loop's thread still ends.
pub struct Timer(Arc<Inner>);

/// The armed timers of a clock, by deadline, equal deadlines in the order of their timers' creation.
struct TimerList {
    timers: Mutex<BTreeMap<(u64, u64), Arc<Inner>>>,
    /// The first deadline, for readers without the lock.
    earliest: AtomicU64,
}

impl TimerList {
    const fn new() -> Self {
        TimerList { timers: Mutex::new(BTreeMap::new()), earliest: AtomicU64::new(NEVER) }
    }

    /// Arms the timer for what `choose` makes of its present deadline ([`NEVER`]: disarm). Returns whether
    /// the list's first deadline moved earlier.
    fn change(&self, timer: &Arc<Inner>, choose: impl FnOnce(u64) -> u64) -> bool {
        let mut timers = self.timers.lock();
        let old = timer.expire.load(Ordering::Relaxed);
        let new = choose(old);
        if old == new {
            return false;
        }
        if old != NEVER {
            timers.remove(&(old, timer.id));
        }
        if new != NEVER {
            timers.insert((new, timer.id), timer.clone());
        }
        timer.expire.store(new, Ordering::Release);
        let before = self.earliest.load(Ordering::Relaxed);
        self.note_earliest(&timers) < before
    }

    fn note_earliest(&self, timers: &BTreeMap<(u64, u64), Arc<Inner>>) -> u64 {
        let earliest = timers.first_key_value().map_or(NEVER, |(key, _)| key.0);
        self.earliest.store(earliest, Ordering::Release);
        earliest
    }

    /// Takes the first timer off the list if it is due at `now`.
    fn take_due(&self, now: u64) -> Option<Arc<Inner>> {
        if self.earliest.load(Ordering::Acquire) > now {
            return None;
        }
        let mut timers = self.timers.lock();
        let entry = timers.first_entry().filter(|entry| entry.key().0 <= now)?;
        let timer = entry.remove();
        timer.expire.store(NEVER, Ordering::Release);
        self.note_earliest(&timers);
        Some(timer)
    }
}

static LISTS: [TimerList; 3] = [TimerList::new(), TimerList::new(), TimerList::new()];

fn list(clock: ClockType) -> &'static TimerList {
    &LISTS[clock as usize]
}

impl Timer {
    /// A timer on `clock`, not armed. `callback` should hold its device weakly, as the device holds the timer.
    pub fn new(clock: ClockType, callback: impl Fn() + Send + Sync + 'static) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Timer(Arc::new(Inner { id, clock, expire: AtomicU64::new(NEVER), callback: Box::new(callback) }))
    }

    /// Arms the timer for `expire` nanoseconds of its clock, in place of what it was armed for
    /// (timer_mod_ns). A deadline in the past fires at the loop's next turn.
    pub fn mod_ns(&self, expire: u64) {
        self.change(|_| expire.min(NEVER - 1));
    }

    /// Arms the timer unless it is armed for an earlier time already (timer_mod_anticipate_ns).
    pub fn mod_anticipate(&self, expire: u64) {
        self.change(|old| old.min(expire.min(NEVER - 1)));
    }

    /// Disarms the timer (timer_del).
    pub fn del(&self) {
        self.change(|_| NEVER);
    }

    fn change(&self, choose: impl FnOnce(u64) -> u64) {
        if list(self.0.clock).change(&self.0, choose) {
            EventLoop::main().notify();
        }
    }

    /// Whether the timer is armed (timer_pending).
    #[must_use]
    pub fn pending(&self) -> bool {
        self.expire_ns().is_some()
    }

    /// The armed deadline in nanoseconds of the timer's clock (timer_expire_time_ns).
    #[must_use]
    pub fn expire_ns(&self) -> Option<u64> {
        Some(self.0.expire.load(Ordering::Acquire)).filter(|&expire| expire != NEVER)
    }

    /// The clock the timer runs on.
    #[must_use]
    pub fn clock(&self) -> ClockType {
        self.0.clock
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.del();
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("clock", &self.0.clock).field("expire_ns", &self.expire_ns()).finish()
    }
}

/// The earliest deadline on `clock`, whether the clock runs or not.
#[must_use]
pub fn next_deadline_ns(clock: ClockType) -> Option<u64> {
    Some(list(clock).earliest.load(Ordering::Acquire)).filter(|&deadline| deadline != NEVER)
}

/// Runs the timers of `clock` that are due (qemu_clock_run_timers). Returns whether any ran.
pub(crate) fn run_timers(clock: ClockType) -> bool {
    if next_deadline_ns(clock).is_none() || (clock == ClockType::Virtual && !clock::ticks_enabled()) {
        return false;
    }
    let now = clock::now_ns(clock);
    let mut ran = false;
    for _ in 0..PASS_LIMIT {
        let Some(timer) = list(clock).take_due(now) else { break };
        (timer.callback)();
        ran = true;
    }
    ran
}

/// Runs what is due on any clock.
pub(crate) fn run_all_timers() -> bool {
    ClockType::ALL.into_iter().fold(false, |ran, clock| run_timers(clock) | ran)
}

/// How long the main loop may sleep before a timer is due; `None`: until woken.
pub(crate) fn time_to_next() -> Option<Duration> {
    ClockType::ALL.into_iter().filter_map(time_to_next_on).min()
}

fn time_to_next_on(clock: ClockType) -> Option<Duration> {
    let deadline = next_deadline_ns(clock)?;
    if clock == ClockType::Virtual && !clock::ticks_enabled() {
        return None;
    }
    let wait = deadline.saturating_sub(clock::now_ns(clock));
    // A manual clock does not come to a deadline by waiting.
    let stands = clock == ClockType::Virtual && clock::is_manual();
    (wait == 0 || !stands).then(|| Duration::from_nanos(wait))
}

/// A clock was started or set: the loop's idea of how long to sleep is out of date.
pub(crate) fn clock_changed() {
    EventLoop::main().notify();
}
