//! `virtserialport` and `virtconsole`: ports of a [`VirtIOSerial`], each with a character device.
//!
//! Source: QEMU `hw/char/virtio-console.c`, `hw/char/virtio-serial-bus.c`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use chardev::{CharFrontend, CharHandlers, Event};
use hw_core::{Bus, CharProperty, Device, DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_virtio::{VirtQueue, VirtQueueElement};
use parking_lot::Mutex;
use qapi::{QapiEvent, QapiType};
use qom::{Class, ClassInit, Object, Property, Result, TypeInfo, bail};
use serde::{Deserialize, Serialize};

use crate::virtio_serial::spec::{F_MULTIPORT, PORT_OPEN};
use crate::virtio_serial::{VirtIOSerial, discard};

/// The number of a port whose user gave none.
const BAD_ID: u32 = u32::MAX;
/// Bytes taken from the character device before the guest has room for them.
const INPUT_SIZE: usize = 4096;
/// Bytes offered to the character device at once.
const CHUNK: usize = 16 << 10;
/// Buffers of the guest's taken before others of the loop have their turn.
const BATCH: u32 = 64;

/// The guest opened or closed a port.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_VSERPORT_CHANGE-arg", event = "VSERPORT_CHANGE")]
struct VserportChange {
    /// The port's device.
    id: String,
    /// Whether it is open now.
    open: bool,
}

/// The root part of every port.
#[derive(Object)]
#[object(name = "virtio-serial-port", parent = Device, abstract, class_init = base_class_init)]
pub struct VirtIOSerialPort {
    parent: Device,
    #[property(default = BAD_ID)]
    nr: Property<u32>,
    #[property]
    name: Property<Option<String>>,
}

/// A port of either kind.
#[derive(Object)]
#[object(name = "virtserialport", parent = VirtIOSerialPort, class_init = vmstate::register::<VirtSerialPort>)]
pub struct VirtSerialPort {
    parent: VirtIOSerialPort,
    /// ID of a chardev to use as a backend
    #[property]
    chardev: Property<CharProperty>,
    frontend: CharFrontend,
    serial: OnceLock<Weak<VirtIOSerial>>,
    /// Somebody is at the other end of the character device, or need not be.
    host_connected: AtomicBool,
    /// The guest has opened the port.
    guest_connected: AtomicBool,
    output: Mutex<Output>,
    /// What the guest has no room for yet.
    input: Mutex<Vec<u8>>,
}

#[derive(Default)]
struct Output {
    /// The character device is slow: nothing is taken from the guest.
    throttled: bool,
    /// What is half written, and how much of it is.
    element: Option<(VirtQueueElement, u64)>,
    /// How much of the next buffer was written before the state was saved.
    written_before: u64,
}

/// What sets the kinds apart.
#[derive(Clone, Copy, Default)]
struct PortClass {
    is_console: bool,
}

qom::type_init!(VirtIOSerialPort, VirtSerialPort);
qom::type_init!(fn register_console);

impl<T: DeviceImpl> ClassInit<T> for VirtIOSerialPort {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
    }
}

fn base_class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.bus_type = Some("virtio-serial-bus");
    device.category = Some(DeviceCategory::Input);
}

fn register_console() {
    let console = |class: &mut Class| class.get_mut::<PortClass>().is_console = true;
    qom::type_register(TypeInfo::new("virtconsole", "virtserialport", console));
}

impl VirtSerialPort {
    /// Its number, once it is realized.
    pub(crate) fn port_id(&self) -> u32 {
        self.nr.get()
    }

    /// What guests find it by.
    pub(crate) fn port_name(&self) -> Option<String> {
        self.name.get()
    }

    /// Whether the guest can have its console there.
    pub(crate) fn is_console(&self) -> bool {
        self.class().get::<PortClass>().is_some_and(|class| class.is_console)
    }

    /// The line for it in `info qtree` (`virtser_bus_dev_print`).
    pub fn state_line(&self) -> String {
        let on = |is: bool| if is { "on" } else { "off" };
        format!(
            "port {}, guest {}, host {}, throttle {}",
            self.port_id(),
            on(self.is_guest_connected()),
            on(self.is_host_connected()),
            on(self.output.lock().throttled)
        )
    }

    pub(crate) fn is_host_connected(&self) -> bool {
        self.host_connected.load(Ordering::Acquire)
    }

    fn is_guest_connected(&self) -> bool {
        self.guest_connected.load(Ordering::Acquire)
    }

    fn serial(&self) -> Option<Arc<VirtIOSerial>> {
        self.serial.get()?.upgrade()
    }

