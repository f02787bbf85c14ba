//! The bus between a virtio device and its transport, which holds one device.
//!
//! Source: QEMU `hw/virtio/virtio-bus.c`.

use std::sync::{Arc, OnceLock, Weak};

use hw_core::{Bus, BusClass};
use memory::FlatView;
use qom::{Class, Object};

/// What brings a driver's accesses to a device, and its interrupts to the driver.
pub trait VirtioTransport: Send + Sync {
    /// Features that the transport adds to what the device offers.
    fn features(&self) -> u64;
    /// How many interrupt vectors there are, or will be (`query_nvectors`).
    fn vectors(&self) -> u16;
    /// Interrupts the driver, whose interrupt status is set already; `vector` may be none.
    fn interrupt(&self, vector: u16);
    /// The machine starts, and the driver drives the device.
    fn started(&self);
    /// The queue that the driver is setting up.
    fn queue_select(&self) -> u16;
    /// Memory as the device may reach it now.
    fn memory(&self) -> Option<Arc<FlatView>>;
}

/// The root part of every such bus.
#[derive(Object)]
#[object(name = "virtio-bus", parent = Bus, abstract, class_init = class_init)]
pub struct VirtioBus {
    parent: Bus,
    transport: OnceLock<Weak<dyn VirtioTransport>>,
}

/// The bus of the PCI transport.
#[derive(Object)]
#[object(name = "virtio-pci-bus", parent = VirtioBus)]
pub struct VirtioPciBus {
    parent: VirtioBus,
}

qom::type_init!(VirtioBus, VirtioPciBus);

impl<T> qom::ClassInit<T> for VirtioBus {
    fn class_init(_: &mut Class) {}
}

impl VirtioBus {
    /// Says whose bus it is, once.
    pub fn set_transport(&self, transport: Weak<dyn VirtioTransport>) {
        let _ = self.transport.set(transport);
    }

    /// Whose bus it is.
    pub fn transport(&self) -> Option<Arc<dyn VirtioTransport>> {
        self.transport.get()?.upgrade()
    }
}

fn class_init(class: &mut Class) {
    class.get_mut::<BusClass>().max_dev = Some(1);
}
