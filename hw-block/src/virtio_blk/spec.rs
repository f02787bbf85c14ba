//! Numbers of virtio 1.2, section 5.2.

/// Feature bits (section 5.2.3), as masks.
pub mod f {
    /// Largest segment of a request is told.
    pub const SIZE_MAX: u64 = 1 << 1;
    /// Largest number of segments of a request is told.
    pub const SEG_MAX: u64 = 1 << 2;
    /// Cylinders, heads and sectors are told.
    pub const GEOMETRY: u64 = 1 << 4;
    /// The disk cannot be written.
    pub const RO: u64 = 1 << 5;
    /// Size of a block is told.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// A legacy device passes SCSI commands on.
    pub const SCSI: u64 = 1 << 7;
    /// There are flushes.
    pub const FLUSH: u64 = 1 << 9;
    /// Sizes of efficient requests are told.
    pub const TOPOLOGY: u64 = 1 << 10;
    /// The driver can switch the write cache.
    pub const CONFIG_WCE: u64 = 1 << 11;
    /// There are several queues.
    pub const MQ: u64 = 1 << 12;
    /// There are discards.
    pub const DISCARD: u64 = 1 << 13;
    /// There are writes of zeroes.
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Offsets in the configuration (section 5.2.4).
pub mod config {
    #![allow(missing_docs)]
    pub const CAPACITY: usize = 0;
    pub const SEG_MAX: usize = 12;
    pub const CYLINDERS: usize = 16;
    pub const HEADS: usize = 18;
    pub const SECTORS: usize = 19;
    pub const BLK_SIZE: usize = 20;
    pub const PHYSICAL_BLOCK_EXP: usize = 24;
    pub const MIN_IO_SIZE: usize = 26;
    pub const OPT_IO_SIZE: usize = 28;
    pub const WCE: usize = 32;
    pub const NUM_QUEUES: usize = 34;
    pub const MAX_DISCARD_SECTORS: usize = 36;
    pub const MAX_DISCARD_SEG: usize = 40;
    pub const DISCARD_SECTOR_ALIGNMENT: usize = 44;
    pub const MAX_WRITE_ZEROES_SECTORS: usize = 48;
    pub const MAX_WRITE_ZEROES_SEG: usize = 52;
    pub const WRITE_ZEROES_MAY_UNMAP: usize = 56;
    /// Lengths: without, with discards, with writes of zeroes.
    pub const LEN_MIN: usize = 36;
    pub const LEN_DISCARD: usize = 48;
    pub const LEN_WRITE_ZEROES: usize = 57;
}

/// Types of requests (section 5.2.6).
pub mod kind {
    /// Read.
    pub const IN: u32 = 0;
    /// Write.
    pub const OUT: u32 = 1;
    /// Flush.
    pub const FLUSH: u32 = 4;
    /// Give the disk's name.
    pub const GET_ID: u32 = 8;
    /// Discard.
    pub const DISCARD: u32 = 11;
    /// Write zeroes.
    pub const WRITE_ZEROES: u32 = 13;
    /// What legacy drivers add to any.
    pub const BARRIER: u32 = 1 << 31;
}

/// How a request went.
pub mod status {
    /// Well.
    pub const OK: u8 = 0;
    /// Badly.
    pub const IOERR: u8 = 1;
    /// There is no such request.
    pub const UNSUPP: u8 = 2;
}

/// Bytes of a request's header: type, priority, sector.
pub const HEADER: usize = 16;
/// Bytes of a range of a discard or a write of zeroes: sector, number, flags.
pub const RANGE: usize = 16;
/// A range's flag: room need not be kept.
pub const RANGE_UNMAP: u32 = 1;
/// Bytes of the disk's name.
pub const ID_BYTES: usize = 20;
