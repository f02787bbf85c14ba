//! The mouse: two or three buttons, with a wheel (IntelliMouse), with five buttons and two wheels (IntelliMouse
//! Explorer).

use serde::{Deserialize, Serialize};

use super::{Queue, spec};

/// A button or a notch of a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, qapi::QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "InputButton")]
pub enum MouseButton {
    /// Left button.
    Left,
    /// Middle button.
    Middle,
    /// Right button.
    Right,
    /// Vertical wheel, away from the user.
    WheelUp,
    /// Vertical wheel, towards the user.
    WheelDown,
    /// Fourth button.
    Side,
    /// Fifth button.
    Extra,
    /// Horizontal wheel, to the left.
    WheelLeft,
    /// Horizontal wheel, to the right.
    WheelRight,
}

/// What the mouse says it is, by its ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Protocol {
    Ps2 = 0,
    ImPs2 = 3,
    ImEx = 4,
}

/// Three sampling rates in a row ask for a protocol: 200, 100, 80 for one with a wheel, 200, 200, 80 for one with more buttons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Knock {
    #[default]
    None,
    First,
    Wheel,
    Buttons,
}

/// The buttons that are down.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Buttons {
    left: bool,
    middle: bool,
    right: bool,
    side: bool,
    extra: bool,
}

/// The bits of `bits` whose condition holds.
fn flags<const N: usize>(bits: [(bool, u8); N]) -> u8 {
    bits.into_iter().filter(|&(set, _)| set).fold(0, |flags, (_, bit)| flags | bit)
}

/// The mouse.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ps2Mouse {
    queue: Queue,
    /// The command that waits for its argument.
    command: Option<u8>,
    enabled: bool,
    remote: bool,
    scale_2_to_1: bool,
    wrap: bool,
    resolution: u8,
    sample_rate: u8,
    /// The sampling rates of a knock that were set so far.
    knock: Knock,
    protocol: Protocol,
    buttons: Buttons,
    /// Movement that no packet has told of: to the right, up, the wheel down, the wheel to the left.
    dx: i32,
    dy: i32,
    dz: i32,
    dw: i32,
}

impl Default for Ps2Mouse {
    fn default() -> Self {
        Self::new()
    }
}