    /// The queue to the guest, and the one from it.
    fn queues(&self) -> Option<(Arc<VirtQueue>, Arc<VirtQueue>)> {
        self.serial()?.port_queues(self.port_id())
    }

    /// The guest opened or closed the port.
    pub(crate) fn set_guest_connected(&self, open: bool) {
        self.guest_connected.store(open, Ordering::Release);
        if let Some(id) = self.id() {
            qapi::emit(&VserportChange { id: id.to_owned(), open });
        }
        if open {
            self.guest_writable();
        }
    }

    /// The guest's driver is there, and cannot tell when it opens the port.
    pub(crate) fn note_guest_connected(&self) {
        self.guest_connected.store(true, Ordering::Release);
    }

    /// The guest's driver is gone.
    pub(crate) fn guest_reset(&self) {
        let output = std::mem::take(&mut *self.output.lock());
        drop(output);
        if self.is_guest_connected() {
            self.set_guest_connected(false);
        }
    }

    /// The guest may have room for input.
    pub(crate) fn guest_writable(&self) {
        if self.hand_on_input() {
            self.frontend.accept_input();
        }
    }

    /// Gives the guest what waits for it, as far as it has room; whether that was all.
    fn hand_on_input(&self) -> bool {
        if !self.is_open() {
            return false;
        }
        let Some((queue, _)) = self.queues() else { return false };
        let mut input = self.input.lock();
        let mut done = 0;
        while done < input.len() {
            let Some(element) = queue.pop() else { break };
            let written = element.write(0, input.get(done..).unwrap_or_default());
            queue.push(element, written as u32);
            done += written;
        }
        input.drain(..done);
        let all = input.is_empty();
        drop(input);
        if done > 0 {
            queue.notify();
        }
        all
    }

    /// Whether both sides are there, and the machine runs.
    fn is_open(&self) -> bool {
        let guest_is_ready = self
            .serial()
            .is_some_and(|s| s.is_running() && (!s.has_feature(F_MULTIPORT) || self.is_guest_connected()));
        self.is_host_connected() && guest_is_ready
    }

    /// The guest wrote something; its queue's handler.
    pub(crate) fn guest_wrote(&self, queue: &Arc<VirtQueue>) {
        for _ in 0..BATCH {
            let element = {
                let mut output = self.output.lock();
                if output.throttled {
                    return;
                }
                let before = output.written_before;
                let next = output.element.take().or_else(|| Some((queue.pop()?, before)));
                output.written_before = if next.is_some() { 0 } else { before };
                next
            };
            let Some((element, done)) = element else { return };
            match self.write_out(&element, done) {
                Some(done) => self.throttle(element, done),
                None => {
                    queue.push(element, 0);
                    queue.notify();
                }
            }
        }
        if let Some(serial) = self.serial() {
            serial.queue_again(queue);
        }
    }

    /// Writes what is left of a buffer; gives how much is written when the character device takes no more for now.
    /// A console's guest may wait for each byte with its locks held: what would make it wait is lost.
    fn write_out(&self, element: &VirtQueueElement, mut done: u64) -> Option<u64> {
        let mut data = vec![0; CHUNK];
        loop {
            let len = element.read(done, &mut data);
            if len == 0 {
                return None;
            }
            let taken = self.frontend.write(data.get(..len).unwrap_or_default());
            if taken < len && !self.is_console() {
                return Some(done + taken as u64);
            }
            done += len as u64;
        }
    }

    /// Goes on with a buffer when the character device takes more.
    fn throttle(&self, element: VirtQueueElement, done: u64) {
        {
            let mut output = self.output.lock();
            output.throttled = true;
            output.element = Some((element, done));
        }
        let port = self.weak();
        let watched = self.frontend.add_watch(move || {
            if let Some(object) = port.upgrade()
                && let Some(port) = object.cast::<VirtSerialPort>()
            {
                port.unthrottle();
            }
        });
        if !watched {
            self.unthrottle();
        }
    }

    fn unthrottle(&self) {
        self.output.lock().throttled = false;
        if let (Some(serial), Some((_, queue))) = (self.serial(), self.queues()) {
            serial.queue_again(&queue);
        }
    }

    /// A byte in the configuration.
    pub(crate) fn emergency_write(&self, byte: u8) {
        self.frontend.write(&[byte]);
    }

