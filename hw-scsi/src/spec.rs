//! Numbers of SPC-4, SBC-3 and MMC-6.

/// Operation codes.
pub mod op {
    #![allow(missing_docs)]
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REWIND: u8 = 0x01;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const FORMAT_UNIT: u8 = 0x04;
    pub const READ_BLOCK_LIMITS: u8 = 0x05;
    pub const REASSIGN_BLOCKS: u8 = 0x07;
    pub const READ_6: u8 = 0x08;
    pub const WRITE_6: u8 = 0x0a;
    pub const SET_CAPACITY: u8 = 0x0b;
    pub const READ_REVERSE: u8 = 0x0f;
    pub const WRITE_FILEMARKS: u8 = 0x10;
    pub const SPACE: u8 = 0x11;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SELECT: u8 = 0x15;
    pub const RESERVE: u8 = 0x16;
    pub const RELEASE: u8 = 0x17;
    pub const COPY: u8 = 0x18;
    pub const ERASE: u8 = 0x19;
    pub const MODE_SENSE: u8 = 0x1a;
    pub const START_STOP: u8 = 0x1b;
    pub const RECEIVE_DIAGNOSTIC: u8 = 0x1c;
    pub const SEND_DIAGNOSTIC: u8 = 0x1d;
    pub const ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
    pub const SET_WINDOW: u8 = 0x24;
    pub const READ_CAPACITY_10: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const WRITE_10: u8 = 0x2a;
    pub const SEEK_10: u8 = 0x2b;
    pub const WRITE_VERIFY_10: u8 = 0x2e;
    pub const VERIFY_10: u8 = 0x2f;
    pub const SEARCH_HIGH: u8 = 0x30;
    pub const SEARCH_LOW: u8 = 0x32;
    pub const SET_LIMITS: u8 = 0x33;
    pub const PRE_FETCH: u8 = 0x34;
    pub const SYNCHRONIZE_CACHE: u8 = 0x35;
    pub const LOCK_UNLOCK_CACHE: u8 = 0x36;
    pub const MEDIUM_SCAN: u8 = 0x38;
    pub const COPY_VERIFY: u8 = 0x3a;
    pub const WRITE_BUFFER: u8 = 0x3b;
    pub const READ_BUFFER: u8 = 0x3c;
    pub const UPDATE_BLOCK: u8 = 0x3d;
    pub const WRITE_LONG_10: u8 = 0x3f;
    pub const CHANGE_DEFINITION: u8 = 0x40;
    pub const WRITE_SAME_10: u8 = 0x41;
    pub const UNMAP: u8 = 0x42;
    pub const READ_TOC: u8 = 0x43;
    pub const GET_CONFIGURATION: u8 = 0x46;
    pub const GET_EVENT_STATUS_NOTIFICATION: u8 = 0x4a;
    pub const LOG_SELECT: u8 = 0x4c;
    pub const READ_DISC_INFORMATION: u8 = 0x51;
    pub const RESERVE_TRACK: u8 = 0x53;
    pub const MODE_SELECT_10: u8 = 0x55;
    pub const RESERVE_10: u8 = 0x56;
    pub const RELEASE_10: u8 = 0x57;
    pub const MODE_SENSE_10: u8 = 0x5a;
    pub const SEND_CUE_SHEET: u8 = 0x5d;
    pub const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
    pub const WRITE_FILEMARKS_16: u8 = 0x80;
    pub const ALLOW_OVERWRITE: u8 = 0x82;
    pub const ATA_PASSTHROUGH_16: u8 = 0x85;
    pub const READ_16: u8 = 0x88;
    pub const WRITE_16: u8 = 0x8a;
    pub const WRITE_VERIFY_16: u8 = 0x8e;
    pub const VERIFY_16: u8 = 0x8f;
    pub const PRE_FETCH_16: u8 = 0x90;
    pub const SYNCHRONIZE_CACHE_16: u8 = 0x91;
    pub const LOCATE_16: u8 = 0x92;
    pub const WRITE_SAME_16: u8 = 0x93;
    pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
    pub const REPORT_LUNS: u8 = 0xa0;
    pub const ATA_PASSTHROUGH_12: u8 = 0xa1;
    pub const MAINTENANCE_IN: u8 = 0xa3;
    pub const MAINTENANCE_OUT: u8 = 0xa4;
    pub const SET_READ_AHEAD: u8 = 0xa7;
    pub const READ_12: u8 = 0xa8;
    pub const WRITE_12: u8 = 0xaa;
    pub const GET_PERFORMANCE: u8 = 0xac;
    pub const READ_DVD_STRUCTURE: u8 = 0xad;
    pub const WRITE_VERIFY_12: u8 = 0xae;
    pub const VERIFY_12: u8 = 0xaf;
    pub const SEARCH_HIGH_12: u8 = 0xb0;
    pub const SEARCH_LOW_12: u8 = 0xb2;
    pub const SEND_VOLUME_TAG: u8 = 0xb6;
    pub const SET_CD_SPEED: u8 = 0xbb;
    pub const MECHANISM_STATUS: u8 = 0xbd;
    pub const READ_CD: u8 = 0xbe;
    pub const SEND_DVD_STRUCTURE: u8 = 0xbf;
}

