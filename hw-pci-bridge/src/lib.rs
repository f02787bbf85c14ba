//! Bridges to further PCI buses.
#![forbid(unsafe_code)]

mod pci_bridge_dev;

pub use pci_bridge_dev::PciBridgeDev;
