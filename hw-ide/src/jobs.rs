//! What follows when a job is over.

use memory::FlatView;

use crate::channel::{Channel, DmaKind, Job, Task};
use crate::drive::After;
use crate::spec::status;

/// How a job ended.
#[derive(Debug)]
pub enum Ended {
    /// All was done; what was read, if anything was to be given.
    Done(Vec<u8>),
    /// It failed, and the guest is told. `no_medium`: because there is none.
    Failed { no_medium: bool },
    /// It failed, and the machine stops. It is tried again when the machine goes on.
    Stopped,
}

impl Channel {
    /// A job is over; `memory` is guest memory as the bus master sees it. One that was called off meanwhile is none of
    /// ours any more.
    pub fn finish(&mut self, task: &Task, ended: Ended, memory: Option<&FlatView>) {
        if !self.is_current(task) {
            return;
        }
        self.state.job = None;
        match (task.job, ended) {
            (job, Ended::Stopped) => self.state.retry = Some(job),
            (Job::Read { count, .. }, Ended::Done(data)) => self.sectors_read(count, data),
            (Job::Write { count, .. }, Ended::Done(_)) => self.sectors_written(count),
            (Job::Flush, Ended::Done(_)) => self.flushed(),
            (Job::Dma(_), Ended::Done(_)) => self.dma_done(),
            (Job::ReadCd { lba, .. }, Ended::Done(data)) => self.packet_sectors_came(lba, &data),
            (Job::ReadCdDma { lba, count }, Ended::Done(data)) => {
                self.packet_sectors_to_memory(lba, count, &data, memory);
            }
            (Job::Dma(_), Ended::Failed { .. }) => self.fail_dma(),
            (Job::ReadCd { .. }, Ended::Failed { no_medium }) => self.packet_read_failed(no_medium),
            (Job::ReadCdDma { .. }, Ended::Failed { no_medium }) => {
                self.packet_read_failed(no_medium);
                self.end_dma(false);
            }
            (_, Ended::Failed { .. }) => self.fail(),
        }
    }

    /// (`ide_sector_read_cb`)
    fn sectors_read(&mut self, count: u32, data: Vec<u8>) {
        self.sectors_moved(count);
        self.transfer(data, After::ReadSectors);
        self.raise_irq();
    }

    /// (`ide_sector_write_cb`)
    fn sectors_written(&mut self, count: u32) {
        self.sectors_moved(count);
        match self.device().count {
            0 => self.device_mut().halt(),
            _ => self.take_sectors(),
        }
        self.raise_irq();
    }

    fn sectors_moved(&mut self, count: u32) {
        let device = self.device_mut();
        device.status &= !status::BUSY;
        device.set_lba(device.lba().wrapping_add(count.into()));
        device.count = device.count.saturating_sub(count);
    }

    /// The machine goes on: what it was stopped for is tried again (`ide_restart_bh`).
    pub fn resume(&mut self) {
        match self.state.retry.take() {
            None => {}
            Some(Job::Read { .. }) => self.read_sectors(),
            Some(Job::Write { .. }) => self.write_sectors(),
            Some(Job::Flush) => drop(self.flush()),
            Some(Job::ReadCdDma { .. }) => {
                self.state.bmdma.rewind();
                self.execute_packet();
            }
            Some(job @ (Job::ReadCd { .. } | Job::Dma(DmaKind::Packet))) => self.begin_job(job),
            Some(Job::Dma(kind)) => {
                let (lba, count) = self.state.begin;
                let device = self.device_mut();
                device.set_lba(lba);
                device.count = count;
                self.state.bmdma.rewind();
                self.begin_dma(kind);
            }
        }
    }
}
