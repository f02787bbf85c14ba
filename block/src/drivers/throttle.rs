//! `throttle`: a filter whose requests a group limits (block/throttle.c).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use qom::{Result, bail};

use crate::driver::{BlockDriver, Child, DebugEvent, IoVec, iov_size};
use crate::node::{self, Inherited};
use crate::options::BlockdevOptionsThrottle;
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

impl BlockDriver for Throttle {
    fn format_name(&self) -> &'static str {
        "throttle"
    }

    fn length(&self) -> io::Result<u64> {
        self.file.node.length()
    }

    fn preadv(&self, offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
        self.wait(false, iov_size(to));
        self.file.node.preadv(offset, to)
    }

    fn pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> io::Result<()> {
        self.wait(true, iov_size(from));
        self.file.node.pwritev(offset, from)
    }

    fn pwrite_zeroes(&self, offset: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
        self.wait(true, bytes);
        self.file.node.pwrite_zeroes(offset, bytes, may_unmap)
    }

    fn pdiscard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.wait(true, bytes);
        self.file.node.pdiscard(offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.node.flush()
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.file.node.truncate(size)
    }

    fn allocation(&self, offset: u64, bytes: u64) -> io::Result<(bool, u64)> {
        self.file.node.driver().allocation(offset, bytes)
    }

    fn populate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.file.node.populate(offset, bytes)
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.file]
    }

    fn release(&self) -> bool {
        self.group.release(self.owner());
        self.file.node.driver().release();
        true
    }

    fn debug_event(&self, event: DebugEvent) {
        self.file.node.driver().debug_event(event);
    }
}
