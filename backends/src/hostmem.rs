//! Guest memory's backing. Source: QEMU `backends/hostmem.c`, `hostmem-ram.c`, `hostmem-file.c`,
//! `hostmem-memfd.c`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use memory::vm_memory::Bytes;
use memory::{MemoryRegion, RamBlock, RamSource};
use qom::{
    Class, ClassInit, Object, ObjectBase, ObjectType, Property, PropertyType, Result, Size, UserCreatable,
    bail, object_new,
};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::param::page_size;
use util::log::OsError;

/// The root part of every memory backend.
#[derive(Object)]
#[object(name = "memory-backend", parent = ObjectBase, abstract, class_init = class_init)]
pub struct HostMemory {
    parent: ObjectBase,
    /// Size of the memory region (ex: 500M)
    #[property]
    size: Property<Size>,
    /// Mark the memory as private to QEMU or shared
    #[property]
    share: Property<bool>,
    /// Preallocate memory
    #[property]
    prealloc: Property<bool>,
    region: OnceLock<MemoryRegion>,
}

/// Private anonymous memory, shared with `share=on`.
#[derive(Object)]
#[object(name = "memory-backend-ram", parent = HostMemory, interfaces(dyn UserCreatable))]
pub struct MemoryBackendRam {
    parent: HostMemory,
}

/// Memory of a file: shared memory with other processes, huge pages of a hugetlbfs.
#[derive(Object)]
#[object(name = "memory-backend-file", parent = HostMemory, interfaces(dyn UserCreatable))]
pub struct MemoryBackendFile {
    parent: HostMemory,
    /// The file, or a folder to make an unnamed file in
    #[property]
    mem_path: Property<Option<String>>,
}

/// Memory of a memfd, which can be handed to other processes.
#[derive(Object)]
#[object(name = "memory-backend-memfd", parent = HostMemory, interfaces(dyn UserCreatable),
    instance_init = MemoryBackendMemfd::share_by_default)]
pub struct MemoryBackendMemfd {
    parent: HostMemory,
    /// Use huge pages
    #[property]
    hugetlb: Property<bool>,
    /// Huge pages size (ex: 2M, 1G)
    #[property]
    hugetlbsize: Property<Size>,
    /// Seal growing & shrinking
    #[property(default = true)]
    seal: Property<bool>,
}

qom::type_init!(HostMemory, MemoryBackendRam, MemoryBackendFile, MemoryBackendMemfd);

/// No backend has no memory.
fn class_init(class: &mut Class) {
    let Some(mut size) = class.property("size").cloned() else { return };
    let Some(set) = size.set.take() else { return };
    size.set = Some(Arc::new(move |object, input| {
        if Size::parse("size", input)?.0 == 0 {
            bail!("property 'size' of {} doesn't take value '0'", object.type_name());
        }
        set(object, input)
    }));
    class.add_property(size);
}

impl<T: UserCreatable> ClassInit<T> for HostMemory {
    fn class_init(_: &mut Class) {}
}

impl HostMemory {
    /// Whether a machine or a device uses the memory.
    pub fn is_mapped(&self) -> bool {
        self.region.get().is_some_and(MemoryRegion::is_mapped)
    }

    /// The memory, once it is complete.
    pub fn region(&self) -> Option<MemoryRegion> {
        self.region.get().cloned()
    }

    fn checked_size(&self) -> Result<u64> {
        match self.size.get().0 {
            0 => bail!("property 'size' of {} doesn't take value '0'", self.class().name()),
            size => Ok(size),
        }
    }

    fn name(&self) -> String {
        self.parent().map(|(_, name)| name).unwrap_or_default()
    }

    fn complete_with(&self, make: impl FnOnce(&str, u64) -> io::Result<RamBlock>) -> Result<()> {
        let size = self.checked_size()?;
        // Memory comes in pages; what is beyond the last byte asked for is not the guest's.
        let mapped = size.next_multiple_of(page_size() as u64);
        let name = self.name();
        let block = make(&name, mapped).map_err(|error| {
            qom::Error::new(format!("cannot set up guest memory '{name}': {}", OsError(error)))
        })?;
        if self.prealloc.get() {
            prealloc(&block);
        }
        let region = MemoryRegion::ram(&name, block);
        region.set_size(size.into());
        self.base().freeze(|object, name| format!("cannot change property {name} of {}", object.type_name()));
        let _ = self.region.set(region);
        Ok(())
    }
}

