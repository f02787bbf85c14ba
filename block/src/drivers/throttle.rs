//! `throttle`: a filter whose requests a group limits (block/throttle.c).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use qom::{Result, bail};

use super::filter::Filter;
use crate::driver::Child;
use crate::node::{self, Inherited};
use crate::options::{BlkdebugIOType, BlockdevOptionsThrottle};
use crate::throttle_group::{self, ThrottleGroup};

/// How long a thread waits before it looks itself whether it may go on: it may be the one that runs the timers.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The filter.
pub struct Throttle {
    group: Arc<ThrottleGroup>,
    file: Child,
}

impl Throttle {
    pub(crate) fn open(options: &BlockdevOptionsThrottle, mode: Inherited) -> Result<Self> {
        let name = &options.throttle_group;
        let Some(group) = throttle_group::find(name) else { bail!("Throttle group '{name}' does not exist") };
        let file = Child::new("file", node::open_ref(&options.file, mode)?);
        Ok(Throttle { group, file })
    }

    /// Whether nothing below can be written.
    pub(crate) fn is_read_only(&self) -> bool {
        self.file.node.is_read_only()
    }

    /// Tells its requests from others' in the group.
    fn owner(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Waits for its turn.
    fn wait(&self, is_write: bool, bytes: u64) {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let opener = gate.clone();
        self.group.pass(self.owner(), is_write, (bytes, 1), move || {
            *opener.0.lock() = true;
            opener.1.notify_one();
        });
        let mut open = gate.0.lock();
        while !*open {
            if gate.1.wait_for(&mut open, LOOK_AGAIN).timed_out() {
                parking_lot::MutexGuard::unlocked(&mut open, || self.group.let_go(is_write));
            }
        }
    }
}

impl Filter for Throttle {
    const FORMAT: &'static str = "throttle";

    fn below(&self) -> &Child {
        &self.file
    }

    fn before(&self, what: BlkdebugIOType, _: u64, bytes: u64) -> io::Result<()> {
        // A flush is no traffic.
        if what != BlkdebugIOType::Flush {
            self.wait(what != BlkdebugIOType::Read, bytes);
        }
        Ok(())
    }

    fn let_go(&self) -> bool {
        self.group.release(self.owner());
        self.file.node.driver().release();
        true
    }
}
