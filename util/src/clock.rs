//! The clocks that device models and timers read (include/qemu/timer.h, softmmu/cpu-timers.c).
//!
//! The virtual clock is the host's monotonic clock plus an offset while the VM runs and stands while it is
//! stopped. Its whole state is one atomic word, so that reading it from a VM exit costs a vDSO call and one
//! load. It starts at 0, standing, until [`enable_ticks`].

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

use crate::timer;

/// Nanoseconds in a second.
pub const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// A clock (QEMUClockType).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockType {
    /// The host's monotonic clock: runs even while the VM is stopped.
    Realtime,
    /// Guest time: stands while the VM is stopped.
    Virtual,
    /// The host's wall clock, in nanoseconds since 1970: may be set back by the host's administrator.
    Host,
}

impl ClockType {
    /// All clocks.
    pub const ALL: [ClockType; 3] = [ClockType::Realtime, ClockType::Virtual, ClockType::Host];
}

/// Bit 0: the clock runs. The rest: while it runs, what to add to the monotonic clock; while it stands,
/// its reading. 63 bits of nanoseconds last 146 years either way.
static VIRTUAL: AtomicI64 = AtomicI64::new(0);
/// Virtual time is moved by [`set`], [`step`] and [`advance`] only.
static MANUAL: AtomicBool = AtomicBool::new(false);
/// The reading of the manual clock.
static MANUAL_NS: AtomicU64 = AtomicU64::new(0);

/// The clock's reading in nanoseconds.
#[must_use]
pub fn now_ns(clock: ClockType) -> u64 {
    match clock {
        ClockType::Realtime => host_ns(ClockId::Monotonic),
        ClockType::Host => host_ns(ClockId::Realtime),
        ClockType::Virtual => {
            let state = VIRTUAL.load(Ordering::Acquire);
            match state & 1 {
                0 if is_manual() => MANUAL_NS.load(Ordering::Acquire),
                0 => (state >> 1).max(0) as u64,
                _ => running_reading(state),
            }
        }
    }
}

fn host_ns(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    (time.tv_sec as u64).wrapping_mul(NANOSECONDS_PER_SECOND).wrapping_add(time.tv_nsec as u64)
}

fn running_reading(state: i64) -> u64 {
    (host_ns(ClockId::Monotonic) as i64).wrapping_add(state >> 1).max(0) as u64
}

/// Whether virtual time passes, or may be stepped by hand.
#[must_use]
pub fn ticks_enabled() -> bool {
    VIRTUAL.load(Ordering::Acquire) & 1 == 1 || is_manual()
}

/// Lets virtual time pass (cpu_enable_ticks): the VM runs. Nothing happens when it already does or the
/// clock is manual.
pub fn enable_ticks() {
    if is_manual() {
        return;
    }
    let changed = VIRTUAL.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
        (state & 1 == 0).then(|| running_state((state >> 1).max(0) as u64))
    });
    if changed.is_ok() {
        timer::clock_changed();
    }
}

/// Makes virtual time stand (cpu_disable_ticks): the VM is stopped.
pub fn disable_ticks() {
    // An error says that it stood already.
    let _ = VIRTUAL.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
        (state & 1 == 1).then(|| standing_state(running_reading(state)))
    });
}

/// Sets the virtual clock to `ns` without running timers: for incoming migration.
pub fn set_virtual_ns(ns: u64) {
    // The closure never refuses, so this cannot fail.
    let _ = VIRTUAL.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
        Some(if state & 1 == 1 { running_state(ns) } else { standing_state(ns) })
    });
    timer::clock_changed();
}

fn running_state(reading: u64) -> i64 {
    ((reading as i64).wrapping_sub(host_ns(ClockId::Monotonic) as i64) << 1) | 1
}

fn standing_state(reading: u64) -> i64 {
    (reading as i64) << 1
}

/// Puts the virtual clock under manual control for the rest of the process (the qtest accelerator): it
/// stands where it is and only [`set`], [`step`] and [`step_to_deadline`] move it.
pub fn set_manual() {
    disable_ticks();
    MANUAL_NS.store(now_ns(ClockType::Virtual), Ordering::Release);
    MANUAL.store(true, Ordering::Release);
}

/// Whether [`set_manual`] was called.
#[must_use]
pub fn is_manual() -> bool {
    MANUAL.load(Ordering::Acquire)
}

/// Moves the manual clock forward to `dest` (qtest's `clock_set`), running the timers due on the way in
/// the order of their deadlines, each with the clock at its deadline. A `dest` in the past runs only what
/// is due already. Returns the new reading. To be called on the main loop's thread, where timers run.
pub fn set(dest: u64) -> u64 {
    while !advance(dest, u32::MAX) {}
    now_ns(ClockType::Virtual)
}

/// Moves the manual clock towards `dest` as [`set`] does, past `deadlines` deadlines at most. Whether it
/// got there.
pub fn advance(dest: u64, deadlines: u32) -> bool {
    debug_assert!(is_manual(), "only a manual clock is moved by hand");
    for _ in 0..deadlines {
        let now = now_ns(ClockType::Virtual);
        if now >= dest {
            timer::clock_changed();
            return true;
        }
        let next = timer::next_deadline_ns(ClockType::Virtual).unwrap_or(dest);
        MANUAL_NS.store(next.clamp(now, dest), Ordering::Release);
        timer::run_timers(ClockType::Virtual);
    }
    false
}

/// Moves the manual clock `ns` forward (qtest's `clock_step NS`), as [`set`] does.
pub fn step(ns: u64) -> u64 {
    set(now_ns(ClockType::Virtual).saturating_add(ns))
}

/// Moves the manual clock to the next deadline (qtest's `clock_step`); stays when there is none.
pub fn step_to_deadline() -> u64 {
    match timer::next_deadline_ns(ClockType::Virtual) {
        Some(deadline) => set(deadline),
        None => now_ns(ClockType::Virtual),
    }
}

/// How many periods of a clock of `frequency` Hz (up to 4 GHz) end in the first `now_ns` ns.
#[must_use]
pub fn ticks_at(now_ns: u64, frequency: u64) -> u64 {
    let (seconds, rest) = (now_ns / NANOSECONDS_PER_SECOND, now_ns % NANOSECONDS_PER_SECOND);
    seconds.saturating_mul(frequency).saturating_add(rest * frequency / NANOSECONDS_PER_SECOND)
}

/// The first time in ns at which [`ticks_at`] is `tick`.
#[must_use]
pub fn time_of_tick(tick: u64, frequency: u64) -> u64 {
    let (seconds, rest) = (tick / frequency, tick % frequency);
    seconds
        .saturating_mul(NANOSECONDS_PER_SECOND)
        .saturating_add((rest * NANOSECONDS_PER_SECOND).div_ceil(frequency))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_comes_at_its_time_and_not_a_nanosecond_earlier() {
        for frequency in [32_768, 1_193_182, 3_579_545, 1_000_000_000] {
            for tick in [1, 2, 3, frequency - 1, frequency, frequency + 1, 1 << 40] {
                let at = time_of_tick(tick, frequency);
                assert_eq!((ticks_at(at, frequency), ticks_at(at - 1, frequency)), (tick, tick - 1));
            }
        }
        // The end of time is no overflow.
        assert_eq!(time_of_tick(u64::MAX, 1), u64::MAX);
        let _ = ticks_at(u64::MAX, 4_000_000_000);
    }
}
