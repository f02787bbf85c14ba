//! What devices say of themselves (ATA/ATAPI-6, sections 8.15 and 8.16; ACS-2, section 7.12).

use crate::channel::Channel;
use crate::drive::{Drive, Registers};
use crate::spec::MAX_MULTIPLE;

/// Words of an answer.
const WORDS: usize = 256;
/// Sectors that addresses of 28 bits reach, but one.
const MAX_LBA28: u64 = (1 << 28) - 1;
/// Write cache, SMART and NOP, as words 82 and 85 have them.
const FEATURES: u16 = 1 << 14 | 1;
const WRITE_CACHE: u16 = 1 << 5;
/// Addresses of 48 bits, FLUSH CACHE and FLUSH CACHE EXT, as words 83 and 86 have them.
const FEATURES_2: u16 = 1 << 13 | 1 << 12 | 1 << 10;
/// The world-wide name is in words 108 to 111.
const HAS_WWN: u16 = 1 << 8;
/// A word that says something.
const VALID: u16 = 1 << 14;

struct Words([u16; WORDS]);

impl Words {
    fn set(&mut self, words: &[(usize, u16)]) {
        for (at, value) in words {
            if let Some(word) = self.0.get_mut(*at) {
                *word = *value;
            }
        }
    }

    /// A number of several words, the least significant first.
    fn number(&mut self, at: usize, words: usize, value: u64) {
        (0..words).for_each(|n| self.set(&[(at + n, (value >> (16 * n)) as u16)]));
    }

    /// Characters, two a word, the first in the upper half.
    fn text(&mut self, at: usize, len: usize, text: &str) {
        let mut bytes = text.bytes().chain(std::iter::repeat(b' '));
        for n in 0..len / 2 {
            let (high, low) = (bytes.next().unwrap_or(b' '), bytes.next().unwrap_or(b' '));
            self.set(&[(at + n, u16::from_be_bytes([high, low]))]);
        }
    }

    fn names(&mut self, drive: &Drive) {
        self.text(10, 20, &drive.serial);
        self.text(23, 8, &drive.version);
        self.text(27, 40, &drive.model);
        if drive.wwn != 0 {
            (0..4).for_each(|n| self.set(&[(108 + n, (drive.wwn >> (48 - 16 * n)) as u16)]));
        }
    }

    /// The modes of transfer that there are, and the one that was chosen.
    fn modes(&mut self, chosen: Option<u8>) {
        let Some(chosen) = chosen else {
            return self.set(&[(62, 7), (63, 7), (88, 0x3f | 1 << 13)]);
        };
        let bit = 1 << ((chosen & 7) + 8);
        let of = |group: u8| if chosen >> 3 == group { bit } else { 0 };
        self.set(&[(62, 7 | of(2)), (63, 7 | of(4)), (88, 0x3f | of(8))]);
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// IDENTIFY DEVICE (`ide_identify`).
fn disk(drive: &Drive, device: &Registers) -> Vec<u8> {
    let mut words = Words([0; WORDS]);
    let (cylinders, heads, sectors) = drive.geometry;
    let (heads_now, sectors_now) = device.translation;
    words.set(&[(0, 0x40), (1, cylinders as u16), (3, heads as u16)]);
    words.set(&[(4, (512 * sectors) as u16), (5, 512), (6, sectors as u16), (20, 3), (21, 512), (22, 4)]);
    words.names(drive);
    words.set(&[(47, 0x8000 | u16::from(MAX_MULTIPLE)), (48, 1), (49, 1 << 11 | 1 << 9 | 1 << 8)]);
    words.set(&[(51, 0x200), (52, 0x200), (53, 7)]);
    words.set(&[(54, cylinders as u16), (55, heads_now as u16), (56, sectors_now as u16)]);
    words.number(57, 2, u64::from(cylinders) * u64::from(heads_now) * u64::from(sectors_now));
    if device.multiple != 0 {
        words.set(&[(59, 0x100 | u16::from(device.multiple))]);
    }
    words.number(60, 2, device.sectors.min(MAX_LBA28));
    words.modes(device.transfer_mode);
    words.set(&[(64, 3), (65, 120), (66, 120), (67, 120), (68, 120)]);
    if drive.trims {
        words.set(&[(69, 1 << 14), (169, 1)]);
    }
    // ATA-4 to ATA/ATAPI-7, by the letter of ATA/ATAPI-5.
    words.set(&[(80, 0xf0), (81, 0x16), (82, FEATURES | WRITE_CACHE), (83, VALID | FEATURES_2)]);
    let wwn = if drive.wwn != 0 { HAS_WWN } else { 0 };
    let cache = if drive.medium.write_cache() { WRITE_CACHE } else { 0 };
    words.set(&[(84, VALID | wwn), (85, FEATURES | cache), (86, FEATURES_2), (87, VALID | wwn)]);
    words.set(&[(93, VALID | 0x2000 | 1)]);
    words.number(100, 4, device.sectors);
    words.set(&[(106, 0x6000 | drive.physical_exponent), (217, drive.rotation_rate)]);
    words.bytes()
}

/// IDENTIFY PACKET DEVICE (`ide_atapi_identify`).
fn cd(drive: &Drive, device: &Registers) -> Vec<u8> {
    let mut words = Words([0; WORDS]);
    // A CD-ROM drive, removable, with packets of 12 bytes.
    words.set(&[(0, 2 << 14 | 5 << 8 | 1 << 7 | 2 << 5), (20, 3), (21, 512), (22, 4)]);
    words.names(drive);
    words.set(&[(48, 1), (49, 1 << 9 | 1 << 8), (53, 7), (64, 3), (65, 0xb4), (66, 0xb4)]);
    words.modes(device.transfer_mode);
    words.set(&[(67, 0x12c), (68, 0xb4), (71, 30), (72, 30), (80, 0x1e)]);
    if drive.wwn != 0 {
        words.set(&[(84, HAS_WWN), (87, HAS_WWN)]);
    }
    words.bytes()
}

impl Channel {
    pub(crate) fn identify_device(&self) -> Vec<u8> {
        self.selected().map(|drive| disk(drive, self.device())).unwrap_or_default()
    }

    pub(crate) fn identify_packet_device(&self) -> Vec<u8> {
        self.selected().map(|drive| cd(drive, self.device())).unwrap_or_default()
    }
}
