//! Conventional PCI: configuration space, base address registers, buses and the configuration ports.
//!
//! A function is a struct with [`PciDevice`] as its parent that implements [`hw_core::DeviceImpl`] and
//! [`PciDeviceImpl`]; its ids stand in its [`PciDeviceClass`].
//!
//! Sources followed: PCI Local Bus Specification 3.0; PCI-to-PCI Bridge Architecture Specification 1.1; QEMU `hw/pci/pci.c`,
//! `hw/pci/pci_bridge.c`, `hw/pci/pci_host.c`.
#![forbid(unsafe_code)]

mod bar;
mod bridge;
mod bus;
mod class;
mod config;
mod device;
mod host;
mod interface;
mod irqfd;
mod msi;
mod msix;
mod rom;
mod shpc;
pub mod spec;

pub use bar::{BarInfo, BarKind, ROM_SLOT};
pub use bridge::{BridgeWindows, PciBridge};
pub use bus::{PciBus, PciIrqController, pci_bus_new};
pub use class::class_desc;
pub use config::ConfigSpace;
pub use device::{PciDevice, PciDeviceClass, PciDeviceImpl, devfn};
pub use host::PciHost;
pub use interface::{ConventionalPciDevice, PciExpressDevice, add_bus_interface};
pub use msix::MsiX;
pub use shpc::ShpcController;
