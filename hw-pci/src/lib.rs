//! The PCI bus (hw/pci/).
