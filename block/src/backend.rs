//! What devices read and write through (`BlockBackend`, block/block-backend.c): a name, a medium that may come
//! and go, what becomes of errors, and counts.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex, MutexGuard};
use qapi::QapiType;
use qom::{Result, bail};
use vm_memory::{MmapRegion, VolatileMemory, VolatileSlice};

use crate::driver::Child;
use crate::node::BlockNode;
use crate::pool::ThreadPool;
pub use crate::stats::{Counts, Stats};
use crate::throttle_group::ThrottleGroup;

qom::property_enum! {
    /// What becomes of an error (`rerror=`, `werror=`): the guest is told; it is told that all is well; the machine
    /// stops where the host's disk is full; the machine stops, and the request is tried again when it goes on; or as
    /// the device has it, which is `enospc` for writes and `report` for reads.
    pub enum BlockdevOnError: "BlockdevOnError" {
        Report = "report", Ignore = "ignore", Enospc = "enospc", Stop = "stop", Auto = "auto",
    }
}
qapi::property_type!(BlockdevOnError);

#[allow(clippy::derivable_impls)] // The macro declares it.
impl Default for BlockdevOnError {
    fn default() -> Self {
        BlockdevOnError::Auto
    }
}

/// What is done about an error.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockErrorAction {
    /// The guest is told that all is well.
    Ignore,
    /// The guest is told.
    Report,
    /// The machine stops.
    Stop,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read into memory.
    Read,
    /// Write from memory.
    Write,
    /// Make a range read as zeroes.
    WriteZeroes {
        /// It need not keep room.
        may_unmap: bool,
    },
    /// What is in a range is not needed.
    Discard,
    /// What was written goes to stable storage.
    Flush,
}

/// The memory that a request reads into or writes from, kept by it until it is done.
pub trait RequestMemory: Any + Send + Sync {
    /// Its parts, in order.
    fn parts(&self) -> Vec<VolatileSlice<'_>>;

    /// How many of the guest's requests it is the memory of: several where they were merged.
    fn requests(&self) -> u64 {
        1
    }
}

/// No memory: for requests that move no data.
impl RequestMemory for () {
    fn parts(&self) -> Vec<VolatileSlice<'_>> {
        Vec::new()
    }
}

/// Memory of ours.
impl RequestMemory for MmapRegion {
    fn parts(&self) -> Vec<VolatileSlice<'_>> {
        vec![self.as_volatile_slice()]
    }
}

/// A request of a device.
pub struct Request {
    /// What it does.
    pub op: Op,
    /// Where, in bytes.
    pub offset: u64,
    /// How much.
    pub bytes: u64,
    /// Its memory.
    pub memory: Box<dyn RequestMemory>,
}

/// What is called when a request is done, and gets it back; on any thread, with no lock held.
pub type Completion = Box<dyn FnOnce(Request, io::Result<()>) + Send>;

/// Whether a request is under way, of whose end its completion will be told; otherwise both are given back.
pub(crate) type Submitted = std::result::Result<(), (Request, Completion)>;

/// What a device can be told and asked (`BlockDevOps`).
pub trait BlockDevice: Send + Sync {
    /// Its id, or its path where it has none.
    fn id(&self) -> String;

    /// Whether media come and go.
    fn is_removable(&self) -> bool {
        false
    }

    /// A medium came or went.
    fn change_media(&self, load: bool) {
        let _ = load;
    }

    /// Whether the tray is open; `None` for devices without one.
    fn is_tray_open(&self) -> Option<bool> {
        None
    }

    /// Whether the guest holds the medium.
    fn is_medium_locked(&self) -> bool {
        false
    }

    /// Asks the guest to let go of the medium.
    fn eject_request(&self, force: bool) {
        let _ = force;
    }

    /// The size changed.
    fn resized(&self) {}
}

/// What a device reads and writes through.
pub struct BlockBackend {
    name: String,
    root: ArcSwapOption<Child>,
    device: Mutex<Option<Weak<dyn BlockDevice>>>,
    /// A device took it for itself.
    attached: AtomicBool,
    /// Its device shares no medium with those who write.
    pub(crate) alone: AtomicBool,
    on_error: Mutex<(BlockdevOnError, BlockdevOnError)>,
    /// An error stopped the machine: what `query-block` tells as `io-status`.
    io_status: Mutex<Option<&'static str>>,
    write_cache: AtomicBool,
    in_flight: AtomicU64,
    /// Somebody waits for the last request.
    draining: Mutex<()>,
    waiters: AtomicU64,
    idle: Condvar,
    pool: OnceLock<ThreadPool>,
    /// What limits its requests.
    throttle: ArcSwapOption<ThrottleGroup>,
    /// Counts.
    pub stats: Stats,
}

