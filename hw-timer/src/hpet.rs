//! The high precision event timer: IA-PC HPET specification 1.0a, with the choices of QEMU's hw/timer/hpet.c.
//!
//! Reads never change the chip. Writes and expiries return what the device around it has to do.

pub mod spec;

use serde::{Deserialize, Serialize};

/// A periodic timer is not run more often than this, whatever period the guest asks for (as QEMU).
const MIN_PERIODIC_INTERVAL_NS: u64 = 100_000;

/// What the device around the chip has to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpetAction {
    /// Set interrupt line `line` to `level`.
    SetIrq {
        /// Interrupt line, 0–31.
        line: u8,
        /// New level.
        level: bool,
    },
    /// Raise and lower interrupt line `line`.
    PulseIrq {
        /// Interrupt line, 0–31.
        line: u8,
    },
    /// Write `data` to `address` as a message-signalled interrupt.
    Msi {
        /// Message address.
        address: u32,
        /// Message data.
        data: u32,
    },
    /// Connect (true) or disconnect (false) the i8254's interrupt: legacy replacement takes its line.
    PitEnabled(bool),
}

/// The interrupts that pass through the HPET and are cut off under legacy replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyInput {
    /// The i8254's output.
    Pit,
    /// The real-time clock's output.
    Rtc,
}

/// One comparator.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Timer {
    config: u64,
    comparator: u64,
    fsb_route: u64,
    period: u64,
    /// The next deadline is the wrap of the 32-bit counter; the comparator's match comes after it.
    wrap_first: bool,
    deadline_ns: Option<u64>,
}

impl Timer {
    fn has(&self, bit: u64) -> bool {
        self.config & bit != 0
    }

    fn is_32bit(&self) -> bool {
        self.has(spec::TN_32MODE_CNF)
    }

    fn repeats(&self) -> bool {
        self.has(spec::TN_TYPE_CNF) && self.period != 0
    }

    /// The largest value of the comparator.
    fn value_mask(&self) -> u64 {
        if self.is_32bit() { u32::MAX.into() } else { u64::MAX }
    }

    /// Counter ticks from `counter` to the match; 1 if it has just been missed.
    fn ticks_to_match(&self, counter: u64) -> u64 {
        let ahead = self.comparator.wrapping_sub(counter);
        let signed = if self.is_32bit() { i64::from(ahead as i32) } else { ahead as i64 };
        signed.max(1) as u64
    }

    /// The comparator of a periodic timer after every period that ended by `counter`.
    fn accumulated(&self, counter: u64) -> u64 {
        let behind = counter.wrapping_sub(self.comparator);
        let behind = if self.is_32bit() { i64::from(behind as i32) } else { behind as i64 };
        match u64::try_from(behind) {
            Ok(behind) if self.repeats() => {
                let periods = behind / self.period + 1;
                self.comparator.wrapping_add(periods.wrapping_mul(self.period)) & self.value_mask()
            }
            _ => self.comparator,
        }
    }
}

/// The HPET's registers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hpet {
    timers: Vec<Timer>,
    /// Tn_INT_ROUTE_CAP of every timer.
    route_cap: u32,
    msi: bool,
    config: u64,
    status: u32,
    /// The counter when it was halted, or started at `started_ns`.
    count: u64,
    started_ns: u64,
    pit_level: bool,
    rtc_level: bool,
    /// Levels of the interrupt lines as last told to the outside.
    lines: u32,
}

impl Hpet {
    /// A block of `timers` comparators (brought into 3–32 as QEMU does) that can reach the I/O APIC inputs in
    /// `route_cap` (property `hpet-intcap`) and, with `msi`, send messages.
    pub fn new(timers: u8, route_cap: u32, msi: bool) -> Self {
        let count = timers.clamp(spec::MIN_TIMERS, spec::MAX_TIMERS);
        let mut config = spec::TN_PER_INT_CAP | spec::TN_SIZE_CAP;
        config |= u64::from(route_cap) << spec::TN_INT_ROUTE_CAP_SHIFT;
        if msi {
            config |= spec::TN_FSB_INT_DEL_CAP;
        }
        let timer = Timer {
            config,
            comparator: u64::MAX,
            fsb_route: 0,
            period: 0,
            wrap_first: false,
            deadline_ns: None,
        };
        Self {
            timers: vec![timer; count.into()],
            route_cap,
            msi,
            config: 0,
            status: 0,
            count: 0,
            started_ns: 0,
            pit_level: false,
            rtc_level: false,
            lines: 0,
        }
    }

