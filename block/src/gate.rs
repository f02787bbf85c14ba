//! Many may be at work together, or one alone: as a lock for readers and writers, but whoever is in may leave on another
//! thread.

use std::sync::Arc;

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

/// One who is in together with others, until this is dropped.
pub struct Entered(Arc<Gate>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.state.lock().together -= 1;
        self.0.left.notify_all();
    }
}

impl Gate {
    /// Lets one more in, if nobody is alone there.
    pub fn try_enter(self: &Arc<Self>) -> Option<Entered> {
        let mut state = self.state.lock();
        if state.alone {
            return None;
        }
        state.together += 1;
        Some(Entered(self.clone()))
    }

    /// Runs `work` together with others. Who is in already must not wait for that.
    pub fn together<R>(self: &Arc<Self>, work: impl FnOnce() -> R) -> R {
        let _entered = loop {
            match self.try_enter() {
                Some(entered) => break entered,
                None => self.left.wait_while(&mut self.state.lock(), |state| state.alone),
            }
        };
        work()
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
        let (gate, inside) = (Arc::new(Gate::default()), AtomicU32::new(0));
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
                        gate.alone(|| {
                            assert_eq!(inside.fetch_add(100, Ordering::SeqCst), 0);
                            inside.fetch_sub(100, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
    }

    #[test]
    fn one_may_leave_on_another_thread() {
        let gate = Arc::new(Gate::default());
        let (one, other) = (gate.try_enter().unwrap(), gate.try_enter().unwrap());
        thread::scope(|scope| {
            scope.spawn(|| drop(one));
            scope.spawn(|| drop(other));
        });
        gate.alone(|| assert!(gate.try_enter().is_none()));
    }
}
