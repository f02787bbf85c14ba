//! What a block driver is (`BlockDriver` in include/block/block_int-common.h), and buffers.

use std::io;
use std::sync::Arc;

use qom::{Result, bail};
use vm_memory::VolatileSlice;

use crate::backend::{Completion, Request, Submitted};
use crate::breakpoints::Breakpoints;
use crate::node::BlockNode;

/// Parts of guest memory or of our own that a request reads into or writes from, in order.
pub type IoVec<'s, 'm> = &'s [VolatileSlice<'m>];

/// Number of bytes in the parts.
pub fn iov_size(iov: IoVec<'_, '_>) -> u64 {
    iov.iter().map(|part| part.len() as u64).sum()
}

/// `len` bytes from `offset` of what the parts are together; what is beyond their end is left out.
pub fn iov_slice<'m>(iov: IoVec<'_, 'm>, offset: u64, len: u64) -> Vec<VolatileSlice<'m>> {
    let (mut skip, mut left) = (offset as usize, len as usize);
    let mut found = Vec::with_capacity(iov.len());
    for part in iov {
        if left == 0 {
            break;
        }
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        let take = left.min(part.len() - skip);
        found.extend(part.subslice(skip, take));
        left -= take;
        skip = 0;
    }
    found
}

/// Fills the parts with zeroes.
pub fn iov_zero(iov: IoVec<'_, '_>) {
    const ZEROES: [u8; 4096] = [0; 4096];
    for part in iov {
        for at in (0..part.len()).step_by(ZEROES.len()) {
            if let Ok(piece) = part.offset(at) {
                piece.copy_from(&ZEROES[..piece.len().min(ZEROES.len())]);
            }
        }
    }
}

/// Copies `from` to the start of the parts.
pub fn iov_copy_from(iov: IoVec<'_, '_>, from: &[u8]) {
    let mut from = from;
    for part in iov {
        let len = part.len().min(from.len());
        part.copy_from(&from[..len]);
        from = &from[len..];
    }
}

/// Copies from the start of the parts to `to`.
pub fn iov_copy_to(iov: IoVec<'_, '_>, to: &mut [u8]) {
    let mut at = 0;
    for part in iov {
        let len = part.len().min(to.len() - at);
        part.copy_to(&mut to[at..at + len]);
        at += len;
    }
}

/// A moment in a driver's work, which `blkdebug` below it can wait for; `as_str` is QEMU's name.
macro_rules! debug_events {
    ($($name:ident $text:literal,)*) => {
        /// A moment in a driver's work, which `blkdebug` below it can wait for (`BlkdebugEvent`).
        #[derive(qapi::QapiType, Clone, Copy, Debug, PartialEq, Eq)]
        #[qapi(name = "BlkdebugEvent")]
        #[allow(missing_docs)]
        pub enum DebugEvent {
            $(#[qapi(name = $text)] $name,)*
        }

        impl DebugEvent {
            /// The event of QEMU's name.
            pub fn by_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(DebugEvent::$name),)*
                    _ => None,
                }
            }
        }
    };
}

