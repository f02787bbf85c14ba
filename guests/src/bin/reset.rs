//! Resets the machine as `how=` says: `cf9`, `92`, `i8042`, `acpi`, `triple`; on the second boot,
//! counted in CMOS memory, prints `rebooted`, checks that the machine was reset, and leaves.
#![no_std]
#![no_main]

use core::arch::asm;

use kit::boot::BootInfo;
use kit::check::{equal, fail, pass};
use kit::interrupts::PATIENCE;
use kit::io::{inb, outb, read32, write32};
use kit::{acpi, interrupts, pic, pit, rtc, say};

kit::guest!(main);

/// A byte of CMOS memory neither the board nor the firmware uses, and what marks a first boot.
const MARKER: u8 = 0x7e;
const MARK: u8 = 0xa5;
/// Free RAM: a reset leaves memory, a power cycle would not.
const RAM_MARKER: u64 = 0x30_0000;
/// COM1's scratch register.
const SCRATCH: u16 = 0x3ff;

/// Initialised data, changed before the reset: the kernel must be loaded again.
static DATA: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0x600d_da7a);

fn main(info: &BootInfo) {
    equal("data-as-linked", DATA.load(core::sync::atomic::Ordering::SeqCst).into(), 0x600d_da7a);
    if rtc::read(MARKER) == MARK {
        rtc::write(MARKER, 0);
        return second_boot();
    }
    rtc::write(MARKER, MARK);
    write32(RAM_MARKER, 0x5afe_c0de);
    DATA.store(0, core::sync::atomic::Ordering::SeqCst);
    outb(SCRATCH, 0x77);
    pic::remap();
    let how = info.value("how").unwrap_or(b"cf9");
    say!("resetting by ", how);
    match how {
        b"cf9" => {
            outb(0xcf9, 0x02);
            outb(0xcf9, 0x06);
        }
        b"92" => outb(0x92, inb(0x92) | 1),
        b"i8042" => outb(0x64, 0xfe),
        b"acpi" => match acpi::Fadt::find().and_then(|fadt| fadt.reset_register()) {
            Some((port, value)) => outb(port, value),
            None => {
                rtc::write(MARKER, 0);
                return fail("no-acpi-reset-register", 0);
            }
        },
        b"triple" => {
            interrupts::load_idt_register(0);
            // SAFETY: the exception finds no gate, nor does the double fault after it.
            unsafe { asm!("ud2", options(noreturn)) }
        }
        _ => return fail("unknown-how", 0),
    }
    for _ in 0..PATIENCE {
        pit::delay_ms(1);
    }
    rtc::write(MARKER, 0);
    fail("still-running", 0);
}

fn second_boot() {
    say!("rebooted");
    equal("ram-kept", read32(RAM_MARKER).into(), 0x5afe_c0de);
    equal("port-92-reset-bit-clear", (inb(0x92) & 1).into(), 0);
    if kit::acpi::rsdp().is_some() {
        pass("acpi-tables-again");
    } else {
        fail("acpi-tables-again", 0);
    }
}
