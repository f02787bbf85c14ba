//! Numbers of virtio 1.2, section 5.6.

/// Feature bits (section 5.6.3), as masks.
pub mod f {
    /// The driver hears of devices that come and go.
    pub const HOTPLUG: u64 = 1 << 1;
    /// The driver hears of changes, of sizes for example.
    pub const CHANGE: u64 = 1 << 2;
}

/// Offsets in the configuration (section 5.6.4).
pub mod config {
    #![allow(missing_docs)]
    pub const NUM_QUEUES: usize = 0;
    pub const SEG_MAX: usize = 4;
    pub const MAX_SECTORS: usize = 8;
    pub const CMD_PER_LUN: usize = 12;
    pub const EVENT_INFO_SIZE: usize = 16;
    pub const SENSE_SIZE: usize = 20;
    pub const CDB_SIZE: usize = 24;
    pub const MAX_CHANNEL: usize = 28;
    pub const MAX_TARGET: usize = 30;
    pub const MAX_LUN: usize = 32;
    /// Bytes of it.
    pub const LEN: usize = 36;
}

/// What answers a request (section 5.6.6.1).
pub mod response {
    #![allow(missing_docs)]
    pub const OK: u8 = 0;
    pub const OVERRUN: u8 = 1;
    pub const ABORTED: u8 = 2;
    pub const BAD_TARGET: u8 = 3;
    pub const RESET: u8 = 4;
    pub const FAILURE: u8 = 9;
    pub const FUNCTION_SUCCEEDED: u8 = 10;
    pub const FUNCTION_REJECTED: u8 = 11;
    pub const INCORRECT_LUN: u8 = 12;
}

/// Types of control requests (section 5.6.6.2).
pub mod control {
    /// Task management.
    pub const TMF: u32 = 0;
    /// Which events there are.
    pub const AN_QUERY: u32 = 1;
    /// To be told of events.
    pub const AN_SUBSCRIBE: u32 = 2;
}

/// Task management functions.
pub mod tmf {
    #![allow(missing_docs)]
    pub const ABORT_TASK: u32 = 0;
    pub const ABORT_TASK_SET: u32 = 1;
    pub const CLEAR_TASK_SET: u32 = 3;
    pub const I_T_NEXUS_RESET: u32 = 4;
    pub const LOGICAL_UNIT_RESET: u32 = 5;
    pub const QUERY_TASK: u32 = 6;
    pub const QUERY_TASK_SET: u32 = 7;
}

/// Events (section 5.6.6.3).
pub mod event {
    /// Added where others before could not be told.
    pub const MISSED: u32 = 0x8000_0000;
    /// Nothing else happened.
    pub const NONE: u32 = 0;
    /// A device came or went.
    pub const TRANSPORT_RESET: u32 = 1;
    /// Something about a device changed.
    pub const PARAM_CHANGE: u32 = 3;
    /// Reasons of the first: it came.
    pub const RESET_RESCAN: u32 = 1;
    /// It went.
    pub const RESET_REMOVED: u32 = 2;
}

/// Bytes of a request before the command: logical unit, tag, attribute, priority, reference number.
pub const REQUEST_HEAD: usize = 19;
/// Bytes of an answer before the sense data.
pub const RESPONSE_HEAD: usize = 12;
/// Bytes of a task management request and its answer.
pub const TMF_REQUEST: usize = 24;
/// Its answer.
pub const TMF_RESPONSE: usize = 1;
/// Bytes of a request about events, and of its answer.
pub const AN_REQUEST: usize = 16;
/// Its answer.
pub const AN_RESPONSE: usize = 5;
/// Bytes of an event.
pub const EVENT: usize = 16;
/// Sizes of commands and of sense data, as long as the driver chooses no others.
pub const CDB_SIZE: u32 = 32;
/// Sense data.
pub const SENSE_SIZE: u32 = 96;
/// Queues beside those for requests: control, events.
pub const FIXED_QUEUES: u16 = 2;
/// Last target and logical unit that can be addressed.
pub const MAX_TARGET: u32 = 255;
/// Last logical unit.
pub const MAX_LUN: u32 = 16383;

/// Target and logical unit in the 8 bytes that stand for them; `None` for what cannot be addressed (section 5.6.6.1).
pub fn address(bytes: &[u8]) -> Option<(u32, u32)> {
    let [1, target, high, low, ..] = *bytes else { return None };
    if high != 0 && !(0x40..0x80).contains(&high) {
        return None;
    }
    Some((target.into(), u32::from(u16::from_be_bytes([high, low])) & 0x3fff))
}

/// The 8 bytes that stand for a target and logical unit, in events.
pub fn address_bytes(target: u32, lun: u32) -> [u8; 8] {
    let [high, low] = (lun as u16).to_be_bytes();
    let high = if lun < 256 { 0 } else { high | 0x40 };
    [1, target as u8, high, low, 0, 0, 0, 0]
}
