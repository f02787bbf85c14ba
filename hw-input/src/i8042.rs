//! The 8042 keyboard controller with a PS/2 keyboard and mouse: IBM's PC AT and PS/2 technical references, with
//! the choices of QEMU's hw/input/pckbd.c.
//!
//! Commands take no time: the input buffer is never full.

pub mod spec;

use serde::{Deserialize, Serialize};
use util::log::{Mask, log_mask};

use crate::ps2::{MouseButton, Ps2Keyboard, Ps2Mouse};
use crate::qkeycode::QKeyCode;

/// What the device around the chip has to do after a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct I8042Actions {
    /// Set address line 20.
    pub a20: Option<bool>,
    /// Reset the machine.
    pub reset: bool,
    /// The keyboard's LEDs are now these ([`crate::ps2::spec::LED_SCROLL_LOCK`] and so on).
    pub leds: Option<u8>,
}

/// Where the byte in the output buffer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Source {
    Keyboard,
    Mouse,
    /// The controller itself, as if from the mouse if so.
    Controller {
        aux: bool,
    },
}

impl Source {
    fn is_aux(self) -> bool {
        matches!(self, Self::Mouse | Self::Controller { aux: true })
    }
}

/// The controller, its keyboard and its mouse.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct I8042 {
    keyboard: Ps2Keyboard,
    mouse: Ps2Mouse,
    /// The command that waits for its argument at the data port.
    command: Option<u8>,
    /// The command byte.
    mode: u8,
    /// Status bits but for those of the output buffer.
    status: u8,
    /// Output port bits; what the guest writes to those of the output buffer stays until that changes.
    outport: u8,
    /// What the output buffer holds.
    output: Option<Source>,
    /// Whether there is a reply of the controller's, in the output buffer or waiting for it.
    reply: Option<Source>,
    /// That reply: a newer one takes its place.
    reply_byte: u8,
    /// The byte read last.
    data: u8,
    throttle: bool,
    /// Until when the keyboard is throttled.
    throttled_until_ns: Option<u64>,
    irq1: bool,
    irq12: bool,
    irq1_fell: bool,
    irq12_fell: bool,
}

impl I8042 {
    /// The state after power-on. `throttle` is QEMU's property `kbd-throttle`.
    pub fn new(throttle: bool) -> Self {
        Self {
            keyboard: Ps2Keyboard::new(),
            mouse: Ps2Mouse::new(),
            command: None,
            mode: spec::MODE_KBD_INT | spec::MODE_MOUSE_INT,
            status: spec::STAT_CMD | spec::STAT_UNLOCKED,
            outport: spec::OUT_RESET | spec::OUT_A20 | spec::OUT_ONES,
            output: None,
            reply: None,
            reply_byte: 0,
            data: 0,
            throttle,
            throttled_until_ns: None,
            irq1: false,
            irq12: false,
            irq1_fell: false,
            irq12_fell: false,
        }
    }

    /// Returns to the state after power-on, but that the byte read last stays readable. A20 is on again.
    pub fn reset(&mut self) {
        *self = Self { data: self.data, ..Self::new(self.throttle) };
    }

    /// Level of interrupt line 1, the keyboard's.
    pub fn irq1_level(&self) -> bool {
        self.irq1
    }

    /// Level of interrupt line 12, the mouse's.
    pub fn irq12_level(&self) -> bool {
        self.irq12
    }

    /// Whether line 1 fell since this was last asked. Another thread may raise it before the line has followed:
    /// [`Self::irq1_level`] alone does not show the edge then.
    pub fn take_irq1_fall(&mut self) -> bool {
        std::mem::take(&mut self.irq1_fell)
    }

    /// As [`Self::take_irq1_fall`], for line 12.
    pub fn take_irq12_fall(&mut self) -> bool {
        std::mem::take(&mut self.irq12_fell)
    }

    /// Address line 20 as the output port has it.
    pub fn a20(&self) -> bool {
        self.outport & spec::OUT_A20 != 0
    }

    /// The LEDs that the guest lit.
    pub fn leds(&self) -> u8 {
        self.keyboard.leds()
    }

