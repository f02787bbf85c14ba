//! The 8254 programmable interval timer: Intel 8254 data sheet, with the choices of QEMU's hw/timer/i8254.c.
//!
//! As in QEMU a count starts the moment it is written, also in modes 2 and 3 in the middle of a period.
//! OUT of counter 0 is interrupt line 0: calls that can change it return the levels to set the line to, in
//! this order. Edges that were missed because the caller came late are one edge.

mod counter;
mod registers;
pub mod spec;

use serde::{Deserialize, Serialize};
use util::clock::{ticks_at, time_of_tick};

use counter::Counter;
pub use registers::CounterRegisters;

/// Interrupts do not come more often than this, whatever count the guest writes.
const MIN_INTERRUPT_INTERVAL_NS: u64 = 50_000;

/// The three counters and the interrupt line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct I8254 {
    counters: [Counter; spec::COUNTERS],
    irq_enabled: bool,
    irq_level: bool,
    /// The tick up to which the interrupt line has followed OUT.
    irq_tick: u64,
    /// No interrupt is due before this.
    earliest_ns: u64,
}

impl Default for I8254 {
    fn default() -> Self {
        Self::new(0)
    }
}

impl I8254 {
    /// The state after power-on at `now_ns`: square waves of 18.2 Hz; the gate of counter 2 is low.
    pub fn new(now_ns: u64) -> Self {
        let tick = ticks(now_ns);
        Self {
            counters: [true, true, false].map(|gate| Counter::new(gate, tick)),
            irq_enabled: true,
            // Not told to the outside: the first edge comes with the end of the first period.
            irq_level: true,
            irq_tick: tick,
            earliest_ns: 0,
        }
    }

    /// Returns to the state after power-on, but for what [`Self::set_irq_enabled`] set.
    pub fn reset(&mut self, now_ns: u64) {
        *self = Self { irq_enabled: self.irq_enabled, ..Self::new(now_ns) };
    }

    /// Whether it is a state that the chip can come to: one read from a file may be none.
    pub fn is_possible(&self) -> bool {
        self.counters.iter().all(Counter::is_possible)
    }

    /// Reads port `offset` (0–3).
    pub fn read(&mut self, offset: u64, now_ns: u64) -> u8 {
        self.counter_mut(offset).map_or(0, |counter| counter.read(ticks(now_ns)))
    }

    /// Writes port `offset` (0–3).
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u8, now_ns: u64) -> Vec<bool> {
        let mut levels = self.follow_out(now_ns);
        let tick = ticks(now_ns);
        if offset == spec::CONTROL {
            self.write_control(value, tick);
        } else if let Some(counter) = self.counter_mut(offset) {
            counter.write(value, tick);
        }
        levels.extend(self.follow_out(now_ns));
        levels
    }

    fn write_control(&mut self, word: u8, tick: u64) {
        let number = word >> spec::SC_SHIFT;
        match self.counter_mut(number.into()) {
            None => self.read_back(word, tick),
            Some(counter) if word >> spec::RW_SHIFT & spec::RW_MASK == 0 => counter.latch_count(tick),
            Some(counter) => counter.program(word),
        }
    }

    fn read_back(&mut self, command: u8, tick: u64) {
        for (number, counter) in self.counters.iter_mut().enumerate() {
            if command >> spec::READ_BACK_COUNTER_SHIFT >> number & 1 == 0 {
                continue;
            }
            if command & spec::READ_BACK_NO_COUNT == 0 {
                counter.latch_count(tick);
            }
            if command & spec::READ_BACK_NO_STATUS == 0 {
                counter.latch_status(tick);
            }
        }
    }

    /// The GATE pin of counter `number`.
    pub fn gate(&self, number: usize) -> bool {
        self.counters.get(number).is_some_and(Counter::gate)
    }

    /// Sets the GATE pin of counter `number`; on a PC only that of counter 2 is wired, to port 0x61.
    #[must_use]
    pub fn set_gate(&mut self, number: usize, level: bool, now_ns: u64) -> Vec<bool> {
        let mut levels = self.follow_out(now_ns);
        if let Some(counter) = self.counters.get_mut(number) {
            counter.set_gate(level, ticks(now_ns));
        }
        levels.extend(self.follow_out(now_ns));
        levels
    }

    /// The OUT pin of counter `number`.
    pub fn out(&self, number: usize, now_ns: u64) -> bool {
        self.counters.get(number).is_some_and(|counter| counter.out(ticks(now_ns)))
    }

    /// Connects the interrupt line to OUT of counter 0 or cuts it off, as the HPET's legacy replacement does.
    #[must_use]
    pub fn set_irq_enabled(&mut self, enabled: bool, now_ns: u64) -> Vec<bool> {
        let mut levels = self.follow_out(now_ns);
        self.irq_enabled = enabled;
        if enabled {
            // What happened in between is not made up for.
            self.irq_tick = ticks(now_ns);
        }
        levels.extend(self.follow_out(now_ns));
        levels
    }

    /// The level of the interrupt line, once it changed for the first time.
    pub fn irq_level(&self) -> bool {
        self.irq_level
    }

    /// The virtual time at which [`Self::expire`] is next due: OUT of counter 0 rises.
    pub fn next_deadline(&self) -> Option<u64> {
        let counter = self.counters.first().filter(|_| self.irq_enabled)?;
        let rise = counter.next_rise(self.irq_tick)?;
        Some(tick_time(rise).max(self.earliest_ns))
    }

    /// Brings the interrupt line up to `now_ns`.
    #[must_use]
    pub fn expire(&mut self, now_ns: u64) -> Vec<bool> {
        if let Some(deadline_ns) = self.next_deadline().filter(|&deadline_ns| deadline_ns <= now_ns) {
            self.earliest_ns = deadline_ns.saturating_add(MIN_INTERRUPT_INTERVAL_NS);
        }
        self.follow_out(now_ns)
    }

    /// The levels of the interrupt line since it was last looked at.
    fn follow_out(&mut self, now_ns: u64) -> Vec<bool> {
        let mut levels = Vec::new();
        let Some(counter) = self.counters.first().filter(|_| self.irq_enabled) else { return levels };
        let tick = ticks(now_ns).max(self.irq_tick);
        let level = counter.out(tick);
        if counter.next_rise(self.irq_tick).is_some_and(|rise| rise <= tick) {
            if self.irq_level {
                levels.push(false);
            }
            levels.push(true);
            self.irq_level = true;
        }
        if level != self.irq_level {
            levels.push(level);
        }
        self.irq_level = level;
        self.irq_tick = tick;
        levels
    }

    fn counter_mut(&mut self, number: u64) -> Option<&mut Counter> {
        self.counters.get_mut(usize::try_from(number).ok()?)
    }
}

/// Ticks of the input clock since virtual time 0.
fn ticks(now_ns: u64) -> u64 {
    ticks_at(now_ns, spec::FREQUENCY)
}

/// The first virtual time at which [`ticks`] is `tick`.
fn tick_time(tick: u64) -> u64 {
    time_of_tick(tick, spec::FREQUENCY)
}
