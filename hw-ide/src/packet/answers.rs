//! What packet commands tell: of the drive, its medium, and what happened (MMC-3, chapter 6; SPC-2).

use hw_scsi::disc;
use hw_scsi::sense::Sense;
use hw_scsi::spec::mmc;

use super::UNIT_ATTENTION;
use super::commands::be;
use crate::channel::Channel;
use crate::spec::PACKET_SIZE;

/// The answer does not fit into what the guest wants.
const DATA_PHASE_ERROR: Sense = Sense { key: 5, asc: 0x4b, ascq: 0 };
/// Pages of vital product data.
const VPD_SUPPORTED: u8 = 0x00;
const VPD_IDENTIFICATION: u8 = 0x83;
/// A CD-ROM drive.
const TYPE_ROM: u8 = 5;
/// Mode pages: error recovery, audio control, capabilities.
const PAGE_ERRORS: u8 = 0x01;
const PAGE_AUDIO: u8 = 0x0e;
const PAGE_CAPABILITIES: u8 = 0x2a;

/// `text` as so many characters, cut or filled with spaces.
fn padded(text: &str, len: usize) -> Vec<u8> {
    text.bytes().chain(std::iter::repeat(b' ')).take(len).collect()
}

impl Channel {
    /// REQUEST SENSE: what was told is over.
    pub(super) fn sense_data(&mut self) -> Vec<u8> {
        let packet = self.packet_mut();
        let sense = Sense { key: packet.sense_key, asc: packet.asc, ascq: 0 };
        if packet.sense_key == UNIT_ATTENTION {
            packet.sense_key = 0;
        }
        let mut bytes = sense.bytes(true);
        if let Some(first) = bytes.first_mut() {
            // The information field is valid, which is 0.
            *first |= 0x80;
        }
        bytes
    }

    /// (`cmd_inquiry`)
    pub(super) fn inquiry(&self, packet: &[u8; PACKET_SIZE]) -> Result<Vec<u8>, Sense> {
        let (Some(drive), most) = (self.selected(), usize::from(packet[4])) else {
            return Err(Sense::INVALID_FIELD);
        };
        if packet[1] & 1 == 0 {
            let mut bytes = vec![TYPE_ROM, 0x80, 0, 0x21, 36 - 5, 0, 0, 0];
            bytes.extend(padded("QEMU", 8));
            bytes.extend(padded("QEMU DVD-ROM", 16));
            bytes.extend(padded(&drive.version, 4));
            return Ok(bytes);
        }
        let mut body = Vec::new();
        match packet[2] {
            VPD_SUPPORTED => body.extend([VPD_SUPPORTED, VPD_IDENTIFICATION]),
            VPD_IDENTIFICATION => {
                // As much of it as there is room for, behind a header of 4 bytes.
                let room = most.saturating_sub(4);
                if room < 24 {
                    return Err(DATA_PHASE_ERROR);
                }
                body.extend([2, 0, 0, 20]);
                body.extend(padded(&drive.serial, 20));
                if room >= 24 + 72 {
                    body.extend([2, 1, 0, 68]);
                    body.extend(padded("ATA", 8));
                    body.extend(padded(&drive.model, 40));
                    body.extend(padded(&drive.serial, 20));
                    if drive.wwn != 0 && room >= 24 + 72 + 12 {
                        body.extend([1, 3, 0, 8]);
                        body.extend(drive.wwn.to_be_bytes());
                    }
                }
            }
            _ => return Err(Sense::INVALID_FIELD),
        }
        Ok([&[TYPE_ROM, packet[2], 0, body.len() as u8], &body[..]].concat())
    }

    fn profile(&self) -> u16 {
        match self.device().sectors {
            _ if !self.has_medium() => mmc::PROFILE_NONE,
            sectors if sectors > mmc::CD_MAX_SECTORS => mmc::PROFILE_DVD_ROM,
            _ => mmc::PROFILE_CD_ROM,
        }
    }

    /// GET CONFIGURATION: the list of profiles is the only feature.
    pub(super) fn configuration(&self, packet: &[u8; PACKET_SIZE]) -> Result<Vec<u8>, Sense> {
        if be(packet, 2, 2) != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let current = self.profile();
        let mut bytes = vec![0, 0, 0, 16, 0, 0];
        bytes.extend(current.to_be_bytes());
        bytes.extend([0, 0, 3, 8]);
        for profile in [mmc::PROFILE_DVD_ROM, mmc::PROFILE_CD_ROM] {
            bytes.extend(profile.to_be_bytes());
            bytes.extend([u8::from(profile == current), 0]);
        }
        Ok(bytes)
    }

    /// (`cmd_get_event_status_notification`)
    pub(super) fn event_status(&mut self, packet: &[u8; PACKET_SIZE]) -> Result<Vec<u8>, Sense> {
        if packet[1] & 1 == 0 {
            // To be told later, that is.
            return Err(Sense::INVALID_FIELD);
        }
        let supported = 1 << mmc::EVENT_MEDIA;
        if packet[4] & supported == 0 {
            return Ok(vec![0, 0, 0x80, supported]);
        }
        let is_inserted = self.is_inserted();
        let packet = self.packet_mut();
        let (mut event, mut status) =
            (mmc::EVENT_NO_CHANGE, if is_inserted { mmc::MEDIA_PRESENT } else { 0 });
        if packet.tray_open {
            status = mmc::TRAY_OPEN;
        } else if std::mem::take(&mut packet.new_media) {
            event = mmc::EVENT_NEW_MEDIA;
        } else if std::mem::take(&mut packet.eject_request) {
            event = mmc::EVENT_EJECT;
        }
        Ok(vec![0, 4, mmc::EVENT_MEDIA, supported, event, status, 0, 0])
    }

    /// (`cmd_mode_sense`)
    pub(super) fn mode_sense(&self, what: u8) -> Result<Vec<u8>, Sense> {
        let page = match (what >> 6, what & 0x3f) {
            (3, _) => return Err(Sense::SAVING_PARAMS_NOT_SUPPORTED),
            (0, PAGE_ERRORS) => vec![PAGE_ERRORS, 6, 0, 5, 0, 0, 0, 0],
            (0, PAGE_AUDIO) => [&[PAGE_AUDIO, 14][..], &[0; 14]].concat(),
            (0, PAGE_CAPABILITIES) => {
                let locked = if self.packet().tray_locked { 2 } else { 0 };
                // What it reads; it plays music, or some guests mount nothing; its tray locks, 4 times the speed.
                let mut page = vec![PAGE_CAPABILITIES, 20, 0x3b, 0, 0x71, 3 << 5, 0x29 | locked, 0];
                [704u16, 2, 512, 704].iter().for_each(|value| page.extend(value.to_be_bytes()));
                page.resize(22, 0);
                page
            }
            _ => return Err(Sense::INVALID_FIELD),
        };
        let head = [0, page.len() as u8 + 6, 0x70, 0, 0, 0, 0, 0];
        Ok([&head[..], &page].concat())
    }

    /// (`cmd_read_dvd_structure`)
    pub(super) fn dvd_structure(&self, packet: &[u8; PACKET_SIZE]) -> Result<Vec<u8>, Sense> {
        let (media, layer, format) = (packet[1], packet[6], packet[7]);
        if format != disc::STRUCTURE_LIST {
            match self.profile() {
                mmc::PROFILE_CD_ROM => return Err(Sense::INCOMPATIBLE_FORMAT),
                mmc::PROFILE_NONE => return Err(Sense::INVALID_FIELD),
                _ => {}
            }
        }
        if media != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        disc::structure(format, layer, self.device().sectors)
    }
}