impl Ps2Mouse {
    /// The state after power-on.
    pub fn new() -> Self {
        Self {
            queue: Queue::default(),
            command: None,
            enabled: false,
            remote: false,
            scale_2_to_1: false,
            wrap: false,
            // Its defaults come with the first command that sets them, as in QEMU.
            resolution: 0,
            sample_rate: 0,
            knock: Knock::default(),
            protocol: Protocol::Ps2,
            buttons: Buttons::default(),
            dx: 0,
            dy: 0,
            dz: 0,
            dw: 0,
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

    /// The host sends a byte.
    pub fn write(&mut self, value: u8) {
        match self.command.take() {
            Some(spec::AUX_SET_SAMPLE) => self.set_sample_rate(value),
            Some(_) => {
                self.resolution = value;
                self.reply(&[spec::ACK]);
            }
            None if self.wrap && value == spec::AUX_RESET_WRAP => {
                self.wrap = false;
                self.reply(&[spec::ACK]);
            }
            None if self.wrap && value != spec::RESET => self.reply(&[value]),
            None => self.write_command(value),
        }
    }

    fn write_command(&mut self, command: u8) {
        match command {
            spec::AUX_SET_SCALE11 | spec::AUX_SET_SCALE21 => {
                self.scale_2_to_1 = command == spec::AUX_SET_SCALE21;
            }
            spec::AUX_SET_STREAM | spec::AUX_SET_REMOTE => self.remote = command == spec::AUX_SET_REMOTE,
            spec::AUX_SET_WRAP => self.wrap = true,
            spec::AUX_ENABLE | spec::AUX_DISABLE => self.enabled = command == spec::AUX_ENABLE,
            spec::AUX_SET_RES | spec::AUX_SET_SAMPLE => self.command = Some(command),
            spec::AUX_SET_DEFAULT => self.set_defaults(),
            spec::AUX_GET_TYPE => return self.reply(&[spec::ACK, self.protocol as u8]),
            spec::AUX_GET_STATUS => {
                return self.reply(&[spec::ACK, self.status(), self.resolution, self.sample_rate]);
            }
            spec::AUX_POLL => {
                self.reply(&[spec::ACK]);
                self.send_packet();
                return;
            }
            spec::RESET => {
                self.set_defaults();
                self.protocol = Protocol::Ps2;
                self.queue.clear();
                return self.reply(&[spec::ACK, spec::SELF_TEST_PASSED, self.protocol as u8]);
            }
            // QEMU's is silent on what it does not know, sending again among it, and the end of a wrap mode that is off.
            _ => return,
        }
        self.reply(&[spec::ACK]);
    }

    fn set_defaults(&mut self) {
        self.sample_rate = spec::AUX_DEFAULT_SAMPLE;
        self.resolution = spec::AUX_DEFAULT_RES;
        self.enabled = false;
        self.remote = false;
        self.scale_2_to_1 = false;
    }

    fn set_sample_rate(&mut self, rate: u8) {
        self.sample_rate = rate;
        self.knock = match (self.knock, rate) {
            (Knock::None, 200) => Knock::First,
            (Knock::First, 100) => Knock::Wheel,
            (Knock::First, 200) => Knock::Buttons,
            (Knock::Wheel, 80) => {
                self.protocol = Protocol::ImPs2;
                Knock::None
            }
            (Knock::Buttons, 80) => {
                self.protocol = Protocol::ImEx;
                Knock::None
            }
            _ => Knock::None,
        };
        self.reply(&[spec::ACK]);
    }

    /// Without the buttons, as in QEMU.
    fn status(&self) -> u8 {
        flags([
            (self.remote, spec::AUX_STATUS_REMOTE),
            (self.enabled, spec::AUX_STATUS_ENABLED),
            (self.scale_2_to_1, spec::AUX_STATUS_SCALE21),
        ])
    }

    /// A reply for which there is no room is lost.
    fn reply(&mut self, bytes: &[u8]) {
        self.queue.push(bytes);
    }

    /// The mouse moves to the right by `dx` and down by `dy`. Nothing is sent before [`Self::sync`].
    pub fn move_by(&mut self, dx: i32, dy: i32) {
        if self.enabled {
            self.dx = self.dx.saturating_add(dx);
            self.dy = self.dy.saturating_sub(dy);
        }
    }

    /// A button goes down or up; a wheel turns by one notch when it goes down.
    pub fn button(&mut self, button: MouseButton, down: bool) {
        if !self.enabled {
            return;
        }
        let notch = i32::from(down);
        match button {
            MouseButton::Left => self.buttons.left = down,
            MouseButton::Middle => self.buttons.middle = down,
            MouseButton::Right => self.buttons.right = down,
            MouseButton::Side => self.buttons.side = down,
            MouseButton::Extra => self.buttons.extra = down,
            MouseButton::WheelUp => self.dz = self.dz.saturating_sub(notch),
            MouseButton::WheelDown => self.dz = self.dz.saturating_add(notch),
            MouseButton::WheelRight => self.dw = self.dw.saturating_sub(notch),
            MouseButton::WheelLeft => self.dw = self.dw.saturating_add(notch),
        }
    }

    /// Sends what happened since the last time, in as many packets as it takes and the queue has room for.
    pub fn sync(&mut self) {
        if !self.enabled || self.remote {
            return;
        }
        while self.send_packet() && [self.dx, self.dy, self.dz, self.dw] != [0; 4] {}
    }

    /// Sends a packet, if there is room for it.
    fn send_packet(&mut self) -> bool {
        let length = if self.protocol == Protocol::Ps2 { 3 } else { 4 };
        let fits = self.queue.room() >= length;
        if fits {
            let packet = self.packet();
            self.queue.push(&packet);
        }
        fits
    }

    /// A packet of as much movement as fits.
    fn packet(&mut self) -> Vec<u8> {
        let dx = take(&mut self.dx, spec::PACKET_MOVE_MAX);
        let dy = take(&mut self.dy, spec::PACKET_MOVE_MAX);
        let buttons = flags([
            (self.buttons.left, spec::PACKET_LEFT),
            (self.buttons.right, spec::PACKET_RIGHT),
            (self.buttons.middle, spec::PACKET_MIDDLE),
            (dx < 0, spec::PACKET_X_SIGN),
            (dy < 0, spec::PACKET_Y_SIGN),
        ]);
        let mut packet = vec![spec::PACKET_ONE | buttons, low_byte(dx), low_byte(dy)];
        match self.protocol {
            Protocol::Ps2 => (self.dz, self.dw) = (0, 0),
            Protocol::ImPs2 => {
                packet.push(low_byte(take(&mut self.dz, spec::PACKET_MOVE_MAX)));
                self.dw = 0;
            }
            Protocol::ImEx => packet.push(self.explorer_byte()),
        }
        packet
    }

    /// The fourth byte of an IntelliMouse Explorer's packet, as Linux reads it.
    fn explorer_byte(&mut self) -> u8 {
        if self.dw != 0 {
            let dw = take(&mut self.dw, spec::PACKET_HORIZONTAL_MAX);
            return spec::PACKET_HORIZONTAL | low_byte(dw) & spec::PACKET_HORIZONTAL_WHEEL;
        }
        let dz = take(&mut self.dz, spec::PACKET_WHEEL_MAX);
        let buttons =
            flags([(self.buttons.side, spec::PACKET_SIDE), (self.buttons.extra, spec::PACKET_EXTRA)]);
        low_byte(dz) & spec::PACKET_WHEEL | buttons
    }
}

/// Takes at most `max` in either direction out of `movement`.
fn take(movement: &mut i32, max: i32) -> i32 {
    let taken = (*movement).clamp(-max, max);
    *movement -= taken;
    taken
}

fn low_byte(value: i32) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}
