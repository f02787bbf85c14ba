//! The system bus: what is soldered to the board and has no bus of its own.
//!
//! Source: QEMU `hw/core/sysbus.c`.

use std::sync::{Arc, OnceLock};

use memory::{MemoryRegion, get_system_io, get_system_memory};
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object};

use crate::bus::{Bus, BusClass, qbus_new};
use crate::device::{Device, DeviceClass, DeviceImpl};

/// The bus itself.
#[derive(Object)]
#[object(name = "System", parent = Bus, class_init = bus_class_init)]
pub struct SystemBus {
    parent: Bus,
}

fn bus_class_init(class: &mut Class) {
    class.get_mut::<BusClass>().fw_dev_path = Some(fw_dev_path);
}

impl<T> ClassInit<T> for Bus {
    fn class_init(_: &mut Class) {}
}

/// A device on the system bus.
#[derive(Object)]
#[object(name = "sys-bus-device", parent = Device, abstract, class_init = sysbus_class_init)]
pub struct SysBusDevice {
    parent: Device,
    regions: Mutex<Vec<MemoryRegion>>,
    /// The first of its ports.
    port: OnceLock<u16>,
}
qom::type_init!(SystemBus, SysBusDevice);

fn sysbus_class_init(class: &mut Class) {
    let class = class.get_mut::<DeviceClass>();
    class.bus_type = Some("System");
    // Nothing tells a user's device where its registers would be.
    class.board_only = true;
    class.hotpluggable = false;
}

/// Its name, and where its ports are (`sysbus_get_fw_dev_path`).
fn fw_dev_path(object: &Arc<dyn Object>) -> String {
    let name = object.class().get::<DeviceClass>().and_then(|class| class.fw_name);
    let name = name.unwrap_or(object.type_name());
    match object.cast::<SysBusDevice>().and_then(|device| device.port.get()) {
        Some(port) => format!("{name}@i{port:04x}"),
        None => name.to_owned(),
    }
}

impl<T: DeviceImpl> ClassInit<T> for SysBusDevice {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
    }
}

impl SysBusDevice {
    /// Shows `region` in physical memory at `address`.
    pub fn map_memory(&self, address: u64, region: &MemoryRegion) {
        get_system_memory().add_subregion(address, region);
        self.regions.lock().push(region.clone());
    }

    /// Shows `region` at an I/O port.
    pub fn map_io(&self, port: u16, region: &MemoryRegion) {
        get_system_io().add_subregion(port.into(), region);
        let _ = self.port.set(port);
        self.regions.lock().push(region.clone());
    }

    /// The regions mapped so far.
    pub fn regions(&self) -> Vec<MemoryRegion> {
        self.regions.lock().clone()
    }
}

/// The one system bus, `main-system-bus`.
pub fn sysbus_get_default() -> Arc<dyn Object> {
    static BUS: OnceLock<Arc<dyn Object>> = OnceLock::new();
    BUS.get_or_init(|| {
        let bus =
            qbus_new("System", None, Some("main-system-bus")).expect("the type System is registered above");
        let place = qom::container_get(&qom::object_get_root(), "/machine/unattached");
        let _ = place.property_add_child("sysbus", &bus);
        bus
    })
    .clone()
}
