//! Reference counts made anew (block/qcow2-refcount.c, `qcow2_check_refcounts`).

use std::io;

use super::cluster::{COMPRESSED, OFFSET};
use super::header::{be32, be64};
use super::{Qcow2, State, corrupt};

/// Most clusters of a file that are counted: 16 TiB of 64 KiB clusters.
const MAX_CLUSTERS: u64 = 1 << 28;
/// Length of the fixed part of a snapshot's entry.
const SNAPSHOT_HEADER: usize = 40;
/// Most snapshots, as QEMU has it.
const MAX_SNAPSHOTS: u32 = 65536;

/// How often each cluster is referred to.
struct Counts(Vec<u32>);

impl Counts {
    fn add(&mut self, first: u64, count: u64) -> io::Result<()> {
        for cluster in first..first.saturating_add(count) {
            let slot = usize::try_from(cluster).ok().and_then(|n| self.0.get_mut(n)).ok_or_else(corrupt)?;
            *slot = slot.saturating_add(1);
        }
        Ok(())
    }
}

impl Qcow2 {
    /// Makes the counts right, after the program or the machine ended while they could be wrong. The mark stays
    /// until the image is closed.
    pub(super) fn repair(&self) -> io::Result<()> {
        let bits = self.header.cluster_bits;
        let clusters = self.file().length()?.div_ceil(self.cluster_size());
        if clusters > MAX_CLUSTERS {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut counts = Counts(vec![0; clusters as usize]);
        let mut state = self.state.lock();
        counts.add(0, 1)?;
        let l1 = state.l1.clone();
        self.count_l1(&mut state, &mut counts, self.header.l1_offset, &l1)?;
        self.count_snapshots(&mut state, &mut counts)?;
        let (table, table_clusters) = state.refcounts.table_place();
        counts.add(table >> bits, table_clusters)?;
        let blocks: Vec<u64> = state.refcounts.block_places().collect();
        blocks.into_iter().try_for_each(|block| counts.add(block >> bits, 1))?;
        for (cluster, count) in counts.0.iter().enumerate() {
            if state.refcounts.get(self.file(), cluster as u64)? != u64::from(*count) {
                state.refcounts.set(self.file(), cluster as u64, (*count).into())?;
                if state.refcounts.is_full_of_dirty() {
                    state.refcounts.write_back(self.file())?;
                }
            }
        }
        state.refcounts.write_back(self.file())?;
        drop(state);
        self.file().flush()
    }

    /// Counts a first table at `place` and all that it leads to.
    fn count_l1(&self, state: &mut State, counts: &mut Counts, place: u64, l1: &[u64]) -> io::Result<()> {
        let (bits, size) = (self.header.cluster_bits, self.cluster_size());
        counts.add(place >> bits, (l1.len() as u64 * 8).div_ceil(size))?;
        for table in l1.iter().map(|entry| entry & OFFSET).filter(|table| *table != 0) {
            counts.add(table >> bits, 1)?;
            for at in (table..table + size).step_by(8) {
                let entry = state.l2.get64(self.file(), at)?;
                if entry & COMPRESSED != 0 {
                    let (place, len) = self.compressed_place(entry);
                    let first = place >> bits;
                    counts.add(first, ((place + len.max(1) - 1) >> bits) - first + 1)?;
                } else if entry & OFFSET != 0 {
                    counts.add((entry & OFFSET) >> bits, 1)?;
                }
            }
        }
        Ok(())
    }

    fn count_snapshots(&self, state: &mut State, counts: &mut Counts) -> io::Result<()> {
        let (number, start) = (self.header.nb_snapshots, self.header.snapshots_offset);
        if number == 0 {
            return Ok(());
        }
        if number > MAX_SNAPSHOTS {
            return Err(corrupt());
        }
        let mut at = start;
        for _ in 0..number {
            let mut entry = [0; SNAPSHOT_HEADER];
            self.file().pread(at, &mut entry)?;
            let (l1_at, l1_size) = (be64(&entry, 0), be32(&entry, 8));
            if u64::from(l1_size) * 8 > 32 << 20 {
                return Err(corrupt());
            }
            let mut bytes = vec![0; l1_size as usize * 8];
            self.file().pread(l1_at, &mut bytes)?;
            let l1: Vec<u64> = (0..bytes.len()).step_by(8).map(|n| be64(&bytes, n)).collect();
            self.count_l1(state, counts, l1_at, &l1)?;
            let (id, name) =
                (u16::from_be_bytes([entry[12], entry[13]]), u16::from_be_bytes([entry[14], entry[15]]));
            let len = SNAPSHOT_HEADER as u64 + u64::from(be32(&entry, 36)) + u64::from(id) + u64::from(name);
            at += len.next_multiple_of(8);
        }
        let bits = self.header.cluster_bits;
        counts.add(start >> bits, ((at - 1) >> bits) - (start >> bits) + 1)
    }
}
