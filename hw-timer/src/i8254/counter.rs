//! One counter of the 8254, as QEMU and KVM have it: it counts from the moment a count is written or the gate rises,
//! whatever its gate is then, and does not know BCD.

use serde::{Deserialize, Serialize};
use util::clock::{ticks_at, time_of_tick};

use super::spec;

/// Which byte is read or written next: that of the access mode, or the second of two.
const WORD_SECOND: u8 = 4;

/// A counter's registers (`PITChannelState`, `kvm_pit_channel_state`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Access mode of the control word; 0 before there was one, which is as the lower byte alone.
    pub rw_mode: u8,
    /// Mode of the control word: of 6 and 7 the count runs as in mode 2, and the output is as in mode 0.
    pub mode: u8,
    /// The control word's BCD bit.
    pub bcd: bool,
    /// The GATE pin.
    pub gate: bool,
    /// Virtual time in ns at which it began to count down.
    pub loaded_at: u64,
}

impl CounterRegisters {
    /// As a reset leaves it, but for what was latched: a square wave of the longest period.
    pub(super) fn reset(&mut self, gate: bool, now_ns: u64) {
        (self.mode, self.gate, self.count, self.loaded_at) = (3, gate, 1 << 16, now_ns);
    }

    /// Whether the guest can bring a counter to this.
    pub(super) fn is_possible(&self) -> bool {
        let states = [self.count_latched, self.rw_mode].iter().all(|state| *state <= spec::RW_WORD)
            && [self.read_state, self.write_state].iter().all(|state| *state <= WORD_SECOND);
        states && self.mode <= spec::MODE_MASK && (1..=1 << 16).contains(&self.count)
    }

    /// The nearest registers that a counter can have.
    pub(super) fn possible(self) -> Self {
        let count = if (1..=1 << 16).contains(&self.count) { self.count } else { 1 << 16 };
        // KVM's counters have no mode after a reset.
        let mode = if self.mode > spec::MODE_MASK { 3 } else { self.mode };
        let state = |state: u8| state.min(WORD_SECOND);
        Self {
            count,
            mode,
            count_latched: self.count_latched & spec::RW_MASK,
            rw_mode: self.rw_mode & spec::RW_MASK,
            read_state: state(self.read_state),
            write_state: state(self.write_state),
            ..self
        }
    }

    /// Clocks since it began to count.
    fn elapsed(&self, now_ns: u64) -> u64 {
        ticks_at(now_ns.saturating_sub(self.loaded_at), spec::FREQUENCY)
    }

    fn count(&self) -> u64 {
        u64::from(self.count).max(1)
    }

    /// The OUT pin as the guest reads it (`pit_get_out`): in modes 1 and 2 not as the data sheet has it.
    pub(super) fn out(&self, now_ns: u64) -> bool {
        let (elapsed, count) = (self.elapsed(now_ns), self.count());
        match self.mode {
            1 => elapsed < count,
            2 => elapsed % count == 0 && elapsed != 0,
            3 => elapsed % count < count.div_ceil(2),
            4 | 5 => elapsed == count,
            _ => elapsed >= count,
        }
    }

    /// The interrupt line that counter 0 drives: OUT, but that in mode 2 it is up until it is to rise again.
    pub(super) fn line(&self, now_ns: u64) -> bool {
        match self.mode {
            2 => self.elapsed(now_ns) >= self.count(),
            _ => self.out(now_ns),
        }
    }

    /// When the interrupt line next rises after `now_ns`, if nothing else happens.
    pub(super) fn next_rise(&self, now_ns: u64) -> Option<u64> {
        let (elapsed, count) = (self.elapsed(now_ns), self.count());
        let rise = match self.mode {
            // A count of 1, which the data sheet forbids, is no wave.
            2 | 3 if count == 1 => return None,
            // It rose as the count was loaded.
            1 => return None,
            2 | 3 => elapsed - elapsed % count + count,
            _ => count,
        };
        (rise > elapsed).then(|| self.loaded_at.saturating_add(time_of_tick(rise, spec::FREQUENCY)))
    }

    /// The counting element (`pit_get_count`).
    fn current(&self, now_ns: u64) -> u16 {
        let (elapsed, count) = (self.elapsed(now_ns), self.count());
        let value = match self.mode {
            0 | 1 | 4 | 5 => count.wrapping_sub(elapsed),
            3 => count - elapsed.wrapping_mul(2) % count,
            _ => count - elapsed % count,
        };
        value as u16
    }

    /// Sets the GATE pin. True if it began to count anew.
    pub(super) fn set_gate(&mut self, gate: bool, now_ns: u64) -> bool {
        let restarts = gate && !self.gate && matches!(self.mode, 1 | 2 | 3 | 5);
        self.gate = gate;
        if restarts {
            self.loaded_at = now_ns;
        }
        restarts
    }

    /// A control word for this counter: what it counts goes on until a count is written.
    pub(super) fn program(&mut self, word: u8) {
        self.rw_mode = word >> spec::RW_SHIFT & spec::RW_MASK;
        (self.read_state, self.write_state) = (self.rw_mode, self.rw_mode);
        self.mode = word >> spec::MODE_SHIFT & spec::MODE_MASK;
        self.bcd = word & spec::BCD != 0;
    }

    /// A byte of a count. True if it began to count.
    pub(super) fn write(&mut self, value: u8, now_ns: u64) -> bool {
        let count = match self.write_state {
            spec::RW_WORD => {
                self.write_latch = value;
                self.write_state = WORD_SECOND;
                return false;
            }
            WORD_SECOND => {
                self.write_state = spec::RW_WORD;
                u16::from_be_bytes([value, self.write_latch])
            }
            spec::RW_MSB => u16::from_be_bytes([value, 0]),
            _ => value.into(),
        };
        self.count = if count == 0 { 1 << 16 } else { count.into() };
        self.loaded_at = now_ns;
        true
    }

    pub(super) fn latch_count(&mut self, now_ns: u64) {
        if self.count_latched == 0 {
            self.latched_count = self.current(now_ns);
            self.count_latched = self.rw_mode;
        }
    }

    pub(super) fn latch_status(&mut self, now_ns: u64) {
        if !self.status_latched {
            self.status = u8::from(self.out(now_ns)) << spec::STATUS_OUTPUT_SHIFT
                | self.rw_mode << spec::RW_SHIFT
                | self.mode << spec::MODE_SHIFT
                | u8::from(self.bcd);
            self.status_latched = true;
        }
    }

    pub(super) fn read(&mut self, now_ns: u64) -> u8 {
        if std::mem::take(&mut self.status_latched) {
            return self.status;
        }
        let latched = self.count_latched != 0;
        let count = if latched { self.latched_count } else { self.current(now_ns) };
        let state = if latched { self.count_latched } else { self.read_state };
        match (latched, state) {
            (true, spec::RW_WORD) => self.count_latched = spec::RW_MSB,
            (true, _) => self.count_latched = 0,
            (false, spec::RW_WORD) => self.read_state = WORD_SECOND,
            (false, WORD_SECOND) => self.read_state = spec::RW_WORD,
            (false, _) => {}
        }
        let [msb, lsb] = count.to_be_bytes();
        if matches!(state, spec::RW_MSB | WORD_SECOND) { msb } else { lsb }
    }
}
