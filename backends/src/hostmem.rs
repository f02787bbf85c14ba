//! Guest memory's backing. Source: QEMU `backends/hostmem.c`, `hostmem-ram.c`, `hostmem-file.c`,
//! `hostmem-memfd.c`.

mod file;

use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;

use memory::vm_memory::Bytes;
use memory::{MAX_HOST_NODES, MemoryRegion, NumaPolicy, RamBlock, RamSource};
use parking_lot::Mutex;
use qom::property::{PropertyInput, parse_int};
use qom::{
    Class, ClassInit, Error, Link, Object, ObjectBase, ObjectType, Property, PropertyType, Result, Size,
    UserCreatable, bail, object_new,
};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::param::page_size;
use util::log::OsError;

use crate::thread_context::ThreadContext;
pub use file::MemoryBackendFile;

/// x86's huge page: threads touch whole ones.
const HUGE_PAGE: u64 = 2 << 20;

qom::property_enum! {
    /// How memory is spread over the host's NUMA nodes.
    pub enum HostMemPolicy: "HostMemPolicy" {
        Default = "default", Preferred = "preferred", Bind = "bind", Interleave = "interleave",
    }
}

#[allow(clippy::derivable_impls)] // The macro declares it.
impl Default for HostMemPolicy {
    fn default() -> Self {
        HostMemPolicy::Default
    }
}

/// Nodes of the host; on the command line one, or a range `0-3`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNodes(pub Vec<u16>);

/// Numbers; on the command line one, or a range `0-3`.
pub(crate) fn parse_numbers(name: &str, input: PropertyInput<'_>) -> Result<Vec<u16>> {
    let text = match input {
        PropertyInput::Json(_) => return Vec::<u16>::parse(name, input),
        PropertyInput::Text(text) => text,
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text| parse_int(text).and_then(|value| u16::try_from(value).ok());
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first..=last).collect()),
        _ => bail!("Parameter '{name}' expects an uint64 value or range"),
    }
}

impl PropertyType for HostNodes {
    fn type_name() -> String {
        "int".to_owned()
    }
    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        let nodes = parse_numbers(name, input)?;
        match nodes.iter().find(|node| **node >= MAX_HOST_NODES) {
            Some(node) => bail!("Invalid {name} value: {node}"),
            None => Ok(HostNodes(nodes)),
        }
    }
    fn to_value(&self) -> qom::Value {
        self.0.to_value()
    }
}

/// What the machine says of all its memory.
#[derive(Clone, Copy, Debug)]
pub struct HostMemoryDefaults {
    /// The host may merge pages that are alike.
    pub merge: bool,
    /// Core dumps have it.
    pub dump: bool,
    /// It is touched from the start.
    pub prealloc: bool,
    /// Threads that touch it, where it is to be touched.
    pub prealloc_threads: u32,
}

static DEFAULTS: Mutex<HostMemoryDefaults> =
    Mutex::new(HostMemoryDefaults { merge: true, dump: true, prealloc: false, prealloc_threads: 1 });

/// For the backends that are made from now on.
pub fn set_host_memory_defaults(defaults: HostMemoryDefaults) {
    *DEFAULTS.lock() = defaults;
}

/// The root part of every memory backend.
#[derive(Object)]
#[object(name = "memory-backend", parent = ObjectBase, abstract, class_init = class_init,
    instance_init = HostMemory::take_defaults)]
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
    /// Number of CPU threads to use for prealloc
    #[property]
    prealloc_threads: Property<u32>,
    /// Context to use for creating CPU threads for preallocation
    #[property]
    prealloc_context: Property<Link<ThreadContext>>,
    /// Reserve swap space (or huge pages) if applicable
    #[property(default = true)]
    reserve: Property<bool>,
    /// Mark memory as mergeable
    #[property]
    merge: Property<bool>,
    /// Set to 'off' to exclude from core dump
    #[property]
    dump: Property<bool>,
    /// Set the NUMA policy
    #[property]
    policy: Property<HostMemPolicy>,
    /// Binds memory to the list of NUMA host nodes
    #[property]
    host_nodes: Property<HostNodes>,
    /// The memory's name is the object's path, not its id
    #[property]
    x_use_canonical_path_for_ramblock_id: Property<bool>,
    region: OnceLock<MemoryRegion>,
}

