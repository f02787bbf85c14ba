//! Parts of tables that are kept in memory, a bounded number (block/qcow2-cache.c).

use std::collections::HashMap;
use std::io;

use crate::driver::DebugEvent;
use crate::node::BlockNode;

/// Size of a part in bytes: a table's cluster has one or more of them.
pub const SLICE: u64 = 4096;

struct Slot {
    offset: u64,
    data: Box<[u8]>,
    dirty: bool,
    recent: bool,
}

/// Parts of tables, by their place in the file.
pub struct TableCache {
    slots: Vec<Slot>,
    by_offset: HashMap<u64, usize>,
    hand: usize,
    limit: usize,
    slice: u64,
    dirty: usize,
    load: DebugEvent,
}

impl TableCache {
    /// A cache of at most `bytes`, for tables of `cluster_size`.
    pub fn new(bytes: u64, cluster_size: u64, load: DebugEvent) -> Self {
        let slice = SLICE.min(cluster_size);
        let limit = (bytes / slice).max(4) as usize;
        TableCache { slots: Vec::new(), by_offset: HashMap::new(), hand: 0, limit, slice, dirty: 0, load }
    }

    /// The part with the byte at `offset`, when it is there; and the byte's place in it.
    fn find(&mut self, offset: u64) -> Option<(usize, usize)> {
        let start = offset - offset % self.slice;
        let slot = *self.by_offset.get(&start)?;
        self.slots[slot].recent = true;
        Some((slot, (offset - start) as usize))
    }

    fn load(&mut self, file: &BlockNode, offset: u64) -> io::Result<(usize, usize)> {
        if let Some(found) = self.find(offset) {
            return Ok(found);
        }
        let start = offset - offset % self.slice;
        let mut data = vec![0; self.slice as usize].into_boxed_slice();
        file.driver().debug_event(self.load);
        file.preadv_padded(start, &[vm_memory::VolatileSlice::from(&mut data[..])])?;
        self.insert(start, data, false);
        self.find(offset).ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Room for one more is there: see [`TableCache::is_full_of_dirty`].
    fn insert(&mut self, offset: u64, data: Box<[u8]>, dirty: bool) {
        self.dirty += usize::from(dirty);
        let slot = Slot { offset, data, dirty, recent: true };
        let victim = if self.slots.len() < self.limit { None } else { self.victim() };
        match victim {
            Some(at) => {
                self.by_offset.remove(&self.slots[at].offset);
                self.by_offset.insert(offset, at);
                self.slots[at] = slot;
            }
            None => {
                self.by_offset.insert(offset, self.slots.len());
                self.slots.push(slot);
            }
        }
    }

    /// A part that is on disk as it is, and was not asked for lately.
    fn victim(&mut self) -> Option<usize> {
        for _ in 0..2 * self.slots.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[at];
            if !slot.dirty && !std::mem::take(&mut slot.recent) {
                return Some(at);
            }
        }
        None
    }

    /// Whether it is time to write back: little that is on disk is left to be forgotten.
    pub fn is_full_of_dirty(&self) -> bool {
        self.dirty >= self.limit / 2
    }

    /// Whether anything is not on disk.
    pub fn is_dirty(&self) -> bool {
        self.dirty > 0
    }

    /// The eight bytes at `offset`, if they are in memory.
    pub fn cached64(&mut self, offset: u64) -> Option<u64> {
        let (slot, at) = self.find(offset)?;
        Some(super::header::be64(&self.slots[slot].data, at))
    }

    /// The eight bytes at `offset`.
    ///
    /// # Errors
    /// What the file says.
    pub fn get64(&mut self, file: &BlockNode, offset: u64) -> io::Result<u64> {
        let (slot, at) = self.load(file, offset)?;
        Ok(super::header::be64(&self.slots[slot].data, at))
    }

    /// Changes the eight bytes at `offset`.
    ///
    /// # Errors
    /// What the file says.
    pub fn set64(&mut self, file: &BlockNode, offset: u64, value: u64) -> io::Result<()> {
        self.change(file, offset, |bytes| bytes[..8].copy_from_slice(&value.to_be_bytes()))
    }

    /// Calls `look` with the bytes from `offset` to the end of its part.
    ///
    /// # Errors
    /// What the file says.
    pub fn look<R>(&mut self, file: &BlockNode, offset: u64, look: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        let (slot, at) = self.load(file, offset)?;
        Ok(look(&self.slots[slot].data[at..]))
    }

    /// Calls `change` with the bytes from `offset` to the end of its part.
    ///
    /// # Errors
    /// What the file says.
    pub fn change(
        &mut self,
        file: &BlockNode,
        offset: u64,
        change: impl FnOnce(&mut [u8]),
    ) -> io::Result<()> {
        let (slot, at) = self.load(file, offset)?;
        let slot = &mut self.slots[slot];
        self.dirty += usize::from(!slot.dirty);
        slot.dirty = true;
        change(&mut slot.data[at..]);
        Ok(())
    }

    /// A table of one cluster at `offset` that is all zeroes, not yet on disk.
    pub fn add_zeroed(&mut self, offset: u64, cluster_size: u64) {
        for start in (offset..offset + cluster_size).step_by(self.slice as usize) {
            self.forget(start);
            self.insert(start, vec![0; self.slice as usize].into_boxed_slice(), true);
        }
    }

    /// What was at `start` counts no more.
    fn forget(&mut self, start: u64) {
        let Some(at) = self.by_offset.remove(&start) else { return };
        let gone = self.slots.swap_remove(at);
        self.dirty -= usize::from(gone.dirty);
        if let Some(moved) = self.slots.get(at) {
            self.by_offset.insert(moved.offset, at);
        }
        self.hand = 0;
    }

    /// Writes back all that is not on disk, in the file's order.
    ///
    /// # Errors
    /// What the file says; what was not written is tried again the next time.
    pub fn write_back(&mut self, file: &BlockNode) -> io::Result<()> {
        if self.dirty == 0 {
            return Ok(());
        }
        let mut dirty: Vec<usize> = (0..self.slots.len()).filter(|at| self.slots[*at].dirty).collect();
        dirty.sort_by_key(|at| self.slots[*at].offset);
        for at in dirty {
            let slot = &mut self.slots[at];
            file.pwritev(slot.offset, &[vm_memory::VolatileSlice::from(&mut slot.data[..])])?;
            slot.dirty = false;
            self.dirty -= 1;
        }
        Ok(())
    }
}
