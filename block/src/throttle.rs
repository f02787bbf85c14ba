//! Limits of bytes and operations a second (util/throttle.c): for each kind a bucket that fills with what is done and
//! leaks at the rate that is allowed. While it is too full, requests wait.

use qapi::QapiType;
use qom::{Result, bail};

/// Largest value of a limit (`THROTTLE_VALUE_MAX`).
const VALUE_MAX: u64 = 1_000_000_000_000_000;
/// Without bursts, what this part of a second allows may come at once.
const SLACK: f64 = 0.1;
const NS: f64 = 1e9;

/// What is limited (`BucketType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes, of reads and writes together.
    BpsTotal,
    /// Bytes read.
    BpsRead,
    /// Bytes written.
    BpsWrite,
    /// Operations, of either kind.
    IopsTotal,
    /// Reads.
    IopsRead,
    /// Writes.
    IopsWrite,
}

impl Kind {
    /// All, with the names of their options behind `throttling.` and in front of `-max` and `-max-length`.
    pub const ALL: [(Kind, &str); 6] = [
        (Kind::BpsTotal, "bps-total"),
        (Kind::BpsRead, "bps-read"),
        (Kind::BpsWrite, "bps-write"),
        (Kind::IopsTotal, "iops-total"),
        (Kind::IopsRead, "iops-read"),
        (Kind::IopsWrite, "iops-write"),
    ];

    fn is_bytes(self) -> bool {
        matches!(self, Kind::BpsTotal | Kind::BpsRead | Kind::BpsWrite)
    }

    fn concerns(self, is_write: bool) -> bool {
        match self {
            Kind::BpsTotal | Kind::IopsTotal => true,
            Kind::BpsRead | Kind::IopsRead => !is_write,
            Kind::BpsWrite | Kind::IopsWrite => is_write,
        }
    }
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Units a second in the long run; 0: as many as there are.
    pub average: u64,
    /// Units a second in a burst; 0: no bursts.
    pub max: u64,
    /// How long a burst may last, seconds.
    pub length: u64,
}

impl Default for Limit {
    fn default() -> Self {
        Limit { average: 0, max: 0, length: 1 }
    }
}

/// All limits (`ThrottleConfig`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// One of each kind, as in [`Kind::ALL`].
    pub limits: [Limit; 6],
    /// A request counts as one operation for so many bytes; 0: however large it is.
    pub op_size: u64,
}

impl Config {
    /// The limit of a kind.
    pub fn of(&self, kind: Kind) -> Limit {
        self.limits[kind as usize]
    }

    /// Whether anything is limited.
    pub fn is_enabled(&self) -> bool {
        self.limits.iter().any(|limit| limit.average > 0)
    }

    /// Checks that it makes sense (`throttle_is_valid`).
    ///
    /// # Errors
    /// For the user.
    pub fn check(&self) -> Result<()> {
        let pairs = [
            (Kind::BpsTotal, Kind::BpsRead, Kind::BpsWrite),
            (Kind::IopsTotal, Kind::IopsRead, Kind::IopsWrite),
        ];
        for (total, read, write) in pairs {
            let both = |of: fn(Limit) -> u64| {
                of(self.of(total)) > 0 && (of(self.of(read)) > 0 || of(self.of(write)) > 0)
            };
            if both(|limit| limit.average) || both(|limit| limit.max) {
                bail!("bps/iops/max total values and read/write values cannot be used at the same time");
            }
        }
        let has_iops = Kind::ALL.iter().any(|(kind, _)| !kind.is_bytes() && self.of(*kind).average > 0);
        if self.op_size > 0 && !has_iops {
            bail!("iops size requires an iops value to be set");
        }
        self.limits.iter().try_for_each(|limit| limit.check())
    }
}

impl Limit {
    fn check(&self) -> Result<()> {
        if self.average > VALUE_MAX || self.max > VALUE_MAX {
            bail!("bps/iops/max values must be within [0, {VALUE_MAX}]");
        }
        if self.length == 0 {
            bail!("the burst length cannot be 0");
        }
        if self.length > 1 && self.max == 0 {
            bail!("burst length set without burst rate");
        }
        if self.max > 0 && self.length > VALUE_MAX / self.max {
            bail!("burst length too high for this burst rate");
        }
        if self.max > 0 && self.average == 0 {
            bail!("bps_max/iops_max require corresponding bps/iops values");
        }
        if self.max > 0 && self.max < self.average {
            bail!("bps_max/iops_max cannot be lower than bps/iops");
        }
        Ok(())
    }
}