impl fmt::Debug for BlockBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockBackend").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How long a drain waits before it looks for throttled requests again.
const RELEASE_AGAIN: Duration = Duration::from_millis(5);

static BACKENDS: Mutex<Vec<Arc<BlockBackend>>> = Mutex::new(Vec::new());
/// Backends that devices made for a node of theirs, which have no name.
static NAMELESS: Mutex<Vec<Weak<BlockBackend>>> = Mutex::new(Vec::new());

/// The backend of this name.
pub fn find(name: &str) -> Option<Arc<BlockBackend>> {
    BACKENDS.lock().iter().find(|backend| backend.name == name).cloned()
}

/// All backends that users gave names to, in the order in which they came.
pub fn named_backends() -> Vec<Arc<BlockBackend>> {
    BACKENDS.lock().clone()
}

/// All backends: those with names, and those of devices.
pub fn all_backends() -> Vec<Arc<BlockBackend>> {
    let mut all = named_backends();
    all.extend(NAMELESS.lock().iter().filter_map(Weak::upgrade));
    all
}

/// Makes a backend with a name, which commands can refer to (`monitor_add_blk`).
///
/// # Errors
/// A name that is no id, or taken.
pub fn new_named(name: &str) -> Result<Arc<BlockBackend>> {
    if !util::option::id_wellformed(name) {
        bail!("Invalid device name");
    }
    if crate::node::find_node(name).is_some() {
        bail!("Device name '{name}' conflicts with an existing node name");
    }
    let backend = Arc::new(BlockBackend::new(name));
    let mut backends = BACKENDS.lock();
    if backends.iter().any(|other| other.name == name) {
        bail!("Device with id '{name}' already exists");
    }
    backends.push(backend.clone());
    Ok(backend)
}

/// Makes a backend of a device's own on `node` (`blk_new` and `blk_insert_bs`).
pub fn new_nameless(node: Arc<BlockNode>) -> Arc<BlockBackend> {
    let backend = new_empty();
    backend.insert(node);
    backend
}

/// Makes a backend of a device's own, without a medium.
pub fn new_empty() -> Arc<BlockBackend> {
    let backend = Arc::new(BlockBackend::new(""));
    let mut nameless = NAMELESS.lock();
    nameless.retain(|other| other.strong_count() > 0);
    nameless.push(Arc::downgrade(&backend));
    drop(nameless);
    backend
}

/// Forgets the name of a backend: it lives as long as its device does (`monitor_remove_blk`).
pub fn forget(backend: &Arc<BlockBackend>) {
    let mut backends = BACKENDS.lock();
    let at = backends.iter().position(|other| Arc::ptr_eq(other, backend));
    let removed = at.map(|at| backends.remove(at));
    drop(backends);
    drop(removed);
}

/// Waits for all requests, and brings everything to the disk, as far as that goes (`bdrv_drain_all`,
/// `bdrv_flush_all`).
pub fn drain_and_flush_all() {
    for backend in all_backends() {
        backend.drain();
        if let Some(node) = backend.node() {
            // The next flush that a guest asks for tells it.
            let _ = node.flush();
        }
    }
}

/// Waits for all requests, and brings everything to the disk: at the program's end (`bdrv_close_all`).
pub fn close_all() {
    drain_and_flush_all();
    all_backends().iter().for_each(|backend| backend.remove());
    for node in crate::node::monitor_nodes() {
        crate::node::monitor_remove(&node);
    }
    BACKENDS.lock().clear();
}

impl BlockBackend {
    fn new(name: &str) -> Self {
        BlockBackend {
            name: name.to_owned(),
            root: ArcSwapOption::empty(),
            device: Mutex::new(None),
            attached: AtomicBool::new(false),
            alone: AtomicBool::new(false),
            on_error: Mutex::new((BlockdevOnError::Auto, BlockdevOnError::Auto)),
            io_status: Mutex::new(None),
            write_cache: AtomicBool::new(true),
            in_flight: AtomicU64::new(0),
            draining: Mutex::new(()),
            waiters: AtomicU64::new(0),
            idle: Condvar::new(),
            pool: OnceLock::new(),
            throttle: ArcSwapOption::empty(),
            stats: Stats::default(),
        }
    }

    /// The name; empty for a device's own.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The medium.
    pub fn node(&self) -> Option<Arc<BlockNode>> {
        self.root.load().as_ref().map(|child| child.node.clone())
    }

