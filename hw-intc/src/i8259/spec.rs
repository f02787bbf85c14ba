//! Command words of the Intel 8259A data sheet (order number 231468), and the ELCR of the 82371SB (PIIX3).

/// ICW1, recognised by this bit at A0 = 0.
pub const ICW1: u8 = 1 << 4;
/// ICW1, IC4: an ICW4 follows.
pub const ICW1_IC4: u8 = 1 << 0;
/// ICW1, SNGL: no cascade, no ICW3.
pub const ICW1_SNGL: u8 = 1 << 1;
/// ICW2, T7–T3: upper bits of the vector.
pub const ICW2_VECTOR: u8 = 0xf8;
/// ICW4: 8086 mode, the only one a PC uses.
pub const ICW4_8086: u8 = 1 << 0;
/// ICW4, AEOI: the interrupt ends when it is acknowledged.
pub const ICW4_AEOI: u8 = 1 << 1;
/// ICW4, SFNM: special fully nested mode.
pub const ICW4_SFNM: u8 = 1 << 4;

/// OCW3, recognised by this bit at A0 = 0 (without [`ICW1`]); otherwise it is OCW2.
pub const OCW3: u8 = 1 << 3;
/// OCW2, R, SL and EOI: what to do.
pub const OCW2_COMMAND_SHIFT: u32 = 5;
/// OCW2: rotate in automatic EOI mode, off.
pub const OCW2_ROTATE_AEOI_CLEAR: u8 = 0b000;
/// OCW2: non-specific EOI.
pub const OCW2_EOI: u8 = 0b001;
/// OCW2: specific EOI.
pub const OCW2_SPECIFIC_EOI: u8 = 0b011;
/// OCW2: rotate in automatic EOI mode, on.
pub const OCW2_ROTATE_AEOI_SET: u8 = 0b100;
/// OCW2: rotate on non-specific EOI.
pub const OCW2_ROTATE_EOI: u8 = 0b101;
/// OCW2: set priority.
pub const OCW2_SET_PRIORITY: u8 = 0b110;
/// OCW2: rotate on specific EOI.
pub const OCW2_ROTATE_SPECIFIC_EOI: u8 = 0b111;
/// OCW2, L2–L0: the interrupt level acted upon.
pub const OCW2_LEVEL: u8 = 0x07;
/// OCW3, RIS: read ISR instead of IRR.
pub const OCW3_RIS: u8 = 1 << 0;
/// OCW3, RR: RIS is valid.
pub const OCW3_RR: u8 = 1 << 1;
/// OCW3, P: poll.
pub const OCW3_POLL: u8 = 1 << 2;
/// OCW3, SMM: special mask mode.
pub const OCW3_SMM: u8 = 1 << 5;
/// OCW3, ESMM: SMM is valid.
pub const OCW3_ESMM: u8 = 1 << 6;
/// Poll word, I: there is an interrupt, its level in the low bits.
pub const POLL_INTERRUPT: u8 = 1 << 7;

/// The level that answers when the request has gone.
pub const SPURIOUS: u8 = 7;
/// The master's input that the slave's output is wired to.
pub const CASCADE: u8 = 2;

/// The master's ports.
pub const MASTER_PORT: u32 = 0x20;
/// The slave's ports.
pub const SLAVE_PORT: u32 = 0xa0;
/// Inputs of a chip.
pub const INPUTS: u32 = 8;

/// Port of the master's ELCR.
pub const ELCR1_PORT: u32 = 0x4d0;
/// Port of the slave's ELCR.
pub const ELCR2_PORT: u32 = 0x4d1;
/// ELCR1 bits that can be set: not IRQ 0, 1 and 2.
pub const ELCR1_MASK: u8 = 0xf8;
/// ELCR2 bits that can be set: not IRQ 8 and 13.
pub const ELCR2_MASK: u8 = 0xde;

/// The vectors that a PC's firmware gives both chips.
pub const FIRMWARE_VECTORS: [u8; 2] = [0x08, 0x70];
/// What SeaBIOS leaves masked: all but the timer, the keyboard, the second chip and floppy disks; all but the clock, the mouse,
/// the FPU and the first IDE channel.
pub const FIRMWARE_MASKS: [u8; 2] = [0xb8, 0x8e];
/// What it leaves masked when it wakes the machine: all but the second chip.
pub const FIRMWARE_MASKS_WAKING: [u8; 2] = [0xfb, 0xff];
