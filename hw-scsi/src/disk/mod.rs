//! A disk or CD-ROM drive, as a plain struct: commands come in, with what medium there is; what is to be done comes
//! out. Source followed besides the standards: QEMU `hw/scsi/scsi-disk.c`.

mod capacity;
mod inquiry;
mod mmc;
mod mode;
#[cfg(test)]
mod tests;
mod transfer;

use hw_block::conf::BlockSizes;
use qom::bail;
use serde::{Deserialize, Serialize};

use crate::cdb::{Cdb, Target};
use crate::plan::Plan;
use crate::sense::Sense;
use crate::spec::{SAI_READ_CAPACITY_16, op};

/// Sectors that images are counted in, bytes.
const SECTOR: u64 = hw_block::conf::SECTOR;
/// Commands with more data than this, other than reads and writes, are refused.
pub(crate) const MAX_DATA: u64 = 65536;

/// What of a drive never changes.
#[derive(Clone, Debug)]
pub struct DiskConf {
    /// A CD-ROM drive.
    pub is_rom: bool,
    /// Its medium can be taken out.
    pub removable: bool,
    /// It says that it knows DPO and FUA.
    pub dpofua: bool,
    /// Serial number.
    pub serial: Option<String>,
    /// Vendor, 8 characters.
    pub vendor: String,
    /// Product, 16 characters.
    pub product: String,
    /// Revision, 4 characters.
    pub version: String,
    /// Identification, where there is one.
    pub device_id: Option<String>,
    /// World-wide name; 0: none.
    pub wwn: u64,
    /// World-wide name of the port; 0: none.
    pub port_wwn: u64,
    /// Number of the port; 0: none.
    pub port_index: u16,
    /// Most that is unmapped at once, bytes.
    pub max_unmap_size: u64,
    /// Most that is read or written at once, bytes.
    pub max_io_size: u64,
    /// Rotations a minute; 0: nothing is said, 1: it does not rotate.
    pub rotation_rate: u16,
    /// Version of SPC that it says it follows.
    pub scsi_version: i32,
    /// Sizes of blocks.
    pub sizes: BlockSizes,
    /// Unit of unmapping, bytes.
    pub discard_granularity: u32,
    /// Cylinders, heads and sectors.
    pub geometry: (u32, u32, u32),
    /// Bytes of a block, as long as the guest chooses no other size.
    pub block_size: u32,
    /// The host adapter queues commands.
    pub queues_commands: bool,
    /// What is not as the standards have it.
    pub quirks: Quirks,
}

/// Ways of the drives that old Macintosh systems know (`SCSI_DISK_QUIRK_*`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Quirks {
    /// A CD-ROM drive has Apple's vendor page.
    pub apple_vendor_page: bool,
    /// A disk has an empty vendor-specific page, and takes MODE SELECT without its format bit.
    pub vendor_specific_page: bool,
    /// A CD-ROM drive has a block descriptor unless the command says not to.
    pub rom_has_descriptor: bool,
    /// The last page of MODE SELECT may be cut short.
    pub truncated_pages: bool,
}

/// What changes, and is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// What the guest must hear of before anything else.
    pub unit_attention: Option<Sense>,
    /// What went wrong last.
    pub sense: Option<Sense>,
    /// After the old medium's end, the new one's coming is to be told.
    media_changed: bool,
    /// The same, for those who ask for events.
    media_event: bool,
    /// The user wants the medium out.
    eject_request: bool,
    /// The tray is open.
    pub tray_open: bool,
    /// The guest forbade to open it.
    pub tray_locked: bool,
    /// The last block that there was when the guest asked.
    max_lba: u64,
    block_size: u32,
}

/// What there is to read and write now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Medium {
    /// There is one, whatever the tray.
    pub is_inserted: bool,
    /// Its size, sectors of 512 bytes.
    pub sectors: u64,
    /// It can be written.
    pub is_writable: bool,
    /// Writes may stay in the host's cache.
    pub write_cache: bool,
}

/// What a command comes to.
#[derive(Debug)]
pub enum Reply {
    /// It is done; these are data for the guest, followed by zeroes as far as it has asked for more.
    Data(Vec<u8>),
    /// It failed.
    Check(Sense),
    /// The backend is to do this.
    Io(Plan),
    /// It is done: the tray opened or closed.
    Tray(bool),
    /// The write cache is to be on or off; then it is done.
    WriteCache(Option<bool>),
}

