//! What a driver offers with one descriptor chain: buffers to be read, then buffers to be written.

use std::sync::Arc;

use memory::FlatView;
use memory::vm_memory::{Address, Bytes, GuestAddress, GuestMemory, Permissions, VolatileSlice};
use virtio_queue::desc::split::Descriptor;

use crate::spec::QUEUE_SIZE_MAX;

/// A buffer in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Buffer {
    address: GuestAddress,
    len: u32,
}

/// Bytes of a descriptor (virtio 1.2, section 2.7.5).
const DESCRIPTOR_SIZE: u32 = size_of::<Descriptor>() as u32;

/// A table of descriptors: a queue's, or one that a descriptor refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DescriptorTable {
    pub address: GuestAddress,
    /// Descriptors in it.
    pub entries: u32,
}

impl DescriptorTable {
    /// Shows the descriptors of the chain that begins at `head`. `virtio-queue`'s iterator ends where more than 4 GiB
    /// are offered, which QEMU takes.
    fn walk(
        mut self,
        memory: &FlatView,
        head: u16,
        mut each: impl FnMut(&Descriptor) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let (mut index, mut left, mut is_indirect) = (head, self.entries, false);
        loop {
            if left == 0 || u32::from(index) >= self.entries {
                return Err("a descriptor chain loops or leaves its table");
            }
            left -= 1;
            let place = self.address.checked_add(u64::from(index) * u64::from(DESCRIPTOR_SIZE));
            let descriptor = place.and_then(|place| memory.read_obj::<Descriptor>(place).ok());
            let Some(descriptor) = descriptor else { return Err("a descriptor is not in memory") };
            if descriptor.refers_to_indirect_table() {
                if is_indirect || descriptor.len() % DESCRIPTOR_SIZE != 0 {
                    return Err("an indirect descriptor refers to no table");
                }
                self = DescriptorTable {
                    address: descriptor.addr(),
                    entries: descriptor.len() / DESCRIPTOR_SIZE,
                };
                (index, left, is_indirect) = (0, self.entries, true);
                continue;
            }
            each(&descriptor)?;
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
        }
    }
}

/// The buffers of one descriptor chain, taken from a queue with [`VirtQueue::pop`](crate::VirtQueue::pop) and given
/// back with [`VirtQueue::push`](crate::VirtQueue::push).
///
/// All of it is memory, as the map was when the element was taken; the guest may change the contents at any time.
/// Positions count from the start of the buffers of one direction, whatever pieces they come in.
#[derive(Debug)]
pub struct VirtQueueElement {
    pub(crate) head: u16,
    /// The queue's life that it belongs to: a reset begins another.
    pub(crate) generation: u32,
    memory: Arc<FlatView>,
    readable: Vec<Buffer>,
    writable: Vec<Buffer>,
}

impl VirtQueueElement {
    /// Checks the chain that begins at `head` of a queue's descriptor table, to its end.
    ///
    /// # Errors
    /// What is wrong with it, for the log: it loops, is too long, has buffers in the wrong order, of no length or
    /// outside memory.
    pub(crate) fn new(
        table: DescriptorTable,
        head: u16,
        memory: Arc<FlatView>,
        generation: u32,
    ) -> Result<VirtQueueElement, &'static str> {
        let mut element = VirtQueueElement {
            head,
            generation,
            memory: memory.clone(),
            readable: Vec::new(),
            writable: Vec::new(),
        };
        table.walk(&memory, head, |descriptor| {
            element.add(descriptor.addr(), descriptor.len(), descriptor.is_write_only())
        })?;
        Ok(element)
    }

    fn add(&mut self, address: GuestAddress, len: u32, is_writable: bool) -> Result<(), &'static str> {
        let (buffers, access) = match is_writable {
            true => (&mut self.writable, Permissions::Write),
            false if !self.writable.is_empty() => return Err("a readable buffer follows a writable one"),
            false => (&mut self.readable, Permissions::Read),
        };
        if len == 0 {
            return Err("zero sized buffers are not allowed");
        }
        if buffers.len() >= QUEUE_SIZE_MAX.into() {
            return Err("a descriptor chain is too long");
        }
        if !self.memory.check_range(address, len as usize, access) {
            return Err("a buffer is not in memory");
        }
        buffers.push(Buffer { address, len });
        Ok(())
    }

    /// Memory as it was when the element was taken.
    pub fn memory(&self) -> &Arc<FlatView> {
        &self.memory
    }

    /// Address and length of each writable buffer.
    pub fn writable_buffers(&self) -> impl Iterator<Item = (u64, u32)> {
        self.writable.iter().map(|buffer| (buffer.address.0, buffer.len))
    }

    /// Length of the first buffer of each direction, readable and writable; 0 without one.
    pub fn first_lens(&self) -> (u64, u64) {
        let first = |buffers: &[Buffer]| buffers.first().map_or(0, |buffer| buffer.len.into());
        (first(&self.readable), first(&self.writable))
    }

    /// Bytes that the driver offers for reading.
    pub fn readable_len(&self) -> u64 {
        self.readable.iter().map(|buffer| u64::from(buffer.len)).sum()
    }

    /// Bytes that it offers for writing.
    pub fn writable_len(&self) -> u64 {
        self.writable.iter().map(|buffer| u64::from(buffer.len)).sum()
    }

    /// Copies from the readable buffers, `offset` bytes into them; gives how many bytes there were.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces(&self.readable, Permissions::Read, offset, data.len() as u64) {
            done += piece.copy_to(data.get_mut(done..).unwrap_or_default());
        }
        done
    }

    /// Copies into the writable buffers, `offset` bytes into them; gives how many bytes fitted.
    pub fn write(&self, offset: u64, data: &[u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces(&self.writable, Permissions::Write, offset, data.len() as u64) {
            let rest = data.get(done..).unwrap_or_default();
            // A piece is as long as it says, and a write up to its length cannot fail.
            done += piece.write(rest, 0).unwrap_or_default();
        }
        done
    }

    /// The memory of `len` readable bytes from `offset`, in pieces: for system calls that take several.
    pub fn readable_slices(&self, offset: u64, len: u64) -> impl Iterator<Item = VolatileSlice<'_>> {
        self.pieces(&self.readable, Permissions::Read, offset, len)
    }

    /// The memory of `len` writable bytes from `offset`, in pieces.
    pub fn writable_slices(&self, offset: u64, len: u64) -> impl Iterator<Item = VolatileSlice<'_>> {
        self.pieces(&self.writable, Permissions::Write, offset, len)
    }

    fn pieces<'a>(
        &'a self,
        buffers: &'a [Buffer],
        access: Permissions,
        offset: u64,
        len: u64,
    ) -> impl Iterator<Item = VolatileSlice<'a>> {
        let (mut skip, mut left) = (offset, len);
        let parts = buffers.iter().filter_map(move |buffer| {
            let len = u64::from(buffer.len);
            let skipped = skip.min(len);
            skip -= skipped;
            let part = (len - skipped).min(left);
            left -= part;
            // It lies in memory, so it does not overflow.
            (part > 0).then_some((GuestAddress(buffer.address.0.wrapping_add(skipped)), part as usize))
        });
        // Checked when the element was made, in the same view.
        parts.flat_map(move |(address, len)| {
            self.memory.get_slices(address, len, access).into_iter().flatten().filter_map(Result::ok)
        })
    }
}
