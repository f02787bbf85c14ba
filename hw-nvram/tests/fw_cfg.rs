//! fw_cfg as a guest's firmware uses it (QEMU's docs/specs/fw_cfg.txt).

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hw_nvram::fw_cfg::{DmaError, DmaMemory, FwCfg, FwCfgError, Item, spec};
use proptest::prelude::*;

const ERROR: u32 = 1;
const READ: u32 = 2;
const SKIP: u32 = 4;
const SELECT: u32 = 8;
const WRITE: u32 = 16;

/// RAM from address 0 on, nothing after it.
struct Ram(RefCell<Vec<u8>>);

impl Ram {
    fn new(size: usize) -> Self {
        Self(RefCell::new(vec![0xcc; size]))
    }

    fn get(&self, at: usize, len: usize) -> Vec<u8> {
        self.0.borrow()[at..at + len].to_vec()
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        self.0.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn range(addr: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(addr).ok()?;
    Some(start..start.checked_add(len)?)
}

impl DmaMemory for Ram {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), DmaError> {
        let ram = self.0.borrow();
        let from = range(addr, buf.len()).and_then(|range| ram.get(range)).ok_or(DmaError(addr))?;
        buf.copy_from_slice(from);
        Ok(())
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), DmaError> {
        let mut ram = self.0.borrow_mut();
        let to = range(addr, buf.len()).and_then(|range| ram.get_mut(range)).ok_or(DmaError(addr))?;
        to.copy_from_slice(buf);
        Ok(())
    }
}

fn fw_cfg() -> FwCfg {
    FwCfg::new(spec::FILE_SLOTS_DEFAULT, true).unwrap()
}

/// Selects `key` and reads `len` bytes through the data port.
fn read_item(fw_cfg: &FwCfg, key: u16, len: usize) -> Vec<u8> {
    fw_cfg.write_port(key.into(), 2);
    (0..len).map(|_| fw_cfg.read_port(1) as u8).collect()
}

/// One DMA operation with its structure at 0x100; the control field afterwards.
fn dma(fw_cfg: &FwCfg, ram: &Ram, control: u32, length: u32, address: u64) -> u32 {
    ram.put(0x100, &control.to_be_bytes());
    ram.put(0x104, &length.to_be_bytes());
    ram.put(0x108, &address.to_be_bytes());
    fw_cfg.write_dma(4, u32::swap_bytes(0x100).into(), 4, ram);
    u32::from_be_bytes(ram.get(0x100, 4).try_into().unwrap())
}

fn select(key: u16) -> u32 {
    u32::from(key) << 16 | SELECT
}

/// Size, key and name of every file in the directory.
fn directory(fw_cfg: &FwCfg) -> Vec<(u32, u16, String)> {
    let bytes = read_item(fw_cfg, spec::FILE_DIR, 4 + 64 * 32);
    let count = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let (used, free) = bytes[4..].split_at(64 * count);
    assert!(free.iter().all(|&byte| byte == 0));
    let entry = |entry: &[u8]| {
        let name = entry[8..].split(|&byte| byte == 0).next().unwrap().to_vec();
        let size = u32::from_be_bytes(entry[..4].try_into().unwrap());
        (size, u16::from_be_bytes(entry[4..6].try_into().unwrap()), String::from_utf8(name).unwrap())
    };
    used.chunks(64).map(entry).collect()
}

#[test]
fn signature_and_features() {
    assert_eq!(read_item(&fw_cfg(), 0, 6), b"QEMU\0\0");
    assert_eq!(read_item(&fw_cfg(), 1, 4), [3, 0, 0, 0]);
    let without_dma = FwCfg::new(0x20, false).unwrap();
    assert_eq!(read_item(&without_dma, 1, 4), [1, 0, 0, 0]);
    assert_eq!(without_dma.read_dma(0, 4), 0);
}

#[test]
fn dma_register_reads_its_signature() {
    let fw_cfg = fw_cfg();
    assert_eq!(fw_cfg.read_dma(0, 4) as u32, u32::from_le_bytes(*b"QEMU"));
    assert_eq!(fw_cfg.read_dma(4, 4) as u32, u32::from_le_bytes(*b" CFG"));
    assert_eq!(fw_cfg.read_dma(0, 8), u64::from_le_bytes(*b"QEMU CFG"));
    assert_eq!(fw_cfg.read_dma(1, 1) as u8, b'E');
}

#[test]
fn selecting_starts_at_the_first_byte_again() {
    let fw_cfg = fw_cfg();
    assert_eq!(read_item(&fw_cfg, 0, 2), b"QE");
    assert_eq!(fw_cfg.read_port(1) as u8, b'M');
    assert_eq!(read_item(&fw_cfg, 0, 2), b"QE");
    assert_eq!(read_item(&fw_cfg, 0x4000, 4), b"QEMU", "the write bit is ignored");
}

#[test]
fn only_the_documented_access_sizes_do_anything() {
    let fw_cfg = fw_cfg();
    fw_cfg.write_port(1, 2);
    fw_cfg.write_port(0, 1);
    fw_cfg.write_port(0, 4);
    assert_eq!(fw_cfg.read_port(2), 0);
    assert_eq!(fw_cfg.read_port(1), 3, "the features are still selected");
}

#[test]
fn numbers_are_little_endian_and_strings_end_in_nul() {
    let fw_cfg = fw_cfg();
    fw_cfg.add_i16(spec::NB_CPUS, 0x0102).unwrap();
    fw_cfg.add_i32(spec::KERNEL_SIZE, 0x0102_0304).unwrap();
    fw_cfg.add_i64(spec::RAM_SIZE, 0x0102_0304_0506_0708).unwrap();
    fw_cfg.add_string(spec::CMDLINE_DATA, "quiet").unwrap();
    fw_cfg.add_bytes(spec::E820_TABLE, vec![7]).unwrap();
    assert_eq!(read_item(&fw_cfg, spec::NB_CPUS, 3), [2, 1, 0]);
    assert_eq!(read_item(&fw_cfg, spec::KERNEL_SIZE, 4), [4, 3, 2, 1]);
    assert_eq!(read_item(&fw_cfg, spec::RAM_SIZE, 8), [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(read_item(&fw_cfg, spec::CMDLINE_DATA, 6), b"quiet\0");
    assert_eq!(read_item(&fw_cfg, 0x8003, 1), [7]);
    assert_eq!(read_item(&fw_cfg, 0x0003, 1), [8], "the same number without the x86 bit is another item");
    fw_cfg.modify_bytes(spec::NB_CPUS, 5u16.to_le_bytes()).unwrap();
    assert_eq!(read_item(&fw_cfg, spec::NB_CPUS, 2), [5, 0]);
}

#[test]
fn what_is_not_there_reads_0() {
    let fw_cfg = fw_cfg();
    for key in [spec::UUID, 0x20, 0x3f, 0x40, 0x3fff, 0x8000, 0xffff] {
        assert_eq!(read_item(&fw_cfg, key, 2), [0, 0], "{key:#x}");
    }
}

#[test]
fn directory_is_sorted_by_name() {
    let fw_cfg = fw_cfg();
    assert_eq!(directory(&fw_cfg), []);
    for (name, len) in [("etc/e820", 20), ("bootorder", 3), ("opt/x", 0), ("etc/acpi/tables", 300)] {
        fw_cfg.add_file(name, vec![len as u8; len]).unwrap();
    }
    let expected = [
        (3, 0x20, "bootorder".to_owned()),
        (300, 0x21, "etc/acpi/tables".to_owned()),
        (20, 0x22, "etc/e820".to_owned()),
        (0, 0x23, "opt/x".to_owned()),
    ];
    assert_eq!(directory(&fw_cfg), expected);
    assert_eq!(read_item(&fw_cfg, 0x20, 4), [3, 3, 3, 0]);
    assert_eq!(read_item(&fw_cfg, 0x22, 2), [20, 20]);
}

#[test]
fn files_can_be_replaced() {
    let fw_cfg = fw_cfg();
    fw_cfg.add_file("a", "old").unwrap();
    fw_cfg.modify_file("a", "newer").unwrap();
    fw_cfg.modify_file("b", "added").unwrap();
    assert_eq!(directory(&fw_cfg), [(5, 0x20, "a".to_owned()), (5, 0x21, "b".to_owned())]);
    assert_eq!(read_item(&fw_cfg, 0x20, 5), b"newer");
    assert_eq!((*fw_cfg.file("b").unwrap()).as_ref(), b"added");
    assert!(fw_cfg.file("c").is_none());
}

#[test]
fn what_does_not_fit_is_refused() {
    assert_eq!(
        FwCfg::new(0xf, true).err().map(|error| error.to_string()).as_deref(),
        Some("\"file_slots\" must be at least 0x10")
    );
    assert_eq!(
        FwCfg::new(0x3fe1, true).err().map(|error| error.to_string()).as_deref(),
        Some("\"file_slots\" must not exceed 0x3fe0")
    );
    let fw_cfg = FwCfg::new(0x10, true).unwrap();
    fw_cfg.add_file(&"n".repeat(55), "").unwrap();
    assert_eq!(fw_cfg.add_file(&"m".repeat(56), ""), Err(FwCfgError::NameTooLong));
    let twice = fw_cfg.add_file(&"n".repeat(55), "").unwrap_err();
    assert_eq!(twice.to_string(), format!("duplicate fw_cfg file name: {}", "n".repeat(55)));
    for n in 1..16 {
        fw_cfg.add_file(&n.to_string(), "").unwrap();
    }
    assert_eq!(fw_cfg.add_file("z", ""), Err(FwCfgError::NoSlot("z".to_owned())));
    assert_eq!(fw_cfg.add_bytes(spec::ID, ""), Err(FwCfgError::KeyInUse(spec::ID)));
    assert_eq!(fw_cfg.add_bytes(spec::FILE_FIRST, ""), Err(FwCfgError::InvalidKey(spec::FILE_FIRST)));
    assert_eq!(fw_cfg.add_bytes(0x8030, ""), Err(FwCfgError::InvalidKey(0x8030)));
}

#[test]
fn dma_reads_and_pads_with_zeroes() {
    let (fw_cfg, ram) = (fw_cfg(), Ram::new(0x1_0000));
    fw_cfg.add_file("f", b"hello").unwrap();
    assert_eq!(dma(&fw_cfg, &ram, select(0x20) | READ, 3, 0x2000), 0);
    assert_eq!(ram.get(0x2000, 4), b"hel\xcc");
    assert_eq!(dma(&fw_cfg, &ram, READ, 10_000, 0x2000), 0, "goes on where it was");
    assert_eq!(ram.get(0x2000, 3), b"lo\0");
    assert_eq!(ram.get(0x2000 + 9_999, 2), [0, 0xcc]);
    assert_eq!(dma(&fw_cfg, &ram, select(0x3000) | READ, 2, 0x2000), 0, "a key that does not exist");
    assert_eq!(ram.get(0x2000, 2), [0, 0]);
}

#[test]
fn dma_and_data_port_share_the_offset() {
    let (fw_cfg, ram) = (fw_cfg(), Ram::new(0x1000));
    fw_cfg.add_file("f", b"0123456789").unwrap();
    assert_eq!(dma(&fw_cfg, &ram, select(0x20) | SKIP, 4, 0), 0);
    assert_eq!(fw_cfg.read_port(1) as u8, b'4');
    assert_eq!(dma(&fw_cfg, &ram, READ, 1, 0x800), 0);
    assert_eq!(ram.get(0x800, 1), b"5");
    assert_eq!(dma(&fw_cfg, &ram, SKIP, u32::MAX, 0), 0);
    assert_eq!(fw_cfg.read_port(1), 0);
    assert_eq!(dma(&fw_cfg, &ram, select(0x20), 0, 0), 0, "selecting alone");
    assert_eq!(fw_cfg.read_port(1) as u8, b'0');
}

#[test]
fn dma_address_in_two_halves_or_at_once() {
    let (fw_cfg, ram) = (fw_cfg(), Ram::new(0x1000));
    // The high half names memory that is not there: nothing happens in the low one.
    ram.put(0x100, &[0; 16]);
    fw_cfg.write_dma(0, u32::swap_bytes(1).into(), 4, &ram);
    fw_cfg.write_dma(4, u32::swap_bytes(0x100).into(), 4, &ram);
    ram.put(0x100, &(SELECT | READ).to_be_bytes());
    ram.put(0x104, &4u32.to_be_bytes());
    ram.put(0x108, &0x200u64.to_be_bytes());
    assert_eq!(ram.get(0x200, 1), [0xcc]);
    // The address is 0 again after an operation, so the low half is enough now.
    fw_cfg.write_dma(4, u32::swap_bytes(0x100).into(), 4, &ram);
    assert_eq!(ram.get(0x200, 4), b"QEMU");
    ram.put(0x100, &select(1).to_be_bytes());
    fw_cfg.write_dma(0, u64::swap_bytes(0x100), 8, &ram);
    assert_eq!(ram.get(0x100, 4), [0; 4]);
    // Other sizes and offsets are ignored.
    ram.put(0x100, &select(0).to_be_bytes());
    fw_cfg.write_dma(4, u64::from(u16::swap_bytes(0x100)), 2, &ram);
    fw_cfg.write_dma(2, u32::swap_bytes(0x100).into(), 4, &ram);
    assert_eq!(ram.get(0x100, 4), select(0).to_be_bytes());
}

#[test]
fn dma_to_nowhere_is_an_error() {
    let (fw_cfg, ram) = (fw_cfg(), Ram::new(0x1000));
    assert_eq!(dma(&fw_cfg, &ram, select(0) | READ, 4, 0xffe), ERROR);
    assert_eq!(dma(&fw_cfg, &ram, select(0) | READ, u32::MAX, 0x200), ERROR);
    assert_eq!(dma(&fw_cfg, &ram, select(0) | READ, 8, u64::MAX - 1), ERROR);
    // A structure that is only half in memory.
    fw_cfg.write_dma(4, u32::swap_bytes(0xffc).into(), 4, &ram);
    assert_eq!(ram.get(0xffc, 4), ERROR.to_be_bytes());
}

#[test]
fn guest_writes_only_what_is_writable_and_fits() {
    let (fw_cfg, ram) = (fw_cfg(), Ram::new(0x1000));
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let item = Item::from(vec![0; 4]).on_write(move |bytes| {
        assert_eq!(bytes, [0, 0xcc, 0xcc, 0]);
        seen.fetch_add(1, Ordering::Relaxed);
    });
    fw_cfg.add_file("rw", item).unwrap();
    fw_cfg.add_file("ro", vec![0; 4]).unwrap();
    fw_cfg.add_file("silent", Item::from(vec![0; 4]).writable()).unwrap();
    let (ro, rw, silent) = (0x20, 0x21, 0x22);

    assert_eq!(dma(&fw_cfg, &ram, select(ro) | WRITE, 4, 0x800), ERROR);
    assert_eq!(dma(&fw_cfg, &ram, select(rw) | WRITE, 5, 0x800), ERROR, "too long");
    assert_eq!(dma(&fw_cfg, &ram, select(rw) | WRITE, 4, 0xffe), ERROR, "no such memory");
    assert_eq!(dma(&fw_cfg, &ram, WRITE, 1, 0x800), ERROR, "nothing left of the item");
    assert_eq!(dma(&fw_cfg, &ram, select(0x3f) | WRITE, 1, 0x800), ERROR, "no item");
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert_eq!(dma(&fw_cfg, &ram, select(rw) | SKIP, 1, 0), 0);
    assert_eq!(dma(&fw_cfg, &ram, WRITE, 2, 0x800), 0);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(fw_cfg.read_port(1), 0, "the offset is behind what was written");
    assert_eq!(read_item(&fw_cfg, rw, 4), [0, 0xcc, 0xcc, 0]);
    assert_eq!(read_item(&fw_cfg, ro, 4), [0; 4]);
    assert_eq!(dma(&fw_cfg, &ram, select(silent) | WRITE, 4, 0x800), 0);
    assert_eq!(read_item(&fw_cfg, silent, 4), [0xcc; 4]);
}

#[test]
fn select_callback_builds_files_before_the_first_read() {
    let (fw_cfg, ram) = (fw_cfg(), Ram::new(0x1000));
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    fw_cfg
        .add_file(
            "tables",
            Item::from("").on_select(move |fw_cfg| {
                seen.fetch_add(1, Ordering::Relaxed);
                fw_cfg.modify_file("tables", "built").unwrap();
                fw_cfg.modify_file("rsdp", "too").unwrap();
            }),
        )
        .unwrap();
    fw_cfg.add_file("rsdp", "").unwrap();
    assert_eq!(read_item(&fw_cfg, 0x20, 3), [0; 3]);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert_eq!(read_item(&fw_cfg, 0x21, 5), b"built");
    assert_eq!(read_item(&fw_cfg, 0x20, 3), b"too");
    assert_eq!(dma(&fw_cfg, &ram, select(0x21) | READ, 5, 0x800), 0);
    assert_eq!(calls.load(Ordering::Relaxed), 2, "by DMA, too");
}

#[test]
fn reset_selects_the_signature() {
    let (fw_cfg, ram) = (fw_cfg(), Ram::new(0x1000));
    read_item(&fw_cfg, 1, 2);
    fw_cfg.write_dma(0, u32::swap_bytes(1).into(), 4, &ram);
    let saved = fw_cfg.state();
    fw_cfg.reset();
    assert_eq!(fw_cfg.read_port(1) as u8, b'Q');
    assert_eq!(dma(&fw_cfg, &ram, select(0) | READ, 4, 0x800), 0, "half an address is forgotten");
    fw_cfg.set_state(saved.clone());
    assert_eq!(fw_cfg.state(), saved);
}

proptest! {
    #[test]
    fn random_accesses_never_panic(
        steps in prop::collection::vec((any::<u64>(), 0u64..12, 0u32..9, any::<[u32; 4]>()), 0..100),
    ) {
        let (fw_cfg, ram) = (fw_cfg(), Ram::new(0x1000));
        fw_cfg.add_file("rw", Item::from(vec![1; 100]).on_write(|bytes| assert_eq!(bytes.len(), 100))).unwrap();
        fw_cfg.add_file("ro", vec![1; 100]).unwrap();
        for (value, offset, size, [control, length, high, low]) in steps {
            fw_cfg.write_port(value, size);
            fw_cfg.select((value % 0x48) as u16);
            fw_cfg.read_port(size);
            fw_cfg.read_dma(offset, size);
            fw_cfg.write_dma(offset, value, size, &ram);
            let address = u64::from(if low % 2 == 0 { high } else { 0 }) << 32 | u64::from(low % 0x1100);
            dma(&fw_cfg, &ram, control, if high % 2 == 0 { length % 128 } else { length }, address);
        }
        let ro = fw_cfg.file("ro").unwrap();
        prop_assert_eq!((*ro).as_ref(), [1; 100]);
    }
}
