//! Host memory that guest RAM, ROM and video memory are made of (QEMU's `RAMBlock`).

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr;

use rustix::fs::FallocateFlags;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, MmapRegion, VolatileSlice};

/// x86's huge page. Memory lies at a multiple of it, as in QEMU (`qemu_ram_mmap`): KVM maps a huge page of the
/// host's as one only where guest and host addresses agree in their lower bits.
const HUGE_PAGE: usize = 2 << 20;
/// `f_type` of hugetlbfs, whose `f_bsize` is the size of its pages (`linux/magic.h`).
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// What backs the memory.
#[derive(Debug, Default)]
pub enum RamSource {
    /// Private anonymous memory (`memory-backend-ram`).
    #[default]
    Anonymous,
    /// Shared anonymous memory (`memory-backend-ram,share=on`).
    SharedAnonymous,
    /// A file, from an offset in bytes (`memory-backend-file`, `memory-backend-memfd`).
    File {
        /// The file, already of the right length.
        file: File,
        /// Where in the file the memory starts.
        offset: u64,
        /// Whether writes reach the file.
        share: bool,
        /// Huge pages are set aside for all of it now. Other memory is never reserved: a guest may have more than the
        /// host.
        reserve: bool,
        /// What the memory's address is a multiple of, at least: a power of two, or 0.
        align: u64,
    },
}

/// Which nodes of the host's memory is taken from; the numbers are the kernel's (`linux/mempolicy.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumaPolicy {
    /// From one, where it has some left.
    Preferred = 1,
    /// From these only.
    Bind = 2,
    /// From these in turn.
    Interleave = 3,
}

/// Nodes of a host, at most, as QEMU has it (`MAX_NODES`).
pub const MAX_HOST_NODES: u16 = 128;

/// A block of host memory for the guest.
///
/// It is only read and written through [`RamBlock::slice`], volatile accesses: the guest may change it at any
/// time. The address of its mapping ([`RamBlock::host_address`]) is for KVM alone.
#[derive(Debug)]
pub struct RamBlock {
    name: String,
    mapping: MmapRegion,
    shared: bool,
    /// What `mapping` is in; dropped after it.
    _host: HostRange,
}

impl RamBlock {
    /// `size` bytes of private anonymous memory, touched only when used.
    ///
    /// # Errors
    /// When the host has no room in its address space.
    pub fn anonymous(name: &str, size: u64) -> io::Result<RamBlock> {
        RamBlock::new(name, size, RamSource::Anonymous)
    }

