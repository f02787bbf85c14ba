//! What firmware reads of fw_cfg, by ports.
#![allow(dead_code, reason = "each test program uses its own part")]

use libqtest::QTest;

pub const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const FILE_DIR: u16 = 0x19;
/// Bytes of an entry of the directory: size, key, two that are reserved, the name.
const ENTRY: usize = 64;

/// The first bytes of an item.
pub fn read(vm: &mut QTest, key: u16, len: usize) -> Vec<u8> {
    vm.outw(SELECTOR, key);
    (0..len).map(|_| vm.inb(DATA)).collect()
}

/// The files: name, key and size.
pub fn files(vm: &mut QTest) -> Vec<(String, u16, usize)> {
    let word = |bytes: &[u8]| bytes.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
    let count = word(&read(vm, FILE_DIR, 4));
    let list = read(vm, FILE_DIR, 4 + count * ENTRY).split_off(4);
    let file = |entry: &[u8]| {
        let name: Vec<u8> = entry[8..].iter().copied().take_while(|byte| *byte != 0).collect();
        (String::from_utf8(name).expect("a name"), word(&entry[4..6]) as u16, word(&entry[..4]))
    };
    list.chunks(ENTRY).map(file).collect()
}

/// What is in a file; nothing where there is none.
pub fn file(vm: &mut QTest, name: &str) -> Option<Vec<u8>> {
    let (_, key, size) = files(vm).into_iter().find(|(other, ..)| other == name)?;
    Some(read(vm, key, size))
}