    /// Puts a medium in.
    pub fn insert(&self, node: Arc<BlockNode>) {
        self.root.store(Some(Arc::new(Child::new("root", node))));
    }

    /// Takes the medium out.
    pub fn remove(&self) {
        self.drain();
        self.root.store(None);
    }

    /// Gives it to a device, which is the only one (`blk_attach_dev`); `false` when another has it.
    pub fn attach(&self, device: Weak<dyn BlockDevice>) -> bool {
        if self.attached.swap(true, Ordering::AcqRel) {
            return false;
        }
        *self.device.lock() = Some(device);
        true
    }

    /// The device is done with it.
    pub fn detach(&self) {
        *self.device.lock() = None;
        self.alone.store(false, Ordering::Release);
        self.attached.store(false, Ordering::Release);
    }

    /// Whether a device has it.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// The device that has it.
    pub fn device(&self) -> Option<Arc<dyn BlockDevice>> {
        self.device.lock().as_ref().and_then(Weak::upgrade)
    }

    /// Says what becomes of errors of reads and of writes.
    pub fn set_on_error(&self, read: BlockdevOnError, write: BlockdevOnError) {
        *self.on_error.lock() = (read, write);
    }

    /// What becomes of errors of reads and of writes.
    pub fn on_error(&self) -> (BlockdevOnError, BlockdevOnError) {
        *self.on_error.lock()
    }

    /// What is done about an error (`blk_get_error_action`).
    pub fn error_action(&self, is_read: bool, error: &io::Error) -> BlockErrorAction {
        let (read, write) = self.on_error();
        let no_space = error.kind() == io::ErrorKind::StorageFull;
        match if is_read { read } else { write } {
            BlockdevOnError::Ignore => BlockErrorAction::Ignore,
            BlockdevOnError::Stop => BlockErrorAction::Stop,
            BlockdevOnError::Enospc if no_space => BlockErrorAction::Stop,
            // A device that cares has set one of the others.
            BlockdevOnError::Auto if no_space && !is_read => BlockErrorAction::Stop,
            _ => BlockErrorAction::Report,
        }
    }

    /// Whether its errors can stop the machine, so that how it is going is worth telling.
    pub fn has_io_status(&self) -> bool {
        let (read, write) = self.on_error();
        let stops = |action| matches!(action, BlockdevOnError::Stop | BlockdevOnError::Enospc);
        stops(write)
            || read == BlockdevOnError::Stop
            || (write == BlockdevOnError::Auto && read == BlockdevOnError::Auto)
    }

    /// Notes that an error stopped the machine.
    pub fn set_io_status(&self, error: &io::Error) {
        let status = if error.kind() == io::ErrorKind::StorageFull { "nospace" } else { "failed" };
        self.io_status.lock().get_or_insert(status);
    }

    /// The machine goes on.
    pub fn reset_io_status(&self) {
        *self.io_status.lock() = None;
    }

