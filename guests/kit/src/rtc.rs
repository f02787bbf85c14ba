//! The MC146818 real-time clock and the CMOS memory behind it.

use crate::io::{inb, outb};

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

/// Register A: bit 7 update in progress, 6-4 divider, 3-0 periodic rate.
pub const A: u8 = 0x0a;
/// Register B: bit 6 periodic, 5 alarm and 4 update interrupt; bit 2 binary, bit 1 24 hours.
pub const B: u8 = 0x0b;
/// Register C: bits 7-4 the interrupt flags, cleared by reading.
pub const C: u8 = 0x0c;
/// Register D: bit 7 the battery is good.
pub const D: u8 = 0x0d;

/// Reads a byte; bit 7 of the index would be the NMI mask.
pub fn read(index: u8) -> u8 {
    outb(INDEX, index);
    inb(DATA)
}

/// Writes a byte.
pub fn write(index: u8, value: u8) {
    outb(INDEX, index);
    outb(DATA, value);
}

/// Reads two bytes, low first.
pub fn read16(index: u8) -> u16 {
    u16::from(read(index)) | u16::from(read(index + 1)) << 8
}

/// A number as the clock keeps it, by register B: binary or BCD.
pub fn decode(value: u8) -> u8 {
    if read(B) & 4 != 0 { value } else { (value >> 4) * 10 + (value & 0xf) }
}

/// Seconds since midnight.
pub fn seconds_of_day() -> u64 {
    let [hours, minutes, seconds] = [4, 2, 0].map(|index| u64::from(decode(read(index))));
    hours * 3600 + minutes * 60 + seconds
}
