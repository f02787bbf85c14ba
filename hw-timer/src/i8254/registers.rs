//! The chip as its registers, for whoever emulates it elsewhere: KVM.

use super::counter::{Counter, Latch};
use super::{I8254, spec, tick_time, ticks};

/// Byte that is read or written next: the first, or the second of two.
const WORD_SECOND: u8 = 4;

/// A counter's registers as KVM has them (`kvm_pit_channel_state`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterRegisters {
    /// What it counts down from: 1 to 65536.
    pub count: u32,
    /// A latched count.
    pub latched_count: u16,
    /// Which byte of it is read next, as in `rw_mode`; 0: none is latched.
    pub count_latched: u8,
    /// Whether `status` is read next.
    pub status_latched: bool,
    /// A latched status.
    pub status: u8,
    /// Which byte is read next: `rw_mode`, or 4 for the second of two.
    pub read_state: u8,
    /// Which byte is written next, in the same way.
    pub write_state: u8,
    /// The first byte of two that were to be written.
    pub write_latch: u8,
    /// Access mode of the control word.
    pub rw_mode: u8,
    /// Mode of the control word.
    pub mode: u8,
    /// Whether it counts in BCD.
    pub bcd: bool,
    /// The GATE pin.
    pub gate: bool,
    /// Virtual time in ns at which it began to count down.
    pub loaded_at: u64,
}

impl I8254 {
    /// The registers of the counters. What the kernel's chip knows nothing of is lost: that a count is yet to be loaded or
    /// triggered, and where it stood while the gate was low.
    pub fn registers(&self) -> [CounterRegisters; spec::COUNTERS] {
        self.counters.each_ref().map(Counter::registers)
    }

    /// The chip with these registers at `now_ns`; what no chip has is taken as far as it makes sense.
    pub fn from_registers(
        registers: &[CounterRegisters; spec::COUNTERS],
        irq_enabled: bool,
        now_ns: u64,
    ) -> Self {
        let tick = ticks(now_ns);
        let counters = registers.each_ref().map(|registers| Counter::from_registers(registers, tick));
        let [first, ..] = &counters;
        let irq_level = first.out(tick);
        Self { counters, irq_enabled, irq_level, irq_tick: tick, earliest_ns: 0 }
    }

    /// Whether the interrupt line follows counter 0.
    pub fn irq_enabled(&self) -> bool {
        self.irq_enabled
    }
}

impl Counter {
    fn registers(&self) -> CounterRegisters {
        let next = |second| if second { WORD_SECOND } else { self.access };
        let latched = |latch: Latch| if latch.msb_next { spec::RW_MSB } else { self.access };
        CounterRegisters {
            count: if self.started { self.count } else { self.reload },
            latched_count: self.latch.map_or(0, |latch| latch.count),
            count_latched: self.latch.map_or(0, latched),
            status_latched: self.status.is_some(),
            status: self.status.unwrap_or_default(),
            read_state: next(self.read_msb),
            write_state: next(self.write_lsb.is_some()),
            write_latch: self.write_lsb.unwrap_or_default(),
            rw_mode: self.access,
            mode: self.mode,
            bcd: self.bcd,
            gate: self.gate,
            loaded_at: tick_time(self.start_tick.saturating_sub(self.counted)),
        }
    }

    fn from_registers(registers: &CounterRegisters, tick: u64) -> Self {
        let count = match registers.count {
            count @ 1..=0x1_0000 => count,
            _ => 1 << 16,
        };
        let access = if registers.rw_mode == 0 { spec::RW_WORD } else { registers.rw_mode & spec::RW_MASK };
        let is_word = access == spec::RW_WORD;
        let latch =
            Latch { count: registers.latched_count, msb_next: registers.count_latched == spec::RW_MSB };
        let counted = tick.saturating_sub(ticks(registers.loaded_at));
        Self {
            mode: if registers.mode > 5 { registers.mode & spec::MODE_23_MASK } else { registers.mode },
            bcd: registers.bcd,
            access,
            gate: registers.gate,
            reload: count,
            count,
            started: true,
            null_count: false,
            counted,
            start_tick: tick,
            write_lsb: (is_word && registers.write_state == WORD_SECOND).then_some(registers.write_latch),
            read_msb: is_word && registers.read_state == WORD_SECOND,
            latch: (registers.count_latched != 0).then_some(latch),
            status: registers.status_latched.then_some(registers.status),
        }
    }
}
