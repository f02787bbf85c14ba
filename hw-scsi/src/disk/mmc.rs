//! What only CD-ROM drives have (MMC-6, chapter 6), and READ TOC.

use super::{Answer, Disk, Medium, put};
use crate::cdb::Cdb;
use crate::sense::Sense;
use crate::spec::{mmc, op};

/// Sectors before the first of a disc, by the clock that music counts with.
const LEAD_IN: u64 = 150;
/// Sectors a second.
const PER_SECOND: u64 = 75;
/// The track that stands for the end of the disc.
const LEAD_OUT: u8 = 0xaa;
/// Formats of READ DVD STRUCTURE, and bytes of an answer.
const STRUCTURES: [(u8, u16); 4] = [(0, 2048 + 4), (1, 4 + 4), (3, 188 + 4), (4, 2048 + 4)];

/// A sector as 4 bytes: its number, or minute, second and frame.
fn address(sector: u64, msf: bool) -> [u8; 4] {
    if !msf {
        return (sector as u32).to_be_bytes();
    }
    let at = sector.wrapping_add(LEAD_IN);
    let seconds = at / PER_SECOND;
    [0, (seconds / 60) as u8, (seconds % 60) as u8, (at % PER_SECOND) as u8]
}

/// `body` with its length before it.
fn with_len(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes()[..], body].concat()
}

/// The one track, and the end (`cdrom_read_toc`).
fn toc(sectors: u64, msf: bool, start_track: u8) -> Answer {
    if start_track > 1 && start_track != LEAD_OUT {
        return Err(Sense::INVALID_FIELD);
    }
    let mut body = vec![1, 1];
    if start_track <= 1 {
        body.extend([0, 0x14, 1, 0]);
        body.extend(address(0, msf));
    }
    body.extend([0, 0x16, LEAD_OUT, 0]);
    body.extend(address(sectors, msf));
    Ok(with_len(&body))
}

/// The same as the disc has it (`cdrom_read_toc_raw`): first track, last track, end, the track.
fn raw_toc(sectors: u64, msf: bool) -> Vec<u8> {
    let mut body = vec![1, 1];
    let entries =
        [(0xa0, [0, 1, 0, 0]), (0xa1, [0, 1, 0, 0]), (0xa2, address(sectors, msf)), (1, track(msf))];
    for (point, place) in entries {
        body.extend([1, 0x14, 0, point, 0, 0, 0]);
        body.extend(place);
    }
    with_len(&body)
}

fn track(msf: bool) -> [u8; 4] {
    address(0, msf)
}

