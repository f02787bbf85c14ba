//! Packet commands: the flow of packets, data and errors (ATA/ATAPI-6, sections 8.20 and 9.8). Source: QEMU
//! `hw/ide/atapi.c`.

mod answers;
mod commands;

use hw_scsi::disc;
use hw_scsi::sense::Sense;
use memory::FlatView;

use crate::channel::{Channel, DmaKind, Job};
use crate::commands::Next;
use crate::drive::{After, PacketState};
use crate::spec::{CD_RAW_SECTOR, CD_SECTOR, PACKET_SIZE, error, reason, status};

/// Sectors that go to memory at once.
const DMA_SECTORS: u64 = 64;
/// Sense keys.
const UNIT_ATTENTION: u8 = 6;

/// A sector with what is around it on the disc; there is no error correction.
fn raw_sector(lba: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 12];
    (bytes[0], bytes[11]) = (0, 0);
    bytes.extend(disc::msf(lba.into()));
    // Mode 1: data.
    bytes.push(1);
    bytes.extend(data);
    bytes.resize(CD_RAW_SECTOR as usize, 0);
    bytes
}

impl Channel {
    fn packet(&self) -> &PacketState {
        &self.device().packet
    }

    fn packet_mut(&mut self) -> &mut PacketState {
        &mut self.device_mut().packet
    }

    /// PACKET: the guest writes one (`cmd_packet`).
    pub(crate) fn begin_packet(&mut self) -> Next {
        let feature = self.device().feature;
        if feature & 2 != 0 {
            // Overlapped, that is.
            return self.abort();
        }
        let device = self.device_mut();
        device.status = status::READY | status::SEEK;
        device.packet.dma = feature & 1 != 0;
        device.count = reason::COMMAND;
        self.transfer(vec![0; PACKET_SIZE], After::Packet);
        Next::Own
    }

    /// A packet came (`ide_atapi_cmd`).
    pub(crate) fn packet_came(&mut self) {
        let device = self.device_mut();
        if let Some(packet) = device.buffer.first_chunk() {
            device.packet.packet = *packet;
        }
        device.halt();
        self.execute_packet();
    }

    fn set_reason(&mut self, bits: u32) {
        let device = self.device_mut();
        device.count = device.count & !reason::MASK | bits;
    }

    /// (`ide_atapi_cmd_ok`)
    fn packet_done(&mut self) {
        let device = self.device_mut();
        device.halt();
        (device.error, device.status) = (0, status::READY | status::SEEK);
        self.set_reason(reason::INPUT | reason::COMMAND);
        self.raise_irq();
    }

    /// (`ide_atapi_cmd_error`)
    fn packet_failed(&mut self, sense: Sense) {
        let device = self.device_mut();
        device.halt();
        (device.error, device.status) = (sense.key << 4, status::READY | status::ERR);
        (device.packet.sense_key, device.packet.asc) = (sense.key, sense.asc);
        self.set_reason(reason::INPUT | reason::COMMAND);
        self.raise_irq();
    }

    /// The guest must ask what happened before anything else (`ide_atapi_cmd_check_status`).
    fn packet_attention(&mut self) {
        let device = self.device_mut();
        (device.error, device.status) = (error::MC | UNIT_ATTENTION << 4, status::ERR);
        device.count = 0;
        self.raise_irq();
    }

    /// A sector cannot be read (`ide_atapi_io_error`).
    pub(crate) fn packet_read_failed(&mut self, no_medium: bool) {
        self.packet_failed(if no_medium { Sense::NO_MEDIUM } else { Sense::LBA_OUT_OF_RANGE });
    }

    /// Most bytes between two interrupts, as the guest says (`atapi_byte_count_limit`).
    fn byte_count_limit(&self) -> usize {
        match u16::from_le_bytes([self.device().lcyl, self.device().hcyl]) {
            u16::MAX => 0xfffe,
            limit => limit.into(),
        }
    }

    /// Without a limit there can be no data; the command is none of packets' then.
    fn has_limit(&mut self) -> bool {
        let has = self.packet().dma || self.byte_count_limit() > 0;
        if !has {
            self.abort();
        }
        has
    }

    /// Gives an answer, no more of it than the guest wants (`ide_atapi_cmd_reply`).
    fn packet_answer(&mut self, mut data: Vec<u8>, most: usize) {
        data.truncate(most);
        let device = self.device_mut();
        device.packet.lba = None;
        device.packet.left = data.len() as u64;
        device.status = status::READY | status::SEEK;
        device.buffer = data;
        if !device.packet.dma {
            return self.packet_data();
        }
        device.status |= status::DRQ;
        self.begin_dma(DmaKind::Packet);
    }

