//! MODE SENSE and MODE SELECT (SPC-4, section 7.5; SBC-3, section 6.5; MMC-6, chapter 7).

use super::{Answer, Disk, DiskConf, Medium, Reply, be, put};
use crate::cdb::Cdb;
use crate::sense::Sense;
use crate::spec::{op, page};

/// Bytes of a page's head: its number and how much follows.
const HEAD: usize = 2;
/// Longest page, with its head.
const MAX_PAGE: usize = 256;
/// Bytes of a block descriptor.
const DESCRIPTOR: usize = 8;
/// The write cache is on, in the caching page.
const WCE: u8 = 4;
/// Speed of a CD, KiB/s.
const CD_SPEED: u16 = 176;

/// Which of a page's values are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Current,
    /// A mask of those that can be changed.
    Changeable,
}

impl Disk {
    /// A page with its head; `None` where this drive has no such page (`mode_sense_page`).
    fn mode_page(&self, number: u8, values: Values, medium: &Medium) -> Option<Vec<u8>> {
        let DiskConf { is_rom, quirks, .. } = self.conf;
        let body = match number {
            page::HD_GEOMETRY if !is_rom => self.geometry_page(),
            page::FLEXIBLE_DISK if !is_rom => self.flexible_disk_page(),
            page::CACHING => {
                let on = values == Values::Changeable || medium.write_cache;
                return Some(with_head(number, &[if on { WCE } else { 0 }], 0x12));
            }
            page::READ_WRITE_ERROR => match (values, is_rom) {
                // Writes are reallocated, reads are tried again.
                (Values::Current, true) => return Some(with_head(number, &[0x80, 0x20], 10)),
                (Values::Changeable, false) => vec![0; 10],
                _ => return Some(with_head(number, &[0x80], 10)),
            },
            page::AUDIO_CONTROL if is_rom => vec![0; 14],
            page::CAPABILITIES if is_rom => self.capabilities_page(),
            page::APPLE_VENDOR if is_rom && quirks.apple_vendor_page => apple_vendor_page(),
            page::VENDOR_SPECIFIC if !is_rom && quirks.vendor_specific_page => {
                let byte = if values == Values::Changeable { 0xff } else { 0 };
                return Some(with_head(number, &[byte; 2], 2));
            }
            _ => return None,
        };
        // Nothing else can be changed.
        let shown: &[u8] = if values == Values::Current { &body } else { &[] };
        Some(with_head(number, shown, body.len()))
    }

    fn geometry_page(&self) -> Vec<u8> {
        let (cylinders, heads, _) = self.conf.geometry;
        let [_, c2, c1, c0] = cylinders.to_be_bytes();
        let mut body = vec![0; 0x16];
        put(&mut body, 0, &[c2, c1, c0, heads as u8]);
        // Write precompensation and reduced current begin at the last cylinder: never.
        put(&mut body, 4, &[c2, c1, c0, c2, c1, c0]);
        // Step rate 200 ns, landing zone, 5400 rotations a minute.
        put(&mut body, 10, &[0, 200, 0xff, 0xff, 0xff]);
        put(&mut body, 18, &5400u16.to_be_bytes());
        body
    }

    fn flexible_disk_page(&self) -> Vec<u8> {
        let (cylinders, heads, sectors) = self.conf.geometry;
        let [_, _, c1, c0] = cylinders.to_be_bytes();
        let mut body = vec![0; 0x1e];
        // 5 Mbit/s.
        put(&mut body, 0, &5000u16.to_be_bytes());
        let block = (self.state.block_size >> 8) as u8;
        put(&mut body, 2, &[heads as u8, sectors as u8, block, 0, c1, c0, c1, c0, c1, c0]);
        // Step rate and settle delay 100 us, pulses 1 us, motor on and off 0.1 s.
        put(&mut body, 12, &[0, 1, 1, 0, 1, 1, 1]);
        put(&mut body, 26, &5400u16.to_be_bytes());
        body
    }

    fn capabilities_page(&self) -> Vec<u8> {
        let mut body = vec![0; 0x14];
        // Reads all kinds, writes none; plays; locks, ejects by a tray.
        let lock = 0x2d | if self.state.tray_locked { 2 } else { 0 };
        put(&mut body, 0, &[0x3b, 0, 0x7f, 0xff, lock]);
        // 50 times as fast as music, two volume levels, 2 MiB of buffer, now at 16 times.
        let numbers = [50 * CD_SPEED, 2, 2048, 16 * CD_SPEED];
        numbers.iter().zip([6, 8, 10, 12]).for_each(|(n, at)| put(&mut body, at, &n.to_be_bytes()));
        [16, 18].iter().for_each(|at| put(&mut body, *at, &(16 * CD_SPEED).to_be_bytes()));
        body
    }

    /// (`scsi_disk_emulate_mode_sense`)
    pub(super) fn mode_sense(&self, cdb: &Cdb, medium: &Medium) -> Answer {
        let (number, control) = (cdb.byte(2) & 0x3f, cdb.byte(2) >> 6);
        if control == 3 {
            return Err(Sense::SAVING_PARAMS_NOT_SUPPORTED);
        }
        let values = if control == 1 { Values::Changeable } else { Values::Current };
        let mut pages = Vec::new();
        if number == page::ALL {
            (0..page::ALL).filter_map(|n| self.mode_page(n, values, medium)).for_each(|p| pages.extend(p));
        } else {
            pages = self.mode_page(number, values, medium).ok_or(Sense::INVALID_FIELD)?;
        }
        let parameter = match self.conf.is_rom {
            true => 0,
            false => {
                let dpofua = if self.conf.dpofua { 0x10 } else { 0 };
                dpofua | if medium.is_writable { 0 } else { 0x80 }
            }
        };
        let descriptor = self.block_descriptor(cdb, medium);
        let rest = [descriptor.as_slice(), &pages].concat();
        Ok(match cdb.opcode() {
            op::MODE_SENSE => {
                let len = (rest.len() + 3) as u8;
                [&[len, 0, parameter, descriptor.len() as u8], &rest[..]].concat()
            }
            _ => {
                let [l1, l0] = ((rest.len() + 6) as u16).to_be_bytes();
                [&[l1, l0, 0, parameter, 0, 0, 0, descriptor.len() as u8], &rest[..]].concat()
            }
        })
    }

