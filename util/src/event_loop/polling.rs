//! How long a loop looks for events before it sleeps (util/aio-posix.c, `aio_poll`'s adaptive polling): waking a
//! thread takes longer than many an event does to come.

use std::sync::OnceLock;
use std::time::Duration;

/// The first time a loop looks this long.
const FIRST: Duration = Duration::from_micros(4);

/// What bounds a loop's polling (the `poll-*` properties of `iothread`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollLimits {
    /// The longest that a loop looks before it sleeps; with zero it does not.
    pub max: Duration,
    /// How many times as long it looks when events came just after it had gone to sleep; 0 for twice as long.
    pub grow: u32,
    /// What the time is divided by when events are rare; 0 to stop looking at once.
    pub shrink: u32,
}

/// A loop's polling at present.
#[derive(Debug, Default)]
pub(super) struct Polling {
    pub(super) limits: PollLimits,
    /// How long the next turn looks.
    window: Duration,
}

impl Polling {
    /// How long to look at this turn, if polling is on.
    pub(super) fn window(&self) -> Option<Duration> {
        (!self.limits.max.is_zero() && several_cpus()).then_some(self.window)
    }

    /// Learns from a turn that waited for `waited`.
    pub(super) fn adjust(&mut self, waited: Duration) {
        let PollLimits { max, grow, shrink } = self.limits;
        if waited <= self.window {
            return;
        }
        self.window = if waited > max {
            self.window.checked_div(shrink).unwrap_or_default()
        } else if self.window.is_zero() {
            FIRST.min(max)
        } else {
            self.window.saturating_mul(if grow == 0 { 2 } else { grow }).min(max)
        };
    }
}

/// With a single processor whoever makes the events could not run meanwhile.
fn several_cpus() -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    *SEVERAL.get_or_init(|| rustix::thread::sched_getaffinity(None).is_ok_and(|cpus| cpus.count() > 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    /// The windows after turns that waited so many µs.
    fn windows(limits: PollLimits, waits: &[u64]) -> Vec<Duration> {
        let mut polling = Polling { limits, window: Duration::ZERO };
        waits
            .iter()
            .map(|wait| {
                polling.adjust(us(*wait));
                polling.window
            })
            .collect()
    }

    #[test]
    fn the_window_grows_for_frequent_events_and_ends_with_rare_ones() {
        let limits = PollLimits { max: us(32), grow: 0, shrink: 0 };
        let seen = windows(limits, &[10, 10, 10, 10, 30, 30, 31, 33]);
        assert_eq!(seen, [us(4), us(8), us(16), us(16), us(32), us(32), us(32), us(0)]);
    }

    #[test]
    fn factors_are_as_given_and_the_limit_holds() {
        let limits = PollLimits { max: us(20), grow: 3, shrink: 2 };
        assert_eq!(windows(limits, &[5, 5, 15, 50, 50]), [us(4), us(12), us(20), us(10), us(5)]);
        assert_eq!(windows(PollLimits { max: us(1), ..limits }, &[1]), [us(1)]);
    }
}