/// SERVICE ACTION IN (16): READ CAPACITY (16).
pub const SAI_READ_CAPACITY_16: u8 = 0x10;

/// Status codes (SAM-5, section 5.3).
pub mod status {
    #![allow(missing_docs)]
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
}

/// Peripheral device types (SPC-4, section 6.6.2).
pub mod device_type {
    /// Direct access.
    pub const DISK: u8 = 0x00;
    /// CD or DVD.
    pub const ROM: u8 = 0x05;
    /// Nothing is there, though it could be.
    pub const NOT_PRESENT: u8 = 0x1f | 0x20;
    /// There is no such logical unit.
    pub const NO_LUN: u8 = 0x7f;
}

/// Mode pages.
pub mod page {
    #![allow(missing_docs)]
    pub const VENDOR_SPECIFIC: u8 = 0x00;
    pub const READ_WRITE_ERROR: u8 = 0x01;
    pub const HD_GEOMETRY: u8 = 0x04;
    pub const FLEXIBLE_DISK: u8 = 0x05;
    pub const CACHING: u8 = 0x08;
    pub const AUDIO_CONTROL: u8 = 0x0e;
    pub const CAPABILITIES: u8 = 0x2a;
    pub const APPLE_VENDOR: u8 = 0x30;
    pub const ALL: u8 = 0x3f;
}

/// Vital product data pages.
pub mod vpd {
    #![allow(missing_docs)]
    pub const SUPPORTED: u8 = 0x00;
    pub const SERIAL: u8 = 0x80;
    pub const IDENTIFICATION: u8 = 0x83;
    pub const BLOCK_LIMITS: u8 = 0xb0;
    pub const CHARACTERISTICS: u8 = 0xb1;
    pub const PROVISIONING: u8 = 0xb2;
}

/// Numbers of MMC-6.
pub mod mmc {
    /// No medium.
    pub const PROFILE_NONE: u16 = 0x0000;
    /// CD-ROM.
    pub const PROFILE_CD_ROM: u16 = 0x0008;
    /// DVD-ROM.
    pub const PROFILE_DVD_ROM: u16 = 0x0010;
    /// Sectors of 512 bytes of a CD of 80 minutes; what is larger is a DVD.
    pub const CD_MAX_SECTORS: u64 = 80 * 60 * 75 * 2048 / 512;
    /// The class of events about the medium.
    pub const EVENT_MEDIA: u8 = 4;
    /// Events: none, the button was pressed, a new medium.
    pub const EVENT_NO_CHANGE: u8 = 0;
    /// The user wants the medium out.
    pub const EVENT_EJECT: u8 = 1;
    /// A medium came.
    pub const EVENT_NEW_MEDIA: u8 = 2;
    /// States: the tray is open.
    pub const TRAY_OPEN: u8 = 1;
    /// There is a medium.
    pub const MEDIA_PRESENT: u8 = 2;
}
