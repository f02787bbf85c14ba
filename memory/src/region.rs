//! The tree of regions and transactions upon it.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, ReentrantMutex, ReentrantMutexGuard};

use crate::address_space::update_address_spaces;
use crate::{AccessRules, IoEventFd, RamBlock, RegionOps};

/// What a region is by itself.
pub enum RegionKind {
    /// Holds other regions, answers nothing where they leave holes.
    Container,
    /// Memory.
    Ram(Arc<RamBlock>),
    /// Handlers.
    Io(Arc<dyn RegionOps>),
    /// Reads as memory while in ROM mode, everything else goes to the handlers (flash).
    RomDevice(Arc<RamBlock>, Arc<dyn RegionOps>),
    /// A window on another region.
    Alias(MemoryRegion),
}

/// A node of the tree: cheap to clone, compared by identity.
#[derive(Clone)]
pub struct MemoryRegion(Arc<Inner>);

struct Inner {
    name: String,
    kind: RegionKind,
    rules: AccessRules,
    state: Mutex<State>,
}

/// What transactions change.
#[derive(Clone)]
pub(crate) struct State {
    /// Size in bytes; 2^64 is possible.
    pub size: u128,
    /// Offset in the container.
    pub address: u64,
    pub priority: i32,
    pub enabled: bool,
    pub readonly: bool,
    pub romd_mode: bool,
    pub alias_offset: u64,
    /// Highest priority first, later additions before earlier ones.
    pub subregions: Vec<MemoryRegion>,
    pub ioeventfds: Vec<IoEventFd>,
    /// Offset and length of ranges whose writes may be collected.
    pub coalesced: Vec<(u64, u64)>,
    container: Option<Weak<Inner>>,
}

impl PartialEq for MemoryRegion {
    fn eq(&self, other: &MemoryRegion) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for MemoryRegion {}

impl fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryRegion({})", self.0.name)
    }
}

impl MemoryRegion {
    fn new(name: &str, size: u128, kind: RegionKind, rules: AccessRules) -> MemoryRegion {
        MemoryRegion(Arc::new(Inner {
            name: name.to_owned(),
            kind,
            rules,
            state: Mutex::new(State {
                size,
                address: 0,
                priority: 0,
                enabled: true,
                readonly: false,
                romd_mode: true,
                alias_offset: 0,
                subregions: Vec::new(),
                ioeventfds: Vec::new(),
                coalesced: Vec::new(),
                container: None,
            }),
        }))
    }

    /// A container of `size` bytes (`memory_region_init`).
    pub fn container(name: &str, size: u128) -> MemoryRegion {
        Self::new(name, size, RegionKind::Container, AccessRules::default())
    }

    /// All of a block of memory (`memory_region_init_ram`).
    pub fn ram(name: &str, block: RamBlock) -> MemoryRegion {
        Self::ram_from(name, Arc::new(block))
    }

    /// All of a block that others hold, too.
    pub fn ram_from(name: &str, block: Arc<RamBlock>) -> MemoryRegion {
        Self::new(name, block.size().into(), RegionKind::Ram(block), AccessRules::default())
    }

    /// Memory that guests cannot write (`memory_region_init_rom`).
    pub fn rom(name: &str, block: RamBlock) -> MemoryRegion {
        let region = Self::ram(name, block);
        region.0.state.lock().readonly = true;
        region
    }

    /// A region of handlers (`memory_region_init_io`).
    pub fn io(name: &str, size: u64, ops: Arc<dyn RegionOps>) -> MemoryRegion {
        let rules = ops.rules();
        Self::new(name, size.into(), RegionKind::Io(ops), rules)
    }

    /// Memory with handlers for writes (`memory_region_init_rom_device`), which may hold the memory, too.
    pub fn rom_device(name: &str, block: Arc<RamBlock>, ops: Arc<dyn RegionOps>) -> MemoryRegion {
        let rules = ops.rules();
        Self::new(name, block.size().into(), RegionKind::RomDevice(block, ops), rules)
    }

