//! SMART (ATA/ATAPI-6, section 8.55): a disk that is never ill. Source: QEMU `hw/ide/core.c` (`cmd_smart`).

use crate::channel::Channel;
use crate::commands::Next;
use crate::spec::feature;

/// Tests that the log has room for.
pub const MAX_TESTS: usize = 21;
/// Bytes of an answer.
const PAGE: usize = 512;
/// Attributes: id, flags, value, worst value, raw value, threshold. Read errors, spin-up time, starts, sectors that were
/// reallocated, hours of power, power cycles, temperature.
const ATTRIBUTES: [(u8, u8, u8, u8, [u8; 4], u8); 7] = [
    (1, 3, 100, 100, [0; 4], 6),
    (3, 3, 100, 100, [16, 0, 0, 0], 0),
    (4, 2, 100, 100, [100, 0, 0, 0], 20),
    (5, 3, 100, 100, [0; 4], 36),
    (9, 3, 100, 100, [1, 0, 0, 0], 0),
    (12, 3, 100, 100, [0; 4], 0),
    (190, 3, 69, 69, [31, 0, 31, 31], 50),
];

/// A page with its checksum.
fn page(bytes: &[(usize, u8)]) -> Vec<u8> {
    let mut page = vec![0u8; PAGE];
    for (at, value) in bytes {
        if let Some(byte) = page.get_mut(*at) {
            *byte = *value;
        }
    }
    let sum = page.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(last) = page.last_mut() {
        *last = sum.wrapping_neg();
    }
    page
}

fn thresholds() -> Vec<u8> {
    let mut bytes = vec![(0, 1)];
    for (n, (id, .., threshold)) in ATTRIBUTES.iter().enumerate() {
        bytes.extend([(2 + 12 * n, *id), (3 + 12 * n, *threshold)]);
    }
    page(&bytes)
}

fn data(autosave: bool) -> Vec<u8> {
    let mut bytes = vec![(0, 1)];
    for (n, (id, flags, value, worst, raw, _)) in ATTRIBUTES.iter().enumerate() {
        let at = 2 + 12 * n;
        bytes.extend([(at, *id), (at + 1, *flags), (at + 3, *value), (at + 4, *worst)]);
        bytes.extend(raw.iter().enumerate().map(|(n, byte)| (at + 5 + n, *byte)));
    }
    // What it can do, and minutes that tests take.
    bytes.extend([(362, if autosave { 0x82 } else { 0x02 }), (364, 0x20), (365, 1), (367, 0x19), (368, 3)]);
    bytes.extend([(370, 1), (372, 2), (373, 0x36), (374, 1)]);
    page(&bytes)
}

/// The log of tests: kind, result, hours.
fn tests(count: u8, kinds: &[u8]) -> Vec<u8> {
    let mut bytes = vec![(0, 1), (508, count)];
    for (n, kind) in kinds.iter().take(MAX_TESTS).enumerate() {
        let at = 2 + 24 * n;
        bytes.extend([(at, *kind), (at + 2, 0x34), (at + 3, 0x12)]);
    }
    page(&bytes)
}

impl Channel {
    pub(crate) fn smart(&mut self) -> Next {
        let device = self.device_mut();
        let enabled = device.smart.enabled || device.feature == feature::SMART_ENABLE;
        if (device.hcyl, device.lcyl) != feature::SMART_KEY || !enabled {
            return self.abort();
        }
        match device.feature {
            feature::SMART_ENABLE => device.smart.enabled = true,
            feature::SMART_DISABLE => device.smart.enabled = false,
            feature::SMART_ATTRIBUTE_AUTOSAVE if matches!(device.sector, 0 | 0xf1) => {
                device.smart.autosave = device.sector != 0;
            }
            // All is well, which the registers say already.
            feature::SMART_RETURN_STATUS => {}
            feature::SMART_EXECUTE_OFFLINE if device.sector <= 2 => {
                let (kind, smart) = (device.sector, &mut device.smart);
                let at = usize::from(smart.test_count) % MAX_TESTS;
                match smart.tests.get_mut(at) {
                    Some(old) => *old = kind,
                    None => smart.tests.push(kind),
                }
                smart.test_count = at as u8 + 1;
            }
            feature::SMART_READ_THRESHOLDS => return self.give(thresholds()),
            feature::SMART_READ_DATA => {
                let autosave = device.smart.autosave;
                return self.give(data(autosave));
            }
            feature::SMART_READ_LOG => match device.sector {
                // Of errors, of which there are none.
                1 => return self.give(page(&[(0, 1)])),
                6 => {
                    let log = tests(device.smart.test_count, &device.smart.tests);
                    return self.give(log);
                }
                _ => return self.abort(),
            },
            _ => return self.abort(),
        }
        Next::Complete
    }
}
