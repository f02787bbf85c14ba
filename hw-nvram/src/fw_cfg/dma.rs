//! The DMA interface of fw_cfg ("Guest-side DMA Interface" in docs/specs/fw_cfg.txt).

use std::sync::Arc;

use thiserror::Error;

use super::{Data, FwCfg, Item, spec};

/// Zeroes for what the guest reads beyond the end of an item are written in pieces of this many bytes.
const ZEROES: [u8; 4096] = [0; 4096];

/// The guest named an address where there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("DMA to or from {0:#x} failed")]
pub struct DmaError(pub u64);

/// The guest's memory as devices reach it.
pub trait DmaMemory {
    /// Reads `buf.len()` bytes at `addr`.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError>;
    /// Writes `buf` at `addr`.
    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), DmaError>;
}

/// FWCfgDmaAccess.
struct DmaAccess {
    control: u32,
    length: u32,
    address: u64,
}

impl DmaAccess {
    fn parse(bytes: [u8; spec::DMA_ACCESS_SIZE]) -> Self {
        let all = u128::from_be_bytes(bytes);
        Self { control: (all >> 96) as u32, length: (all >> 64) as u32, address: all as u64 }
    }
}

/// The part of the selected item that a transfer covers.
struct Span {
    key: u16,
    data: Data,
    start: usize,
    length: usize,
}

impl Span {
    fn bytes(&self) -> &[u8] {
        (*self.data).as_ref().get(self.start..).and_then(|rest| rest.get(..self.length)).unwrap_or_default()
    }
}

impl FwCfg {
    /// Reads the DMA address register as the CPU sees it, its first byte in the lowest bits.
    pub fn read_dma(&self, offset: u64, size: u32) -> u64 {
        if !self.dma_enabled {
            return 0;
        }
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = spec::DMA_SIGNATURE.iter().skip(skip).take(size as usize);
        bytes.rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    /// Writes the DMA address register, which is big-endian: the high half (offset 0), the low half (offset
    /// 4) or all of it. The low half starts the transfer.
    pub fn write_dma(&self, offset: u64, value: u64, size: u32, memory: &dyn DmaMemory) {
        if !self.dma_enabled {
            return;
        }
        let half = u64::from((value as u32).swap_bytes());
        let address = match (offset, size) {
            (0, 4) => {
                self.contents.lock().state.dma_addr = half << 32;
                return;
            }
            (4, 4) => std::mem::take(&mut self.contents.lock().state.dma_addr) | half,
            (0, 8) => {
                self.contents.lock().state.dma_addr = 0;
                value.swap_bytes()
            }
            _ => return,
        };
        let mut access = [0; spec::DMA_ACCESS_SIZE];
        let result = memory
            .read(address, &mut access)
            .and_then(|()| self.transfer(&DmaAccess::parse(access), memory))
            .map_or(spec::DMA_CTL_ERROR, |()| 0);
        // If even this fails, there is nowhere left to tell the guest.
        let _ = memory.write(address, &result.to_be_bytes());
    }

    fn transfer(&self, access: &DmaAccess, memory: &dyn DmaMemory) -> Result<(), DmaError> {
        if access.control & spec::DMA_CTL_SELECT != 0 {
            self.select((access.control >> 16) as u16);
        }
        if access.control & spec::DMA_CTL_READ != 0 {
            let span = self.advance(access.length);
            let bytes = span.as_ref().map(Span::bytes).unwrap_or_default();
            if !bytes.is_empty() {
                memory.write(access.address, bytes)?;
            }
            let end = access.address.wrapping_add(bytes.len() as u64);
            fill_with_zeroes(end, u64::from(access.length).saturating_sub(bytes.len() as u64), memory)
        } else if access.control & spec::DMA_CTL_WRITE != 0 && access.length != 0 {
            self.overwrite(access, memory)
        } else if access.control & spec::DMA_CTL_SKIP != 0 {
            self.advance(access.length);
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Moves the offset by up to `length`, not beyond the item's end; `None` if there is nothing left of it.
    fn advance(&self, length: u32) -> Option<Span> {
        let mut contents = self.contents.lock();
        let key = contents.state.cur_entry;
        let start = contents.state.cur_offset;
        let data = contents.item(key)?.data.clone();
        // Items are shorter than 4 GiB.
        let left = ((*data).as_ref().len() as u32).checked_sub(start).filter(|&left| left != 0)?;
        let length = left.min(length);
        contents.state.cur_offset += length;
        Some(Span { key, data, start: start as usize, length: length as usize })
    }

    /// Copies memory over part of a writable item. It must fit.
    fn overwrite(&self, access: &DmaAccess, memory: &dyn DmaMemory) -> Result<(), DmaError> {
        let refused = DmaError(access.address);
        let span = self.advance(access.length).ok_or(refused)?;
        let writable = self.contents.lock().item(span.key).is_some_and(|item| item.writable);
        if !writable || span.length != access.length as usize {
            return Err(refused);
        }
        let mut bytes = vec![0; span.length];
        memory.read(access.address, &mut bytes)?;
        let (content, callback) = {
            let mut contents = self.contents.lock();
            let item = contents.item_mut(span.key).ok_or(refused)?;
            item.replace(span.start, &bytes).ok_or(refused)?;
            (item.data.clone(), item.on_write.clone())
        };
        if let Some(callback) = callback {
            callback((*content).as_ref());
        }
        Ok(())
    }
}

impl Item {
    /// Replaces the bytes from `start` on; `None` if they are not there (any more).
    fn replace(&mut self, start: usize, bytes: &[u8]) -> Option<()> {
        let mut content = self.bytes().to_vec();
        content.get_mut(start..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.data = Arc::new(content);
        Some(())
    }
}

fn fill_with_zeroes(mut address: u64, mut length: u64, memory: &dyn DmaMemory) -> Result<(), DmaError> {
    while length != 0 {
        let piece = length.min(ZEROES.len() as u64);
        memory.write(address, ZEROES.get(..piece as usize).unwrap_or_default())?;
        address = address.wrapping_add(piece);
        length -= piece;
    }
    Ok(())
}
