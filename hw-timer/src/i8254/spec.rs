//! Ports and bit fields of the Intel 8254 data sheet (order number 231164).

/// Input clock of a PC's timer in Hz.
pub const FREQUENCY: u64 = 1_193_182;
/// A PC's first port of the timer.
pub const PORT: u32 = 0x40;
/// Number of counters.
pub const COUNTERS: usize = 3;

/// Offset of the control word register; the counters are at 0–2.
pub const CONTROL: u64 = 3;
/// Control word, SC: position of the counter's number.
pub const SC_SHIFT: u32 = 6;
/// Control word, RW: position of the access mode.
pub const RW_SHIFT: u32 = 4;
/// Control word, RW, two bits. 0 is the counter latch command.
pub const RW_MASK: u8 = 0x3;
/// Control word, M: position of the mode.
pub const MODE_SHIFT: u32 = 1;
/// Control word, M, three bits.
pub const MODE_MASK: u8 = 0x7;
/// Control word: binary coded decimal.
pub const BCD: u8 = 1 << 0;

/// Control word with which SeaBIOS sets up counter 0: words, mode 2, binary.
pub const FIRMWARE_COUNTER_0: u8 = RW_WORD << RW_SHIFT | 2 << MODE_SHIFT;

/// RW: least significant byte only.
pub const RW_LSB: u8 = 1;
/// RW: most significant byte only.
pub const RW_MSB: u8 = 2;
/// RW: least significant byte, then most significant byte.
pub const RW_WORD: u8 = 3;

/// Read-back command: do not latch the count.
pub const READ_BACK_NO_COUNT: u8 = 1 << 5;
/// Read-back command: do not latch the status.
pub const READ_BACK_NO_STATUS: u8 = 1 << 4;
/// Read-back command: counter 0; the others follow.
pub const READ_BACK_COUNTER_SHIFT: u32 = 1;

/// Status byte: position of the OUT pin.
pub const STATUS_OUTPUT_SHIFT: u32 = 7;