/// How full a bucket is, in units.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    long: f64,
    /// Of the burst's own bucket, which leaks at its rate.
    burst: f64,
}

/// The buckets of a configuration, without a clock of their own.
#[derive(Debug, Default)]
pub struct Buckets {
    /// What is allowed.
    pub config: Config,
    levels: [Level; 6],
    leaked_at: u64,
}

impl Buckets {
    /// Empty ones, which have nothing to leak before the first request.
    pub fn new(config: Config) -> Self {
        Buckets { config, ..Buckets::default() }
    }

    /// How long a read or write has to wait at time `now`; ns.
    pub fn wait(&mut self, is_write: bool, now: u64) -> u64 {
        let seconds = now.saturating_sub(self.leaked_at) as f64 / NS;
        self.leaked_at = now;
        let mut wait: f64 = 0.0;
        for ((kind, _), level) in Kind::ALL.iter().zip(&mut self.levels) {
            let limit = self.config.of(*kind);
            level.leak(&limit, seconds);
            if kind.concerns(is_write) {
                wait = wait.max(level.wait(&limit));
            }
        }
        (wait * NS) as u64
    }

    /// A request of so many bytes, merged of so many, is let through.
    pub fn account(&mut self, is_write: bool, bytes: u64, requests: u64) {
        let operations = match self.config.op_size {
            0 => requests as f64,
            size => (bytes as f64 / size as f64).max(requests as f64),
        };
        for ((kind, _), level) in Kind::ALL.iter().zip(&mut self.levels) {
            if kind.concerns(is_write) {
                let units = if kind.is_bytes() { bytes as f64 } else { operations };
                level.long += units;
                if self.config.of(*kind).length > 1 {
                    level.burst += units;
                }
            }
        }
    }
}

impl Level {
    fn leak(&mut self, limit: &Limit, seconds: f64) {
        self.long = (self.long - limit.average as f64 * seconds).max(0.0);
        self.burst = (self.burst - limit.max as f64 * seconds).max(0.0);
    }

    /// Seconds until there is room.
    fn wait(&self, limit: &Limit) -> f64 {
        if limit.average == 0 {
            return 0.0;
        }
        let (average, max) = (limit.average as f64, limit.max as f64);
        let room = if limit.max > 0 { max * limit.length as f64 } else { average * SLACK };
        if self.long > room {
            return (self.long - room) / average;
        }
        if limit.length > 1 && self.burst > max * SLACK {
            return (self.burst - max * SLACK) / max;
        }
        0.0
    }
}

/// What `query-block` and `block_set_io_throttle` have of limits.
#[derive(QapiType, Clone, Copy, Debug, Default)]
pub struct Bursts {
    #[qapi(name = "bps_max")]
    bps_max: Option<i64>,
    #[qapi(name = "bps_rd_max")]
    bps_rd_max: Option<i64>,
    #[qapi(name = "bps_wr_max")]
    bps_wr_max: Option<i64>,
    #[qapi(name = "iops_max")]
    iops_max: Option<i64>,
    #[qapi(name = "iops_rd_max")]
    iops_rd_max: Option<i64>,
    #[qapi(name = "iops_wr_max")]
    iops_wr_max: Option<i64>,
    #[qapi(name = "bps_max_length")]
    bps_max_length: Option<i64>,
    #[qapi(name = "bps_rd_max_length")]
    bps_rd_max_length: Option<i64>,
    #[qapi(name = "bps_wr_max_length")]
    bps_wr_max_length: Option<i64>,
    #[qapi(name = "iops_max_length")]
    iops_max_length: Option<i64>,
    #[qapi(name = "iops_rd_max_length")]
    iops_rd_max_length: Option<i64>,
    #[qapi(name = "iops_wr_max_length")]
    iops_wr_max_length: Option<i64>,
    #[qapi(name = "iops_size")]
    iops_size: Option<i64>,
}

