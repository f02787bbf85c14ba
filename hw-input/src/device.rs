//! The device around [`I8042`]: ports 0x60 and 0x64, lines 1 and 12, A20 and reset.
//!
//! Source: QEMU `hw/input/pckbd.c`.

use std::sync::{Arc, OnceLock, Weak};

use hw_core::runstate::{ShutdownCause, reset_request};
use hw_core::suspend::{WakeupReason, wakeup_request};
use hw_core::{DeviceClass, DeviceImpl, IrqPin, VmState, vmstate};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::i8042::{I8042, I8042Actions};
use crate::input::{self, InputAxis, InputEvent, InputHandler};

/// Data port.
const DATA_PORT: u32 = 0x60;
/// Command and status port.
const COMMAND_PORT: u32 = 0x64;
/// The keyboard's interrupt line.
const KEYBOARD_IRQ: u32 = 1;
/// The mouse's interrupt line.
const MOUSE_IRQ: u32 = 12;

/// The device.
#[derive(Object)]
#[object(name = "i8042", parent = IsaDevice, class_init = class_init)]
pub struct I8042Device {
    parent: IsaDevice,
    /// Whether the keyboard waits a millisecond between bytes
    #[property]
    kbd_throttle: Property<bool>,
    chip: OnceLock<Mutex<I8042>>,
    timer: OnceLock<Timer>,
    keyboard: IrqPin,
    mouse: IrqPin,
    a20: Arc<IrqPin>,
}
qom::type_init!(I8042Device);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().board_only = true;
    vmstate::register::<I8042Device>(class);
}

impl I8042Device {
    fn change<R>(&self, f: impl FnOnce(&mut I8042, u64) -> R) -> Option<R> {
        let chip = self.chip.get()?;
        let now = now_ns(ClockType::Virtual);
        let (result, fell1, fell12) = {
            let mut chip = chip.lock();
            let result = f(&mut chip, now);
            // Under the chip's lock, so that an older deadline does not come last.
            if let (Some(timer), Some(deadline)) = (self.timer.get(), chip.next_deadline()) {
                timer.mod_ns(deadline);
            }
            (result, chip.take_irq1_fall(), chip.take_irq12_fall())
        };
        // A line falls before the other rises.
        let keyboard_last = !chip.lock().irq12_level();
        if keyboard_last {
            self.mouse.sync(fell12, || chip.lock().irq12_level());
        }
        self.keyboard.sync(fell1, || chip.lock().irq1_level());
        if !keyboard_last {
            self.mouse.sync(fell12, || chip.lock().irq12_level());
        }
        Some(result)
    }

    fn act(&self, actions: Option<I8042Actions>) {
        let Some(actions) = actions else { return };
        if let Some(a20) = actions.a20 {
            self.a20.set(a20);
        }
        if actions.reset {
            reset_request(ShutdownCause::GuestReset);
        }
    }
}

impl DeviceImpl for I8042Device {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let _ = self.chip.set(Mutex::new(I8042::new(self.kbd_throttle.get())));
        let this = Arc::downgrade(self);
        let timer = Timer::new(ClockType::Virtual, move || {
            if let Some(this) = this.upgrade() {
                this.change(I8042::expire);
            }
        });
        let _ = self.timer.set(timer);
        self.init_gpio_out("a20", &self.a20);
        self.connect_irq(&self.keyboard, KEYBOARD_IRQ)?;
        self.connect_irq(&self.mouse, MOUSE_IRQ)?;
        self.register_ioport(Arc::new(DataPort(self.clone())), "i8042-data", DATA_PORT, 1)?;
        self.register_ioport(Arc::new(CommandPort(self.clone())), "i8042-cmd", COMMAND_PORT, 1)?;
        input::register(Arc::new(Keyboard(Arc::downgrade(self))));
        input::register(Arc::new(Mouse(Arc::downgrade(self))));
        Ok(())
    }

    fn reset_hold(&self) {
        let a20 = self.change(|chip, _| {
            chip.reset();
            chip.a20()
        });
        self.a20.set(a20.unwrap_or(true));
    }
}

impl VmState for I8042Device {
    type State = I8042;

    fn save(&self) -> Option<I8042> {
        Some(self.chip.get()?.lock().clone())
    }

    fn load(&self, state: I8042) -> Result<()> {
        let a20 = self.change(|chip, _| {
            *chip = state;
            chip.a20()
        });
        self.a20.set(a20.unwrap_or(true));
        Ok(())
    }
}

struct DataPort(Arc<I8042Device>);

impl RegionOps for DataPort {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.0.change(I8042::read_data).unwrap_or(0xff).into()
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        let actions = self.0.change(|chip, _| chip.write_data(value as u8));
        self.0.act(actions);
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}

struct CommandPort(Arc<I8042Device>);

impl RegionOps for CommandPort {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.0.change(|chip, _| chip.read_status()).unwrap_or(0xff).into()
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        let actions = self.0.change(|chip, _| chip.write_command(value as u8));
        self.0.act(actions);
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}

/// The keyboard as users' keys reach it.
struct Keyboard(Weak<I8042Device>);

impl InputHandler for Keyboard {
    fn name(&self) -> &'static str {
        "QEMU PS/2 Keyboard"
    }

    fn takes(&self, event: &InputEvent) -> bool {
        matches!(event, InputEvent::Key(_))
    }

    fn pointer(&self) -> Option<bool> {
        None
    }

    fn event(&self, event: &InputEvent) {
        // Most of the time nobody sleeps.
        let _ = wakeup_request(WakeupReason::Other);
        if let (InputEvent::Key(event), Some(device)) = (event, self.0.upgrade()) {
            device.change(|chip, _| chip.key_event(event.data.key.key(), event.data.down));
        }
    }

    fn sync(&self) {}
}

/// The mouse as users' movements reach it.
struct Mouse(Weak<I8042Device>);

impl InputHandler for Mouse {
    fn name(&self) -> &'static str {
        "QEMU PS/2 Mouse"
    }

    fn takes(&self, event: &InputEvent) -> bool {
        matches!(event, InputEvent::Btn(_) | InputEvent::Rel(_))
    }

    fn pointer(&self) -> Option<bool> {
        Some(false)
    }

    fn event(&self, event: &InputEvent) {
        let Some(device) = self.0.upgrade() else { return };
        let moves = !matches!(event, InputEvent::Btn(button) if !button.data.down);
        if moves {
            let _ = wakeup_request(WakeupReason::Other);
        }
        match event {
            InputEvent::Btn(event) => {
                device.change(|chip, _| chip.mouse_button(event.data.button, event.data.down));
            }
            InputEvent::Rel(event) => {
                let distance = event.data.value.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
                let (dx, dy) = match event.data.axis {
                    InputAxis::X => (distance, 0),
                    InputAxis::Y => (0, distance),
                };
                device.change(|chip, _| chip.mouse_move(dx, dy));
            }
            InputEvent::Key(_) | InputEvent::Abs(_) => {}
        }
    }

    fn sync(&self) {
        if let Some(device) = self.0.upgrade() {
            device.change(|chip, _| chip.mouse_sync());
        }
    }
}
