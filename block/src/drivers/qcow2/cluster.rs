//! Where data is, and new places for it (block/qcow2-cluster.c).

use std::io;
use std::io::Read;

use flate2::read::DeflateDecoder;
use parking_lot::MutexGuard;
use vm_memory::VolatileSlice;

use super::{Qcow2, State, corrupt};
use crate::driver::{DebugEvent, IoVec, iov_copy_from, iov_size, iov_slice, iov_zero};

/// An entry's cluster is referred to by nobody else.
pub const COPIED: u64 = 1 << 63;
/// An entry's cluster is compressed.
pub const COMPRESSED: u64 = 1 << 62;
/// An entry reads as zeroes.
pub const ZERO: u64 = 1;
/// Bits of an entry that are a place.
pub const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Compressed data is counted in these, bytes.
const COMPRESSED_SECTOR: u64 = 512;
/// Largest number of clusters that one request gets at once.
const MAX_ROW: u64 = 64;

/// Where a range of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// In the file; `copied`: it may be written where it is.
    Data { place: u64, copied: bool },
    /// Compressed, with this entry.
    Compressed(u64),
    /// Nowhere: it reads as zeroes.
    Zero,
    /// In the backing file, if there is one.
    Unallocated,
}

impl Qcow2 {
    fn l2_bits(&self) -> u32 {
        self.header.cluster_bits - 3
    }

    /// The place of the entry of a cluster of the disk; `None` where the table is not there.
    fn entry_place(&self, state: &State, cluster: u64) -> io::Result<Option<u64>> {
        let index = usize::try_from(cluster >> self.l2_bits()).map_err(|_| corrupt())?;
        let table = state.l1.get(index).copied().ok_or_else(corrupt)? & OFFSET;
        if table & (self.cluster_size() - 1) != 0 {
            return Err(corrupt());
        }
        let entry = cluster & ((1 << self.l2_bits()) - 1);
        Ok((table != 0).then_some(table + entry * 8))
    }

    /// What an entry says about the byte `within` its cluster.
    fn decode(&self, entry: u64, within: u64) -> io::Result<Extent> {
        if entry & COMPRESSED != 0 {
            return Ok(Extent::Compressed(entry));
        }
        if entry & ZERO != 0 && self.header.version >= 3 {
            return Ok(Extent::Zero);
        }
        match entry & OFFSET {
            0 => Ok(Extent::Unallocated),
            place if place & (self.cluster_size() - 1) != 0 => Err(corrupt()),
            place => Ok(Extent::Data { place: place + within, copied: entry & COPIED != 0 }),
        }
    }

    fn entry(&self, state: &mut State, cluster: u64) -> io::Result<u64> {
        match self.entry_place(state, cluster)? {
            Some(place) => state.l2.get64(self.file(), place),
            None => Ok(0),
        }
    }

    /// Where the bytes from `offset` are, and how many of them are there in a row.
    pub(super) fn extent(&self, state: &mut State, offset: u64, bytes: u64) -> io::Result<(Extent, u64)> {
        let size = self.cluster_size();
        let within = offset % size;
        let mut cluster = offset / size;
        let first = self.decode(self.entry(state, cluster)?, within)?;
        let mut len = size - within;
        if matches!(first, Extent::Compressed(_)) {
            return Ok((first, len.min(bytes)));
        }
        while len < bytes {
            cluster += 1;
            let next = self.decode(self.entry(state, cluster)?, 0)?;
            let expected = match first {
                Extent::Data { place, copied } => Extent::Data { place: place + len, copied },
                other => other,
            };
            if next != expected {
                break;
            }
            len += size;
        }
        Ok((first, len.min(bytes)))
    }

    /// Where all of the bytes are in a row in the file, if memory has what tells it; and may be written there, where
    /// `to_write` asks for that.
    pub(super) fn cached_place(
        &self,
        state: &mut State,
        offset: u64,
        bytes: u64,
        to_write: bool,
    ) -> Option<u64> {
        let size = self.cluster_size();
        let first = offset / size;
        let last = (offset + bytes.max(1) - 1) / size;
        let mut found = None;
        for cluster in first..=last {
            let entry = state.l2.cached64(self.entry_place(state, cluster).ok()??)?;
            let Ok(Extent::Data { place, copied }) = self.decode(entry, 0) else { return None };
            if to_write && !copied {
                return None;
            }
            let start = *found.get_or_insert(place);
            if place != start + (cluster - first) * size {
                return None;
            }
        }
        Some(found? + offset % size)
    }

    /// Reads what [`Qcow2::extent`] found.
    pub(super) fn read_extent(
        &self,
        mut state: MutexGuard<'_, State>,
        extent: Extent,
        offset: u64,
        to: IoVec<'_, '_>,
    ) -> io::Result<()> {
        match extent {
            Extent::Data { place, .. } => {
                let _placed = self.placed.read();
                drop(state);
                self.file().driver().debug_event(DebugEvent::ReadAio);
                self.file().preadv_padded(place, to)
            }
            Extent::Compressed(entry) => self.read_compressed(&mut state, entry, offset, to),
            Extent::Zero => {
                iov_zero(to);
                Ok(())
            }
            Extent::Unallocated => {
                drop(state);
                self.read_backing(offset, to)
            }
        }
    }

