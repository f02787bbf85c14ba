//! KVM's memory slots follow the memory map, and touch only what changed.

mod common;

use common::{Port, Vm};
use memory::{MemoryRegion, RamBlock, get_system_memory, transaction};

const BASE: u64 = 0x1000_0000;

fn ram(name: &str, size: u64) -> MemoryRegion {
    MemoryRegion::ram(name, RamBlock::anonymous(name, size).unwrap())
}

/// The slots of these tests: number, address from [`BASE`] and size, by address.
fn slots(vm: &Vm) -> Vec<(u32, u64, u64)> {
    let mut slots = vm.kvm.memory_listener().unwrap().slots();
    slots.retain(|(_, start, _)| *start >= BASE);
    slots.sort_by_key(|(_, start, _)| *start);
    slots.into_iter().map(|(id, start, size)| (id, start - BASE, size)).collect()
}

fn places(vm: &Vm) -> Vec<(u64, u64)> {
    slots(vm).into_iter().map(|(_, start, size)| (start, size)).collect()
}

#[test]
fn memory_has_a_slot_while_it_shows() {
    let vm = Vm::take();
    let region = ram("ram", 0x10000);
    get_system_memory().add_subregion(BASE, &region);
    assert_eq!(places(&vm), [(0, 0x10000)]);
    region.set_address(BASE + 0x100000);
    assert_eq!(places(&vm), [(0x100000, 0x10000)]);
    region.set_enabled(false);
    assert_eq!(places(&vm), []);
    region.set_enabled(true);
    assert_eq!(places(&vm), [(0x100000, 0x10000)]);
    region.unmap();
    assert_eq!(places(&vm), []);
}

#[test]
fn what_covers_memory_splits_its_slot_and_leaves_the_others_alone() {
    let vm = Vm::take();
    let (low, high) = (ram("low", 0x10000), ram("high", 0x10000));
    {
        let _transaction = transaction();
        get_system_memory().add_subregion(BASE, &low);
        get_system_memory().add_subregion(BASE + 0x20000, &high);
    }
    let before = slots(&vm);
    let (device, _receiver) = Port::region("device", 0x1000);
    get_system_memory().add_subregion_overlap(BASE + 0x24000, &device, 1);
    assert_eq!(places(&vm), [(0, 0x10000), (0x20000, 0x4000), (0x25000, 0xb000)]);
    assert_eq!(slots(&vm)[0], before[0]);
    device.unmap();
    assert_eq!(places(&vm), [(0, 0x10000), (0x20000, 0x10000)]);
    assert_eq!(slots(&vm)[0], before[0]);
    low.unmap();
    high.unmap();
}

#[test]
fn a_slots_number_is_used_again() {
    let vm = Vm::take();
    let regions = [0, 1, 2].map(|n| {
        let region = ram("ram", 0x1000);
        get_system_memory().add_subregion(BASE + 0x2000 * n, &region);
        region
    });
    let numbers: Vec<u32> = slots(&vm).iter().map(|slot| slot.0).collect();
    regions[1].unmap();
    get_system_memory().add_subregion(BASE + 0x8000, &regions[1]);
    assert_eq!(
        slots(&vm).iter().map(|slot| slot.0).collect::<Vec<_>>(),
        [numbers[0], numbers[2], numbers[1]]
    );
    regions.iter().for_each(MemoryRegion::unmap);
}

#[test]
fn a_slot_covers_whole_pages_only() {
    let vm = Vm::take();
    let region = ram("ram", 0x4000);
    let window = MemoryRegion::alias("window", &region, 0x800, 0x2c00);
    get_system_memory().add_subregion(BASE + 0x800, &window);
    assert_eq!(places(&vm), [(0x1000, 0x2000)]);
    // Memory that is not a page's multiple away from its address cannot be a slot at all.
    window.set_address(BASE + 0x1000);
    assert_eq!(places(&vm), []);
    window.unmap();
    assert_eq!(places(&vm), []);
}

#[test]
fn one_block_shows_in_two_places() {
    let vm = Vm::take();
    let region = ram("ram", 0x4000);
    let alias = MemoryRegion::alias("alias", &region, 0x2000, 0x2000);
    get_system_memory().add_subregion(BASE, &region);
    get_system_memory().add_subregion(BASE + 0x10000, &alias);
    assert_eq!(places(&vm), [(0, 0x4000), (0x10000, 0x2000)]);
    region.unmap();
    assert_eq!(places(&vm), [(0x10000, 0x2000)]);
    alias.unmap();
}

#[test]
fn a_guest_runs_what_it_is_shown_and_writes_only_what_it_may() {
    let vm = Vm::take();
    // At 0x9000, in place of the machine's memory, read-only memory with `mov ax, 0x1234; ret` in it.
    let block = RamBlock::anonymous("rom", 0x1000).unwrap();
    block.slice(0, 4).unwrap().copy_from(&[0xb8_u8, 0x34, 0x12, 0xc3]);
    let rom = MemoryRegion::rom("rom", block);
    get_system_memory().add_subregion_overlap(0x9000, &rom, 1);
    // mov di, 0x9001; mov word [di], 0x5555; mov cx, 0x9000; call cx
    let code = [0xbf, 0x01, 0x90, 0xc7, 0x05, 0x55, 0x55, 0xb9, 0x00, 0x90, 0xff, 0xd1];
    assert_eq!(vm.run(&code), 0x1234);
    // Not read-only any more, the write arrives.
    rom.set_readonly(false);
    assert_eq!(vm.run(&code), 0x5555);
    rom.unmap();
}