/// Data for the guest, or what is wrong.
type Answer = Result<Vec<u8>, Sense>;

/// A drive.
#[derive(Debug)]
pub struct Disk {
    /// What never changes.
    pub conf: DiskConf,
    /// What does.
    pub state: DiskState,
}

impl DiskState {
    /// Whether a drive can be so.
    ///
    /// # Errors
    /// A size of blocks that there is not.
    pub fn check(&self) -> qom::Result<()> {
        let block = self.block_size;
        if block == 0 || !u64::from(block).is_multiple_of(SECTOR) {
            bail!("no block has {block} bytes");
        }
        Ok(())
    }
}

impl Disk {
    /// A drive, as after power-on but for the medium.
    pub fn new(conf: DiskConf) -> Disk {
        let state = DiskState { block_size: conf.block_size, ..DiskState::default() };
        Disk { conf, state }
    }

    /// What the length of commands' data depends on.
    pub fn target(&self) -> Target {
        Target { block_size: self.state.block_size, is_rom: self.conf.is_rom }
    }

    /// Reset, by whichever way (`scsi_disk_reset`).
    pub fn reset(&mut self, medium: &Medium) {
        Sense::RESET.attend(&mut self.state.unit_attention);
        self.state.max_lba = self.blocks(medium).saturating_sub(1);
        self.state.tray_locked = false;
        self.state.tray_open = false;
    }

    /// A medium came or went. Guests that do not ask for events see the old one go first, then the new one come
    /// (`scsi_cd_change_media_cb`).
    pub fn change_media(&mut self, load: bool) {
        self.state.media_changed = load;
        self.state.tray_open = !load;
        Sense::UNIT_ATTENTION_NO_MEDIUM.attend(&mut self.state.unit_attention);
        self.state.media_event = true;
        self.state.eject_request = false;
    }

    /// The user wants the medium out.
    pub fn eject_request(&mut self, force: bool) {
        self.state.eject_request = true;
        if force {
            self.state.tray_locked = false;
        }
    }

    /// The guest was told of a unit attention: the next may follow (`scsi_disk_unit_attention_reported`).
    pub fn unit_attention_reported(&mut self) {
        if std::mem::take(&mut self.state.media_changed) {
            Sense::MEDIUM_CHANGED.attend(&mut self.state.unit_attention);
        }
    }

    /// Size of the medium in blocks; 0 without one.
    fn blocks(&self, medium: &Medium) -> u64 {
        medium.sectors / (u64::from(self.state.block_size) / SECTOR).max(1)
    }

    fn is_available(&self, medium: &Medium) -> bool {
        medium.is_inserted && !self.state.tray_open
    }

    fn is_in_range(&self, lba: u64, blocks: u64) -> bool {
        lba.checked_add(blocks).is_some_and(|end| end <= self.state.max_lba.saturating_add(1))
    }

    /// Bytes that so many blocks have; what is too many is beyond any disk.
    fn bytes(&self, blocks: u64) -> u64 {
        blocks.saturating_mul(self.state.block_size.into())
    }

    /// Whether a command reads or writes as much as it likes, so that its data is not looked at before.
    pub fn moves_blocks(cdb: &Cdb) -> bool {
        transfer::moves_blocks(cdb.opcode())
    }

    /// Carries out a command. `data` is what the guest gives with it, unless [`Disk::moves_blocks`].
    pub fn execute(&mut self, cdb: &Cdb, data: &[u8], medium: &Medium) -> Reply {
        if Disk::moves_blocks(cdb) {
            return self.transfer(cdb, medium).map_or_else(Reply::Check, Reply::Io);
        }
        if !works_without_medium(cdb.opcode()) && !self.is_available(medium) {
            return Reply::Check(Sense::NO_MEDIUM);
        }
        if cdb.transfer > MAX_DATA {
            return Reply::Check(Sense::INVALID_FIELD);
        }
        self.emulate(cdb, data, medium).unwrap_or_else(Reply::Check)
    }

