//! What `-d guest_errors` says of accesses that go wrong. One test: the log is the process's.

mod common;

use common::Probe;
use memory::{AccessRules, AddressSpace, MemoryRegion, RamBlock, RegionOps};
use util::log::{self, Mask};

/// Takes reads only.
struct ReadOnly;

impl RegionOps for ReadOnly {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0
    }
    fn write(&self, _offset: u64, _value: u64, _size: u8) {}
    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 8).asking()
    }
    fn accepts(&self, _offset: u64, _size: u8, is_write: bool) -> bool {
        !is_write
    }
}

#[test]
fn refused_accesses_are_logged_with_region_and_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log").to_str().unwrap().to_owned();
    let root = MemoryRegion::container("root", 1 << 32);
    let space = AddressSpace::new("test", &root);
    root.add_subregion(0x1000, &MemoryRegion::io("words", 16, Probe::new(AccessRules::sizes(2, 4))));
    root.add_subregion(0x2000, &MemoryRegion::io("read-only", 16, std::sync::Arc::new(ReadOnly)));
    root.add_subregion(0x3000, &MemoryRegion::rom("rom", RamBlock::anonymous("rom", 0x1000).unwrap()));
    let read = |address: u64, size: u8| space.reader().read_value(address, size);
    let write = |address: u64, size: u8| space.reader().write_value(address, 0, size);
    // Nothing is logged unless asked for.
    read(0x8000, 4);
    log::set(Mask::GUEST_ERROR, Some(&path)).unwrap();
    read(0xabcd_ef00, 8);
    write(0x9003, 2);
    read(0x1000, 4);
    read(0x1003, 1);
    write(0x1001, 2);
    write(0x2008, 8);
    read(0x2008, 8);
    write(0x3010, 4);
    log::set(Mask::empty(), None).unwrap();
    let expected = "\
        Invalid read at addr 0xABCDEF00, size 4, region '(null)', reason: rejected\n\
        Invalid read at addr 0xABCDEF04, size 4, region '(null)', reason: rejected\n\
        Invalid write at addr 0x9003, size 1, region '(null)', reason: rejected\n\
        Invalid write at addr 0x9004, size 1, region '(null)', reason: rejected\n\
        Invalid read at addr 0x3, size 1, region 'words', reason: invalid size (min:2 max:4)\n\
        Invalid write at addr 0x1, size 1, region 'words', reason: invalid size (min:2 max:4)\n\
        Invalid write at addr 0x2, size 1, region 'words', reason: invalid size (min:2 max:4)\n\
        Invalid write at addr 0x8, size 8, region 'read-only', reason: rejected\n\
        Invalid write at addr 0x10, size 4, region 'rom', reason: rejected\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
}