debug_events! {
    L1Update "l1_update", L1GrowAllocTable "l1_grow_alloc_table", L1GrowWriteTable "l1_grow_write_table",
    L1GrowActivateTable "l1_grow_activate_table", L2Load "l2_load", L2Update "l2_update",
    L2UpdateCompressed "l2_update_compressed", L2AllocCowRead "l2_alloc_cow_read",
    L2AllocWrite "l2_alloc_write", ReadAio "read_aio", ReadBackingAio "read_backing_aio",
    ReadCompressed "read_compressed", WriteAio "write_aio", WriteCompressed "write_compressed",
    VmstateLoad "vmstate_load", VmstateSave "vmstate_save", CowRead "cow_read", CowWrite "cow_write",
    ReftableLoad "reftable_load", ReftableGrow "reftable_grow", ReftableUpdate "reftable_update",
    RefblockLoad "refblock_load", RefblockUpdate "refblock_update",
    RefblockUpdatePart "refblock_update_part", RefblockAlloc "refblock_alloc",
    RefblockAllocHookup "refblock_alloc_hookup", RefblockAllocWrite "refblock_alloc_write",
    RefblockAllocWriteBlocks "refblock_alloc_write_blocks",
    RefblockAllocWriteTable "refblock_alloc_write_table",
    RefblockAllocSwitchTable "refblock_alloc_switch_table", ClusterAlloc "cluster_alloc",
    ClusterAllocBytes "cluster_alloc_bytes", ClusterFree "cluster_free", FlushToOs "flush_to_os",
    FlushToDisk "flush_to_disk", PwritevRmwHead "pwritev_rmw_head",
    PwritevRmwAfterHead "pwritev_rmw_after_head", PwritevRmwTail "pwritev_rmw_tail",
    PwritevRmwAfterTail "pwritev_rmw_after_tail", Pwritev "pwritev", PwritevZero "pwritev_zero",
    PwritevDone "pwritev_done", EmptyImagePrepare "empty_image_prepare",
    L1ShrinkWriteTable "l1_shrink_write_table", L1ShrinkFreeL2Clusters "l1_shrink_free_l2_clusters",
    CorWrite "cor_write", ClusterAllocSpace "cluster_alloc_space", None "none",
}

/// A driver's instance: what a node does. All may be called on any thread, several at once, and may wait.
///
/// Offsets are in bytes, any alignment, and within [`BlockDriver::length`], which the node has checked. Errors
/// are those of the host, which a guest's device sees as a failed request.
pub trait BlockDriver: Send + Sync {
    /// The driver's name, as in `driver=`.
    fn format_name(&self) -> &'static str;

    /// Size of the disk in bytes.
    ///
    /// # Errors
    /// What the host says.
    fn length(&self) -> io::Result<u64>;

    /// Reads.
    ///
    /// # Errors
    /// What the host says, or that the image is corrupt.
    fn preadv(&self, offset: u64, to: IoVec<'_, '_>) -> io::Result<()>;

    /// Reads what can be had without waiting, all or nothing: `None` when it cannot.
    fn try_preadv(&self, offset: u64, to: IoVec<'_, '_>) -> Option<io::Result<()>> {
        let _ = (offset, to);
        None
    }

    /// Writes what can be written without waiting, all or nothing that counts: `None` when it cannot.
    fn try_pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> Option<io::Result<()>> {
        let _ = (offset, from);
        None
    }

    /// Whether [`BlockDriver::submit`] may take requests.
    fn has_queue(&self) -> bool {
        false
    }

    /// Begins to read or write at `offset`, whatever the request says, and calls `done` later, on any thread; gives both
    /// back where somebody has to wait for it.
    fn submit(&self, offset: u64, request: Request, done: Completion) -> Submitted {
        let _ = offset;
        Err((request, done))
    }

    /// Whether it has the bytes from `offset` itself, rather than what is below it as a backing file, and for how many of
    /// them that is so: at least one.
    ///
    /// # Errors
    /// As [`BlockDriver::preadv`].
    fn allocation(&self, offset: u64, bytes: u64) -> io::Result<(bool, u64)> {
        let _ = offset;
        Ok((true, bytes))
    }

