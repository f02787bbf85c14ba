//! `virtio-keyboard`, `virtio-mouse` and `virtio-tablet` (virtio 1.2, section 5.8).
//!
//! Source followed besides: QEMU `hw/input/virtio-input.c`, `virtio-input-hid.c`, `hw/virtio/virtio-input-pci.c`.

use std::sync::{Arc, OnceLock, Weak};

use hw_core::{DeviceCategory, DeviceClass, DeviceImpl};
use hw_virtio::pci::{Variants, VirtioPciType};
use hw_virtio::spec::{Status, id};
use hw_virtio::{VirtIODevice, VirtQueue, VirtioDeviceImpl};
use parking_lot::Mutex;
use qom::property::field;
use qom::{Class, ClassInit, Object, Property, Result, TypeInfo, bail};

use crate::evdev::*;
use crate::input::{self, InputAxis, InputEvent, InputHandler};
use crate::ps2::MouseButton;
use crate::qkeycode::QKeyCode;

/// What a driver selects in the configuration (section 5.8.4).
mod spec {
    pub const SELECT_NAME: u8 = 0x01;
    pub const SELECT_SERIAL: u8 = 0x02;
    pub const SELECT_IDS: u8 = 0x03;
    pub const SELECT_EVENTS: u8 = 0x11;
    pub const SELECT_AXIS: u8 = 0x12;
    /// Bytes before what was selected: selection, its part, size, and five of nothing.
    pub const HEADER_SIZE: usize = 8;
    /// Bytes that can be selected.
    pub const DATA_SIZE: usize = 128;
    /// The queues: events, and the lamps.
    pub const STATUS_QUEUE: u16 = 1;
}
use spec::*;

/// Entries of both queues.
const QUEUE_SIZE: u16 = 64;
/// Vendor that QEMU's input devices have.
const VENDOR: u16 = 0x0627;
/// Where the screen ends for a tablet.
const ABS_MAX: u32 = 0x7fff;
/// PCI classes: keyboard, mouse, other input device.
const CLASS_KEYBOARD: u16 = 0x0900;
const CLASS_MOUSE: u16 = 0x0902;
const CLASS_INPUT_OTHER: u16 = 0x0980;

/// What the device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Keyboard,
    Mouse,
    Tablet,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Keyboard => "QEMU Virtio Keyboard",
            Kind::Mouse => "QEMU Virtio Mouse",
            Kind::Tablet => "QEMU Virtio Tablet",
        }
    }
}

/// What sets the types apart.
#[derive(Clone, Copy, Default)]
struct HidClass {
    kind: Kind,
}

/// A device of any kind.
#[derive(Object)]
#[object(name = "virtio-input-hid-device", parent = VirtIODevice, abstract, class_init = class_init)]
pub struct VirtIOInputHid {
    parent: VirtIODevice,
    #[property]
    display: Property<Option<String>>,
    #[property]
    head: Property<u32>,
    #[property]
    serial: Property<Option<String>>,
    /// A property of the pointers: whether the wheel is an axis in place of two buttons.
    wheel_axis: Property<bool>,
    handler: OnceLock<Arc<dyn InputHandler>>,
    state: Mutex<State>,
}
qom::type_init!(VirtIOInputHid);
qom::type_init!(fn register_types);

#[derive(Default)]
struct State {
    /// What can be selected, by selection and its part.
    config: Vec<((u8, u8), Vec<u8>)>,
    selected: (u8, u8),
    /// The driver drives the device.
    active: bool,
    /// Events that belong together, as far as they are known.
    events: Vec<[u8; 8]>,
}

fn class_init(class: &mut Class) {
    <VirtIODevice as ClassInit<VirtIOInputHid>>::class_init(class);
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Input);
}

fn register_types() {
    for (name, kind, pci_name, class_id) in [
        ("virtio-keyboard-device", Kind::Keyboard, "virtio-keyboard-pci", CLASS_KEYBOARD),
        ("virtio-mouse-device", Kind::Mouse, "virtio-mouse-pci", CLASS_MOUSE),
        ("virtio-tablet-device", Kind::Tablet, "virtio-tablet-pci", CLASS_INPUT_OTHER),
    ] {
        qom::type_register(TypeInfo::new(name, "virtio-input-hid-device", move |class| {
            class.get_mut::<HidClass>().kind = kind;
            if kind != Kind::Keyboard {
                add_wheel(class);
            }
        }));
        VirtioPciType {
            name: pci_name,
            backend: name,
            device_id: 0,
            class_id,
            category: DeviceCategory::Input,
            variants: Variants::None,
            ioeventfd: None,
            vectors: Some(2),
            has_class: false,
            default_vectors: |_| 2,
            prepare: Some(|proxy, _| {
                proxy.force_virtio_1();
                Ok(())
            }),
        }
        .register();
    }
}

