//! The HPET (IA-PC HPET Specification 1.0a).

use crate::io::{read32, read64, write32, write64};

/// Its address on a PC.
pub const BASE: u64 = 0xfed0_0000;
/// Capabilities: bits 63-32 the period in femtoseconds, 31-16 vendor, 15 legacy routes, 13 64-bit
/// counter, 12-8 number of timers less one, 7-0 revision.
pub const CAPABILITIES: u64 = 0;
/// Configuration.
pub const CONFIGURATION: u64 = 0x10;
/// Configuration: the main counter runs.
pub const RUN: u32 = 1;
/// Configuration: timer 0 takes the PIT's place, timer 1 the RTC's.
pub const LEGACY: u32 = 2;
/// Interrupt status, a bit for each timer, cleared by writing 1.
pub const STATUS: u64 = 0x20;
/// The main counter.
pub const COUNTER: u64 = 0xf0;
/// Timer configuration: enable the interrupt.
pub const TIMER_ENABLE: u32 = 1 << 2;
/// Timer configuration: periodic.
pub const TIMER_PERIODIC: u32 = 1 << 3;
/// Timer configuration: the next comparator write sets a periodic timer's accumulator.
pub const TIMER_SETVAL: u32 = 1 << 6;
/// Timer configuration: the comparator has 32 bits.
pub const TIMER_32BIT: u32 = 1 << 8;

/// Reads 32 bits of a register.
pub fn read(offset: u64) -> u32 {
    read32(BASE + offset)
}

/// Writes 32 bits of a register.
pub fn write(offset: u64, value: u32) {
    write32(BASE + offset, value);
}

/// The main counter, all 64 bits.
pub fn counter() -> u64 {
    read64(BASE + COUNTER)
}

/// Starts or stops the main counter.
pub fn run(on: bool) {
    write(CONFIGURATION, if on { RUN } else { 0 });
}

/// Offset of a timer's configuration register.
pub fn timer(number: u64) -> u64 {
    0x100 + number * 0x20
}

/// Sets a timer's comparator.
pub fn set_comparator(number: u64, value: u64) {
    write64(BASE + timer(number) + 8, value);
}

/// The counter's period in femtoseconds.
pub fn period() -> u64 {
    read64(BASE + CAPABILITIES) >> 32
}
