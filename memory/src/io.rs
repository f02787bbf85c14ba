//! Accesses through a view: split at region borders and sizes, memory by volatile slices, the rest by handlers.
//!
//! Source: QEMU `softmmu/physmem.c` (`flatview_read_continue`, `flatview_write_continue`).

use std::fs::File;
use std::io::{Error, ErrorKind, Seek, SeekFrom};

use vm_memory::{Bytes, ReadVolatile};

use crate::access::{log_invalid, log_unassigned, mask};
use crate::region::RegionKind;
use crate::{AccessRules, FlatRange, FlatView, MemTxResult, RegionOps};

/// Ports with nothing behind them: the bus floats high.
pub(crate) struct UnassignedIo;

impl RegionOps for UnassignedIo {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        u64::MAX
    }
    fn write(&self, _offset: u64, _value: u64, _size: u8) {}
    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 8).allow_unaligned()
    }
}

impl FlatRange {
    /// The handlers that reads go to.
    #[inline]
    fn read_ops(&self) -> Option<&dyn RegionOps> {
        match self.region.kind() {
            RegionKind::Io(ops) => Some(&**ops),
            RegionKind::RomDevice(_, ops) if !self.romd_mode => Some(&**ops),
            _ => None,
        }
    }

    /// The handlers that writes go to.
    #[inline]
    fn write_ops(&self) -> Option<&dyn RegionOps> {
        match self.region.kind() {
            RegionKind::Io(ops) | RegionKind::RomDevice(_, ops) => Some(&**ops),
            _ => None,
        }
    }

    /// A read of 1, 2, 4 or 8 bytes, if its handlers can do it as it is.
    #[inline]
    pub(crate) fn read_whole(&self, address: u64, size: u8) -> Option<u64> {
        let offset = address - self.start + self.offset;
        let ops = self.read_ops()?;
        self.region.rules().is_plain(offset, size).then(|| ops.read(offset, size))
    }

    /// A write of 1, 2, 4 or 8 bytes, if its handlers can do it as it is.
    #[inline]
    pub(crate) fn write_whole(&self, address: u64, value: u64, size: u8) -> Option<()> {
        let offset = address - self.start + self.offset;
        let ops = self.write_ops()?;
        self.region.rules().is_plain(offset, size).then(|| ops.write(offset, value & mask(size), size))
    }

    /// Reads the front of `data`; gives how many bytes that was.
    fn read_part(&self, address: u64, data: &mut [u8]) -> (usize, MemTxResult) {
        let offset = address - self.start + self.offset;
        if let Some(ram) = self.readable_ram() {
            let len = bytes_left(self, address, data.len());
            let Some(data) = data.get_mut(..len) else { return (len, MemTxResult::DecodeError) };
            let done = ram.slice(offset, len as u64).map(|slice| slice.copy_to(data));
            return (len, if done == Some(len) { MemTxResult::Ok } else { MemTxResult::DecodeError });
        }
        // Handlers are not cut off at the end of what shows: a register's width counts, also where another
        // register decodes its middle, as port 0xcf9 does in the PCI address at 0xcf8.
        let Some(ops) = self.read_ops() else {
            return (bytes_left(self, address, data.len()), MemTxResult::DecodeError);
        };
        let size = self.region.rules().split(offset, data.len());
        let (value, result) = self.region.rules().dispatch_read(ops, offset, size);
        if result == MemTxResult::DecodeError {
            log_invalid(&self.region, Some(ops), offset, size, false);
        }
        store(data.get_mut(..size.into()).unwrap_or_default(), value);
        (size.into(), result)
    }

    /// Writes the front of `data`; gives how many bytes that was.
    fn write_part(&self, address: u64, data: &[u8]) -> (usize, MemTxResult) {
        let offset = address - self.start + self.offset;
        let len = bytes_left(self, address, data.len());
        if let Some(ram) = self.writable_ram() {
            return (len, copy_in(ram, offset, data.get(..len).unwrap_or_default()));
        }
        let size = self.region.rules().split(offset, data.len());
        let Some(ops) = self.write_ops() else {
            // ROM stays as it is.
            log_invalid(&self.region, None, offset, size, true);
            return (len.min(size.into()), MemTxResult::Ok);
        };
        let value = load(data.get(..size.into()).unwrap_or_default());
        let result = self.region.rules().dispatch_write(ops, offset, value, size);
        if result == MemTxResult::DecodeError {
            log_invalid(&self.region, Some(ops), offset, size, true);
        }
        (size.into(), result)
    }
}

fn copy_in(ram: &crate::RamBlock, offset: u64, data: &[u8]) -> MemTxResult {
    match ram.slice(offset, data.len() as u64) {
        Some(slice) => {
            slice.copy_from(data);
            MemTxResult::Ok
        }
        None => MemTxResult::DecodeError,
    }
}

/// How many of `len` bytes from `address` lie in the range.
fn bytes_left(range: &FlatRange, address: u64, len: usize) -> usize {
    usize::try_from(range.last - address).map_or(len, |left| len.min(left.saturating_add(1)))
}

/// The first bytes of `value`, least significant first, into `data` of 1 to 8 bytes.
#[inline]
fn store(data: &mut [u8], value: u64) {
    match data {
        [a] => *a = value as u8,
        [a, b] => [*a, *b] = (value as u16).to_le_bytes(),
        [a, b, c, d] => [*a, *b, *c, *d] = (value as u32).to_le_bytes(),
        _ => data.iter_mut().zip(value.to_le_bytes()).for_each(|(d, v)| *d = v),
    }
}

