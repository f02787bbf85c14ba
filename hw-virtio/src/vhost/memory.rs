//! The guest's memory as a vhost driver is told of it (`vhost_commit`).

use std::io;
use std::sync::Arc;

use memory::{FlatRange, MemoryListener, RamBlock};
use parking_lot::Mutex;

use super::VhostBackend;
use super::kernel::MemoryPiece;

#[derive(Default)]
struct Pieces {
    /// In order of their addresses in the guest; the blocks keep them mapped.
    pieces: Vec<(MemoryPiece, Arc<RamBlock>)>,
    changed: bool,
    /// What the backend was told last, which it may still use.
    told: Vec<(MemoryPiece, Arc<RamBlock>)>,
}

/// Follows the guest's memory for a driver.
pub(super) struct GuestMemory {
    backend: Arc<dyn VhostBackend>,
    state: Mutex<Pieces>,
}

impl GuestMemory {
    pub fn new(backend: Arc<dyn VhostBackend>) -> Arc<GuestMemory> {
        Arc::new(GuestMemory { backend, state: Mutex::default() })
    }

    /// Tells the backend, as far as there is anything new.
    pub fn set(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if !std::mem::take(&mut state.changed) {
            return Ok(());
        }
        self.backend.set_memory(&state.pieces)?;
        state.told = state.pieces.clone();
        Ok(())
    }

    /// Where `len` bytes of the guest's memory are in this process, if they are in one piece.
    pub fn host(&self, guest: u64, len: u64) -> Option<u64> {
        let state = self.state.lock();
        let (piece, _) = state.told.iter().find(|(piece, _)| {
            guest.checked_sub(piece.guest).is_some_and(|at| len <= piece.size && at <= piece.size - len)
        })?;
        Some(piece.host + (guest - piece.guest))
    }

    /// The backend uses it no more.
    pub fn clear(&self) {
        *self.state.lock() = Pieces::default();
    }

    fn piece(range: &FlatRange) -> Option<(MemoryPiece, Arc<RamBlock>)> {
        let ram = range.writable_ram()?.clone();
        let size = u64::try_from(range.len()).ok()?;
        let host = ram.host_address() + range.offset;
        Some((MemoryPiece { guest: range.start, size, host, padding: 0 }, ram))
    }
}

impl MemoryListener for GuestMemory {
    fn region_add(&self, range: &FlatRange) {
        let Some(new) = Self::piece(range) else { return };
        let mut state = self.state.lock();
        let at = state.pieces.partition_point(|(piece, _)| piece.guest < new.0.guest);
        state.pieces.insert(at, new);
        state.changed = true;
    }

    fn region_del(&self, range: &FlatRange) {
        let mut state = self.state.lock();
        let before = state.pieces.len();
        state.pieces.retain(|(piece, _)| piece.guest != range.start);
        state.changed |= state.pieces.len() != before;
    }

    fn commit(&self) {
        if let Err(error) = self.set() {
            util::error_report!("vhost: unable to set the memory table: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::Kernel;
    use super::*;

    #[test]
    fn addresses_are_found_in_what_the_kernel_was_told_and_in_one_piece_only() {
        let (fd, _other) = rustix::pipe::pipe().unwrap();
        let memory = GuestMemory::new(Arc::new(Kernel(Arc::new(fd))));
        let ram = Arc::new(RamBlock::anonymous("ram", 0x2000).unwrap());
        let piece = |guest, host| MemoryPiece { guest, size: 0x1000, host, padding: 0 };
        memory.state.lock().told =
            vec![(piece(0, 0x7000_0000), ram.clone()), (piece(0x1000, 0x9000_0000), ram)];
        assert_eq!(memory.host(0x10, 0xff0), Some(0x7000_0010));
        assert_eq!(memory.host(0x1800, 8), Some(0x9000_0800));
        assert_eq!(memory.host(0xfff, 2), None);
        assert_eq!(memory.host(0x2000, 1), None);
        assert_eq!(memory.host(u64::MAX, 2), None);
        assert_eq!(memory.host(0, u64::MAX), None);
    }

    #[test]
    fn pieces_are_kept_in_order() {
        let (fd, _other) = rustix::pipe::pipe().unwrap();
        let memory = GuestMemory::new(Arc::new(Kernel(Arc::new(fd))));
        let root = memory::MemoryRegion::container("root", 0x10000);
        for (name, at) in [("high", 0x4000), ("low", 0)] {
            let ram = RamBlock::anonymous(name, 0x1000).unwrap();
            root.add_subregion(at, &memory::MemoryRegion::ram(name, ram));
        }
        let view = memory::FlatView::render(&root);
        view.ranges().iter().rev().for_each(|range| memory.region_add(range));
        let starts = || memory.state.lock().pieces.iter().map(|(piece, _)| piece.guest).collect::<Vec<_>>();
        assert_eq!(starts(), [0, 0x4000]);
        memory.region_del(&view.ranges()[0]);
        assert_eq!(starts(), [0x4000]);
    }
}
