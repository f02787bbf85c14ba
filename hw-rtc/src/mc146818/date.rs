//! Dates as the chip's registers hold them, and seconds since 1970.

use super::spec;

const DAYS_PER_400_YEARS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;
pub(super) const SECONDS_PER_DAY: i64 = 86_400;

/// A date in the proleptic Gregorian calendar. Fields that a guest set may be out of their range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year, with the century.
    pub year: i64,
    /// Month, from 1.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
    /// Hour, 0–23.
    pub hour: i64,
    /// Minute.
    pub minute: i64,
    /// Second.
    pub second: i64,
}

impl Date {
    /// The date `seconds` after the start of 1970.
    pub fn from_seconds(seconds: i64) -> Self {
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        let second = seconds.rem_euclid(SECONDS_PER_DAY);
        // Years that start in March end with the leap day.
        let days = days.saturating_add(DAYS_TO_1970);
        let (cycle, day) = (days.div_euclid(DAYS_PER_400_YEARS), days.rem_euclid(DAYS_PER_400_YEARS));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        Self {
            year: cycle * 400 + year + i64::from(month >= 10),
            month: if month < 10 { month + 3 } else { month - 9 },
            day: day - (153 * month + 2) / 5 + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    /// Seconds since the start of 1970. What is out of range carries over.
    pub fn to_seconds(self) -> i64 {
        // Months from March.
        let month = self.month - 3;
        let year = self.year + month.div_euclid(12);
        let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
            + year.div_euclid(400)
            + (153 * month.rem_euclid(12) + 2) / 5
            + self.day
            - 1
            - DAYS_TO_1970;
        days * SECONDS_PER_DAY + self.hour * 3600 + self.minute * 60 + self.second
    }
}

/// Day of the week, Sunday is 1.
pub(super) fn day_of_week(seconds: i64) -> i64 {
    // 1970 began on a Thursday.
    (seconds.div_euclid(SECONDS_PER_DAY) + 4).rem_euclid(7) + 1
}

/// How the registers are coded: bits of register B.
#[derive(Clone, Copy)]
pub(super) struct Format(pub u8);

impl Format {
    fn is_binary(self) -> bool {
        self.0 & spec::REG_B_DM != 0
    }

    fn is_24_hours(self) -> bool {
        self.0 & spec::REG_B_24H != 0
    }

    /// A number below 100, as the register's byte.
    pub fn encode(self, value: i64) -> u8 {
        let value = value.rem_euclid(256) as u8;
        if self.is_binary() { value } else { ((value / 10) << 4) | (value % 10) }
    }

    pub fn decode(self, byte: u8) -> i64 {
        if self.is_binary() { byte.into() } else { i64::from(byte >> 4) * 10 + i64::from(byte & 0xf) }
    }

    pub fn encode_hour(self, hour: i64) -> u8 {
        if self.is_24_hours() {
            return self.encode(hour);
        }
        let pm = if hour >= 12 { spec::HOURS_PM } else { 0 };
        self.encode((hour + 11) % 12 + 1) | pm
    }

    pub fn decode_hour(self, byte: u8) -> i64 {
        if self.is_24_hours() {
            return self.decode(byte);
        }
        let pm = if byte & spec::HOURS_PM != 0 { 12 } else { 0 };
        self.decode(byte & !spec::HOURS_PM) % 12 + pm
    }
}

/// Hour, minute and second of an alarm; none matches any.
#[derive(Clone, Copy)]
pub(super) struct Alarm {
    pub hour: Option<i64>,
    pub minute: Option<i64>,
    pub second: Option<i64>,
}

impl Alarm {
    /// Seconds (1–86400) from `seconds` to the next match, none for a time of day that does not exist.
    pub fn next_after(self, seconds: i64) -> Option<i64> {
        let exists = self.hour.is_none_or(|hour| hour < 24)
            && self.minute.is_none_or(|minute| minute < 60)
            && self.second.is_none_or(|second| second < 60);
        if !exists {
            return None;
        }
        let now = seconds.rem_euclid(SECONDS_PER_DAY);
        let mut time = now + 1;
        // Each step goes to the first time at which one more field matches; one that carries over starts again.
        loop {
            let off = |field: Option<i64>, value: i64, range: i64| {
                field.map_or(0, |field| (field - value).rem_euclid(range))
            };
            let (hours, minutes) = (time / 3600, time / 60);
            let hour_off = off(self.hour, hours % 24, 24);
            let minute_off = off(self.minute, minutes % 60, 60);
            let second_off = off(self.second, time % 60, 60);
            if hour_off != 0 {
                time = (hours + hour_off) * 3600;
            } else if minute_off != 0 {
                time = (minutes + minute_off) * 60;
            } else if second_off != 0 {
                time += second_off;
            } else {
                return Some(time - now);
            }
        }
    }
}
