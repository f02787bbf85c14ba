//! The firmware configuration device over qtest: by ports and by DMA.

#[path = "common/fw_cfg.rs"]
mod fw_cfg;

use fw_cfg::{SELECTOR, files, read};
use libqtest::QTest;

const DMA_HIGH: u16 = 0x514;
const DMA_LOW: u16 = 0x518;
const SIGNATURE: u16 = 0;
const ID: u16 = 1;
const UUID: u16 = 2;
const RAM_SIZE: u16 = 3;
const NB_CPUS: u16 = 5;

fn pc(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(more).start()
}

#[test]
fn items_say_what_the_machine_is() {
    let uuid = "4600cb32-38ec-4b2f-8acb-81c6ea54f2d8";
    let mut vm = pc(&["-m", "64", "-smp", "2", "-uuid", uuid]);
    assert_eq!(read(&mut vm, SIGNATURE, 4), b"QEMU");
    assert_eq!(vm.inl(SELECTOR), 0, "no access of this width, whatever is behind");
    assert_eq!(read(&mut vm, ID, 4), 3_u32.to_le_bytes());
    assert_eq!(read(&mut vm, RAM_SIZE, 8), (64_u64 << 20).to_le_bytes());
    assert_eq!(read(&mut vm, NB_CPUS, 2), 2_u16.to_le_bytes());
    let wanted: Vec<u8> = uuid
        .replace('-', "")
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("hexadecimal digits"))
        .collect();
    assert_eq!(read(&mut vm, UUID, 16), wanted);
    // Behind an item's end, and where no item is, there are zeros.
    assert_eq!(read(&mut vm, SIGNATURE, 6)[4..], [0, 0]);
    assert_eq!(read(&mut vm, 0x3ff0, 4), [0; 4]);
}

#[test]
fn files_are_sorted_and_dma_reads_them_as_ports_do() {
    let mut vm = pc(&[]);
    let files = files(&mut vm);
    let names: Vec<&str> = files.iter().map(|(name, ..)| name.as_str()).collect();
    assert!(names.is_sorted() && names.contains(&"etc/e820"), "{names:?}");
    assert!(files.iter().map(|(_, key, _)| *key).eq(0x20..0x20 + files.len() as u16), "{files:?}");
    let (_, key, size) = files.iter().find(|(name, ..)| name == "etc/e820").expect("it is there");
    let (by_ports, control) = (read(&mut vm, *key, *size), u32::from(*key) << 16 | 0x0a);
    // Control, length, address, big-endian all: select and read.
    let access =
        [&control.to_be_bytes()[..], &(*size as u32).to_be_bytes(), &0x8000_u64.to_be_bytes()].concat();
    vm.memwrite(0x4000, &access);
    assert_eq!(vm.inl(DMA_HIGH), u32::from_be_bytes(*b"QEMU").swap_bytes());
    vm.outl(DMA_HIGH, 0);
    vm.outl(DMA_LOW, 0x4000_u32.swap_bytes());
    assert_eq!(vm.readl(0x4000), 0, "it is done");
    assert_eq!(vm.memread(0x8000, *size), by_ports);
}

#[test]
fn dma_to_where_no_memory_is_fails() {
    let mut vm = pc(&[]);
    let access = [&0x02_u32.to_be_bytes()[..], &16_u32.to_be_bytes(), &0xf000_0000_0000_u64.to_be_bytes()];
    vm.memwrite(0x4000, &access.concat());
    vm.outw(SELECTOR, SIGNATURE);
    vm.outl(DMA_LOW, 0x4000_u32.swap_bytes());
    assert_eq!(vm.readl(0x4000).swap_bytes(), 1, "the error bit alone");
}

fn file(vm: &mut QTest, name: &str) -> Option<Vec<u8>> {
    let (_, key, size) = files(vm).into_iter().find(|(known, ..)| known == name)?;
    Some(read(vm, key, size))
}

#[test]
fn files_can_be_given_by_the_user() {
    let content = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(content.path(), b"from a file").unwrap();
    let from_file = format!("name=opt/org.test/file,file={}", content.path().display());
    let mut vm = pc(&["-fw_cfg", "opt/org.test/string,string=a,,b", "-fw_cfg", &from_file]);
    assert_eq!(file(&mut vm, "opt/org.test/string").unwrap(), b"a,b");
    assert_eq!(file(&mut vm, "opt/org.test/file").unwrap(), b"from a file");
}

#[test]
fn smbios_structures_say_what_the_user_says() {
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    let mut vm =
        pc(&["-smbios", &format!("type=1,serial=S-1,uuid={uuid}"), "-smbios", "type=11,value=hello"]);
    let tables = file(&mut vm, "etc/smbios/smbios-tables").unwrap();
    let has = |text: &[u8]| tables.windows(text.len()).any(|window| window == text);
    assert!(has(b"S-1\0") && has(b"hello\0") && has(b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa"));
    assert_eq!(read(&mut vm, UUID, 4), [0x00, 0x11, 0x22, 0x33]);
}

#[test]
fn acpi_tables_of_the_users_stand_behind_the_boards() {
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), b"12345678").unwrap();
    let option = format!("sig=TEST,rev=7,oem_id=ME,data={}", body.path().display());
    let mut vm = pc(&["-acpitable", &option]);
    let tables = file(&mut vm, "etc/acpi/tables").unwrap();
    let at = tables.windows(4).position(|window| window == b"TEST").unwrap();
    let table = &tables[at..at + 44];
    assert_eq!(table[4..9], [44, 0, 0, 0, 7]);
    assert_eq!((&table[10..16], &table[36..]), (&b"ME\0\0\0\0"[..], &b"12345678"[..]));
    assert_eq!(table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
}

#[test]
fn the_dsdt_names_pvpanics_port() {
    let pevt = |args: &[&str]| {
        let mut vm = pc(args);
        let tables = file(&mut vm, "etc/acpi/tables").unwrap();
        let at = tables.windows(4).position(|name| name == b"PEVT");
        at.map(|at| tables[at..].iter().copied().take(200).collect::<Vec<u8>>())
    };
    assert_eq!(pevt(&[]), None);
    let device = pevt(&["-device", "pvpanic,ioport=0x506"]).expect("a device");
    for wanted in [&b"QEMU0001"[..], b"PEOR", b"RDPT", b"WRPT", &[0x47, 1, 6, 5, 6, 5, 1, 1]] {
        assert!(device.windows(wanted.len()).any(|bytes| bytes == wanted), "{wanted:x?}");
    }
}
