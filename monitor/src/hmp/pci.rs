//! `info pci`: the functions on the PCI bus (hw/pci/pci-hmp-cmds.c).

use std::sync::Arc;

use hw_core::Device;
use hw_pci::spec::{
    CLASS_DEVICE, DEVICE_ID, INTERRUPT_LINE, INTERRUPT_PIN, PRIMARY_BUS, SECONDARY_BUS, SUBORDINATE_BUS,
    SUBSYSTEM_ID, SUBSYSTEM_VENDOR_ID, VENDOR_ID,
};
use hw_pci::{BarInfo, BarKind, PciBridge, PciBus, PciDevice, class_desc};
use qom::Object;

use super::args::Args;
use super::session::{Session, out};
use crate::commands::pci::root_buses;

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
        class_desc(self.class).map_or_else(|| format!("Class {:04x}", self.class), str::to_owned)
    }
}

pub(crate) fn info_pci(mon: &mut Session, _: &Args) -> Result<(), String> {
    let buses = root_buses();
    for (number, bus) in buses.iter().enumerate() {
        print_bus(mon, bus, number, bus);
    }
    if buses.is_empty() { Err("PCI devices not supported".to_owned()) } else { Ok(()) }
}

fn print_bus(mon: &mut Session, root: &Arc<PciBus>, number: usize, bus: &PciBus) {
    for device in bus.devices() {
        if let Some(function) = device.cast::<PciDevice>() {
            print_function(mon, root, number, function, device.cast());
        }
    }
}

fn print_function(
    mon: &mut Session,
    root: &Arc<PciBus>,
    bus: usize,
    function: &PciDevice,
    bridge: Option<&PciBridge>,
) {
    let (slot, number) = (function.devfn() >> 3, function.devfn() & 7);
    let identity = Identity::of(function);
    out!(mon, "  Bus {bus:2}, device {slot:3}, function {number}:\n");
    let (vendor, device) = identity.id;
    out!(mon, "    {}: PCI device {vendor:04x}:{device:04x}\n", identity.class_name());
    if bridge.is_none() {
        let (vendor, device) = identity.subsystem;
        out!(mon, "      PCI subsystem {vendor:04x}:{device:04x}\n");
    }
    if let Some(pin) = identity.pin.checked_sub(1).and_then(|pin| b'A'.checked_add(pin)) {
        out!(mon, "      IRQ {}, pin {}\n", identity.line, char::from(pin));
    }
    if let Some(bridge) = bridge {
        print_bridge(mon, bridge);
    }
    function.bars().iter().for_each(|bar| print_bar(mon, bar));
    out!(mon, "      id \"{}\"\n", Device::id(function).unwrap_or_default());
    if bridge.is_some() {
        let secondary = function.with_config(|config| config.u8(SECONDARY_BUS));
        if let Some(below) = (secondary != 0).then(|| root.clone().find_bus(secondary)).flatten() {
            print_bus(mon, root, secondary.into(), &below);
        }
    }
}

fn print_bridge(mon: &mut Session, bridge: &PciBridge) {
    let number = |at| bridge.with_config(|config| config.u8(at));
    let windows = bridge.windows();
    out!(mon, "      BUS {}.\n", number(PRIMARY_BUS));
    out!(mon, "      secondary bus {}.\n", number(SECONDARY_BUS));
    out!(mon, "      subordinate bus {}.\n", number(SUBORDINATE_BUS));
    out!(mon, "      IO range [0x{:04x}, 0x{:04x}]\n", windows.io.0, windows.io.1);
    out!(mon, "      memory range [0x{:08x}, 0x{:08x}]\n", windows.memory.0, windows.memory.1);
    let (first, last) = windows.prefetch;
    out!(mon, "      prefetchable memory range [0x{first:08x}, 0x{last:08x}]\n");
}

fn print_bar(mon: &mut Session, bar: &BarInfo) {
    // QEMU's address of what shows nowhere.
    let first = bar.address.unwrap_or(u64::MAX);
    let last = first.wrapping_add(bar.size).wrapping_sub(1);
    out!(mon, "      BAR{}: ", bar.number);
    let kind = match bar.kind {
        BarKind::Io => return out!(mon, "I/O at 0x{first:04x} [0x{last:04x}].\n"),
        BarKind::Memory32 | BarKind::Rom => "32 bit",
        BarKind::Memory64 => "64 bit",
        BarKind::Memory64Prefetch => "64 bit prefetchable",
    };
    out!(mon, "{kind} memory at 0x{first:08x} [0x{last:08x}].\n");
}

/// The lines of `info qtree` about `device`'s bus, where its bus has some.
pub(crate) fn qtree_lines(device: &Arc<dyn Object>) -> Option<Vec<String>> {
    let function = device.cast::<PciDevice>()?;
    let identity = Identity::of(function);
    let bus = function.parent_bus()?;
    let number = bus.cast::<PciBus>()?.number();
    let ((vendor, id), (sub_vendor, sub_id)) = (identity.id, identity.subsystem);
    let mut lines = vec![format!(
        "class {}, addr {number:02x}:{:02x}.{:x}, pci id {vendor:04x}:{id:04x} (sub {sub_vendor:04x}:{sub_id:04x})",
        identity.class_name(),
        function.devfn() >> 3,
        function.devfn() & 7,
    )];
    lines.extend(function.bars().iter().map(|bar| {
        let kind = if bar.kind == BarKind::Io { "i/o" } else { "mem" };
        let first = bar.address.unwrap_or(u64::MAX);
        let last = first.wrapping_add(bar.size).wrapping_sub(1);
        format!("bar {}: {kind} at {first:#x} [{last:#x}]", bar.number)
    }));
    Some(lines)
}
