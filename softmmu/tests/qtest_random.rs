//! Random accesses to all of the board's ports and registers at once: whatever a guest does, the program answers.

use libqtest::QTest;
use proptest::prelude::*;

/// Ports of chips, with how many there are. Those that end the machine or reset it are among them.
const PORTS: [(u16, u16); 17] = [
    (0x00, 0x10),
    (0x20, 2),
    (0x40, 4),
    (0x60, 5),
    (0x70, 2),
    (0x80, 0x10),
    (0x92, 1),
    (0xa0, 2),
    (0xb2, 2),
    (0xc0, 0x20),
    (0xe0, 12),
    (0x3f8, 8),
    (0x441, 4),
    (0x4d0, 2),
    (0x510, 12),
    (0x600, 0x40),
    (0xcf8, 8),
];
/// The SMBus, and where nothing is.
const MORE_PORTS: [(u16, u16); 3] = [(0xb100, 0x10), (0xafe0, 4), (0x2000, 24)];
/// Registers in memory: I/O APIC, HPET, local APIC, `pc-testdev`.
const MEMORY: [(u64, u64); 4] =
    [(0xfec0_0000, 0x50), (0xfed0_0000, 0x400), (0xfee0_0000, 0x400), (0xff00_0000, 0x100)];

/// One access: kind, place, value and size.
type Access = (u8, u16, u32, u8);

fn access(vm: &mut QTest, (kind, place, value, size): Access) {
    let ports = PORTS.iter().chain(&MORE_PORTS);
    let (base, count) = *ports.clone().nth(usize::from(place) % ports.count()).expect("a port");
    let port = base + (place >> 8) % count;
    let (base, length) = MEMORY[usize::from(place) % MEMORY.len()];
    let address = base + u64::from(value >> 16) * 4 % length;
    match (kind % 8, size % 3) {
        (0 | 1, 0) => vm.outb(port, value as u8),
        (0 | 1, 1) => vm.outw(port, value as u16),
        (0 | 1, _) => vm.outl(port, value),
        (2, 0) => drop(vm.inb(port)),
        (2, 1) => drop(vm.inw(port)),
        (2, _) => drop(vm.inl(port)),
        (3, 0) => vm.writeb(address, value as u8),
        (3, _) => vm.writel(address, value),
        (4, _) => drop(vm.readl(address)),
        // Configuration space of the functions there are.
        (5 | 6, _) => {
            let function = [0, 8, 11, 0x20, 0x28][usize::from(place) % 5];
            vm.outl(0xcf8, 1 << 31 | function << 8 | value >> 24 & 0xfc);
            vm.outl(0xcfc, value);
        }
        _ => drop(vm.clock_step(u64::from(value) / 64)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_guest_does_ends_the_program(accesses in prop::collection::vec(any::<Access>(), 300)) {
        let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
            .args(["-nodefaults", "-no-shutdown", "-serial", "null", "-action", "panic=none,watchdog=none"])
            .args(["-device", "pc-testdev", "-device", "pci-testdev,addr=4", "-device", "i6300esb,addr=5"])
            .args(["-device", "ib700", "-device", "pvpanic"])
            .start();
        for step in accesses {
            access(&mut vm, step);
        }
        // What was moved over the timer's ports goes: PIIX4's registers and SMBus, `pci-testdev`.
        for (function, register) in [(0xb, 0x80), (0xb, 0xd0), (0x20, 4)] {
            vm.outl(0xcf8, 1 << 31 | function << 8 | register);
            vm.outl(0xcfc, 0);
        }
        // It answers still, once what was latched is read.
        (0..3).for_each(|_| {
            vm.inb(0x42);
        });
        vm.outb(0x43, 0xb8);
        vm.outb(0x43, 0xe8);
        prop_assert_eq!(vm.inb(0x42) & 0x3f, 0x38, "counter 2 is as it was programmed");
    }
}
