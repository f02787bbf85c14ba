//! What an exit costs on its way to a device, and what a change of the map costs, on the map of a PC.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use memory::{
    AccessRules, AddressSpace, FlatRange, MemTxResult, MemoryListener, MemoryRegion, RamBlock, RegionOps,
    transaction,
};

const GIB: u64 = 1 << 30;

/// A device that does nothing, so that what is measured is the way to it.
struct Device(AccessRules);

impl RegionOps for Device {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        offset
    }
    fn write(&self, _offset: u64, value: u64, _size: u8) {
        black_box(value);
    }
    fn rules(&self) -> AccessRules {
        self.0
    }
}

fn device(name: &str, size: u64) -> MemoryRegion {
    MemoryRegion::io(name, size, Arc::new(Device(AccessRules::sizes(1, 4))))
}

fn ram(name: &str, size: u64) -> MemoryRegion {
    MemoryRegion::ram(name, RamBlock::anonymous(name, size).expect("address space is free"))
}

/// A PC with 4 GiB: low and high memory, the PCI hole with its cards, the segments below 1 MiB, the chips below
/// 4 GiB. Gives a segment as PCI memory and as RAM, of which one shows.
fn pc() -> (MemoryRegion, [MemoryRegion; 2]) {
    let system = MemoryRegion::container("system", 1 << 64);
    let memory = ram("pc.ram", 4 * GIB);
    let pci = MemoryRegion::container("pci", 1 << 64);
    let _transaction = transaction();
    system.add_subregion(0, &MemoryRegion::alias("ram-below-4g", &memory, 0, 3 * GIB));
    system.add_subregion(4 * GIB, &MemoryRegion::alias("ram-above-4g", &memory, 3 * GIB, GIB));
    system.add_subregion_overlap(0, &pci, -1);
    pci.add_subregion(0xfffc_0000, &ram("pc.bios", 0x4_0000));
    pci.add_subregion_overlap(0xa_0000, &device("vga-lowmem", 0x2_0000), 1);
    for n in 0..6 {
        pci.add_subregion_overlap(0xfeb0_0000 + 0x1_0000 * n, &device("bar", 0x1000), 1);
    }
    pci.add_subregion_overlap(0xfd00_0000, &ram("vga.vram", 16 << 20), 1);
    system.add_subregion_overlap(0xa_0000, &MemoryRegion::alias("smram", &pci, 0xa_0000, 0x2_0000), 1);
    let segment = |n: u64, target: &MemoryRegion| {
        let start = 0xc_0000 + 0x4000 * n;
        let region = MemoryRegion::alias("pam", target, start, 0x4000);
        system.add_subregion_overlap(start, &region, 1);
        region
    };
    // As after a BIOS that shadowed every other one.
    for n in (0..12).filter(|n| *n != 5) {
        segment(n, if n % 2 == 0 { &memory } else { &pci }).set_readonly(true);
    }
    let modes = [segment(5, &pci), segment(5, &memory)];
    modes[1].set_enabled(false);
    for (name, address) in [("ioapic", 0xfec0_0000), ("hpet", 0xfed0_0000), ("apic", 0xfee0_0000)] {
        system.add_subregion_overlap(address, &device(name, 0x1000), 4096);
    }
    (system, modes)
}

/// The ports of a PC.
fn ports() -> MemoryRegion {
    let io = device("io", 1 << 16);
    let _transaction = transaction();
    for (port, size) in [
        (0x00, 16),
        (0x20, 2),
        (0x40, 4),
        (0x60, 1),
        (0x64, 1),
        (0x70, 2),
        (0x80, 1),
        (0xa0, 2),
        (0x1f0, 8),
        (0x2f8, 8),
        (0x3c0, 16),
        (0x3f8, 8),
        (0x510, 2),
        (0x600, 64),
        (0xcf8, 4),
        (0xcfc, 4),
        (0xc000, 64),
    ] {
        io.add_subregion(port, &device("port", size));
    }
    io
}

struct Listener;

impl MemoryListener for Listener {
    fn region_add(&self, range: &FlatRange) {
        black_box(range);
    }
    fn region_del(&self, range: &FlatRange) {
        black_box(range);
    }
}

fn look_up(c: &mut Criterion) {
    let (system, _modes) = pc();
    let space = AddressSpace::new("memory", &system);
    let view = space.view();
    println!("the map has {} ranges", view.ranges().len());
    c.bench_function("flat view: look up an address", |b| {
        b.iter(|| view.lookup(black_box(0xfed0_00f0)).map(|range| range.start));
    });
}

fn dispatch(c: &mut Criterion) {
    let (system, _modes) = pc();
    let (memory, io) = (AddressSpace::new("memory", &system), AddressSpace::new("I/O", &ports()));
    let (mut memory, mut io) = (memory.reader(), io.reader());
    c.bench_function("reader: out to a port, the same device again", |b| {
        b.iter(|| assert_eq!(io.write(black_box(0x3f8), black_box(&[1])), MemTxResult::Ok));
    });
    c.bench_function("reader: in from two ports in turn", |b| {
        let mut byte = [0];
        b.iter(|| {
            let _ = black_box(io.read(black_box(0x3fd), &mut byte));
            black_box(io.read(black_box(0x64), &mut byte))
        });
    });
    c.bench_function("reader: 32-bit write to a memory-mapped register", |b| {
        b.iter(|| {
            assert_eq!(memory.write(black_box(0xfeb1_0010), black_box(&[1, 2, 3, 4])), MemTxResult::Ok)
        });
    });
    c.bench_function("reader: 32-bit read of a memory-mapped register", |b| {
        let mut data = [0; 4];
        b.iter(|| black_box(memory.read(black_box(0xfed0_00f0), &mut data)));
    });
}

fn change(c: &mut Criterion) {
    let (system, modes) = pc();
    let space = AddressSpace::new("memory", &system);
    space.add_listener(Arc::new(Listener));
    let mut shown = 0;
    c.bench_function("transaction: a segment below 1 MiB changes", |b| {
        b.iter(|| {
            let _transaction = transaction();
            modes[shown].set_enabled(false);
            shown = 1 - shown;
            modes[shown].set_enabled(true);
        });
    });
}

criterion_group!(benches, look_up, dispatch, change);
criterion_main!(benches);