    /// Somebody came to the other end, or left it.
    fn set_host_connected(&self, connected: bool) {
        if self.host_connected.swap(connected, Ordering::AcqRel) == connected {
            return;
        }
        if !connected {
            self.frontend.remove_watch();
            self.input.lock().clear();
            let element = {
                let mut output = self.output.lock();
                output.throttled = false;
                output.element.take()
            };
            if let Some((_, queue)) = self.queues() {
                if let Some((element, _)) = element {
                    queue.push(element, 0);
                }
                discard(&queue);
            }
        }
        // A guest that does not know the port yet is told when it says that it is ready for it.
        if let Some(serial) = self.serial().filter(|serial| serial.port(self.port_id()).is_some()) {
            serial.send_control(self.port_id(), PORT_OPEN, connected.into(), &[]);
        }
        self.guest_writable();
    }

    /// Settles the number and the name, which no other port of the device may have.
    fn take_place(&self, serial: &VirtIOSerial) -> Result<()> {
        let wanted = self.nr.get();
        if wanted != BAD_ID && serial.port(wanted).is_some() {
            bail!("virtio-serial-bus: A port already exists at id {wanted}");
        }
        if let Some(name) = self.name.get()
            && is_taken(&name)
        {
            bail!("virtio-serial-bus: A port already exists by name {name}");
        }
        if wanted == BAD_ID {
            let Some(free) = serial.free_id(self.is_console()) else {
                bail!("virtio-serial-bus: Maximum port limit for this device reached")
            };
            self.nr.set(free);
        }
        if self.nr.get() >= serial.max_ports() {
            let most = serial.max_ports() - 1;
            bail!("virtio-serial-bus: Out-of-range port id specified, max. allowed: {most}");
        }
        if self.nr.get() == 0 && !self.is_console() {
            bail!(
                "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward \
                 compatibility."
            );
        }
        Ok(())
    }
}

/// The names of all ports of the machine.
static NAMES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn is_taken(name: &str) -> bool {
    NAMES.lock().iter().any(|taken| taken == name)
}

impl CharHandlers for VirtSerialPort {
    fn can_read(&self) -> usize {
        let (room, waits) = match self.queues() {
            Some((queue, _)) if self.is_open() => (!queue.is_empty(), !self.input.lock().is_empty()),
            _ => (false, false),
        };
        if room && !waits { INPUT_SIZE } else { 0 }
    }

    fn read(&self, data: &[u8]) {
        self.input.lock().extend_from_slice(data);
        self.hand_on_input();
    }

    fn event(&self, event: Event) {
        match event {
            // A console need not be read by anybody.
            Event::Opened | Event::Closed if self.is_console() => {}
            Event::Opened => self.set_host_connected(true),
            Event::Closed => self.set_host_connected(false),
            Event::Break | Event::MuxIn | Event::MuxOut => {}
        }
    }
}

impl DeviceImpl for VirtSerialPort {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let owner = self.parent_bus().and_then(|bus| bus.cast::<Bus>()?.owner());
        let Some(serial) = owner.and_then(qom::downcast::<VirtIOSerial>) else {
            bail!("'{}' needs a virtio-serial bus", self.class().name())
        };
        let _ = self.serial.set(Arc::downgrade(&serial));
        self.take_place(&serial)?;
        let attached = CharProperty::attach(&self.chardev, &self.frontend)?;
        NAMES.lock().extend(self.name.get());
        if attached {
            let this: Arc<dyn CharHandlers> = self.clone();
            self.frontend.set_handlers(Arc::downgrade(&this));
            if self.is_console() {
                self.set_host_connected(true);
            }
        }
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.frontend.remove_watch();
        self.frontend.detach();
        if let Some(name) = self.name.get() {
            NAMES.lock().retain(|taken| *taken != name);
        }
        self.guest_reset();
        if let Some(serial) = self.serial() {
            serial.remove_port(self.port_id());
        }
    }
}

/// What a port saves.
#[derive(Debug, Serialize, Deserialize)]
pub struct VirtSerialPortState {
    guest_connected: bool,
    /// Taken from the character device, and not given to the guest yet.
    input: Vec<u8>,
    /// How much is written of the buffer that is half written.
    written: u64,
}

impl VmState for VirtSerialPort {
    type State = VirtSerialPortState;

    fn save(&self) -> Option<VirtSerialPortState> {
        Some(VirtSerialPortState {
            guest_connected: self.is_guest_connected(),
            input: self.input.lock().clone(),
            written: self.output.lock().element.as_ref().map_or(0, |(_, written)| *written),
        })
    }

    fn load(&self, state: VirtSerialPortState) -> Result<()> {
        self.guest_connected.store(state.guest_connected, Ordering::Release);
        *self.input.lock() = state.input;
        let mut output = self.output.lock();
        (output.element, output.written_before) = (None, state.written);
        Ok(())
    }
}
