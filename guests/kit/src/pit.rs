//! The 8254 interval timer (Intel 231164), and delays timed by its channel 2.

use crate::io::{inb, outb};

/// Input clock, Hz.
pub const CLOCK: u32 = 1_193_182;
const CHANNEL_0: u16 = 0x40;
const CHANNEL_2: u16 = 0x42;
const CONTROL: u16 = 0x43;
/// Port B: bit 0 channel 2's gate, bit 1 speaker, bit 5 channel 2's output.
const PORT_B: u16 = 0x61;

/// Lets channel 0 raise its interrupt every `count` clocks: mode 2, low byte then high byte.
pub fn start_periodic(count: u16) {
    outb(CONTROL, 0x34);
    outb(CHANNEL_0, count as u8);
    outb(CHANNEL_0, (count >> 8) as u8);
}

/// Lets channel 0 raise its interrupt once, after `count` clocks: mode 0.
pub fn start_one_shot(count: u16) {
    outb(CONTROL, 0x30);
    outb(CHANNEL_0, count as u8);
    outb(CHANNEL_0, (count >> 8) as u8);
}

/// Stops channel 0: mode 0 is programmed and no count given.
pub fn stop() {
    outb(CONTROL, 0x30);
}

/// Channel 0's count, latched.
pub fn count() -> u16 {
    outb(CONTROL, 0x00);
    u16::from(inb(CHANNEL_0)) | u16::from(inb(CHANNEL_0)) << 8
}

/// The status byte of channel 0 by the read-back command: bit 7 output, 6 null count, 5-0 mode.
pub fn status() -> u8 {
    outb(CONTROL, 0xe2);
    inb(CHANNEL_0)
}

/// Waits, at most 50 milliseconds, with channel 2 in mode 0. Ends early rather than never if the
/// timer does not run.
pub fn delay_ms(ms: u32) {
    let count = CLOCK / 1000 * ms;
    // Only when the gate is closed: under KVM, QEMU restarts channel 0 at a write to this port.
    let port_b = inb(PORT_B);
    if port_b & 3 != 1 {
        outb(PORT_B, port_b & 0xfc | 1);
    }
    outb(CONTROL, 0xb0);
    outb(CHANNEL_2, count as u8);
    outb(CHANNEL_2, (count >> 8) as u8);
    let mut polls = 0;
    while inb(PORT_B) & 0x20 == 0 && polls < 1_000_000 {
        polls += 1;
    }
}