/// Private anonymous memory, shared with `share=on`.
#[derive(Object)]
#[object(name = "memory-backend-ram", parent = HostMemory, interfaces(dyn UserCreatable))]
pub struct MemoryBackendRam {
    parent: HostMemory,
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

qom::type_init!(HostMemory, MemoryBackendRam, MemoryBackendMemfd);

/// No backend has no memory, or no thread.
fn class_init(class: &mut Class) {
    for name in ["size", "prealloc-threads"] {
        let Some(mut property) = class.property(name).cloned() else { continue };
        let Some(set) = property.set.take() else { continue };
        property.set = Some(Arc::new(move |object, input| {
            set(object, input)?;
            if object.property_get(name)?.as_u64() == Some(0) {
                bail!("property '{name}' of {} doesn't take value '0'", object.type_name());
            }
            Ok(())
        }));
        class.add_property(property);
    }
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

    fn take_defaults(&self) {
        let HostMemoryDefaults { merge, dump, prealloc, prealloc_threads } = *DEFAULTS.lock();
        self.merge.set(merge);
        self.dump.set(dump);
        self.prealloc.set(prealloc);
        self.prealloc_threads.set(prealloc_threads);
    }

    fn name(&self) -> String {
        let Some((parent, name)) = self.parent() else { return String::new() };
        match parent.canonical_path().filter(|_| self.x_use_canonical_path_for_ramblock_id.get()) {
            Some(parent) => format!("{parent}/{name}"),
            None => name,
        }
    }

    /// Which nodes of the host the memory is for, where it is said.
    fn numa_policy(&self) -> Result<Option<(NumaPolicy, Vec<u16>)>> {
        let nodes = self.host_nodes.get().0;
        let policy = match self.policy.get() {
            HostMemPolicy::Default if nodes.is_empty() => return Ok(None),
            HostMemPolicy::Default => bail!(
                "host-nodes must be empty for policy default, or you should explicitly specify a policy other than \
                 default"
            ),
            policy if nodes.is_empty() => bail!("host-nodes must be set for policy {}", policy.as_str()),
            HostMemPolicy::Preferred => NumaPolicy::Preferred,
            HostMemPolicy::Bind => NumaPolicy::Bind,
            HostMemPolicy::Interleave => NumaPolicy::Interleave,
        };
        Ok(Some((policy, nodes)))
    }

    /// What the host is to do with the memory, before any of it is touched.
    fn advise(&self, block: &RamBlock) -> Result<()> {
        if self.merge.get() {
            block.set_mergeable();
        }
        if !self.dump.get() {
            block.leave_out_of_dumps();
        }
        if let Some((policy, nodes)) = self.numa_policy()? {
            block.bind(policy, &nodes).map_err(|error| {
                Error::new(format!("cannot bind memory to host NUMA nodes: {}", OsError(error)))
            })?;
        }
        Ok(())
    }

    /// Has the host find memory for all of the block.
    fn preallocated(&self, block: RamBlock) -> Result<RamBlock> {
        let threads = self.prealloc_threads.get();
        let work = move || prealloc(&block, threads).map(|()| block);
        let context = self.prealloc_context.get().object();
        let done = match context.as_ref().and_then(|context| context.cast::<ThreadContext>()) {
            Some(context) => context.run(work)?,
            None => work(),
        };
        done.map_err(|error| {
            Error::new(format!("qemu_prealloc_mem: preallocating memory failed: {}", OsError(error)))
        })
    }

    fn complete_with(&self, make: impl FnOnce(&str, u64) -> io::Result<RamBlock>) -> Result<()> {
        let size = self.checked_size()?;
        if self.prealloc.get() && !self.reserve.get() {
            bail!("'prealloc=on' and 'reserve=off' are incompatible");
        }
        // Memory comes in pages; what is beyond the last byte asked for is not the guest's.
        let mapped = size.next_multiple_of(page_size() as u64);
        let name = self.name();
        let block = make(&name, mapped).map_err(|error| {
            qom::Error::new(format!("cannot set up guest memory '{name}': {}", OsError(error)))
        })?;
        self.advise(&block)?;
        let block = if self.prealloc.get() { self.preallocated(block)? } else { block };
        let region = MemoryRegion::ram(&name, block);
        region.set_size(size.into());
        self.base().freeze(|object, name| format!("cannot change property {name} of {}", object.type_name()));
        let _ = self.region.set(region);
        Ok(())
    }
}

/// Has the host find memory for all of it, `threads` parts at a time.
fn prealloc(block: &RamBlock, threads: u32) -> io::Result<()> {
    let part = block.size().div_ceil(threads.into()).next_multiple_of(HUGE_PAGE);
    let parts = (0..block.size()).step_by(usize::try_from(part).unwrap_or(usize::MAX));
    thread::scope(|scope| {
        let populate = |start: u64| populate(block, start, part.min(block.size() - start));
        let workers = parts.map(|start| thread::Builder::new().spawn_scoped(scope, move || populate(start)));
        let workers = workers.collect::<io::Result<Vec<_>>>()?;
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Ok(())))
    })
}

