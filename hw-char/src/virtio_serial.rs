//! `virtio-serial`: a console device with ports, each a channel between the guest and a character device
//! (virtio 1.2, section 5.3).
//!
//! Source followed besides: QEMU `hw/char/virtio-serial-bus.c`, `hw/virtio/virtio-serial-pci.c`.

use std::sync::{Arc, OnceLock, Weak};

use hw_core::{Bus, DeviceCategory, DeviceClass, DeviceImpl, HotplugHandler, qbus_new};
use hw_pci::spec::CLASS_COMMUNICATION_OTHER;
use hw_virtio::pci::{Variants, VirtIOPciProxy, VirtioPciType};
use hw_virtio::spec::{QUEUE_MAX, Status, id, pci::DEVICE_ID_CONSOLE};
use hw_virtio::{VirtIODevice, VirtQueue, VirtioDeviceImpl};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, bail};

use crate::virtio_console::VirtSerialPort;

/// Numbers of the specification, and PCI's.
pub(crate) mod spec {
    /// Features: there are several ports, and queues to control them.
    pub const F_MULTIPORT: u64 = 1 << 1;
    /// A byte in the configuration goes out without a queue.
    pub const F_EMERG_WRITE: u64 = 1 << 2;
    /// Offsets in the configuration.
    pub const MAX_NR_PORTS: usize = 4;
    pub const EMERG_WR: usize = 8;
    /// Bytes of the configuration without and with the last.
    pub const CONFIG_SIZE_SHORT: usize = 8;
    pub const CONFIG_SIZE: usize = 12;
    /// Events of control messages.
    pub const DEVICE_READY: u16 = 0;
    pub const PORT_ADD: u16 = 1;
    pub const PORT_REMOVE: u16 = 2;
    pub const PORT_READY: u16 = 3;
    pub const CONSOLE_PORT: u16 = 4;
    pub const PORT_OPEN: u16 = 6;
    pub const PORT_NAME: u16 = 7;
    /// Bytes of a control message: port, event, value.
    pub const CONTROL_SIZE: usize = 8;
    /// Queues that control the ports: to the guest, and from it.
    pub const CONTROL_RX: u16 = 2;
    pub const CONTROL_TX: u16 = 3;
    /// PCI classes: other communication controller; other display, of old; none.
    pub const CLASSES: [u32; 3] = [0x0780, 0x0380, 0x00ff];
}
use spec::*;

/// Entries of a port's queues and of those that control them.
const QUEUE_SIZE: u16 = 128;
const CONTROL_QUEUE_SIZE: u16 = 32;
/// Control messages taken before others of the loop have their turn.
const BATCH: u32 = 64;
/// More ports have no queues.
const MAX_PORTS: u32 = QUEUE_MAX as u32 / 2 - 1;

/// The bus that ports are plugged into.
#[derive(Object)]
#[object(name = "virtio-serial-bus", parent = Bus)]
pub struct VirtIOSerialBus {
    parent: Bus,
}

/// The device.
#[derive(Object)]
#[object(name = "virtio-serial-device", parent = VirtIODevice, class_init = class_init)]
pub struct VirtIOSerial {
    parent: VirtIODevice,
    #[property(name = "max_ports", default = 31)]
    max_ports: Property<u32>,
    /// on/off
    #[property(default = true)]
    emergency_write: Property<bool>,
    /// What the bus is called, where the user named the device.
    bus_name: OnceLock<String>,
    /// In order of plugging.
    ports: Mutex<Vec<Arc<VirtSerialPort>>>,
}

qom::type_init!(VirtIOSerialBus, VirtIOSerial);
qom::type_init!(fn register_pci);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Input);
}

fn register_pci() {
    VirtioPciType {
        name: "virtio-serial-pci",
        backend: "virtio-serial-device",
        device_id: DEVICE_ID_CONSOLE,
        class_id: CLASS_COMMUNICATION_OTHER,
        category: DeviceCategory::Input,
        variants: Variants::All,
        ioeventfd: Some(true),
        vectors: Some(2),
        has_class: true,
        default_vectors: |backend| backend.cast::<VirtIOSerial>().map_or(0, |s| s.max_ports.get() + 1),
        prepare: Some(prepare),
    }
    .register();
}