    fn read_backing(&self, offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
        let Some(backing) = &self.backing else {
            iov_zero(to);
            return Ok(());
        };
        self.file().driver().debug_event(DebugEvent::ReadBackingAio);
        backing.node.preadv_padded(offset, to)
    }

    /// Place and length of a compressed cluster.
    pub(super) fn compressed_place(&self, entry: u64) -> (u64, u64) {
        let shift = 62 - (self.header.cluster_bits - 8);
        let place = entry & ((1 << shift) - 1);
        let sectors = ((entry >> shift) & ((1 << (self.header.cluster_bits - 8)) - 1)) + 1;
        (place, sectors * COMPRESSED_SECTOR - place % COMPRESSED_SECTOR)
    }

    fn read_compressed(
        &self,
        state: &mut State,
        entry: u64,
        offset: u64,
        to: IoVec<'_, '_>,
    ) -> io::Result<()> {
        if state.decompressed.as_ref().is_none_or(|(of, _)| *of != entry) {
            let (place, len) = self.compressed_place(entry);
            // Of a hostile image's length there is no more in the file than there is.
            let len = len.min(self.file().length()?.saturating_sub(place));
            let mut packed = vec![0; len as usize];
            self.file().driver().debug_event(DebugEvent::ReadCompressed);
            self.file().pread(place, &mut packed)?;
            let mut data = vec![0; self.cluster_size() as usize];
            DeflateDecoder::new(&packed[..]).read_exact(&mut data).map_err(|_| corrupt())?;
            state.decompressed = Some((entry, data));
        }
        let Some((_, data)) = &state.decompressed else { return Err(corrupt()) };
        let within = (offset % self.cluster_size()) as usize;
        iov_copy_from(to, &data[within..]);
        Ok(())
    }

    /// The place of a cluster's entry, whose table comes into being or is copied where it is shared.
    fn writable_entry(&self, state: &mut State, cluster: u64) -> io::Result<u64> {
        let index = usize::try_from(cluster >> self.l2_bits()).map_err(|_| corrupt())?;
        let old = state.l1.get(index).copied().ok_or_else(corrupt)?;
        if old & COPIED == 0 || old & OFFSET == 0 {
            self.new_l2_table(state, index, old & OFFSET)?;
        }
        self.entry_place(state, cluster)?.ok_or_else(corrupt)
    }

    fn new_l2_table(&self, state: &mut State, index: usize, old: u64) -> io::Result<()> {
        let size = self.cluster_size();
        let at = state.refcounts.alloc_row(self.file(), 1)? << self.header.cluster_bits;
        let mut entries = Vec::new();
        if old != 0 {
            for place in (old..old + size).step_by(8) {
                entries.push(state.l2.get64(self.file(), place)?);
            }
        }
        state.l2.add_zeroed(at, size);
        for (n, entry) in entries.into_iter().enumerate().filter(|(_, entry)| *entry != 0) {
            state.l2.set64(self.file(), at + n as u64 * 8, entry)?;
        }
        state.l1[index] = at | COPIED;
        state.l1_dirty.push(index);
        if old != 0 {
            state.refcounts.release(old >> self.header.cluster_bits);
        }
        Ok(())
    }

    /// The cluster's references to the file go.
    fn release_entry(&self, state: &mut State, entry: u64) {
        let bits = self.header.cluster_bits;
        if entry & COMPRESSED != 0 {
            let (place, len) = self.compressed_place(entry);
            let last = (place + len.max(1) - 1) >> bits;
            (place >> bits..=last).for_each(|cluster| state.refcounts.release(cluster));
        } else if entry & OFFSET != 0 {
            state.refcounts.release((entry & OFFSET) >> bits);
        }
    }

    /// Writes to clusters that have no place of their own yet: how many bytes.
    pub(super) fn write_new(&self, state: &mut State, offset: u64, from: IoVec<'_, '_>) -> io::Result<u64> {
        self.make_room(state)?;
        let size = self.cluster_size();
        let (first, within) = (offset / size, offset % size);
        let total = iov_size(from);
        let wanted = (within + total).div_ceil(size).min(MAX_ROW);
        // As many as want a new place in a row.
        let mut count = 1;
        while count < wanted {
            let entry = self.entry(state, first + count)?;
            if matches!(self.decode(entry, 0)?, Extent::Data { copied: true, .. }) {
                break;
            }
            count += 1;
        }
        let (host, count) = state.refcounts.alloc(self.file(), count)?;
        let written = (count * size - within).min(total);
        let result = self.fill(state, host << self.header.cluster_bits, offset, &iov_slice(from, 0, written));
        let result = result.and_then(|()| self.link(state, first, host, count));
        if result.is_err() {
            // Nothing refers to them.
            (host..host + count).for_each(|cluster| state.refcounts.release(cluster));
        }
        result.map(|()| written)
    }