#[inline]
fn load(data: &[u8]) -> u64 {
    match *data {
        [a] => a.into(),
        [a, b] => u16::from_le_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
        _ => {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(data).for_each(|(b, d)| *b = *d);
            u64::from_le_bytes(bytes)
        }
    }
}

impl FlatView {
    /// Reads `data.len()` bytes from `address`; bytes that nothing answers for read as zero.
    pub fn read(&self, mut address: u64, mut data: &mut [u8]) -> MemTxResult {
        let mut result = MemTxResult::Ok;
        while !data.is_empty() {
            let done = match self.lookup(address) {
                Some(range) => {
                    let (done, part) = range.read_part(address, data);
                    result |= part;
                    done
                }
                None => {
                    let hole = self.hole_len(address, data.len());
                    log_unassigned(address, hole, false);
                    data.iter_mut().take(hole).for_each(|b| *b = 0);
                    result |= MemTxResult::DecodeError;
                    hole
                }
            };
            data = data.get_mut(done..).unwrap_or_default();
            address = address.wrapping_add(done as u64);
        }
        result
    }

    /// Writes `data` at `address`; bytes that go nowhere are dropped.
    pub fn write(&self, mut address: u64, mut data: &[u8]) -> MemTxResult {
        let mut result = MemTxResult::Ok;
        while !data.is_empty() {
            let done = match self.lookup(address) {
                Some(range) => {
                    let (done, part) = range.write_part(address, data);
                    result |= part;
                    done
                }
                None => {
                    let hole = self.hole_len(address, data.len());
                    log_unassigned(address, hole, true);
                    result |= MemTxResult::DecodeError;
                    hole
                }
            };
            data = data.get(done..).unwrap_or_default();
            address = address.wrapping_add(done as u64);
        }
        result
    }

    /// Gives the RAM at `len` bytes from `address` back to the host, where there is RAM, and whole pages of it.
    pub fn discard(&self, mut address: u64, mut len: u64) {
        while len > 0 {
            let (part, ram) = match self.lookup(address) {
                Some(range) => {
                    let offset = address - range.start + range.offset;
                    ((range.last - address).saturating_add(1), range.writable_ram().map(|ram| (ram, offset)))
                }
                None => (self.hole(address).max(1), None),
            };
            let part = part.min(len);
            if let Some((ram, offset)) = ram {
                // What the host does not take back stays, which costs memory and nothing else.
                let _ = ram.discard(offset, part);
            }
            let Some(next) = address.checked_add(part) else { return };
            (address, len) = (next, len - part);
        }
    }

    fn hole_len(&self, address: u64, len: usize) -> usize {
        usize::try_from(self.hole(address)).map_or(len, |hole| hole.clamp(1, len))
    }

    /// Writes `data` at `address` into memory, ROM included, as a loader does (`address_space_write_rom`).
    /// Bytes that are not memory are skipped.
    pub fn write_rom(&self, address: u64, data: &[u8]) -> MemTxResult {
        let mut data = data;
        self.for_each_ram(address, data.len() as u64, |slice| {
            let (now, rest) = data.split_at(slice.len().min(data.len()));
            slice.copy_from(now);
            data = rest;
            Ok(())
        })
        .map_or(MemTxResult::DecodeError, |()| MemTxResult::Ok)
    }

    /// Reads `len` bytes of `file` from `offset` straight into the memory at `address`, ROM included.
    ///
    /// # Errors
    /// When the file is shorter or cannot be read, or the addresses are not all memory.
    pub fn load_file(&self, address: u64, file: &mut File, offset: u64, len: u64) -> std::io::Result<()> {
        file.seek(SeekFrom::Start(offset))?;
        self.for_each_ram(address, len, |mut slice| {
            file.read_exact_volatile(&mut slice).map_err(Error::other)
        })
    }

    /// Fills `len` bytes of memory at `address`, ROM included, with zeroes.
    ///
    /// # Errors
    /// When the addresses are not all memory.
    pub fn zero_rom(&self, address: u64, len: u64) -> std::io::Result<()> {
        const ZEROES: [u8; 4096] = [0; 4096];
        self.for_each_ram(address, len, |slice| {
            let mut at = 0;
            while at < slice.len() {
                let len = (slice.len() - at).min(ZEROES.len());
                slice.write(&ZEROES[..len], at).map_err(Error::other)?;
                at += len;
            }
            Ok(())
        })
    }

    /// Calls `f` with the memory of each piece of `len` bytes at `address`, in order.
    fn for_each_ram(
        &self,
        mut address: u64,
        mut len: u64,
        mut f: impl FnMut(vm_memory::VolatileSlice<'_>) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        while len > 0 {
            let not_ram = || Error::new(ErrorKind::InvalidInput, format!("no memory at {address:#x}"));
            let range = self.lookup(address).ok_or_else(not_ram)?;
            let ram = range.region.ram_block().ok_or_else(not_ram)?;
            let part = len.min((range.last - address).saturating_add(1));
            f(ram.slice(address - range.start + range.offset, part).ok_or_else(not_ram)?)?;
            len -= part;
            address = address.wrapping_add(part);
        }
        Ok(())
    }
}