    /// Whether `other` has the same capabilities.
    pub fn is_alike(&self, other: &Self) -> bool {
        let fixed = |hpet: &Self| (hpet.timers.len(), hpet.route_cap, hpet.msi);
        fixed(self) == fixed(other)
    }

    /// What brings the lines up to the chip's state, whatever they were before.
    #[must_use]
    pub fn levels(&self) -> Vec<HpetAction> {
        (0..32).map(|line| HpetAction::SetIrq { line, level: self.line_level(line) }).collect()
    }

    /// Returns to the state after power-on: halted, all lines low, the PIT connected.
    #[must_use]
    pub fn reset(&mut self) -> Vec<HpetAction> {
        let lines = self.lines;
        *self = Self::new(self.timers.len() as u8, self.route_cap, self.msi);
        self.lines = lines;
        let mut actions = vec![HpetAction::PitEnabled(true)];
        self.update_lines(&mut actions);
        actions
    }

    /// General Capabilities and ID; its low half is the event timer block id of the ACPI HPET table.
    pub fn capabilities(&self) -> u64 {
        let last = (self.timers.len() as u64).saturating_sub(1);
        spec::GCAP_ID_FIXED
            | last << spec::NUM_TIM_CAP_SHIFT
            | spec::COUNTER_CLK_PERIOD_FS << spec::COUNTER_CLK_PERIOD_SHIFT
    }

    /// The main counter at `now_ns`.
    #[inline]
    pub fn counter(&self, now_ns: u64) -> u64 {
        if self.enabled() { self.count.wrapping_add(self.ticks_since_start(now_ns)) } else { self.count }
    }

    /// Reads `size` bytes (4 or 8, aligned) at `offset`; anything else reads 0.
    #[inline]
    pub fn read(&self, offset: u64, size: u32, now_ns: u64) -> u64 {
        // Guests read the counter a great deal more often than anything else.
        if offset == spec::MAIN_CNT {
            let counter = self.counter(now_ns);
            return if size == 8 { counter } else { counter & u64::from(u32::MAX) };
        }
        match lanes(offset, size) {
            Some((shift, mask)) => (self.read_register(offset & !7, now_ns) & mask) >> shift,
            None => 0,
        }
    }

    fn read_register(&self, register: u64, now_ns: u64) -> u64 {
        match register {
            spec::GCAP_ID => self.capabilities(),
            spec::GEN_CONF => self.config,
            spec::GINTR_STA => self.status.into(),
            spec::MAIN_CNT => self.counter(now_ns),
            _ => {
                let Some((number, register)) = timer_register(register) else { return 0 };
                let Some(timer) = self.timers.get(number) else { return 0 };
                match register {
                    spec::TIMER_CONF => timer.config,
                    spec::TIMER_COMPARATOR if self.enabled() => timer.accumulated(self.counter(now_ns)),
                    spec::TIMER_COMPARATOR => timer.comparator,
                    spec::TIMER_FSB_ROUTE => timer.fsb_route,
                    _ => 0,
                }
            }
        }
    }

