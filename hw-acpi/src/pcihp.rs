//! The registers by which PCI devices come and go (QEMU `docs/specs/acpi_pci_hotplug.rst`; `hw/acpi/pcihp.c`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Registers.
pub mod spec {
    /// Ports of the block.
    pub const SIZE: u64 = 0x18;
    /// Slots that devices came to, a bit each; reading clears it.
    pub const UP: u64 = 0x0;
    /// Slots whose devices are to go.
    pub const DOWN: u64 = 0x4;
    /// Write: the device in that slot may go now. Read: features, of which there are none.
    pub const EJECT: u64 = 0x8;
    /// Slots whose devices can go.
    pub const REMOVABLE: u64 = 0xc;
    /// Selects a bus.
    pub const BUS_SELECT: u64 = 0x10;
    /// Write: selects a slot. Read: the `acpi-index` of its device.
    pub const ACPI_INDEX: u64 = 0x14;
}
use spec::*;

/// What a write asks of the device around the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciHotplugRequest {
    /// The guest let go of the device in that slot of that bus.
    Eject(u8, u8),
    /// The index of the device in that slot of that bus is to be given to [`PciHotplug::set_index`].
    Index(u8, u8),
}

/// The slots of a bus, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slots {
    up: u32,
    down: u32,
    removable: u32,
}

impl Default for Slots {
    fn default() -> Self {
        Slots { up: 0, down: 0, removable: u32::MAX }
    }
}

/// The registers, with the slots of each bus by the number that ACPI knows it by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciHotplug {
    select: u32,
    acpi_index: u32,
    /// Only the host's doings add a bus.
    buses: BTreeMap<u8, Slots>,
    /// The registers are the root bus's alone, and a read of [`UP`] clears nothing.
    #[serde(skip)]
    legacy: bool,
}

fn lowest(slots: u64) -> Option<u8> {
    let slots = slots as u32;
    (slots != 0).then_some(slots.trailing_zeros() as u8)
}

impl PciHotplug {
    /// The registers as they are without hotplug behind bridges (`acpi-pci-hotplug-with-bridge-support=off`), or with.
    pub fn set_legacy(&mut self, legacy: bool) {
        self.legacy = legacy;
    }

    /// Takes over what was saved.
    pub fn load(&mut self, state: PciHotplug) {
        *self = PciHotplug { legacy: self.legacy, ..state };
    }

    /// The bus that is selected, if there can be one of that number.
    fn selected(&self) -> Option<u8> {
        self.select.try_into().ok()
    }

    /// Reads `offset`.
    pub fn read(&mut self, offset: u64) -> u64 {
        let Some(bus) = self.selected() else { return 0 };
        let slots = self.buses.get(&bus).copied().unwrap_or_default();
        let value = match offset {
            UP => {
                if let Some(slots) = self.buses.get_mut(&bus).filter(|_| !self.legacy) {
                    slots.up = 0;
                }
                slots.up
            }
            DOWN => slots.down,
            REMOVABLE => slots.removable,
            BUS_SELECT => self.select,
            ACPI_INDEX => std::mem::take(&mut self.acpi_index),
            _ => 0,
        };
        value.into()
    }

    /// Writes `offset`.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u64) -> Option<PciHotplugRequest> {
        self.acpi_index = 0;
        match offset {
            BUS_SELECT => self.select = if self.legacy { 0 } else { value as u32 },
            ACPI_INDEX => return Some(PciHotplugRequest::Index(self.selected()?, lowest(value)?)),
            EJECT => {
                let (bus, slot) = (self.selected()?, lowest(value)?);
                if let Some(slots) = self.buses.get_mut(&bus) {
                    slots.up &= !(1 << slot);
                    slots.down &= !(1 << slot);
                }
                return Some(PciHotplugRequest::Eject(bus, slot));
            }
            _ => {}
        }
        None
    }

    /// Answers [`PciHotplugRequest::Index`].
    pub fn set_index(&mut self, index: u32) {
        self.acpi_index = index;
    }

    /// A device came to a slot of a bus while the machine runs.
    pub fn plug(&mut self, bus: u8, slot: u8) {
        self.buses.entry(bus).or_default().up |= 1 << (slot & 31);
    }

    /// The device in a slot of a bus is to go.
    pub fn unplug_request(&mut self, bus: u8, slot: u8) {
        self.buses.entry(bus).or_default().down |= 1 << (slot & 31);
    }

    /// After a reset: which devices of a bus can go. Gives the slots of those that were to go, which go now.
    pub fn reset(&mut self, bus: u8, removable: u32) -> u32 {
        let slots = self.buses.entry(bus).or_default();
        let down = std::mem::take(&mut slots.down);
        slots.up &= !down;
        slots.removable = removable;
        down
    }
}
