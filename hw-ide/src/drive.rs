//! A device of a channel: what of it never changes, its registers, and what it knows of a medium.

use std::sync::Arc;

use qom::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::spec::{CD_RAW_SECTOR, CD_SECTOR, MAX_MULTIPLE, PACKET_SIZE, device, status};

/// Most bytes that wait in a buffer: one transfer of packet data, and the rest of a sector.
const MAX_BUFFER: usize = (1 << 16) + 2 * CD_RAW_SECTOR as usize;
/// Most sectors of a command.
const MAX_SECTORS: u32 = 1 << 16;
/// Heads that the register can name.
const MAX_HEADS: u32 = 16;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A disk.
    Disk,
    /// A CD-ROM drive.
    Cd,
}

/// What a device reads from.
pub trait Medium: Send + Sync {
    /// Its size, sectors of 512 bytes; 0 without one.
    fn sectors(&self) -> u64;
    /// Whether there is one.
    fn is_inserted(&self) -> bool;
    /// Whether writes may stay in the host's cache until a flush.
    fn write_cache(&self) -> bool;
    /// Says whether they may.
    fn set_write_cache(&self, on: bool);
}

/// What of a device never changes.
#[derive(Clone)]
pub struct Drive {
    /// What it is.
    pub kind: Kind,
    /// Serial number, up to 20 characters.
    pub serial: String,
    /// Model, up to 40 characters.
    pub model: String,
    /// Version of the firmware, up to 8 characters.
    pub version: String,
    /// World-wide name; 0: none.
    pub wwn: u64,
    /// Cylinders, heads and sectors, as it is made.
    pub geometry: (u32, u32, u32),
    /// It knows TRIM.
    pub trims: bool,
    /// Logical sectors of a physical one, as a power of two.
    pub physical_exponent: u16,
    /// Rotations a minute; 0: nothing is said, 1: it does not rotate.
    pub rotation_rate: u16,
    /// What it reads from.
    pub medium: Arc<dyn Medium>,
}

/// What follows when the data of a transfer by the Data register has gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum After {
    /// Nothing.
    #[default]
    Stop,
    /// More sectors are read.
    ReadSectors,
    /// They are written.
    WriteSectors,
    /// It was a packet.
    Packet,
    /// More of a packet command's data.
    PacketData,
}

impl After {
    /// Whether data goes to the host (`ide_is_pio_out`).
    pub fn is_input(self) -> bool {
        !matches!(self, After::WriteSectors | After::Packet)
    }
}

/// What SMART remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Smart {
    /// It is enabled.
    pub enabled: bool,
    /// Attributes are saved by themselves.
    pub autosave: bool,
    /// Tests that were run, the last one's number; after 21 it begins again with 1.
    pub test_count: u8,
    /// Their kinds.
    pub tests: Vec<u8>,
}

impl Default for Smart {
    fn default() -> Self {
        Smart { enabled: true, autosave: true, test_count: 0, tests: Vec::new() }
    }
}

/// What packet commands remember.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PacketState {
    /// The command.
    pub packet: [u8; PACKET_SIZE],
    /// Its data goes by DMA.
    pub dma: bool,
    /// Bytes of its data that are still to go.
    pub left: u64,
    /// The next sector that it reads, if it reads any.
    pub lba: Option<u32>,
    /// How much of a sector it reads, bytes.
    pub sector_size: u32,
    /// What went wrong last.
    pub sense_key: u8,
    /// Additional code.
    pub asc: u8,
    /// The medium changed: 1 before the guest is told that the old one is gone, 2 before it hears of the new one.
    pub changed: u8,
    /// The tray is open.
    pub tray_open: bool,
    /// The guest forbade to open it.
    pub tray_locked: bool,
    /// There is a new medium, for those who ask for events.
    pub new_media: bool,
    /// The user wants the medium out, for the same.
    pub eject_request: bool,
}

/// A device's registers, and what else of it changes. Devices that are not there have them, too: a channel's registers
/// are written for both.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Registers {
    /// Features.
    pub feature: u8,
    /// Error.
    pub error: u8,
    /// Sector Count, or how many sectors a command still has to do.
    pub count: u32,
    /// Sector Number.
    pub sector: u8,
    /// Cylinder Low.
    pub lcyl: u8,
    /// Cylinder High.
    pub hcyl: u8,
    /// What was in Features before.
    pub hob_feature: u8,
    /// The same of Sector Count.
    pub hob_count: u8,
    /// The same of Sector Number.
    pub hob_sector: u8,
    /// The same of Cylinder Low.
    pub hob_lcyl: u8,
    /// The same of Cylinder High.
    pub hob_hcyl: u8,
    /// Device/Head.
    pub select: u8,
    /// Status.
    pub status: u8,
    /// The command has an address of 48 bits.
    pub lba48: bool,
    /// Heads and sectors, as the guest translates addresses.
    pub translation: (u32, u32),
    /// A reset has the translation be the device's own.
    pub reset_reverts: bool,
    /// Sectors of 512 bytes of the medium.
    pub sectors: u64,
    /// Sectors between two interrupts of READ MULTIPLE.
    pub multiple: u8,
    /// The same of the command that is carried out.
    pub at_once: u32,
    /// What SET FEATURES chose.
    pub transfer_mode: Option<u8>,
    /// Data that goes through the Data register, and what comes after it.
    pub buffer: Vec<u8>,
    /// The place in it where the transfer is.
    pub at: usize,
    /// Its end.
    pub end: usize,
    /// What follows.
    pub after: After,
    /// SMART's.
    pub smart: Smart,
    /// Packet commands'.
    pub packet: PacketState,
}