impl Disk {
    pub(super) fn read_toc(&self, cdb: &Cdb, medium: &Medium) -> Answer {
        let (msf, sectors) = (cdb.byte(1) & 2 != 0, self.blocks(medium));
        match cdb.byte(2) & 0xf {
            0 => toc(sectors, msf, cdb.byte(6)),
            // There is one session.
            1 => Ok(vec![0, 0x0a, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            2 => Ok(raw_toc(sectors, msf)),
            _ => Err(Sense::INVALID_FIELD),
        }
    }

    /// Commands that disks have not.
    pub(super) fn multimedia(&mut self, cdb: &Cdb, medium: &Medium) -> Answer {
        if !self.conf.is_rom {
            return Err(Sense::INVALID_FIELD);
        }
        match cdb.opcode() {
            op::MECHANISM_STATUS => Ok(vec![0, 0, 0, 0, 0, 1, 0, 0]),
            op::GET_CONFIGURATION => Ok(self.configuration(medium)),
            op::GET_EVENT_STATUS_NOTIFICATION => self.event_status(cdb, medium),
            op::READ_DISC_INFORMATION => disc_information(cdb),
            _ => self.dvd_structure(cdb, medium),
        }
    }

    fn profile(&self, medium: &Medium) -> u16 {
        match self.is_available(medium) {
            false => mmc::PROFILE_NONE,
            true if medium.sectors > mmc::CD_MAX_SECTORS => mmc::PROFILE_DVD_ROM,
            true => mmc::PROFILE_CD_ROM,
        }
    }

    fn configuration(&self, medium: &Medium) -> Vec<u8> {
        let current = self.profile(medium);
        let mut bytes = vec![0; 40];
        put(&mut bytes, 0, &36u32.to_be_bytes());
        put(&mut bytes, 6, &current.to_be_bytes());
        // The list of profiles.
        put(&mut bytes, 10, &[3, 8]);
        for (at, profile) in [(12, mmc::PROFILE_DVD_ROM), (16, mmc::PROFILE_CD_ROM)] {
            put(&mut bytes, at, &profile.to_be_bytes());
            put(&mut bytes, at + 2, &[u8::from(profile == current)]);
        }
        // The core feature: SCSI, events can be asked for.
        put(&mut bytes, 20, &[0, 1, 0x0b, 8, 0, 0, 0, 1, 1]);
        // Removable media: a tray, which loads, ejects and locks.
        put(&mut bytes, 32, &[0, 3, 0x0b, 4, 0x39]);
        bytes
    }

    fn event_status(&mut self, cdb: &Cdb, medium: &Medium) -> Answer {
        if cdb.byte(1) & 1 == 0 {
            // To be told later, that is.
            return Err(Sense::INVALID_FIELD);
        }
        let supported = 1 << mmc::EVENT_MEDIA;
        if cdb.byte(4) & supported == 0 {
            return Ok(vec![0, 0, 0x80, supported]);
        }
        let status = match (self.state.tray_open, medium.is_inserted) {
            (true, _) => mmc::TRAY_OPEN,
            (false, true) => mmc::MEDIA_PRESENT,
            (false, false) => 0,
        };
        let mut event = mmc::EVENT_NO_CHANGE;
        if !self.state.tray_open {
            if std::mem::take(&mut self.state.media_event) {
                event = mmc::EVENT_NEW_MEDIA;
            } else if std::mem::take(&mut self.state.eject_request) {
                event = mmc::EVENT_EJECT;
            }
        }
        Ok(vec![0, 4, mmc::EVENT_MEDIA, supported, event, status, 0, 0])
    }

    fn dvd_structure(&self, cdb: &Cdb, medium: &Medium) -> Answer {
        let (media, layer, format) = (cdb.byte(1), cdb.byte(6), cdb.byte(7));
        if media != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        if format == 0xff {
            let mut body = vec![0, 0];
            for (format, size) in STRUCTURES {
                body.extend([format, 0x40]);
                body.extend(size.to_be_bytes());
            }
            return Ok(with_len(&body));
        }
        if !self.is_available(medium) {
            return Err(Sense::NO_MEDIUM);
        }
        if self.profile(medium) == mmc::PROFILE_CD_ROM {
            return Err(Sense::INCOMPATIBLE_FORMAT);
        }
        let size = STRUCTURES.iter().find(|(known, _)| *known == format).map(|(_, size)| usize::from(*size));
        // There is no burst cutting area.
        let Some(size) = size.filter(|_| format != 3) else { return Err(Sense::INVALID_FIELD) };
        let mut body = vec![0; size - 2];
        if format == 0 {
            if layer != 0 {
                return Err(Sense::INVALID_FIELD);
            }
            let end = ((medium.sectors >> 2) as u32).wrapping_sub(1).to_be_bytes();
            // A DVD-ROM of 120 mm with one layer.
            put(&mut body, 2, &[1, 0xf, 1, 0]);
            put(&mut body, 10, &end);
            put(&mut body, 14, &end);
        }
        Ok(with_len(&body))
    }
}

/// One complete session with one track, that anybody may use.
fn disc_information(cdb: &Cdb) -> Answer {
    if cdb.byte(1) & 7 != 0 {
        // Only Blu-ray discs have others.
        return Err(Sense::INVALID_FIELD);
    }
    let mut bytes = vec![0; 34];
    put(&mut bytes, 1, &[32, 0xe, 1, 1, 1, 1, 0x20]);
    Ok(bytes)
}