    /// `size` bytes of `source`.
    ///
    /// # Errors
    /// When the host refuses the mapping.
    pub fn new(name: &str, size: u64, source: RamSource) -> io::Result<RamBlock> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let (kind, file, reserve, align) = match source {
            RamSource::Anonymous => (MapFlags::PRIVATE, None, false, 0),
            RamSource::SharedAnonymous => (MapFlags::SHARED, None, false, 0),
            RamSource::File { file, offset, share, reserve, align } => {
                let kind = if share { MapFlags::SHARED } else { MapFlags::PRIVATE };
                (kind, Some(FileOffset::new(file, offset)), reserve, align)
            }
        };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags =
            if reserve && huge_page(file.as_ref())?.is_some() { kind } else { kind | MapFlags::NORESERVE };
        let align = usize::try_from(align).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let align = align.max(alignment(file.as_ref())?);
        let host = HostRange::map(size, protection, flags, file.as_ref(), align)?;
        let mut builder = MmapRegionBuilder::new(size)
            .with_mmap_prot(protection.bits() as i32)
            .with_mmap_flags(flags.bits() as i32);
        if let Some(file) = file {
            builder = builder.with_file_offset(file);
        }
        // SAFETY: the range is mapped, of this size, and unmapped only after the region is gone.
        #[allow(unsafe_code)]
        let builder = unsafe { builder.with_raw_mmap_pointer(host.start.cast()) };
        let mapping = builder.build().map_err(|error| match error {
            MmapRegionError::Mmap(error) => error,
            other => io::Error::other(other.to_string()),
        })?;
        Ok(RamBlock { name: name.to_owned(), mapping, shared: kind == MapFlags::SHARED, _host: host })
    }

    /// The block's name, as in `info ramblock`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.mapping.size() as u64
    }

    /// Whether other processes see what is written.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// The file behind it and the offset of its start, for backends in other processes.
    pub fn file(&self) -> Option<(&File, u64)> {
        self.mapping.file_offset().map(|f| (f.file(), f.start()))
    }

    /// Where it is mapped in this process, for `KVM_SET_USER_MEMORY_REGION` and `madvise`; dereferencing it
    /// would need `unsafe` and is for nobody.
    pub fn host_address(&self) -> u64 {
        self.mapping.as_ptr() as u64
    }

    /// Lets the host merge pages that are alike (KSM), where it can.
    pub fn set_mergeable(&self) {
        let _ = self.advise(0, self.size(), Advice::LinuxMergeable);
    }

    /// Leaves the memory out of this process's core dumps.
    pub fn leave_out_of_dumps(&self) {
        let _ = self.advise(0, self.size(), Advice::LinuxDontDump);
    }

    /// Has the host find memory for `len` bytes from `offset`; both are multiples of the page.
    ///
    /// # Errors
    /// When there is not enough; `EINVAL` where the host is older than Linux 5.14.
    pub fn populate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.advise(offset, len, Advice::LinuxPopulateWrite)
    }

    fn advise(&self, offset: u64, len: u64, advice: Advice) -> io::Result<()> {
        let Some(slice) = self.slice(offset, len) else { return Err(io::ErrorKind::InvalidInput.into()) };
        let start = slice.ptr_guard_mut().as_ptr().cast::<c_void>();
        // SAFETY: the range lies in this block's mapping, and none of the advice given changes its contents.
        #[allow(unsafe_code)]
        unsafe {
            rustix::mm::madvise(start, slice.len(), advice)?;
        }
        Ok(())
    }

    /// Says which of the host's nodes the memory is taken from, from now on and for what there is (`mbind`).
    ///
    /// # Errors
    /// What the host says; `InvalidInput` for a node of [`MAX_HOST_NODES`] or more.
    pub fn bind(&self, policy: NumaPolicy, nodes: &[u16]) -> io::Result<()> {
        const BITS: usize = libc::c_ulong::BITS as usize;
        let mut mask = [0 as libc::c_ulong; MAX_HOST_NODES as usize / BITS];
        for node in nodes.iter().map(|node| usize::from(*node)) {
            let Some(word) = mask.get_mut(node / BITS) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            *word |= 1 << (node % BITS);
        }
        // The kernel takes one bit less than it is told.
        let bits = libc::c_ulong::from(MAX_HOST_NODES) + 1;
        // MPOL_MF_STRICT, MPOL_MF_MOVE.
        let flags = 1 << 0 | 1 << 1;
        let (start, len) = (self.host_address(), self.size());
        // SAFETY: the range is this block's mapping, whose contents the call leaves alone; the mask outlives it and
        // has MAX_HOST_NODES bits.
        #[allow(unsafe_code)]
        let result = unsafe {
            libc::syscall(libc::SYS_mbind, start, len, policy as libc::c_long, mask.as_ptr(), bits, flags)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Asks the host for single pages in `len` bytes from `offset`: memory of which little is used should not
    /// cost a huge page to be zeroed. Of no consequence where the host does not do it.
    pub fn avoid_huge_pages(&self, offset: u64, len: u64) {
        let _ = self.advise(offset, len, Advice::LinuxNoHugepage);
    }

    /// Has the host take away and give back its mapping of `len` bytes from `offset`, with their contents, so
    /// that whoever shadows it (KVM) starts anew. Both are multiples of the page.
    pub fn drop_host_mapping(&self, offset: u64, len: u64) {
        let Some(slice) = self.slice(offset, len) else { return };
        let start = slice.ptr_guard_mut().as_ptr().cast::<std::ffi::c_void>();
        for protection in [MprotectFlags::empty(), MprotectFlags::READ | MprotectFlags::WRITE] {
            // SAFETY: the range lies in this block's mapping, which is guest RAM: Rust code reaches it through
            // volatile slices only, and no reference to it exists. An access from another thread while the
            // mapping is away faults, which only the test that asked for this can bring about.
            #[allow(unsafe_code)]
            let _ = unsafe { rustix::mm::mprotect(start, slice.len(), protection) };
        }
    }

    /// Gives `len` bytes from `offset` back to the host (`ram_block_discard_range`): they read as zero from then on, or
    /// as the file has them where the memory is a private copy of one. Only whole pages go.
    ///
    /// # Errors
    /// What the host says.
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let page = rustix::param::page_size() as u64;
        let Some(end) = offset.checked_add(len) else { return Err(io::ErrorKind::InvalidInput.into()) };
        let (start, end) = (offset.next_multiple_of(page), end / page * page);
        let Some(slice) = end.checked_sub(start).and_then(|len| self.slice(start, len)) else {
            return Ok(());
        };
        if slice.is_empty() {
            return Ok(());
        }
        if let Some((file, begin)) = self.file().filter(|_| self.shared) {
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(file, mode, begin + start, slice.len() as u64)?;
            return Ok(());
        }
        let advice = if self.shared { Advice::LinuxRemove } else { Advice::LinuxDontNeed };
        let address = slice.ptr_guard_mut().as_ptr().cast::<c_void>();
        // SAFETY: the range lies in this block's mapping, which is guest RAM: Rust code reaches it through volatile
        // slices only, no reference to it exists, and its contents may change at any time.
        #[allow(unsafe_code)]
        unsafe {
            rustix::mm::madvise(address, slice.len(), advice)?;
        }
        Ok(())
    }

    /// `len` bytes from `offset`; `None` when they are not all inside.
    pub fn slice(&self, offset: u64, len: u64) -> Option<VolatileSlice<'_>> {
        let offset = usize::try_from(offset).ok()?;
        let len = usize::try_from(len).ok()?;
        vm_memory::VolatileMemory::get_slice(&self.mapping, offset, len).ok()
    }
}

