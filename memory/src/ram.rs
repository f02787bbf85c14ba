//! Host memory that guest RAM, ROM and video memory are made of (QEMU's `RAMBlock`).

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr;

use rustix::fs::{FallocateFlags, MemfdFlags};
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
    },
}

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

    /// `size` bytes of a memfd, which other processes can be given.
    ///
    /// # Errors
    /// When the host refuses the file or the mapping.
    pub fn memfd(name: &str, size: u64, share: bool, flags: MemfdFlags) -> io::Result<RamBlock> {
        let file = File::from(rustix::fs::memfd_create(name, flags | MemfdFlags::CLOEXEC)?);
        file.set_len(size)?;
        RamBlock::new(name, size, RamSource::File { file, offset: 0, share })
    }

    /// `size` bytes of `source`.
    ///
    /// # Errors
    /// When the host refuses the mapping.
    pub fn new(name: &str, size: u64, source: RamSource) -> io::Result<RamBlock> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let (kind, file) = match source {
            RamSource::Anonymous => (MapFlags::PRIVATE, None),
            RamSource::SharedAnonymous => (MapFlags::SHARED, None),
            RamSource::File { file, offset, share } => {
                let kind = if share { MapFlags::SHARED } else { MapFlags::PRIVATE };
                (kind, Some(FileOffset::new(file, offset)))
            }
        };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let host = HostRange::map(size, protection, kind | MapFlags::NORESERVE, file.as_ref())?;
        let mut builder = MmapRegionBuilder::new(size)
            .with_mmap_prot(protection.bits() as i32)
            .with_mmap_flags((kind | MapFlags::NORESERVE).bits() as i32);
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

    /// Asks the host for single pages in `len` bytes from `offset`: memory of which little is used should not
    /// cost a huge page to be zeroed. Of no consequence where the host does not do it.
    pub fn avoid_huge_pages(&self, offset: u64, len: u64) {
        let Some(slice) = self.slice(offset, len) else { return };
        let start = slice.ptr_guard_mut().as_ptr().cast::<std::ffi::c_void>();
        // SAFETY: the range lies in this block's mapping, and the advice leaves its contents alone.
        #[allow(unsafe_code)]
        let _ = unsafe { rustix::mm::madvise(start, slice.len(), Advice::LinuxNoHugepage) };
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
    /// Maps at least `size` bytes at a multiple of [`HUGE_PAGE`], or of the file's pages where they are larger.
    fn map(
        size: usize,
        protection: ProtFlags,
        flags: MapFlags,
        file: Option<&FileOffset>,
    ) -> io::Result<Self> {
        let align = alignment(file)?;
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

/// What the start of a mapping is a multiple of.
fn alignment(file: Option<&FileOffset>) -> io::Result<usize> {
    let Some(file) = file else { return Ok(HUGE_PAGE) };
    let statfs = rustix::fs::fstatfs(file.file())?;
    let page = if statfs.f_type == HUGETLBFS_MAGIC { statfs.f_bsize as usize } else { 0 };
    Ok(page.max(HUGE_PAGE))
}
