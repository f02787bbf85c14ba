//! System management mode: SMRAM that only its handler sees, SMIs by the APM control port. Needs
//! `-machine smm=on`; firmware, or the board in its place, has put SMBASE at 0xa0000. `vga`: there is a display
//! adapter, whose memory shows where closed SMRAM is; without one QEMU's chipset shows the memory all the same.
//! `flash`: there is blank flash memory with `secure=on`.
#![no_std]
#![no_main]

use kit::boot::BootInfo;
use kit::check::{equal, holds};
use kit::io::{inb, outb, read8, read16, write8, write16};
use kit::pci::Function;
use kit::say;

kit::guest!(main);

const HOST_BRIDGE: Function = Function::new(0, 0);
const SMRAM: u8 = 0x72;
/// SMRAM exists, at 0xa0000; and beside that: it shows to everybody. (The register's lock QEMU leaves out.)
const CLOSED: u8 = 0x0a;
const OPEN: u8 = 0x4a;

const PM: Function = Function::new(1, 3);
const DEVACTB: u8 = 0x5b;
const APMC_ENABLE: u8 = 0x02;
const APM_CONTROL: u16 = 0xb2;
const APM_STATUS: u16 = 0xb3;

const HANDLER: u64 = 0xa_8000;
const COUNTER: u64 = 0xa_9000;
/// `inc byte cs:[0x9000]; mov al, 0x5a; out 0xb3, al; rsm`, in a segment of 16-bit code at SMBASE.
const CODE: [u8; 11] = [0x2e, 0xfe, 0x06, 0x00, 0x90, 0xb0, 0x5a, 0xe6, 0xb3, 0x0f, 0xaa];

/// A byte of the flash memory, and the handler that programs it, between what the other one does:
/// `mov al, 0x40; mov [FLASH], al; mov al, 0x5a; mov [FLASH], al; mov al, 0xff; mov [FLASH], al`.
const FLASH: u64 = 0xffff_f000;
const PROGRAM: [u8; 24] = [
    0xb0, 0x40, 0x67, 0xa2, 0x00, 0xf0, 0xff, 0xff, 0xb0, 0x5a, 0x67, 0xa2, 0x00, 0xf0, 0xff, 0xff, 0xb0,
    0xff, 0x67, 0xa2, 0x00, 0xf0, 0xff, 0xff,
];

fn main(info: &BootInfo) {
    let vga = info.flag("vga");
    // The handler that is there comes back.
    PM.write8(DEVACTB, APMC_ENABLE);
    outb(APM_CONTROL, 0x01);
    say!("back from the first handler");

    HOST_BRIDGE.write8(SMRAM, OPEN);
    (HANDLER..).zip(CODE).for_each(|(at, byte)| write8(at, byte));
    write8(COUNTER, 7);
    equal("open-smram-is-memory", read16(HANDLER).into(), 0xfe2e);
    HOST_BRIDGE.write8(SMRAM, CLOSED);
    if vga {
        holds("closed-smram-is-hidden", read16(HANDLER) != 0xfe2e, read16(HANDLER).into());
        write16(HANDLER, 0x0bad);
    }

    equal("handler-ran", status_after(0x55).into(), 0x5a);
    equal("command-kept", inb(APM_CONTROL).into(), 0x55);
    PM.write8(DEVACTB, 0);
    equal("no-smi-unless-enabled", status_after(0x56).into(), 0);
    PM.write8(DEVACTB, APMC_ENABLE);
    equal("handler-ran-again", status_after(0x57).into(), 0x5a);
    equal("acpi-enable-is-no-smi", status_after(0xf1).into(), 0);

    HOST_BRIDGE.write8(SMRAM, OPEN);
    equal("counted-in-smram", read8(COUNTER).into(), 9);
    equal("handler-as-it-was", read16(HANDLER).into(), 0xfe2e);
    if info.flag("flash") {
        flash();
    }
}

/// Only the handler's commands are taken.
fn flash() {
    [0x40, 0x00, 0xff].into_iter().for_each(|byte| write8(FLASH, byte));
    equal("flash-not-from-outside", read8(FLASH).into(), 0xff);
    HOST_BRIDGE.write8(SMRAM, OPEN);
    (HANDLER..).zip(PROGRAM.into_iter().chain(CODE)).for_each(|(at, byte)| write8(at, byte));
    HOST_BRIDGE.write8(SMRAM, CLOSED);
    equal("flash-handler-ran", status_after(0x58).into(), 0x5a);
    equal("flash-from-smm", read8(FLASH).into(), 0x5a);
}

/// What the status port holds after a command: what the handler writes, if it runs soon. (An emulator may take
/// the interrupt some instructions late.)
fn status_after(command: u8) -> u8 {
    outb(APM_STATUS, 0);
    outb(APM_CONTROL, command);
    (0..100).map(|_| inb(APM_STATUS)).find(|&status| status != 0).unwrap_or(0)
}