    /// (`scsi_disk_emulate_command`)
    fn emulate(&mut self, cdb: &Cdb, data: &[u8], medium: &Medium) -> Result<Reply, Sense> {
        let done = Ok(Reply::Data(Vec::new()));
        let flags = cdb.byte(1);
        let needs = |holds: bool| if holds { Ok(Reply::Data(Vec::new())) } else { Err(Sense::INVALID_FIELD) };
        match cdb.opcode() {
            op::TEST_UNIT_READY | op::FORMAT_UNIT => done,
            op::INQUIRY => self.inquiry(cdb).map(Reply::Data),
            op::MODE_SENSE | op::MODE_SENSE_10 => self.mode_sense(cdb, medium).map(Reply::Data),
            op::RESERVE | op::RELEASE => needs(flags & 1 == 0),
            op::RESERVE_10 | op::RELEASE_10 => needs(flags & 3 == 0),
            op::START_STOP => self.start_stop(cdb, medium),
            op::ALLOW_MEDIUM_REMOVAL => {
                self.state.tray_locked = cdb.byte(4) & 1 != 0;
                done
            }
            op::READ_CAPACITY_10 => self.read_capacity_10(cdb, medium).map(Reply::Data),
            op::SERVICE_ACTION_IN_16 if flags & 31 == SAI_READ_CAPACITY_16 => {
                self.read_capacity_16(cdb, medium).map(Reply::Data)
            }
            op::SERVICE_ACTION_IN_16 => Err(Sense::INVALID_FIELD),
            op::REQUEST_SENSE => Ok(Reply::Data(Sense::NO_SENSE.bytes(flags & 1 == 0))),
            op::READ_TOC => self.read_toc(cdb, medium).map(Reply::Data),
            op::MECHANISM_STATUS
            | op::GET_CONFIGURATION
            | op::GET_EVENT_STATUS_NOTIFICATION
            | op::READ_DISC_INFORMATION
            | op::READ_DVD_STRUCTURE => self.multimedia(cdb, medium).map(Reply::Data),
            op::SYNCHRONIZE_CACHE => Ok(Reply::Io(Plan::flush())),
            op::SEEK_10 if cdb.lba() > self.state.max_lba => Err(Sense::LBA_OUT_OF_RANGE),
            op::SEEK_10 => done,
            // No data is compared.
            op::VERIFY_10 | op::VERIFY_12 | op::VERIFY_16 => needs(flags & 6 == 0),
            op::MODE_SELECT | op::MODE_SELECT_10 | op::UNMAP if cdb.transfer == 0 => done,
            op::MODE_SELECT | op::MODE_SELECT_10 => self.mode_select(cdb, data, medium),
            op::UNMAP => self.unmap(cdb, data, medium).map(Reply::Io),
            op::WRITE_SAME_10 | op::WRITE_SAME_16 => self.write_same(cdb, data, medium).map(Reply::Io),
            _ => Err(Sense::INVALID_OPCODE),
        }
    }

    /// (`scsi_disk_emulate_start_stop`)
    fn start_stop(&mut self, cdb: &Cdb, medium: &Medium) -> Result<Reply, Sense> {
        let (start, moves_tray) = (cdb.byte(4) & 1 != 0, cdb.byte(4) & 2 != 0);
        let has_power_condition = cdb.byte(4) & 0xf0 != 0;
        if has_power_condition || !moves_tray || !self.conf.removable {
            return Ok(Reply::Data(Vec::new()));
        }
        if !start && !self.state.tray_open && self.state.tray_locked {
            return Err(match medium.is_inserted {
                true => Sense::ILLEGAL_REQ_REMOVAL_PREVENTED,
                false => Sense::NOT_READY_REMOVAL_PREVENTED,
            });
        }
        if self.state.tray_open != start {
            return Ok(Reply::Data(Vec::new()));
        }
        self.state.tray_open = !start;
        Ok(Reply::Tray(!start))
    }
}

/// Commands that a drive answers without a medium.
fn works_without_medium(opcode: u8) -> bool {
    matches!(
        opcode,
        op::INQUIRY
            | op::MODE_SENSE
            | op::MODE_SENSE_10
            | op::RESERVE
            | op::RESERVE_10
            | op::RELEASE
            | op::RELEASE_10
            | op::START_STOP
            | op::ALLOW_MEDIUM_REMOVAL
            | op::GET_CONFIGURATION
            | op::GET_EVENT_STATUS_NOTIFICATION
            | op::MECHANISM_STATUS
            | op::REQUEST_SENSE
    )
}

/// Puts a value of several bytes, the most significant first, at a place in `bytes`, which is there.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// A number of `len` bytes, the most significant first; bytes that are not there are 0.
fn be(bytes: &[u8], at: usize, len: usize) -> u64 {
    (at..at + len).fold(0, |value, at| value << 8 | u64::from(bytes.get(at).copied().unwrap_or(0)))
}
