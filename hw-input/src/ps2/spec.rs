//! Commands and replies of PS/2 keyboards and mice: IBM Personal System/2 Hardware Interface Technical
//! Reference, Keyboards (101- and 102-key) and Mouse; Microsoft's description of the wheel mice.

/// Bytes that a device keeps for the host.
pub const QUEUE_SIZE: usize = 16;

/// Reply: acknowledge.
pub const ACK: u8 = 0xfa;
/// Reply: not understood, send again.
pub const RESEND: u8 = 0xfe;
/// Reply: the self test passed.
pub const SELF_TEST_PASSED: u8 = 0xaa;

/// Keyboard: set status indicators, with the LEDs as an argument.
pub const KBD_SET_LEDS: u8 = 0xed;
/// Keyboard: echo.
pub const KBD_ECHO: u8 = 0xee;
/// Keyboard: select the scan code set in the argument, or read it for argument 0.
pub const KBD_SCANCODE_SET: u8 = 0xf0;
/// Keyboard: read ID.
pub const KBD_GET_ID: u8 = 0xf2;
/// Keyboard: set typematic rate and delay.
pub const KBD_SET_RATE: u8 = 0xf3;
/// Keyboard: enable scanning.
pub const KBD_ENABLE: u8 = 0xf4;
/// Keyboard: default disable.
pub const KBD_RESET_DISABLE: u8 = 0xf5;
/// Keyboard: set default.
pub const KBD_RESET_ENABLE: u8 = 0xf6;
/// Keyboard: all keys typematic, make and break.
pub const KBD_SET_TYPEMATIC: u8 = 0xfa;
/// Keyboard: the key in the argument make and break.
pub const KBD_SET_MAKE_BREAK: u8 = 0xfc;
/// Keyboard and mouse: reset.
pub const RESET: u8 = 0xff;
/// Keyboard: what firmware sends to find out whether one is there (as QEMU answers).
pub const KBD_PROBE: u8 = 0x00;
/// First byte of the ID of a keyboard.
pub const KBD_ID: u8 = 0xab;
/// Second byte of the ID of a keyboard.
pub const KBD_ID_MF2: u8 = 0x83;
/// The same after translation.
pub const KBD_ID_MF2_TRANSLATED: u8 = 0x41;

/// Keyboard: the scan code set after reset.
pub const KBD_DEFAULT_SET: u8 = 2;
/// Sets 2 and 3: what goes ahead of the make code when a key is released.
pub const KBD_BREAK: u8 = 0xf0;
/// Set 1, and sets 2 and 3 after translation: what is set in the make code when a key is released.
pub const KBD_BREAK_BIT: u8 = 0x80;

/// LED indicators: scroll lock.
pub const LED_SCROLL_LOCK: u8 = 1 << 0;
/// LED indicators: num lock.
pub const LED_NUM_LOCK: u8 = 1 << 1;
/// LED indicators: caps lock.
pub const LED_CAPS_LOCK: u8 = 1 << 2;

/// Mouse: set scaling 1:1.
pub const AUX_SET_SCALE11: u8 = 0xe6;
/// Mouse: set scaling 2:1.
pub const AUX_SET_SCALE21: u8 = 0xe7;
/// Mouse: set resolution.
pub const AUX_SET_RES: u8 = 0xe8;
/// Mouse: status request.
pub const AUX_GET_STATUS: u8 = 0xe9;
/// Mouse: set stream mode.
pub const AUX_SET_STREAM: u8 = 0xea;
/// Mouse: read data.
pub const AUX_POLL: u8 = 0xeb;
/// Mouse: reset wrap mode.
pub const AUX_RESET_WRAP: u8 = 0xec;
/// Mouse: set wrap mode.
pub const AUX_SET_WRAP: u8 = 0xee;
/// Mouse: set remote mode.
pub const AUX_SET_REMOTE: u8 = 0xf0;
/// Mouse: read device type.
pub const AUX_GET_TYPE: u8 = 0xf2;
/// Mouse: set sampling rate.
pub const AUX_SET_SAMPLE: u8 = 0xf3;
/// Mouse: enable.
pub const AUX_ENABLE: u8 = 0xf4;
/// Mouse: disable.
pub const AUX_DISABLE: u8 = 0xf5;
/// Mouse: set default.
pub const AUX_SET_DEFAULT: u8 = 0xf6;

/// Mouse: the resolution after reset, 4 counts a millimetre.
pub const AUX_DEFAULT_RES: u8 = 2;
/// Mouse: the sampling rate after reset.
pub const AUX_DEFAULT_SAMPLE: u8 = 100;

/// Mouse status: remote mode.
pub const AUX_STATUS_REMOTE: u8 = 1 << 6;
/// Mouse status: enabled.
pub const AUX_STATUS_ENABLED: u8 = 1 << 5;
/// Mouse status: scaling 2:1.
pub const AUX_STATUS_SCALE21: u8 = 1 << 4;

/// First byte of a packet: left button.
pub const PACKET_LEFT: u8 = 1 << 0;
/// First byte of a packet: right button.
pub const PACKET_RIGHT: u8 = 1 << 1;
/// First byte of a packet: middle button.
pub const PACKET_MIDDLE: u8 = 1 << 2;
/// First byte of a packet: always set.
pub const PACKET_ONE: u8 = 1 << 3;
/// First byte of a packet: X is negative.
pub const PACKET_X_SIGN: u8 = 1 << 4;
/// First byte of a packet: Y is negative.
pub const PACKET_Y_SIGN: u8 = 1 << 5;
/// The largest movement in a packet.
pub const PACKET_MOVE_MAX: i32 = 127;
/// IntelliMouse Explorer, fourth byte of a packet: the vertical wheel.
pub const PACKET_WHEEL: u8 = 0x0f;
/// IntelliMouse Explorer: the largest movement of the vertical wheel in a packet.
pub const PACKET_WHEEL_MAX: i32 = 7;
/// IntelliMouse Explorer, fourth byte of a packet: fourth button.
pub const PACKET_SIDE: u8 = 1 << 4;
/// IntelliMouse Explorer, fourth byte of a packet: fifth button.
pub const PACKET_EXTRA: u8 = 1 << 5;
/// IntelliMouse Explorer, fourth byte of a packet: it tells of the horizontal wheel.
pub const PACKET_HORIZONTAL: u8 = 1 << 6;
/// IntelliMouse Explorer: the horizontal wheel, if [`PACKET_HORIZONTAL`].
pub const PACKET_HORIZONTAL_WHEEL: u8 = 0x3f;
/// IntelliMouse Explorer: the largest movement of the horizontal wheel in a packet.
pub const PACKET_HORIZONTAL_MAX: i32 = 31;