/// Touches every page.
fn prealloc(block: &RamBlock) {
    let Some(slice) = block.slice(0, block.size()) else { return };
    for at in (0..slice.len()).step_by(page_size()) {
        if let Ok(byte) = slice.read_obj::<u8>(at) {
            let _ = slice.write_obj(byte, at);
        }
    }
}

impl UserCreatable for MemoryBackendRam {
    fn can_be_deleted(&self) -> bool {
        !self.is_mapped()
    }

    fn required(&self) -> &'static [&'static str] {
        &["size"]
    }

    fn complete(self: Arc<Self>) -> Result<()> {
        let source = if self.share.get() { RamSource::SharedAnonymous } else { RamSource::Anonymous };
        self.complete_with(|name, size| RamBlock::new(name, size, source))
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
        let share = self.share.get();
        let wanted = self.checked_size()?.next_multiple_of(page_size() as u64);
        let file = open_backing(Path::new(&path), wanted).map_err(|error| {
            qom::Error::new(format!("can't open backing store {path} for guest RAM: {}", OsError(error)))
        })?;
        self.complete_with(|name, size| RamBlock::new(name, size, RamSource::File { file, offset: 0, share }))
            .map_err(|error| error.prepend(format!("mem-path={path}: ")))
    }
}

/// Opens or makes the file; in a folder, an unnamed one.
fn open_backing(path: &Path, size: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let file = if path.is_dir() {
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::CLOEXEC;
        File::from(rustix::fs::open(path, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?)
    } else {
        options.create(true).truncate(false).open(path)?
    };
    let metadata = file.metadata()?;
    if !metadata.file_type().is_char_device() && metadata.len() < size {
        file.set_len(size)?;
    }
    Ok(file)
}

impl MemoryBackendMemfd {
    fn share_by_default(&self) {
        self.share.set(true);
    }

    fn flags(&self) -> Result<MemfdFlags> {
        let mut flags = MemfdFlags::empty();
        if self.seal.get() {
            flags |= MemfdFlags::ALLOW_SEALING;
        }
        let page = self.hugetlbsize.get().0;
        if !self.hugetlb.get() {
            if page != 0 {
                bail!("'hugetlbsize' needs 'hugetlb=on'");
            }
            return Ok(flags);
        }
        flags |= MemfdFlags::HUGETLB;
        match page {
            0 => {}
            page if page.is_power_of_two() => flags |= MemfdFlags::from_bits_retain(page.ilog2() << 26),
            _ => bail!("Hugepage size must be a power of 2"),
        }
        Ok(flags)
    }
}

impl UserCreatable for MemoryBackendMemfd {
    fn can_be_deleted(&self) -> bool {
        !self.is_mapped()
    }

    fn required(&self) -> &'static [&'static str] {
        &["size"]
    }

    fn complete(self: Arc<Self>) -> Result<()> {
        let flags = self.flags()?;
        let (share, seal) = (self.share.get(), self.seal.get());
        self.complete_with(|name, size| {
            let block = RamBlock::memfd(name, size, share, flags)?;
            if let (true, Some((file, _))) = (seal, block.file()) {
                rustix::fs::fcntl_add_seals(file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
            }
            Ok(block)
        })
    }
}

/// The memory backend called `id`.
///
/// # Errors
/// When there is none.
pub fn find_memory_backend(id: &str) -> Result<Arc<dyn Object>> {
    match qom::object_resolve_path(id) {
        Ok(object) if object.is_a(HostMemory::TYPE_NAME) => Ok(object),
        _ => bail!("Memory backend '{id}' not found"),
    }
}

/// The backend of a machine for which none was named: plain memory called `name`.
///
/// # Errors
/// When the host has no room for it.
pub fn default_memory_backend(name: &str, size: u64) -> Result<Arc<dyn Object>> {
    let object = object_new("memory-backend-ram")?;
    object.property_set_value("size", size)?;
    qom::object_get_objects_root().property_add_child(name, &object)?;
    match object.interface::<dyn UserCreatable>() {
        Some(backend) => backend.complete()?,
        None => bail!("memory-backend-ram cannot be completed"),
    }
    Ok(object)
}

/// The region of a complete backend (`host_memory_backend_get_memory`).
///
/// # Errors
/// When it is no memory backend, or used already.
pub fn memory_region(backend: &Arc<dyn Object>) -> Result<MemoryRegion> {
    let region = backend.cast::<HostMemory>().and_then(|b| b.region.get());
    match region {
        Some(region) if region.is_mapped() => bail!("memory backend '{}' is already in use", region.name()),
        Some(region) => Ok(region.clone()),
        None => bail!("'{}' is no complete memory backend", backend.type_name()),
    }
}