/// A mapping of this process.
#[derive(Debug)]
struct HostRange {
    start: *mut c_void,
    size: usize,
}

// SAFETY: the address is only ever unmapped, by the last owner.
#[allow(unsafe_code)]
unsafe impl Send for HostRange {}
// SAFETY: as above; a shared reference gives no access.
#[allow(unsafe_code)]
unsafe impl Sync for HostRange {}

impl HostRange {
    /// Maps at least `size` bytes at a multiple of `align`.
    fn map(
        size: usize,
        protection: ProtFlags,
        flags: MapFlags,
        file: Option<&FileOffset>,
        align: usize,
    ) -> io::Result<Self> {
        let no_room = || io::Error::from(io::ErrorKind::OutOfMemory);
        let size = size.checked_next_multiple_of(rustix::param::page_size()).ok_or_else(no_room)?;
        let reserved = size.checked_add(align).ok_or_else(no_room)?;
        // SAFETY: the kernel chooses the place, which nothing else uses.
        #[allow(unsafe_code)]
        let place = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            rustix::mm::mmap_anonymous(ptr::null_mut(), reserved, ProtFlags::empty(), flags)?
        };
        let reservation = HostRange { start: place, size: reserved };
        let start = place.map_addr(|address| address.next_multiple_of(align));
        // SAFETY: `size` bytes from `start` are part of the reservation, which they replace.
        #[allow(unsafe_code)]
        unsafe {
            let flags = flags | MapFlags::FIXED;
            match file {
                Some(file) => rustix::mm::mmap(start, size, protection, flags, file.file(), file.start())?,
                None => rustix::mm::mmap_anonymous(start, size, protection, flags)?,
            };
        }
        std::mem::forget(reservation);
        let before = start.addr() - place.addr();
        drop(HostRange { start: place, size: before });
        drop(HostRange { start: start.wrapping_byte_add(size), size: align - before });
        Ok(HostRange { start, size })
    }
}

impl Drop for HostRange {
    fn drop(&mut self) {
        if self.size > 0 {
            // SAFETY: the range is this one's own, and nothing refers to it any more.
            #[allow(unsafe_code)]
            let _ = unsafe { rustix::mm::munmap(self.start, self.size) };
        }
    }
}

/// The size of a file's pages in bytes (`qemu_fd_getpagesize`).
///
/// # Errors
/// What the host says.
pub fn file_page_size(file: &File) -> io::Result<u64> {
    let huge = huge_page(Some(&FileOffset::new(file.try_clone()?, 0)))?;
    Ok(huge.unwrap_or_else(rustix::param::page_size) as u64)
}

/// The size of a file's pages, if they are huge ones.
fn huge_page(file: Option<&FileOffset>) -> io::Result<Option<usize>> {
    let Some(file) = file else { return Ok(None) };
    let statfs = rustix::fs::fstatfs(file.file())?;
    Ok((statfs.f_type == HUGETLBFS_MAGIC).then_some(statfs.f_bsize as usize))
}

/// What the start of a mapping is a multiple of.
fn alignment(file: Option<&FileOffset>) -> io::Result<usize> {
    Ok(huge_page(file)?.unwrap_or(HUGE_PAGE).max(HUGE_PAGE))
}
