//! Registers, commands and bits (ATA/ATAPI-6, T13/1410D; ACS-2, T13/2015-D; SFF-8038i; MMC-3), under the standards' names.

/// Command block registers: offsets from its base (ATA/ATAPI-6, chapter 7).
pub mod reg {
    /// Data.
    pub const DATA: u64 = 0;
    /// Error when read, Features when written.
    pub const ERROR: u64 = 1;
    /// Sector Count; of packet commands the Interrupt Reason.
    pub const SECTOR_COUNT: u64 = 2;
    /// Sector Number, LBA Low.
    pub const SECTOR_NUMBER: u64 = 3;
    /// Cylinder Low, LBA Mid; of packet commands the Byte Count's low byte.
    pub const CYLINDER_LOW: u64 = 4;
    /// Cylinder High, LBA High; of packet commands the Byte Count's high byte.
    pub const CYLINDER_HIGH: u64 = 5;
    /// Device/Head.
    pub const DEVICE: u64 = 6;
}

/// Bits of the Status register (7.15).
pub mod status {
    /// There was an error.
    pub const ERR: u8 = 1 << 0;
    /// Data is to be transferred.
    pub const DRQ: u8 = 1 << 3;
    /// Seek complete (DSC of old standards).
    pub const SEEK: u8 = 1 << 4;
    /// The device is ready.
    pub const READY: u8 = 1 << 6;
    /// The device is busy.
    pub const BUSY: u8 = 1 << 7;
}

/// Bits of the Error register (7.9).
pub mod error {
    /// Command aborted.
    pub const ABRT: u8 = 1 << 2;
    /// The medium changed.
    pub const MC: u8 = 1 << 5;
}

/// Bits of the Device register (7.7).
pub mod device {
    /// Head, or bits 27 to 24 of an address.
    pub const HEAD: u8 = 0x0f;
    /// Device 1.
    pub const DEV: u8 = 1 << 4;
    /// Addresses are numbers of sectors.
    pub const LBA: u8 = 1 << 6;
    /// Bits that are always set.
    pub const ALWAYS: u8 = 0xa0;
}

/// Bits of the Device Control register (7.8).
pub mod control {
    /// No interrupts.
    pub const NIEN: u8 = 1 << 1;
    /// Software reset.
    pub const SRST: u8 = 1 << 2;
    /// Reads give what was written the time before.
    pub const HOB: u8 = 1 << 7;
}

/// Bits of the Interrupt Reason register of packet commands (7.11).
pub mod reason {
    /// A command, not data.
    pub const COMMAND: u32 = 1 << 0;
    /// To the host.
    pub const INPUT: u32 = 1 << 1;
    /// What the bits above are, as a mask.
    pub const MASK: u32 = 7;
}

/// Commands (ACS-2, table B.2; older ones as ATA-1 to ATA/ATAPI-5 have them).
#[allow(missing_docs)] // The standards' names.
pub mod cmd {
    pub const DATA_SET_MANAGEMENT: u8 = 0x06;
    pub const DEVICE_RESET: u8 = 0x08;
    pub const RECALIBRATE: u8 = 0x10;
    pub const READ_SECTORS: u8 = 0x20;
    pub const READ_SECTORS_ONCE: u8 = 0x21;
    pub const READ_SECTORS_EXT: u8 = 0x24;
    pub const READ_DMA_EXT: u8 = 0x25;
    pub const READ_NATIVE_MAX_EXT: u8 = 0x27;
    pub const READ_MULTIPLE_EXT: u8 = 0x29;
    pub const WRITE_SECTORS: u8 = 0x30;
    pub const WRITE_SECTORS_ONCE: u8 = 0x31;
    pub const WRITE_SECTORS_EXT: u8 = 0x34;
    pub const WRITE_DMA_EXT: u8 = 0x35;
    pub const WRITE_MULTIPLE_EXT: u8 = 0x39;
    pub const WRITE_VERIFY: u8 = 0x3c;
    pub const VERIFY: u8 = 0x40;
    pub const VERIFY_ONCE: u8 = 0x41;
    pub const VERIFY_EXT: u8 = 0x42;
    pub const SEEK: u8 = 0x70;
    pub const EXECUTE_DEVICE_DIAGNOSTIC: u8 = 0x90;
    pub const INITIALIZE_DEVICE_PARAMETERS: u8 = 0x91;
    pub const STANDBY_IMMEDIATE_OLD: u8 = 0x94;
    pub const IDLE_IMMEDIATE_OLD: u8 = 0x95;
    pub const STANDBY_OLD: u8 = 0x96;
    pub const IDLE_OLD: u8 = 0x97;
    pub const CHECK_POWER_MODE_OLD: u8 = 0x98;
    pub const SLEEP_OLD: u8 = 0x99;
    pub const PACKET: u8 = 0xa0;
    pub const IDENTIFY_PACKET_DEVICE: u8 = 0xa1;
    pub const SMART: u8 = 0xb0;
    pub const READ_MULTIPLE: u8 = 0xc4;
    pub const WRITE_MULTIPLE: u8 = 0xc5;
    pub const SET_MULTIPLE_MODE: u8 = 0xc6;
    pub const READ_DMA: u8 = 0xc8;
    pub const READ_DMA_ONCE: u8 = 0xc9;
    pub const WRITE_DMA: u8 = 0xca;
    pub const WRITE_DMA_ONCE: u8 = 0xcb;
    pub const STANDBY_IMMEDIATE: u8 = 0xe0;
    pub const IDLE_IMMEDIATE: u8 = 0xe1;
    pub const STANDBY: u8 = 0xe2;
    pub const IDLE: u8 = 0xe3;
    pub const CHECK_POWER_MODE: u8 = 0xe5;
    pub const SLEEP: u8 = 0xe6;
    pub const FLUSH_CACHE: u8 = 0xe7;
    pub const FLUSH_CACHE_EXT: u8 = 0xea;
    pub const IDENTIFY_DEVICE: u8 = 0xec;
    pub const SET_FEATURES: u8 = 0xef;
    pub const SECURITY_FREEZE_LOCK: u8 = 0xf5;
    pub const READ_NATIVE_MAX: u8 = 0xf8;
}

