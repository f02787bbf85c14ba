//! Views as vm-memory's `GuestMemory`: pieces of several regions, and no way to what is not memory or not writable.

use std::sync::Arc;

use memory::vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};
use memory::{AddressSpace, FlatView, MemoryRegion, RamBlock, RegionOps};

struct Nothing;

impl RegionOps for Nothing {
    fn read(&self, _: u64, _: u8) -> u64 {
        0
    }
    fn write(&self, _: u64, _: u64, _: u8) {}
}

fn block(name: &str, size: u64) -> RamBlock {
    RamBlock::anonymous(name, size).expect("memory")
}

/// RAM at 0 and, as another region, right behind it; ROM at 0x4000; a device at 0x6000; RAM at the very end.
fn space() -> (Arc<AddressSpace>, MemoryRegion) {
    let root = MemoryRegion::container("root", 1 << 64);
    let second = MemoryRegion::ram("second", block("second", 0x1000));
    root.add_subregion(0, &MemoryRegion::ram("first", block("first", 0x1000)));
    root.add_subregion(0x1000, &second);
    root.add_subregion(0x4000, &MemoryRegion::rom("rom", block("rom", 0x1000)));
    root.add_subregion(0x6000, &MemoryRegion::io("io", 0x1000, Arc::new(Nothing)));
    root.add_subregion(0u64.wrapping_sub(0x1000), &MemoryRegion::ram("end", block("end", 0x1000)));
    (AddressSpace::new("test", &root), second)
}

fn slices(view: &FlatView, address: u64, len: usize, access: Permissions) -> Vec<Option<usize>> {
    let slices = view.get_slices(GuestAddress(address), len, access).expect("an iterator");
    slices.map(|slice| slice.ok().map(|s| s.len())).collect()
}

#[test]
fn a_range_over_two_regions_comes_in_two_pieces() {
    let (space, _) = space();
    let view = space.view();
    assert_eq!(slices(&view, 0xff0, 0x20, Permissions::Write), [Some(0x10), Some(0x10)]);
    view.write_slice(&[7; 0x20], GuestAddress(0xff0)).expect("memory");
    let mut back = [0; 0x20];
    view.read_slice(&mut back, GuestAddress(0xff0)).expect("memory");
    assert_eq!(back, [7; 0x20]);
}

#[test]
fn what_is_not_memory_is_an_error() {
    let (space, _) = space();
    let view = space.view();
    assert_eq!(slices(&view, 0x1ff0, 0x20, Permissions::Read), [Some(0x10), None]);
    assert_eq!(slices(&view, 0x6000, 4, Permissions::Read), [None]);
    assert_eq!(slices(&view, u64::MAX - 1, 4, Permissions::Read), [None]);
    assert!(!view.check_range(GuestAddress(0x1ff0), 0x20, Permissions::Read));
    assert!(view.check_range(GuestAddress(0u64.wrapping_sub(0x1000)), 0x1000, Permissions::Write));
}

#[test]
fn rom_is_only_read() {
    let (space, _) = space();
    let view = space.view();
    assert!(view.check_range(GuestAddress(0x4000), 0x1000, Permissions::Read));
    assert!(!view.check_range(GuestAddress(0x4000), 1, Permissions::Write));
    assert!(view.write_slice(&[1], GuestAddress(0x4000)).is_err());
}

#[test]
fn a_view_that_is_held_stays_as_it_was() {
    let (space, second) = space();
    let before = space.view();
    second.unmap();
    assert!(before.check_range(GuestAddress(0x1000), 0x1000, Permissions::Write));
    assert!(!space.view().check_range(GuestAddress(0x1000), 1, Permissions::Write));
}
