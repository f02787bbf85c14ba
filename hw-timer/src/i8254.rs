//! The 8254 programmable interval timer, with the choices of QEMU's hw/timer/i8254.c, which are KVM's, too; register
//! names are those of the Intel 8254 data sheet.
//!
//! A count starts the moment it is written, also in modes 2 and 3 in the middle of a period, and its gate does not
//! stop it. OUT of counter 0 is interrupt line 0: calls that can change it return the levels to set the line to, in
//! this order. Edges that were missed because the caller came late are one edge.

mod counter;
pub mod spec;

use serde::{Deserialize, Serialize};

pub use counter::CounterRegisters;

/// Interrupts do not come more often than this, whatever count the guest writes.
const MIN_INTERRUPT_INTERVAL_NS: u64 = 50_000;

/// The three counters and the interrupt line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct I8254 {
    counters: [CounterRegisters; spec::COUNTERS],
    irq_enabled: bool,
    irq_level: bool,
    /// The mode of counter 0 when the interrupt line last changed or a count was loaded: a control word alone leaves the line.
    line_mode: u8,
    /// The virtual time up to which the interrupt line has followed counter 0.
    irq_ns: u64,
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
        let mut chip = Self {
            counters: Default::default(),
            irq_enabled: true,
            irq_level: false,
            line_mode: 0,
            irq_ns: 0,
            earliest_ns: 0,
        };
        chip.reset(now_ns);
        chip
    }

    /// A reset, which leaves what is latched. The interrupt line follows counter 0 again: the HPET, which is reset with this,
    /// has no edge come of it afterwards.
    pub fn reset(&mut self, now_ns: u64) {
        for (counter, gate) in self.counters.iter_mut().zip([true, true, false]) {
            counter.reset(gate, now_ns);
        }
        // Low until the end of the first period, or until the guest loads a count.
        (self.irq_level, self.irq_ns, self.earliest_ns) = (false, now_ns, 0);
        self.irq_enabled = true;
        self.line_mode = self.counters.first().map_or(0, |counter| counter.mode);
    }

    /// What SeaBIOS's `pit_setup` leaves: counter 0 a rate generator of 18.2 Hz (mode 2).
    #[must_use]
    pub fn set_up_as_firmware(&mut self, now_ns: u64) -> Vec<bool> {
        let writes = [(spec::CONTROL, spec::FIRMWARE_COUNTER_0), (0, 0), (0, 0)];
        writes.into_iter().flat_map(|(port, value)| self.write(port, value, now_ns)).collect()
    }

    /// Whether it is a state that the chip can come to: one read from a file may be none.
    pub fn is_possible(&self) -> bool {
        self.counters.iter().all(CounterRegisters::is_possible)
    }

    /// The registers of the counters.
    pub fn registers(&self) -> [CounterRegisters; spec::COUNTERS] {
        self.counters
    }

    /// The chip with these registers at `now_ns`; what no chip has is taken as far as it makes sense.
    pub fn from_registers(
        registers: &[CounterRegisters; spec::COUNTERS],
        irq_enabled: bool,
        now_ns: u64,
    ) -> Self {
        let counters = registers.map(CounterRegisters::possible);
        let [first, ..] = &counters;
        let irq_level = first.line(now_ns);
        Self { counters, irq_enabled, irq_level, line_mode: first.mode, irq_ns: now_ns, earliest_ns: 0 }
    }

    /// Whether the interrupt line follows counter 0.
    pub fn irq_enabled(&self) -> bool {
        self.irq_enabled
    }

    /// Reads port `offset` (0–3).
    pub fn read(&mut self, offset: u64, now_ns: u64) -> u8 {
        self.counter_mut(offset).map_or(0, |counter| counter.read(now_ns))
    }

    /// Writes port `offset` (0–3).
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u8, now_ns: u64) -> Vec<bool> {
        let mut levels = self.follow_line(now_ns);
        if offset == spec::CONTROL {
            self.write_control(value, now_ns);
        } else if self.counter_mut(offset).is_some_and(|counter| counter.write(value, now_ns)) && offset == 0
        {
            levels.extend(self.restart_line(now_ns));
        }
        levels
    }

    fn write_control(&mut self, word: u8, now_ns: u64) {
        let number = word >> spec::SC_SHIFT;
        match self.counter_mut(number.into()) {
            None => self.read_back(word, now_ns),
            Some(counter) if word >> spec::RW_SHIFT & spec::RW_MASK == 0 => counter.latch_count(now_ns),
            Some(counter) => counter.program(word),
        }
    }

    fn read_back(&mut self, command: u8, now_ns: u64) {
        for (number, counter) in self.counters.iter_mut().enumerate() {
            if command >> spec::READ_BACK_COUNTER_SHIFT >> number & 1 == 0 {
                continue;
            }
            if command & spec::READ_BACK_NO_COUNT == 0 {
                counter.latch_count(now_ns);
            }
            if command & spec::READ_BACK_NO_STATUS == 0 {
                counter.latch_status(now_ns);
            }
        }
    }

    /// The GATE pin of counter `number`.
    pub fn gate(&self, number: usize) -> bool {
        self.counters.get(number).is_some_and(|counter| counter.gate)
    }

    /// Sets the GATE pin of counter `number`; on a PC only that of counter 2 is wired, to port 0x61.
    #[must_use]
    pub fn set_gate(&mut self, number: usize, level: bool, now_ns: u64) -> Vec<bool> {
        let mut levels = self.follow_line(now_ns);
        let restarted = self.counters.get_mut(number).is_some_and(|counter| counter.set_gate(level, now_ns));
        if restarted && number == 0 {
            levels.extend(self.restart_line(now_ns));
        }
        levels
    }

    /// The OUT pin of counter `number`.
    pub fn out(&self, number: usize, now_ns: u64) -> bool {
        self.counters.get(number).is_some_and(|counter| counter.out(now_ns))
    }

    /// Connects the interrupt line to counter 0 or cuts it off, as the HPET's legacy replacement does.
    #[must_use]
    pub fn set_irq_enabled(&mut self, enabled: bool, now_ns: u64) -> Vec<bool> {
        let mut levels = self.follow_line(now_ns);
        if self.irq_enabled != enabled {
            self.irq_enabled = enabled;
            // What happened in between is not made up for.
            levels.extend(self.restart_line(now_ns));
        }
        levels
    }

    /// The level of the interrupt line, once it changed for the first time.
    pub fn irq_level(&self) -> bool {
        self.irq_level
    }

    /// The virtual time at which [`Self::expire`] is next due: the interrupt line rises.
    pub fn next_deadline(&self) -> Option<u64> {
        let counter = self.counters.first().filter(|_| self.irq_enabled)?;
        Some(counter.next_rise(self.irq_ns)?.max(self.earliest_ns))
    }

    /// Brings the interrupt line up to `now_ns`.
    #[must_use]
    pub fn expire(&mut self, now_ns: u64) -> Vec<bool> {
        if let Some(deadline_ns) = self.next_deadline().filter(|&deadline_ns| deadline_ns <= now_ns) {
            self.earliest_ns = deadline_ns.saturating_add(MIN_INTERRUPT_INTERVAL_NS);
        }
        self.follow_line(now_ns)
    }

    /// The levels of the interrupt line since it was last looked at.
    fn follow_line(&mut self, now_ns: u64) -> Vec<bool> {
        let mut levels = Vec::new();
        let Some(counter) = self.counters.first().filter(|_| self.irq_enabled) else { return levels };
        let now_ns = now_ns.max(self.irq_ns);
        if counter.next_rise(self.irq_ns).is_some_and(|rise| rise <= now_ns) {
            if self.irq_level {
                levels.push(false);
            }
            levels.push(true);
            (self.irq_level, self.line_mode) = (true, counter.mode);
        }
        if self.irq_level && self.line_mode == counter.mode && !counter.line(now_ns) {
            levels.push(false);
            self.irq_level = false;
        }
        self.irq_ns = now_ns;
        levels
    }

    /// The interrupt line as counter 0 has it now.
    fn restart_line(&mut self, now_ns: u64) -> Option<bool> {
        let counter = self.counters.first().filter(|_| self.irq_enabled)?;
        let level = counter.line(now_ns);
        (self.irq_ns, self.line_mode) = (now_ns, counter.mode);
        (std::mem::replace(&mut self.irq_level, level) != level).then_some(level)
    }

    fn counter_mut(&mut self, number: u64) -> Option<&mut CounterRegisters> {
        self.counters.get_mut(usize::try_from(number).ok()?)
    }
}
