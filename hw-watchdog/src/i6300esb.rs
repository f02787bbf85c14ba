//! The watchdog of Intel's 6300ESB I/O controller: a timer of two stages behind registers that have to be unlocked.
//!
//! Sources: Intel 6300ESB data sheet, 300641, chapter 17; QEMU `hw/watchdog/wdt_i6300esb.c`, whose choices these are:
//! a register answers in its own width only, and the end of the first stage interrupts nobody.

use serde::{Deserialize, Serialize};

/// Registers (300641, 17.2 and 17.3).
pub mod spec {
    /// Device id.
    pub const DEVICE_ID: u16 = 0x25ab;
    /// Size of the registers in memory.
    pub const MEMORY_SIZE: u64 = 0x10;
    /// Configuration space, 16 bits: what the timers do.
    pub const CONFIG: usize = 0x60;
    /// CONFIG: the second stage does not reboot.
    pub const WDT_REBOOT: u16 = 1 << 5;
    /// CONFIG: the timers count in units of 1 µs instead of 1 ms.
    pub const WDT_FREQ: u16 = 1 << 2;
    /// CONFIG: how the first stage interrupts, and a bit that QEMU keeps with it.
    pub const WDT_INTTYPE: u16 = 0x11;
    /// Configuration space, 8 bits: on and off.
    pub const LOCK: usize = 0x68;
    /// LOCK: the timer starts again after the second stage.
    pub const WDT_FUNC: u8 = 1 << 2;
    /// LOCK: it counts.
    pub const WDT_ENABLE: u8 = 1 << 1;
    /// LOCK: this register is not to change until reset.
    pub const WDT_LOCK: u8 = 1 << 0;
    /// Memory: what the first stage counts down from, 20 bits.
    pub const TIMER1: u64 = 0x00;
    /// Memory: what the second stage counts down from.
    pub const TIMER2: u64 = 0x04;
    /// Both: their bits.
    pub const TIMER_MASK: u32 = 0xf_ffff;
    /// Memory: reload register.
    pub const RELOAD: u64 = 0x0c;
    /// RELOAD: start over.
    pub const WDT_RELOAD: u32 = 1 << 8;
    /// RELOAD: the last reset was the watchdog's (17.3.4), and the bit that Linux takes for it.
    pub const WDT_TIMEOUT: u32 = 1 << 9 | 1 << 12;
    /// RELOAD: the two writes before each other write.
    pub const UNLOCK: [u32; 2] = [0x80, 0x86];
    /// A tick of the PCI clock.
    pub const PCI_TICK_NS: u64 = 30;
}
use spec::*;

/// The chip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct I6300esb {
    config: u16,
    lock: u8,
    preload: [u32; 2],
    /// 0 or 1 of the two that the timer is in.
    stage: u8,
    deadline_ns: Option<u64>,
    /// How many of the two writes that unlock have come.
    unlock: u8,
    timed_out: bool,
}

impl Default for I6300esb {
    fn default() -> Self {
        I6300esb {
            config: 0,
            lock: 0,
            preload: [TIMER_MASK; 2],
            stage: 0,
            deadline_ns: None,
            unlock: 0,
            timed_out: false,
        }
    }
}

impl I6300esb {
    /// Returns to the state after power-on, but for whether the last reset was its doing.
    pub fn reset(&mut self) {
        *self = I6300esb { timed_out: self.timed_out, ..I6300esb::default() };
    }

    fn restart(&mut self, stage: u8, now_ns: u64) {
        if self.lock & WDT_ENABLE == 0 {
            return;
        }
        self.stage = stage;
        let preload = self.preload.get(usize::from(stage)).copied().unwrap_or(TIMER_MASK);
        let shift = if self.config & WDT_FREQ != 0 { 5 } else { 15 };
        self.deadline_ns = Some(now_ns.saturating_add((u64::from(preload) << shift) * PCI_TICK_NS));
    }

    /// When [`I6300esb::expire`] is next due.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadline_ns
    }

    /// A stage may have come to its end. True when it was the second: the watchdog has fired.
    #[must_use]
    pub fn expire(&mut self, now_ns: u64) -> bool {
        if self.deadline_ns.is_none_or(|deadline| deadline > now_ns) {
            return false;
        }
        self.deadline_ns = None;
        if self.stage == 0 {
            self.restart(1, now_ns);
            return false;
        }
        let fires = self.config & WDT_REBOOT == 0;
        if fires {
            self.timed_out = true;
            self.reset();
        }
        if self.lock & WDT_FUNC != 0 {
            self.restart(0, now_ns);
        }
        fires
    }

    /// A read of configuration space; `None` where the register is none of the watchdog's in this width.
    pub fn config_read(&self, at: usize, size: u8) -> Option<u32> {
        match (at, size) {
            (CONFIG, 2) => Some(self.config.into()),
            (LOCK, 1) => Some(self.lock.into()),
            _ => None,
        }
    }

    /// A write of configuration space; false where the register is none of the watchdog's in this width.
    pub fn config_write(&mut self, at: usize, value: u32, size: u8, now_ns: u64) -> bool {
        match (at, size) {
            (CONFIG, 2) => self.config = value as u16 & (WDT_REBOOT | WDT_FREQ | WDT_INTTYPE),
            (LOCK, 1) => self.write_lock(value as u8, now_ns),
            _ => return false,
        }
        true
    }

    fn write_lock(&mut self, value: u8, now_ns: u64) {
        if self.lock & WDT_LOCK != 0 {
            return;
        }
        let was_enabled = self.lock & WDT_ENABLE != 0;
        self.lock = value & (WDT_FUNC | WDT_ENABLE | WDT_LOCK);
        match (was_enabled, value & WDT_ENABLE != 0) {
            (false, true) => self.restart(0, now_ns),
            (_, false) => self.deadline_ns = None,
            (true, true) => {}
        }
    }

    /// A read of the registers in memory.
    pub fn read(&self, offset: u64, size: u8) -> u32 {
        if offset == RELOAD && size == 2 && self.timed_out { WDT_TIMEOUT } else { 0 }
    }

    /// A write of the registers in memory.
    pub fn write(&mut self, offset: u64, value: u32, size: u8, now_ns: u64) {
        let [first, second] = UNLOCK;
        match (offset, value, self.unlock) {
            (RELOAD, value, _) if value == first => self.unlock = 1,
            (RELOAD, value, 1) if value == second => self.unlock = 2,
            // A byte of another value neither writes nor locks.
            (_, _, 2) if size > 1 => {
                self.unlock = 0;
                self.write_unlocked(offset, value, size, now_ns);
            }
            _ => {}
        }
    }

    fn write_unlocked(&mut self, offset: u64, value: u32, size: u8, now_ns: u64) {
        match (offset, size) {
            (RELOAD, 2) => {
                if value & WDT_RELOAD != 0 {
                    self.restart(0, now_ns);
                }
                if value & WDT_TIMEOUT != 0 {
                    self.timed_out = false;
                }
            }
            (TIMER1, 4) => self.preload[0] = value & TIMER_MASK,
            (TIMER2, 4) => self.preload[1] = value & TIMER_MASK,
            _ => {}
        }
    }
}
