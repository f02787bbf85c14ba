//! The keyboard.

use serde::{Deserialize, Serialize};

use super::scancode::{scancodes, translate};
use super::{Queue, spec};
use util::log::{Mask, log_mask};

use crate::qkeycode::QKeyCode;

/// A key without a name of its own in sets 1 and 2, high byte first.
type Code = [u16; 2];

/// The shift that goes with Print, so that old software sees an asterisk of the keypad.
const PRINT_SHIFT: Code = [0xe02a, 0xe012];
const PRINT: Code = [0xe037, 0xe07c];
/// Print while Alt is down.
const SYSRQ: Code = [0x54, 0x84];
/// Pause is Ctrl, prefixed, and Num Lock.
const PAUSE_CTRL: Code = [0xe11d, 0xe114];
const PAUSE_NUM_LOCK: Code = [0x45, 0x77];
/// Pause while Ctrl is down.
const BREAK: Code = [0xe046, 0xe07e];

/// Keys that change what Print and Pause send, as bits.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Modifiers(u8);

impl Modifiers {
    const KEYS: [QKeyCode; 6] =
        [QKeyCode::Ctrl, QKeyCode::CtrlR, QKeyCode::Shift, QKeyCode::ShiftR, QKeyCode::Alt, QKeyCode::AltR];

    fn bit(key: QKeyCode) -> u8 {
        Self::KEYS.iter().position(|&modifier| modifier == key).map_or(0, |position| 1 << position)
    }

    fn set(&mut self, key: QKeyCode, down: bool) {
        self.0 = if down { self.0 | Self::bit(key) } else { self.0 & !Self::bit(key) };
    }

    fn any(self, keys: &[QKeyCode]) -> bool {
        keys.iter().any(|&key| self.0 & Self::bit(key) != 0)
    }
}

/// The keyboard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ps2Keyboard {
    queue: Queue,
    /// The command that waits for its argument.
    command: Option<u8>,
    scan_enabled: bool,
    /// Whether the controller translates set 2 to set 1. Done here, as scan codes but not replies are translated.
    translate: bool,
    scancode_set: u8,
    leds: u8,
    modifiers: Modifiers,
}

impl Default for Ps2Keyboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Ps2Keyboard {
    /// The state after power-on.
    pub fn new() -> Self {
        Self {
            queue: Queue::default(),
            command: None,
            scan_enabled: true,
            translate: false,
            scancode_set: spec::KBD_DEFAULT_SET,
            leds: 0,
            modifiers: Modifiers::default(),
        }
    }

