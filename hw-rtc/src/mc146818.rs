//! The MC146818 real-time clock: MC146818A data sheet, with the choices of QEMU's hw/rtc/mc146818rtc.c.
//!
//! The chip works out what happened since it was last looked at, so that it needs a timer only for an interrupt
//! that is enabled and not yet pending.

pub mod date;
pub mod spec;

use serde::{Deserialize, Serialize};

pub use date::Date;
use date::{Alarm, Format};

const NS_PER_SECOND: i64 = 1_000_000_000;

/// The base year whose century register counts from 0.
const BASE_YEAR_2000: i32 = 2000;
/// This many lost periodic interrupts are made up for in a row, then the next one is waited for (as QEMU).
const REINJECT_MAX: u32 = 20;

/// What becomes of periodic interrupts that came while the one before was pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LostTickPolicy {
    /// They are lost, as on a chip.
    Discard,
    /// They are made up for when the guest has read register C.
    Slew,
}

/// The 128 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
struct Cmos([u8; spec::CMOS_SIZE]);

impl TryFrom<Vec<u8>> for Cmos {
    type Error = String;

    fn try_from(bytes: Vec<u8>) -> Result<Self, String> {
        let bytes = bytes.try_into().map_err(|bytes: Vec<u8>| format!("CMOS of {} bytes", bytes.len()))?;
        Ok(Self(bytes))
    }
}

impl From<Cmos> for Vec<u8> {
    fn from(cmos: Cmos) -> Self {
        cmos.0.to_vec()
    }
}

/// The chip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mc146818 {
    cmos: Cmos,
    index: u8,
    base_year: i32,
    policy: LostTickPolicy,
    /// The clock showed `origin_seconds` since 1970 when virtual time was `origin_ns`, and counts from there. If
    /// it is not being updated, the registers hold the time and only the phase of `origin_ns` counts.
    origin_seconds: i64,
    origin_ns: i64,
    /// Where in a second the clock is when the guest sets it while it runs.
    offset_ns: i64,
    /// The virtual time up to which register C shows what happened.
    synced_ns: i64,
    /// When the last periodic interrupt came, or was enabled, in periods of the crystal: they have a phase of their
    /// own.
    periodic_base: i64,
    /// When its flag comes once more after a reset, in the same: QEMU's timer goes on until then.
    periodic_after_reset: Option<i64>,
    /// Periodic interrupts to make up for.
    lost_ticks: u32,
    /// How many were made up for since the last one that came by itself.
    reinjected: u32,
    irq_fell: bool,
}

impl Mc146818 {
    /// The state after power-on at `now_ns`, showing `seconds` since 1970.
    ///
    /// `base_year` is the year of year 0 in century 0. As in QEMU 2000 means that the century register holds
    /// the true century, which is 0 otherwise.
    pub fn new(seconds: i64, base_year: i32, policy: LostTickPolicy, now_ns: u64) -> Self {
        let mut rtc = Self {
            cmos: Cmos([0; spec::CMOS_SIZE]),
            index: 0,
            base_year: if base_year == BASE_YEAR_2000 { 0 } else { base_year },
            policy,
            origin_seconds: 0,
            origin_ns: 0,
            offset_ns: 0,
            synced_ns: signed(now_ns),
            periodic_base: clock(signed(now_ns)),
            periodic_after_reset: None,
            lost_ticks: 0,
            reinjected: 0,
            irq_fell: false,
        };
        rtc.set(spec::REG_A, spec::REG_A_DEFAULT);
        rtc.set(spec::REG_B, spec::REG_B_24H);
        rtc.set(spec::REG_D, spec::REG_D_VRT);
        rtc.set_seconds(seconds, now_ns);
        rtc
    }

