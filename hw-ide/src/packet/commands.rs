//! Which packet commands there are, and when (MMC-5, sections 4.1.6 and 4.1.8).

use hw_scsi::disc;
use hw_scsi::sense::Sense;

use super::UNIT_ATTENTION;
use crate::channel::Channel;
use crate::spec::{CD_RAW_SECTOR, CD_SECTOR, PACKET_SIZE, packet::*};

/// Whether a command works while the guest has not heard yet what happened.
fn allows_attention(opcode: u8) -> bool {
    matches!(opcode, REQUEST_SENSE | INQUIRY | GET_CONFIGURATION | GET_EVENT_STATUS_NOTIFICATION)
}

/// Whether a command needs a medium.
fn needs_medium(opcode: u8) -> bool {
    matches!(
        opcode,
        TEST_UNIT_READY
            | READ_CAPACITY
            | READ_10
            | READ_12
            | READ_CD
            | SEEK
            | READ_TOC
            | READ_DISC_INFORMATION
            | READ_DVD_STRUCTURE
    )
}

/// Whether a command always has data.
fn has_data(opcode: u8) -> bool {
    matches!(
        opcode,
        REQUEST_SENSE
            | INQUIRY
            | READ_CAPACITY
            | READ_10
            | READ_12
            | READ_TOC
            | GET_CONFIGURATION
            | GET_EVENT_STATUS_NOTIFICATION
            | READ_DISC_INFORMATION
            | MODE_SENSE_10
            | READ_DVD_STRUCTURE
            | MECHANISM_STATUS
    )
}

/// A number of `len` bytes of a packet, the most significant first.
pub(super) fn be(packet: &[u8; PACKET_SIZE], at: usize, len: usize) -> u32 {
    packet.iter().skip(at).take(len).fold(0, |value, byte| value << 8 | u32::from(*byte))
}

impl Channel {
    /// Whether there is a medium, as the guest knows (`media_present`).
    pub(super) fn has_medium(&self) -> bool {
        !self.packet().tray_open && self.device().sectors > 0
    }

    pub(super) fn is_inserted(&self) -> bool {
        self.selected().is_some_and(|drive| drive.medium.is_inserted())
    }

    /// Sectors of the medium, of 2048 bytes.
    fn cd_sectors(&self) -> u64 {
        self.device().sectors / 4
    }

    /// Carries out the packet that came.
    pub(crate) fn execute_packet(&mut self) {
        let packet = self.packet().packet;
        let [opcode, ..] = packet;
        if self.packet().sense_key == UNIT_ATTENTION && !allows_attention(opcode) {
            return self.packet_attention();
        }
        let may_tell = !allows_attention(opcode) && !self.packet().tray_open && self.is_inserted();
        if may_tell && self.packet().changed != 0 {
            // Guests that do not ask for events see the old one go first, then the new one come.
            let is_first = self.packet().changed == 1;
            self.packet_failed(if is_first { Sense::NO_MEDIUM } else { Sense::MEDIUM_CHANGED });
            self.packet_mut().changed = if is_first { 2 } else { 0 };
            return;
        }
        if needs_medium(opcode) && !(self.has_medium() && self.is_inserted()) {
            return self.packet_failed(Sense::NO_MEDIUM);
        }
        if has_data(opcode) && !self.has_limit() {
            return self.raise_irq();
        }
        if let Err(sense) = self.run_packet(&packet) {
            self.packet_failed(sense);
        }
    }

