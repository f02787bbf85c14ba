//! Host memory that guest RAM, ROM and video memory are made of (QEMU's `RAMBlock`).

use std::fs::File;
use std::io;

use rustix::fs::MemfdFlags;
use rustix::mm::{Advice, MprotectFlags};
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, MmapRegion, VolatileSlice};

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
    /// When the size is no multiple of the page or the host refuses the mapping.
    pub fn new(name: &str, size: u64, source: RamSource) -> io::Result<RamBlock> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let noreserve = libc_map::NORESERVE;
        let builder = MmapRegionBuilder::new(size).with_mmap_prot(libc_map::READ_WRITE);
        let (builder, shared) = match source {
            RamSource::Anonymous => {
                (builder.with_mmap_flags(libc_map::ANONYMOUS | libc_map::PRIVATE | noreserve), false)
            }
            RamSource::SharedAnonymous => {
                (builder.with_mmap_flags(libc_map::ANONYMOUS | libc_map::SHARED | noreserve), true)
            }
            RamSource::File { file, offset, share } => {
                let kind = if share { libc_map::SHARED } else { libc_map::PRIVATE };
                (
                    builder.with_file_offset(FileOffset::new(file, offset)).with_mmap_flags(kind | noreserve),
                    share,
                )
            }
        };
        let mapping = builder.build().map_err(|error| match error {
            MmapRegionError::Mmap(error) => error,
            other => io::Error::other(other.to_string()),
        })?;
        Ok(RamBlock { name: name.to_owned(), mapping, shared })
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

    /// `len` bytes from `offset`; `None` when they are not all inside.
    pub fn slice(&self, offset: u64, len: u64) -> Option<VolatileSlice<'_>> {
        let offset = usize::try_from(offset).ok()?;
        let len = usize::try_from(len).ok()?;
        vm_memory::VolatileMemory::get_slice(&self.mapping, offset, len).ok()
    }
}

/// The mmap flags that vm-memory takes as numbers.
mod libc_map {
    use rustix::mm::{MapFlags, ProtFlags};

    pub const READ_WRITE: i32 = (ProtFlags::READ.bits() | ProtFlags::WRITE.bits()) as i32;
    pub const PRIVATE: i32 = MapFlags::PRIVATE.bits() as i32;
    pub const SHARED: i32 = MapFlags::SHARED.bits() as i32;
    pub const NORESERVE: i32 = MapFlags::NORESERVE.bits() as i32;
    /// `MAP_ANONYMOUS`, which rustix sets by itself and does not name.
    pub const ANONYMOUS: i32 = 0x20;
}
