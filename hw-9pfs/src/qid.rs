//! What the guest tells files apart by: 64 bits, of which a file's number on its device alone has as many
//! (`stat_to_qid`).

use std::collections::HashMap;

use rustix::io::Errno;

use crate::fs::{Result, Stat};
use crate::spec::qid_type;

/// What is done where there are several devices below a shared folder (`multidevs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultiDevs {
    /// Two files may look like one; that is said once.
    #[default]
    Warn,
    /// Files of all devices but the folder's cannot be reached.
    Forbid,
    /// Each file gets a number of its own.
    Remap,
}

/// A file as the guest knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Qid {
    /// Its type ([`qid_type`]).
    pub kind: u8,
    /// Changes with what is in the file.
    pub version: u32,
    /// Which file it is.
    pub path: u64,
}

/// Numbers of files below this are told from those of other devices' by the device's number above it.
const INO_BITS: u32 = 48;
/// Most devices that are told apart so; the bit above is for the others.
const DEVICES: usize = 1 << 15;
/// Most files that are noted one by one, for their numbers or devices are beyond those.
const ODD_FILES: usize = 1 << 16;

/// How files of several devices are told apart.
#[derive(Debug)]
pub(crate) struct Qids {
    multidevs: MultiDevs,
    root: u64,
    devices: HashMap<u64, u64>,
    odd: HashMap<(u64, u64), u64>,
    warned: bool,
}

impl Qids {
    /// For a folder on the device `root`.
    pub fn new(multidevs: MultiDevs, root: u64) -> Qids {
        Qids { multidevs, root, devices: HashMap::new(), odd: HashMap::new(), warned: false }
    }

    /// Whether a file's device matters, too.
    pub fn remaps(&self) -> bool {
        self.multidevs == MultiDevs::Remap
    }

    /// The file as the guest knows it.
    ///
    /// # Errors
    /// When it is not to be reached, or cannot be told apart.
    pub fn of(&mut self, stat: &Stat) -> Result<Qid> {
        let path = if self.remaps() { self.remapped(stat)? } else { self.same(stat)? };
        let mut kind = 0;
        if stat.is(Stat::DIR) {
            kind |= qid_type::DIR;
        }
        if stat.is(Stat::SYMLINK) {
            kind |= qid_type::SYMLINK;
        }
        Ok(Qid { kind, version: (stat.mtime.0 as u64 ^ stat.size << 8) as u32, path })
    }

    fn same(&mut self, stat: &Stat) -> Result<u64> {
        if stat.dev == self.root {
            return Ok(stat.ino);
        }
        let forbid = self.multidevs == MultiDevs::Forbid;
        if !std::mem::replace(&mut self.warned, true) {
            if forbid {
                util::error_report!(
                    "9p: Multiple devices detected in same VirtFS export. Access of guest to additional \
                     devices is (partly) denied due to virtfs option 'multidevs=forbid' being effective."
                );
            } else {
                util::warn_report!(
                    "9p: Multiple devices detected in same VirtFS export, which might lead to file \
                     ID collisions and severe misbehaviours on guest! You should either use a separate export for \
                     each device shared from host or use virtfs option 'multidevs=remap'!"
                );
            }
        }
        if forbid { Err(Errno::NODEV) } else { Ok(stat.ino) }
    }

    fn remapped(&mut self, stat: &Stat) -> Result<u64> {
        let next = self.devices.len() as u64;
        if let Some(device) =
            self.devices.get(&stat.dev).copied().or_else(|| {
                (self.devices.len() < DEVICES).then(|| *self.devices.entry(stat.dev).or_insert(next))
            })
            && stat.ino >> INO_BITS == 0
        {
            return Ok(device << INO_BITS | stat.ino);
        }
        let next = self.odd.len() as u64;
        let full = self.odd.len() >= ODD_FILES;
        match self.odd.get(&(stat.dev, stat.ino)) {
            Some(number) => Ok(*number),
            None if full => Err(Errno::NFILE),
            None => Ok(*self.odd.entry((stat.dev, stat.ino)).or_insert(1 << 63 | next)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dev: u64, ino: u64) -> Stat {
        Stat { dev, ino, ..Stat::default() }
    }

    #[test]
    fn files_of_several_devices_are_told_apart() {
        let mut qids = Qids::new(MultiDevs::Remap, 7);
        let files = [(7, 1), (8, 1), (8, 2), (9, u64::MAX), (9, 1 << INO_BITS), (7, 1 << INO_BITS)];
        let mut paths: Vec<u64> =
            files.iter().map(|(dev, ino)| qids.of(&file(*dev, *ino)).unwrap().path).collect();
        let again: Vec<u64> =
            files.iter().map(|(dev, ino)| qids.of(&file(*dev, *ino)).unwrap().path).collect();
        assert_eq!(paths, again);
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), files.len());
    }

    #[test]
    fn what_is_noted_of_files_has_an_end() {
        let mut qids = Qids::new(MultiDevs::Remap, 0);
        let all = (0..ODD_FILES as u64 + 1).map(|n| qids.of(&file(0, u64::MAX - n)));
        assert_eq!(all.last(), Some(Err(Errno::NFILE)));
    }

    #[test]
    fn another_device_can_be_forbidden() {
        let mut qids = Qids::new(MultiDevs::Forbid, 7);
        assert_eq!(qids.of(&file(7, 5)).map(|qid| qid.path), Ok(5));
        assert_eq!(qids.of(&file(8, 5)), Err(Errno::NODEV));
        let mut qids = Qids::new(MultiDevs::Warn, 7);
        assert_eq!(qids.of(&file(8, 5)).map(|qid| qid.path), Ok(5));
    }
}
