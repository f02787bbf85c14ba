//! Regions whose bytes say where they come from, and a listener that keeps a map.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;
use std::sync::Mutex;

use memory::{
    AccessRules, AddressSpace, Endianness, FlatRange, IoEventFd, MemoryListener, MemoryRegion, RamBlock,
    RegionOps,
};

/// What a handler was called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Offset and size.
    Read(u64, u8),
    /// Offset, value and size.
    Write(u64, u64, u8),
}

/// A device whose byte at offset n reads as n, in whatever order its registers have, and which notes every
/// access.
pub struct Probe {
    rules: AccessRules,
    accepts: fn(u64, u8, bool) -> bool,
    log: Mutex<Vec<Access>>,
}

impl Probe {
    pub fn new(rules: AccessRules) -> Arc<Probe> {
        Probe::picky(rules, |_, _, _| true)
    }

    pub fn picky(rules: AccessRules, accepts: fn(u64, u8, bool) -> bool) -> Arc<Probe> {
        Arc::new(Probe { rules, accepts, log: Mutex::default() })
    }

    pub fn take_log(&self) -> Vec<Access> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

impl RegionOps for Probe {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.log.lock().unwrap().push(Access::Read(offset, size));
        let bytes = (0..size.into()).map(|n| offset.wrapping_add(n) & 0xff);
        match self.rules.endianness {
            Endianness::Little => bytes.rev().fold(0, |value, byte| value << 8 | byte),
            Endianness::Big => bytes.fold(0, |value, byte| value << 8 | byte),
        }
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        self.log.lock().unwrap().push(Access::Write(offset, value, size));
    }

    fn rules(&self) -> AccessRules {
        self.rules
    }

    fn accepts(&self, offset: u64, size: u8, is_write: bool) -> bool {
        (self.accepts)(offset, size, is_write)
    }
}

/// A region of `size` bytes of a device that takes single bytes.
pub fn io(name: &str, size: u64) -> MemoryRegion {
    MemoryRegion::io(name, size, Probe::new(AccessRules::bytes(4)))
}

/// `size` bytes of memory, each `fill`.
pub fn ram(name: &str, size: u64, fill: u8) -> MemoryRegion {
    let block = RamBlock::anonymous(name, 4096.max(size)).unwrap();
    block.slice(0, size).unwrap().copy_from(&vec![fill; size as usize]);
    let region = MemoryRegion::ram(name, block);
    region.set_size(size.into());
    region
}

/// The name of what shows at `address`, with the offset in it.
pub fn shown(space: &AddressSpace, address: u64) -> Option<(String, u64)> {
    let view = space.view();
    let range = view.lookup(address)?;
    Some((range.region.name().to_owned(), address - range.start + range.offset))
}

/// `(name, offset)` as [`shown`] gives it.
pub fn at(name: &str, offset: u64) -> Option<(String, u64)> {
    Some((name.to_owned(), offset))
}

/// What a listener heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Begin,
    /// First and last address, name.
    Del(u64, u64, String),
    Add(u64, u64, String),
    FdDel(u64),
    FdAdd(u64),
    CoalescedDel(u64, u64),
    CoalescedAdd(u64, u64),
    Commit,
}

/// Notes what it hears and keeps the map, as an accelerator does with its slots: nothing may be added where
/// something is, nothing may be deleted that is not there.
#[derive(Default)]
pub struct Recorder {
    pub events: Mutex<Vec<Event>>,
    pub map: Mutex<Vec<FlatRange>>,
    pub faults: Mutex<Vec<String>>,
}

impl Recorder {
    pub fn follow(space: &Arc<AddressSpace>) -> Arc<Recorder> {
        let recorder = Arc::new(Recorder::default());
        space.add_listener(recorder.clone());
        recorder
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// The map in order of address; fails when the listener was told nonsense.
    pub fn ranges(&self) -> Vec<FlatRange> {
        assert_eq!(*self.faults.lock().unwrap(), Vec::<String>::new());
        let mut ranges = self.map.lock().unwrap().clone();
        ranges.sort_by_key(|r| r.start);
        ranges
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn fault(&self, text: String) {
        self.faults.lock().unwrap().push(text);
    }
}

impl MemoryListener for Recorder {
    fn begin(&self) {
        self.note(Event::Begin);
    }

    fn region_del(&self, range: &FlatRange) {
        self.note(Event::Del(range.start, range.last, range.region.name().to_owned()));
        let mut map = self.map.lock().unwrap();
        match map.iter().position(|r| r == range) {
            Some(at) => drop(map.swap_remove(at)),
            None => self.fault(format!("{range:?} goes and was not there")),
        }
    }

    fn region_add(&self, range: &FlatRange) {
        self.note(Event::Add(range.start, range.last, range.region.name().to_owned()));
        let mut map = self.map.lock().unwrap();
        if let Some(other) = map.iter().find(|r| r.start <= range.last && range.start <= r.last) {
            self.fault(format!("{range:?} comes over {other:?}"));
        }
        map.push(range.clone());
    }

    fn eventfd_del(&self, fd: &IoEventFd) {
        self.note(Event::FdDel(fd.address));
    }

    fn eventfd_add(&self, fd: &IoEventFd) {
        self.note(Event::FdAdd(fd.address));
    }

    fn coalesced_io_del(&self, address: u64, len: u64) {
        self.note(Event::CoalescedDel(address, len));
    }

    fn coalesced_io_add(&self, address: u64, len: u64) {
        self.note(Event::CoalescedAdd(address, len));
    }

    fn commit(&self) {
        self.note(Event::Commit);
    }
}
