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

    /// A difference of counts as a number with a sign, in the timer's width.
    fn signed(&self, difference: u64) -> i64 {
        if self.is_32bit() { i64::from(difference as i32) } else { difference as i64 }
    }

    /// Counter ticks from `counter` to the match; 1 if that is now or has been missed.
    fn ticks_to_match(&self, counter: u64) -> u64 {
        self.signed(self.comparator.wrapping_sub(counter)).max(1) as u64
    }

    /// Moves a periodic timer's comparator on by periods until the counter has not passed it.
    fn accumulate(&mut self, counter: u64) {
        let behind = self.signed(counter.wrapping_sub(self.comparator));
        if let (Ok(behind), true) = (u64::try_from(behind), self.period != 0) {
            let periods = behind.div_ceil(self.period);
            let comparator = self.comparator.wrapping_add(periods.wrapping_mul(self.period));
            let moved = if self.is_32bit() { comparator & u64::from(u32::MAX) } else { comparator };
            self.comparator = if periods > 0 { moved } else { self.comparator };
        }
    }

    /// Sets the deadline to when the counter will have advanced by `ticks`; none if that is beyond the end of time.
    fn arm(&mut self, ticks: u64, now_ns: u64) {
        let far = i64::MAX as u64 / 2 / spec::COUNTER_CLK_PERIOD_NS;
        self.deadline_ns = (ticks < far).then(|| now_ns.saturating_add(ticks * spec::COUNTER_CLK_PERIOD_NS));
    }

    /// Sets the deadline after the comparator was written or the timer switched on.
    fn start(&mut self, counter: u64, now_ns: u64) {
        self.wrap_first = false;
        let mut ticks = self.ticks_to_match(counter);
        if self.is_32bit() && !self.has(spec::TN_TYPE_CNF) {
            // QEMU interrupts when the 32-bit counter wraps, too: with its last value.
            let to_wrap = u64::from(u32::MAX - counter as u32);
            self.wrap_first = to_wrap < ticks;
            ticks = ticks.min(to_wrap);
        }
        self.arm(ticks, now_ns);
    }

    /// Sets the deadline after the one at `deadline_ns` has come.
    fn restart(&mut self, deadline_ns: u64, counter: u64, now_ns: u64) {
        self.deadline_ns = None;
        if self.has(spec::TN_TYPE_CNF) && self.period != 0 {
            self.accumulate(counter);
            self.arm(self.ticks_to_match(counter), now_ns);
            if self.period < MIN_PERIODIC_INTERVAL_NS / spec::COUNTER_CLK_PERIOD_NS {
                let earliest = deadline_ns.saturating_add(MIN_PERIODIC_INTERVAL_NS);
                self.deadline_ns = self.deadline_ns.map(|next_ns| next_ns.max(earliest));
            }
        } else if self.wrap_first && self.is_32bit() && !self.has(spec::TN_TYPE_CNF) {
            self.wrap_first = false;
            self.arm(self.ticks_to_match(counter), now_ns);
        }
    }

    /// Writes half of the comparator, or of the period.
    fn write_comparator(&mut self, value: u32, high: bool) {
        let half = |old: u64, new: u32| match high {
            true => old & u64::from(u32::MAX) | u64::from(new) << 32,
            false => old & u64::from(u32::MAX) << 32 | u64::from(new),
        };
        let periodic = self.has(spec::TN_TYPE_CNF);
        let sets = !periodic || self.has(spec::TN_VAL_SET_CNF);
        if sets {
            self.comparator = half(self.comparator, value);
        }
        // QEMU takes the upper half for the one or the other, the lower for both.
        if periodic && !(high && sets) {
            let top = if self.is_32bit() { u32::MAX >> 1 } else { u32::MAX };
            self.period = half(self.period, value & top);
        }
        self.config &= !spec::TN_VAL_SET_CNF;
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
    /// The counter when it was halted.
    count: u64,
    /// While it runs: what is added to the time to give the counter's, modulo 2 to the power of 64.
    offset_ns: u64,
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
            offset_ns: 0,
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

    /// Returns to the state after power-on: halted, all lines low, the PIT connected. Where messages go stays.
    #[must_use]
    pub fn reset(&mut self) -> Vec<HpetAction> {
        let mut actions = Vec::new();
        (0..32).for_each(|line| self.set_line(line, false, &mut actions));
        actions.push(HpetAction::PitEnabled(true));
        let routes: Vec<u64> = self.timers.iter().map(|timer| timer.fsb_route).collect();
        *self = Self::new(self.timers.len() as u8, self.route_cap, self.msi);
        self.timers.iter_mut().zip(routes).for_each(|(timer, route)| timer.fsb_route = route);
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
        match self.enabled() {
            true => now_ns.wrapping_add(self.offset_ns) / spec::COUNTER_CLK_PERIOD_NS,
            false => self.count,
        }
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
                    spec::TIMER_COMPARATOR => timer.comparator,
                    spec::TIMER_FSB_ROUTE => timer.fsb_route,
                    _ => 0,
                }
            }
        }
    }

    /// Writes `size` bytes (4 or 8, aligned) at `offset`; anything else is ignored. Eight are four and four, as in QEMU.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u64, size: u32, now_ns: u64) -> Vec<HpetAction> {
        let mut actions = Vec::new();
        match (size, offset % 8) {
            (8, 0) => {
                self.write_half(offset, value as u32, now_ns, &mut actions);
                self.write_half(offset | 4, (value >> 32) as u32, now_ns, &mut actions);
            }
            (4, 0 | 4) => self.write_half(offset, value as u32, now_ns, &mut actions),
            _ => {}
        }
        actions
    }

    fn write_half(&mut self, offset: u64, value: u32, now_ns: u64, actions: &mut Vec<HpetAction>) {
        match offset {
            spec::GEN_CONF => self.write_config(value, now_ns, actions),
            spec::GINTR_STA => {
                let ended = value & self.status;
                for number in (0..self.timers.len()).filter(|number| ended >> number & 1 != 0) {
                    self.end(number, actions);
                }
            }
            _ if offset & !4 == spec::MAIN_CNT => {
                let shift = (offset & 4) * 8;
                if !self.enabled() {
                    self.count = self.count & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
                }
            }
            _ => {
                if let Some((number, register)) = timer_register(offset) {
                    self.write_timer(number, register, value, now_ns, actions);
                }
            }
        }
    }

    fn write_config(&mut self, value: u32, now_ns: u64, actions: &mut Vec<HpetAction>) {
        let value = u64::from(value) & (spec::ENABLE_CNF | spec::LEG_RT_CNF);
        let changed = self.config ^ value;
        let counter = self.counter(now_ns);
        self.config = value;
        if changed & spec::ENABLE_CNF != 0 {
            self.count = counter;
            if self.enabled() {
                self.offset_ns = counter.wrapping_mul(spec::COUNTER_CLK_PERIOD_NS).wrapping_sub(now_ns);
                let counter = self.counter(now_ns);
                // All ones is the comparator's reset value: nothing was programmed.
                let set = self.timers.iter_mut().filter(|timer| timer.comparator != u64::MAX);
                set.for_each(|timer| timer.start(counter, now_ns));
            } else {
                (0..self.timers.len()).for_each(|number| self.stop(number, actions));
            }
        }
        if changed & spec::LEG_RT_CNF != 0 {
            self.switch_legacy(actions);
        }
    }

    /// The lines of PIT and RTC change hands.
    fn switch_legacy(&mut self, actions: &mut Vec<HpetAction>) {
        if self.legacy_replacement() {
            actions.push(HpetAction::PitEnabled(false));
            self.set_line(spec::LEGACY_TIMER0_IRQ, false, actions);
            self.set_line(spec::LEGACY_TIMER1_IRQ, false, actions);
        } else {
            self.set_line(spec::LEGACY_TIMER0_IRQ, false, actions);
            actions.push(HpetAction::PitEnabled(true));
            self.set_line(spec::LEGACY_TIMER1_IRQ, self.rtc_level, actions);
        }
    }

    fn write_timer(
        &mut self,
        number: usize,
        register: u64,
        value: u32,
        now_ns: u64,
        actions: &mut Vec<HpetAction>,
    ) {
        let counter = self.counter(now_ns);
        let running = self.enabled();
        let Some(timer) = self.timers.get_mut(number) else { return };
        match register & !4 {
            spec::TIMER_CONF if register & 4 == 0 => self.write_timer_config(number, value, now_ns, actions),
            spec::TIMER_COMPARATOR => {
                timer.write_comparator(value, register & 4 != 0);
                if running {
                    timer.start(counter, now_ns);
                }
            }
            spec::TIMER_FSB_ROUTE => {
                let shift = (register & 4) * 8;
                timer.fsb_route =
                    timer.fsb_route & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
            }
            _ => {}
        }
    }

    fn write_timer_config(&mut self, number: usize, value: u32, now_ns: u64, actions: &mut Vec<HpetAction>) {
        let Some(timer) = self.timers.get(number) else { return };
        let (old, new) = (timer.config, u64::from(value));
        if !old & new & spec::TN_FSB_EN_CNF != 0 {
            self.end(number, actions);
        }
        let counter = self.counter(now_ns);
        let running = self.enabled();
        let Some(timer) = self.timers.get_mut(number) else { return };
        timer.config = old & !spec::TN_CONF_WRITABLE | new & spec::TN_CONF_WRITABLE;
        if timer.is_32bit() {
            timer.comparator &= u64::from(u32::MAX);
            timer.period &= u64::from(u32::MAX);
        }
        if !old & new & spec::TN_INT_ENB_CNF != 0 && running {
            timer.start(counter, now_ns);
        } else if old & !new & spec::TN_INT_ENB_CNF != 0 {
            self.stop(number, actions);
        }
    }

    /// Tells the chip that the line of `input` is at `level`.
    #[must_use]
    pub fn set_legacy_input(&mut self, input: LegacyInput, level: bool) -> Vec<HpetAction> {
        let line = match input {
            LegacyInput::Pit => spec::LEGACY_TIMER0_IRQ,
            LegacyInput::Rtc => {
                self.rtc_level = level;
                spec::LEGACY_TIMER1_IRQ
            }
        };
        let mut actions = Vec::new();
        if !self.legacy_replacement() {
            self.set_line(line, level, &mut actions);
        }
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
                let counter = self.counter(now_ns);
                if let Some(timer) = self.timers.get_mut(number) {
                    timer.restart(deadline_ns, counter, now_ns);
                }
                self.fire(number, &mut actions);
            }
        }
        actions
    }

    #[inline]
    fn enabled(&self) -> bool {
        self.config & spec::ENABLE_CNF != 0
    }

    fn legacy_replacement(&self) -> bool {
        self.config & spec::LEG_RT_CNF != 0
    }

    /// Switches a timer off (`hpet_del_timer`).
    fn stop(&mut self, number: usize, actions: &mut Vec<HpetAction>) {
        if let Some(timer) = self.timers.get_mut(number) {
            timer.deadline_ns = None;
        }
        self.end(number, actions);
    }

    /// Ends a timer's interrupt: its line falls, whoever else drives it.
    fn end(&mut self, number: usize, actions: &mut Vec<HpetAction>) {
        self.status &= !(1 << number);
        let Some(timer) = self.timers.get(number) else { return };
        if !timer.has(spec::TN_FSB_EN_CNF) {
            self.set_line(self.line(number, timer), false, actions);
        }
    }

    fn fire(&mut self, number: usize, actions: &mut Vec<HpetAction>) {
        let Some(timer) = self.timers.get(number) else { return };
        let line = self.line(number, timer);
        if !timer.has(spec::TN_INT_ENB_CNF) || !self.enabled() {
            self.end(number, actions);
        } else if timer.has(spec::TN_FSB_EN_CNF) {
            actions.push(HpetAction::Msi {
                address: (timer.fsb_route >> 32) as u32,
                data: timer.fsb_route as u32,
            });
        } else if timer.has(spec::TN_INT_TYPE_CNF) {
            self.status |= 1 << number;
            self.set_line(line, true, actions);
        } else {
            self.status &= !(1 << number);
            self.lines &= !(1 << line);
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

    /// Sets an interrupt line.
    fn set_line(&mut self, line: u8, level: bool, actions: &mut Vec<HpetAction>) {
        if self.line_level(line) != level {
            self.lines ^= 1 << line;
            actions.push(HpetAction::SetIrq { line, level });
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
