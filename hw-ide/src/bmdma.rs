//! A channel's bus master: its registers, and the table of memory that it goes through (SFF-8038i, sections 3 and 4).

use memory::FlatView;
use memory::vm_memory::{GuestAddress, GuestMemory, Permissions};
use serde::{Deserialize, Serialize};

use crate::channel::DmaKind;
use crate::spec::bm::*;

/// A piece of guest memory: its address and length in bytes.
pub type Piece = (u64, u64);

/// The registers, and where in the table it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bmdma {
    /// Command.
    pub command: u8,
    /// Status.
    pub status: u8,
    /// Where the table is.
    pub address: u32,
    /// The next descriptor.
    current: u32,
    /// What is left of the one before.
    piece: (u32, u32),
    /// It was the last.
    is_last: bool,
    /// What a command wants of it: it waits for the bus master to start, or is carried out.
    pub waiting: Option<DmaKind>,
    /// Bytes that the descriptors of the transfer have, used or not.
    pub described: u64,
}

/// Reads what is memory; elsewhere are zeroes.
fn read(memory: Option<&FlatView>, address: u64, to: &mut [u8]) {
    to.fill(0);
    let Some(Ok(slices)) = memory.map(|m| m.get_slices(GuestAddress(address), to.len(), Permissions::Read))
    else {
        return;
    };
    let mut rest = to;
    for slice in slices.flatten() {
        let (now, later) = rest.split_at_mut(slice.len().min(rest.len()));
        slice.copy_to(now);
        rest = later;
    }
}

/// Writes to what is memory; what is for elsewhere is dropped.
fn write(memory: Option<&FlatView>, address: u64, from: &[u8]) {
    let Some(Ok(slices)) =
        memory.map(|m| m.get_slices(GuestAddress(address), from.len(), Permissions::Write))
    else {
        return;
    };
    let mut rest = from;
    for slice in slices.flatten() {
        let (now, later) = rest.split_at(slice.len().min(rest.len()));
        slice.copy_from(now);
        rest = later;
    }
}

impl Bmdma {
    /// It is active: a command may read and write memory.
    pub fn is_active(&self) -> bool {
        self.status & ACTIVE != 0
    }

    /// A command wants memory (`bmdma_start_dma`).
    pub fn begin(&mut self, kind: DmaKind) {
        self.waiting = Some(kind);
        (self.piece, self.is_last) = ((0, 0), false);
    }

    /// Goes to the begin of the table.
    pub fn rewind(&mut self) {
        self.current = self.address;
    }

    /// The command is over, with or without descriptors left (`bmdma_set_inactive`).
    pub fn end(&mut self, stay_active: bool) {
        self.waiting = None;
        self.status = if stay_active { self.status | ACTIVE } else { self.status & !ACTIVE };
    }

    /// The guest writes the status register.
    pub fn write_status(&mut self, value: u8) {
        self.status = value & CAPABLE | self.status & ACTIVE | self.status & !value & CLEARABLE;
    }

    /// Bytes of the table's address.
    pub fn read_address(&self, at: u64, size: u8) -> u64 {
        u64::from(self.address) >> (8 * at) & mask(size)
    }

    /// The guest writes bytes of the table's address.
    pub fn write_address(&mut self, at: u64, value: u64, size: u8) {
        let (shift, mask) = (8 * at, mask(size));
        let kept = u64::from(self.address) & !(mask << shift);
        // Tables begin at whole words.
        self.address = (kept | ((value & mask) << shift) & !3) as u32;
    }

    /// The next piece, or what is left of one; `None` at the end of the table.
    fn next(&mut self, memory: Option<&FlatView>) -> Option<(u32, u32)> {
        if self.piece.1 == 0 {
            if self.is_last || self.current.wrapping_sub(self.address) >= TABLE_SIZE {
                return None;
            }
            let mut descriptor = [0; 8];
            read(memory, self.current.into(), &mut descriptor);
            self.current = self.current.wrapping_add(8);
            let descriptor = u64::from_le_bytes(descriptor);
            let (address, size) = (descriptor as u32, (descriptor >> 32) as u32);
            // Lengths are even, and none is 64 KiB.
            let len = if size & 0xfffe == 0 { 0x1_0000 } else { size & 0xfffe };
            (self.piece, self.is_last) = ((address, len), size & END_OF_TABLE != 0);
        }
        Some(self.piece)
    }

    fn advance(&mut self, len: u32) {
        self.piece.0 = self.piece.0.wrapping_add(len);
        self.piece.1 -= len;
    }

    /// The first `limit` bytes that the rest of the table describes; `described` is how many there are in all
    /// (`bmdma_prepare_buf`). The table has no more than a page.
    pub fn prepare(&mut self, memory: Option<&FlatView>, limit: u64) -> Vec<Piece> {
        let (mut pieces, mut left) = (Vec::new(), limit);
        self.described = 0;
        while let Some((address, len)) = self.next(memory) {
            let used = left.min(len.into());
            if used > 0 {
                pieces.push((address.into(), used));
            }
            left -= used;
            self.described += u64::from(len);
            self.advance(len);
        }
        pieces
    }

    /// Writes data to the next bytes that the table describes; whether there was room (`bmdma_rw_buf`).
    pub fn write(&mut self, memory: Option<&FlatView>, data: &[u8]) -> bool {
        let mut rest = data;
        while !rest.is_empty() {
            let Some((address, len)) = self.next(memory) else { return false };
            let (now, later) = rest.split_at(rest.len().min(len as usize));
            write(memory, address.into(), now);
            self.advance(now.len() as u32);
            rest = later;
        }
        true
    }
}

fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
}
