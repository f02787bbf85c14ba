//! What shows where: priorities, aliases, enabling, moving, resizing, read-only memory and ROM devices.

mod common;

use common::{Access, Probe, at, io, ram, shown};
use memory::{AccessRules, AddressSpace, MemTxResult, MemoryRegion, RamBlock, transaction};

fn space(size: u128) -> (MemoryRegion, std::sync::Arc<AddressSpace>) {
    let root = MemoryRegion::container("root", size);
    let space = AddressSpace::new("test", &root);
    (root, space)
}

#[test]
fn the_higher_priority_shows_and_its_holes_show_what_is_below() {
    let (root, space) = space(1 << 16);
    let window = MemoryRegion::container("window", 0x100);
    window.add_subregion(0x10, &io("hole", 0x10));
    root.add_subregion(0, &io("low", 0x100));
    root.add_subregion_overlap(0, &window, 1);
    root.add_subregion_overlap(0x18, &io("negative", 0x100), -1);
    assert_eq!(shown(&space, 0xf), at("low", 0xf));
    assert_eq!(shown(&space, 0x10), at("hole", 0));
    assert_eq!(shown(&space, 0x1f), at("hole", 0xf));
    assert_eq!(shown(&space, 0x20), at("low", 0x20));
    assert_eq!(shown(&space, 0x100), at("negative", 0xe8));
    assert_eq!(shown(&space, 0x118), None);
}

#[test]
fn of_equal_priorities_the_later_shows() {
    let (root, space) = space(0x100);
    let (first, second) = (io("first", 0x10), io("second", 0x10));
    root.add_subregion_overlap(0, &first, 3);
    root.add_subregion_overlap(8, &second, 3);
    assert_eq!(shown(&space, 8), at("second", 0));
    // Moving counts as coming again.
    first.set_address(4);
    assert_eq!(shown(&space, 8), at("first", 4));
    // Moving to where it is does not.
    second.set_address(8);
    assert_eq!(shown(&space, 8), at("first", 4));
}

#[test]
fn a_child_is_clipped_by_its_container() {
    let (root, space) = space(0x1000);
    let small = MemoryRegion::container("small", 0x20);
    let child = io("child", 0x100);
    small.add_subregion(0x10, &child);
    root.add_subregion(0x100, &small);
    assert_eq!(shown(&space, 0x10f), None);
    assert_eq!(shown(&space, 0x110), at("child", 0));
    assert_eq!(shown(&space, 0x11f), at("child", 0xf));
    assert_eq!(shown(&space, 0x120), None);
    small.set_size(0x40);
    assert_eq!(shown(&space, 0x13f), at("child", 0x2f));
    child.set_size(1);
    assert_eq!(shown(&space, 0x111), None);
}

#[test]
fn an_alias_shows_a_window_of_its_target_and_of_what_is_mapped_into_it() {
    let (root, space) = space(0x1000);
    let target = ram("target", 0x100, 0);
    target.add_subregion(0x80, &io("overlay", 0x10));
    let alias = MemoryRegion::alias("alias", &target, 0x70, 0x20);
    root.add_subregion(0x500, &alias);
    assert_eq!(shown(&space, 0x500), at("target", 0x70));
    assert_eq!(shown(&space, 0x510), at("overlay", 0));
    assert_eq!(shown(&space, 0x51f), at("overlay", 0xf));
    assert_eq!(shown(&space, 0x520), None);
    alias.set_alias_offset(0xf8);
    // A window beyond its target's end shows nothing there.
    assert_eq!(shown(&space, 0x507), at("target", 0xff));
    assert_eq!(shown(&space, 0x508), None);
}

#[test]
fn an_alias_does_not_care_where_its_target_is_mapped() {
    let (root, space) = space(0x1000);
    let target = ram("target", 0x100, 0);
    root.add_subregion(0x800, &target);
    root.add_subregion(0, &MemoryRegion::alias("alias", &target, 0x10, 0x10));
    assert_eq!(shown(&space, 5), at("target", 0x15));
    target.set_address(0x900);
    assert_eq!(shown(&space, 5), at("target", 0x15));
    // Hidden at its own place, it is hidden everywhere.
    target.set_enabled(false);
    assert_eq!(shown(&space, 5), None);
}

#[test]
fn aliases_of_aliases_add_up() {
    let (root, space) = space(0x1000);
    let target = ram("target", 0x100, 0);
    let inner = MemoryRegion::alias("inner", &target, 0x20, 0x40);
    let outer = MemoryRegion::alias("outer", &inner, 0x30, 0x40);
    root.add_subregion(0x100, &outer);
    assert_eq!(shown(&space, 0x100), at("target", 0x50));
    assert_eq!(shown(&space, 0x10f), at("target", 0x5f));
    // The inner one ends here.
    assert_eq!(shown(&space, 0x110), None);
}

#[test]
fn hiding_a_container_hides_what_is_below() {
    let (root, space) = space(0x1000);
    let container = MemoryRegion::container("container", 0x100);
    container.add_subregion(0, &io("inside", 0x10));
    root.add_subregion(0, &io("below", 0x100));
    root.add_subregion_overlap(0, &container, 1);
    assert_eq!(shown(&space, 0), at("inside", 0));
    container.set_enabled(false);
    assert_eq!(shown(&space, 0), at("below", 0));
    container.set_enabled(true);
    assert_eq!(shown(&space, 0), at("inside", 0));
}

