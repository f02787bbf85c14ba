//! INQUIRY, with vital product data (SPC-4, sections 6.6 and 7.8; SBC-3, section 6.6).

use super::{Answer, Disk, put};
use crate::cdb::Cdb;
use crate::sense::Sense;
use crate::spec::{device_type, vpd};

/// Longest answer.
const MAX_LEN: u64 = 256;
/// Shortest one that says how long it is.
const STANDARD_LEN: usize = 36;
/// Characters of a serial number that are told.
const SERIAL_LEN: usize = 36;
/// Most that a backend moves at once, bytes.
const MAX_TRANSFER: u64 = i32::MAX as u64 / 512 * 512;
/// Descriptors of an UNMAP that fit in 4 KiB behind its header.
const MAX_UNMAP_DESCRIPTORS: u32 = 255;

/// `text` cut or filled with spaces.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [b' '; N];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

/// A number of units that does not fit is as many as there can be.
fn fit(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Disk {
    fn device_type(&self) -> u8 {
        if self.conf.is_rom { device_type::ROM } else { device_type::DISK }
    }

    pub(super) fn inquiry(&self, cdb: &Cdb) -> Answer {
        if cdb.byte(1) & 1 != 0 {
            return self.vital_product_data(cdb.byte(2));
        }
        if cdb.byte(2) != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let len = cdb.transfer.min(MAX_LEN) as usize;
        let mut bytes = vec![0; len.max(STANDARD_LEN)];
        let version = self.conf.scsi_version as u8;
        let additional = bytes.len() - 5;
        let removable = if self.conf.removable { 0x80 } else { 0 };
        // Response data of format 2, hierarchical logical units.
        put(&mut bytes, 0, &[self.device_type(), removable, version, 0x12, additional as u8]);
        // Synchronous transfers, and queued commands.
        put(&mut bytes, 7, &[0x10 | if self.conf.queues_commands { 2 } else { 0 }]);
        put(&mut bytes, 8, &padded::<8>(&self.conf.vendor));
        put(&mut bytes, 16, &padded::<16>(&self.conf.product));
        let version: Vec<u8> = self.conf.version.bytes().take(4).collect();
        put(&mut bytes, 32, &version);
        Ok(bytes)
    }

    fn vital_product_data(&self, page: u8) -> Answer {
        let is_disk = !self.conf.is_rom;
        let body = match page {
            vpd::SUPPORTED => {
                let mut pages = vec![vpd::SUPPORTED];
                pages.extend(self.conf.serial.as_ref().map(|_| vpd::SERIAL));
                pages.push(vpd::IDENTIFICATION);
                if is_disk {
                    pages.extend([vpd::BLOCK_LIMITS, vpd::CHARACTERISTICS, vpd::PROVISIONING]);
                }
                pages
            }
            vpd::SERIAL => match &self.conf.serial {
                Some(serial) => serial.bytes().take(SERIAL_LEN).collect(),
                None => return Err(Sense::INVALID_FIELD),
            },
            vpd::IDENTIFICATION => self.identification(),
            vpd::BLOCK_LIMITS if is_disk => self.block_limits(),
            vpd::CHARACTERISTICS => {
                let mut body = vec![0; 0x3c];
                put(&mut body, 0, &self.conf.rotation_rate.to_be_bytes());
                body
            }
            // UNMAP and both WRITE SAME unmap; thin where blocks can be.
            vpd::PROVISIONING => vec![0, 0xe0, if self.conf.discard_granularity > 0 { 2 } else { 1 }, 0],
            _ => return Err(Sense::INVALID_FIELD),
        };
        Ok([&[self.device_type(), page, 0, body.len() as u8], &body[..]].concat())
    }

    fn identification(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut add = |code_set, kind, id: &[u8]| {
            body.extend([code_set, kind, 0, id.len() as u8]);
            body.extend(id);
        };
        if let Some(id) = &self.conf.device_id {
            let id: Vec<u8> = id.bytes().take(255 - 8).collect();
            add(2, 0, &id);
        }
        if self.conf.wwn != 0 {
            add(1, 3, &self.conf.wwn.to_be_bytes());
        }
        if self.conf.port_wwn != 0 {
            add(0x61, 0x93, &self.conf.port_wwn.to_be_bytes());
        }
        if self.conf.port_index != 0 {
            add(0x61, 0x94, &u32::from(self.conf.port_index).to_be_bytes());
        }
        // The page's length is a byte; the id is what gives way.
        body.truncate(u8::MAX.into());
        body
    }

    fn block_limits(&self) -> Vec<u8> {
        let block = u64::from(self.state.block_size.max(1));
        let most = fit((MAX_TRANSFER / block).min(match self.conf.max_io_size / block {
            0 => u64::MAX,
            most => most,
        }));
        let min_io = fit(u64::from(self.conf.sizes.min_io) / block).min(most);
        let opt_io = fit(u64::from(self.conf.sizes.opt_io) / block).min(most);
        let mut body = vec![0; 0x3c];
        // WRITE SAME of no blocks is refused.
        put(&mut body, 0, &[1]);
        put(&mut body, 2, &(min_io as u16).to_be_bytes());
        put(&mut body, 4, &most.to_be_bytes());
        put(&mut body, 8, &opt_io.to_be_bytes());
        put(&mut body, 16, &fit(self.conf.max_unmap_size / block).to_be_bytes());
        put(&mut body, 20, &MAX_UNMAP_DESCRIPTORS.to_be_bytes());
        put(&mut body, 24, &fit(u64::from(self.conf.discard_granularity) / block).to_be_bytes());
        put(&mut body, 36, &most.to_be_bytes());
        body
    }
}
