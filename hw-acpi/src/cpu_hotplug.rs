//! The registers by which CPUs come and go (QEMU `docs/specs/acpi_cpu_hotplug.rst`; `hw/acpi/cpu.c`,
//! `hw/acpi/cpu_hotplug.c`).
//!
//! The block begins as a bitmap of the CPUs by APIC id, as old firmware knows it. A zero written to its first byte
//! turns it into the registers of the modern interface.

use serde::{Deserialize, Serialize};

/// Registers of the modern interface, and their bits.
pub mod spec {
    /// Ports of the bitmap.
    pub const BITMAP_LEN: u64 = 32;
    /// Ports of the modern registers.
    pub const REG_LEN: u64 = 12;
    /// Write: selects a CPU by index. Read: upper half of the command's data.
    pub const SELECTOR: u64 = 0;
    /// What is with the CPU.
    pub const FLAGS: u64 = 4;
    /// The command.
    pub const COMMAND: u64 = 5;
    /// The command's data.
    pub const DATA: u64 = 8;
    /// FLAGS: it is there.
    pub const ENABLED: u8 = 1 << 0;
    /// FLAGS: it came; written back when seen.
    pub const INSERTING: u8 = 1 << 1;
    /// FLAGS: it is to go; written back when seen.
    pub const REMOVING: u8 = 1 << 2;
    /// FLAGS, write: it may go now.
    pub const EJECT: u8 = 1 << 3;
    /// FLAGS: firmware is to eject it.
    pub const FW_REMOVE: u8 = 1 << 4;
    /// COMMAND: selects the next CPU with an event; DATA is its index.
    pub const GET_NEXT_CPU_WITH_EVENT: u8 = 0;
    /// COMMAND: DATA takes the event of `_OST`.
    pub const OST_EVENT: u8 = 1;
    /// COMMAND: DATA takes the status of `_OST`.
    pub const OST_STATUS: u8 = 2;
    /// COMMAND: DATA is the APIC id.
    pub const GET_CPU_ID: u8 = 3;
}
use spec::*;

/// A CPU that there can be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct CpuStatus {
    apic_id: u32,
    present: bool,
    inserting: bool,
    removing: bool,
    fw_remove: bool,
    ost_event: u32,
    ost_status: u32,
}

/// What a write asks of the device around the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuHotplugRequest {
    /// The guest let go of the CPU of that index, which is not shown any more.
    Eject(usize),
    /// The guest says how far it is with the CPU of that index.
    Ost(usize),
}

/// The registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuHotplug {
    modern: bool,
    selector: u32,
    command: u8,
    cpus: Vec<CpuStatus>,
}

impl CpuHotplug {
    /// Registers for CPUs of these APIC ids, each of which is there or not.
    pub fn new(cpus: impl IntoIterator<Item = (u32, bool)>) -> Self {
        let status = |(apic_id, present)| CpuStatus { apic_id, present, ..CpuStatus::default() };
        let cpus: Vec<_> = cpus.into_iter().map(status).collect();
        let beyond_bitmap = |cpu: &CpuStatus| cpu.present && u64::from(cpu.apic_id) / 8 >= BITMAP_LEN;
        Self { modern: cpus.iter().any(beyond_bitmap), cpus, ..Self::default() }
    }

    /// How many CPUs there can be.
    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    /// Whether there can be none.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }

    fn selected(&self) -> Option<&CpuStatus> {
        self.cpus.get(self.selector as usize)
    }

    /// Whether the guest uses the modern registers.
    pub fn is_modern(&self) -> bool {
        self.modern
    }

