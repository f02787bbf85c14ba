//! Interfaces that say on which buses a PCI function may be; they have no methods.
//!
//! Source: QEMU `include/hw/pci/pci.h`.

use qom::{Class, Interface, TypeInfo};

/// A function for conventional PCI.
pub enum ConventionalPciDevice {}

impl Interface for ConventionalPciDevice {
    const TYPE_NAME: &'static str = "conventional-pci-device";
}

/// A function for PCI Express.
pub enum PciExpressDevice {}

impl Interface for PciExpressDevice {
    const TYPE_NAME: &'static str = "pci-express-device";
}

/// Declares that a class is for the buses that `I` says.
pub fn add_bus_interface<I: Interface>(class: &mut Class) {
    class.add_interface::<I>(|_| None);
}

qom::type_init!(fn register);

fn register() {
    qom::type_register(TypeInfo::interface::<ConventionalPciDevice>());
    qom::type_register(TypeInfo::interface::<PciExpressDevice>());
}