    /// The RESET pin. The clock goes on, as do its interrupts' flags from now on.
    pub fn reset(&mut self, now_ns: u64) {
        self.sync(now_ns);
        if self.get(spec::SHUTDOWN_STATUS) != spec::SHUTDOWN_S3_RESUME {
            self.set(spec::SHUTDOWN_STATUS, 0);
        }
        if let Some(period) = self.period() {
            self.periodic_after_reset = Some(self.periodic_base.saturating_add(period));
        }
        let cleared = spec::REG_B_PIE | spec::REG_B_AIE | spec::REG_B_SQWE;
        self.set(spec::REG_B, self.get(spec::REG_B) & !cleared);
        self.set(spec::REG_C, 0);
        self.forget_lost_ticks();
        self.irq_fell = false;
    }

    /// Sets the clock from the outside to `seconds` since 1970, at the start of that second.
    pub fn set_seconds(&mut self, seconds: i64, now_ns: u64) {
        self.sync(now_ns);
        self.origin_seconds = seconds;
        self.origin_ns = signed(now_ns);
        self.store_time(seconds);
    }

    /// The time shown, in seconds since 1970.
    pub fn seconds(&self, now_ns: u64) -> i64 {
        if self.is_updated() { self.running_seconds(signed(now_ns)) } else { self.load_time() }
    }

    /// Byte `index` as it is stored, without the effects of a guest's read; 0 from [`spec::CMOS_SIZE`] on.
    pub fn cmos(&self, index: u8) -> u8 {
        self.cmos.0.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Stores byte `index` without the effects of a guest's write, for what firmware and the board keep there.
    pub fn set_cmos(&mut self, index: u8, value: u8) {
        if let Some(byte) = self.cmos.0.get_mut(usize::from(index)) {
            *byte = value;
        }
    }

    /// Level of the interrupt output.
    pub fn irq_level(&self) -> bool {
        self.get(spec::REG_B) & self.get(spec::REG_C) & spec::INTERRUPTS != 0
    }

    /// Whether the interrupt output fell since this was last asked. Another thread may raise it before its line has
    /// followed: [`Self::irq_level`] alone does not show the edge then.
    pub fn take_irq_fall(&mut self) -> bool {
        std::mem::take(&mut self.irq_fell)
    }

    /// Reads port `offset` (0 or 1).
    pub fn read(&mut self, offset: u64, now_ns: u64) -> u8 {
        if offset & spec::PORT_DATA == spec::PORT_INDEX {
            return 0xff;
        }
        self.sync(now_ns);
        match self.index {
            spec::REG_A if self.is_update_in_progress(now_ns) => self.get(spec::REG_A) | spec::REG_A_UIP,
            spec::REG_C => self.read_reg_c(),
            index => {
                if is_time(index) {
                    self.refresh_time(now_ns);
                }
                self.get(index)
            }
        }
    }

    /// Writes port `offset` (0 or 1). Returns the time in seconds since 1970 if the guest set the clock.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u8, now_ns: u64) -> Option<i64> {
        if offset & spec::PORT_DATA == spec::PORT_INDEX {
            self.index = match value & spec::INDEX_MASK {
                spec::PS2_CENTURY => spec::CENTURY,
                index => index,
            };
            return None;
        }
        self.sync(now_ns);
        let was_high = self.irq_level();
        let mut new_time = None;
        match self.index {
            spec::REG_A => new_time = self.write_reg_a(value, now_ns),
            spec::REG_B => new_time = self.write_reg_b(value, now_ns),
            spec::REG_C | spec::REG_D => {}
            index if is_time(index) => {
                self.refresh_time(now_ns);
                self.set(index, value);
                if self.is_updated() {
                    new_time = Some(self.start_clock(now_ns));
                }
            }
            index => self.set(index, value),
        }
        self.irq_fell |= was_high && !self.irq_level();
        new_time
    }

