//! Memory of a file. Source: QEMU `backends/hostmem-file.c`, `softmmu/physmem.c` (`qemu_ram_alloc_from_file`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use memory::{RamBlock, RamSource, file_page_size};
use qom::{Error, Object, Property, Result, Size, UserCreatable, bail};
use rustix::fs::{Mode, OFlags};
use rustix::param::page_size;
use util::log::OsError;

use super::HostMemory;

/// Memory of a file: shared memory with other processes, huge pages of a hugetlbfs.
#[derive(Object)]
#[object(name = "memory-backend-file", parent = HostMemory, interfaces(dyn UserCreatable))]
pub struct MemoryBackendFile {
    parent: HostMemory,
    /// The file, or a folder to make an unnamed file in
    #[property]
    mem_path: Property<Option<String>>,
    /// What the memory's address in the program is a multiple of
    #[property]
    align: Property<Size>,
    /// The file is opened for reading only, and the guest cannot write the memory
    #[property]
    readonly: Property<bool>,
    /// What is in the file is of no use to anybody afterwards
    #[property(live)]
    discard_data: Property<bool>,
}
qom::type_init!(MemoryBackendFile);

impl MemoryBackendFile {
    /// Whether the guest can only read it.
    pub fn is_readonly(&self) -> bool {
        self.readonly.get()
    }

    fn open(&self, path: &str, size: u64) -> Result<File> {
        let opened = open_backing(Path::new(path), self.readonly.get());
        let file = opened.map_err(|error| {
            Error::new(format!("can't open backing store {path} for guest RAM: {}", OsError(error)))
        })?;
        let page =
            file_page_size(&file).map_err(|error| Error::new(format!("{path}: {}", OsError(error))))?;
        let align = self.align.get().0;
        if !align.is_multiple_of(page) {
            bail!("alignment {align:#x} must be multiples of page size {page:#x}");
        }
        if align != 0 && !align.is_power_of_two() {
            bail!("alignment {align:#x} must be a power of two");
        }
        if size < page {
            bail!("memory size {size:#x} must be equal to or larger than page size {page:#x}");
        }
        match existing_size(&file).map_err(|error| Error::new(format!("{path}: {}", OsError(error))))? {
            Some(0) => file.set_len(size).map_err(|error| {
                Error::new(format!("can't open backing store {path} for guest RAM: {}", OsError(error)))
            })?,
            Some(len) if len < size => {
                bail!("backing store size {len:#x} does not match 'size' option {size:#x}")
            }
            _ => {}
        }
        Ok(file)
    }
}

/// How long the file is; none where that says nothing.
fn existing_size(file: &File) -> io::Result<Option<u64>> {
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    Ok((!kind.is_char_device() && !kind.is_block_device()).then_some(metadata.len()))
}

/// Opens or makes the file; in a folder, an unnamed one (`file_ram_open`).
fn open_backing(path: &Path, readonly: bool) -> io::Result<File> {
    if path.is_dir() && !readonly {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        return Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?));
    }
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    match OpenOptions::new().read(true).write(!readonly).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
        }
        opened => opened,
    }
}

impl UserCreatable for MemoryBackendFile {
    fn can_be_deleted(&self) -> bool {
        !self.is_mapped()
    }

    fn required(&self) -> &'static [&'static str] {
        &["size", "mem-path"]
    }

    fn complete(self: Arc<Self>) -> Result<()> {
        let Some(path) = self.mem_path.get().filter(|p| !p.is_empty()) else {
            bail!("mem-path property not set")
        };
        let file = self.open(&path, self.checked_size()?.next_multiple_of(page_size() as u64))?;
        let readonly = self.readonly.get();
        // Memory that only the guest is not to write is a private copy for those who may, such as a debugger.
        let share = self.share.get() && !readonly;
        let (reserve, align) = (self.reserve.get(), self.align.get().0);
        let source = RamSource::File { file, offset: 0, share, reserve, align };
        self.complete_with(|name, size| RamBlock::new(name, size, source))
            .map_err(|error| error.prepend(format!("mem-path={path}: ")))?;
        if let Some(region) = self.region.get() {
            region.set_readonly(readonly);
        }
        Ok(())
    }

    /// What the guest left in a shared file need not be written to the disk (`file_backend_unparent`).
    fn released(&self) {
        let block = self.region.get().and_then(|region| region.ram_block().cloned());
        if let Some(block) = block.filter(|block| self.discard_data.get() && block.is_shared()) {
            // A file system that cannot keeps it.
            let _ = block.discard(0, block.size());
        }
    }
}