    /// Takes what it does not have itself in a range from its backing file.
    ///
    /// # Errors
    /// As [`BlockDriver::preadv`].
    fn populate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let _ = (offset, bytes);
        Ok(())
    }

    /// Lets go what waits for its turn, here and below, whatever is allowed: somebody waits for its end. Whether
    /// anything ever waits so.
    fn release(&self) -> bool {
        let waits: Vec<bool> = self.children().iter().map(|child| child.node.driver().release()).collect();
        waits.contains(&true)
    }

    /// Whether requests never wait, so that a device's own thread may carry them out.
    fn never_waits(&self) -> bool {
        false
    }

    /// Whether what is written beyond the end makes it longer.
    fn is_growable(&self) -> bool {
        false
    }

    /// Locks the files below, so that no other program writes to them, nor changes their size where `resizers` says.
    ///
    /// # Errors
    /// For the user: another has the file.
    fn keep_writers_out(&self, resizers: bool) -> Result<()> {
        self.children()
            .iter()
            .filter(|c| c.name != "backing")
            .try_for_each(|c| c.node.driver().keep_writers_out(resizers))
    }

    /// Writes.
    ///
    /// # Errors
    /// As [`BlockDriver::preadv`].
    fn pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> io::Result<()>;

    /// Makes a range read as zeroes; with `may_unmap` it need not keep room for data.
    ///
    /// # Errors
    /// As [`BlockDriver::preadv`].
    fn pwrite_zeroes(&self, offset: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
        let _ = may_unmap;
        write_zeroes_as_data(self, offset, bytes)
    }

    /// Says that what is in a range is not needed any more; it may do nothing.
    ///
    /// # Errors
    /// As [`BlockDriver::preadv`].
    fn pdiscard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let _ = (offset, bytes);
        Ok(())
    }

    /// Brings all that was written before to stable storage.
    ///
    /// # Errors
    /// What the host says.
    fn flush(&self) -> io::Result<()>;

    /// Brings what the driver itself holds back to the node below, but not to stable storage, where the user
    /// asked for speed (`cache=unsafe`).
    ///
    /// # Errors
    /// What the host says.
    fn flush_to_os(&self) -> io::Result<()> {
        Ok(())
    }

    /// Changes the size of the disk.
    ///
    /// # Errors
    /// For the user: when it cannot.
    fn truncate(&self, size: u64) -> Result<()> {
        let _ = size;
        bail!("Image format driver does not support resize")
    }

    /// The nodes below, with the name of the reference: `file`, `backing`, `image`.
    fn children(&self) -> Vec<&Child> {
        Vec::new()
    }

    /// A name that opens the same again, where one line of text does.
    fn filename(&self) -> Option<String> {
        None
    }

    /// A moment in the work of the driver above.
    fn debug_event(&self, event: DebugEvent) {
        let _ = event;
    }

    /// Where it holds requests for a test, if it does.
    fn breakpoints(&self) -> Option<&Breakpoints> {
        None
    }

    /// Bytes that it takes on the host, where that is known.
    fn allocated_size(&self) -> Option<u64> {
        self.children()
            .iter()
            .find(|child| child.name == "file")
            .and_then(|c| c.node.driver().allocated_size())
    }

    /// What only this driver counts (`BlockStatsSpecific`).
    fn specific_stats(&self) -> Option<serde_json::Value> {
        None
    }

    /// What only this format has to tell, as `query-block` shows it.
    fn image_details(&self) -> ImageDetails {
        ImageDetails::default()
    }
}

/// What a format has to tell of an image.
#[derive(Clone, Debug, Default)]
pub struct ImageDetails {
    /// Size of a cluster in bytes.
    pub cluster_size: Option<u64>,
    /// Whether it is marked as not closed properly.
    pub dirty: Option<bool>,
    /// Name of the file below, as the image has it.
    pub backing_filename: Option<String>,
    /// That file's format, as the image has it.
    pub backing_format: Option<String>,
    /// `ImageInfoSpecific`.
    pub specific: Option<serde_json::Value>,
}

/// Writes zeroes as data, for drivers that know no better.
pub(crate) fn write_zeroes_as_data<D: BlockDriver + ?Sized>(
    driver: &D,
    offset: u64,
    bytes: u64,
) -> io::Result<()> {
    const PIECE: u64 = 64 << 10;
    let mut zeroes = vec![0; bytes.min(PIECE) as usize];
    let zeroes = VolatileSlice::from(&mut zeroes[..]);
    let mut at = 0;
    while at < bytes {
        let len = PIECE.min(bytes - at);
        driver.pwritev(offset + at, &iov_slice(&[zeroes], 0, len))?;
        at += len;
    }
    Ok(())
}

/// A node's reference to one below it.
pub struct Child {
    /// What the driver calls it.
    pub name: &'static str,
    /// The node.
    pub node: Arc<BlockNode>,
    parent: u64,
}

impl Child {
    /// Refers to `node`, which will know of it.
    pub fn new(name: &'static str, node: Arc<BlockNode>) -> Self {
        let parent = node.add_parent(name);
        Child { name, node, parent }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.node.remove_parent(self.parent);
    }
}