/// What depends on the PCI function: its class, and the bus's name.
fn prepare(proxy: &VirtIOPciProxy, backend: &Arc<dyn Object>) -> Result<()> {
    if !CLASSES.contains(&proxy.class_code()) {
        proxy.set_class_code(CLASS_COMMUNICATION_OTHER.into());
    }
    if let (Some(id), Some(serial)) = (proxy.id(), backend.cast::<VirtIOSerial>()) {
        let _ = serial.bus_name.set(format!("{id}.0"));
    }
    Ok(())
}

/// The port whose data a queue carries.
fn port_of(queue: u16) -> u32 {
    u32::from(if queue < 2 { 0 } else { (queue - 2) / 2 })
}

impl VirtIOSerial {
    /// The queues of port `id`: to the guest, and from it.
    pub(crate) fn port_queues(&self, id: u32) -> Option<(Arc<VirtQueue>, Arc<VirtQueue>)> {
        let first = if id == 0 { 0 } else { 2 + 2 * u16::try_from(id).ok()? };
        Some((self.queue(first)?, self.queue(first + 1)?))
    }

    /// How many ports there can be.
    pub(crate) fn max_ports(&self) -> u32 {
        self.max_ports.get()
    }

    fn ports(&self) -> Vec<Arc<VirtSerialPort>> {
        self.ports.lock().clone()
    }

    pub(crate) fn port(&self, id: u32) -> Option<Arc<VirtSerialPort>> {
        self.ports.lock().iter().find(|port| port.port_id() == id).cloned()
    }

    /// A number for a port whose user gave none. 0 is kept for the first console: kernels without several ports use
    /// that one.
    pub(crate) fn free_id(&self, is_console: bool) -> Option<u32> {
        let first = if is_console && self.port(0).is_none() { 0 } else { 1 };
        (first..self.max_ports()).find(|id| self.port(*id).is_none())
    }

    fn add_port(&self, port: Arc<VirtSerialPort>) {
        let id = port.port_id();
        self.ports.lock().push(port);
        self.send_control(id, PORT_ADD, 1, &[]);
        self.notify_config();
    }

    /// A port goes.
    pub(crate) fn remove_port(&self, id: u32) {
        if let Some((_, output)) = self.port_queues(id) {
            discard(&output);
        }
        self.ports.lock().retain(|port| port.port_id() != id);
        self.send_control(id, PORT_REMOVE, 1, &[]);
    }

    /// Tells the guest something of a port, if it has a buffer for it.
    pub(crate) fn send_control(&self, port: u32, event: u16, value: u16, more: &[u8]) {
        let Some(queue) = self.queue(CONTROL_RX) else { return };
        let Some(element) = queue.pop() else { return };
        let message = [&port.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes(), more].concat();
        let written = element.write(0, &message);
        queue.push(element, written as u32);
        queue.notify();
    }

    fn control_out(&self, queue: &Arc<VirtQueue>) {
        for _ in 0..BATCH {
            let Some(element) = queue.pop() else { return };
            let mut message = [0; CONTROL_SIZE];
            let len = element.read(0, &mut message);
            queue.push(element, 0);
            queue.notify();
            if len == CONTROL_SIZE {
                let [p0, p1, p2, p3, e0, e1, v0, v1] = message;
                let port = u32::from_le_bytes([p0, p1, p2, p3]);
                self.handle_control(port, u16::from_le_bytes([e0, e1]), u16::from_le_bytes([v0, v1]));
            }
        }
        self.queue_again(queue);
    }

    fn handle_control(&self, port: u32, event: u16, value: u16) {
        if event == DEVICE_READY {
            if value != 0 {
                self.ports().iter().for_each(|port| self.send_control(port.port_id(), PORT_ADD, 1, &[]));
            }
            return;
        }
        let Some(port) = self.port(port) else { return };
        match event {
            PORT_READY if value != 0 => {
                let id = port.port_id();
                if port.is_console() {
                    self.send_control(id, CONSOLE_PORT, 1, &[]);
                }
                if let Some(name) = port.port_name() {
                    self.send_control(id, PORT_NAME, 1, &[name.as_bytes(), &[0]].concat());
                }
                if port.is_host_connected() {
                    self.send_control(id, PORT_OPEN, 1, &[]);
                }
            }
            PORT_OPEN => port.set_guest_connected(value != 0),
            _ => {}
        }
    }
}

