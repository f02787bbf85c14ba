//! What only CD-ROM drives have (MMC-6, chapter 6), and READ TOC.

use super::{Answer, Disk, Medium, put};
use crate::cdb::Cdb;
use crate::disc;
use crate::sense::Sense;
use crate::spec::{mmc, op};

impl Disk {
    pub(super) fn read_toc(&self, cdb: &Cdb, medium: &Medium) -> Answer {
        let (msf, sectors) = (cdb.byte(1) & 2 != 0, self.blocks(medium));
        disc::toc(cdb.byte(2) & 0xf, sectors, msf, cdb.byte(6))
    }

    /// Commands that disks have not.
    pub(super) fn multimedia(&mut self, cdb: &Cdb, medium: &Medium) -> Answer {
        if !self.conf.is_rom {
            return Err(Sense::INVALID_FIELD);
        }
        match cdb.opcode() {
            op::MECHANISM_STATUS => Ok(disc::MECHANISM_STATUS.to_vec()),
            op::GET_CONFIGURATION => Ok(self.configuration(medium)),
            op::GET_EVENT_STATUS_NOTIFICATION => self.event_status(cdb, medium),
            op::READ_DISC_INFORMATION => disc::information(cdb.byte(1)),
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
        if format == disc::STRUCTURE_LIST {
            return disc::structure(format, layer, medium.sectors);
        }
        if !self.is_available(medium) {
            return Err(Sense::NO_MEDIUM);
        }
        if self.profile(medium) == mmc::PROFILE_CD_ROM {
            return Err(Sense::INCOMPATIBLE_FORMAT);
        }
        disc::structure(format, layer, medium.sectors)
    }
}
