//! Least, greatest and mean of what was measured of late (util/timed-average.c).

/// What was measured since a time.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    least: Option<u64>,
    greatest: u64,
    sum: u64,
    count: u64,
    /// When it begins anew, ns.
    end: u64,
}

/// Values of about the last `period`: two windows that begin half a period apart, of which the older one is told.
#[derive(Debug)]
pub struct TimedAverage {
    period: u64,
    windows: [Window; 2],
}

/// What an average has to tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The least, 0 of nothing.
    pub least: u64,
    /// The greatest, 0 of nothing.
    pub greatest: u64,
    /// The mean, 0 of nothing.
    pub mean: u64,
    /// What all are together for each nanosecond of the time that was looked at.
    pub density: f64,
}

impl TimedAverage {
    /// Of about the last `period` ns, beginning at `now`.
    pub fn new(period: u64, now: u64) -> TimedAverage {
        // The older window has two to four thirds of what was asked for.
        let period = (period.saturating_mul(4) / 3).max(2);
        let ending = |end| Window { end, ..Window::default() };
        let windows = [ending(now.saturating_add(period / 2)), ending(now.saturating_add(period))];
        TimedAverage { period, windows }
    }

    fn renew(&mut self, now: u64) {
        for window in self.windows.iter_mut().filter(|window| window.end <= now) {
            let left = self.period - (now - window.end) % self.period;
            *window = Window { end: now.saturating_add(left), ..Window::default() };
        }
    }

    /// Adds a value.
    pub fn add(&mut self, value: u64, now: u64) {
        self.renew(now);
        for window in &mut self.windows {
            window.least = Some(window.least.map_or(value, |least| least.min(value)));
            window.greatest = window.greatest.max(value);
            window.sum = window.sum.saturating_add(value);
            window.count += 1;
        }
    }

    /// What there is to tell.
    pub fn summary(&mut self, now: u64) -> Summary {
        self.renew(now);
        let [first, second] = &self.windows;
        let window = if first.end < second.end { first } else { second };
        let elapsed = self.period.saturating_sub(window.end - now).max(1);
        Summary {
            least: window.least.unwrap_or(0),
            greatest: window.greatest,
            mean: window.sum.checked_div(window.count).unwrap_or(0),
            density: window.sum as f64 / elapsed as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_until_their_window_ends() {
        // Windows of 400: the first ends at 200, the second at 400.
        let mut average = TimedAverage::new(300, 0);
        assert_eq!(average.summary(0), Summary { least: 0, greatest: 0, mean: 0, density: 0.0 });
        average.add(10, 50);
        average.add(30, 100);
        let told = average.summary(150);
        assert_eq!((told.least, told.greatest, told.mean), (10, 30, 20));
        // The second has them still.
        average.add(50, 250);
        let told = average.summary(250);
        assert_eq!((told.least, told.greatest, told.mean), (10, 50, 30));
        assert_eq!(told.density, 90.0 / 250.0);
        let told = average.summary(450);
        assert_eq!((told.least, told.greatest, told.mean), (50, 50, 50));
        assert_eq!(average.summary(10_000).greatest, 0);
    }
}