/// Gives back what nobody wants to have.
pub(crate) fn discard(queue: &VirtQueue) {
    // As many as there can be: what comes meanwhile is told of by itself.
    for _ in 0..queue.size() {
        let Some(element) = queue.pop() else { break };
        queue.push(element, 0);
    }
    queue.notify();
}

/// Ports come and go.
struct Plug(Weak<VirtIOSerial>);

impl HotplugHandler for Plug {
    fn plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        if let (Some(serial), Some(port)) = (self.0.upgrade(), qom::downcast(device.clone())) {
            serial.add_port(port);
        }
        Ok(())
    }
}

impl DeviceImpl for VirtIOSerial {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let ports = self.max_ports.get();
        if ports == 0 {
            bail!("Maximum number of serial ports not specified");
        }
        if ports > MAX_PORTS {
            bail!("maximum ports supported: {MAX_PORTS}");
        }
        self.init(id::CONSOLE, if self.emergency_write.get() { CONFIG_SIZE } else { CONFIG_SIZE_SHORT });
        let this: Arc<dyn Object> = self.clone();
        let bus = qbus_new("virtio-serial-bus", Some(&this), self.bus_name.get().map(String::as_str))?;
        if let Some(bus) = bus.cast::<Bus>() {
            bus.set_hotplug_handler(Arc::new(Plug(Arc::downgrade(self))));
        }
        for size in [QUEUE_SIZE, QUEUE_SIZE, CONTROL_QUEUE_SIZE, CONTROL_QUEUE_SIZE] {
            self.add_queue(size)?;
        }
        for _ in 2..2 * ports {
            self.add_queue(QUEUE_SIZE)?;
        }
        Ok(())
    }
}

impl VirtioDeviceImpl for VirtIOSerial {
    fn queue_notified(self: &Arc<Self>, queue: &Arc<VirtQueue>) {
        match queue.index() {
            // The guest has room for messages, which are not kept for it.
            CONTROL_RX => {}
            CONTROL_TX => self.control_out(queue),
            index => match self.port(port_of(index)) {
                Some(port) if index.is_multiple_of(2) => port.guest_writable(),
                Some(port) if port.is_host_connected() => port.guest_wrote(queue),
                None if index.is_multiple_of(2) => {}
                _ => discard(queue),
            },
        }
    }

    fn features(&self, offered: u64) -> Result<u64> {
        let multiport = if self.max_ports.get() > 1 { F_MULTIPORT } else { 0 };
        let emergency = if self.emergency_write.get() { F_EMERG_WRITE } else { 0 };
        Ok(offered | multiport | emergency)
    }

    fn read_config(&self, config: &mut [u8]) {
        if let Some(ports) = config.get_mut(MAX_NR_PORTS..MAX_NR_PORTS + 4) {
            ports.copy_from_slice(&self.max_ports.get().to_le_bytes());
        }
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        if offset != EMERG_WR || data.iter().all(|byte| *byte == 0) {
            return;
        }
        let console = self.ports().into_iter().find(|port| port.is_console() && port.is_host_connected());
        if let (Some(console), Some(byte)) = (console, data.first()) {
            console.emergency_write(*byte);
        }
    }

    fn set_status(&self, status: Status) {
        let is_driven = status.contains(Status::DRIVER_OK);
        for port in self.ports() {
            if !is_driven {
                port.guest_reset();
            } else if port.port_id() == 0 && !self.has_feature(F_MULTIPORT) {
                // Such guests cannot tell.
                port.note_guest_connected();
            }
            if self.is_running() {
                port.guest_writable();
            }
        }
    }

    fn device_reset(&self) {
        self.ports().iter().for_each(|port| port.guest_reset());
    }
}
