//! Reference counts of clusters, and finding free ones (block/qcow2-refcount.c).

use std::collections::HashSet;
use std::io;

use super::cache::TableCache;
use super::corrupt;
use super::header::{REFTABLE_AT, be64};
use crate::driver::DebugEvent;
use crate::node::BlockNode;

/// Bits of an entry of the table that are the place of a block of counts.
const BLOCK_OFFSET: u64 = !0x1ff & !(1 << 63);
/// Memory for counts: 256 KiB cover 8 GiB of 64 KiB clusters.
const CACHE_SIZE: u64 = 256 << 10;
/// Clusters are not looked for beyond this place, bytes: what an entry of a table can hold.
const MAX_OFFSET: u64 = 1 << 56;

/// The counts.
pub struct Refcounts {
    table: Vec<u64>,
    table_offset: u64,
    table_dirty: bool,
    cluster_bits: u32,
    /// Bits of a count are `1 << order`.
    order: u32,
    blocks: TableCache,
    /// No cluster below is free.
    free_hint: u64,
    /// Clusters to be given back when nothing on disk refers to them any more: one count each.
    pending: Vec<u64>,
    /// Clusters that were given back since the last time that all was on stable storage: not to be used again yet.
    quarantine: HashSet<u64>,
}

impl Refcounts {
    /// Reads the table.
    ///
    /// # Errors
    /// What the file says.
    pub fn read(file: &BlockNode, header: &super::header::Header) -> io::Result<Self> {
        let mut bytes = vec![0; (header.reftable_clusters as usize) << header.cluster_bits];
        file.driver().debug_event(DebugEvent::ReftableLoad);
        file.preadv_padded(header.reftable_offset, &[vm_memory::VolatileSlice::from(&mut bytes[..])])?;
        let table = (0..bytes.len()).step_by(8).map(|at| be64(&bytes, at)).collect();
        Ok(Refcounts {
            table,
            table_offset: header.reftable_offset,
            table_dirty: false,
            cluster_bits: header.cluster_bits,
            order: header.refcount_order,
            blocks: TableCache::new(CACHE_SIZE, header.cluster_size(), DebugEvent::RefblockLoad),
            free_hint: 0,
            pending: Vec::new(),
            quarantine: HashSet::new(),
        })
    }

    fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Counts in a block.
    pub fn per_block(&self) -> u64 {
        (self.cluster_size() * 8) >> self.order
    }

    /// The table's place and its number of clusters.
    pub fn table_place(&self) -> (u64, u64) {
        (self.table_offset, (self.table.len() as u64 * 8) >> self.cluster_bits)
    }

    /// The places of the blocks of counts.
    pub fn block_places(&self) -> impl Iterator<Item = u64> {
        self.table.iter().map(|entry| entry & BLOCK_OFFSET).filter(|at| *at != 0)
    }

    /// Where the block with a cluster's count is, 0 where there is none, and the count's number in it.
    fn place(&self, cluster: u64) -> io::Result<(u64, u64)> {
        let per_block = self.per_block();
        let entry = self.table.get((cluster / per_block) as usize).copied().unwrap_or(0) & BLOCK_OFFSET;
        if entry & (self.cluster_size() - 1) != 0 {
            return Err(corrupt());
        }
        Ok((entry, cluster % per_block))
    }

    /// How often a cluster is referred to.
    ///
    /// # Errors
    /// What the file says, or that the image is corrupt.
    pub fn get(&mut self, file: &BlockNode, cluster: u64) -> io::Result<u64> {
        let (block, index) = self.place(cluster)?;
        if block == 0 {
            return Ok(0);
        }
        let order = self.order;
        let bits = index << order;
        self.blocks.look(file, block + bits / 8, |bytes| match order {
            0..=2 => u64::from(bytes[0] >> (bits % 8)) & ((1 << (1 << order)) - 1),
            3 => bytes[0].into(),
            4 => u16::from_be_bytes([bytes[0], bytes[1]]).into(),
            5 => super::header::be32(bytes, 0).into(),
            _ => be64(bytes, 0),
        })
    }

