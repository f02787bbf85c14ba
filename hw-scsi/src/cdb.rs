//! Command descriptor blocks: their length, how much data goes which way, and where on the disk (`scsi_req_parse_cdb`
//! in QEMU's `hw/scsi/scsi-bus.c`).

use crate::spec::op::*;

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// There is none.
    None,
    /// To the guest.
    FromDevice,
    /// From the guest.
    ToDevice,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdb {
    /// Its bytes, 6 to 16 of them.
    bytes: Vec<u8>,
    /// Bytes of data.
    pub transfer: u64,
    /// Which way they go.
    pub direction: Direction,
}

/// What the length of data depends on beside the command.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Bytes of a block.
    pub block_size: u32,
    /// It is a CD-ROM drive.
    pub is_rom: bool,
}

impl Cdb {
    /// Reads a command; `None` for one of a length that is not known, or which is cut short.
    pub fn parse(bytes: &[u8], target: Target) -> Option<Cdb> {
        let len = match bytes.first()? >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            5 => 12,
            _ => return None,
        };
        let mut cdb = Cdb { bytes: bytes.get(..len)?.to_vec(), transfer: 0, direction: Direction::None };
        cdb.transfer = cdb.transfer_len(target);
        cdb.direction = cdb.transfer_direction();
        Some(cdb)
    }

    /// The operation code.
    pub fn opcode(&self) -> u8 {
        self.byte(0)
    }

    /// Byte `at`; 0 beyond the end.
    pub fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn be(&self, at: usize, len: usize) -> u64 {
        (at..at + len).fold(0, |value, at| value << 8 | u64::from(self.byte(at)))
    }

    /// The length field where commands of this length have it, as it stands there.
    fn length_field(&self) -> u64 {
        match self.bytes.len() {
            6 => self.byte(4).into(),
            10 => self.be(7, 2),
            16 => self.be(10, 4),
            _ => self.be(6, 4),
        }
    }

    /// How many blocks a command is for.
    pub fn blocks(&self) -> u64 {
        match (self.bytes.len(), self.length_field()) {
            (6, 0) => 256,
            (_, blocks) => blocks,
        }
    }

    /// The first block.
    pub fn lba(&self) -> u64 {
        match self.bytes.len() {
            6 => self.be(0, 4) & 0x1f_ffff,
            16 => self.be(2, 8),
            _ => self.be(2, 4),
        }
    }

    /// Bytes of data (`scsi_req_xfer`).
    fn transfer_len(&self, target: Target) -> u64 {
        let block = u64::from(target.block_size);
        let flags = self.byte(1);
        let length = self.length_field();
        match self.opcode() {
            TEST_UNIT_READY | REWIND | START_STOP | SET_CAPACITY | WRITE_FILEMARKS | WRITE_FILEMARKS_16
            | SPACE | RESERVE | RELEASE | ERASE | ALLOW_MEDIUM_REMOVAL | SEEK_10 | SYNCHRONIZE_CACHE
            | SYNCHRONIZE_CACHE_16 | LOCATE_16 | LOCK_UNLOCK_CACHE | SET_CD_SPEED | SET_LIMITS
            | WRITE_LONG_10 | UPDATE_BLOCK | RESERVE_TRACK | SET_READ_AHEAD | PRE_FETCH | PRE_FETCH_16
            | ALLOW_OVERWRITE => 0,
            VERIFY_10 | VERIFY_12 | VERIFY_16 => match flags & 6 {
                0 | 4 => 0,
                2 => length * block,
                _ => block,
            },
            WRITE_SAME_10 | WRITE_SAME_16 if flags & 1 != 0 => 0,
            WRITE_SAME_10 | WRITE_SAME_16 => block,
            READ_CAPACITY_10 => 8,
            READ_BLOCK_LIMITS => 6,
            SEND_VOLUME_TAG if target.is_rom => self.be(9, 2),
            SEND_VOLUME_TAG => self.be(8, 2),
            READ_6 | WRITE_6 | READ_REVERSE => self.blocks() * block,
            WRITE_10 | WRITE_VERIFY_10 | WRITE_12 | WRITE_VERIFY_12 | WRITE_16 | WRITE_VERIFY_16
            | READ_10 | READ_12 | READ_16 => length * block,
            FORMAT_UNIT if flags & 0x10 == 0 => 0,
            FORMAT_UNIT if target.is_rom => 12,
            FORMAT_UNIT if flags & 0x20 != 0 => 8,
            FORMAT_UNIT => 4,
            INQUIRY | RECEIVE_DIAGNOSTIC | SEND_DIAGNOSTIC => self.be(3, 2),
            READ_CD | READ_BUFFER | WRITE_BUFFER | SEND_CUE_SHEET => self.be(6, 3),
            PERSISTENT_RESERVE_OUT => self.be(5, 4),
            GET_PERFORMANCE if target.is_rom => self.performance_len(),
            MECHANISM_STATUS | READ_DVD_STRUCTURE | SEND_DVD_STRUCTURE | MAINTENANCE_OUT | MAINTENANCE_IN
                if target.is_rom =>
            {
                self.be(8, 2)
            }
            ATA_PASSTHROUGH_12 if target.is_rom => 0,
            ATA_PASSTHROUGH_12 => self.ata_len(block, [self.be(3, 1), self.be(4, 1)]),
            ATA_PASSTHROUGH_16 if flags & 1 != 0 => self.ata_len(block, [self.be(3, 2), self.be(5, 2)]),
            ATA_PASSTHROUGH_16 => self.ata_len(block, [self.be(4, 1), self.be(6, 1)]),
            _ => length,
        }
    }

    /// GET PERFORMANCE (MMC-6, section 6.7): a header, and descriptors whose length depends on the type.
    fn performance_len(&self) -> u64 {
        let one = match (self.byte(10), self.byte(1) & 3) {
            (0, 0) | (3, _) => 16,
            (0, _) => 6,
            (1 | 4 | 5, _) => 8,
            (2, _) => 2048,
            _ => 0,
        };
        one * self.be(8, 2) + 8
    }

    /// ATA PASS-THROUGH, whose length is in the field that the command names: features, or the count (SAT-3,
    /// section 12.2).
    fn ata_len(&self, block: u64, [features, count]: [u64; 2]) -> u64 {
        let flags = self.byte(2);
        let unit = match (flags & 4 != 0, flags & 0x10 != 0) {
            (false, _) => 1,
            (true, false) => 512,
            (true, true) => block,
        };
        match flags & 3 {
            1 => features * unit,
            2 => count * unit,
            _ => 0,
        }
    }

    /// Which way data goes (`scsi_cmd_xfer_mode`).
    fn transfer_direction(&self) -> Direction {
        match self.opcode() {
            _ if self.transfer == 0 => Direction::None,
            WRITE_6
            | WRITE_10
            | WRITE_VERIFY_10
            | WRITE_12
            | WRITE_VERIFY_12
            | WRITE_16
            | WRITE_VERIFY_16
            | VERIFY_10
            | VERIFY_12
            | VERIFY_16
            | COPY
            | MEDIUM_SCAN..=COPY_VERIFY
            | CHANGE_DEFINITION
            | LOG_SELECT
            | MODE_SELECT
            | MODE_SELECT_10
            | SEND_DIAGNOSTIC
            | WRITE_BUFFER
            | FORMAT_UNIT
            | REASSIGN_BLOCKS
            | SEARCH_HIGH..=SEARCH_LOW
            | UPDATE_BLOCK
            | WRITE_LONG_10
            | WRITE_SAME_10
            | WRITE_SAME_16
            | UNMAP
            | SEARCH_HIGH_12..=SEARCH_LOW_12
            | SEND_VOLUME_TAG
            | SEND_CUE_SHEET
            | SEND_DVD_STRUCTURE
            | PERSISTENT_RESERVE_OUT
            | MAINTENANCE_OUT
            | SET_WINDOW
            | START_STOP => Direction::ToDevice,
            ATA_PASSTHROUGH_12 | ATA_PASSTHROUGH_16 if self.byte(2) & 8 == 0 => Direction::ToDevice,
            _ => Direction::FromDevice,
        }
    }
}
