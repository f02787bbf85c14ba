//! Sense data: what is wrong, as the guest is told (SPC-4, section 4.5).

use std::io;

use serde::{Deserialize, Serialize};

use crate::spec::status;

/// Sense keys.
mod key {
    pub const NO_SENSE: u8 = 0x0;
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const HARDWARE_ERROR: u8 = 0x4;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const DATA_PROTECT: u8 = 0x7;
    pub const ABORTED_COMMAND: u8 = 0xb;
}

/// Bytes of sense data in the fixed format, as made here.
pub const FIXED_LEN: usize = 18;

/// What is wrong: sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

macro_rules! senses {
    ($($(#[$doc:meta])* $name:ident = $key:ident, $asc:literal, $ascq:literal;)+) => {
        impl Sense {
            $($(#[$doc])* pub const $name: Sense = Sense { key: key::$key, asc: $asc, ascq: $ascq };)+
        }
    };
}

senses! {
    /// Nothing is wrong.
    NO_SENSE = NO_SENSE, 0x00, 0x00;
    /// Somebody must do something first.
    LUN_NOT_READY = NOT_READY, 0x04, 0x03;
    /// There is no medium.
    NO_MEDIUM = NOT_READY, 0x3a, 0x00;
    /// The guest itself forbade to open the tray, which is empty.
    NOT_READY_REMOVAL_PREVENTED = NOT_READY, 0x53, 0x02;
    /// The medium cannot be read.
    READ_ERROR = MEDIUM_ERROR, 0x11, 0x00;
    /// The host has no memory, or worse.
    TARGET_FAILURE = HARDWARE_ERROR, 0x44, 0x00;
    /// There is no such command.
    INVALID_OPCODE = ILLEGAL_REQUEST, 0x20, 0x00;
    /// That is beyond the end.
    LBA_OUT_OF_RANGE = ILLEGAL_REQUEST, 0x21, 0x00;
    /// A field of the command is wrong.
    INVALID_FIELD = ILLEGAL_REQUEST, 0x24, 0x00;
    /// A field of the command's data is wrong.
    INVALID_PARAM = ILLEGAL_REQUEST, 0x26, 0x00;
    /// The command's data has the wrong length.
    INVALID_PARAM_LEN = ILLEGAL_REQUEST, 0x1a, 0x00;
    /// There is no such logical unit.
    LUN_NOT_SUPPORTED = ILLEGAL_REQUEST, 0x25, 0x00;
    /// Nothing can be saved.
    SAVING_PARAMS_NOT_SUPPORTED = ILLEGAL_REQUEST, 0x39, 0x00;
    /// Another kind of medium has that.
    INCOMPATIBLE_FORMAT = ILLEGAL_REQUEST, 0x30, 0x00;
    /// The guest itself forbade to open the tray.
    ILLEGAL_REQ_REMOVAL_PREVENTED = ILLEGAL_REQUEST, 0x53, 0x02;
    /// The host failed.
    IO_ERROR = ABORTED_COMMAND, 0x00, 0x06;
    /// The size is another.
    CAPACITY_CHANGED = UNIT_ATTENTION, 0x2a, 0x09;
    /// The device was reset.
    RESET = UNIT_ATTENTION, 0x29, 0x00;
    /// The medium is gone.
    UNIT_ATTENTION_NO_MEDIUM = UNIT_ATTENTION, 0x3a, 0x00;
    /// The medium may be another.
    MEDIUM_CHANGED = UNIT_ATTENTION, 0x28, 0x00;
    /// There are other logical units than before.
    REPORTED_LUNS_CHANGED = UNIT_ATTENTION, 0x3f, 0x0e;
    /// It cannot be written.
    WRITE_PROTECTED = DATA_PROTECT, 0x27, 0x00;
    /// The host's disk is full.
    SPACE_ALLOC_FAILED = DATA_PROTECT, 0x27, 0x07;
}

impl Sense {
    /// As the bytes that a guest reads, in the fixed format or as descriptors (`scsi_build_sense_buf`).
    pub fn bytes(self, fixed: bool) -> Vec<u8> {
        let Sense { key, asc, ascq } = self;
        if !fixed {
            return vec![0x72, key, asc, ascq, 0, 0, 0, 0];
        }
        let mut bytes = vec![0; FIXED_LEN];
        for (at, value) in [(0, 0x70), (2, key), (7, 10), (12, asc), (13, ascq)] {
            if let Some(place) = bytes.get_mut(at) {
                *place = value;
            }
        }
        bytes
    }

    /// Which of two unit attentions is told first: the one of the lesser number (`scsi_ua_precedence`; SAM-5, section
    /// 5.14).
    fn precedence(self) -> u32 {
        match (self.asc, self.ascq) {
            (0x29, 0x04) => 1,
            (0x3f, 0x01) => 2,
            (0x29, ascq @ (0..=3 | 7)) => ascq.into(),
            (0x2f, 0x01) => 8,
            (asc, ascq) => u32::from(asc) << 8 | u32::from(ascq),
        }
    }

    /// Notes a unit attention, unless a more important one waits already (`scsi_device_set_ua`).
    pub fn attend(self, waiting: &mut Option<Sense>) {
        if waiting.is_none_or(|other| self.precedence() < other.precedence()) {
            *waiting = Some(self);
        }
    }
}

/// Status and sense for an error of the host's (`scsi_sense_from_errno`).
pub fn of_error(error: &io::Error) -> (u8, Option<Sense>) {
    let sense = match error.raw_os_error() {
        Some(libc::EDOM) => return (status::TASK_SET_FULL, None),
        Some(libc::EBADE) => return (status::RESERVATION_CONFLICT, None),
        Some(libc::ENODATA) => Sense::READ_ERROR,
        Some(libc::EREMOTEIO | libc::ENOMEM) => Sense::TARGET_FAILURE,
        Some(libc::ENOMEDIUM) => Sense::NO_MEDIUM,
        Some(libc::EINVAL) => Sense::INVALID_FIELD,
        _ if error.kind() == io::ErrorKind::StorageFull => Sense::SPACE_ALLOC_FAILED,
        _ => Sense::IO_ERROR,
    };
    (status::CHECK_CONDITION, Some(sense))
}
