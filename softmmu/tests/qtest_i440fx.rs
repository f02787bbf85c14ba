//! The i440FX host bridge and PIIX3 over qtest: configuration space, PAM, the reset of their registers.

use libqtest::QTest;

const PAM_READ: u8 = 1;
const PAM_WRITE: u8 = 2;

fn pc(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(more).start()
}

fn select(vm: &mut QTest, devfn: u32, register: u32) {
    vm.outl(0xcf8, 1 << 31 | devfn << 8 | register & 0xfc);
}

fn config_b(vm: &mut QTest, devfn: u32, register: u32) -> u8 {
    select(vm, devfn, register);
    vm.inb(0xcfc + (register & 3) as u16)
}

fn config_l(vm: &mut QTest, devfn: u32, register: u32) -> u32 {
    select(vm, devfn, register);
    vm.inl(0xcfc)
}

fn set_b(vm: &mut QTest, devfn: u32, register: u32, value: u8) {
    select(vm, devfn, register);
    vm.outb(0xcfc + (register & 3) as u16, value);
}

#[test]
fn identities_and_defaults() {
    let mut vm = pc(&[]);
    assert_eq!(config_l(&mut vm, 0, 0), 0x1237_8086);
    assert_eq!(config_l(&mut vm, 0, 8), 0x0600_0002);
    assert_eq!(config_b(&mut vm, 0, 0x72), 0x02, "SMRAM");
    for register in [0x0d, 0x0e, 0x0f, 0x52, 0x54, 0x68, 0x70, 0x90, 0x91, 0x93].into_iter().chain(0x59..0x60)
    {
        assert_eq!(config_b(&mut vm, 0, register), 0, "{register:#x}");
    }
    // PIIX3, its ACPI function, and nobody.
    assert_eq!(config_l(&mut vm, 8, 0), 0x7000_8086);
    assert_eq!(config_l(&mut vm, 8, 8) >> 8, 0x06_0100);
    assert_eq!(config_l(&mut vm, 11, 0), 0x7113_8086);
    assert_eq!(config_l(&mut vm, 0x80, 0), u32::MAX);
    // Without the enable bit the data port is nobody's.
    vm.outl(0xcf8, 0);
    assert_eq!(vm.inl(0xcfc), u32::MAX);
}

#[test]
fn what_is_read_only_stays() {
    let mut vm = pc(&[]);
    for register in [0, 8, 0x2c] {
        let before = config_l(&mut vm, 0, register);
        select(&mut vm, 0, register);
        vm.outl(0xcfc, !before);
        assert_eq!(config_l(&mut vm, 0, register), before, "{register:#x}");
    }
}

#[test]
fn pam_shows_memory_or_rom_in_each_segment() {
    let mut vm = pc(&[]);
    // Segments 2 to 13, of 16 KiB each from 0xc0000.
    for segment in 0..12_u32 {
        let (start, register) = (0xc_0000 + u64::from(segment) * 0x4000, 0x5a + segment / 2);
        let shift = segment % 2 * 4;
        let set = |vm: &mut QTest, flags: u8| set_b(vm, 0, register, flags << shift);
        set(&mut vm, PAM_READ);
        assert!(vm.memread(start, 0x4000).iter().all(|byte| *byte == 0), "{start:#x}");
        set(&mut vm, PAM_READ | PAM_WRITE);
        vm.memset(start, 0x42, 0x4000);
        assert_eq!(vm.readb(start + 0x3fff), 0x42);
        set(&mut vm, PAM_READ);
        vm.memset(start, 0x82, 0x4000);
        assert_eq!(vm.readb(start), 0x42, "read-only at {start:#x}");
        set(&mut vm, 0);
        assert_ne!(vm.readl(start), 0x4242_4242, "not the memory at {start:#x}");
        set(&mut vm, PAM_READ);
        assert!(vm.memread(start, 0x4000).iter().all(|byte| *byte == 0x42), "{start:#x}");
    }
}

#[test]
fn firmware_is_at_the_top_and_below_one_mebibyte() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("bios");
    let image: Vec<u8> = (0..128 << 10).map(|n: u32| (n ^ n >> 8) as u8).collect();
    std::fs::write(&path, &image).expect("a file in a temporary directory");
    let mut vm = pc(&["-bios", path.to_str().expect("a path of plain letters")]);
    assert_eq!(vm.memread(0xfffe_0000, image.len()), image);
    assert_eq!(vm.memread(0xe_0000, image.len()), image);
    vm.writel(0xffff_0000, 0);
    assert_eq!(vm.memread(0xffff_0000, 4), image[64 << 10..][..4]);
}

#[test]
fn a_reset_through_the_bridge_clears_piix3s_registers_and_keeps_what_qemu_keeps() {
    let mut vm = pc(&[]);
    set_b(&mut vm, 0, 0x59, 0x30);
    set_b(&mut vm, 8, 0x60, 0x0b);
    set_b(&mut vm, 8, 0xac, 0x55);
    set_b(&mut vm, 11, 0x41, 0x06);
    vm.outb(0xb3, 0x77);
    vm.outb(0xcf9, 0x06);
    // The reset is the main loop's: it comes before the next request is read. The address register stays, too.
    assert_eq!(vm.inl(0xcf8), 0x8000_0b40);
    assert_eq!([0x60, 0xac].map(|register| config_b(&mut vm, 8, register)), [0x80, 0]);
    assert_eq!(config_b(&mut vm, 0, 0x59), 0x30, "PAM");
    assert_eq!(config_b(&mut vm, 11, 0x41), 0x06, "but for the lowest byte of the base");
    assert_eq!(vm.inb(0xb3), 0x77, "the SMI status port");
}