#[test]
fn the_whole_of_64_bits_can_show() {
    let (root, space) = space(1 << 64);
    root.add_subregion(u64::MAX - 0xff, &io("top", 0x100));
    assert_eq!(shown(&space, u64::MAX), at("top", 0xff));
    root.add_subregion_overlap(0, &MemoryRegion::alias("all", &io("everything", u64::MAX), 0, u64::MAX), -1);
    assert_eq!(shown(&space, u64::MAX - 0x100), at("everything", u64::MAX - 0x100));
    // An access that would run over the end goes on at zero, where the other is.
    let mut data = [0xee; 4];
    assert_eq!(space.read(u64::MAX - 1, &mut data), MemTxResult::Ok);
    assert_eq!(data, [0xfe, 0xff, 0, 1]);
}

#[test]
fn consecutive_windows_on_consecutive_bytes_are_one_range() {
    let (root, space) = space(0x1000);
    let target = ram("target", 0x100, 0);
    let window = |n: u64| MemoryRegion::alias("part", &target, n * 0x40, 0x40);
    let parts = [window(0), window(1), window(2)];
    for (n, part) in parts.iter().enumerate() {
        root.add_subregion(0x100 + 0x40 * n as u64, part);
    }
    let view = space.view();
    assert_eq!(view.ranges().iter().map(|r| (r.start, r.last)).collect::<Vec<_>>(), [(0x100, 0x1bf)]);
    parts[1].set_readonly(true);
    assert_eq!(space.view().ranges().len(), 3);
}

#[test]
fn a_region_taken_out_can_be_mapped_elsewhere() {
    let (root, space) = space(0x1000);
    let region = io("region", 0x10);
    root.add_subregion(0, &region);
    region.unmap();
    assert!(!region.is_mapped());
    assert_eq!(shown(&space, 0), None);
    root.add_subregion(0x100, &region);
    assert_eq!(shown(&space, 0x100), at("region", 0));
}

#[test]
#[should_panic(expected = "mapped twice")]
fn a_region_is_mapped_once() {
    let (root, _space) = space(0x1000);
    let region = io("region", 0x10);
    root.add_subregion(0, &region);
    root.add_subregion(0x100, &region);
}

#[test]
fn read_only_memory_drops_writes_however_it_became_so() {
    let (root, space) = space(0x10000);
    let rom = MemoryRegion::rom("rom", RamBlock::anonymous("rom", 4096).unwrap());
    let memory = ram("ram", 4096, 7);
    let shadow = MemoryRegion::alias("shadow", &memory, 0, 4096);
    shadow.set_readonly(true);
    root.add_subregion(0, &rom);
    root.add_subregion(0x1000, &memory);
    root.add_subregion(0x2000, &shadow);
    let written = |address: u64| {
        assert_eq!(space.write(address, &[0x5a]), MemTxResult::Ok);
        let mut data = [0];
        assert_eq!(space.read(address, &mut data), MemTxResult::Ok);
        data[0]
    };
    assert_eq!(written(0), 0);
    assert_eq!(written(0x2000), 7);
    assert_eq!(written(0x1000), 0x5a);
    shadow.set_readonly(false);
    assert_eq!(written(0x2001), 0x5a);
    // A loader writes ROMs all the same.
    assert_eq!(space.view().write_rom(0xffe, &[1, 2, 3]), MemTxResult::Ok);
    let mut data = [0; 3];
    assert_eq!(space.read(0xffe, &mut data), MemTxResult::Ok);
    assert_eq!(data, [1, 2, 3]);
}

#[test]
fn a_rom_device_reads_as_memory_until_it_is_told_otherwise() {
    let (root, space) = space(0x10000);
    let probe = Probe::new(AccessRules::bytes(4));
    let block = RamBlock::anonymous("flash", 4096).unwrap();
    block.slice(0x10, 1).unwrap().copy_from(&[0xab_u8]);
    let flash = MemoryRegion::rom_device("flash", block.into(), probe.clone());
    root.add_subregion(0x1000, &flash);
    let read = || {
        let mut data = [0];
        assert_eq!(space.read(0x1010, &mut data), MemTxResult::Ok);
        data[0]
    };
    assert_eq!(read(), 0xab);
    assert_eq!(space.write(0x1010, &[0x40]), MemTxResult::Ok);
    assert_eq!(probe.take_log(), [Access::Write(0x10, 0x40, 1)]);
    assert_eq!(read(), 0xab);
    flash.set_romd_mode(false);
    assert_eq!(read(), 0x10);
    assert_eq!(probe.take_log(), [Access::Read(0x10, 1)]);
    flash.set_romd_mode(true);
    assert_eq!(read(), 0xab);
}

#[test]
fn a_transaction_shows_at_its_outermost_end() {
    let (root, space) = space(0x1000);
    let region = io("region", 0x10);
    let outer = transaction();
    {
        let _inner = transaction();
        root.add_subregion(0, &region);
        region.set_size(0x20);
    }
    assert_eq!(shown(&space, 0), None);
    drop(outer);
    assert_eq!(shown(&space, 0x1f), at("region", 0x1f));
}

#[test]
fn two_spaces_follow_one_tree() {
    let (root, whole) = space(0x1000);
    let part = MemoryRegion::container("part", 0x100);
    let inner = AddressSpace::new("part", &part);
    root.add_subregion(0x200, &MemoryRegion::alias("window", &part, 0, 0x100));
    part.add_subregion(0x10, &io("region", 1));
    assert_eq!(shown(&whole, 0x210), at("region", 0));
    assert_eq!(shown(&inner, 0x10), at("region", 0));
}

#[test]
fn a_view_that_is_held_keeps_what_it_shows() {
    let (root, space) = space(0x1000);
    let region = ram("region", 0x10, 9);
    root.add_subregion(0, &region);
    let view = space.view();
    region.unmap();
    drop(region);
    let mut data = [0];
    assert_eq!(view.read(0, &mut data), MemTxResult::Ok);
    assert_eq!(data, [9]);
    assert_eq!(space.read(0, &mut data), MemTxResult::DecodeError);
    assert_eq!(data, [0]);
}
