//! What `-boot` and the numbers of CPUs tell firmware, over qtest: CMOS and fw_cfg.

use libqtest::QTest;

const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;
const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const NB_CPUS: u16 = 0x05;
const BOOT_MENU: u16 = 0x0e;
const MAX_CPUS: u16 = 0x0f;
const FILE_DIR: u16 = 0x19;
/// PIIX3's reset control register.
const RESET: u16 = 0xcf9;

fn pc(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(more).start()
}

/// The devices to boot from, first to third: 1 floppy, 2 hard disk, 3 CD-ROM, 4 network.
fn order(vm: &mut QTest) -> [u8; 3] {
    let mut read = |at| {
        vm.outb(CMOS_INDEX, at);
        vm.inb(CMOS_DATA)
    };
    let (two, third) = (read(0x3d), read(0x38));
    [two & 0xf, two >> 4, third >> 4]
}

fn read(vm: &mut QTest, key: u16, len: usize) -> Vec<u8> {
    vm.outw(SELECTOR, key);
    (0..len).map(|_| vm.inb(DATA)).collect()
}

/// The contents of a file, if there is one of that name.
fn file(vm: &mut QTest, name: &str) -> Option<Vec<u8>> {
    let word = |bytes: &[u8]| bytes.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
    let count = word(&read(vm, FILE_DIR, 4));
    let list = read(vm, FILE_DIR, 4 + count * 64).split_off(4);
    let of_name = |entry: &&[u8]| entry[8..].strip_prefix(name.as_bytes()).is_some_and(|rest| rest[0] == 0);
    let entry = list.chunks(64).find(of_name)?;
    Some(read(vm, word(&entry[4..6]) as u16, word(&entry[..4])))
}

#[test]
fn the_order_is_in_cmos() {
    assert_eq!(order(&mut pc(&[])), [2, 1, 3], "cad, the machine's own");
    assert_eq!(order(&mut pc(&["-boot", "order=nd"])), [4, 3, 0]);
    assert_eq!(order(&mut pc(&["-boot", "a"])), [1, 0, 0]);
}

#[test]
fn an_order_for_once_lasts_until_the_first_reset() {
    let mut vm = pc(&["-boot", "order=dc,once=n"]);
    assert_eq!(order(&mut vm), [4, 0, 0]);
    for _ in 0..2 {
        vm.outb(RESET, 0x06);
        // A reset is done by the time the next line is answered, or soon after.
        while order(&mut vm) == [4, 0, 0] {}
        assert_eq!(order(&mut vm), [3, 2, 0]);
    }
}

#[test]
fn the_menu_and_times_are_in_fw_cfg() {
    let mut vm = pc(&[]);
    assert_eq!(read(&mut vm, BOOT_MENU, 2), [0, 0]);
    assert_eq!(file(&mut vm, "etc/boot-fail-wait"), Some(vec![0xff; 4]), "never tried again");
    assert_eq!(file(&mut vm, "etc/boot-menu-wait"), None);
    let mut vm = pc(&["-boot", "menu=on,splash-time=5000,reboot-timeout=2,strict=on"]);
    assert_eq!(read(&mut vm, BOOT_MENU, 2), [1, 0]);
    assert_eq!(file(&mut vm, "etc/boot-fail-wait"), Some(vec![2, 0, 0, 0]));
    assert_eq!(file(&mut vm, "etc/boot-menu-wait"), Some(5000_u16.to_le_bytes().to_vec()));
}

#[test]
fn a_picture_is_a_file_named_by_its_format() {
    let directory = tempfile::tempdir().unwrap();
    let mut bitmap = [0; 40];
    bitmap[..2].copy_from_slice(b"BM");
    bitmap[28] = 24;
    let path = directory.path().join("picture");
    std::fs::write(&path, bitmap).unwrap();
    let boot = format!("splash={}", path.display());
    assert_eq!(file(&mut pc(&["-boot", &boot]), "bootsplash.bmp"), Some(bitmap.to_vec()));
    let picture = [&[0xff, 0xd8][..], &[7; 30]].concat();
    std::fs::write(&path, &picture).unwrap();
    assert_eq!(file(&mut pc(&["-boot", &boot]), "bootsplash.jpg"), Some(picture));
    // A bitmap of 8 bits a pixel: the machine starts without.
    bitmap[28] = 8;
    std::fs::write(&path, bitmap).unwrap();
    assert_eq!(file(&mut pc(&["-boot", &boot]), "bootsplash.bmp"), None);
}

#[test]
fn cpus_that_could_be_are_told_apart_from_those_that_are() {
    let mut vm = pc(&["-smp", "2,maxcpus=6"]);
    assert_eq!(read(&mut vm, NB_CPUS, 2), [2, 0]);
    assert_eq!(read(&mut vm, MAX_CPUS, 2), [6, 0]);
    // In the MADT: two local APICs enabled, four not.
    let tables = file(&mut vm, "etc/acpi/tables").expect("tables");
    let at = tables.windows(4).position(|word| word == b"APIC").expect("a MADT");
    let length = u32::from_le_bytes(tables[at + 4..at + 8].try_into().unwrap()) as usize;
    let mut entries = &tables[at + 44..at + length];
    let mut enabled = Vec::new();
    while let [kind, size, ..] = *entries {
        if kind == 0 {
            enabled.push(entries[4] & 1);
        }
        entries = &entries[usize::from(size)..];
    }
    assert_eq!(enabled, [1, 1, 0, 0, 0, 0]);
}

/// A kernel for `-kernel`: a Multiboot header that says where it goes, and nothing else.
fn kernel() -> tempfile::NamedTempFile {
    const MAGIC: u32 = 0x1bad_b002;
    const HAS_ADDRESSES: u32 = 1 << 16;
    const AT: u32 = 0x10_0000;
    let words = [MAGIC, HAS_ADDRESSES, 0_u32.wrapping_sub(MAGIC + HAS_ADDRESSES), AT, AT, 0, 0, AT, 0xf4, 0];
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), words.map(u32::to_le_bytes).concat()).unwrap();
    file
}

#[test]
fn a_kernel_finds_chips_and_low_memory_as_a_firmware_leaves_them() {
    let kernel = kernel();
    let file = kernel.path().to_str().unwrap();
    for (more, equipment) in [(&["-serial", "null", "-serial", "null"][..], 0x0406), (&[], 0x0006)] {
        let mut vm = pc(&[&["-kernel", file], more].concat());
        for _ in 0..2 {
            // Interrupt masks; counter 0 in mode 2, words.
            assert_eq!((vm.inb(0x21), vm.inb(0xa1)), (0xb8, 0x8e));
            vm.outb(0x43, 0xe2);
            assert_eq!(vm.inb(0x40) & 0x3f, 0x34);
            // The timer's interrupt leads to other code than the one that no device has.
            let [timer, nothing] = [0x08, 0x1c].map(|vector| vm.readl(4 * vector));
            assert_eq!((timer >> 16, nothing), (0xf000, 0xf000_ff53));
            assert_ne!(timer, nothing);
            assert_eq!(vm.readw(0x410), equipment);
            // A guest changes all of it, and resets.
            vm.outb(0x21, 0xff);
            vm.outb(0x43, 0x30);
            vm.writel(0x20, 0);
            vm.outb(RESET, 0x06);
            while vm.inb(0x21) == 0xff {}
        }
        // 18.2 Hz: the interrupt is requested.
        vm.outb(0x20, 0x0a);
        assert_eq!(vm.inb(0x20) & 1, 0);
        vm.clock_step(55_000_000);
        assert_eq!(vm.inb(0x20) & 1, 1);
    }
}
