//! Many may be at work together, or one alone: as a lock for readers and writers, but whoever is in may leave on another
//! thread.

use parking_lot::{Condvar, Mutex};

/// The gate; nobody is in at first.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Default)]
struct State {
    together: u32,
    alone: bool,
}

impl Gate {
    /// Lets one more in if nobody is alone there, who must [`Gate::leave`].
    pub fn try_enter(&self) -> bool {
        let mut state = self.state.lock();
        state.together += u32::from(!state.alone);
        !state.alone
    }

    /// One of those is through.
    pub fn leave(&self) {
        self.state.lock().together -= 1;
        self.left.notify_all();
    }

    /// Runs `work` together with others.
    pub fn together<R>(&self, work: impl FnOnce() -> R) -> R {
        while !self.try_enter() {
            self.left.wait_while(&mut self.state.lock(), |state| state.alone);
        }
        let result = work();
        self.leave();
        result
    }

    /// Runs `work` when nobody else is in, and lets nobody in until it is done.
    pub fn alone<R>(&self, work: impl FnOnce() -> R) -> R {
        let mut state = self.state.lock();
        self.left.wait_while(&mut state, |state| state.alone);
        state.alone = true;
        self.left.wait_while(&mut state, |state| state.together > 0);
        drop(state);
        let result = work();
        self.state.lock().alone = false;
        self.left.notify_all();
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn nobody_is_in_with_the_one_who_is_alone() {
        let (gate, inside) = (Gate::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        gate.together(|| {
                            inside.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
                scope.spawn(|| {
                    for _ in 0..2000 {
                        gate.alone(|| assert_eq!(inside.fetch_add(100, Ordering::SeqCst), 0));
                        inside.fetch_sub(100, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn one_may_leave_on_another_thread() {
        let gate = Gate::default();
        assert!(gate.try_enter() && gate.try_enter());
        thread::scope(|scope| {
            scope.spawn(|| gate.leave());
            scope.spawn(|| gate.leave());
        });
        gate.alone(|| assert!(!gate.try_enter()));
    }
}