    /// `ok`, or the error that stopped the machine.
    pub fn io_status(&self) -> &'static str {
        self.io_status.lock().unwrap_or("ok")
    }

    /// Whether writes may stay in the host's cache until a flush.
    pub fn write_cache(&self) -> bool {
        self.write_cache.load(Ordering::Relaxed)
    }

    /// Says whether writes may stay in the host's cache until a flush; without, each is flushed.
    pub fn set_write_cache(&self, on: bool) {
        self.write_cache.store(on, Ordering::Relaxed);
    }

    /// The group that limits its requests.
    pub(crate) fn throttle(&self) -> Option<Arc<ThrottleGroup>> {
        self.throttle.load_full()
    }

    /// Has a group limit its requests, or none; what waits for the one before goes on.
    pub(crate) fn set_throttle(&self, group: Option<Arc<ThrottleGroup>>) {
        if let Some(before) = self.throttle.swap(group) {
            before.release(self.owner());
        }
    }

    /// Tells its requests from others' in a group.
    fn owner(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    /// Carries a request out, `done` is called when it is. Where nothing has to be waited for that happens before
    /// this returns.
    pub fn submit(self: &Arc<Self>, request: Request, done: Completion) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let begun = Instant::now();
        let is_write = match request.op {
            Op::Read => false,
            Op::Write | Op::WriteZeroes { .. } => true,
            Op::Discard | Op::Flush => return self.start(request, begun, done),
        };
        let group = self.throttle.load();
        match group.as_ref().filter(|_| self.waiters.load(Ordering::Acquire) == 0) {
            None => self.start(request, begun, done),
            Some(group) => {
                let (backend, much) = (self.clone(), (request.bytes, request.memory.requests()));
                group.pass(self.owner(), is_write, much, move || backend.start(request, begun, done));
            }
        }
    }

    fn start(self: &Arc<Self>, request: Request, begun: Instant, done: Completion) {
        let Some(node) = self.node() else { return self.finish(request, begun, Err(no_medium()), done) };
        let write_through = !self.write_cache();
        if let Some(result) = try_at_once(&node, &request, write_through) {
            return self.finish(request, begun, result, done);
        }
        if node.driver().never_waits() {
            let result = carry_out(&node, &request, write_through);
            return self.finish(request, begun, result, done);
        }
        let backend = self.clone();
        let mut done: Completion =
            Box::new(move |request, result| backend.finish(request, begun, result, done));
        let mut request = request;
        if node.driver().has_queue() && !(write_through && request.op == Op::Write) {
            (request, done) = match node.submit(request.offset, request, done) {
                Ok(()) => return,
                Err(left) => left,
            };
        }
        let work = move || {
            let result = carry_out(&node, &request, write_through);
            done(request, result);
        };
        self.pool.get_or_init(ThreadPool::default).run(Box::new(work));
    }

    fn finish(&self, request: Request, begun: Instant, result: io::Result<()>, done: Completion) {
        self.stats.count(&request, begun, &result);
        done(request, result);
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 && self.waiters.load(Ordering::Acquire) > 0 {
            drop(self.draining.lock());
            self.idle.notify_all();
        }
    }

    /// Lets go what waits for its turn; whether anything ever does.
    fn release(&self) -> bool {
        let group = self.throttle();
        if let Some(group) = &group {
            group.release(self.owner());
        }
        self.node().is_some_and(|node| node.driver().release()) || group.is_some()
    }

    /// Carries a request out and waits for it.
    ///
    /// # Errors
    /// No medium, or what the medium says.
    pub fn carry_out(&self, request: &Request) -> io::Result<()> {
        let begun = Instant::now();
        self.node().ok_or_else(no_medium)?;
        let result = self.carry_out_uncounted(request);
        self.stats.count(request, begun, &result);
        result
    }

    /// Carries a request out that is no device's, and waits for it.
    ///
    /// # Errors
    /// No medium, or what the medium says.
    pub fn carry_out_uncounted(&self, request: &Request) -> io::Result<()> {
        let node = self.node().ok_or_else(no_medium)?;
        carry_out(&node, request, !self.write_cache())
    }

    /// Waits until no request is under way.
    pub fn drain(&self) {
        self.waiters.fetch_add(1, Ordering::AcqRel);
        let mut draining = self.draining.lock();
        while self.in_flight.load(Ordering::Acquire) > 0 {
            // One that looked for waiters before may come to a group's queue yet.
            if MutexGuard::unlocked(&mut draining, || self.release()) {
                self.idle.wait_for(&mut draining, RELEASE_AGAIN);
            } else if self.in_flight.load(Ordering::Acquire) > 0 {
                self.idle.wait(&mut draining);
            }
        }
        drop(draining);
        self.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}

/// ENOMEDIUM, which `std` has no kind for.
fn no_medium() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOMEDIUM)
}

/// Whether a request lies within the disk. A file would grow; a device does not.
fn is_inside(node: &BlockNode, request: &Request) -> bool {
    let end = request.offset.checked_add(request.bytes);
    end.is_some_and(|end| node.length().is_ok_and(|size| end <= size))
}

/// Carries out what needs no waiting for.
fn try_at_once(node: &BlockNode, request: &Request, write_through: bool) -> Option<io::Result<()>> {
    match request.op {
        Op::Read => node.try_preadv(request.offset, &request.memory.parts()),
        Op::Write if !write_through && is_inside(node, request) => {
            node.try_pwritev(request.offset, &request.memory.parts())
        }
        _ => None,
    }
}

fn carry_out(node: &BlockNode, request: &Request, write_through: bool) -> io::Result<()> {
    let Request { op, offset, bytes, memory } = request;
    if *op != Op::Flush && !is_inside(node, request) {
        return Err(io::Error::from_raw_os_error(libc::EIO));
    }
    match *op {
        Op::Read => return node.preadv(*offset, &memory.parts()),
        Op::Flush => return node.flush(),
        Op::Write => node.pwritev(*offset, &memory.parts())?,
        Op::WriteZeroes { may_unmap } => node.pwrite_zeroes(*offset, *bytes, may_unmap)?,
        Op::Discard => return node.pdiscard(*offset, *bytes),
    }
    if write_through { node.flush() } else { Ok(()) }
}