    /// Reads sectors, as much of each as `sector_size` says.
    fn packet_read(&mut self, lba: u32, count: u32, sector_size: u32) {
        let device = self.device_mut();
        device.buffer.clear();
        device.packet.lba = Some(lba);
        device.packet.left = u64::from(count) * u64::from(sector_size);
        device.packet.sector_size = sector_size;
        if !device.packet.dma {
            return self.packet_data();
        }
        device.status = status::READY | status::SEEK | status::DRQ | status::BUSY;
        self.begin_dma(DmaKind::Packet);
    }

    /// Has the next bytes of data go through the Data register, which sectors may have to be read for
    /// (`ide_atapi_cmd_reply_end`).
    fn packet_data(&mut self) {
        let left = usize::try_from(self.packet().left).unwrap_or(usize::MAX);
        if left == 0 {
            return self.packet_done();
        }
        let limit = self.byte_count_limit();
        // But for the last bytes they are even.
        let size = if left > limit { limit & !1 } else { left };
        if size == 0 {
            self.abort();
            return self.raise_irq();
        }
        let device = self.device_mut();
        let missing = size.saturating_sub(device.buffer.len());
        if let Some(lba) = device.packet.lba
            && missing > 0
        {
            let count = missing.div_ceil(device.packet.sector_size.max(CD_SECTOR) as usize) as u32;
            device.status = status::READY | status::SEEK | status::BUSY;
            return self.begin_job(Job::ReadCd { lba, count });
        }
        device.packet.left -= size as u64;
        [device.lcyl, device.hcyl] = (size as u16).to_le_bytes();
        self.set_reason(reason::INPUT);
        self.transfer_buffered(size, After::PacketData);
        self.raise_irq();
    }

    /// What of data was in the Data register is gone.
    pub(crate) fn packet_data_gone(&mut self) {
        let device = self.device_mut();
        let end = device.end.min(device.buffer.len());
        device.buffer.drain(..end);
        (device.at, device.end, device.after) = (0, 0, After::Stop);
        self.packet_data();
    }

    /// Sectors were read (`cd_read_sector_cb`).
    pub(crate) fn packet_sectors_came(&mut self, lba: u32, data: &[u8]) {
        let device = self.device_mut();
        device.status &= !status::BUSY;
        let mut next = lba;
        for sector in data.chunks(CD_SECTOR as usize) {
            match device.packet.sector_size {
                CD_RAW_SECTOR => device.buffer.extend(raw_sector(next, sector)),
                _ => device.buffer.extend(sector),
            }
            next = next.wrapping_add(1);
        }
        device.packet.lba = Some(next);
        self.packet_data();
    }

    /// The bus master takes an answer, or sectors are read for it (`ide_atapi_cmd_read_dma_cb`).
    pub(crate) fn packet_dma(&mut self, memory: Option<&FlatView>) {
        if self.packet().lba.is_none() {
            let data = std::mem::take(&mut self.device_mut().buffer);
            if !self.packet_to_memory(&data, memory) {
                return;
            }
        }
        self.packet_next_dma();
    }

    /// Moves data to memory; says whether there was room. Without the command ends there, and nobody is told.
    fn packet_to_memory(&mut self, data: &[u8], memory: Option<&FlatView>) -> bool {
        let packet = self.packet_mut();
        packet.left = packet.left.saturating_sub(data.len() as u64);
        let fits = self.state.bmdma.write(memory, data);
        if !fits {
            self.end_dma(false);
        }
        fits
    }

    fn packet_next_dma(&mut self) {
        let packet = self.packet();
        let (Some(lba), 1..) = (packet.lba, packet.left) else {
            self.device_mut().status = status::READY | status::SEEK;
            self.set_reason(reason::INPUT | reason::COMMAND);
            self.raise_irq();
            return self.end_dma(false);
        };
        let count = match packet.sector_size {
            CD_RAW_SECTOR => 1,
            _ => (packet.left / u64::from(CD_SECTOR)).min(DMA_SECTORS) as u32,
        };
        self.begin_job(Job::ReadCdDma { lba, count });
    }

    /// Sectors were read for the bus master.
    pub(crate) fn packet_sectors_to_memory(
        &mut self,
        lba: u32,
        count: u32,
        data: &[u8],
        memory: Option<&FlatView>,
    ) {
        self.packet_mut().lba = Some(lba.wrapping_add(count));
        let fits = match self.packet().sector_size {
            CD_RAW_SECTOR => self.packet_to_memory(&raw_sector(lba, data), memory),
            _ => self.packet_to_memory(data, memory),
        };
        if fits {
            self.packet_next_dma();
        }
    }
}