    /// Reads `size` bytes at `offset`. Behind the modern registers nobody answers.
    pub fn read(&self, offset: u64, size: u8) -> u64 {
        if !self.modern {
            return (0..u64::from(size.min(8)))
                .fold(0, |v, at| v | u64::from(self.bitmap(offset + at)) << (8 * at));
        }
        if offset >= REG_LEN {
            return u64::MAX;
        }
        let Some(cpu) = self.selected() else { return 0 };
        match (offset, self.command) {
            (FLAGS, _) => {
                let flags = [
                    (cpu.present, ENABLED),
                    (cpu.inserting, INSERTING),
                    (cpu.removing, REMOVING),
                    (cpu.fw_remove, FW_REMOVE),
                ];
                flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | u64::from(*flag))
            }
            (DATA, GET_NEXT_CPU_WITH_EVENT) => self.selector.into(),
            (DATA, GET_CPU_ID) => cpu.apic_id.into(),
            _ => 0,
        }
    }

    fn bitmap(&self, byte: u64) -> u8 {
        let own = self.cpus.iter().filter(|cpu| cpu.present && u64::from(cpu.apic_id) / 8 == byte);
        own.fold(0, |bits, cpu| bits | 1 << (cpu.apic_id % 8))
    }

    /// Writes `offset`.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u64) -> Option<CpuHotplugRequest> {
        if !self.modern {
            self.modern = offset == 0 && value as u8 == 0;
            return None;
        }
        if offset == SELECTOR {
            self.selector = value as u32;
            return None;
        }
        let index = self.selector as usize;
        let command = self.command;
        let cpu = self.cpus.get_mut(index)?;
        match (offset, command) {
            (FLAGS, _) => return Self::write_flags(index, cpu, value as u8),
            (COMMAND, _) => self.set_command(value),
            (DATA, OST_EVENT) => cpu.ost_event = value as u32,
            (DATA, OST_STATUS) => {
                cpu.ost_status = value as u32;
                return Some(CpuHotplugRequest::Ost(index));
            }
            _ => {}
        }
        None
    }

    fn write_flags(index: usize, cpu: &mut CpuStatus, flags: u8) -> Option<CpuHotplugRequest> {
        // The first CPU stays.
        let removable = cpu.present && index != 0;
        if flags & INSERTING != 0 {
            cpu.inserting = false;
        } else if flags & REMOVING != 0 {
            cpu.removing = false;
        } else if flags & EJECT != 0 && removable {
            (cpu.present, cpu.fw_remove) = (false, false);
            return Some(CpuHotplugRequest::Eject(index));
        } else if flags & FW_REMOVE != 0 && removable {
            cpu.fw_remove = true;
        }
        None
    }

    fn set_command(&mut self, value: u64) {
        if value > GET_CPU_ID.into() {
            return;
        }
        self.command = value as u8;
        if self.command != GET_NEXT_CPU_WITH_EVENT {
            return;
        }
        let (first, count) = (self.selector as usize, self.cpus.len());
        let has_event = |cpu: &CpuStatus| cpu.inserting || cpu.removing || cpu.fw_remove;
        let mut order = (first..count).chain(0..first.min(count));
        if let Some(found) = order.find(|index| self.cpus.get(*index).is_some_and(has_event)) {
            self.selector = found as u32;
        }
    }

    /// The index of the CPU of an APIC id.
    pub fn index_of(&self, apic_id: u32) -> Option<usize> {
        self.cpus.iter().position(|cpu| cpu.apic_id == apic_id)
    }

    /// A CPU came; a guest is to be told of it if `hotplugged`.
    pub fn plug(&mut self, index: usize, hotplugged: bool) {
        if let Some(cpu) = self.cpus.get_mut(index) {
            (cpu.present, cpu.inserting) = (true, hotplugged);
        }
    }

    /// A CPU is to go.
    pub fn unplug_request(&mut self, index: usize) {
        if let Some(cpu) = self.cpus.get_mut(index) {
            cpu.removing = true;
        }
    }

    /// What the guest said last in `_OST` of a CPU: event and status.
    pub fn ost(&self, index: usize) -> (u32, u32) {
        self.cpus.get(index).map_or((0, 0), |cpu| (cpu.ost_event, cpu.ost_status))
    }
}
