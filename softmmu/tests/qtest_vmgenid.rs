//! `vmgenid` and `vmcoreinfo`: what firmware, monitors and users see of them.

use libqtest::QTest;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const FILE_DIR: u16 = 0x19;
const GUID: &str = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87";

fn pc(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(more).with_qmp().start()
}

fn read(vm: &mut QTest, key: u16, len: usize) -> Vec<u8> {
    vm.outw(SELECTOR, key);
    (0..len).map(|_| vm.inb(DATA)).collect()
}

/// A file's contents.
fn file(vm: &mut QTest, name: &str) -> Option<Vec<u8>> {
    let word = |bytes: &[u8]| bytes.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
    let count = word(&read(vm, FILE_DIR, 4));
    let directory = read(vm, FILE_DIR, 4 + 64 * count).split_off(4);
    let entry = directory
        .chunks(64)
        .find(|entry| entry[8..].starts_with(name.as_bytes()) && entry[8 + name.len()] == 0)?;
    Some(read(vm, word(&entry[4..6]) as u16, word(&entry[..4])))
}

#[test]
fn the_guest_finds_the_number_where_acpi_says() {
    let mut vm = pc(&["-device", &format!("vmgenid,guid={GUID}")]);
    let memory = file(&mut vm, "etc/vmgenid_guid").unwrap();
    assert_eq!(memory.len(), 4096);
    assert_eq!(memory[40..48], [0xaf, 0x6e, 0x4e, 0x32, 0xd1, 0xd1, 0xf6, 0x4b]);
    assert_eq!(memory[48..56], [0xbf, 0x41, 0xb9, 0xbb, 0x6c, 0x91, 0xfb, 0x87]);
    let tables = file(&mut vm, "etc/acpi/tables").unwrap();
    let ssdt = tables.windows(8).position(|window| window == b"VMGENID\0").unwrap() - 16;
    assert_eq!(
        (&tables[ssdt..ssdt + 4], &tables[ssdt + 36..ssdt + 42]),
        (&b"SSDT"[..], &b"\x08VGIA\x0c"[..])
    );
    assert_eq!(vm.qmp(r#"{"execute": "query-vm-generation-id"}"#)["guid"], GUID);
}

#[test]
fn a_number_of_nobodys_choice_is_a_random_one() {
    let mut vm = pc(&["-device", "vmgenid,guid=auto"]);
    let first = vm.qmp(r#"{"execute": "query-vm-generation-id"}"#)["guid"].clone();
    let mut vm = pc(&["-device", "vmgenid"]);
    assert_ne!(vm.qmp(r#"{"execute": "query-vm-generation-id"}"#)["guid"], first);
    let refusal = pc(&[]).qmp_raw(r#"{"execute": "query-vm-generation-id"}"#);
    assert_eq!(refusal["error"]["desc"], "VM Generation ID device not found");
}

#[test]
fn vmcoreinfo_is_a_file_that_the_guest_writes() {
    let mut vm = pc(&["-device", "vmcoreinfo"]);
    let mut wanted = vec![0; 16];
    wanted[0] = 1;
    assert_eq!(file(&mut vm, "etc/vmcoreinfo").unwrap(), wanted);
}
