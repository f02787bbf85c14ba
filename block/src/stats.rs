//! What is counted of a backend's requests (block/accounting.c).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::backend::{Op, Request};

/// What is counted of one kind of requests.
#[derive(Debug, Default)]
pub struct Counts {
    /// Bytes moved.
    pub bytes: AtomicU64,
    /// Requests that went well.
    pub operations: AtomicU64,
    /// Requests that became part of another.
    pub merged: AtomicU64,
    /// Requests that failed.
    pub failed: AtomicU64,
    /// Requests that made no sense.
    pub invalid: AtomicU64,
    /// Time that they took, ns.
    pub time_ns: AtomicU64,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Stats {
    /// Reads.
    pub read: Counts,
    /// Writes, of zeroes too.
    pub write: Counts,
    /// Discards.
    pub unmap: Counts,
    /// Flushes.
    pub flush: Counts,
    last_access: Mutex<Option<Instant>>,
    /// Requests that made no sense are no accesses.
    leave_out_invalid: AtomicBool,
    /// Requests that failed are no accesses and take no time.
    leave_out_failed: AtomicBool,
}

impl Stats {
    /// Whether requests that made no sense count as accesses, and whether those that failed count in times
    /// (`block_acct_setup`); `None` leaves it as it is.
    pub fn account(&self, invalid: Option<bool>, failed: Option<bool>) {
        for (cell, wanted) in [(&self.leave_out_invalid, invalid), (&self.leave_out_failed, failed)] {
            if let Some(wanted) = wanted {
                cell.store(!wanted, Ordering::Relaxed);
            }
        }
    }

    /// Both, as [`Stats::account`] has them; at first they do.
    pub fn accounted(&self) -> (bool, bool) {
        let counts = |cell: &AtomicBool| !cell.load(Ordering::Relaxed);
        (counts(&self.leave_out_invalid), counts(&self.leave_out_failed))
    }

    /// A device refused a request that made no sense (`block_acct_invalid`).
    pub fn count_invalid(&self, op: Op) {
        self.of(op).invalid.fetch_add(1, Ordering::Relaxed);
        if self.accounted().0 {
            self.accessed(Instant::now());
        }
    }

    /// The counts of a kind.
    pub fn of(&self, op: Op) -> &Counts {
        match op {
            Op::Read => &self.read,
            Op::Write | Op::WriteZeroes { .. } => &self.write,
            Op::Discard => &self.unmap,
            Op::Flush => &self.flush,
        }
    }

    /// Time since the last request, ns.
    pub fn idle_time_ns(&self) -> Option<u64> {
        self.last_access.lock().map(|at| at.elapsed().as_nanos() as u64)
    }

    /// Counts a request that has ended.
    pub fn count(&self, request: &Request, begun: Instant, result: &io::Result<()>) {
        let counts = self.of(request.op);
        let requests = request.memory.requests();
        match result {
            Ok(()) => {
                counts.bytes.fetch_add(request.bytes, Ordering::Relaxed);
                counts.operations.fetch_add(requests, Ordering::Relaxed);
                counts.merged.fetch_add(requests.saturating_sub(1), Ordering::Relaxed);
            }
            Err(_) => {
                counts.failed.fetch_add(requests, Ordering::Relaxed);
            }
        }
        if result.is_err() && !self.accounted().1 {
            return;
        }
        let now = Instant::now();
        let time = (now - begun).as_nanos() as u64;
        counts.time_ns.fetch_add(time.saturating_mul(requests), Ordering::Relaxed);
        self.accessed(now);
    }

    fn accessed(&self, now: Instant) {
        // Whoever holds it notes a time as good.
        if let Some(mut last) = self.last_access.try_lock() {
            *last = Some(now);
        }
    }
}
