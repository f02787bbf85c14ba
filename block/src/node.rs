//! Nodes and the graph of them (`BlockDriverState`, block.c).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use qapi::QapiType;
use qom::{Error, Result, bail};
use vm_memory::VolatileSlice;

use crate::backend::{Completion, Op, Request, Submitted};
use crate::driver::{BlockDriver, DebugEvent, IoVec, iov_size, iov_zero};
use crate::options::{
    BlockdevDetectZeroesOptions, BlockdevDiscardOptions, BlockdevDriver, BlockdevOptions, BlockdevRef,
};

/// Largest size of a disk (`BDRV_MAX_LENGTH`).
pub const MAX_LENGTH: u64 = i64::MAX as u64 & !((64 << 20) - 1);

/// What of the host's caching a node uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheMode {
    /// Around the page cache.
    pub direct: bool,
    /// Flushes are not carried out.
    pub no_flush: bool,
}

/// What a node below takes from the one above where its own options say nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inherited {
    /// Caching.
    pub cache: CacheMode,
    /// Nothing can be written.
    pub read_only: bool,
    /// Read-only where it cannot be opened for writing.
    pub auto_read_only: bool,
    /// Discards reach the driver.
    pub unmap: bool,
    /// Locks of others do not matter.
    pub force_share: bool,
    /// What is read from backing files is copied to the node, not to those below.
    pub copy_on_read: bool,
    /// An image format is above.
    pub format_above: bool,
    /// The format was guessed: what would make the guess another one must not be written.
    pub probed: bool,
    /// Images above in a chain of backing files.
    pub depth: u32,
}

/// A node of the graph: a driver's instance with what is common to all.
pub struct BlockNode {
    node_name: String,
    /// Whether users cannot know the name: it was made up.
    auto_name: bool,
    options: BlockdevOptions,
    mode: Inherited,
    read_only: AtomicBool,
    detect_zeroes: BlockdevDetectZeroesOptions,
    driver: Box<dyn BlockDriver>,
    parents: Mutex<BTreeMap<u64, &'static str>>,
    /// Something was written since the last flush.
    unflushed: AtomicBool,
    /// Highest byte written, plus one.
    write_highest: AtomicU64,
}

impl fmt::Debug for BlockNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockNode").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// All nodes, by name; those that only users' commands keep alive.
struct Graph {
    nodes: BTreeMap<String, Weak<BlockNode>>,
    /// In the order in which they were made.
    order: Vec<Weak<BlockNode>>,
    monitor: Vec<Arc<BlockNode>>,
}

static GRAPH: Mutex<Graph> =
    Mutex::new(Graph { nodes: BTreeMap::new(), order: Vec::new(), monitor: Vec::new() });
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A name that no user can give (`id_generate`): a count, and two digits to tell that it must not be guessed.
fn generated_name() -> String {
    let n = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("#block{n}{:02}", now.map_or(0, |d| d.subsec_micros() % 100))
}

/// A protocol's prefix, as of `nbd:`; paths that begin with `/` or `.` have none.
fn has_node_name_form(name: &str) -> bool {
    util::option::id_wellformed(name)
}

/// The node called `name`.
pub fn find_node(name: &str) -> Option<Arc<BlockNode>> {
    GRAPH.lock().nodes.get(name).and_then(Weak::upgrade)
}

/// All nodes, the newest first as QEMU lists them.
pub fn all_nodes() -> Vec<Arc<BlockNode>> {
    GRAPH.lock().order.iter().rev().filter_map(Weak::upgrade).collect()
}

/// The nodes that commands made.
pub fn monitor_nodes() -> Vec<Arc<BlockNode>> {
    GRAPH.lock().monitor.clone()
}

/// Leaves a node to the user's commands to keep.
pub fn monitor_add(node: Arc<BlockNode>) {
    GRAPH.lock().monitor.push(node);
}

/// Takes a node from the user's commands; nothing happens to one that is not theirs.
pub fn monitor_remove(node: &Arc<BlockNode>) {
    let mut graph = GRAPH.lock();
    let at = graph.monitor.iter().position(|other| Arc::ptr_eq(other, node));
    let removed = at.map(|at| graph.monitor.remove(at));
    drop(graph);
    drop(removed);
}

/// Opens what `reference` stands for: a node that is there, or a new one (`bdrv_open_inherit`).
///
/// # Errors
/// For the user: what does not exist or cannot be opened.
pub fn open_ref(reference: &BlockdevRef, inherited: Inherited) -> Result<Arc<BlockNode>> {
    match reference {
        BlockdevRef::Reference(name) => lookup(name),
        BlockdevRef::Definition(options) => open(options, inherited),
    }
}