    /// Reads the status port, 0x64.
    pub fn read_status(&self) -> u8 {
        self.status
            | match self.output {
                None => 0,
                Some(source) if source.is_aux() => spec::STAT_OBF | spec::STAT_MOUSE_OBF,
                Some(_) => spec::STAT_OBF,
            }
    }

    /// Reads the data port, 0x60.
    pub fn read_data(&mut self, now_ns: u64) -> u8 {
        let Some(source) = self.output else { return self.data };
        self.output = None;
        self.update_lines();
        self.outport &= !(spec::OUT_OBF | spec::OUT_MOUSE_OBF);
        self.data = match source {
            Source::Keyboard => {
                if self.throttle {
                    self.throttled_until_ns = Some(now_ns.saturating_add(spec::THROTTLE_NS));
                }
                self.keyboard.read()
            }
            Source::Mouse => self.mouse.read(),
            Source::Controller { .. } => {
                self.reply = None;
                self.reply_byte
            }
        };
        // After a byte of the keyboard's the mouse has its turn.
        self.fill_from(matches!(source, Source::Keyboard));
        self.data
    }

    /// Writes the command port, 0x64.
    #[must_use]
    pub fn write_command(&mut self, command: u8) -> I8042Actions {
        let mut actions = I8042Actions::default();
        match command {
            spec::READ_MODE => self.reply(self.mode),
            spec::WRITE_MODE
            | spec::WRITE_OBUF
            | spec::WRITE_AUX_OBUF
            | spec::WRITE_MOUSE
            | spec::WRITE_OUTPORT => self.command = Some(command),
            spec::MOUSE_DISABLE => self.set_mode(self.mode | spec::MODE_DISABLE_MOUSE),
            spec::MOUSE_ENABLE => self.set_mode(self.mode & !spec::MODE_DISABLE_MOUSE),
            spec::KBD_DISABLE => self.set_mode(self.mode | spec::MODE_DISABLE_KBD),
            spec::KBD_ENABLE => self.set_mode(self.mode & !spec::MODE_DISABLE_KBD),
            spec::TEST_MOUSE | spec::TEST_KBD => self.reply(spec::INTERFACE_TEST_PASSED),
            spec::SELF_TEST => {
                self.status |= spec::STAT_SELFTEST;
                self.reply(spec::SELF_TEST_PASSED);
            }
            spec::READ_INPORT => self.reply(spec::IN_UNLOCKED),
            spec::READ_OUTPORT => self.reply(self.outport),
            spec::READ_TEST_INPUTS => self.reply(self.read_test_inputs()),
            spec::ENABLE_A20 => actions.a20 = Some(self.set_a20(true)),
            spec::DISABLE_A20 => actions.a20 = Some(self.set_a20(false)),
            spec::PULSE.. => actions.reset = command & spec::OUT_RESET == 0,
            // There are no such commands.
            _ => log_mask(Mask::GUEST_ERROR, || format!("unsupported keyboard cmd=0x{command:02x}")),
        }
        actions
    }

    /// Writes the data port, 0x60.
    #[must_use]
    pub fn write_data(&mut self, value: u8) -> I8042Actions {
        let mut actions = I8042Actions::default();
        match self.command.take() {
            Some(spec::WRITE_MODE) => {
                self.keyboard.set_translation(value & spec::MODE_KCC != 0);
                self.mode = value;
                self.update_lines();
                self.fill_output();
            }
            Some(spec::WRITE_OBUF) => self.reply(value),
            Some(spec::WRITE_AUX_OBUF) => self.set_reply(true, value),
            Some(spec::WRITE_OUTPORT) => {
                self.outport = value;
                actions.a20 = Some(self.a20());
                actions.reset = value & spec::OUT_RESET == 0;
            }
            Some(_) => {
                self.mouse.write(value);
                // Sending to a device enables its interface.
                self.set_mode(self.mode & !spec::MODE_DISABLE_MOUSE);
            }
            None => {
                let leds = self.leds();
                self.keyboard.write(value);
                actions.leds = (self.leds() != leds).then_some(self.leds());
                self.set_mode(self.mode & !spec::MODE_DISABLE_KBD);
            }
        }
        actions
    }

