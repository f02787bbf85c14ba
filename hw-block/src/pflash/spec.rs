//! Numbers of Intel's parallel flash: "Common Flash Memory Interface Specification" (AMD, release 2.0) and the
//! 28F640J3A data sheet, section 4 (bus operations and commands).

/// Commands, the first byte of a sequence.
pub mod command {
    /// Read the array; not in the data sheet, but what QEMU has after reset.
    pub const READ_ARRAY_RESET: u8 = 0x00;
    /// Program what comes next.
    pub const PROGRAM: u8 = 0x10;
    /// Erase a block.
    pub const BLOCK_ERASE: u8 = 0x20;
    /// The same, in the second cycle.
    pub const BLOCK_ERASE_ALT: u8 = 0x28;
    /// Program what comes next.
    pub const PROGRAM_ALT: u8 = 0x40;
    /// Clear the status register.
    pub const CLEAR_STATUS: u8 = 0x50;
    /// Lock or unlock a block.
    pub const LOCK: u8 = 0x60;
    /// Read the status register.
    pub const READ_STATUS: u8 = 0x70;
    /// Read manufacturer and device.
    pub const READ_ID: u8 = 0x90;
    /// Read the query table.
    pub const CFI_QUERY: u8 = 0x98;
    /// Program a buffer: a count, data, a confirmation.
    pub const WRITE_BUFFER: u8 = 0xe8;
    /// Read the array.
    pub const READ_ARRAY: u8 = 0xff;
    /// The last byte of sequences that change something.
    pub const CONFIRM: u8 = 0xd0;
    /// Lock the block, after [`LOCK`].
    pub const LOCK_CONFIRM: u8 = 0x01;
}

/// Bits of the status register.
pub mod status {
    /// Nothing is under way.
    pub const READY: u8 = 0x80;
    /// A block was not erased.
    pub const ERASE_ERROR: u8 = 0x20;
    /// Something was not programmed.
    pub const PROGRAM_ERROR: u8 = 0x10;
}

/// Length of the query table.
pub const CFI_TABLE: usize = 0x52;
/// Where the table says how much the write buffer takes, as a power of 2.
pub const CFI_BUFFER_SIZE: usize = 0x2a;
/// What the table says of every chip, from 0x10 on: "QRY", Intel's extended command set with its table at 0x31, 4.5 to
/// 5.5 V, and typical and longest times as powers of 2.
pub const CFI_START: [u8; 0x17] = [
    b'Q', b'R', b'Y', 0x01, 0, 0x31, 0, 0, 0, 0, 0, 0x45, 0x55, 0, 0, 0x07, 0x07, 0x0a, 0, 0x04, 0x04, 0x04,
    0,
];
/// Offset of [`CFI_START`].
pub const CFI_START_AT: usize = 0x10;
/// The table of the extended command set: version 1.0, no features.
pub const CFI_EXTENDED: [u8; 5] = *b"PRI10";
/// Offset of [`CFI_EXTENDED`].
pub const CFI_EXTENDED_AT: usize = 0x31;
