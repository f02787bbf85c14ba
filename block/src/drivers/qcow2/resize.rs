//! Another size of the disk (block/qcow2.c, `qcow2_co_truncate`).

use std::io;
use std::sync::atomic::Ordering;

use qom::{Result, bail};

use super::header::{L1_AT, SIZE_AT};
use super::{Qcow2, State, failed};
use crate::driver::DebugEvent;

impl Qcow2 {
    /// Changes the size.
    ///
    /// # Errors
    /// For the user.
    pub(super) fn resize(&self, size: u64) -> Result<()> {
        if !size.is_multiple_of(512) {
            bail!("The new size must be a multiple of 512");
        }
        if self.header.nb_snapshots > 0 && self.header.version < 3 {
            bail!("Can't resize a v2 image which has snapshots");
        }
        let old = self.disk_size();
        if size < old {
            let cluster = self.cluster_size();
            let (first, last) = (size.div_ceil(cluster), old.div_ceil(cluster));
            self.discard_clusters(first, last - first)
                .map_err(failed("Failed to discard cropped clusters"))?;
        }
        let mut state = self.state.lock();
        let needed = self.header.l1_needed(size);
        if needed > state.l1.len() as u64 {
            if needed > (32 << 20) / 8 {
                bail!("Failed to grow the L1 table: File too large");
            }
            self.grow_l1(&mut state, needed as usize).map_err(failed("Failed to grow the L1 table"))?;
        }
        self.write_back(&mut state).map_err(failed("Failed to flush the metadata"))?;
        drop(state);
        if size > old && !old.is_multiple_of(self.cluster_size()) {
            // The last cluster was not whole: what its rest held was never part of the disk.
            let end = old.next_multiple_of(self.cluster_size()).min(size);
            self.size.store(end, Ordering::Release);
            crate::driver::write_zeroes_as_data(self, old, end - old)
                .map_err(failed("Failed to zero the new area"))?;
        }
        if let (true, Some(backing)) = (size > old, &self.backing)
            && backing.node.length().unwrap_or(0) > old
        {
            // What is below must not show.
            self.size.store(size, Ordering::Release);
            crate::driver::BlockDriver::pwrite_zeroes(self, old, size - old, true)
                .map_err(failed("Failed to zero the new area"))?;
        }
        self.file()
            .pwrite(SIZE_AT, &size.to_be_bytes())
            .map_err(failed("Failed to update the image size"))?;
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    fn grow_l1(&self, state: &mut State, entries: usize) -> io::Result<()> {
        self.file().driver().debug_event(DebugEvent::L1GrowAllocTable);
        let bits = self.header.cluster_bits;
        let count = (entries as u64 * 8).div_ceil(self.cluster_size());
        let place = state.refcounts.alloc_row(self.file(), count)? << bits;
        let mut l1 = state.l1.clone();
        l1.resize(entries, 0);
        let mut bytes: Vec<u8> = l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        bytes.resize((count << bits) as usize, 0);
        self.file().pwrite(place, &bytes)?;
        self.write_back(state)?;
        self.file().flush()?;
        let mut header = [0; 12];
        header[..4].copy_from_slice(&(entries as u32).to_be_bytes());
        header[4..].copy_from_slice(&place.to_be_bytes());
        self.file().pwrite(L1_AT, &header)?;
        self.file().flush()?;
        let old = (state.l1.len() as u64 * 8).div_ceil(self.cluster_size());
        (0..old).for_each(|n| state.refcounts.release((state.l1_offset >> bits) + n));
        state.l1 = l1;
        state.l1_offset = place;
        Ok(())
    }
}