impl Bursts {
    /// As a configuration has them; those that are not set are absent.
    pub fn of(config: &Config) -> Self {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let max = |kind| Some(config.of(kind)).filter(|limit| limit.max > 0).map(|limit| signed(limit.max));
        let length = |kind| max(kind).map(|_| signed(config.of(kind).length));
        use Kind::{BpsRead, BpsTotal, BpsWrite, IopsRead, IopsTotal, IopsWrite};
        Bursts {
            bps_max: max(BpsTotal),
            bps_rd_max: max(BpsRead),
            bps_wr_max: max(BpsWrite),
            iops_max: max(IopsTotal),
            iops_rd_max: max(IopsRead),
            iops_wr_max: max(IopsWrite),
            bps_max_length: length(BpsTotal),
            bps_rd_max_length: length(BpsRead),
            bps_wr_max_length: length(BpsWrite),
            iops_max_length: length(IopsTotal),
            iops_rd_max_length: length(IopsRead),
            iops_wr_max_length: length(IopsWrite),
            iops_size: Some(config.op_size).filter(|size| *size > 0).map(signed),
        }
    }

    /// The configuration with these and the averages, in the order of [`Kind::ALL`]; it is not checked yet.
    pub fn config(&self, averages: [i64; 6]) -> Config {
        // A number that no limit can be fails the check.
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
        let max = [
            self.bps_max,
            self.bps_rd_max,
            self.bps_wr_max,
            self.iops_max,
            self.iops_rd_max,
            self.iops_wr_max,
        ];
        let length = [
            self.bps_max_length,
            self.bps_rd_max_length,
            self.bps_wr_max_length,
            self.iops_max_length,
            self.iops_rd_max_length,
            self.iops_wr_max_length,
        ];
        let mut config = Config { op_size: self.iops_size.map_or(0, unsigned), ..Config::default() };
        for (((limit, average), max), length) in config.limits.iter_mut().zip(averages).zip(max).zip(length) {
            *limit = Limit {
                average: unsigned(average),
                max: max.map_or(0, unsigned),
                length: length.map_or(1, unsigned),
            };
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: Kind, limit: Limit) -> Config {
        let mut config = Config::default();
        config.limits[kind as usize] = limit;
        config
    }

    /// Requests of 1000 bytes that pass in so many milliseconds.
    fn passed(buckets: &mut Buckets, is_write: bool, from_ms: u64, until_ms: u64) -> u64 {
        let mut passed = 0;
        for now in from_ms..until_ms {
            while buckets.wait(is_write, now * 1_000_000) == 0 {
                buckets.account(is_write, 1000, 1);
                passed += 1;
                if passed > 1_000_000 {
                    return passed;
                }
            }
        }
        passed
    }

    #[test]
    fn an_average_is_kept() {
        let mut buckets = Buckets::new(config(Kind::IopsRead, Limit { average: 100, ..Limit::default() }));
        let count = passed(&mut buckets, false, 0, 10_000);
        assert!((1000..=1012).contains(&count), "{count}");
        assert_eq!(buckets.wait(true, 10_000_000_000), 0, "writes have no limit");
        let mut buckets = Buckets::new(config(Kind::BpsTotal, Limit { average: 50_000, ..Limit::default() }));
        let count = passed(&mut buckets, true, 0, 10_000);
        assert!((500..=507).contains(&count), "{count}");
    }

    #[test]
    fn a_burst_is_as_long_as_it_may_be() {
        let limit = Limit { average: 100, max: 1000, length: 3 };
        let mut buckets = Buckets::new(config(Kind::IopsTotal, limit));
        let second = passed(&mut buckets, true, 0, 1000);
        assert!((1000..=1102).contains(&second), "{second}");
        let rest = second + passed(&mut buckets, true, 1000, 10_000);
        assert!((3900..=4110).contains(&rest), "{rest}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |config: Config| config.check().unwrap_err().message;
        let limit = |average, max, length| Limit { average, max, length };
        assert!(config(Kind::BpsRead, limit(1, 2, 3)).check().is_ok());
        assert!(refused(config(Kind::BpsRead, limit(0, 2, 1))).contains("require corresponding"));
        assert!(refused(config(Kind::BpsRead, limit(3, 2, 1))).contains("cannot be lower"));
        assert!(refused(config(Kind::BpsRead, limit(3, 0, 2))).contains("without burst rate"));
        assert!(refused(config(Kind::BpsRead, limit(3, 5, 0))).contains("cannot be 0"));
        assert!(refused(config(Kind::BpsRead, limit(u64::MAX, 0, 1))).contains("must be within"));
        assert!(refused(config(Kind::BpsRead, limit(3, 5, u64::MAX))).contains("too high"));
        let mut both = config(Kind::IopsTotal, limit(3, 0, 1));
        both.limits[Kind::IopsWrite as usize].average = 1;
        assert!(refused(both).contains("at the same time"));
        assert!(refused(Config { op_size: 1, ..Config::default() }).contains("iops size"));
    }
}
