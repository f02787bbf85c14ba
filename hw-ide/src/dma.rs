//! Commands by way of the bus master. Source: QEMU `hw/ide/core.c` (`ide_dma_cb`), `hw/ide/pci.c`.

use memory::FlatView;

use crate::bmdma::Piece;
use crate::channel::{Channel, DmaKind, Job, Task};
use crate::commands::Next;
use crate::spec::{SECTOR, bm, status};

/// What the bus master is to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Sectors from here on, to these pieces of memory.
    Read(u64, Vec<Piece>),
    /// The same, from them.
    Write(u64, Vec<Piece>),
    /// These pieces have a list of sectors that are not needed.
    Trim(Vec<Piece>),
}

impl Channel {
    pub(crate) fn sectors_by_dma(&mut self, kind: DmaKind, lba48: bool) -> Next {
        if self.selected().is_none() {
            return self.abort();
        }
        self.device_mut().begin_sectors(lba48);
        self.begin_dma(kind)
    }

    /// The command goes on when the bus master is started, which it may be already (`ide_start_dma`).
    pub(crate) fn begin_dma(&mut self, kind: DmaKind) -> Next {
        let device = self.device_mut();
        if kind != DmaKind::Packet {
            device.halt();
            device.status = status::READY | status::SEEK | status::DRQ;
        }
        self.note_begin();
        self.state.bmdma.begin(kind);
        if self.state.bmdma.is_active() {
            self.begin_job(Job::Dma(kind));
        }
        Next::Own
    }

    /// Whether a write of the bus master's command register stops it.
    pub fn stops_dma(&self, value: u8) -> bool {
        self.state.bmdma.command & bm::START != 0 && value & bm::START == 0
    }

    /// The guest writes the bus master's command register. What is under way was waited for, if it is not to go on
    /// (`bmdma_cmd_writeb`).
    pub fn write_bm_command(&mut self, value: u8) {
        let started = self.state.bmdma.command & bm::START == 0 && value & bm::START != 0;
        if self.stops_dma(value) {
            if matches!(self.state.job, Some(Job::ReadCdDma { .. })) {
                self.cancel();
                self.packet_read_failed(false);
                self.end_dma(false);
            }
            self.state.bmdma.status &= !bm::ACTIVE;
        } else if started {
            let bmdma = &mut self.state.bmdma;
            bmdma.rewind();
            if !bmdma.is_active() {
                bmdma.status |= bm::ACTIVE;
                if let Some(kind) = bmdma.waiting {
                    self.begin_job(Job::Dma(kind));
                }
            }
        }
        self.state.bmdma.command = value & bm::COMMAND_BITS;
    }

    /// The bus master's command and status registers.
    pub fn bus_master(&self) -> (u8, u8) {
        (self.state.bmdma.command, self.state.bmdma.status)
    }

    /// The guest writes the bus master's status register.
    pub fn write_bm_status(&mut self, value: u8) {
        self.state.bmdma.write_status(value);
    }

    /// Bytes of the table's address.
    pub fn read_table(&self, at: u64, size: u8) -> u64 {
        self.state.bmdma.read_address(at, size)
    }

    /// The guest writes bytes of the table's address.
    pub fn write_table(&mut self, at: u64, value: u64, size: u8) {
        self.state.bmdma.write_address(at, value, size);
    }

    /// The command is done with the bus master.
    pub(crate) fn end_dma(&mut self, stay_active: bool) {
        self.state.bmdma.end(stay_active);
    }

    /// (`ide_dma_error`)
    pub(crate) fn fail_dma(&mut self) {
        self.end_dma(false);
        self.fail();
    }

    /// Goes through the table, for a job of the kind [`Job::Dma`]. `None`: nothing is to be moved, or it was called off.
    pub fn prepare_dma(&mut self, task: &Task, memory: Option<&FlatView>) -> Option<Plan> {
        let Job::Dma(kind) = task.job else { return None };
        if !self.is_current(task) {
            return None;
        }
        if kind == DmaKind::Packet {
            self.state.job = None;
            self.packet_dma(memory);
            return None;
        }
        let (sector, count) = (self.device().lba(), self.device().count);
        if count == 0 {
            self.dma_done();
            return None;
        }
        let wanted = u64::from(count) * SECTOR;
        let pieces = self.state.bmdma.prepare(memory, wanted);
        if pieces.iter().map(|(_, len)| len).sum::<u64>() < wanted {
            // The table is too short: the command ends, and nobody is told.
            self.state.job = None;
            self.device_mut().status = status::READY | status::SEEK;
            self.end_dma(false);
            return None;
        }
        if kind != DmaKind::Trim && !self.has_sectors(sector, count) {
            self.state.job = None;
            self.fail_dma();
            return None;
        }
        Some(match kind {
            DmaKind::Write => Plan::Write(sector * SECTOR, pieces),
            DmaKind::Trim => Plan::Trim(pieces),
            _ => Plan::Read(sector * SECTOR, pieces),
        })
    }

    /// All sectors were moved.
    pub(crate) fn dma_done(&mut self) {
        self.state.job = None;
        let device = self.device_mut();
        let count = std::mem::take(&mut device.count);
        if count > 0 {
            device.set_lba(device.lba().wrapping_add(count.into()));
        }
        device.status = status::READY | status::SEEK;
        // Of a longer table the rest is still there.
        let stay_active = self.state.bmdma.described > u64::from(count) * SECTOR;
        self.raise_irq();
        self.end_dma(stay_active && count > 0);
    }
}
