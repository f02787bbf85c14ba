//! Drives that share limits (block/throttle-groups.c): requests that have to wait, in order, and the timers that let
//! them go.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use util::clock::{self, ClockType, now_ns};
use util::timer::Timer;

use crate::throttle::{Buckets, Config};

/// A request that waits.
struct Waiting {
    /// Whose it is.
    owner: usize,
    bytes: u64,
    requests: u64,
    go: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct State {
    buckets: Buckets,
    /// Reads, and writes.
    queues: [VecDeque<Waiting>; 2],
}

/// A group.
pub struct ThrottleGroup {
    name: String,
    state: Mutex<State>,
    /// Made when the first request has to wait: before, it is not known which clock is theirs.
    timers: OnceLock<[Timer; 2]>,
    this: Weak<ThrottleGroup>,
}

/// A test's clock stands until it is moved. Groups are made before it is known that a test drives the program.
fn clock() -> ClockType {
    if clock::is_manual() { ClockType::Virtual } else { ClockType::Realtime }
}

/// Groups live as long as a drive is in them.
static GROUPS: Mutex<Vec<Weak<ThrottleGroup>>> = Mutex::new(Vec::new());

/// The group of this name, if there is one.
pub fn find(name: &str) -> Option<Arc<ThrottleGroup>> {
    GROUPS.lock().iter().filter_map(Weak::upgrade).find(|group| group.name == name)
}

/// The group of this name, which is made if there is none (`throttle_group_incref`).
pub fn group(name: &str) -> Arc<ThrottleGroup> {
    let mut groups = GROUPS.lock();
    groups.retain(|group| group.strong_count() > 0);
    // Not by `find`, which wants the lock.
    if let Some(found) = groups.iter().filter_map(Weak::upgrade).find(|group| group.name == name) {
        return found;
    }
    let made = ThrottleGroup::new(name);
    groups.push(Arc::downgrade(&made));
    made
}

impl ThrottleGroup {
    /// A group that is not found by its name.
    pub fn new(name: &str) -> Arc<ThrottleGroup> {
        Arc::new_cyclic(|this: &Weak<ThrottleGroup>| ThrottleGroup {
            name: name.to_owned(),
            state: Mutex::default(),
            timers: OnceLock::new(),
            this: this.clone(),
        })
    }

    /// The timer that lets reads go, or writes.
    fn timer(&self, is_write: bool) -> Timer {
        let this = self.this.clone();
        Timer::new(clock(), move || {
            if let Some(group) = this.upgrade() {
                group.let_go(is_write);
            }
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is allowed.
    pub fn config(&self) -> Config {
        self.state.lock().buckets.config
    }

    /// Allows something else; what waits goes on by that.
    pub fn set_config(&self, config: Config) {
        self.state.lock().buckets = Buckets::new(config);
        self.let_go(false);
        self.let_go(true);
    }

    /// Calls `go` when a read or write of `owner`'s may be carried out: at once, or on the main loop's thread.
    pub fn pass(
        &self,
        owner: usize,
        is_write: bool,
        (bytes, requests): (u64, u64),
        go: impl FnOnce() + Send + 'static,
    ) {
        let mut state = self.state.lock();
        let now = now_ns(clock());
        let State { buckets, queues } = &mut *state;
        let Some(queue) = queues.get_mut(usize::from(is_write)) else { return go() };
        let wait = buckets.wait(is_write, now);
        if queue.is_empty() && wait == 0 {
            buckets.account(is_write, bytes, requests);
            drop(state);
            return go();
        }
        queue.push_back(Waiting { owner, bytes, requests, go: Box::new(go) });
        drop(state);
        self.arm(is_write, now.saturating_add(wait));
    }

    fn arm(&self, is_write: bool, at: u64) {
        let timers = self.timers.get_or_init(|| [false, true].map(|is_write| self.timer(is_write)));
        if let Some(timer) = timers.get(usize::from(is_write)) {
            timer.mod_anticipate(at);
        }
    }

    /// Lets go what need not wait any more.
    pub fn let_go(&self, is_write: bool) {
        loop {
            let mut state = self.state.lock();
            let now = now_ns(clock());
            let State { buckets, queues } = &mut *state;
            let Some(queue) = queues.get_mut(usize::from(is_write)) else { return };
            if queue.is_empty() {
                return;
            }
            let wait = buckets.wait(is_write, now);
            if wait > 0 {
                drop(state);
                return self.arm(is_write, now.saturating_add(wait));
            }
            let Some(first) = queue.pop_front() else { return };
            buckets.account(is_write, first.bytes, first.requests);
            drop(state);
            (first.go)();
        }
    }

    /// Lets all of `owner`'s requests go, whatever is allowed: somebody waits for their end.
    pub fn release(&self, owner: usize) {
        let mut released = Vec::new();
        let mut state = self.state.lock();
        for queue in &mut state.queues {
            let (his, others) = queue.drain(..).partition(|waiting| waiting.owner == owner);
            *queue = others;
            released.push(his);
        }
        drop(state);
        released.into_iter().flatten().for_each(|waiting: Waiting| (waiting.go)());
    }
}
