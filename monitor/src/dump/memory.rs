//! Which memory goes into a dump, and where page tables show it (softmmu/memory_mapping.c).

use std::sync::Arc;

use memory::{FlatView, RamBlock, RegionKind};
use qom::{Result, bail};

/// The most headers of loads that a file can have beside the one of its notes, without a section that counts them.
const MAX_LOADS: usize = 0xfffd;
/// The most pieces that are remembered while tables are looked through: the guest has made the tables.
const MAX_PIECES: usize = 1 << 20;

/// Consecutive guest memory.
#[derive(Clone)]
pub(super) struct Block {
    pub start: u64,
    pub len: u64,
    ram: Arc<RamBlock>,
    offset: u64,
}

impl Block {
    /// The address behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// The part of it that lies in `[begin, begin + length)`.
    fn clip(&self, begin: u64, length: u64) -> Option<Block> {
        let start = self.start.max(begin);
        let end = self.end().min(begin.saturating_add(length));
        let len = end.checked_sub(start).filter(|&len| len > 0)?;
        Some(Block { start, len, ram: self.ram.clone(), offset: self.offset + (start - self.start) })
    }

    /// Copies the bytes from `at` on.
    pub fn copy_to(&self, at: u64, buffer: &mut [u8]) {
        if let Some(slice) = self.ram.slice(self.offset + at, buffer.len() as u64) {
            slice.copy_to(buffer);
        }
    }
}

/// RAM and ROM in order of address (guest_phys_blocks_append).
pub(super) fn blocks(view: &FlatView) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for range in view.ranges() {
        let RegionKind::Ram(ram) = range.region.kind() else { continue };
        // No address space is all memory.
        let Ok(len) = u64::try_from(range.len()) else { continue };
        match blocks.last_mut() {
            Some(last)
                if last.end() == range.start
                    && last.offset + last.len == range.offset
                    && Arc::ptr_eq(&last.ram, ram) =>
            {
                last.len += len;
            }
            _ => blocks.push(Block { start: range.start, len, ram: ram.clone(), offset: range.offset }),
        }
    }
    blocks
}

/// The blocks' parts that a filter lets through.
pub(super) fn filter(blocks: &[Block], begin: u64, length: u64) -> Vec<Block> {
    blocks.iter().filter_map(|block| block.clip(begin, length)).collect()
}

/// Memory as addresses show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub physical: u64,
    pub virtual_: u64,
    pub len: u64,
}

impl Mapping {
    fn distance(&self) -> u64 {
        self.virtual_.wrapping_sub(self.physical)
    }
}

/// Collects mappings, and joins those that belong together.
#[derive(Default)]
pub(super) struct Mappings(Vec<Mapping>);

impl Mappings {
    /// Adds one; `false` when there are too many.
    pub fn add(&mut self, mapping: Mapping) -> bool {
        let is_full = self.0.len() >= MAX_PIECES;
        match self.0.last_mut() {
            Some(last)
                if last.distance() == mapping.distance() && last.physical + last.len == mapping.physical =>
            {
                last.len += mapping.len;
                true
            }
            _ => {
                if !is_full {
                    self.0.push(mapping);
                }
                !is_full
            }
        }
    }

    /// All of them in order of physical address.
    ///
    /// # Errors
    /// When a file cannot have so many.
    pub fn finish(mut self) -> Result<Vec<Mapping>> {
        self.0.sort_by_key(|m| (m.distance(), m.physical));
        let mut joined: Vec<Mapping> = Vec::new();
        for mapping in self.0 {
            match joined.last_mut() {
                Some(last)
                    if last.distance() == mapping.distance()
                        && mapping.physical <= last.physical + last.len =>
                {
                    last.len = last.len.max(mapping.physical + mapping.len - last.physical);
                }
                _ => joined.push(mapping),
            }
        }
        if joined.len() > MAX_LOADS {
            bail!("dump: too many memory mappings");
        }
        joined.sort_by_key(|m| (m.physical, m.virtual_));
        Ok(joined)
    }
}

/// Each block as it is, for a guest without paging (qemu_get_guest_simple_memory_mapping).
pub(super) fn simple(blocks: &[Block]) -> Vec<Mapping> {
    blocks.iter().map(|b| Mapping { physical: b.start, virtual_: b.start, len: b.len }).collect()
}

/// What of `mappings` shows `blocks`.
pub(super) fn clip(mappings: &[Mapping], blocks: &[Block]) -> Vec<Mapping> {
    let mut found = Vec::new();
    for mapping in mappings {
        for block in blocks {
            let start = mapping.physical.max(block.start);
            let end = (mapping.physical + mapping.len).min(block.end());
            if let Some(len) = end.checked_sub(start).filter(|&len| len > 0) {
                let virtual_ = mapping.virtual_.wrapping_add(start - mapping.physical);
                found.push(Mapping { physical: start, virtual_, len });
            }
        }
    }
    found.truncate(MAX_LOADS);
    found
}

#[cfg(test)]
mod tests {
    use memory::{AddressSpace, MemTxResult, MemoryRegion};

    use super::*;

    fn map(physical: u64, virtual_: u64, len: u64) -> Mapping {
        Mapping { physical, virtual_, len }
    }

    #[test]
    fn pages_at_one_distance_are_joined() {
        let mut mappings = Mappings::default();
        for (physical, virtual_) in
            [(0x3000, 0x100_3000), (0x1000, 0x100_1000), (0x2000, 0x100_2000), (0x1000, 0x9000)]
        {
            assert!(mappings.add(map(physical, virtual_, 0x1000)));
        }
        // Another CPU has the same tables.
        assert!(mappings.add(map(0x1000, 0x100_1000, 0x1000)));
        let all = mappings.finish().unwrap();
        assert_eq!(all, [map(0x1000, 0x9000, 0x1000), map(0x1000, 0x100_1000, 0x3000)]);
    }

    #[test]
    fn blocks_are_memory_in_one_piece_and_a_filter_cuts_them() {
        let root = MemoryRegion::container("system", 1 << 40);
        let ram = MemoryRegion::ram("ram", RamBlock::anonymous("ram", 0x10000).unwrap());
        root.add_subregion(0, &MemoryRegion::alias("low", &ram, 0, 0x8000));
        root.add_subregion(0x8000, &MemoryRegion::alias("next", &ram, 0x8000, 0x4000));
        root.add_subregion(0x10_0000, &MemoryRegion::alias("high", &ram, 0xc000, 0x4000));
        let space = AddressSpace::new("memory", &root);
        let all = blocks(&space.view());
        let places = |blocks: &[Block]| blocks.iter().map(|b| (b.start, b.len)).collect::<Vec<_>>();
        assert_eq!(places(&all), [(0, 0xc000), (0x10_0000, 0x4000)]);
        let some = filter(&all, 0xb000, 0xf6000);
        assert_eq!(places(&some), [(0xb000, 0x1000), (0x10_0000, 0x1000)]);
        assert!(filter(&all, 0xc000, 0x1000).is_empty());
        assert_eq!(space.write(0xb004, b"here"), MemTxResult::Ok);
        let mut bytes = [0; 4];
        some[0].copy_to(4, &mut bytes);
        assert_eq!(&bytes, b"here");
        let seen = clip(&[map(0x8000, 0x80_8000, 0x8000)], &some);
        assert_eq!(seen, [map(0xb000, 0x80_b000, 0x1000)]);
    }
}
