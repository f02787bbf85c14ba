//! The local APIC (Intel SDM volume 3, chapter 11) and the I/O APIC (Intel 290566).

use crate::io::{cpuid, rdmsr, read32, write32, wrmsr};

/// Local APIC registers: offsets from [`BASE`].
pub mod register {
    #![allow(missing_docs, reason = "the names are the manual's")]
    pub const ID: u64 = 0x20;
    pub const VERSION: u64 = 0x30;
    pub const TPR: u64 = 0x80;
    pub const PPR: u64 = 0xa0;
    pub const EOI: u64 = 0xb0;
    pub const LDR: u64 = 0xd0;
    pub const DFR: u64 = 0xe0;
    pub const SPURIOUS: u64 = 0xf0;
    pub const ISR: u64 = 0x100;
    pub const TMR: u64 = 0x180;
    pub const IRR: u64 = 0x200;
    pub const ESR: u64 = 0x280;
    pub const ICR_LOW: u64 = 0x300;
    pub const ICR_HIGH: u64 = 0x310;
    pub const LVT_TIMER: u64 = 0x320;
    pub const LVT_THERMAL: u64 = 0x330;
    pub const LVT_PERFORMANCE: u64 = 0x340;
    pub const LVT_LINT0: u64 = 0x350;
    pub const LVT_LINT1: u64 = 0x360;
    pub const LVT_ERROR: u64 = 0x370;
    pub const TIMER_INITIAL: u64 = 0x380;
    pub const TIMER_CURRENT: u64 = 0x390;
    pub const TIMER_DIVIDE: u64 = 0x3e0;
}

use register::*;

/// Where every processor finds its local APIC.
pub const BASE: u64 = 0xfee0_0000;
/// The vector of spurious interrupts after [`enable`].
pub const SPURIOUS_VECTOR: u8 = 0xff;
/// LVT and redirection entry: masked.
pub const MASKED: u32 = 1 << 16;
/// LVT LINT0: external interrupts of the 8259 pass.
pub const EXTINT: u32 = 7 << 8;
/// ICR: level assert, needed with INIT and harmless otherwise.
pub const ASSERT: u32 = 1 << 14;
/// ICR: to every processor, this one too.
pub const ALL: u32 = 2 << 18;
/// ICR: to every other processor.
pub const OTHERS: u32 = 3 << 18;
/// ICR: this processor.
pub const SELF: u32 = 1 << 18;
/// ICR: the destination is logical.
pub const LOGICAL: u32 = 1 << 11;
/// ICR delivery modes.
pub const NMI: u32 = 4 << 8;
/// INIT.
pub const INIT: u32 = 5 << 8;
/// Start-up: the vector is the page number.
pub const STARTUP: u32 = 6 << 8;

const IA32_APIC_BASE: u32 = 0x1b;
const DELIVERY_PENDING: u32 = 1 << 12;

/// Reads a register.
pub fn read(offset: u64) -> u32 {
    read32(BASE + offset)
}

/// Writes a register.
pub fn write(offset: u64, value: u32) {
    write32(BASE + offset, value);
}

/// This processor's APIC id by its register.
pub fn id() -> u8 {
    (read(ID) >> 24) as u8
}

/// This processor's APIC id by CPUID leaf 1.
pub fn cpuid_id() -> u8 {
    (cpuid(1, 0).ebx >> 24) as u8
}

/// Enables the local APIC, accepts all priorities.
pub fn enable() {
    wrmsr(IA32_APIC_BASE, rdmsr(IA32_APIC_BASE) | 1 << 11);
    write(SPURIOUS, 0x100 | u32::from(SPURIOUS_VECTOR));
    write(TPR, 0);
}

/// Ends the interrupt in service.
pub fn eoi() {
    write(EOI, 0);
}

/// A handler that only ends the interrupt.
pub fn eoi_handler(_vector: u8) {
    eoi();
}

/// Sends an interrupt command and waits until it is delivered.
pub fn send(destination: u8, command: u32) {
    write(ICR_HIGH, u32::from(destination) << 24);
    write(ICR_LOW, command | ASSERT);
    while read(ICR_LOW) & DELIVERY_PENDING != 0 {}
}

/// Whether a vector's bit is set in ISR, TMR or IRR.
pub fn bit(bank: u64, vector: u8) -> bool {
    read(bank + u64::from(vector / 32) * 0x10) & 1 << (vector % 32) != 0
}

/// Whether CPUID reports x2APIC.
pub fn has_x2apic() -> bool {
    cpuid(1, 0).ecx & 1 << 21 != 0
}

/// The I/O APIC.
pub mod io {
    use crate::io::{read32, write32};

    /// Its address on a PC.
    pub const BASE: u64 = 0xfec0_0000;
    /// Index of the id register.
    pub const ID: u32 = 0;
    /// Index of the version register.
    pub const VERSION: u32 = 1;
    /// Redirection entry: level triggered.
    pub const LEVEL: u32 = 1 << 15;
    /// Redirection entry: remote IRR, set while a level interrupt awaits its EOI.
    pub const REMOTE_IRR: u32 = 1 << 14;

    /// Reads a register by its index.
    pub fn read(index: u32) -> u32 {
        write32(BASE, index);
        read32(BASE + 0x10)
    }

    /// Writes a register by its index.
    pub fn write(index: u32, value: u32) {
        write32(BASE, index);
        write32(BASE + 0x10, value);
    }

    /// Routes a pin to a processor: the low word of its redirection entry, and the APIC id.
    pub fn route(pin: u32, low: u32, apic_id: u8) {
        write(0x11 + pin * 2, u32::from(apic_id) << 24);
        write(0x10 + pin * 2, low);
    }

    /// The low word of a pin's redirection entry.
    pub fn entry(pin: u32) -> u32 {
        read(0x10 + pin * 2)
    }

    /// Masks a pin.
    pub fn mask(pin: u32) {
        route(pin, super::MASKED, 0);
    }
}
