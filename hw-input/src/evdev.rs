//! Linux's codes of keys, buttons and axes (`linux/input-event-codes.h`), which virtio input devices speak
//! (virtio 1.2, section 5.8).

use crate::ps2::MouseButton;
use crate::qkeycode::QKeyCode;

/// Kinds of events.
pub(crate) const EV_SYN: u16 = 0x00;
pub(crate) const EV_KEY: u16 = 0x01;
pub(crate) const EV_REL: u16 = 0x02;
pub(crate) const EV_ABS: u16 = 0x03;
pub(crate) const EV_LED: u16 = 0x11;
pub(crate) const EV_REP: u16 = 0x14;
/// Axes of a movement and of a place; the wheel is one of a movement.
pub(crate) const AXIS_X: u16 = 0;
pub(crate) const AXIS_Y: u16 = 1;
pub(crate) const REL_WHEEL: u16 = 8;
/// Bits of the lamps: number, capitals and scroll lock.
pub(crate) const LEDS: u8 = 0b111;
/// The bus that devices say they are on.
pub(crate) const BUS_VIRTUAL: u16 = 0x06;

/// The code of a button.
pub(crate) fn button_code(button: MouseButton) -> Option<u16> {
    Some(match button {
        MouseButton::Left => 0x110,
        MouseButton::Right => 0x111,
        MouseButton::Middle => 0x112,
        MouseButton::Side => 0x113,
        MouseButton::Extra => 0x114,
        MouseButton::WheelDown => 0x150,
        MouseButton::WheelUp => 0x151,
        #[allow(unreachable_patterns)] // Others, when there are some.
        _ => return None,
    })
}

/// The keys whose codes follow each other, from code 1 on: Linux numbers them as the PC's first keyboards did.
const IN_ORDER: [QKeyCode; 83] = {
    use QKeyCode::*;
    [
        Esc,
        Digit1,
        Digit2,
        Digit3,
        Digit4,
        Digit5,
        Digit6,
        Digit7,
        Digit8,
        Digit9,
        Digit0,
        Minus,
        Equal,
        Backspace,
        Tab,
        Q,
        W,
        E,
        R,
        T,
        Y,
        U,
        I,
        O,
        P,
        BracketLeft,
        BracketRight,
        Ret,
        Ctrl,
        A,
        S,
        D,
        F,
        G,
        H,
        J,
        K,
        L,
        Semicolon,
        Apostrophe,
        GraveAccent,
        Shift,
        Backslash,
        Z,
        X,
        C,
        V,
        B,
        N,
        M,
        Comma,
        Dot,
        Slash,
        ShiftR,
        KpMultiply,
        Alt,
        Spc,
        CapsLock,
        F1,
        F2,
        F3,
        F4,
        F5,
        F6,
        F7,
        F8,
        F9,
        F10,
        NumLock,
        ScrollLock,
        Kp7,
        Kp8,
        Kp9,
        KpSubtract,
        Kp4,
        Kp5,
        Kp6,
        KpAdd,
        Kp1,
        Kp2,
        Kp3,
        Kp0,
        KpDecimal,
    ]
};

/// The code of a key.
pub(crate) fn key_code(key: QKeyCode) -> Option<u16> {
    use QKeyCode::*;
    if let Some(place) = IN_ORDER.iter().position(|k| *k == key) {
        return Some(place as u16 + 1);
    }
    Some(match key {
        Less => 86,
        F11 => 87,
        F12 => 88,
        Ro => 89,
        Hiragana => 91,
        Henkan => 92,
        Katakanahiragana => 93,
        Muhenkan => 94,
        KpEnter => 96,
        CtrlR => 97,
        KpDivide => 98,
        Sysrq | Print => 99,
        AltR => 100,
        Lf => 101,
        Home => 102,
        Up => 103,
        Pgup => 104,
        Left => 105,
        Right => 106,
        End => 107,
        Down => 108,
        Pgdn => 109,
        Insert => 110,
        Delete => 111,
        Audiomute => 113,
        Volumedown => 114,
        Volumeup => 115,
        Power => 116,
        KpEquals => 117,
        Pause => 119,
        KpComma => 121,
        Lang1 => 122,
        Lang2 => 123,
        Yen => 124,
        MetaL => 125,
        MetaR => 126,
        Compose => 127,
        Stop => 128,
        Again => 129,
        Props => 130,
        Undo => 131,
        Front => 132,
        Copy => 133,
        Open => 134,
        Paste => 135,
        Find => 136,
        Cut => 137,
        Help => 138,
        Menu => 139,
        Calculator => 140,
        Sleep => 142,
        Wake => 143,
        Mail => 155,
        AcBookmarks => 156,
        Computer => 157,
        AcBack => 158,
        AcForward => 159,
        Audionext => 163,
        Audioplay => 164,
        Audioprev => 165,
        Audiostop => 166,
        AcHome => 172,
        AcRefresh => 173,
        Mediaselect => 226,
        _ => return None,
    })
}