fn add_wheel(class: &mut Class) {
    let default = Property::new(true);
    class.add_property(field::<VirtIOInputHid, _>("wheel-axis", "", false, |d| &d.wheel_axis, &default));
    class.set_instance_init(|object| {
        if let Some(device) = object.cast::<VirtIOInputHid>() {
            device.wheel_axis.set(true);
        }
    });
}

/// A set of numbers, a bit each.
fn bitmap(numbers: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut bits = [0u8; DATA_SIZE];
    for number in numbers {
        if let Some(byte) = bits.get_mut(usize::from(number / 8)) {
            *byte |= 1 << (number % 8);
        }
    }
    let len = bits.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bits.get(..len).unwrap_or_default().to_vec()
}

/// All buttons a pointer can have.
fn buttons() -> impl Iterator<Item = u16> {
    use MouseButton::*;
    [Left, Right, Middle, WheelUp, WheelDown, Side, Extra].into_iter().filter_map(button_code)
}

fn axis_code(axis: InputAxis) -> u16 {
    match axis {
        InputAxis::X => AXIS_X,
        InputAxis::Y => AXIS_Y,
    }
}

impl VirtIOInputHid {
    fn kind(&self) -> Kind {
        self.class().get::<HidClass>().map_or(Kind::Keyboard, |class| class.kind)
    }

    /// What can be selected in the configuration.
    fn config(&self) -> Vec<((u8, u8), Vec<u8>)> {
        let kind = self.kind();
        let wheel = self.wheel_axis.get();
        let (product, version) = match kind {
            Kind::Keyboard => (1u16, 1u16),
            Kind::Mouse => (2, 1 + u16::from(wheel)),
            Kind::Tablet => (3, 1 + u16::from(wheel)),
        };
        let ids = [BUS_VIRTUAL, VENDOR, product, version].map(u16::to_le_bytes).concat();
        let mut config =
            vec![((SELECT_NAME, 0), [kind.name().as_bytes(), &[0]].concat()), ((SELECT_IDS, 0), ids)];
        if let Some(serial) = self.serial.get() {
            config.push(((SELECT_SERIAL, 0), serial.bytes().take(DATA_SIZE).collect()));
        }
        let mut events = |kind: u16, bits| config.push(((SELECT_EVENTS, kind as u8), bits));
        let axes = [AXIS_X, AXIS_Y];
        let wheel = wheel.then_some(REL_WHEEL);
        match kind {
            Kind::Keyboard => {
                events(EV_KEY, bitmap(QKeyCode::ALL.iter().filter_map(|key| key_code(*key))));
                events(EV_REP, vec![0]);
                events(EV_LED, vec![LEDS]);
            }
            Kind::Mouse => {
                events(EV_KEY, bitmap(buttons()));
                events(EV_REL, bitmap(axes.into_iter().chain(wheel)));
            }
            Kind::Tablet => {
                events(EV_KEY, bitmap(buttons()));
                events(EV_ABS, bitmap(axes));
                if wheel.is_some() {
                    events(EV_REL, bitmap(wheel));
                }
                // From 0; no fuzz, nothing flat, no resolution.
                let range = [0, ABS_MAX, 0, 0, 0].map(u32::to_le_bytes).concat();
                config.extend(axes.map(|axis| ((SELECT_AXIS, axis as u8), range.clone())));
            }
        }
        config
    }

    /// Notes an event, and has the guest have all that belong together when the last one is known. Where it has no
    /// room for all, all are lost (section 5.8.6.2).
    fn send(&self, kind: u16, code: u16, value: u32) {
        let Some(queue) = self.queue(0) else { return };
        let mut state = self.state.lock();
        if !state.active {
            return;
        }
        let mut event = [0; 8];
        let bytes = kind.to_le_bytes().into_iter().chain(code.to_le_bytes()).chain(value.to_le_bytes());
        event.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        // More than that never has room.
        if state.events.len() <= QUEUE_SIZE.into() {
            state.events.push(event);
        }
        if kind != EV_SYN {
            return;
        }
        let events = std::mem::take(&mut state.events);
        drop(state);
        let mut elements: Vec<_> = std::iter::from_fn(|| queue.pop()).take(events.len()).collect();
        if elements.len() < events.len() {
            while let Some(element) = elements.pop() {
                queue.unpop(element);
            }
            return;
        }
        let used = elements.into_iter().zip(events).map(|(element, event)| {
            let written = element.write(0, &event);
            (element, written as u32)
        });
        queue.push_all(used.collect());
        queue.notify();
    }

