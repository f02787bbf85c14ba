//! Key names: QAPI's `QKeyCode` (qapi/ui.json), independent of any keyboard's scan codes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! key_codes {
    ($($variant:ident $name:literal,)*) => {
        /// A key, as QMP's `send-key` and HMP's `sendkey` name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, qapi::QapiType)]
        #[expect(missing_docs, reason = "the names are the documentation")]
        pub enum QKeyCode {
            $(#[serde(rename = $name)] #[qapi(name = $name)] $variant,)*
        }

        impl QKeyCode {
            /// Every key, in QAPI's order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The key's QAPI name.
            pub fn name(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

// `unmapped` is a key without a name: it has no scan code.
key_codes! {
    Unmapped "unmapped", Shift "shift", ShiftR "shift_r", Alt "alt", AltR "alt_r", Ctrl "ctrl",
    CtrlR "ctrl_r", Menu "menu", Esc "esc", Digit1 "1", Digit2 "2", Digit3 "3", Digit4 "4", Digit5 "5",
    Digit6 "6", Digit7 "7", Digit8 "8", Digit9 "9", Digit0 "0", Minus "minus", Equal "equal",
    Backspace "backspace", Tab "tab", Q "q", W "w", E "e", R "r", T "t", Y "y", U "u", I "i", O "o", P "p",
    BracketLeft "bracket_left", BracketRight "bracket_right", Ret "ret", A "a", S "s", D "d", F "f", G "g",
    H "h", J "j", K "k", L "l", Semicolon "semicolon", Apostrophe "apostrophe", GraveAccent "grave_accent",
    Backslash "backslash", Z "z", X "x", C "c", V "v", B "b", N "n", M "m", Comma "comma", Dot "dot",
    Slash "slash", Asterisk "asterisk", Spc "spc", CapsLock "caps_lock", F1 "f1", F2 "f2", F3 "f3", F4 "f4",
    F5 "f5", F6 "f6", F7 "f7", F8 "f8", F9 "f9", F10 "f10", NumLock "num_lock", ScrollLock "scroll_lock",
    KpDivide "kp_divide", KpMultiply "kp_multiply", KpSubtract "kp_subtract", KpAdd "kp_add",
    KpEnter "kp_enter", KpDecimal "kp_decimal", Sysrq "sysrq", Kp0 "kp_0", Kp1 "kp_1", Kp2 "kp_2",
    Kp3 "kp_3", Kp4 "kp_4", Kp5 "kp_5", Kp6 "kp_6", Kp7 "kp_7", Kp8 "kp_8", Kp9 "kp_9", Less "less",
    F11 "f11", F12 "f12", Print "print", Home "home", Pgup "pgup", Pgdn "pgdn", End "end", Left "left",
    Up "up", Down "down", Right "right", Insert "insert", Delete "delete", Stop "stop", Again "again",
    Props "props", Undo "undo", Front "front", Copy "copy", Open "open", Paste "paste", Find "find",
    Cut "cut", Lf "lf", Help "help", MetaL "meta_l", MetaR "meta_r", Compose "compose", Pause "pause",
    Ro "ro", Hiragana "hiragana", Henkan "henkan", Yen "yen", Muhenkan "muhenkan",
    Katakanahiragana "katakanahiragana", KpComma "kp_comma", KpEquals "kp_equals", Power "power",
    Sleep "sleep", Wake "wake", Audionext "audionext", Audioprev "audioprev", Audiostop "audiostop",
    Audioplay "audioplay", Audiomute "audiomute", Volumeup "volumeup", Volumedown "volumedown",
    Mediaselect "mediaselect", Mail "mail", Calculator "calculator", Computer "computer", AcHome "ac_home",
    AcBack "ac_back", AcForward "ac_forward", AcRefresh "ac_refresh", AcBookmarks "ac_bookmarks",
    Lang1 "lang1", Lang2 "lang2",
}

impl fmt::Display for QKeyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No key has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown key")]
pub struct UnknownKey;

impl FromStr for QKeyCode {
    type Err = UnknownKey;

    fn from_str(name: &str) -> Result<Self, UnknownKey> {
        Self::ALL.iter().copied().find(|key| key.name() == name).ok_or(UnknownKey)
    }
}