    /// `size` bytes of `target` from `offset` (`memory_region_init_alias`).
    pub fn alias(name: &str, target: &MemoryRegion, offset: u64, size: u64) -> MemoryRegion {
        let region = Self::new(name, size.into(), RegionKind::Alias(target.clone()), AccessRules::default());
        region.0.state.lock().alias_offset = offset;
        region
    }

    /// The name, as in `info mtree`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is by itself.
    pub fn kind(&self) -> &RegionKind {
        &self.0.kind
    }

    /// Which accesses its handlers take.
    pub fn rules(&self) -> &AccessRules {
        &self.0.rules
    }

    /// The memory of a RAM, ROM or ROM-device region.
    pub fn ram_block(&self) -> Option<&Arc<RamBlock>> {
        match &self.0.kind {
            RegionKind::Ram(block) | RegionKind::RomDevice(block, _) => Some(block),
            _ => None,
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> u128 {
        self.0.state.lock().size
    }

    /// Offset in the container.
    pub fn address(&self) -> u64 {
        self.0.state.lock().address
    }

    /// Whether it is in a container now (`memory_region_is_mapped`).
    pub fn is_mapped(&self) -> bool {
        self.0.state.lock().container.is_some()
    }

    /// Priority among its siblings.
    pub fn priority(&self) -> i32 {
        self.0.state.lock().priority
    }

    /// Whether it shows at all.
    pub fn is_enabled(&self) -> bool {
        self.0.state.lock().enabled
    }

    /// Its children, those that cover others first.
    pub fn subregions(&self) -> Vec<MemoryRegion> {
        self.0.state.lock().subregions.clone()
    }

    /// Where an alias starts in its target.
    pub fn alias_offset(&self) -> u64 {
        self.0.state.lock().alias_offset
    }

    pub(crate) fn with_state<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        f(&self.0.state.lock())
    }

    fn change(&self, f: impl FnOnce(&mut State) -> bool) {
        let transaction = transaction();
        if f(&mut self.0.state.lock()) {
            transaction.mark_changed();
        }
    }

    /// Maps `child` at `offset`, at priority 0. It must not overlap siblings that matter: use
    /// [`MemoryRegion::add_subregion_overlap`] for that.
    pub fn add_subregion(&self, offset: u64, child: &MemoryRegion) {
        self.add_subregion_overlap(offset, child, 0);
    }

    /// Maps `child` at `offset`; where siblings overlap, the higher priority shows, and of equals the later.
    ///
    /// # Panics
    /// When `child` is mapped already: a mistake of the board's.
    pub fn add_subregion_overlap(&self, offset: u64, child: &MemoryRegion, priority: i32) {
        let transaction = transaction();
        {
            let mut state = child.0.state.lock();
            assert!(state.container.is_none(), "region '{}' mapped twice", child.name());
            state.container = Some(Arc::downgrade(&self.0));
            state.address = offset;
            state.priority = priority;
        }
        self.insert(child, priority);
        transaction.mark_changed();
    }

    fn insert(&self, child: &MemoryRegion, priority: i32) {
        let mut state = self.0.state.lock();
        let at = state.subregions.partition_point(|s| s.priority() > priority);
        state.subregions.insert(at, child.clone());
    }

    /// Takes `child` out; it may be mapped again.
    pub fn del_subregion(&self, child: &MemoryRegion) {
        let transaction = transaction();
        let mut state = self.0.state.lock();
        let before = state.subregions.len();
        state.subregions.retain(|s| s != child);
        if state.subregions.len() != before {
            child.0.state.lock().container = None;
            transaction.mark_changed();
        }
        // The state's lock goes before the transaction commits, which reads it.
        drop(state);
    }

    /// Takes it out of whatever container holds it.
    pub fn unmap(&self) {
        let container = self.0.state.lock().container.as_ref().and_then(Weak::upgrade);
        if let Some(container) = container {
            MemoryRegion(container).del_subregion(self);
        }
    }

    /// Shows or hides it.
    pub fn set_enabled(&self, enabled: bool) {
        self.change(|s| std::mem::replace(&mut s.enabled, enabled) != enabled);
    }

    /// Moves it in its container; it comes before siblings of its priority.
    pub fn set_address(&self, address: u64) {
        let transaction = transaction();
        let (container, priority) = {
            let mut state = self.0.state.lock();
            if std::mem::replace(&mut state.address, address) == address {
                return;
            }
            (state.container.as_ref().and_then(Weak::upgrade), state.priority)
        };
        if let Some(container) = container.map(MemoryRegion) {
            container.0.state.lock().subregions.retain(|s| s != self);
            container.insert(self, priority);
        }
        transaction.mark_changed();
    }

    /// Changes its size in bytes.
    pub fn set_size(&self, size: u128) {
        self.change(|s| std::mem::replace(&mut s.size, size) != size);
    }

    /// Moves an alias's window on its target.
    pub fn set_alias_offset(&self, offset: u64) {
        self.change(|s| std::mem::replace(&mut s.alias_offset, offset) != offset);
    }

    /// Whether guests' writes to the memory (of this region or below) are dropped.
    pub fn set_readonly(&self, readonly: bool) {
        self.change(|s| std::mem::replace(&mut s.readonly, readonly) != readonly);
    }

    /// Whether a ROM device reads as memory.
    pub fn set_romd_mode(&self, romd_mode: bool) {
        self.change(|s| std::mem::replace(&mut s.romd_mode, romd_mode) != romd_mode);
    }

    /// Has writes as `fd` says signal it; its address is relative to the region.
    pub fn add_eventfd(&self, fd: IoEventFd) {
        self.change(|s| {
            s.ioeventfds.push(fd);
            true
        });
    }

    /// Undoes [`MemoryRegion::add_eventfd`].
    pub fn del_eventfd(&self, fd: &IoEventFd) {
        self.change(|s| {
            let before = s.ioeventfds.len();
            s.ioeventfds.retain(|e| e != fd);
            s.ioeventfds.len() != before
        });
    }

    /// Lets the accelerator collect writes to `len` bytes at `offset`.
    pub fn add_coalescing(&self, offset: u64, len: u64) {
        self.change(|s| {
            s.coalesced.push((offset, len));
            true
        });
    }

    /// Takes back every [`MemoryRegion::add_coalescing`].
    pub fn clear_coalescing(&self) {
        self.change(|s| !std::mem::take(&mut s.coalesced).is_empty());
    }
}

#[derive(Default)]
struct Pending {
    depth: u32,
    changed: bool,
}

static TOPOLOGY: ReentrantMutex<std::cell::RefCell<Pending>> =
    ReentrantMutex::new(std::cell::RefCell::new(Pending { depth: 0, changed: false }));

/// Changes to the tree made while one of these lives on this thread become visible when the outermost is
/// dropped (`memory_region_transaction_begin`/`commit`). Other threads' changes wait.
#[must_use = "a transaction ends when it is dropped"]
pub struct Transaction(ReentrantMutexGuard<'static, std::cell::RefCell<Pending>>);

/// Begins a transaction, or joins the one under way on this thread.
pub fn transaction() -> Transaction {
    let guard = TOPOLOGY.lock();
    guard.borrow_mut().depth += 1;
    Transaction(guard)
}

impl Transaction {
    fn mark_changed(&self) {
        self.0.borrow_mut().changed = true;
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let update = {
            let mut pending = self.0.borrow_mut();
            pending.depth -= 1;
            pending.depth == 0 && std::mem::take(&mut pending.changed)
        };
        if update {
            update_address_spaces();
        }
    }
}