    fn set_active(&self, active: bool) {
        {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.active, active) == active {
                return;
            }
            state.events.clear();
        }
        if let Some(handler) = self.handler.get() {
            input::set_active(handler, active);
        }
    }
}

/// What takes users' events for the device.
struct Handler(Weak<VirtIOInputHid>, Kind);

impl InputHandler for Handler {
    fn name(&self) -> &'static str {
        self.1.name()
    }

    fn takes(&self, event: &InputEvent) -> bool {
        match event {
            InputEvent::Key(_) => self.1 == Kind::Keyboard,
            InputEvent::Btn(_) => self.1 != Kind::Keyboard,
            InputEvent::Rel(_) => self.1 == Kind::Mouse,
            InputEvent::Abs(_) => self.1 == Kind::Tablet,
        }
    }

    fn pointer(&self) -> Option<bool> {
        (self.1 != Kind::Keyboard).then_some(self.1 == Kind::Tablet)
    }

    fn event(&self, event: &InputEvent) {
        let Some(device) = self.0.upgrade() else { return };
        match event {
            InputEvent::Key(key) => {
                if let Some(code) = key_code(key.data.key.key()) {
                    device.send(EV_KEY, code, key.data.down.into());
                }
            }
            InputEvent::Btn(button) => match (button.data.button, device.wheel_axis.get()) {
                (MouseButton::WheelUp, true) if button.data.down => device.send(EV_REL, REL_WHEEL, 1),
                (MouseButton::WheelDown, true) if button.data.down => {
                    device.send(EV_REL, REL_WHEEL, u32::MAX)
                }
                (button_, _) => {
                    if let Some(code) = button_code(button_) {
                        device.send(EV_KEY, code, button.data.down.into());
                    }
                }
            },
            InputEvent::Rel(step) => device.send(EV_REL, axis_code(step.data.axis), step.data.value as u32),
            InputEvent::Abs(place) => {
                device.send(EV_ABS, axis_code(place.data.axis), place.data.value as u32)
            }
        }
    }

    fn sync(&self) {
        if let Some(device) = self.0.upgrade()
            && !device.state.lock().events.is_empty()
        {
            device.send(EV_SYN, 0, 0);
        }
    }
}

impl DeviceImpl for VirtIOInputHid {
    fn realize(self: &Arc<Self>) -> Result<()> {
        if self.display.get().is_some() {
            bail!("display= of input devices is not supported yet");
        }
        let config = self.config();
        let longest = config.iter().map(|(_, data)| data.len()).max().unwrap_or_default();
        self.state.lock().config = config;
        self.init(id::INPUT, HEADER_SIZE + longest);
        self.add_queue(QUEUE_SIZE)?;
        self.add_queue(QUEUE_SIZE)?;
        let handler: Arc<dyn InputHandler> = Arc::new(Handler(Arc::downgrade(self), self.kind()));
        input::register_inactive(handler.clone());
        let _ = self.handler.set(handler);
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        if let Some(handler) = self.handler.get() {
            input::unregister(handler);
        }
    }
}

impl VirtioDeviceImpl for VirtIOInputHid {
    fn queue_notified(self: &Arc<Self>, queue: &Arc<VirtQueue>) {
        if queue.index() != STATUS_QUEUE {
            return;
        }
        // Lamps, which nobody sees.
        for _ in 0..QUEUE_SIZE {
            let Some(element) = queue.pop() else { return queue.notify() };
            queue.push(element, 0);
        }
        queue.notify();
        self.queue_again(queue);
    }

    fn read_config(&self, config: &mut [u8]) {
        let state = self.state.lock();
        let found = state.config.iter().find(|(selection, _)| *selection == state.selected);
        let Some(((select, part), data)) = found else { return };
        let header = [*select, *part, data.len() as u8, 0, 0, 0, 0, 0];
        config.iter_mut().zip(header.iter().chain(data)).for_each(|(to, from)| *to = *from);
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        {
            let mut state = self.state.lock();
            for (n, byte) in data.iter().enumerate() {
                match offset + n {
                    0 => state.selected.0 = *byte,
                    1 => state.selected.1 = *byte,
                    _ => {}
                }
            }
        }
        self.notify_config();
    }

    fn set_status(&self, status: Status) {
        if status.contains(Status::DRIVER_OK) {
            self.set_active(true);
        }
    }

    fn device_reset(&self) {
        self.set_active(false);
    }
}
