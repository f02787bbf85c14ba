//! Configuration mechanism #1: an address port and a data port (PCI 3.0, section 3.2.2.3.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memory::{AccessLimits, AccessRules, MemoryRegion, RegionOps};
use qom::Object;

use crate::PciBus;
use crate::spec::CONFADD_ENABLE;

/// The two ports of a host bridge, and the bus behind them.
pub struct PciHost {
    bus: Arc<dyn Object>,
    address: AtomicU32,
}

struct AddressPort(Arc<PciHost>);
struct DataPort(Arc<PciHost>);

impl PciHost {
    /// The ports of the bridge to `bus`.
    pub fn new(bus: Arc<dyn Object>) -> Arc<PciHost> {
        Arc::new(PciHost { bus, address: AtomicU32::new(0) })
    }

    /// The address port, four bytes.
    pub fn address_region(self: &Arc<Self>) -> MemoryRegion {
        MemoryRegion::io("pci-conf-idx", 4, Arc::new(AddressPort(self.clone())))
    }

    /// The data port, four bytes.
    pub fn data_region(self: &Arc<Self>) -> MemoryRegion {
        MemoryRegion::io("pci-conf-data", 4, Arc::new(DataPort(self.clone())))
    }

    /// The address register.
    pub fn address(&self) -> u32 {
        self.address.load(Ordering::Relaxed)
    }

    /// Sets the address register, which is 0 after power-on.
    pub fn set_address(&self, address: u32) {
        self.address.store(address, Ordering::Relaxed);
    }

    /// Device and function, and the register, that the data port leads to now.
    fn target(&self, offset: u64) -> Option<(Arc<PciBus>, u8, usize)> {
        let address = self.address.load(Ordering::Relaxed);
        if address & CONFADD_ENABLE == 0 {
            return None;
        }
        let bus = qom::downcast::<PciBus>(self.bus.clone())?.find_bus((address >> 16) as u8)?;
        // The two lowest bits are reserved; where a program sets them all the same, QEMU counts them.
        let register = (address & 0xff) as usize | offset as usize & 3;
        Some((bus, (address >> 8) as u8, register))
    }
}

impl RegionOps for AddressPort {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.0.address.load(Ordering::Relaxed).into()
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        // Narrower accesses are not configuration cycles; they pass to whatever else decodes these ports.
        if offset == 0 && size == 4 {
            self.0.address.store(value as u32, Ordering::Relaxed);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 4)
    }
}

impl RegionOps for DataPort {
    fn read(&self, offset: u64, size: u8) -> u64 {
        match self.0.target(offset) {
            Some((bus, devfn, at)) => bus.config_read(devfn, at, size).into(),
            None => u64::MAX,
        }
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        if let Some((bus, devfn, at)) = self.0.target(offset) {
            bus.config_write(devfn, at, value as u32, size);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules { valid: AccessLimits { min: 1, max: 4, unaligned: true }, ..AccessRules::sizes(1, 4) }
    }
}