    /// Says how often a cluster is referred to; the block of its count comes into being where there is none.
    ///
    /// # Errors
    /// What the file says, that the image is corrupt, or that the count does not fit.
    pub fn set(&mut self, file: &BlockNode, cluster: u64, count: u64) -> io::Result<()> {
        let (mut block, index) = self.place(cluster)?;
        if block == 0 {
            self.new_block(file, cluster / self.per_block())?;
            block = self.place(cluster)?.0;
        }
        let order = self.order;
        let most = if order == 6 { u64::MAX } else { (1 << (1u64 << order)) - 1 };
        if count > most {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if count == 0 {
            self.free_hint = self.free_hint.min(cluster);
        }
        let bits = index << order;
        self.blocks.change(file, block + bits / 8, |bytes| match order {
            0..=2 => {
                let mask = (most as u8) << (bits % 8);
                bytes[0] = bytes[0] & !mask | (count as u8) << (bits % 8);
            }
            3 => bytes[0] = count as u8,
            4 => bytes[..2].copy_from_slice(&(count as u16).to_be_bytes()),
            5 => bytes[..4].copy_from_slice(&(count as u32).to_be_bytes()),
            _ => bytes[..8].copy_from_slice(&count.to_be_bytes()),
        })
    }

    /// Makes the block of counts number `index`. It lies first in the range that it counts, all of which is free.
    fn new_block(&mut self, file: &BlockNode, index: u64) -> io::Result<()> {
        file.driver().debug_event(DebugEvent::RefblockAlloc);
        let first = index.checked_mul(self.per_block()).ok_or(io::ErrorKind::FileTooLarge)?;
        let at = first << self.cluster_bits;
        if first == 0 {
            // There the header is: an image always has the first block.
            return Err(corrupt());
        }
        if first >= MAX_OFFSET >> self.cluster_bits {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.blocks.add_zeroed(at, self.cluster_size());
        if index < self.table.len() as u64 {
            self.table[index as usize] = at;
            self.table_dirty = true;
            return self.set(file, first, 1);
        }
        self.grow_table(file, index, first)
    }

    /// Moves the table to where there is room for an entry `index`, whose block is the cluster `first`.
    fn grow_table(&mut self, file: &BlockNode, index: u64, first: u64) -> io::Result<()> {
        file.driver().debug_event(DebugEvent::ReftableGrow);
        let old = self.table_place();
        let entries = (index + 1).max(self.table.len() as u64 * 3 / 2);
        let clusters = (entries * 8).div_ceil(self.cluster_size());
        if clusters >= self.per_block() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.table.resize((clusters * self.cluster_size() / 8) as usize, 0);
        self.table[index as usize] = first << self.cluster_bits;
        self.set(file, first, 1)?;
        for cluster in first + 1..=first + clusters {
            self.set(file, cluster, 1)?;
        }
        self.table_offset = (first + 1) << self.cluster_bits;
        self.table_dirty = true;
        self.write_back(file)?;
        file.flush()?;
        let mut place = [0; 12];
        place[..8].copy_from_slice(&self.table_offset.to_be_bytes());
        place[8..].copy_from_slice(&(clusters as u32).to_be_bytes());
        file.pwrite(REFTABLE_AT, &place)?;
        file.flush()?;
        let (offset, count) = old;
        self.pending.extend((0..count).map(|n| (offset >> self.cluster_bits) + n));
        Ok(())
    }

    /// Finds `wanted` free clusters in a row, or fewer but at least one, and counts a reference to each: the first
    /// and how many.
    ///
    /// # Errors
    /// What the file says, or that the image is full.
    pub fn alloc(&mut self, file: &BlockNode, wanted: u64) -> io::Result<(u64, u64)> {
        file.driver().debug_event(DebugEvent::ClusterAlloc);
        let mut cluster = self.free_hint;
        loop {
            if cluster >= MAX_OFFSET >> self.cluster_bits {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            // The block's own cluster comes first in its range, so it is there before a cluster is chosen.
            if self.place(cluster)?.0 == 0 {
                self.new_block(file, cluster / self.per_block())?;
            }
            if self.get(file, cluster)? == 0 && !self.quarantine.contains(&cluster) {
                break;
            }
            cluster += 1;
        }
        if self.quarantine.is_empty() {
            self.free_hint = cluster;
        }
        let mut count = 0;
        while count < wanted {
            let next = cluster + count;
            let fresh =
                self.place(next)?.0 != 0 && self.get(file, next)? == 0 && !self.quarantine.contains(&next);
            if !fresh {
                break;
            }
            self.set(file, next, 1)?;
            count += 1;
        }
        Ok((cluster, count))
    }

    /// Finds `count` free clusters in a row, all of them: for tables.
    ///
    /// # Errors
    /// As [`Refcounts::alloc`].
    pub fn alloc_row(&mut self, file: &BlockNode, count: u64) -> io::Result<u64> {
        loop {
            let (first, found) = self.alloc(file, count)?;
            if found == count {
                return Ok(first);
            }
            // Too few: they are left out this time, and free again with the next flush.
            self.free_hint = self.free_hint.max(first + found);
            self.pending.extend(first..first + found);
        }
    }

    /// A reference to a cluster goes, once nothing on disk has it any more.
    pub fn release(&mut self, cluster: u64) {
        self.pending.push(cluster);
    }

    /// How many references are to go.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether counts or the table are not on disk.
    pub fn is_dirty(&self) -> bool {
        self.blocks.is_dirty() || self.table_dirty
    }

    /// Whether it is time to write back.
    pub fn is_full_of_dirty(&self) -> bool {
        self.blocks.is_full_of_dirty()
    }

    /// Writes back counts, then the table that has their places.
    ///
    /// # Errors
    /// What the file says.
    pub fn write_back(&mut self, file: &BlockNode) -> io::Result<()> {
        self.blocks.write_back(file)?;
        if self.table_dirty {
            let mut bytes: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
            file.driver().debug_event(DebugEvent::ReftableUpdate);
            file.pwritev(self.table_offset, &[vm_memory::VolatileSlice::from(&mut bytes[..])])?;
            self.table_dirty = false;
        }
        Ok(())
    }

    /// Counts the references that are to go as gone, now that the tables on disk have them no more. What is free
    /// by that must not be used before all is on stable storage: [`Refcounts::settled`] with what this gives.
    ///
    /// # Errors
    /// What the file says.
    pub fn apply_pending(&mut self, file: &BlockNode) -> io::Result<Vec<u64>> {
        let mut freed = Vec::new();
        for cluster in std::mem::take(&mut self.pending) {
            let count = self.get(file, cluster)?;
            // An image whose counts are too low is corrupt; nothing becomes worse by leaving them.
            let Some(left) = count.checked_sub(1) else { continue };
            self.set(file, cluster, left)?;
            if left == 0 {
                self.quarantine.insert(cluster);
                freed.push(cluster);
            }
        }
        Ok(freed)
    }

    /// All is on stable storage: clusters that were freed before can be used.
    pub fn settled(&mut self, freed: &[u64]) {
        for cluster in freed {
            self.quarantine.remove(cluster);
            self.free_hint = self.free_hint.min(*cluster);
        }
    }
}