/// Features of DATA SET MANAGEMENT, SET FEATURES and SMART.
#[allow(missing_docs)] // The standards' names.
pub mod feature {
    pub const TRIM: u8 = 0x01;
    pub const ENABLE_WRITE_CACHE: u8 = 0x02;
    pub const SET_TRANSFER_MODE: u8 = 0x03;
    pub const DISABLE_WRITE_CACHE: u8 = 0x82;
    pub const ENABLE_REVERTING: u8 = 0xcc;
    pub const DISABLE_REVERTING: u8 = 0x66;
    /// What has no effect: look-ahead, power and acoustic management, and three that old drivers give.
    pub const WITHOUT_EFFECT: [u8; 10] = [0xaa, 0x55, 0x05, 0x85, 0x69, 0x67, 0x96, 0x9a, 0x42, 0xc2];

    pub const SMART_READ_DATA: u8 = 0xd0;
    pub const SMART_READ_THRESHOLDS: u8 = 0xd1;
    pub const SMART_ATTRIBUTE_AUTOSAVE: u8 = 0xd2;
    pub const SMART_EXECUTE_OFFLINE: u8 = 0xd4;
    pub const SMART_READ_LOG: u8 = 0xd5;
    pub const SMART_ENABLE: u8 = 0xd8;
    pub const SMART_DISABLE: u8 = 0xd9;
    pub const SMART_RETURN_STATUS: u8 = 0xda;
    /// What SMART wants in Cylinder High and Low, and gives where all is well.
    pub const SMART_KEY: (u8, u8) = (0xc2, 0x4f);
}

/// Bus master registers: offsets in a channel's block, and bits (SFF-8038i, section 3).
pub mod bm {
    /// Command register.
    pub const COMMAND: u64 = 0;
    /// Status register.
    pub const STATUS: u64 = 2;
    /// Command: start.
    pub const START: u8 = 1 << 0;
    /// Command: the bits that can be set: start, and to memory.
    pub const COMMAND_BITS: u8 = 0x09;
    /// Status: active.
    pub const ACTIVE: u8 = 1 << 0;
    /// Status: interrupt.
    pub const INTERRUPT: u8 = 1 << 2;
    /// Status: bits that a driver sets as it likes: which drives can do DMA.
    pub const CAPABLE: u8 = 0x60;
    /// Status: bits that a write of one clears: interrupt and error.
    pub const CLEARABLE: u8 = 0x06;
    /// A descriptor is the last.
    pub const END_OF_TABLE: u32 = 1 << 31;
    /// A table's bytes at most: it does not cross 64 KiB, and QEMU's controller stops after a page.
    pub const TABLE_SIZE: u32 = 4096;
}

/// Registers of PIIX3's function in configuration space (290550, section 2.3).
pub mod piix {
    /// IDE timing of the first channel, 16 bits; the second's follows.
    pub const IDETIM: usize = 0x40;
    /// IDETIM: the channel's ports are decoded. Drivers go by it.
    pub const DECODE_ENABLE: u16 = 1 << 15;
}

/// Bytes of a packet.
pub const PACKET_SIZE: usize = 12;
/// Bytes of a disk's sector.
pub const SECTOR: u64 = 512;
/// Most sectors between two interrupts of READ MULTIPLE and WRITE MULTIPLE.
pub const MAX_MULTIPLE: u8 = 16;
/// Bytes of a CD's sector.
pub const CD_SECTOR: u32 = 2048;
/// The same as it is on the disc, with what is around it.
pub const CD_RAW_SECTOR: u32 = 2352;

/// Packet commands (MMC-3, chapter 6; SPC-2).
#[allow(missing_docs)] // The standards' names.
pub mod packet {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const INQUIRY: u8 = 0x12;
    pub const START_STOP_UNIT: u8 = 0x1b;
    pub const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
    pub const READ_CAPACITY: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const SEEK: u8 = 0x2b;
    pub const READ_TOC: u8 = 0x43;
    pub const GET_CONFIGURATION: u8 = 0x46;
    pub const GET_EVENT_STATUS_NOTIFICATION: u8 = 0x4a;
    pub const READ_DISC_INFORMATION: u8 = 0x51;
    pub const MODE_SENSE_10: u8 = 0x5a;
    pub const READ_12: u8 = 0xa8;
    pub const READ_DVD_STRUCTURE: u8 = 0xad;
    pub const SET_CD_SPEED: u8 = 0xbb;
    pub const MECHANISM_STATUS: u8 = 0xbd;
    pub const READ_CD: u8 = 0xbe;
}