    /// The virtual time at which [`Self::expire`] is next due: an enabled interrupt that is not pending.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.irq_level() {
            return None;
        }
        let enabled = |bit: u8| self.is_divided() && self.get(spec::REG_B) & bit != 0;
        let second = self.elapsed(self.synced_ns) / NS_PER_SECOND;
        let update = enabled(spec::REG_B_UIE).then_some(1);
        let alarm = self.next_alarm(self.synced_ns).filter(|_| enabled(spec::REG_B_AIE));
        let seconds =
            [update, alarm].into_iter().flatten().min().map(|seconds| {
                (second + seconds).saturating_mul(NS_PER_SECOND).saturating_add(self.origin_ns)
            });
        let periodic = self.period().map(|period| self.periodic_base.saturating_add(period));
        let periodic = periodic.or(self.periodic_after_reset).map(periodic_time);
        let deadline = [seconds, periodic].into_iter().flatten().min()?;
        u64::try_from(deadline).ok()
    }

    /// Raises what is due; tells whether the alarm's interrupt is.
    pub fn expire(&mut self, now_ns: u64) -> bool {
        self.sync(now_ns);
        self.get(spec::REG_B) & spec::REG_B_AIE != 0 && self.get(spec::REG_C) & spec::REG_C_AF != 0
    }

    fn get(&self, index: u8) -> u8 {
        self.cmos(index)
    }

    fn set(&mut self, index: u8, value: u8) {
        self.set_cmos(index, value);
    }

    /// Whether the divider chain runs. With the settings for no crystal, too, updates end, as in QEMU, but the time registers
    /// stand still.
    fn is_divided(&self) -> bool {
        self.get(spec::REG_A) & spec::REG_A_DV_RESET != spec::REG_A_DV_RESET
    }

    /// Whether the time registers advance.
    fn is_updated(&self) -> bool {
        self.get(spec::REG_A) & spec::REG_A_DV <= spec::REG_A_DV_MAX
            && self.get(spec::REG_B) & spec::REG_B_SET == 0
    }

    fn elapsed(&self, ns: i64) -> i64 {
        ns.saturating_sub(self.origin_ns).max(0)
    }

    fn running_seconds(&self, ns: i64) -> i64 {
        self.origin_seconds.saturating_add(self.elapsed(ns) / NS_PER_SECOND)
    }

    /// Periods of the crystal between periodic interrupts, if these are enabled (`rtc_periodic_clock_ticks`).
    fn period(&self) -> Option<i64> {
        spec::periodic_ticks(self.get(spec::REG_A)).filter(|_| self.get(spec::REG_B) & spec::REG_B_PIE != 0)
    }

    fn is_update_in_progress(&self, now_ns: u64) -> bool {
        let phase = self.elapsed(signed(now_ns)) % NS_PER_SECOND;
        self.is_updated() && phase >= NS_PER_SECOND - spec::UIP_HOLD_NS
    }

    /// Brings the flags of register C up to `now_ns`.
    fn sync(&mut self, now_ns: u64) {
        let now = signed(now_ns);
        // A clock that runs by the host's (`-rtc clock=host`) can be set back.
        let from = self.synced_ns.min(now);
        self.synced_ns = now;
        self.sync_periodic(now);
        if !self.is_divided() {
            return;
        }
        let mut flags = self.get(spec::REG_C);
        let seconds = self.elapsed(now) / NS_PER_SECOND - self.elapsed(from) / NS_PER_SECOND;
        if seconds > 0 {
            if self.next_alarm(from).is_some_and(|alarm| alarm <= seconds) {
                flags |= spec::REG_C_AF;
            }
            flags |= spec::REG_C_UF;
        }
        self.set(spec::REG_C, flags);
    }

    /// In how many ends of an update after `ns` the alarm comes. Of a clock that stands still (SET) QEMU takes the time that it
    /// shows, and looks at the next end only, until its flag is read.
    fn next_alarm(&self, ns: i64) -> Option<i64> {
        if self.is_updated() {
            return self.alarm().next_after(self.running_seconds(ns));
        }
        let looks = self.is_divided() && self.get(spec::REG_C) & spec::REG_C_UF == 0;
        self.alarm().next_after(self.load_time()).filter(|seconds| looks && *seconds == 1)
    }

    /// The same for the periodic interrupt. As in QEMU its flag comes only with the interrupt enabled, and whatever the
    /// divider does (the data sheet has neither).
    fn sync_periodic(&mut self, now: i64) {
        self.periodic_base = self.periodic_base.min(clock(now));
        if self.periodic_after_reset.take_if(|at| periodic_clock(now) >= *at).is_some() {
            self.set(spec::REG_C, self.get(spec::REG_C) | spec::REG_C_PF);
        }
        let Some(period) = self.period() else { return };
        let ticks = periodic_clock(now).saturating_sub(self.periodic_base) / period;
        if ticks > 0 {
            self.periodic_base += ticks * period;
            let flags = self.get(spec::REG_C);
            self.lose_ticks(ticks - i64::from(flags & spec::REG_C_PF == 0));
            self.set(spec::REG_C, flags | spec::REG_C_PF);
        }
    }

    /// The period is another, or enabled now: what has passed of the old one counts for the new one, and what was lost
    /// is lost in new ones (`periodic_timer_update`).
    fn change_period(&mut self, old: Option<i64>, now: i64) {
        self.periodic_after_reset = None;
        let Some(new) = self.period() else { return self.forget_lost_ticks() };
        let now = clock(now);
        let Some(old) = old else {
            self.periodic_base = now;
            return;
        };
        let passed = now.saturating_sub(self.periodic_base);
        let passed = match self.policy {
            LostTickPolicy::Discard => passed.min(new),
            LostTickPolicy::Slew => {
                let passed = passed.saturating_add(i64::from(self.lost_ticks) * old);
                self.lost_ticks = u32::try_from(passed / new).unwrap_or(u32::MAX);
                passed % new
            }
        };
        self.periodic_base = now - passed;
    }

    fn lose_ticks(&mut self, lost: i64) {
        self.reinjected = 0;
        if self.policy == LostTickPolicy::Slew {
            self.lost_ticks = self.lost_ticks.saturating_add(u32::try_from(lost).unwrap_or(u32::MAX));
        }
    }

    /// Nothing is made up for that was lost until `now_ns`.
    pub fn reset_reinjection(&mut self, now_ns: u64) {
        self.sync(now_ns);
        self.forget_lost_ticks();
    }

    fn forget_lost_ticks(&mut self) {
        (self.lost_ticks, self.reinjected) = (0, 0);
    }

    fn read_reg_c(&mut self) -> u8 {
        let was_high = self.irq_level();
        let flags = self.get(spec::REG_C);
        self.set(spec::REG_C, 0);
        self.irq_fell |= was_high;
        if self.lost_ticks > 0 && self.reinjected < REINJECT_MAX {
            self.lost_ticks -= 1;
            self.reinjected += 1;
            self.set(spec::REG_C, spec::REG_C_PF);
        }
        if was_high { flags | spec::REG_C_IRQF } else { flags }
    }

    fn write_reg_a(&mut self, value: u8, now_ns: u64) -> Option<i64> {
        let old = self.period();
        self.refresh_time(now_ns);
        let was_divided = self.is_divided();
        if (self.get(spec::REG_A) ^ value) & spec::REG_A_RS != 0 {
            self.periodic_after_reset = None;
        }
        self.set(spec::REG_A, value & !spec::REG_A_UIP);
        if self.period() != old {
            self.change_period(old, signed(now_ns));
        }
        if was_divided || self.get(spec::REG_A) & spec::REG_A_DV > spec::REG_A_DV_MAX || !self.is_updated() {
            return None;
        }
        self.offset_ns = NS_PER_SECOND - spec::FIRST_UPDATE_NS;
        Some(self.start_clock(now_ns))
    }

    fn write_reg_b(&mut self, value: u8, now_ns: u64) -> Option<i64> {
        self.refresh_time(now_ns);
        let (was_updated, old) = (self.is_updated(), self.period());
        let set = value & spec::REG_B_SET != 0;
        self.set(spec::REG_B, if set { value & !spec::REG_B_UIE } else { value });
        if self.period() != old {
            self.change_period(old, signed(now_ns));
        }
        let starts = self.is_updated() && !was_updated;
        starts.then(|| {
            self.offset_ns = self.elapsed(signed(now_ns)) % NS_PER_SECOND;
            self.start_clock(now_ns)
        })
    }

    /// Lets the clock count from what the registers show.
    fn start_clock(&mut self, now_ns: u64) -> i64 {
        let now = signed(now_ns);
        let seconds = self.load_time();
        self.origin_seconds = seconds;
        self.origin_ns = now.saturating_sub(self.offset_ns);
        seconds
    }

    fn format(&self) -> Format {
        Format(self.get(spec::REG_B))
    }

    fn alarm(&self) -> Alarm {
        let format = self.format();
        let field = |index: u8, decode: fn(Format, u8) -> i64| {
            let byte = self.get(index);
            (byte & spec::ALARM_DONT_CARE != spec::ALARM_DONT_CARE).then(|| decode(format, byte))
        };
        Alarm {
            hour: field(spec::HOURS_ALARM, Format::decode_hour),
            minute: field(spec::MINUTES_ALARM, Format::decode),
            second: field(spec::SECONDS_ALARM, Format::decode),
        }
    }

    /// Brings the time registers up to `now_ns`, if they advance.
    fn refresh_time(&mut self, now_ns: u64) {
        if self.is_updated() {
            self.store_time(self.running_seconds(signed(now_ns)));
        }
    }

    fn store_time(&mut self, seconds: i64) {
        let format = self.format();
        let date = Date::from_seconds(seconds);
        let year = date.year - i64::from(self.base_year);
        self.set(spec::SECONDS, format.encode(date.second));
        self.set(spec::MINUTES, format.encode(date.minute));
        self.set(spec::HOURS, format.encode_hour(date.hour));
        self.set(spec::DAY_OF_WEEK, format.encode(date::day_of_week(seconds)));
        self.set(spec::DAY_OF_MONTH, format.encode(date.day));
        self.set(spec::MONTH, format.encode(date.month));
        self.set(spec::YEAR, format.encode(year.rem_euclid(100)));
        self.set(spec::CENTURY, format.encode(year.div_euclid(100)));
    }

    fn load_time(&self) -> i64 {
        let format = self.format();
        let field = |index: u8| format.decode(self.get(index));
        let date = Date {
            year: i64::from(self.base_year) + field(spec::CENTURY) * 100 + field(spec::YEAR),
            month: field(spec::MONTH),
            day: field(spec::DAY_OF_MONTH),
            hour: format.decode_hour(self.get(spec::HOURS)),
            minute: field(spec::MINUTES),
            second: field(spec::SECONDS),
        };
        date.to_seconds()
    }
}