    /// A key of the keyboard goes down or up.
    pub fn key_event(&mut self, key: QKeyCode, down: bool) {
        self.keyboard.key_event(key, down);
        self.fill_output();
    }

    /// The mouse moves to the right by `dx` and down by `dy`; told to the guest by [`Self::mouse_sync`].
    pub fn mouse_move(&mut self, dx: i32, dy: i32) {
        self.mouse.move_by(dx, dy);
    }

    /// A button of the mouse goes down or up or a wheel turns; told to the guest by [`Self::mouse_sync`].
    pub fn mouse_button(&mut self, button: MouseButton, down: bool) {
        self.mouse.button(button, down);
    }

    /// Tells the guest what the mouse did.
    pub fn mouse_sync(&mut self) {
        self.mouse.sync();
        self.fill_output();
    }

    /// The virtual time at which [`Self::expire`] is next due: the keyboard's throttle ends.
    pub fn next_deadline(&self) -> Option<u64> {
        self.throttled_until_ns
    }

    /// Ends the keyboard's throttle if it is due.
    pub fn expire(&mut self, now_ns: u64) {
        if self.throttled_until_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            self.throttled_until_ns = None;
            self.fill_output();
        }
    }

    fn reply(&mut self, byte: u8) {
        self.set_reply(false, byte);
    }

    /// A reply, as if from the mouse with `aux`.
    fn set_reply(&mut self, aux: bool, byte: u8) {
        (self.reply, self.reply_byte) = (Some(Source::Controller { aux }), byte);
        self.fill_output();
    }

    fn set_mode(&mut self, mode: u8) {
        self.mode = mode;
        self.fill_output();
    }

    fn set_a20(&mut self, level: bool) -> bool {
        self.outport = self.outport & !spec::OUT_A20 | if level { spec::OUT_A20 } else { 0 };
        level
    }

    fn read_test_inputs(&self) -> u8 {
        // A disabled interface holds the clock low.
        let clock = if self.mode & spec::MODE_DISABLE_KBD == 0 { spec::TEST_KBD_CLOCK } else { 0 };
        clock | spec::TEST_KBD_DATA
    }

    fn fill_output(&mut self) {
        self.fill_from(false);
    }

    /// Moves the next byte to the empty output buffer: the controller's, then the keyboard's, then the mouse's, or this one's
    /// before the keyboard's.
    fn fill_from(&mut self, mouse_first: bool) {
        if self.output.is_some() {
            return;
        }
        let enabled = |bit: u8| self.mode & bit == 0;
        let mouse = self.mouse.has_data() && enabled(spec::MODE_DISABLE_MOUSE);
        self.output = if self.reply.is_some() {
            self.reply
        } else if self.throttled_until_ns.is_some() {
            None
        } else if mouse && mouse_first {
            Some(Source::Mouse)
        } else if self.keyboard.has_data() && enabled(spec::MODE_DISABLE_KBD) {
            Some(Source::Keyboard)
        } else if mouse {
            Some(Source::Mouse)
        } else {
            None
        };
        let bits = match self.output {
            None => return,
            Some(source) if source.is_aux() => spec::OUT_OBF | spec::OUT_MOUSE_OBF,
            Some(_) => spec::OUT_OBF,
        };
        self.outport = self.outport & !(spec::OUT_OBF | spec::OUT_MOUSE_OBF) | bits;
        self.update_lines();
    }

    /// Has the interrupt lines follow the output buffer and the command byte, and notes which fall. Commands that switch an
    /// interface off leave them, as in QEMU.
    fn update_lines(&mut self) {
        let aux = self.output.map(Source::is_aux);
        let keyboard = self.mode & (spec::MODE_KBD_INT | spec::MODE_DISABLE_KBD) == spec::MODE_KBD_INT;
        let irq1 = keyboard && aux == Some(false);
        let irq12 = self.mode & spec::MODE_MOUSE_INT != 0 && aux == Some(true);
        self.irq1_fell |= self.irq1 && !irq1;
        self.irq12_fell |= self.irq12 && !irq12;
        (self.irq1, self.irq12) = (irq1, irq12);
    }
}
