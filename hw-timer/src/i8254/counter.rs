//! One counter of the 8254, in ticks of its clock.

use serde::{Deserialize, Serialize};

use super::spec;

/// A count that was latched and has not been read to its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Latch {
    pub(super) count: u16,
    pub(super) msb_next: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Counter {
    pub(super) mode: u8,
    pub(super) bcd: bool,
    pub(super) access: u8,
    pub(super) gate: bool,
    /// The count register: 1 to 65536, or to 10000 in BCD.
    pub(super) reload: u32,
    /// What the counting element counts down from.
    pub(super) count: u32,
    /// Whether a count was loaded and, in modes 1 and 5, triggered since the last control word.
    pub(super) started: bool,
    pub(super) null_count: bool,
    /// Ticks counted before `start_tick`, from which on it counts again.
    pub(super) counted: u64,
    pub(super) start_tick: u64,
    pub(super) write_lsb: Option<u8>,
    pub(super) read_msb: bool,
    pub(super) latch: Option<Latch>,
    pub(super) status: Option<u8>,
}

impl Counter {
    /// As QEMU resets it: a square wave of the longest period.
    pub(super) fn new(gate: bool, tick: u64) -> Self {
        Self {
            mode: 3,
            bcd: false,
            access: spec::RW_WORD,
            gate,
            reload: 1 << 16,
            count: 1 << 16,
            started: true,
            null_count: false,
            counted: 0,
            start_tick: tick,
            write_lsb: None,
            read_msb: false,
            latch: None,
            status: None,
        }
    }

    /// Whether its counts are such as can be loaded.
    pub(super) fn is_possible(&self) -> bool {
        let counts = 1..=1 << 16;
        self.mode <= 5 && counts.contains(&self.count) && counts.contains(&self.reload)
    }

    pub(super) fn gate(&self) -> bool {
        self.gate
    }

    /// Modes 1 and 5 start by a rising gate and do not look at its level.
    fn is_triggered_by_gate(&self) -> bool {
        matches!(self.mode, 1 | 5)
    }

    fn is_counting(&self) -> bool {
        self.started && (self.gate || self.is_triggered_by_gate())
    }

    /// Ticks counted since the count was loaded.
    fn elapsed(&self, tick: u64) -> u64 {
        let since = if self.is_counting() { tick.saturating_sub(self.start_tick) } else { 0 };
        self.counted.saturating_add(since)
    }

    /// The OUT pin.
    pub(super) fn out(&self, tick: u64) -> bool {
        let (elapsed, count) = (self.elapsed(tick), u64::from(self.count));
        match self.mode {
            mode if !self.started => mode != 0,
            0 | 1 => elapsed >= count,
            2 | 3 if !self.gate => true,
            2 => elapsed % count != count - 1,
            3 => elapsed % count < count.div_ceil(2),
            _ => elapsed != count,
        }
    }

    /// When OUT next rises after `tick`, if nothing else happens.
    pub(super) fn next_rise(&self, tick: u64) -> Option<u64> {
        if !self.is_counting() {
            return None;
        }
        let (elapsed, count) = (self.elapsed(tick), u64::from(self.count));
        let rise = match self.mode {
            0 | 1 => count,
            // With a count of 1, which the data sheet forbids, OUT never changes.
            2 | 3 if count == 1 => return None,
            2 | 3 => elapsed - elapsed % count + count,
            _ => count + 1,
        };
        rise.checked_sub(elapsed).filter(|&ticks| ticks != 0).map(|ticks| tick.saturating_add(ticks))
    }

    /// The counting element as the guest reads it.
    fn current(&self, tick: u64) -> u16 {
        let (elapsed, count) = (self.elapsed(tick), u64::from(self.count));
        let value = match self.mode {
            2 => count - elapsed % count,
            3 => {
                // Counts down by two, twice a period, from an even number.
                let high = count.div_ceil(2);
                let position = elapsed % count;
                let half = if position < high { position } else { position - high };
                (count & !1) - 2 * half
            }
            _ => {
                let limit = self.limit();
                (count + limit - elapsed % limit) % limit
            }
        };
        if self.bcd { to_bcd(value % self.limit()) } else { value as u16 }
    }

