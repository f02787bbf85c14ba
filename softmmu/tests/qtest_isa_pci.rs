//! DMA controllers, the SMBus and `pci-testdev` over qtest: that a PC has them, and where.

use libqtest::QTest;

fn machine(args: &[&str]) -> QTest {
    QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(["-nodefaults"]).args(args).start()
}

#[test]
fn both_dma_controllers_answer_at_their_ports() {
    let mut vm = machine(&[]);
    // Channel 2's address and page, channel 5's address and page.
    vm.outb(0x0c, 0);
    vm.outb(0x04, 0x34);
    vm.outb(0x04, 0x12);
    vm.outb(0x81, 0x56);
    vm.outb(0xd8, 0);
    vm.outb(0xc4, 0x78);
    vm.outb(0xc4, 0x9a);
    vm.outb(0x8b, 0xbc);
    assert_eq!([vm.inb(0x04), vm.inb(0x04), vm.inb(0x81)], [0x34, 0x12, 0x56]);
    assert_eq!([vm.inb(0xc4), vm.inb(0xc4), vm.inb(0x8b)], [0x78, 0x9a, 0xbc]);
    assert_eq!((vm.inb(0x09), vm.inb(0xd2)), (0xff, 0xff), "all channels are masked");
    vm.outb(0xd4, 0);
    assert_eq!((vm.inb(0x09), vm.inb(0xd2)), (0xff, 0xfe));
    // No page register is between them, and a PC has no high pages.
    assert_eq!((vm.inb(0x84), vm.inb(0x481)), (0xff, 0xff));
}

#[test]
fn eight_memories_are_on_the_smbus() {
    let mut vm = machine(&[]);
    let read_byte = |vm: &mut QTest, address: u8, command: u8| {
        vm.outb(0xb100, 0xff);
        vm.outb(0xb104, address << 1 | 1);
        vm.outb(0xb103, command);
        vm.outb(0xb102, 0x48);
        assert_eq!(vm.inb(0xb100) & 1, 1, "busy once");
        (vm.inb(0xb100), vm.inb(0xb105))
    };
    for address in 0x50..0x58 {
        assert_eq!(read_byte(&mut vm, address, 2), (0x02, 0));
    }
    assert_eq!(read_byte(&mut vm, 0x58, 2).0, 0x04);
    vm.outb(0xb100, 0xff);
    vm.outb(0xb104, 0x51 << 1);
    vm.outb(0xb103, 2);
    vm.outb(0xb105, 0x77);
    vm.outb(0xb102, 0x48);
    let _ = [vm.inb(0xb100), vm.inb(0xb100)];
    assert_eq!(read_byte(&mut vm, 0x51, 2), (0x02, 0x77));
    assert_eq!(read_byte(&mut vm, 0x52, 2), (0x02, 0));
}

#[test]
fn pci_testdev_counts_what_matches() {
    let mut vm = machine(&["-device", "pci-testdev,addr=6"]);
    let config = |vm: &mut QTest, register: u32| vm.outl(0xcf8, 1 << 31 | 6 << 11 | register);
    config(&mut vm, 0);
    assert_eq!(vm.inl(0xcfc), 0x0005_1b36);
    config(&mut vm, 0x10);
    vm.outl(0xcfc, 0xe000_0000);
    config(&mut vm, 0x14);
    vm.outl(0xcfc, 0xc000);
    config(&mut vm, 4);
    vm.outw(0xcfc, 3);
    assert_eq!(vm.readl(0xe000_0000), 0, "no test is chosen");
    vm.writeb(0xe000_0000, 0);
    let offset = vm.readl(0xe000_0004);
    assert_eq!((offset, vm.readb(0xe000_0008)), (2048, 0xfa));
    for value in [0xfa, 0xce, 0xfa] {
        vm.writeb(0xe000_0000 + u64::from(offset), value);
    }
    assert_eq!(vm.readl(0xe000_000c), 2);
    let mut name = [0; 15];
    (0..).zip(&mut name).for_each(|(at, byte)| *byte = vm.readb(0xe000_0010 + at));
    assert_eq!(&name, b"mmio-no-eventfd");
    // The ports' first test, then one that there is not.
    vm.outb(0xc000, 0);
    assert_eq!((vm.inb(0xc000), vm.inb(0xc004), vm.inb(0xc010)), (3, 131, b'p'));
    vm.outb(0xc083, 0xfa);
    assert_eq!(vm.inb(0xc00c), 1);
    vm.outb(0xc000, 3);
    assert_eq!(vm.inb(0xc004), 0);
}
