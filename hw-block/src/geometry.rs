//! Cylinders, heads and sectors of a disk (hw/block/hd-geometry.c).

use block::BlockBackend;
use qom::{Result, bail};

use crate::conf::SECTOR;

/// Heads and sectors of a track that disks say they have.
const HEADS: u32 = 16;
const SECTORS: u32 = 63;
/// Most cylinders of an ATA disk.
const MAX_CYLINDERS: u64 = 16383;

/// The partition table of a PC's disk, in its first sector.
mod mbr {
    pub const TABLE: usize = 0x1be;
    pub const ENTRY: usize = 16;
    pub const ENTRIES: usize = 4;
    pub const END_HEAD: usize = 5;
    /// The upper bits are the cylinder's.
    pub const END_SECTOR: usize = 6;
    pub const SIZE: usize = 12;
    pub const SIGNATURE: usize = 510;
}

/// A disk's geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u32,
    /// Heads.
    pub heads: u32,
    /// Sectors of a track.
    pub sectors: u32,
    /// How firmware is to count them, where the disk's contents tell.
    pub translation: Translation,
}

/// How firmware counts cylinders, heads and sectors (`BIOS_ATA_TRANSLATION_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// As the disk does.
    None,
    /// By the number of the block.
    Lba,
    /// With more heads and fewer cylinders.
    Large,
}

impl Geometry {
    fn new([cylinders, heads, sectors]: [u32; 3], translation: Translation) -> Geometry {
        Geometry { cylinders, heads, sectors, translation }
    }
}

/// The translation for a geometry that the user gave (`hd_bios_chs_auto_trans`).
pub fn auto_translation([cylinders, heads, sectors]: [u32; 3]) -> Translation {
    if cylinders <= 1024 && heads <= HEADS && sectors <= SECTORS {
        Translation::None
    } else {
        Translation::Lba
    }
}

/// Checks what the user gave against the `most` that there can be.
///
/// # Errors
/// Names the one that is out of its range.
pub(crate) fn check(chosen: [u32; 3], most: [u32; 3]) -> Result<Geometry> {
    for ((name, value), most) in ["cyls", "heads", "secs"].into_iter().zip(chosen).zip(most) {
        if !(1..=most).contains(&value) {
            bail!("{name} must be between 1 and {most}");
        }
    }
    Ok(Geometry::new(chosen, auto_translation(chosen)))
}

/// Guesses by the partitions there are, which end where a cylinder does, or by the disk's size (`hd_geometry_guess`).
pub(crate) fn guess(backend: &BlockBackend) -> Geometry {
    let node = backend.node();
    let sectors = node.as_ref().and_then(|node| node.length().ok()).unwrap_or(0) / SECTOR;
    let mut first = [0; SECTOR as usize];
    let is_read = sectors > 0 && node.is_some_and(|node| node.pread(0, &mut first).is_ok());
    let physical = of_size(sectors);
    match of_partitions(&first, sectors).filter(|_| is_read) {
        None => Geometry::new(physical, auto_translation(physical)),
        // So many heads are a translation's already.
        Some([_, heads, _]) if heads > HEADS => {
            let is_small = physical[0] * physical[1] <= 131_072;
            Geometry::new(physical, if is_small { Translation::Large } else { Translation::Lba })
        }
        Some(logical) => Geometry::new(logical, Translation::None),
    }
}

/// The standard geometry for so many sectors (`guess_chs_for_size`).
fn of_size(sectors: u64) -> [u32; 3] {
    let cylinders = (sectors / u64::from(HEADS * SECTORS)).clamp(2, MAX_CYLINDERS);
    [cylinders as u32, HEADS, SECTORS]
}

/// The geometry that a partition table was made for (`guess_disk_lchs`).
fn of_partitions(first: &[u8; SECTOR as usize], total: u64) -> Option<[u32; 3]> {
    if first[mbr::SIGNATURE..] != [0x55, 0xaa] {
        return None;
    }
    let entries = first[mbr::TABLE..].chunks_exact(mbr::ENTRY).take(mbr::ENTRIES);
    entries.into_iter().find_map(|entry| {
        let is_used = entry[mbr::SIZE..].iter().any(|byte| *byte != 0) && entry[mbr::END_HEAD] != 0;
        let (heads, sectors) = (u32::from(entry[mbr::END_HEAD]) + 1, u32::from(entry[mbr::END_SECTOR]) & 63);
        if !is_used || sectors == 0 {
            return None;
        }
        let cylinders = total / u64::from(heads * sectors);
        (1..=MAX_CYLINDERS).contains(&cylinders).then_some([cylinders as u32, heads, sectors])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A first sector with one partition.
    fn with_partition(end_head: u8, end_sector: u8) -> [u8; 512] {
        let mut first = [0; 512];
        first[0x1be + 5] = end_head;
        first[0x1be + 6] = end_sector;
        first[0x1be + 12] = 1;
        first[510..].copy_from_slice(&[0x55, 0xaa]);
        first
    }

    #[test]
    fn partitions_tell_the_geometry() {
        assert_eq!(of_partitions(&with_partition(15, 0xc0 | 63), 16 * 63 * 100 + 5), Some([100, 16, 63]));
        assert_eq!(of_partitions(&with_partition(254, 63), 255 * 63 * 10), Some([10, 255, 63]));
        // No sectors, no heads, too small, too large.
        assert_eq!(of_partitions(&with_partition(15, 0xc0), 100_000), None);
        assert_eq!(of_partitions(&with_partition(0, 63), 100_000), None);
        assert_eq!(of_partitions(&with_partition(15, 63), 1000), None);
        assert_eq!(of_partitions(&with_partition(15, 63), 16 * 63 * 16384), None);
        assert_eq!(of_partitions(&[0; 512], 100_000), None);
    }

    #[test]
    fn sizes_tell_the_rest() {
        assert_eq!(of_size(0), [2, 16, 63]);
        assert_eq!(of_size(16 * 63 * 600 + 1), [600, 16, 63]);
        assert_eq!(of_size(u64::MAX / 512), [16383, 16, 63]);
    }

    #[test]
    fn what_the_user_gives_is_checked() {
        let most = [65535, 255, 255];
        assert_eq!(check([1024, 16, 63], most).unwrap().translation, Translation::None);
        assert_eq!(check([1025, 16, 63], most).unwrap().translation, Translation::Lba);
        let error = |chosen| check(chosen, most).unwrap_err().message;
        assert_eq!(error([65536, 1, 1]), "cyls must be between 1 and 65535");
        assert_eq!(error([1, 0, 1]), "heads must be between 1 and 255");
        assert_eq!(error([1, 1, 256]), "secs must be between 1 and 255");
    }
}