    /// Writes data to a new place, with what was around it.
    fn fill(&self, state: &mut State, place: u64, offset: u64, from: IoVec<'_, '_>) -> io::Result<()> {
        let size = self.cluster_size();
        let bytes = iov_size(from);
        let (head, end) = (offset % size, offset + bytes);
        let tail = end.next_multiple_of(size) - end;
        let mut before = vec![0; head as usize];
        let mut after = vec![0; tail as usize];
        self.file().driver().debug_event(DebugEvent::CowRead);
        self.read_locked(state, offset - head, &mut before)?;
        self.read_locked(state, end, &mut after)?;
        let mut parts = Vec::with_capacity(from.len() + 2);
        if head > 0 {
            parts.push(VolatileSlice::from(&mut before[..]));
        }
        parts.extend(from.iter().copied());
        if tail > 0 {
            parts.push(VolatileSlice::from(&mut after[..]));
        }
        self.file().driver().debug_event(DebugEvent::WriteAio);
        self.file().pwritev(place, &parts)
    }

    /// Reads with the tables' lock held; what is beyond the disk's end is zeroes.
    pub(super) fn read_locked(&self, state: &mut State, offset: u64, to: &mut [u8]) -> io::Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        let to = [VolatileSlice::from(to)];
        let (extent, bytes) = self.extent(state, offset, iov_size(&to))?;
        debug_assert_eq!(bytes, iov_size(&to), "it is a part of one cluster");
        match extent {
            Extent::Data { place, .. } => self.file().preadv_padded(place, &to),
            Extent::Compressed(entry) => self.read_compressed(state, entry, offset, &to),
            Extent::Zero => Ok(()),
            Extent::Unallocated => self.read_backing(offset, &to),
        }
    }

    /// Has the entries of clusters refer to their new places.
    fn link(&self, state: &mut State, first: u64, host: u64, count: u64) -> io::Result<()> {
        for n in 0..count {
            let place = self.writable_entry(state, first + n)?;
            let old = state.l2.get64(self.file(), place)?;
            let new = (host + n) << self.header.cluster_bits | COPIED;
            state.l2.set64(self.file(), place, new)?;
            self.release_entry(state, old);
        }
        Ok(())
    }

    /// Makes whole clusters read as zeroes.
    pub(super) fn zero_clusters(&self, first: u64, count: u64, may_unmap: bool) -> io::Result<()> {
        for cluster in first..first + count {
            let mut state = self.state.lock();
            self.make_room(&mut state)?;
            let old = self.entry(&mut state, cluster)?;
            let extent = self.decode(old, 0)?;
            let nothing_below = self.backing.is_none();
            if extent == Extent::Zero && (old & OFFSET == 0 || !may_unmap)
                || extent == Extent::Unallocated && nothing_below
            {
                continue;
            }
            if self.header.version < 3 {
                drop(state);
                let size = self.cluster_size();
                let bytes = size.min(self.disk_size() - cluster * size);
                crate::driver::write_zeroes_as_data(self, cluster * size, bytes)?;
                continue;
            }
            let keep = !may_unmap && matches!(extent, Extent::Data { .. } | Extent::Zero);
            self.replace(&mut state, cluster, if keep { old | ZERO } else { ZERO }, !keep)?;
        }
        Ok(())
    }

    /// Lets go of whole clusters; they read as zeroes.
    pub(super) fn discard_clusters(&self, first: u64, count: u64) -> io::Result<()> {
        for cluster in first..first + count {
            let mut state = self.state.lock();
            self.make_room(&mut state)?;
            let old = self.entry(&mut state, cluster)?;
            let new = match self.backing {
                None => 0,
                Some(_) if self.header.version >= 3 => ZERO,
                // What is below must not show again.
                Some(_) => continue,
            };
            if old & (OFFSET | COMPRESSED) != 0 || old != new && self.backing.is_some() {
                self.replace(&mut state, cluster, new, true)?;
            }
        }
        Ok(())
    }

    pub(super) fn replace(&self, state: &mut State, cluster: u64, new: u64, release: bool) -> io::Result<()> {
        let place = self.writable_entry(state, cluster)?;
        let old = state.l2.get64(self.file(), place)?;
        state.l2.set64(self.file(), place, new)?;
        if release {
            self.release_entry(state, old);
        }
        Ok(())
    }

    /// Does something about whole clusters, and writes zeroes to the parts of clusters before and behind.
    pub(super) fn by_clusters(
        &self,
        offset: u64,
        bytes: u64,
        whole: impl FnOnce(u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let size = self.cluster_size();
        let end = offset + bytes;
        let disk = self.disk_size();
        let first = offset.div_ceil(size);
        // The disk's last cluster need not be whole.
        let last = if end == disk { end.div_ceil(size) } else { end / size };
        if first >= last {
            return crate::driver::write_zeroes_as_data(self, offset, bytes);
        }
        if first * size > offset {
            crate::driver::write_zeroes_as_data(self, offset, first * size - offset)?;
        }
        whole(first, last - first)?;
        if end > last * size {
            crate::driver::write_zeroes_as_data(self, last * size, end - last * size)?;
        }
        Ok(())
    }
}
