//! The ports of [`PmSmbus`], for the function that has them.

use std::sync::{Arc, Weak};

use memory::{AccessRules, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::Object;

use crate::bus::I2cBus;
use crate::pm_smbus::{PmSmbus, spec};

/// The controller and its bus.
pub struct PmSmbusPorts {
    chip: Mutex<PmSmbus>,
    bus: Weak<dyn Object>,
}

impl PmSmbusPorts {
    /// The controller of `bus`, which keeps it from nothing.
    pub fn new(bus: &Arc<dyn Object>) -> Arc<PmSmbusPorts> {
        Arc::new(PmSmbusPorts { chip: Mutex::default(), bus: Arc::downgrade(bus) })
    }

    /// Its ports, nowhere yet.
    pub fn region(self: &Arc<Self>) -> MemoryRegion {
        MemoryRegion::io("pm-smbus", spec::SIZE, self.clone())
    }

    /// Returns the controller to its state after power-on.
    pub fn reset(&self) {
        self.chip.lock().reset();
    }

    /// What it saves.
    pub fn save(&self) -> PmSmbus {
        self.chip.lock().clone()
    }

    /// Takes a state over.
    pub fn load(&self, state: PmSmbus) {
        *self.chip.lock() = state;
    }

    /// Devices are memories, which call nobody: the chip may be locked.
    fn with(&self, f: impl FnOnce(&mut PmSmbus, &I2cBus) -> u8) -> u8 {
        let bus = self.bus.upgrade();
        let bus = bus.as_ref().and_then(|bus| bus.cast::<I2cBus>());
        bus.map_or(0, |bus| f(&mut self.chip.lock(), bus))
    }
}

impl RegionOps for PmSmbusPorts {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        self.with(|chip, bus| chip.read(offset, bus)).into()
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        self.with(|chip, bus| {
            chip.write(offset, value as u8, bus);
            0
        });
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}