/// The node that a device's name or a node-name stands for (`bdrv_lookup_bs`).
///
/// # Errors
/// When there is none.
pub fn lookup(name: &str) -> Result<Arc<BlockNode>> {
    if let Some(backend) = crate::backend::find(name) {
        return match backend.node() {
            Some(node) => Ok(node),
            None => bail!("Device '{name}' has no medium"),
        };
    }
    find_node(name).ok_or_else(|| Error::new(format!("Cannot find device='{name}' nor node-name='{name}'")))
}

/// Makes a node as `options` say; where they say nothing, as `inherited` does.
///
/// # Errors
/// For the user: a name that is taken, or what the driver says.
pub fn open(options: &BlockdevOptions, inherited: Inherited) -> Result<Arc<BlockNode>> {
    if let Some(name) = &options.node_name {
        check_node_name(name)?;
    }
    let cache = options.cache.unwrap_or_default();
    let mode = Inherited {
        cache: CacheMode {
            direct: cache.direct.unwrap_or(inherited.cache.direct),
            no_flush: cache.no_flush.unwrap_or(inherited.cache.no_flush),
        },
        read_only: options.read_only.unwrap_or(inherited.read_only),
        auto_read_only: options.auto_read_only.unwrap_or(inherited.auto_read_only),
        unmap: options.discard.map_or(inherited.unmap, |discard| discard == BlockdevDiscardOptions::Unmap),
        force_share: options.force_share.unwrap_or(inherited.force_share),
        ..inherited
    };
    if mode.force_share && !mode.read_only {
        bail!("force-share=on can only be used with read-only images");
    }
    let detect_zeroes = options.detect_zeroes.unwrap_or_default();
    if detect_zeroes == BlockdevDetectZeroesOptions::Unmap && !mode.unmap {
        bail!("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
    }
    let copy_on_read = inherited.copy_on_read;
    let (driver, read_only) =
        crate::drivers::open(&options.driver, Inherited { copy_on_read: false, ..mode })?;
    if copy_on_read && read_only {
        bail!("Can't use copy-on-read on read-only device");
    }
    let (node_name, auto_name) = match &options.node_name {
        Some(name) => (name.clone(), false),
        None => (generated_name(), true),
    };
    let node = Arc::new(BlockNode {
        node_name: node_name.clone(),
        auto_name,
        options: options.clone(),
        mode,
        read_only: AtomicBool::new(read_only),
        detect_zeroes,
        driver,
        parents: Mutex::default(),
        unflushed: AtomicBool::new(false),
        write_highest: AtomicU64::new(0),
    });
    let mut graph = GRAPH.lock();
    if graph.nodes.get(&node_name).is_some_and(|other| other.strong_count() > 0) {
        drop(graph);
        return Err(duplicate(&node_name));
    }
    graph.nodes.insert(node_name, Arc::downgrade(&node));
    graph.order.retain(|other| other.strong_count() > 0);
    graph.order.push(Arc::downgrade(&node));
    Ok(node)
}

fn duplicate(name: &str) -> Error {
    Error::new(format!("Duplicate nodes with node-name='{name}'"))
}

/// Longest node-name, its terminating zero in QEMU included.
const NODE_NAME_SIZE: usize = 32;

fn check_node_name(name: &str) -> Result<()> {
    if !has_node_name_form(name) {
        bail!("Invalid node-name: '{name}'");
    }
    if crate::backend::find(name).is_some() {
        bail!("node-name={name} is conflicting with a device id");
    }
    if find_node(name).is_some() {
        return Err(duplicate(name));
    }
    if name.len() >= NODE_NAME_SIZE {
        bail!("Node name too long");
    }
    Ok(())
}

fn einval() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

impl BlockNode {
    /// The name, given by the user or made up.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// Whether the name was made up.
    pub fn has_auto_name(&self) -> bool {
        self.auto_name
    }

    /// What it was made from.
    pub fn options(&self) -> &BlockdevOptions {
        &self.options
    }

    /// How it was opened.
    pub fn mode(&self) -> Inherited {
        self.mode
    }

    /// The driver's instance.
    pub fn driver(&self) -> &dyn BlockDriver {
        &*self.driver
    }

    /// Nothing can be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// What becomes of writes of zeroes.
    pub fn detect_zeroes(&self) -> BlockdevDetectZeroesOptions {
        self.detect_zeroes
    }

    /// The node below called `name`.
    pub fn child(&self, name: &str) -> Option<Arc<BlockNode>> {
        self.driver.children().iter().find(|child| child.name == name).map(|child| child.node.clone())
    }

    /// The node that has what the guest reads where this one has nothing (`bdrv_cow_bs`).
    pub fn backing(&self) -> Option<Arc<BlockNode>> {
        self.child("backing")
    }

    /// The node whose reads and writes a filter changes; none for what is no filter.
    pub fn filtered(&self) -> Option<Arc<BlockNode>> {
        match self.driver_options() {
            BlockdevDriver::Blkdebug(_) => self.child("image"),
            BlockdevDriver::CopyOnRead(_) | BlockdevDriver::Throttle(_) => self.child("file"),
            _ => None,
        }
    }

    /// A name that opens the same again (`bdrv_refresh_filename`): plain, or JSON.
    pub fn filename(&self) -> String {
        self.driver.filename().unwrap_or_else(|| format!("json:{}", self.full_options()))
    }

    /// The options that say all there is to say, without those of the graph.
    fn full_options(&self) -> serde_json::Value {
        let options = BlockdevOptions { node_name: None, ..self.options.clone() };
        let BlockdevOptions { driver, .. } = options;
        let mut json = driver.to_json();
        for child in self.driver.children() {
            json[child.name] = child.node.full_options();
        }
        json
    }

    pub(crate) fn add_parent(&self, name: &'static str) -> u64 {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        self.parents.lock().insert(id, name);
        id
    }

    pub(crate) fn remove_parent(&self, id: u64) {
        self.parents.lock().remove(&id);
    }

    /// Whether another node or a device uses it.
    pub fn is_used(&self) -> bool {
        !self.parents.lock().is_empty()
    }

    /// Whether a device or another top-level user is on it, not just a node.
    pub fn has_root_parent(&self) -> bool {
        self.parents.lock().values().any(|name| *name == "root")
    }

    /// Size in bytes.
    ///
    /// # Errors
    /// What the host says.
    pub fn length(&self) -> io::Result<u64> {
        self.driver.length()
    }

    fn check(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let end = offset.checked_add(bytes).ok_or_else(einval)?;
        if end > self.length()? {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }

    fn check_write(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if self.is_read_only() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        if !self.driver.is_growable() {
            self.check(offset, bytes)?;
        } else if offset.checked_add(bytes).is_none_or(|end| end > MAX_LENGTH) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.unflushed.store(true, Ordering::Release);
        self.write_highest.fetch_max(offset + bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Highest byte written, plus one.
    pub fn write_highest(&self) -> u64 {
        self.write_highest.load(Ordering::Relaxed)
    }

    /// Reads.
    ///
    /// # Errors
    /// Beyond the end, or what the driver says.
    pub fn preadv(&self, offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
        let bytes = iov_size(to);
        self.check(offset, bytes)?;
        if self.mode.copy_on_read {
            self.populate(offset, bytes)?;
        }
        self.driver.preadv(offset, to)
    }

    /// Reads what can be had without waiting, all or nothing: `None` when it cannot.
    pub fn try_preadv(&self, offset: u64, to: IoVec<'_, '_>) -> Option<io::Result<()>> {
        match self.check(offset, iov_size(to)) {
            Ok(()) => self.driver.try_preadv(offset, to),
            Err(error) => Some(Err(error)),
        }
    }

    /// Writes what can be written without waiting, all or nothing that counts: `None` when it cannot.
    pub fn try_pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> Option<io::Result<()>> {
        if self.detect_zeroes != BlockdevDetectZeroesOptions::Off {
            return None;
        }
        match self.check_write(offset, iov_size(from)) {
            Ok(()) => self.driver.try_pwritev(offset, from),
            Err(error) => Some(Err(error)),
        }
    }

    /// Begins to read or write at `offset`, whatever the request says, and calls `done` later, on any thread; gives both
    /// back where somebody has to wait for it.
    pub(crate) fn submit(&self, offset: u64, request: Request, done: Completion) -> Submitted {
        let allowed = match request.op {
            Op::Read => self.check(offset, request.bytes),
            Op::Write if self.detect_zeroes == BlockdevDetectZeroesOptions::Off => {
                self.check_write(offset, request.bytes)
            }
            _ => return Err((request, done)),
        };
        match allowed {
            Ok(()) => self.driver.submit(offset, request, done),
            // Those who wait will find that, too.
            Err(_) => Err((request, done)),
        }
    }

    /// Takes what the node does not have itself in a range, which is inside, from its backing file.
    ///
    /// # Errors
    /// A read-only node, or what the driver says.
    pub fn populate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if self.is_read_only() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        self.unflushed.store(true, Ordering::Release);
        self.driver.populate(offset, bytes)
    }

    /// Reads; what is beyond the end reads as zeroes.
    ///
    /// # Errors
    /// What the driver says.
    pub fn preadv_padded(&self, offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
        let bytes = iov_size(to);
        let there = self.length()?.saturating_sub(offset).min(bytes);
        if there > 0 {
            self.driver.preadv(offset, &crate::driver::iov_slice(to, 0, there))?;
        }
        if there < bytes {
            iov_zero(&crate::driver::iov_slice(to, there, bytes - there));
        }
        Ok(())
    }

    /// Writes.
    ///
    /// # Errors
    /// Beyond the end, a read-only node, or what the driver says.
    pub fn pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> io::Result<()> {
        let bytes = iov_size(from);
        self.check_write(offset, bytes)?;
        if self.detect_zeroes != BlockdevDetectZeroesOptions::Off && is_zero(from) {
            let unmap = self.detect_zeroes == BlockdevDetectZeroesOptions::Unmap;
            return self.driver.pwrite_zeroes(offset, bytes, unmap);
        }
        self.driver.pwritev(offset, from)
    }

    /// Reads into memory of ours.
    ///
    /// # Errors
    /// As [`BlockNode::preadv`].
    pub fn pread(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        self.preadv(offset, &[VolatileSlice::from(to)])
    }

    /// Writes memory of ours.
    ///
    /// # Errors
    /// As [`BlockNode::pwritev`].
    pub fn pwrite(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let mut copy = from.to_vec();
        self.pwritev(offset, &[VolatileSlice::from(&mut copy[..])])
    }

    /// Makes a range read as zeroes.
    ///
    /// # Errors
    /// As [`BlockNode::pwritev`].
    pub fn pwrite_zeroes(&self, offset: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
        self.check_write(offset, bytes)?;
        self.driver.pwrite_zeroes(offset, bytes, may_unmap && self.mode.unmap)
    }

    /// Says that what is in a range is not needed.
    ///
    /// # Errors
    /// As [`BlockNode::pwritev`].
    pub fn pdiscard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.check_write(offset, bytes)?;
        if self.mode.unmap { self.driver.pdiscard(offset, bytes) } else { Ok(()) }
    }

    /// Brings what was written to stable storage, unless the user wants none of it (`cache.no-flush`).
    ///
    /// # Errors
    /// What the driver says.
    pub fn flush(&self) -> io::Result<()> {
        self.tell_below(DebugEvent::FlushToOs);
        self.driver.flush_to_os()?;
        if self.mode.cache.no_flush || !self.unflushed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.tell_below(DebugEvent::FlushToDisk);
        self.driver.flush().inspect_err(|_| self.unflushed.store(true, Ordering::Release))
    }

    /// Tells the node below what goes on in this one.
    fn tell_below(&self, event: DebugEvent) {
        if !self.is_read_only()
            && let Some(child) = self.driver.children().first()
        {
            child.node.driver().debug_event(event);
        }
    }

    /// Changes the size.
    ///
    /// # Errors
    /// For the user.
    pub fn truncate(&self, size: u64) -> Result<()> {
        if self.is_read_only() {
            bail!("Image is read-only");
        }
        if size > MAX_LENGTH {
            bail!("Required too big image size, it must be not greater than {MAX_LENGTH}");
        }
        self.unflushed.store(true, Ordering::Release);
        self.driver.truncate(size)
    }
}

fn is_zero(iov: IoVec<'_, '_>) -> bool {
    let mut piece = [0u8; 4096];
    iov.iter().all(|part| {
        (0..part.len()).step_by(piece.len()).all(|at| {
            let Ok(rest) = part.offset(at) else { return false };
            let len = rest.copy_to(&mut piece[..rest.len().min(4096)]);
            piece[..len].iter().all(|byte| *byte == 0)
        })
    })
}

impl Drop for BlockNode {
    fn drop(&mut self) {
        if !self.is_read_only() {
            // Nobody is left to be told.
            let _ = self.flush();
        }
    }
}

/// Makes a node by a user's command and leaves it to them (`qmp_blockdev_add`).
///
/// # Errors
/// For the user.
pub fn blockdev_add(options: &BlockdevOptions) -> Result<Arc<BlockNode>> {
    if options.node_name.is_none() {
        bail!("'node-name' must be specified for the root node");
    }
    let node = open(options, Inherited::default())?;
    monitor_add(node.clone());
    Ok(node)
}

/// Takes away a node that a user's command made (`qmp_blockdev_del`).
///
/// # Errors
/// When there is none, it is not theirs, or it is in use.
pub fn blockdev_del(node_name: &str) -> Result<()> {
    let Some(node) = find_node(node_name) else { bail!("Failed to find node with node-name='{node_name}'") };
    if node.has_root_parent() {
        bail!("Node {node_name} is in use");
    }
    if !monitor_nodes().iter().any(|other| Arc::ptr_eq(other, &node)) {
        bail!("Node {node_name} is not owned by the monitor");
    }
    if node.is_used() {
        bail!("Block device {node_name} is in use");
    }
    monitor_remove(&node);
    Ok(())
}

/// The driver's options of a node, for those who need its kind.
impl BlockNode {
    /// The driver and its own options.
    pub fn driver_options(&self) -> &BlockdevDriver {
        &self.options.driver
    }
}