    /// One more than the largest number it can show.
    fn limit(&self) -> u64 {
        if self.bcd { 10_000 } else { 1 << 16 }
    }

    pub(super) fn set_gate(&mut self, gate: bool, tick: u64) {
        if gate == self.gate {
            return;
        }
        let counted = self.elapsed(tick);
        self.gate = gate;
        let restarts = self.is_triggered_by_gate() || matches!(self.mode, 2 | 3) && self.started;
        if restarts && gate {
            self.load(tick);
        } else if !self.is_triggered_by_gate() {
            self.counted = counted;
            self.start_tick = tick;
        }
    }

    /// Counts down from the count register, from now on.
    fn load(&mut self, tick: u64) {
        self.count = self.reload;
        self.counted = 0;
        self.start_tick = tick;
        self.started = true;
        self.null_count = false;
    }

    /// A control word for this counter.
    pub(super) fn program(&mut self, word: u8) {
        let mode = word >> spec::MODE_SHIFT & spec::MODE_MASK;
        self.mode = if mode > 5 { mode & spec::MODE_23_MASK } else { mode };
        self.bcd = word & spec::BCD != 0;
        self.access = word >> spec::RW_SHIFT & spec::RW_MASK;
        self.started = false;
        self.null_count = true;
        self.counted = 0;
        self.write_lsb = None;
        self.read_msb = false;
        self.latch = None;
        self.status = None;
    }

    pub(super) fn write(&mut self, value: u8, tick: u64) {
        match (self.access, self.write_lsb.take()) {
            (spec::RW_LSB, _) => self.set_count(value.into(), tick),
            (spec::RW_MSB, _) => self.set_count(u16::from_be_bytes([value, 0]), tick),
            (_, Some(lsb)) => self.set_count(u16::from_be_bytes([value, lsb]), tick),
            (_, None) => {
                self.write_lsb = Some(value);
                if self.mode == 0 {
                    // The first byte stops the counter.
                    self.started = false;
                    self.counted = 0;
                }
            }
        }
    }

    fn set_count(&mut self, value: u16, tick: u64) {
        let count = if self.bcd { from_bcd(value) } else { value.into() };
        self.reload = if count == 0 { self.limit() as u32 } else { count };
        self.null_count = true;
        if !self.is_triggered_by_gate() {
            self.load(tick);
        }
    }

    pub(super) fn latch_count(&mut self, tick: u64) {
        if self.latch.is_none() {
            self.latch = Some(Latch { count: self.current(tick), msb_next: self.access == spec::RW_MSB });
        }
    }

    pub(super) fn latch_status(&mut self, tick: u64) {
        let status = u8::from(self.out(tick)) << spec::STATUS_OUTPUT_SHIFT
            | u8::from(self.null_count) << spec::STATUS_NULL_COUNT_SHIFT
            | self.access << spec::RW_SHIFT
            | self.mode << spec::MODE_SHIFT
            | u8::from(self.bcd);
        self.status.get_or_insert(status);
    }

    pub(super) fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        if let Some(Latch { count, msb_next }) = self.latch.take() {
            if self.access == spec::RW_WORD && !msb_next {
                self.latch = Some(Latch { count, msb_next: true });
            }
            let [msb, lsb] = count.to_be_bytes();
            return if msb_next { msb } else { lsb };
        }
        let [msb, lsb] = self.current(tick).to_be_bytes();
        match self.access {
            spec::RW_LSB => lsb,
            spec::RW_MSB => msb,
            _ => {
                self.read_msb = !self.read_msb;
                if self.read_msb { lsb } else { msb }
            }
        }
    }
}

fn from_bcd(value: u16) -> u32 {
    (0..4).rev().fold(0, |number, digit| number * 10 + u32::from(value >> (4 * digit) & 0xf))
}

fn to_bcd(value: u64) -> u16 {
    (0..4).fold(0, |bcd, digit| bcd | ((value / 10u64.pow(digit) % 10) << (4 * digit)) as u16)
}