fn populate(block: &RamBlock, start: u64, len: u64) -> io::Result<()> {
    match block.populate(start, len) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
        result => return result,
    }
    // An older kernel: touch every page.
    let Some(slice) = block.slice(start, len) else { return Ok(()) };
    for at in (0..slice.len()).step_by(page_size()) {
        if let Ok(byte) = slice.read_obj::<u8>(at) {
            let _ = slice.write_obj(byte, at);
        }
    }
    Ok(())
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
        let size = self.checked_size()?.next_multiple_of(page_size() as u64);
        let file = rustix::fs::memfd_create("memory-backend-memfd", flags | MemfdFlags::CLOEXEC);
        let file = File::from(
            file.map_err(|error| Error::new(format!("failed to create memfd: {}", OsError(error.into()))))?,
        );
        file.set_len(size)
            .map_err(|error| Error::new(format!("failed to resize memfd to {size}: {}", OsError(error))))?;
        if self.seal.get() {
            rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
                .map_err(|error| Error::new(format!("failed to add seals {}", OsError(error.into()))))?;
        }
        let source = RamSource::File {
            file,
            offset: 0,
            share: self.share.get(),
            reserve: self.reserve.get(),
            align: 0,
        };
        self.complete_with(|name, size| RamBlock::new(name, size, source))
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
pub fn default_memory_backend(name: &str, size: u64, path: Option<&str>) -> Result<Arc<dyn Object>> {
    let kind = if path.is_some() { "memory-backend-file" } else { "memory-backend-ram" };
    let object = object_new(kind)?;
    if let Some(path) = path {
        object.property_set_value("mem-path", path)?;
    }
    object.property_set_value("size", size)?;
    qom::object_get_objects_root().property_add_child(name, &object)?;
    match object.interface::<dyn UserCreatable>() {
        Some(backend) => backend.complete()?,
        None => bail!("{kind} cannot be completed"),
    }
    Ok(object)
}

/// The region of a complete backend (`host_memory_backend_get_memory`).
///
/// # Errors
/// When it is no memory backend, used already, or not to be written.
pub fn memory_region(backend: &Arc<dyn Object>) -> Result<MemoryRegion> {
    if backend.cast::<MemoryBackendFile>().is_some_and(MemoryBackendFile::is_readonly) {
        let name = backend.base().parent().map(|(_, name)| name).unwrap_or_default();
        bail!("memory backend '{name}' is read-only, which a machine's memory cannot be");
    }
    let region = backend.cast::<HostMemory>().and_then(|b| b.region.get());
    match region {
        Some(region) if region.is_mapped() => bail!("memory backend '{}' is already in use", region.name()),
        Some(region) => Ok(region.clone()),
        None => bail!("'{}' is no complete memory backend", backend.type_name()),
    }
}
