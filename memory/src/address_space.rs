//! Address spaces: a root region, its current view, and those who follow it.

use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::flat_view::Notifications;
use crate::io::UnassignedIo;
use crate::{FlatRange, FlatView, MemTxResult, MemoryListener, MemoryRegion, transaction};

/// What a CPU or a bus master sees: physical memory or I/O ports.
pub struct AddressSpace {
    name: String,
    root: MemoryRegion,
    view: ArcSwap<FlatView>,
    followers: Mutex<Followers>,
}

#[derive(Default)]
struct Followers {
    listeners: Vec<Arc<dyn MemoryListener>>,
    told: Notifications,
}

/// Every address space that lives, so that a commit reaches it.
static SPACES: Mutex<Vec<Weak<AddressSpace>>> = Mutex::new(Vec::new());

/// Renders all address spaces anew; the topology lock is held.
pub(crate) fn update_address_spaces() {
    let spaces: Vec<Arc<AddressSpace>> = {
        let mut spaces = SPACES.lock();
        spaces.retain(|s| s.strong_count() > 0);
        spaces.iter().filter_map(Weak::upgrade).collect()
    };
    for space in spaces {
        space.update();
    }
}

impl AddressSpace {
    /// An address space that shows `root` (`address_space_init`).
    pub fn new(name: &str, root: &MemoryRegion) -> Arc<AddressSpace> {
        let _transaction = transaction();
        let space = Arc::new(AddressSpace {
            name: name.to_owned(),
            root: root.clone(),
            view: ArcSwap::from_pointee(FlatView::render(root)),
            followers: Mutex::default(),
        });
        SPACES.lock().push(Arc::downgrade(&space));
        space
    }

    /// The name, as in `info mtree`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The region it shows.
    pub fn root(&self) -> &MemoryRegion {
        &self.root
    }

    /// The current view; it stays as it is while it is held.
    pub fn view(&self) -> Arc<FlatView> {
        self.view.load_full()
    }

    /// Tells `listener` what shows now and of every change from now on.
    pub fn add_listener(&self, listener: Arc<dyn MemoryListener>) {
        let _transaction = transaction();
        let mut followers = self.followers.lock();
        listener.begin();
        for range in self.view.load().ranges() {
            listener.region_add(range);
        }
        if followers.listeners.is_empty() {
            followers.told = self.view.load().notifications();
        }
        for fd in &followers.told.eventfds {
            listener.eventfd_add(fd);
        }
        for &(address, len) in &followers.told.coalesced {
            listener.coalesced_io_add(address, len);
        }
        listener.commit();
        followers.listeners.push(listener);
    }

    /// Tells `listener` no more, after telling it that everything is gone.
    pub fn remove_listener(&self, listener: &Arc<dyn MemoryListener>) {
        let _transaction = transaction();
        let mut followers = self.followers.lock();
        followers.listeners.retain(|l| !Arc::ptr_eq(l, listener));
        listener.begin();
        for &(address, len) in &followers.told.coalesced {
            listener.coalesced_io_del(address, len);
        }
        for fd in &followers.told.eventfds {
            listener.eventfd_del(fd);
        }
        for range in self.view.load().ranges().iter().rev() {
            listener.region_del(range);
        }
        listener.commit();
    }

    fn update(&self) {
        let old = self.view.load_full();
        let new = Arc::new(FlatView::render(&self.root));
        let mut followers = self.followers.lock();
        if followers.listeners.is_empty() {
            if *old != *new {
                self.view.store(new);
            }
            return;
        }
        let notifications = new.notifications();
        let same_view = *old == *new;
        if same_view && notifications == followers.told {
            return;
        }
        for listener in &followers.listeners {
            listener.begin();
            if !same_view {
                tell_ranges(&**listener, &old, &new);
            }
            tell_notifications(&**listener, &followers.told, &notifications);
            listener.commit();
        }
        followers.told = notifications;
        if !same_view {
            self.view.store(new);
        }
    }

    /// Reads `data.len()` bytes from `address`. Where nothing answers, bytes read as zero.
    pub fn read(&self, address: u64, data: &mut [u8]) -> MemTxResult {
        self.view.load().read(address, data)
    }

    /// Writes `data` at `address`.
    pub fn write(&self, address: u64, data: &[u8]) -> MemTxResult {
        self.view.load().write(address, data)
    }

    /// A reader for one thread that looks up addresses again and again.
    pub fn reader(self: &Arc<Self>) -> SpaceReader {
        SpaceReader { cache: arc_swap::Cache::new(SpaceRef(self.clone())), last: 0 }
    }
}