impl Registers {
    /// The sector that the registers name, or nonsense, which is beyond any disk (`ide_get_sector`).
    pub fn lba(&self) -> u64 {
        let [sector, lcyl, hcyl] = [self.sector, self.lcyl, self.hcyl].map(u64::from);
        let low = hcyl << 16 | lcyl << 8 | sector;
        let head = u64::from(self.select & device::HEAD);
        if self.select & device::LBA == 0 {
            let (heads, sectors) = (u64::from(self.translation.0), u64::from(self.translation.1));
            let track = (hcyl << 8 | lcyl) * heads + head;
            return (track * sectors).wrapping_add(sector).wrapping_sub(1);
        }
        if !self.lba48 {
            return head << 24 | low;
        }
        let [sector, lcyl, hcyl] = [self.hob_sector, self.hob_lcyl, self.hob_hcyl].map(u64::from);
        hcyl << 40 | lcyl << 32 | sector << 24 | low
    }

    /// Has the registers name a sector (`ide_set_sector`).
    pub fn set_lba(&mut self, lba: u64) {
        let bytes = lba.to_le_bytes();
        if self.select & device::LBA == 0 {
            let (heads, sectors) = (u64::from(self.translation.0), u64::from(self.translation.1));
            // A guest can say that there are none.
            let (Some(cylinder), Some(rest)) =
                (lba.checked_div(heads * sectors), lba.checked_rem(heads * sectors))
            else {
                return;
            };
            [self.lcyl, self.hcyl] = [cylinder as u8, (cylinder >> 8) as u8];
            self.select = self.select & !device::HEAD | (rest / sectors) as u8 & device::HEAD;
            // Tracks can have more sectors than the register counts: a command may have left it at 256.
            self.sector = ((rest % sectors) as u8).wrapping_add(1);
            return;
        }
        [self.sector, self.lcyl, self.hcyl] = [bytes[0], bytes[1], bytes[2]];
        if self.lba48 {
            [self.hob_sector, self.hob_lcyl, self.hob_hcyl] = [bytes[3], bytes[4], bytes[5]];
        } else {
            self.select = self.select & !device::HEAD | bytes[3] & device::HEAD;
        }
    }

    /// Sets how many sectors a command has to do, by its registers (`ide_cmd_lba48_transform`).
    pub fn begin_sectors(&mut self, lba48: bool) {
        self.lba48 = lba48;
        self.count = match (lba48, self.count, self.hob_count) {
            (false, 0, _) => 256,
            (false, count, _) => count,
            (true, 0, 0) => MAX_SECTORS,
            (true, low, high) => u32::from(high) << 8 | low,
        };
    }

    /// What tells kinds of devices apart after a reset (`ide_set_signature`).
    pub fn set_signature(&mut self, kind: Option<Kind>) {
        self.select &= !device::HEAD;
        (self.count, self.sector) = (1, 1);
        (self.lcyl, self.hcyl) = match kind {
            Some(Kind::Cd) => (0x14, 0xeb),
            Some(Kind::Disk) => (0, 0),
            None => (0xff, 0xff),
        };
    }

    /// No data goes through the Data register (`ide_transfer_halt`).
    pub fn halt(&mut self) {
        (self.at, self.end) = (0, 0);
        self.buffer.clear();
        self.after = After::Stop;
        self.status &= !status::DRQ;
    }

    /// As after power-on (`ide_reset`).
    pub fn reset(&mut self, drive: Option<&Drive>) {
        let kind = drive.map(|drive| drive.kind);
        if std::mem::take(&mut self.reset_reverts)
            && let Some(drive) = drive
        {
            self.translation = (drive.geometry.1, drive.geometry.2);
        }
        let PacketState { new_media, eject_request, .. } = self.packet;
        *self = Registers {
            select: device::ALWAYS,
            status: status::READY | status::SEEK,
            translation: self.translation,
            sectors: self.sectors,
            multiple: MAX_MULTIPLE,
            transfer_mode: self.transfer_mode,
            smart: std::mem::take(&mut self.smart),
            packet: PacketState { new_media, eject_request, ..PacketState::default() },
            ..Registers::default()
        };
        self.set_signature(kind);
    }

    /// Whether a device can be so.
    ///
    /// # Errors
    /// Names what cannot be.
    pub fn check(&self) -> Result<()> {
        if self.buffer.len() > MAX_BUFFER || self.at > self.end || self.end > self.buffer.len() {
            bail!("a transfer of {} to {} of {} bytes cannot be", self.at, self.end, self.buffer.len());
        }
        if self.count > MAX_SECTORS || self.multiple > MAX_MULTIPLE || self.at_once > MAX_MULTIPLE.into() {
            bail!("a command has no {} sectors", self.count);
        }
        let (heads, sectors) = self.translation;
        if heads > MAX_HEADS || sectors > MAX_SECTORS {
            bail!("no disk has {heads} heads and {sectors} sectors a track");
        }
        if ![0, CD_SECTOR, CD_RAW_SECTOR].contains(&self.packet.sector_size) {
            bail!("a sector has no {} bytes", self.packet.sector_size);
        }
        if self.smart.tests.len() > crate::smart::MAX_TESTS
            || usize::from(self.smart.test_count) > self.smart.tests.len()
        {
            bail!("no device remembers {} tests", self.smart.tests.len());
        }
        Ok(())
    }
}
