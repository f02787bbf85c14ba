//! What an address space shows at each address, flattened out of the tree.
//!
//! Source: QEMU `softmmu/memory.c` (`render_memory_region`, `flatview_simplify`).

use std::sync::Arc;

use crate::region::RegionKind;
use crate::{IoEventFd, MemoryRegion, RamBlock};

/// Consecutive addresses that show consecutive bytes of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatRange {
    /// First address.
    pub start: u64,
    /// Last address.
    pub last: u64,
    /// What shows.
    pub region: MemoryRegion,
    /// Offset in the region of `start`.
    pub offset: u64,
    /// Whether writes to its memory are dropped.
    pub readonly: bool,
    /// For a ROM device: whether it reads as memory now.
    pub romd_mode: bool,
}

impl FlatRange {
    /// Length in bytes, at most 2^64.
    pub fn len(&self) -> u128 {
        u128::from(self.last - self.start) + 1
    }

    /// Never true: ranges hold at least a byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether `address` lies in it.
    #[inline]
    pub fn contains(&self, address: u64) -> bool {
        self.start <= address && address <= self.last
    }

    /// The memory that reads of this range come from, if they come from memory.
    pub fn readable_ram(&self) -> Option<&Arc<RamBlock>> {
        match self.region.kind() {
            RegionKind::Ram(block) => Some(block),
            RegionKind::RomDevice(block, _) if self.romd_mode => Some(block),
            _ => None,
        }
    }

    /// The memory that writes of this range go to, if they go to memory.
    pub fn writable_ram(&self) -> Option<&Arc<RamBlock>> {
        match self.region.kind() {
            RegionKind::Ram(block) if !self.readonly => Some(block),
            _ => None,
        }
    }

    /// Whether `next` goes on where this ends, in address and in the region.
    fn merges_with(&self, next: &FlatRange) -> bool {
        self.last.checked_add(1) == Some(next.start)
            && self.region == next.region
            && self.offset.checked_add(next.start - self.start) == Some(next.offset)
            && (self.readonly, self.romd_mode) == (next.readonly, next.romd_mode)
    }
}

/// A region's part of the address space, in wide arithmetic: addresses below 0 and beyond 2^64 occur on the
/// way through aliases.
#[derive(Clone, Copy)]
struct Clip {
    start: i128,
    end: i128,
}

impl Clip {
    fn intersect(self, start: i128, size: u128) -> Option<Clip> {
        let end = start.saturating_add(i128::try_from(size).unwrap_or(i128::MAX));
        let clip = Clip { start: self.start.max(start), end: self.end.min(end) };
        (clip.start < clip.end).then_some(clip)
    }
}

/// How deep regions may nest: a guest that can move windows must not make us recurse without end.
const MAX_DEPTH: u32 = 64;

/// An immutable picture of an address space: ranges in order of address, none overlapping.
#[derive(Debug, Default, PartialEq)]
pub struct FlatView {
    ranges: Vec<FlatRange>,
}

impl FlatView {
    /// Flattens the tree below `root`.
    pub fn render(root: &MemoryRegion) -> FlatView {
        let mut view = FlatView::default();
        view.render_region(root, 0, Clip { start: 0, end: 1 << 64 }, false, 0);
        view.simplify();
        view
    }

    fn render_region(&mut self, region: &MemoryRegion, base: i128, clip: Clip, readonly: bool, depth: u32) {
        let state = region.with_state(Clone::clone);
        if !state.enabled || depth > MAX_DEPTH {
            return;
        }
        let base = base + i128::from(state.address);
        let readonly = readonly || state.readonly;
        let Some(clip) = clip.intersect(base, state.size) else { return };
        if let RegionKind::Alias(target) = region.kind() {
            let base = base - i128::from(target.address()) - i128::from(state.alias_offset);
            return self.render_region(target, base, clip, readonly, depth + 1);
        }
        for subregion in &state.subregions {
            self.render_region(subregion, base, clip, readonly, depth + 1);
        }
        if !matches!(region.kind(), RegionKind::Container) {
            self.fill_holes(region, base, clip, readonly, state.romd_mode);
        }
    }

    /// Shows `region` wherever nothing shows yet in `clip`.
    fn fill_holes(&mut self, region: &MemoryRegion, base: i128, clip: Clip, readonly: bool, romd_mode: bool) {
        let mut at = clip.start;
        let mut index = self.ranges.partition_point(|r| i128::from(r.last) < clip.start);
        while at < clip.end {
            let next = self.ranges.get(index).map_or(i128::MAX, |r| r.start.into());
            let end = next.min(clip.end);
            if at < end
                && let (Ok(start), Ok(last), Ok(offset)) =
                    (u64::try_from(at), u64::try_from(end - 1), u64::try_from(at - base))
            {
                let range = FlatRange { start, last, region: region.clone(), offset, readonly, romd_mode };
                self.ranges.insert(index, range);
                index += 1;
            }
            at = match self.ranges.get(index) {
                Some(r) => i128::from(r.last) + 1,
                None => clip.end,
            };
            index += 1;
        }
    }

    fn simplify(&mut self) {
        self.ranges.dedup_by(|next, first| {
            let merges = first.merges_with(next);
            if merges {
                first.last = next.last;
            }
            merges
        });
    }

    /// The ranges in order of address.
    pub fn ranges(&self) -> &[FlatRange] {
        &self.ranges
    }

    /// What shows at `address`.
    #[inline]
    pub fn lookup(&self, address: u64) -> Option<&FlatRange> {
        self.ranges.get(self.lookup_index(address)?)
    }

    #[inline]
    pub(crate) fn lookup_index(&self, address: u64) -> Option<usize> {
        let index = self.ranges.partition_point(|r| r.last < address);
        self.ranges.get(index)?.contains(address).then_some(index)
    }

    /// Number of bytes from `address` up to the next range, when nothing shows there.
    pub(crate) fn hole(&self, address: u64) -> u64 {
        let index = self.ranges.partition_point(|r| r.last < address);
        self.ranges.get(index).map_or(u64::MAX, |r| r.start.saturating_sub(address))
    }

    /// The eventfds and coalesced ranges of the regions, where they show.
    pub(crate) fn notifications(&self) -> Notifications {
        let mut found = Notifications::default();
        for range in &self.ranges {
            let end = u128::from(range.offset) + range.len();
            range.region.with_state(|state| {
                for fd in &state.ioeventfds {
                    let fits =
                        fd.address >= range.offset && u128::from(fd.address) + u128::from(fd.size) <= end;
                    if fits {
                        let address = range.start + (fd.address - range.offset);
                        found.eventfds.push(IoEventFd { address, ..fd.clone() });
                    }
                }
                for &(offset, len) in &state.coalesced {
                    let first = offset.max(range.offset);
                    let last = (u128::from(offset) + u128::from(len)).min(end);
                    if u128::from(first) < last {
                        found
                            .coalesced
                            .push((range.start + (first - range.offset), (last - u128::from(first)) as u64));
                    }
                }
            });
        }
        found
    }
}

/// What listeners are told beside the ranges.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Notifications {
    pub eventfds: Vec<IoEventFd>,
    /// Address and length.
    pub coalesced: Vec<(u64, u64)>,
}
