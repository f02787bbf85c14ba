//! Requests: from a chain of descriptors to the backend's, and back.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;

use block::backend::{Op, Request, RequestMemory};
use hw_virtio::{VirtQueue, VirtQueueElement};
use memory::vm_memory::VolatileSlice;

use super::VirtIOBlock;
use super::spec::{HEADER, RANGE, RANGE_UNMAP, kind, status};
use crate::conf::SECTOR;

/// What the driver must not do: the device is broken then.
pub struct Bad(pub &'static str);

/// Chains, as the memory of a request of the backend's: several where the driver's requests were merged.
pub struct Transfer {
    pub elements: Vec<VirtQueueElement>,
    /// Data goes to the guest.
    pub is_read: bool,
}

impl RequestMemory for Transfer {
    fn parts(&self) -> Vec<VolatileSlice<'_>> {
        // Header and status are not data.
        if self.is_read {
            let data = |chain: &VirtQueueElement| chain.writable_len().saturating_sub(1);
            self.elements.iter().flat_map(|chain| chain.writable_slices(0, data(chain))).collect()
        } else {
            let data = |chain: &VirtQueueElement| chain.readable_len();
            self.elements.iter().flat_map(|chain| chain.readable_slices(HEADER as u64, data(chain))).collect()
        }
    }

    fn requests(&self) -> u64 {
        self.elements.len() as u64
    }
}

/// What is given back to a queue.
pub struct QueueWork(hw_virtio::QueueWork);

impl Deref for QueueWork {
    type Target = hw_virtio::QueueWork;

    fn deref(&self) -> &hw_virtio::QueueWork {
        &self.0
    }
}

impl QueueWork {
    pub fn new(queue: Arc<VirtQueue>) -> Self {
        QueueWork(hw_virtio::QueueWork::new(queue))
    }

    /// A request is done.
    pub fn finish(&self, memory: Box<dyn RequestMemory>, status: u8) {
        let memory: Box<dyn Any> = memory;
        if let Ok(transfer) = memory.downcast::<Transfer>() {
            self.finish_elements(transfer.elements, status);
        }
    }

    /// Chains are done.
    pub fn finish_elements(&self, elements: impl IntoIterator<Item = VirtQueueElement>, status: u8) {
        self.0.finish_all(elements.into_iter().map(|element| {
            let len = element.writable_len();
            element.write(len.saturating_sub(1), &[status]);
            (element, len)
        }));
    }
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Reads a chain: a request for the backend, or `None` where it is done already.
///
/// # Errors
/// A chain without room for header and status.
pub fn parse(blk: &VirtIOBlock, work: &QueueWork, element: VirtQueueElement) -> Result<Option<Request>, Bad> {
    let (readable, writable) = (element.readable_len(), element.writable_len());
    if readable == 0 || writable == 0 {
        return Err(Bad("virtio-blk missing headers"));
    }
    let mut header = [0; HEADER];
    if element.read(0, &mut header) < HEADER {
        return Err(Bad("virtio-blk request outhdr too short"));
    }
    let (what, sector) = (le32(&header, 0) & !kind::BARRIER, le64(&header, 8));
    let now = |element, how| {
        work.finish_elements([element], how);
        Ok(None)
    };
    let request = |op, offset, bytes, element, is_read| {
        let memory = VirtIOBlock::transfer(element, is_read);
        Ok(Some(Request { op, offset, bytes, memory }))
    };
    match what {
        kind::IN | kind::OUT => {
            let is_read = what == kind::IN;
            let bytes = if is_read { writable - 1 } else { readable - HEADER as u64 };
            let op = if is_read { Op::Read } else { Op::Write };
            if !blk.is_in_range(sector, bytes) {
                blk.count_invalid(op);
                return now(element, status::IOERR);
            }
            request(op, sector * SECTOR, bytes, element, is_read)
        }
        kind::FLUSH => request(Op::Flush, 0, 0, element, false),
        kind::GET_ID => {
            let serial = blk.serial_bytes();
            let room = (writable - 1).min(serial.len() as u64) as usize;
            element.write(0, &serial[..room]);
            now(element, status::OK)
        }
        kind::DISCARD | kind::WRITE_ZEROES => parse_range(blk, work, element, what == kind::DISCARD),
        _ => now(element, status::UNSUPP),
    }
}

/// Reads the range of a discard or of a write of zeroes, as [`parse`] does.
fn parse_range(
    blk: &VirtIOBlock,
    work: &QueueWork,
    element: VirtQueueElement,
    is_discard: bool,
) -> Result<Option<Request>, Bad> {
    let mut range = [0; RANGE];
    let fits = element.readable_len() == (HEADER + RANGE) as u64;
    if !fits || element.read(HEADER as u64, &mut range) < RANGE {
        return Err(Bad("virtio-blk discard/write_zeroes header has another length than one range"));
    }
    let (sector, sectors, flags) = (le64(&range, 0), le32(&range, 8), le32(&range, 12));
    let op = if is_discard { Op::Discard } else { Op::WriteZeroes { may_unmap: flags != 0 } };
    let bytes = u64::from(sectors) * SECTOR;
    let refused = if flags & !RANGE_UNMAP != 0 || is_discard && flags != 0 {
        status::UNSUPP
    } else if sectors > blk.max_sectors(is_discard) || !blk.is_in_range(sector, bytes) {
        status::IOERR
    } else {
        let memory = VirtIOBlock::transfer(element, false);
        return Ok(Some(Request { op, offset: sector * SECTOR, bytes, memory }));
    };
    // Discards are not counted, as in QEMU.
    if !is_discard {
        blk.count_invalid(op);
    }
    work.finish_elements([element], refused);
    Ok(None)
}
