//! PCI functions as the board's firmware and its tables know them.

use std::sync::Arc;

use hw_core::{Device, DeviceClass};
use hw_pci::spec::{CLASS_DEVICE, INTERRUPT_PIN};
use hw_pci::{PciBridge, PciBus, PciDevice};
use qom::Object;

use crate::acpi_build::{PciBridge as AcpiPciBridge, PciDevice as AcpiPciDevice};
use crate::mptable::PciInterrupt;
use crate::pc::PcMachine;

/// ISA lines that SeaBIOS routes INTA# to INTD# of the first slot to.
pub(crate) const PCI_IRQS: [u8; 4] = [10, 10, 11, 11];
/// Class of a display adapter.
const CLASS_DISPLAY_VGA: u16 = 0x0300;
/// Interrupt of ACPI events, which PIIX4's power management function is wired to.
const SCI: u8 = 9;
/// The slot of the ISA bridge, which the tables describe by itself.
const ISA_BRIDGE_SLOT: u8 = 1;

/// The root bus, where the machine has one.
pub(crate) fn root_bus(pc: &PcMachine) -> Option<Arc<PciBus>> {
    pc.pci_bus.get().cloned().and_then(qom::downcast)
}

/// The functions on the root bus.
pub(crate) fn pci_functions(pc: &PcMachine) -> Vec<Arc<dyn Object>> {
    root_bus(pc).map(|bus| bus.devices()).unwrap_or_default()
}

/// The functions on all buses, a bridge before those behind it.
pub(crate) fn all_functions(pc: &PcMachine) -> Vec<Arc<dyn Object>> {
    let mut functions = Vec::new();
    if let Some(root) = root_bus(pc) {
        root.walk(&mut |bus| functions.extend(bus.devices()));
    }
    functions
}

/// What the tables say of the functions on the root bus and behind it.
pub(crate) fn acpi_pci_devices(pc: &PcMachine) -> Vec<AcpiPciDevice> {
    let mut devices = root_bus(pc).map(|root| acpi_devices(&root)).unwrap_or_default();
    devices.retain(|device| device.slot != ISA_BRIDGE_SLOT);
    devices
}

fn acpi_devices(bus: &PciBus) -> Vec<AcpiPciDevice> {
    bus.devices().iter().filter_map(acpi_device).collect()
}

/// Function 0 of each slot, and bridges whose buses devices can come to.
fn acpi_device(object: &Arc<dyn Object>) -> Option<AcpiPciDevice> {
    let function = object.cast::<PciDevice>()?;
    let (slot, number) = (function.devfn() >> 3, function.devfn() & 7);
    let below = object.cast::<PciBridge>().and_then(PciBridge::secondary_bus);
    let cold_bridge = below.is_some() && !object.cast::<Device>().is_some_and(Device::is_hotplugged);
    let bridge = below.filter(|_| cold_bridge).and_then(|below| {
        let hotplug_number = below.hotplug_number()?.try_into().ok()?;
        Some(AcpiPciBridge { hotplug_number, devices: acpi_devices(&below) })
    });
    let display = function.with_config(|config| config.u16(CLASS_DEVICE)) == CLASS_DISPLAY_VGA;
    let hotpluggable = object.class().get::<DeviceClass>().is_some_and(|class| class.hotpluggable);
    let described = number == 0 || bridge.is_some();
    let hotpluggable = hotpluggable && !cold_bridge;
    described.then_some(AcpiPciDevice { slot, function: number, display, hotpluggable, bridge })
}

/// The ISA line that SeaBIOS gives to a pin of a slot of the root bus.
fn pci_slot_get_irq(slot: u8, pin: u8) -> u8 {
    let input = (slot.wrapping_sub(1)).wrapping_add(pin.wrapping_sub(1)) & 3;
    PCI_IRQS[usize::from(input)]
}

/// A function's interrupt pin and the line that SeaBIOS gives it; `None` for a function without a pin.
pub(crate) fn interrupt(object: &Arc<dyn Object>) -> Option<PciInterrupt> {
    let function = object.cast::<PciDevice>()?;
    let pin = function.with_config(|config| config.u8(INTERRUPT_PIN));
    let slot = function.devfn() >> 3;
    let line = if object.is_a("PIIX4_PM") { SCI } else { line(function, pin) };
    (pin != 0).then_some(PciInterrupt { slot, pin, line })
}

/// The line of a pin, by way of the bridges above its bus, whose wires are swizzled.
fn line(function: &PciDevice, pin: u8) -> u8 {
    let slot = function.devfn() >> 3;
    let bridge = function.bus::<PciBus>().and_then(|bus| bus.bridge());
    match bridge.as_ref().and_then(|bridge| bridge.cast::<PciDevice>()) {
        Some(bridge) => line(bridge, (pin.wrapping_sub(1).wrapping_add(slot) & 3) + 1),
        None => pci_slot_get_irq(slot, pin),
    }
}