/// Whether the register at `index` is part of the time.
fn is_time(index: u8) -> bool {
    matches!(
        index,
        spec::SECONDS
            | spec::MINUTES
            | spec::HOURS
            | spec::DAY_OF_WEEK
            | spec::DAY_OF_MONTH
            | spec::MONTH
            | spec::YEAR
            | spec::CENTURY
    )
}

/// A time in whole periods of the crystal.
fn clock(ns: i64) -> i64 {
    ns / NS_PER_SECOND * spec::CRYSTAL_HZ + ns % NS_PER_SECOND * spec::CRYSTAL_HZ / NS_PER_SECOND
}

/// When the periodic interrupt of so many periods of the crystal comes: in QEMU in the first nanosecond after them.
fn periodic_time(periods: i64) -> i64 {
    let (seconds, rest) = (periods / spec::CRYSTAL_HZ, periods % spec::CRYSTAL_HZ);
    seconds.saturating_mul(NS_PER_SECOND).saturating_add(rest * NS_PER_SECOND / spec::CRYSTAL_HZ + 1)
}

/// The last number of periods that had [`periodic_time`] by `ns`.
fn periodic_clock(ns: i64) -> i64 {
    let periods = clock(ns);
    if periodic_time(periods) > ns { periods - 1 } else { periods }
}

/// Virtual time as a signed number, which lasts 292 years.
fn signed(now_ns: u64) -> i64 {
    i64::try_from(now_ns).unwrap_or(i64::MAX)
}
