//! The registers by which PCI devices come and go (QEMU `docs/specs/acpi_pci_hotplug.rst`; `hw/acpi/pcihp.c`).

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
    /// The number of the root bus.
    pub const ROOT_BUS: u32 = 0;
}
use spec::*;

/// What a write asks of the device around the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciHotplugRequest {
    /// The guest let go of the device in that slot.
    Eject(u8),
    /// The index of the device in that slot is to be given to [`PciHotplug::set_index`].
    Index(u8),
}

/// The registers, for the root bus alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciHotplug {
    select: u32,
    acpi_index: u32,
    up: u32,
    down: u32,
    removable: u32,
}

fn lowest(slots: u64) -> Option<u8> {
    let slots = slots as u32;
    (slots != 0).then_some(slots.trailing_zeros() as u8)
}

impl PciHotplug {
    /// Reads `offset`.
    pub fn read(&mut self, offset: u64) -> u64 {
        let root = self.select == ROOT_BUS;
        let value = match offset {
            UP if root => std::mem::take(&mut self.up),
            DOWN if root => self.down,
            REMOVABLE if root => self.removable,
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
            BUS_SELECT => self.select = value as u32,
            ACPI_INDEX if self.select == ROOT_BUS => return lowest(value).map(PciHotplugRequest::Index),
            EJECT if self.select == ROOT_BUS => {
                let slot = lowest(value)?;
                self.up &= !(1 << slot);
                self.down &= !(1 << slot);
                return Some(PciHotplugRequest::Eject(slot));
            }
            _ => {}
        }
        None
    }

    /// Answers [`PciHotplugRequest::Index`].
    pub fn set_index(&mut self, index: u32) {
        self.acpi_index = index;
    }

    /// A device came to a slot of the root bus while the machine runs.
    pub fn plug(&mut self, slot: u8) {
        self.up |= 1 << (slot & 31);
    }

    /// The device in a slot of the root bus is to go.
    pub fn unplug_request(&mut self, slot: u8) {
        self.down |= 1 << (slot & 31);
    }

    /// After a reset: which devices can go. Gives those that were to go, which go now.
    pub fn reset(&mut self, removable: u32) -> u32 {
        let down = std::mem::take(&mut self.down);
        self.up &= !down;
        self.removable = removable;
        down
    }
}
