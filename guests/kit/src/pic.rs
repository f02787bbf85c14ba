//! The two 8259A interrupt controllers (Intel 231468) and PIIX's edge/level registers.

use crate::io::{inb, outb};

/// The vector of IRQ 0 after [`remap`]; IRQ n has `VECTORS + n`.
pub const VECTORS: u8 = 0x20;
const MASTER: u16 = 0x20;
const SLAVE: u16 = 0xa0;
/// Edge/level control, IRQ 0-7 and 8-15 (PIIX3 data sheet, section 2.5.4.8): bit set is level.
pub const ELCR: [u16; 2] = [0x4d0, 0x4d1];
const EOI: u8 = 0x20;

/// Initialises both with IRQ n at `VECTORS + n`, all masked.
pub fn remap() {
    for (chip, vectors, cascade) in [(MASTER, VECTORS, 4), (SLAVE, VECTORS + 8, 2)] {
        outb(chip, 0x11);
        outb(chip + 1, vectors);
        outb(chip + 1, cascade);
        outb(chip + 1, 0x01);
        outb(chip + 1, 0xff);
    }
}

/// Lets only these IRQs through (bit n: IRQ n), and the cascade if one of them is the slave's.
pub fn unmask_only(irqs: u16) {
    let irqs = if irqs > 0xff { irqs | 4 } else { irqs };
    outb(MASTER + 1, !irqs as u8);
    outb(SLAVE + 1, (!irqs >> 8) as u8);
}

/// The interrupt masks, IRQ 0 in bit 0.
pub fn masks() -> u16 {
    u16::from(inb(MASTER + 1)) | u16::from(inb(SLAVE + 1)) << 8
}

/// The interrupt request registers (OCW3 with RIS clear).
pub fn requests() -> u16 {
    read_ocw3(0x0a)
}

/// The in-service registers (OCW3 with RIS set).
pub fn in_service() -> u16 {
    read_ocw3(0x0b)
}

fn read_ocw3(command: u8) -> u16 {
    outb(MASTER, command);
    outb(SLAVE, command);
    u16::from(inb(MASTER)) | u16::from(inb(SLAVE)) << 8
}

/// The non-specific end of interrupt for an IRQ.
pub fn eoi(irq: u8) {
    if irq >= 8 {
        outb(SLAVE, EOI);
    }
    outb(MASTER, EOI);
}

/// A handler that only ends the interrupt.
pub fn eoi_handler(vector: u8) {
    eoi(vector - VECTORS);
}
