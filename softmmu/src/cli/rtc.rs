//! `-rtc` (softmmu/rtc.c).

use util::option::{OptDesc, OptType, Opts, OptsDesc};

use super::{CliError, CommandLine, OptionId};

static DESC: OptsDesc = OptsDesc {
    name: "rtc",
    implied: None,
    merge: true,
    descs: &[
        OptDesc { name: "base", kind: OptType::String },
        OptDesc { name: "clock", kind: OptType::String },
        OptDesc { name: "driftfix", kind: OptType::String },
    ],
};

/// What the clock shows at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RtcBase {
    /// The host's time, in UTC.
    #[default]
    Utc,
    /// The host's time, in its time zone.
    LocalTime,
    /// This time, in seconds since 1970 began.
    DateTime(i64),
}

/// What drives the clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RtcClock {
    /// The host's wall clock.
    #[default]
    Host,
    /// The host's monotonic clock.
    Rt,
    /// Virtual time, which stands still when the guest does.
    Vm,
}

/// What `-rtc` gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RtcOptions {
    /// What the clock shows at the start.
    pub base: RtcBase,
    /// What drives it.
    pub clock: RtcClock,
    /// Whether ticks the guest missed are given to it later (`driftfix=slew`).
    pub slew: bool,
}

impl CommandLine {
    /// `-rtc`.
    ///
    /// # Errors
    /// A value that is none of those allowed.
    pub fn rtc(&mut self) -> Result<RtcOptions, CliError> {
        let opts = self.merged_opts(OptionId::Rtc, &DESC)?;
        let base = match opts.get("base") {
            None | Some("utc") => RtcBase::Utc,
            Some("localtime") => RtcBase::LocalTime,
            Some(text) => RtcBase::DateTime(parse_datetime(text).ok_or_else(|| {
                CliError::message(
                    "invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'",
                )
            })?),
        };
        let clock =
            one_of(&opts, "clock", &[("host", RtcClock::Host), ("rt", RtcClock::Rt), ("vm", RtcClock::Vm)])?;
        let slew = one_of(&opts, "driftfix", &[("none", false), ("slew", true)])?;
        Ok(RtcOptions { base, clock, slew })
    }
}

fn one_of<T: Copy + Default>(opts: &Opts, name: &str, values: &[(&str, T)]) -> Result<T, CliError> {
    let Some(text) = opts.get(name) else { return Ok(T::default()) };
    let found = values.iter().find(|(known, _)| *known == text).map(|(_, value)| *value);
    found.ok_or_else(|| CliError::message(format_args!("invalid option value '{text}'")))
}

/// `2006-06-17T16:01:21` or `2006-06-17` as seconds since 1970 began.
fn parse_datetime(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "0:0:0"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let last_day = *days_of_month.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let valid = (1..=last_day).contains(&day) && hour < 24 && minute < 60 && second < 60;
    let days = days_since_1970(year, month, day);
    valid.then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Three numbers of at most four digits.
fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let number = |part: &str| {
        let digits = (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if digits { part.parse().ok() } else { None }
    };
    let numbers: Vec<i64> = text.split(separator).map(number).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that the leap day
/// is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_TO_1970: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    365 * year + leap_days + day_of_year - DAYS_TO_1970
}
