//! The registers by which memory modules come and go (QEMU `docs/specs/acpi_mem_hotplug.rst`;
//! `hw/acpi/memory_hotplug.c`).

use serde::{Deserialize, Serialize};

/// Registers and their bits.
pub mod spec {
    /// Ports of the block.
    pub const IO_LEN: u64 = 24;
    /// Read: the address, two registers. Write: selects a slot.
    pub const ADDRESS: u64 = 0x0;
    /// Write: selects a slot.
    pub const SELECTOR: u64 = 0x0;
    /// Write: the event of `_OST`.
    pub const OST_EVENT: u64 = 0x4;
    /// Read: the size, two registers.
    pub const SIZE: u64 = 0x8;
    /// Write: the status of `_OST`.
    pub const OST_STATUS: u64 = 0x8;
    /// Read: the NUMA node.
    pub const NODE: u64 = 0x10;
    /// What is with the slot.
    pub const FLAGS: u64 = 0x14;
    /// FLAGS: a module is there.
    pub const ENABLED: u64 = 1 << 0;
    /// FLAGS: it came; written back when seen.
    pub const INSERTING: u64 = 1 << 1;
    /// FLAGS: it is to go; written back when seen.
    pub const REMOVING: u64 = 1 << 2;
    /// FLAGS, write: it may go now.
    pub const EJECT: u64 = 1 << 3;
}
use spec::*;

/// A module as the guest sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryModule {
    /// Guest physical address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// NUMA node.
    pub node: u32,
}

/// A slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct MemStatus {
    module: Option<MemoryModule>,
    inserting: bool,
    removing: bool,
    ost_event: u32,
    ost_status: u32,
}

/// What a write asks of the device around the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryHotplugRequest {
    /// The guest let go of the module in that slot, which is not shown any more.
    Eject(usize),
    /// The guest says how far it is with that slot.
    Ost(usize),
}

/// The registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryHotplug {
    selector: u32,
    slots: Vec<MemStatus>,
}

impl MemoryHotplug {
    /// Registers for so many slots.
    pub fn new(slots: usize) -> Self {
        Self { selector: 0, slots: vec![MemStatus::default(); slots] }
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Reads `offset`.
    pub fn read(&self, offset: u64) -> u64 {
        let Some(slot) = self.slots.get(self.selector as usize) else { return 0 };
        let module = slot.module.unwrap_or_default();
        match offset {
            ADDRESS => module.address & 0xffff_ffff,
            0x4 => module.address >> 32,
            SIZE => module.size & 0xffff_ffff,
            0xc => module.size >> 32,
            NODE => module.node.into(),
            FLAGS => {
                let flags = [
                    (slot.module.is_some(), ENABLED),
                    (slot.inserting, INSERTING),
                    (slot.removing, REMOVING),
                ];
                flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag)
            }
            _ => u32::MAX.into(),
        }
    }

    /// Writes `offset`.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u64) -> Option<MemoryHotplugRequest> {
        if offset == SELECTOR {
            self.selector = value as u32;
            return None;
        }
        let index = self.selector as usize;
        let slot = self.slots.get_mut(index)?;
        match offset {
            OST_EVENT => slot.ost_event = value as u32,
            OST_STATUS => {
                slot.ost_status = value as u32;
                return Some(MemoryHotplugRequest::Ost(index));
            }
            FLAGS if value & INSERTING != 0 => slot.inserting = false,
            FLAGS if value & REMOVING != 0 => slot.removing = false,
            FLAGS if value & EJECT != 0 => {
                return slot.module.take().map(|_| MemoryHotplugRequest::Eject(index));
            }
            _ => {}
        }
        None
    }

    /// A module came; a guest is to be told of it if `hotplugged`.
    pub fn plug(&mut self, index: usize, module: MemoryModule, hotplugged: bool) {
        if let Some(slot) = self.slots.get_mut(index) {
            (slot.module, slot.inserting) = (Some(module), hotplugged);
        }
    }

    /// A module is to go.
    pub fn unplug_request(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.removing = true;
        }
    }

    /// What the guest said last in `_OST` of a slot: event and status.
    pub fn ost(&self, index: usize) -> (u32, u32) {
        self.slots.get(index).map_or((0, 0), |slot| (slot.ost_event, slot.ost_status))
    }
}