    /// Writes `size` bytes (4 or 8, aligned) at `offset`; anything else is ignored.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u64, size: u32, now_ns: u64) -> Vec<HpetAction> {
        let mut actions = Vec::new();
        let Some((shift, mask)) = lanes(offset, size) else { return actions };
        let value = (value << shift) & mask;
        match offset & !7 {
            spec::GEN_CONF => self.write_config(self.config & !mask | value, now_ns, &mut actions),
            spec::GINTR_STA => self.status &= !(value as u32),
            spec::MAIN_CNT if !self.enabled() => self.count = self.count & !mask | value,
            register => {
                if let Some((number, register)) = timer_register(register) {
                    self.write_timer(number, register, value, mask, now_ns);
                }
            }
        }
        self.update_lines(&mut actions);
        actions
    }

    fn write_config(&mut self, value: u64, now_ns: u64, actions: &mut Vec<HpetAction>) {
        let value = value & (spec::ENABLE_CNF | spec::LEG_RT_CNF);
        let changed = self.config ^ value;
        let counter = self.counter(now_ns);
        self.config = value;
        if changed & spec::ENABLE_CNF != 0 {
            self.count = counter;
            self.started_ns = now_ns;
            for number in 0..self.timers.len() {
                self.arm(number, now_ns);
            }
            if !self.enabled() {
                self.status = 0;
            }
        }
        if changed & spec::LEG_RT_CNF != 0 {
            actions.push(HpetAction::PitEnabled(self.pit_enabled()));
        }
    }

    fn write_timer(&mut self, number: usize, register: u64, value: u64, mask: u64, now_ns: u64) {
        let Some(timer) = self.timers.get_mut(number) else { return };
        match register {
            spec::TIMER_CONF => self.write_timer_config(number, value, mask, now_ns),
            spec::TIMER_COMPARATOR => {
                let periodic = timer.has(spec::TN_TYPE_CNF);
                if !periodic || timer.has(spec::TN_VAL_SET_CNF) {
                    timer.comparator = (timer.comparator & !mask | value) & timer.value_mask();
                }
                if periodic {
                    // Without the top bit, so that the sign of a difference tells past from future (as QEMU).
                    timer.period = (timer.period & !mask | value) & (timer.value_mask() >> 1);
                }
                timer.config &= !spec::TN_VAL_SET_CNF;
                self.arm(number, now_ns);
            }
            spec::TIMER_FSB_ROUTE => timer.fsb_route = timer.fsb_route & !mask | value,
            _ => {}
        }
    }

    fn write_timer_config(&mut self, number: usize, value: u64, mask: u64, now_ns: u64) {
        let Some(timer) = self.timers.get_mut(number) else { return };
        let old = timer.config;
        let mut writable = spec::TN_CONF_WRITABLE & mask;
        if !timer.has(spec::TN_FSB_INT_DEL_CAP) {
            writable &= !spec::TN_FSB_EN_CNF;
        }
        timer.config = old & !writable | value & writable;
        timer.comparator &= timer.value_mask();
        timer.period &= timer.value_mask();
        // Only an enabled, level-triggered line keeps an interrupt pending.
        if !timer.has(spec::TN_INT_ENB_CNF)
            || !timer.has(spec::TN_INT_TYPE_CNF)
            || timer.has(spec::TN_FSB_EN_CNF)
        {
            self.status &= !(1 << number);
        }
        if (old ^ timer.config) & spec::TN_INT_ENB_CNF != 0 {
            self.arm(number, now_ns);
        }
    }

    /// Tells the chip that the line of `input` is at `level`.
    #[must_use]
    pub fn set_legacy_input(&mut self, input: LegacyInput, level: bool) -> Vec<HpetAction> {
        match input {
            LegacyInput::Pit => self.pit_level = level,
            LegacyInput::Rtc => self.rtc_level = level,
        }
        let mut actions = Vec::new();
        self.update_lines(&mut actions);
        actions
    }

    /// The level of an interrupt line.
    pub fn line_level(&self, line: u8) -> bool {
        self.lines.checked_shr(line.into()).is_some_and(|lines| lines & 1 != 0)
    }

    /// Whether the PIT's output reaches its line.
    pub fn pit_enabled(&self) -> bool {
        !self.legacy_replacement()
    }

    /// The virtual time at which [`Self::expire`] is next due.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.iter().filter_map(|timer| timer.deadline_ns).min()
    }

    /// Fires every timer whose deadline is at or before `now_ns`, each once.
    #[must_use]
    pub fn expire(&mut self, now_ns: u64) -> Vec<HpetAction> {
        let mut actions = Vec::new();
        for number in 0..self.timers.len() {
            let due = self.timers.get(number).and_then(|timer| timer.deadline_ns);
            if let Some(deadline_ns) = due.filter(|&deadline_ns| deadline_ns <= now_ns) {
                self.rearm(number, deadline_ns, now_ns);
                self.fire(number, &mut actions);
            }
        }
        self.update_lines(&mut actions);
        actions
    }

    #[inline]
    fn enabled(&self) -> bool {
        self.config & spec::ENABLE_CNF != 0
    }

    fn legacy_replacement(&self) -> bool {
        self.config & spec::LEG_RT_CNF != 0
    }

    #[inline]
    fn ticks_since_start(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.started_ns) / spec::COUNTER_CLK_PERIOD_NS
    }

    /// When the counter will have advanced by `ticks`; `None` if that is beyond the end of time.
    fn time_after(&self, ticks: u64, now_ns: u64) -> Option<u64> {
        let total = self.ticks_since_start(now_ns).checked_add(ticks)?;
        self.started_ns.checked_add(total.checked_mul(spec::COUNTER_CLK_PERIOD_NS)?)
    }

    /// Sets the deadline of a timer whose comparator was written or which has been switched on or off.
    fn arm(&mut self, number: usize, now_ns: u64) {
        let counter = self.counter(now_ns);
        let running = self.enabled();
        let Some(timer) = self.timers.get_mut(number) else { return };
        timer.wrap_first = false;
        timer.deadline_ns = None;
        // All ones is the comparator's reset value: nothing was programmed.
        if !running || !timer.has(spec::TN_INT_ENB_CNF) || timer.comparator == u64::MAX {
            return;
        }
        timer.comparator = timer.accumulated(counter);
        let mut ticks = timer.ticks_to_match(counter);
        if timer.is_32bit() && !timer.has(spec::TN_TYPE_CNF) {
            // QEMU interrupts when the 32-bit counter wraps, too.
            let to_wrap = (1 << 32) - (counter & u64::from(u32::MAX));
            timer.wrap_first = to_wrap < ticks;
            ticks = ticks.min(to_wrap);
        }
        let deadline_ns = self.time_after(ticks, now_ns);
        self.set_deadline(number, deadline_ns);
    }

    /// Sets the deadline after the one at `deadline_ns` has come.
    fn rearm(&mut self, number: usize, deadline_ns: u64, now_ns: u64) {
        let counter = self.counter(now_ns);
        let Some(timer) = self.timers.get_mut(number) else { return };
        let next_ns = if timer.repeats() {
            timer.comparator = timer.accumulated(counter);
            let ticks = timer.ticks_to_match(counter);
            let earliest = deadline_ns.saturating_add(MIN_PERIODIC_INTERVAL_NS);
            self.time_after(ticks, now_ns).map(|next_ns| next_ns.max(earliest))
        } else if std::mem::take(&mut timer.wrap_first) {
            let ticks = timer.ticks_to_match(counter);
            self.time_after(ticks, now_ns)
        } else {
            None
        };
        self.set_deadline(number, next_ns);
    }

    fn set_deadline(&mut self, number: usize, deadline_ns: Option<u64>) {
        if let Some(timer) = self.timers.get_mut(number) {
            timer.deadline_ns = deadline_ns;
        }
    }

    fn fire(&mut self, number: usize, actions: &mut Vec<HpetAction>) {
        let Some(timer) = self.timers.get(number) else { return };
        let line = self.line(number, timer);
        if timer.has(spec::TN_FSB_EN_CNF) {
            actions.push(HpetAction::Msi {
                address: (timer.fsb_route >> 32) as u32,
                data: timer.fsb_route as u32,
            });
        } else if timer.has(spec::TN_INT_TYPE_CNF) {
            self.status |= 1 << number;
        } else if self.lines & 1 << line == 0 {
            actions.push(HpetAction::PulseIrq { line });
        }
    }

    fn line(&self, number: usize, timer: &Timer) -> u8 {
        match number {
            0 if self.legacy_replacement() => spec::LEGACY_TIMER0_IRQ,
            1 if self.legacy_replacement() => spec::LEGACY_TIMER1_IRQ,
            _ => ((timer.config & spec::TN_INT_ROUTE_CNF) >> spec::TN_INT_ROUTE_CNF_SHIFT) as u8,
        }
    }

    /// Tells every interrupt line whose level is no longer what the outside knows.
    fn update_lines(&mut self, actions: &mut Vec<HpetAction>) {
        let mut levels = 0u32;
        for (number, timer) in self.timers.iter().enumerate() {
            if self.status & 1 << number != 0 {
                levels |= 1 << self.line(number, timer);
            }
        }
        if !self.legacy_replacement() {
            levels |= u32::from(self.pit_level) << spec::LEGACY_TIMER0_IRQ;
            levels |= u32::from(self.rtc_level) << spec::LEGACY_TIMER1_IRQ;
        }
        let changed = levels ^ self.lines;
        self.lines = levels;
        for line in (0..u32::BITS as u8).filter(|line| changed & 1 << line != 0) {
            actions.push(HpetAction::SetIrq { line, level: levels & 1 << line != 0 });
        }
    }
}

/// Where an access lies in its 64-bit register: the shift and the mask of its bytes.
fn lanes(offset: u64, size: u32) -> Option<(u32, u64)> {
    match (size, offset % 8) {
        (8, 0) => Some((0, u64::MAX)),
        (4, 0) => Some((0, 0xffff_ffff)),
        (4, 4) => Some((32, 0xffff_ffff << 32)),
        _ => None,
    }
}

/// The timer that `register` belongs to, and which of its registers it is.
fn timer_register(register: u64) -> Option<(usize, u64)> {
    if register >= spec::REGISTER_SPACE {
        return None;
    }
    let offset = register.checked_sub(spec::TIMER_BASE)?;
    Some(((offset / spec::TIMER_STRIDE) as usize, offset % spec::TIMER_STRIDE))
}
