//! Copies from the backing file, as reads ask for them (`bdrv_co_do_copy_on_readv` in block/io.c).

use std::io;

use vm_memory::VolatileSlice;

use super::cluster::{Extent, ZERO};
use super::{Qcow2, State};

/// The first version whose clusters can be marked as zeroes.
const VERSION_WITH_ZEROES: u32 = 3;

impl Qcow2 {
    /// Whether the bytes from `offset` are in the image itself, and for how many of them that is so.
    pub(super) fn own(&self, offset: u64, bytes: u64) -> io::Result<(bool, u64)> {
        let (extent, bytes) = self.extent(&mut self.state.lock(), offset, bytes)?;
        Ok((extent != Extent::Unallocated, bytes))
    }

    /// Takes clusters from the backing file that the image does not have, one after the other: what a guest writes
    /// meanwhile is not lost.
    pub(super) fn populate_range(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 || self.backing.is_none() {
            return Ok(());
        }
        let size = self.cluster_size();
        (offset / size..=(offset + bytes - 1) / size)
            .try_for_each(|cluster| self.populate_cluster(&mut self.state.lock(), cluster))
    }

    fn populate_cluster(&self, state: &mut State, cluster: u64) -> io::Result<()> {
        let size = self.cluster_size();
        let at = cluster * size;
        if self.extent(state, at, size)?.0 != Extent::Unallocated {
            return Ok(());
        }
        let mut data = vec![0; size.min(self.disk_size().saturating_sub(at)) as usize];
        self.read_locked(state, at, &mut data)?;
        if self.header.version >= VERSION_WITH_ZEROES && data.iter().all(|byte| *byte == 0) {
            self.make_room(state)?;
            return self.replace(state, cluster, ZERO, true);
        }
        self.write_new(state, at, &[VolatileSlice::from(&mut data[..])]).map(drop)
    }
}
