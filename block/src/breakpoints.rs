//! Breakpoints of requests, for tests: where a driver says what it does, `blkdebug` can hold it (block/blkdebug.c).

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::driver::DebugEvent;
use crate::node::BlockNode;

/// How long to wait for a request that is on its way to a breakpoint.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

#[derive(Default)]
struct State {
    /// Events that the next request is held at, with tags.
    rules: Vec<(DebugEvent, String)>,
    /// Requests that are held: which, and the tag.
    held: Vec<(u64, String)>,
    last: u64,
}

/// The breakpoints of a node.
#[derive(Default)]
pub struct Breakpoints {
    state: Mutex<State>,
    changed: Condvar,
}

impl Breakpoints {
    /// Has the next request that comes to `event` be held.
    pub fn set(&self, event: DebugEvent, tag: &str) {
        self.state.lock().rules.push((event, tag.to_owned()));
    }

    /// A request comes to `event`; returns when it may go on.
    pub(crate) fn hit(&self, event: DebugEvent) {
        let mut state = self.state.lock();
        let Some(at) = state.rules.iter().position(|(wanted, _)| *wanted == event) else { return };
        let (_, tag) = state.rules.remove(at);
        state.last += 1;
        let id = state.last;
        state.held.push((id, tag));
        self.changed.notify_all();
        while state.held.iter().any(|(held, _)| *held == id) {
            self.changed.wait(&mut state);
        }
    }

    /// Waits until a request is held, as long as one may be on its way; whether one is.
    pub fn wait(&self, tag: &str) -> bool {
        let mut state = self.state.lock();
        let is_held = |state: &State| state.held.iter().any(|(_, held)| held == tag);
        while !is_held(&state) && state.rules.iter().any(|(_, waiting)| waiting == tag) {
            if self.changed.wait_for(&mut state, ON_ITS_WAY).timed_out() {
                break;
            }
        }
        is_held(&state)
    }

    /// Lets a request go on; whether one was held.
    pub fn resume(&self, tag: &str) -> bool {
        self.wait(tag);
        let mut state = self.state.lock();
        let Some(at) = state.held.iter().position(|(_, held)| held == tag) else { return false };
        state.held.remove(at);
        self.changed.notify_all();
        true
    }

    /// Takes breakpoints away, and lets go on what they hold; whether there were any.
    pub fn remove(&self, tag: &str) -> bool {
        self.retain(|name| name != tag)
    }

    /// All of them; whether there were any.
    pub(crate) fn clear(&self) -> bool {
        self.retain(|_| false)
    }

    fn retain(&self, stays: impl Fn(&str) -> bool) -> bool {
        let mut state = self.state.lock();
        let before = state.rules.len() + state.held.len();
        state.rules.retain(|(_, tag)| stays(tag));
        state.held.retain(|(_, tag)| stays(tag));
        self.changed.notify_all();
        state.rules.len() + state.held.len() < before
    }
}

/// Calls `f` with the breakpoints of the first node from `node` down that has such; `None`: none has.
pub fn with_breakpoints<R>(node: &BlockNode, f: impl FnOnce(&Breakpoints) -> R) -> Option<R> {
    match node.driver().breakpoints() {
        Some(breakpoints) => Some(f(breakpoints)),
        None => with_breakpoints(&node.driver().children().first()?.node, f),
    }
}
