//! Memory of requests: the guest's by way of the bus master, and a buffer of ours.

use std::sync::Arc;

use block::backend::RequestMemory;
use memory::FlatView;
use memory::vm_memory::{GuestAddress, GuestMemory, MmapRegion, Permissions, VolatileMemory, VolatileSlice};

use crate::bmdma::Piece;

/// Longest piece that a descriptor can name.
const MAX_PIECE: usize = 1 << 16;

/// Pieces of guest memory. What is no memory reads as zeroes, and takes what it is given.
pub struct Pieces {
    view: Option<Arc<FlatView>>,
    pieces: Vec<Piece>,
    access: Permissions,
    hole: Option<MmapRegion>,
}

impl Pieces {
    /// Pieces of what `view` shows, to be read or written; `None` where the host has no memory for what is none of the
    /// guest's.
    pub fn new(view: Option<Arc<FlatView>>, pieces: Vec<Piece>, access: Permissions) -> Option<Pieces> {
        let mut new = Pieces { view, pieces, access, hole: None };
        let is_memory = |(address, len): &Piece| {
            new.view
                .as_ref()
                .is_some_and(|view| view.check_range(GuestAddress(*address), *len as usize, access))
        };
        if !new.pieces.iter().all(is_memory) {
            new.hole = Some(MmapRegion::new(MAX_PIECE).ok()?);
        }
        Some(new)
    }

    /// Copies all of it.
    pub fn gather(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for part in self.parts() {
            let at = data.len();
            data.resize(at + part.len(), 0);
            part.copy_to(&mut data[at..]);
        }
        data
    }
}

impl RequestMemory for Pieces {
    fn parts(&self) -> Vec<VolatileSlice<'_>> {
        let mut parts = Vec::with_capacity(self.pieces.len());
        for (address, len) in &self.pieces {
            let mut left = *len as usize;
            let view = self.view.as_ref();
            if let Some(Ok(slices)) = view.map(|v| v.get_slices(GuestAddress(*address), left, self.access)) {
                for slice in slices.map_while(Result::ok) {
                    left -= slice.len();
                    parts.push(slice);
                }
            }
            let hole = self.hole.as_ref().map(|hole| hole.as_volatile_slice().subslice(0, left));
            if let Some(Ok(hole)) = hole.filter(|_| left > 0) {
                parts.push(hole);
            }
        }
        parts
    }
}

/// Memory of ours, of which a request uses the begin.
pub struct Buffer {
    region: MmapRegion,
    len: usize,
}

impl Buffer {
    /// Least bytes that are made at once, so that the next request can use them, too. They are there when they are
    /// used.
    const LEAST: usize = 128 << 10;

    /// `old`, if there is one and it is large enough, or a new one; `None` where the host has no memory.
    pub fn new(old: Option<MmapRegion>, len: usize) -> Option<Buffer> {
        let region = match old.filter(|old| old.len() >= len) {
            Some(old) => old,
            None => MmapRegion::new(len.max(Buffer::LEAST)).ok()?,
        };
        Some(Buffer { region, len })
    }

    /// Fills it.
    pub fn fill(&self, data: &[u8]) {
        self.region.as_volatile_slice().copy_from(data);
    }

    /// What is in it, and the memory itself.
    pub fn into_parts(self) -> (Vec<u8>, MmapRegion) {
        let mut data = vec![0; self.len];
        self.region.as_volatile_slice().copy_to(&mut data[..]);
        (data, self.region)
    }
}

impl RequestMemory for Buffer {
    fn parts(&self) -> Vec<VolatileSlice<'_>> {
        self.region.as_volatile_slice().subslice(0, self.len).into_iter().collect()
    }
}
