//! Registers and bit fields of the Intel 82093AA data sheet (order number 290566), section 3, and of the
//! message-signalled interrupt format (Intel SDM volume 3, 11.11).

/// Interrupt inputs.
pub const PINS: usize = 24;

/// Where a PC's I/O APIC is.
pub const IO_APIC_DEFAULT_ADDRESS: u64 = 0xfec0_0000;
/// Bytes of memory it takes.
pub const REGISTER_SPACE: u64 = 0x1000;
/// I/O register select, byte offset (3.1.1).
pub const IOREGSEL: u64 = 0x00;
/// I/O window (3.1.2).
pub const IOWIN: u64 = 0x10;
/// End of interrupt: version 20h only.
pub const EOI: u64 = 0x40;
/// The address bits that are decoded.
pub const OFFSET_MASK: u64 = 0xff;

/// Index of the identification register (3.2.1).
pub const IOAPICID: u8 = 0x00;
/// Index of the version register (3.2.2).
pub const IOAPICVER: u8 = 0x01;
/// Index of the arbitration register (3.2.3).
pub const IOAPICARB: u8 = 0x02;
/// Index of the first redirection entry's low half; each entry has two (3.2.4).
pub const IOREDTBL: u8 = 0x10;

/// Position of the identification in its register.
pub const ID_SHIFT: u32 = 24;
/// Four bits of identification.
pub const ID_MASK: u32 = 0xf;
/// Position of the number of the last redirection entry in the version register.
pub const MAX_REDIRECTION_SHIFT: u32 = 16;
/// The version with an EOI register, QEMU's default.
pub const VERSION_20: u8 = 0x20;
/// The 82093AA's version.
pub const VERSION_11: u8 = 0x11;

/// Interrupt vector.
pub const INTVEC: u64 = 0xff;
/// Delivery mode, three bits.
pub const DELMOD_SHIFT: u32 = 8;
/// Delivery mode after the shift.
pub const DELMOD_MASK: u64 = 0x7;
/// Destination mode: logical.
pub const DESTMOD: u64 = 1 << 11;
/// Delivery status: send pending, read-only.
pub const DELIVS: u64 = 1 << 12;
/// Remote IRR: accepted by a local APIC and not ended, read-only.
pub const REMOTE_IRR: u64 = 1 << 14;
/// Trigger mode: level.
pub const TRIGGER_LEVEL: u64 = 1 << 15;
/// Masked.
pub const MASK: u64 = 1 << 16;
/// Destination: the APIC id in the upper eight bits, QEMU's extended destination in the lower.
pub const DEST_SHIFT: u32 = 48;

/// Base address of interrupt messages.
pub const MSI_ADDRESS: u64 = 0xfee0_0000;
/// Position of the 16 destination bits in the address.
pub const MSI_ADDRESS_DEST_SHIFT: u32 = 4;
/// Position of the destination mode in the address.
pub const MSI_ADDRESS_DESTMOD_SHIFT: u32 = 2;
/// Position of the delivery mode in the data.
pub const MSI_DATA_DELMOD_SHIFT: u32 = 8;
/// Position of the trigger mode in the data.
pub const MSI_DATA_TRIGGER_SHIFT: u32 = 15;
