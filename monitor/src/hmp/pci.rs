//! `info pci`: the functions on the PCI bus (hw/pci/pci-hmp-cmds.c).

use std::sync::Arc;

use hw_core::Bus;
use hw_core::Device;
use hw_core::bus::walk_buses;
use hw_core::sysbus::sysbus_get_default;
use hw_pci::spec::{
    CLASS_DEVICE, DEVICE_ID, INTERRUPT_LINE, INTERRUPT_PIN, SUBSYSTEM_ID, SUBSYSTEM_VENDOR_ID, VENDOR_ID,
};
use hw_pci::{PciBus, PciDevice, class_desc};
use qom::Object;

use super::args::Args;
use super::session::{Session, out};

/// The registers that identify a function, and its interrupt.
pub(crate) struct Identity {
    pub class: u16,
    pub id: (u16, u16),
    pub subsystem: (u16, u16),
    line: u8,
    pin: u8,
}

impl Identity {
    pub fn of(device: &PciDevice) -> Identity {
        device.with_config(|config| Identity {
            class: config.u16(CLASS_DEVICE),
            id: (config.u16(VENDOR_ID), config.u16(DEVICE_ID)),
            subsystem: (config.u16(SUBSYSTEM_VENDOR_ID), config.u16(SUBSYSTEM_ID)),
            line: config.u8(INTERRUPT_LINE),
            pin: config.u8(INTERRUPT_PIN),
        })
    }

    pub fn class_name(&self) -> String {
        class_desc(self.class).map_or_else(|| format!("Class {:04}", self.class), str::to_owned)
    }
}

pub(crate) fn info_pci(mon: &mut Session, _: &Args) -> Result<(), String> {
    let mut buses: Vec<Arc<dyn Object>> = Vec::new();
    walk_buses(&sysbus_get_default(), &mut |bus| buses.push(bus.clone()));
    buses.retain(|bus| bus.is_a("PCI"));
    for (number, bus) in buses.iter().enumerate() {
        for device in bus.cast::<PciBus>().map(PciBus::devices).unwrap_or_default() {
            if let Some(function) = device.cast::<PciDevice>() {
                print_function(mon, number, function);
            }
        }
    }
    if buses.is_empty() { Err("PCI devices not supported".to_owned()) } else { Ok(()) }
}

fn print_function(mon: &mut Session, bus: usize, function: &PciDevice) {
    let (slot, number) = (function.devfn() >> 3, function.devfn() & 7);
    let identity = Identity::of(function);
    out!(mon, "  Bus {bus:2}, device {slot:3}, function {number}:\n");
    let (vendor, device) = identity.id;
    out!(mon, "    {}: PCI device {vendor:04x}:{device:04x}\n", identity.class_name());
    if identity.subsystem != (0, 0) {
        let (vendor, device) = identity.subsystem;
        out!(mon, "      PCI subsystem {vendor:04x}:{device:04x}\n");
    }
    if let Some(pin) = identity.pin.checked_sub(1).and_then(|pin| b'A'.checked_add(pin)) {
        out!(mon, "      IRQ {}, pin {}\n", identity.line, char::from(pin));
    }
    out!(mon, "      id \"{}\"\n", Device::id(function).unwrap_or_default());
}

/// The line of `info qtree` about `device`'s bus, where its bus has one.
pub(crate) fn qtree_line(device: &Arc<dyn Object>) -> Option<String> {
    let function = device.cast::<PciDevice>()?;
    let identity = Identity::of(function);
    let bus = function.parent_bus()?;
    let number = bus.cast::<Bus>()?.name().rsplit('.').next()?.parse::<u8>().unwrap_or_default();
    let ((vendor, id), (sub_vendor, sub_id)) = (identity.id, identity.subsystem);
    Some(format!(
        "class {}, addr {number:02x}:{:02x}.{:x}, pci id {vendor:04x}:{id:04x} (sub {sub_vendor:04x}:{sub_id:04x})",
        identity.class_name(),
        function.devfn() >> 3,
        function.devfn() & 7,
    ))
}
