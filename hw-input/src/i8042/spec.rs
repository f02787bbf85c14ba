//! Registers, commands and bit fields of the 8042 in a PC: IBM Personal System/2 Hardware Interface Technical
//! Reference, Keyboard and Auxiliary Device Controller; IBM PC AT Technical Reference, Keyboard Controller.

/// Command: read the command byte.
pub const READ_MODE: u8 = 0x20;
/// Command: write the command byte.
pub const WRITE_MODE: u8 = 0x60;
/// Command: disable the auxiliary device.
pub const MOUSE_DISABLE: u8 = 0xa7;
/// Command: enable the auxiliary device.
pub const MOUSE_ENABLE: u8 = 0xa8;
/// Command: auxiliary interface test.
pub const TEST_MOUSE: u8 = 0xa9;
/// Command: self test.
pub const SELF_TEST: u8 = 0xaa;
/// Command: keyboard interface test.
pub const TEST_KBD: u8 = 0xab;
/// Command: disable the keyboard.
pub const KBD_DISABLE: u8 = 0xad;
/// Command: enable the keyboard.
pub const KBD_ENABLE: u8 = 0xae;
/// Command: read the input port.
pub const READ_INPORT: u8 = 0xc0;
/// Command: read the output port.
pub const READ_OUTPORT: u8 = 0xd0;
/// Command: write the output port.
pub const WRITE_OUTPORT: u8 = 0xd1;
/// Command: write the output buffer as if from the keyboard.
pub const WRITE_OBUF: u8 = 0xd2;
/// Command: write the output buffer as if from the auxiliary device.
pub const WRITE_AUX_OBUF: u8 = 0xd3;
/// Command: write to the auxiliary device.
pub const WRITE_MOUSE: u8 = 0xd4;
/// Command: A20 off (HP Vectra).
pub const DISABLE_A20: u8 = 0xdd;
/// Command: A20 on (HP Vectra).
pub const ENABLE_A20: u8 = 0xdf;
/// Command: read the test inputs.
pub const READ_TEST_INPUTS: u8 = 0xe0;
/// Commands from here on pulse those bits of the output port that are 0 in the low half.
pub const PULSE: u8 = 0xf0;

/// Reply to a self test that passed.
pub const SELF_TEST_PASSED: u8 = 0x55;
/// Reply to an interface test that passed.
pub const INTERFACE_TEST_PASSED: u8 = 0x00;

/// Status: output buffer full.
pub const STAT_OBF: u8 = 1 << 0;
/// Status: self test passed.
pub const STAT_SELFTEST: u8 = 1 << 2;
/// Status: the last write was a command.
pub const STAT_CMD: u8 = 1 << 3;
/// Status: the keyboard is not locked.
pub const STAT_UNLOCKED: u8 = 1 << 4;
/// Status: the output buffer is the auxiliary device's.
pub const STAT_MOUSE_OBF: u8 = 1 << 5;

/// Command byte: keyboard interrupt, line 1.
pub const MODE_KBD_INT: u8 = 1 << 0;
/// Command byte: auxiliary interrupt, line 12.
pub const MODE_MOUSE_INT: u8 = 1 << 1;
/// Command byte: keyboard disabled.
pub const MODE_DISABLE_KBD: u8 = 1 << 4;
/// Command byte: auxiliary device disabled.
pub const MODE_DISABLE_MOUSE: u8 = 1 << 5;
/// Command byte: translate scan codes.
pub const MODE_KCC: u8 = 1 << 6;

/// Input port: the keyboard is not locked.
pub const IN_UNLOCKED: u8 = 1 << 7;

/// Output port: 0 holds the processor in reset.
pub const OUT_RESET: u8 = 1 << 0;
/// Output port: address line 20.
pub const OUT_A20: u8 = 1 << 1;
/// Output port: the keyboard's output buffer is full.
pub const OUT_OBF: u8 = 1 << 4;
/// Output port: the auxiliary device's output buffer is full.
pub const OUT_MOUSE_OBF: u8 = 1 << 5;
/// Output port: bits without a use here, which are 1.
pub const OUT_ONES: u8 = 0xcc;

/// Test inputs: the keyboard's clock.
pub const TEST_KBD_CLOCK: u8 = 1 << 0;
/// Test inputs: the keyboard's data.
pub const TEST_KBD_DATA: u8 = 1 << 1;

/// With `kbd-throttle` the keyboard is silent for this long after each byte.
pub const THROTTLE_NS: u64 = 1_000_000;