/// Removals first, from the top down, then additions: slots never overlap on the way.
fn tell_ranges(listener: &dyn MemoryListener, old: &FlatView, new: &FlatView) {
    let missing_in = |view: &FlatView, range: &FlatRange| view.lookup(range.start) != Some(range);
    for range in old.ranges().iter().rev().filter(|r| missing_in(new, r)) {
        listener.region_del(range);
    }
    for range in new.ranges().iter().filter(|r| missing_in(old, r)) {
        listener.region_add(range);
    }
}

fn tell_notifications(listener: &dyn MemoryListener, old: &Notifications, new: &Notifications) {
    for &(address, len) in old.coalesced.iter().filter(|c| !new.coalesced.contains(c)) {
        listener.coalesced_io_del(address, len);
    }
    for fd in old.eventfds.iter().filter(|fd| !new.eventfds.contains(fd)) {
        listener.eventfd_del(fd);
    }
    for fd in new.eventfds.iter().filter(|fd| !old.eventfds.contains(fd)) {
        listener.eventfd_add(fd);
    }
    for &(address, len) in new.coalesced.iter().filter(|c| !old.coalesced.contains(c)) {
        listener.coalesced_io_add(address, len);
    }
}

/// Lets `arc_swap::Cache` reach the view of a shared address space.
struct SpaceRef(Arc<AddressSpace>);

impl std::ops::Deref for SpaceRef {
    type Target = ArcSwap<FlatView>;
    fn deref(&self) -> &ArcSwap<FlatView> {
        &self.0.view
    }
}

/// One thread's way into an address space: remembers the view and the range used last, so that an exit to
/// the same device again costs a comparison.
pub struct SpaceReader {
    cache: arc_swap::Cache<SpaceRef, Arc<FlatView>>,
    last: usize,
}

impl SpaceReader {
    /// The range at `address`.
    #[inline]
    fn range(&mut self, address: u64) -> Option<&FlatRange> {
        let view = self.cache.load();
        if !view.ranges().get(self.last).is_some_and(|r| r.contains(address)) {
            self.last = view.lookup_index(address)?;
        }
        view.ranges().get(self.last)
    }

    /// [`AddressSpace::read`].
    pub fn read(&mut self, address: u64, data: &mut [u8]) -> MemTxResult {
        self.cache.load().read(address, data)
    }

    /// [`AddressSpace::write`].
    pub fn write(&mut self, address: u64, data: &[u8]) -> MemTxResult {
        self.cache.load().write(address, data)
    }

    /// A read of `size` bytes (1, 2, 4 or 8) as a number, least significant byte first: what an exit asks for.
    #[inline]
    pub fn read_value(&mut self, address: u64, size: u8) -> u64 {
        match self.range(address).and_then(|range| range.read_whole(address, size)) {
            Some(value) => value,
            None => self.read_value_slowly(address, size),
        }
    }

    #[cold]
    fn read_value_slowly(&mut self, address: u64, size: u8) -> u64 {
        let mut data = [0; 8];
        // What nothing answers for reads as the bus has it, which `data` then holds.
        let _ = self.read(address, data.get_mut(..size.into()).unwrap_or_default());
        u64::from_le_bytes(data)
    }

    /// A write of the low `size` bytes (1, 2, 4 or 8) of `value`.
    #[inline]
    pub fn write_value(&mut self, address: u64, value: u64, size: u8) {
        let done = self.range(address).and_then(|range| range.write_whole(address, value, size));
        if done.is_none() {
            self.write_value_slowly(address, value, size);
        }
    }

    #[cold]
    fn write_value_slowly(&mut self, address: u64, value: u64, size: u8) {
        // A write that nothing answers is dropped, as on the bus.
        let _ = self.write(address, value.to_le_bytes().get(..size.into()).unwrap_or_default());
    }
}

/// The container of everything at a physical address.
pub fn get_system_memory() -> MemoryRegion {
    static ROOT: OnceLock<MemoryRegion> = OnceLock::new();
    ROOT.get_or_init(|| MemoryRegion::container("system", 1 << 64)).clone()
}

/// The container of everything at an I/O port; ports with nothing behind them read as all ones.
pub fn get_system_io() -> MemoryRegion {
    static ROOT: OnceLock<MemoryRegion> = OnceLock::new();
    ROOT.get_or_init(|| MemoryRegion::io("io", 1 << 16, Arc::new(UnassignedIo))).clone()
}

/// Physical memory as CPUs and bus masters see it.
pub fn address_space_memory() -> &'static Arc<AddressSpace> {
    static SPACE: OnceLock<Arc<AddressSpace>> = OnceLock::new();
    SPACE.get_or_init(|| AddressSpace::new("memory", &get_system_memory()))
}

/// The I/O ports.
pub fn address_space_io() -> &'static Arc<AddressSpace> {
    static SPACE: OnceLock<Arc<AddressSpace>> = OnceLock::new();
    SPACE.get_or_init(|| AddressSpace::new("I/O", &get_system_io()))
}