    /// Whether there is anything to read.
    pub fn has_data(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Reads a byte; the last one again if there is none.
    pub fn read(&mut self) -> u8 {
        self.queue.pop()
    }

    /// The LEDs that the guest lit: [`spec::LED_SCROLL_LOCK`], `LED_NUM_LOCK`, `LED_CAPS_LOCK`.
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// Whether the controller translates scan codes.
    pub fn set_translation(&mut self, translate: bool) {
        self.translate = translate;
    }

    /// The host sends a byte.
    pub fn write(&mut self, value: u8) {
        match self.command.take() {
            Some(command) => self.write_argument(command, value),
            None => self.write_command(value),
        }
    }

    fn write_command(&mut self, command: u8) {
        match command {
            spec::KBD_PROBE | spec::KBD_SET_TYPEMATIC => self.reply(&[spec::ACK]),
            spec::KBD_ECHO => self.reply(&[spec::KBD_ECHO]),
            spec::KBD_GET_ID => {
                let id = if self.translate { spec::KBD_ID_MF2_TRANSLATED } else { spec::KBD_ID_MF2 };
                self.reply(&[spec::ACK, spec::KBD_ID, id]);
            }
            spec::KBD_ENABLE => {
                self.scan_enabled = true;
                self.reply(&[spec::ACK]);
            }
            spec::KBD_SCANCODE_SET | spec::KBD_SET_LEDS | spec::KBD_SET_RATE | spec::KBD_SET_MAKE_BREAK => {
                self.command = Some(command);
                self.reply(&[spec::ACK]);
            }
            spec::KBD_RESET_DISABLE | spec::KBD_RESET_ENABLE => {
                self.set_defaults();
                self.scan_enabled = command == spec::KBD_RESET_ENABLE;
                self.reply(&[spec::ACK]);
            }
            spec::RESET => {
                self.set_defaults();
                self.reply(&[spec::ACK, spec::SELF_TEST_PASSED]);
            }
            // Sending again among it, as in QEMU.
            _ => self.reply(&[spec::RESEND]),
        }
    }

    fn write_argument(&mut self, command: u8, value: u8) {
        match (command, value) {
            (spec::KBD_SCANCODE_SET, 0) => {
                let set = self.scancode_set;
                self.reply(&[spec::ACK, if self.translate { translate(set) } else { set }]);
            }
            (spec::KBD_SCANCODE_SET, 1..=3) => {
                self.scancode_set = value;
                self.reply(&[spec::ACK]);
            }
            (spec::KBD_SCANCODE_SET, _) => self.reply(&[spec::RESEND]),
            (spec::KBD_SET_LEDS, _) => {
                self.leds = value & (spec::LED_SCROLL_LOCK | spec::LED_NUM_LOCK | spec::LED_CAPS_LOCK);
                self.reply(&[spec::ACK]);
            }
            _ => self.reply(&[spec::ACK]),
        }
    }

    fn set_defaults(&mut self) {
        self.scan_enabled = true;
        self.scancode_set = spec::KBD_DEFAULT_SET;
        self.leds = 0;
        self.queue.clear();
    }

    fn reply(&mut self, bytes: &[u8]) {
        self.queue.set_reply(bytes);
    }

    /// A key goes down or up. It is lost if scanning is disabled or the queue is full.
    pub fn key_event(&mut self, key: QKeyCode, down: bool) {
        if !self.scan_enabled {
            return;
        }
        self.modifiers.set(key, down);
        let mut codes = Vec::new();
        if self.scancode_set == 3 {
            let [_, _, code] = scancodes(key);
            self.encode(code, down, &mut codes);
        } else {
            for ([set_1, set_2], down) in self.strokes(key, down) {
                self.encode(if self.scancode_set == 1 { set_1 } else { set_2 }, down, &mut codes);
            }
        }
        if codes.is_empty() && !matches!(key, QKeyCode::Pause) {
            log_mask(Mask::UNIMP, || format!("ps2: ignoring key with qcode {}", key as u32));
        }
        self.queue.push(&codes);
    }

    /// What goes down and up in sets 1 and 2 for one key.
    fn strokes(&self, key: QKeyCode, down: bool) -> Vec<(Code, bool)> {
        let code = |key| {
            let [set_1, set_2, _] = scancodes(key);
            [set_1, set_2]
        };
        match key {
            QKeyCode::Pause if !down => vec![],
            QKeyCode::Pause if self.modifiers.any(&[QKeyCode::Ctrl, QKeyCode::CtrlR]) => {
                vec![(BREAK, true), (BREAK, false)]
            }
            QKeyCode::Pause => [true, false]
                .into_iter()
                .flat_map(|down| [(PAUSE_CTRL, down), (PAUSE_NUM_LOCK, down)])
                .collect(),
            QKeyCode::Print | QKeyCode::Sysrq => {
                let alt = [QKeyCode::Alt, QKeyCode::AltR].into_iter().find(|&alt| self.modifiers.any(&[alt]));
                let mut strokes = match alt {
                    Some(alt) if down => vec![(code(alt), false), (code(alt), true), (SYSRQ, true)],
                    Some(alt) => vec![(SYSRQ, false), (code(alt), false), (code(alt), true)],
                    None => vec![(PRINT, down)],
                };
                let [ctrl, ctrl_r, shift, shift_r, ..] = Modifiers::KEYS;
                if alt.is_none() && !self.modifiers.any(&[ctrl, ctrl_r, shift, shift_r]) {
                    strokes.insert(if down { 0 } else { 1 }, (PRINT_SHIFT, down));
                }
                strokes
            }
            _ => vec![(code(key), down)],
        }
    }

    /// Appends the bytes of `code` going down or up; none if the set has no such key.
    fn encode(&self, code: u16, down: bool, bytes: &mut Vec<u8>) {
        let [prefix, code] = code.to_be_bytes();
        // These two have no break code.
        let make_only = matches!(code, 0xf1 | 0xf2);
        if code == 0 || make_only && !down {
            return;
        }
        if prefix != 0 {
            bytes.push(prefix);
        }
        let break_bit = if down { 0 } else { spec::KBD_BREAK_BIT };
        if self.scancode_set == 1 {
            let code = code | break_bit;
            bytes.push(if self.translate { translate(code) } else { code });
        } else if self.translate {
            bytes.push(translate(code) | break_bit);
        } else {
            if !down {
                bytes.push(spec::KBD_BREAK);
            }
            bytes.push(code);
        }
    }
}
