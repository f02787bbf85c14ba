//! Port 0x92, the i8042, the POST port and the debug console.

use kit::boot::BootInfo;
use kit::check::{equal, holds};
use kit::io::{inb, outb};

const I8042_DATA: u16 = 0x60;
const I8042: u16 = 0x64;
/// Status: output buffer full.
const OUTPUT_FULL: u8 = 1;

pub fn check(info: &BootInfo) {
    equal("port-92-a20-on-reset-off", (inb(0x92) & 3).into(), 2);
    outb(0x80, 0x55);
    equal("post-port-reads", inb(0x80).into(), 0xff);
    let debugcon = if info.flag("debugcon") { 0xe9 } else { 0xff };
    equal("debugcon-readback", inb(0xe9).into(), debugcon);
    if info.flag("debugcon") {
        for &byte in b"debugcon\n" {
            outb(0xe9, byte);
        }
    }
    i8042();
    uart();
}

/// What the controller answers to a command, or 0x100 if nothing.
fn command(command: u8) -> u64 {
    for _ in 0..16 {
        if inb(I8042) & OUTPUT_FULL == 0 {
            break;
        }
        inb(I8042_DATA);
    }
    outb(I8042, command);
    answer()
}

fn answer() -> u64 {
    for _ in 0..10_000 {
        if inb(I8042) & OUTPUT_FULL != 0 {
            return inb(I8042_DATA).into();
        }
    }
    0x100
}

fn i8042() {
    equal("i8042-self-test", command(0xaa), 0x55);
    equal("i8042-keyboard-port-test", command(0xab), 0);
    equal("i8042-mouse-port-test", command(0xa9), 0);
    let mode = command(0x20);
    holds("i8042-command-byte", mode <= 0xff, mode);
    // Interrupts off, ports disabled: written and read back.
    outb(I8042, 0x60);
    outb(I8042_DATA, 0x30);
    equal("i8042-command-byte-readback", command(0x20), 0x30);
    outb(I8042, 0x60);
    outb(I8042_DATA, mode as u8);
    // Output port: bit 0 is the reset line, inactive; bit 1 A20.
    equal("i8042-output-port", command(0xd0) & 3, 3);
    // The keyboard itself: enable its port, reset it; it acknowledges and passes its test.
    outb(I8042, 0x60);
    outb(I8042_DATA, 0x20);
    outb(I8042_DATA, 0xff);
    equal("keyboard-acknowledges-reset", answer(), 0xfa);
    equal("keyboard-passes-test", answer(), 0xaa);
    outb(I8042_DATA, 0xf2);
    let id = answer() << 16 | answer() << 8 | answer();
    equal("keyboard-id", id, 0x00fa_ab83);
    outb(I8042, 0x60);
    outb(I8042_DATA, mode as u8);
}

/// COM1: scratch register, loop-back of data and modem lines, divisor latch. The loop-back keeps
/// the test off the line.
fn uart() {
    const COM1: u16 = 0x3f8;
    outb(COM1 + 7, 0x5a);
    equal("uart-scratch", inb(COM1 + 7).into(), 0x5a);
    // Nothing may be printed from here until loop-back ends.
    while inb(COM1 + 5) & 0x40 == 0 {}
    outb(COM1 + 4, 0x1a);
    let modem = inb(COM1 + 6) & 0xf0;
    outb(COM1, 0xc3);
    for _ in 0..10_000 {
        if inb(COM1 + 5) & 1 != 0 {
            break;
        }
    }
    let data = inb(COM1);
    outb(COM1 + 4, 0x0b);
    // OUT2 comes back as DCD, RTS as CTS.
    equal("uart-loopback-modem", modem.into(), 0x90);
    equal("uart-loopback", data.into(), 0xc3);
    outb(COM1 + 3, 0x83);
    let divisor = [inb(COM1), inb(COM1 + 1)];
    outb(COM1 + 3, 0x03);
    equal("uart-divisor", u16::from_le_bytes(divisor).into(), 1);
    equal("uart-fifo-enabled", (inb(COM1 + 2) & 0xc0).into(), 0xc0);
}
