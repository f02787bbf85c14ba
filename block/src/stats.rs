//! What is counted of a backend's requests (block/accounting.c).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use util::clock::{ClockType, is_manual, now_ns};

use crate::backend::{Op, Request};
use crate::timed_average::{Summary, TimedAverage};

/// How long a request takes where tests move the clock.
const MANUAL_LATENCY: Duration = Duration::from_millis(1);
/// What times are counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Averages of what was done of late.
#[derive(Debug)]
struct Interval {
    seconds: u32,
    /// Of reads, writes and flushes: how long they took, ns.
    latencies: [Mutex<TimedAverage>; 3],
}

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
    /// When the last one ended, ns.
    last_access: Mutex<Option<u64>>,
    intervals: OnceLock<Vec<Interval>>,
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
            self.accessed(time_ns(Instant::now()));
        }
    }

    /// Has averages kept of intervals of these lengths, in seconds; once only (`block_acct_add_interval`).
    pub(crate) fn keep_intervals(&self, seconds: &[u32]) {
        let now = time_ns(Instant::now());
        let interval = |seconds: &u32| {
            let period = u64::from(*seconds) * 1_000_000_000;
            let latencies = [(); 3].map(|()| Mutex::new(TimedAverage::new(period, now)));
            Interval { seconds: *seconds, latencies }
        };
        self.intervals.get_or_init(|| seconds.iter().map(interval).collect());
    }

    /// The averages of each interval: its seconds, and how long reads, writes and flushes took, ns.
    pub(crate) fn averages(&self) -> Vec<(u32, [Summary; 3])> {
        let now = time_ns(Instant::now());
        let of = |latency: &Mutex<TimedAverage>| latency.lock().summary(now);
        let intervals = self.intervals.get().map(Vec::as_slice).unwrap_or_default();
        intervals.iter().map(|interval| (interval.seconds, interval.latencies.each_ref().map(of))).collect()
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
        self.last_access.lock().map(|at| time_ns(Instant::now()).saturating_sub(at))
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
        let took = if is_manual() { MANUAL_LATENCY } else { now - begun }.as_nanos() as u64;
        counts.time_ns.fetch_add(took.saturating_mul(requests), Ordering::Relaxed);
        let now = time_ns(now);
        self.accessed(now);
        let kind = match request.op {
            Op::Read => 0,
            Op::Write | Op::WriteZeroes { .. } => 1,
            Op::Flush => 2,
            Op::Discard => return,
        };
        for interval in self.intervals.get().into_iter().flatten() {
            interval.latencies[kind].lock().add(took, now);
        }
    }

    fn accessed(&self, now: u64) {
        // Whoever holds it notes a time as good.
        if let Some(mut last) = self.last_access.try_lock() {
            *last = Some(now);
        }
    }
}

/// A time in ns: the guest's where tests move its clock.
fn time_ns(now: Instant) -> u64 {
    match is_manual() {
        true => now_ns(ClockType::Virtual),
        false => now.saturating_duration_since(*START).as_nanos() as u64,
    }
}