    fn run_packet(&mut self, packet: &[u8; PACKET_SIZE]) -> Result<(), Sense> {
        let as_msf = packet[1] & 2 != 0;
        let (answer, most) = match packet[0] {
            TEST_UNIT_READY | SET_CD_SPEED => {
                self.packet_done();
                return Ok(());
            }
            PREVENT_ALLOW_MEDIUM_REMOVAL => {
                self.packet_mut().tray_locked = packet[4] & 1 != 0;
                self.packet_done();
                return Ok(());
            }
            START_STOP_UNIT => return self.start_stop(packet[4]),
            READ_10 => return self.read_data_sectors(be(packet, 2, 4), be(packet, 7, 2)),
            READ_12 => return self.read_data_sectors(be(packet, 2, 4), be(packet, 6, 4)),
            READ_CD => return self.read_cd(packet),
            SEEK if u64::from(be(packet, 2, 4)) >= self.cd_sectors() => return Err(Sense::LBA_OUT_OF_RANGE),
            SEEK => {
                self.packet_done();
                return Ok(());
            }
            READ_CAPACITY => {
                let last = (self.cd_sectors() as u32).wrapping_sub(1);
                ([last.to_be_bytes(), CD_SECTOR.to_be_bytes()].concat(), 8)
            }
            READ_TOC => {
                let toc = disc::toc(packet[9] >> 6, self.cd_sectors(), as_msf, packet[6])?;
                (toc, be(packet, 7, 2))
            }
            REQUEST_SENSE => (self.sense_data(), packet[4].into()),
            INQUIRY => (self.inquiry(packet)?, packet[4].into()),
            GET_CONFIGURATION => (self.configuration(packet)?, be(packet, 7, 2)),
            GET_EVENT_STATUS_NOTIFICATION => (self.event_status(packet)?, be(packet, 7, 2)),
            READ_DISC_INFORMATION => (disc::information(packet[1])?, be(packet, 7, 2)),
            MODE_SENSE_10 => (self.mode_sense(packet[2])?, be(packet, 7, 2)),
            READ_DVD_STRUCTURE => (self.dvd_structure(packet)?, be(packet, 8, 2)),
            MECHANISM_STATUS => (disc::MECHANISM_STATUS.to_vec(), be(packet, 8, 2)),
            _ => return Err(Sense::INVALID_OPCODE),
        };
        self.packet_answer(answer, most as usize);
        Ok(())
    }

    fn check_sectors(&self, lba: u32, count: u32) -> Result<(), Sense> {
        match u64::from(lba) + u64::from(count) <= self.cd_sectors() {
            true => Ok(()),
            false => Err(Sense::LBA_OUT_OF_RANGE),
        }
    }

    /// READ (10) and READ (12) (`cmd_read`).
    fn read_data_sectors(&mut self, lba: u32, count: u32) -> Result<(), Sense> {
        if count == 0 {
            self.packet_done();
            return Ok(());
        }
        self.check_sectors(lba, count)?;
        self.packet_read(lba, count, CD_SECTOR);
        Ok(())
    }

    /// (`cmd_read_cd`)
    fn read_cd(&mut self, packet: &[u8; PACKET_SIZE]) -> Result<(), Sense> {
        let (lba, count, parts) = (be(packet, 2, 4), be(packet, 6, 3), packet[9] & 0xf8);
        if count > 0 {
            self.check_sectors(lba, count)?;
        }
        if count == 0 || parts == 0 {
            self.packet_done();
            return Ok(());
        }
        if !self.has_limit() {
            self.raise_irq();
            return Ok(());
        }
        match parts {
            0x10 => self.packet_read(lba, count, CD_SECTOR),
            // All that is on the disc.
            0xf8 => self.packet_read(lba, count, CD_RAW_SECTOR),
            _ => return Err(Sense::INVALID_FIELD),
        }
        Ok(())
    }

    /// (`cmd_start_stop_unit`)
    fn start_stop(&mut self, what: u8) -> Result<(), Sense> {
        let (start, moves_tray) = (what & 1 != 0, what & 2 != 0);
        let has_power_condition = what & 0xf0 != 0;
        if !has_power_condition && moves_tray {
            let is_open = self.packet().tray_open;
            if !start && !is_open && self.packet().tray_locked {
                return Err(match self.is_inserted() {
                    true => Sense::NOT_READY_REMOVAL_PREVENTED,
                    false => Sense::ILLEGAL_REQ_REMOVAL_PREVENTED,
                });
            }
            if is_open == start {
                self.packet_mut().tray_open = !start;
                self.move_tray(!start);
            }
        }
        self.packet_done();
        Ok(())
    }
}