    /// The block descriptor, which disks have unless the command says not to.
    fn block_descriptor(&self, cdb: &Cdb, medium: &Medium) -> Vec<u8> {
        let DiskConf { is_rom, quirks, .. } = self.conf;
        // Systems that look for Apple's page find no drive that has a descriptor with it.
        let is_apple = quirks.apple_vendor_page && cdb.byte(2) & 0x3f == page::APPLE_VENDOR;
        let unwanted = cdb.byte(1) & 8 != 0 || is_rom && (!quirks.rom_has_descriptor || is_apple);
        if unwanted || medium.sectors == 0 {
            return Vec::new();
        }
        let blocks = Some(self.blocks(medium)).filter(|blocks| *blocks <= 0xff_ffff).unwrap_or(0);
        let [_, b2, b1, b0] = (blocks as u32).to_be_bytes();
        vec![0, b2, b1, b0, 0, 0, (self.state.block_size >> 8) as u8, 0]
    }

    /// (`scsi_disk_emulate_mode_select`)
    pub(super) fn mode_select(&mut self, cdb: &Cdb, data: &[u8], medium: &Medium) -> Result<Reply, Sense> {
        // Pages as the standard has them, and nothing is saved.
        if cdb.byte(1) & 0x11 != 0x10 && !self.conf.quirks.vendor_specific_page {
            return Err(Sense::INVALID_FIELD);
        }
        let (header, descriptor) = match cdb.opcode() {
            op::MODE_SELECT => (4, be(data, 3, 1) as usize),
            _ => (8, be(data, 6, 2) as usize),
        };
        let Some(rest) = data.get(header..) else { return Err(Sense::INVALID_PARAM_LEN) };
        let Some(pages) = rest.get(descriptor..) else { return Err(Sense::INVALID_PARAM_LEN) };
        if descriptor != 0 && descriptor != DESCRIPTOR {
            return Err(Sense::INVALID_PARAM);
        }
        // Nothing changes if anything is wrong.
        let write_cache = self.check_pages(pages, medium)?;
        let block = if descriptor == 0 { 0 } else { be(rest, 5, 3) as u32 };
        // A multiple of sectors that the other answers can tell.
        if block != 0 && block & !0xfe00 == 0 {
            self.state.block_size = block;
        }
        Ok(Reply::WriteCache(write_cache))
    }

    /// Checks pages, which may only change what can be (`mode_select_pages`); what becomes of the write cache.
    fn check_pages(&self, pages: &[u8], medium: &Medium) -> Result<Option<bool>, Sense> {
        let mut write_cache = None;
        let mut rest = pages;
        while let Some(first) = rest.first() {
            let is_long = first & 0x40 != 0;
            let (head, len) = if is_long { (4, be(rest, 2, 2)) } else { (2, be(rest, 1, 1)) };
            if rest.len() < head {
                return Err(Sense::INVALID_PARAM_LEN);
            }
            if is_long && be(rest, 1, 1) != 0 {
                // There are no sub-pages.
                return Err(Sense::INVALID_PARAM);
            }
            let number = first & 0x3f;
            let body = rest.get(head..head + len as usize);
            let cut = rest.get(head..).filter(|_| self.conf.quirks.truncated_pages);
            let Some(body) = body.or(cut) else { return Err(Sense::INVALID_PARAM_LEN) };
            let mut whole = body.to_vec();
            whole.resize(len as usize, 0);
            self.check_page(number, &whole, medium)?;
            if number == page::CACHING {
                write_cache = Some(be(body, 0, 1) as u8 & WCE != 0);
            }
            rest = rest.get(head + len as usize..).unwrap_or_default();
        }
        Ok(write_cache)
    }

    fn check_page(&self, number: u8, body: &[u8], medium: &Medium) -> Result<(), Sense> {
        let current = self.mode_page(number, Values::Current, medium).ok_or(Sense::INVALID_PARAM)?;
        let changeable = self.mode_page(number, Values::Changeable, medium).ok_or(Sense::INVALID_PARAM)?;
        if body.len() + HEAD > MAX_PAGE || current.len() != body.len() + HEAD {
            return Err(Sense::INVALID_PARAM);
        }
        let differs = |((current, changeable), new): ((&u8, &u8), &u8)| (current ^ new) & !changeable != 0;
        let pairs = current.iter().zip(&changeable).skip(HEAD);
        if pairs.zip(body).any(differs) { Err(Sense::INVALID_PARAM) } else { Ok(()) }
    }
}

/// Apple's name, as its drives have it.
fn apple_vendor_page() -> Vec<u8> {
    let mut body = vec![0; 0x1e];
    put(&mut body, 8, b"APPLE COMPUTER, INC   ");
    body
}

/// A page of `len` bytes, which begins with `body`.
fn with_head(number: u8, body: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; HEAD + len];
    put(&mut bytes, 0, &[number, len as u8]);
    put(&mut bytes, HEAD, body);
    bytes
}
