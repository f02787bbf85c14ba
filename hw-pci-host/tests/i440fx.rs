//! What a guest sees of the i440FX: configuration ports, PAM and SMRAM.
//!
//! There is one bridge a program: the tests take turns, each from reset.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use hw_core::reset::cold_reset;
use hw_core::sysbus::sysbus_get_default;
use hw_pci_host::i440fx::i440fx_init;
use hw_pci_host::i440fx::spec::{PAM, SMRAM};
use memory::{
    MemTxResult, MemoryRegion, RamBlock, address_space_io, address_space_memory, get_system_io,
    get_system_memory,
};
use proptest::prelude::*;
use qom::Object;

const RAM: u8 = 0x11;
const PCI: u8 = 0x22;
const RAM_SIZE: u64 = 2 << 20;

struct Board {
    bridge: Arc<dyn Object>,
}

fn filled(name: &str, size: u64, fill: u8) -> MemoryRegion {
    let block = RamBlock::anonymous(name, size).unwrap();
    block.slice(0, size).unwrap().copy_from(&vec![fill; size as usize]);
    MemoryRegion::ram(name, block)
}

/// RAM from 0, and in PCI memory something at 640 KiB to 1 MiB that reads differently and cannot be written.
fn board() -> MutexGuard<'static, Board> {
    static BOARD: OnceLock<Mutex<Board>> = OnceLock::new();
    let board = BOARD.get_or_init(|| {
        qom::module_call_init(qom::ModuleInitType::Qom);
        // As on a PC: below all ports is what reads as all ones.
        let _ = get_system_io();
        let ram = filled("ram", RAM_SIZE, RAM);
        get_system_memory().add_subregion(0, &MemoryRegion::alias("ram-below-4g", &ram, 0, RAM_SIZE));
        let pci = MemoryRegion::container("pci", 1 << 64);
        get_system_memory().add_subregion_overlap(0, &pci, -1);
        let card = filled("card", 0x60000, PCI);
        card.set_readonly(true);
        pci.add_subregion(0xa0000, &card);
        let (_, bridge) = i440fx_init(&ram, &pci).unwrap();
        Mutex::new(Board { bridge })
    });
    let board = board.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    cold_reset(&sysbus_get_default());
    cold_reset(&board.bridge);
    (0..7).for_each(|n| config_write(PAM + n, 0));
    config_write(SMRAM, 2);
    board
}

fn out(port: u64, bytes: &[u8]) {
    assert_eq!(address_space_io().write(port, bytes), MemTxResult::Ok);
}

fn inl(port: u64, size: usize) -> u32 {
    let mut bytes = [0; 4];
    assert_eq!(address_space_io().read(port, &mut bytes[..size]), MemTxResult::Ok);
    u32::from_le_bytes(bytes)
}

/// Selects a register of function 0 of device 0.
fn select(at: usize) -> u64 {
    out(0xcf8, &(0x8000_0000 | at as u32 & 0xfc).to_le_bytes());
    0xcfc + (at as u64 & 3)
}

fn config_write(at: usize, value: u8) {
    out(select(at), &[value]);
}

fn config_read(at: usize) -> u8 {
    inl(select(at), 1) as u8
}

fn peek(address: u64) -> u8 {
    let mut byte = [0];
    assert_eq!(address_space_memory().read(address, &mut byte), MemTxResult::Ok);
    byte[0]
}

/// Whether a write at `address` arrives; undone again.
fn is_writable(address: u64) -> bool {
    let before = peek(address);
    assert_eq!(address_space_memory().write(address, &[!before]), MemTxResult::Ok);
    let arrived = peek(address) == !before;
    let _ = address_space_memory().write(address, &[before]);
    arrived
}

#[test]
fn the_bridge_is_device_0_behind_the_configuration_ports() {
    let _board = board();
    assert_eq!(inl(select(0), 4), 0x1237_8086);
    assert_eq!((inl(select(0), 2), inl(select(2), 2), inl(select(1), 1)), (0x8086, 0x1237, 0x80));
    assert_eq!(inl(select(8), 4), 0x0600_0002);
    // What the address register holds can be read back.
    select(0x40);
    assert_eq!(inl(0xcf8, 4), 0x8000_0040);
}

#[test]
fn the_addresss_lowest_bits_count() {
    let _board = board();
    out(0xcf8, &0x8000_0002_u32.to_le_bytes());
    assert_eq!((inl(0xcfc, 2), inl(0xcfd, 1)), (0x1237, 0x12));
    // Beyond the last register there is nothing.
    out(0xcf8, &0x8000_00ff_u32.to_le_bytes());
    assert_eq!(inl(0xcfc, 4), 0);
    out(0xcfc, &[0xff; 4]);
}

#[test]
fn only_a_write_of_32_bits_is_an_address() {
    let _board = board();
    select(0);
    out(0xcf8, &[0x08]);
    out(0xcf8, &[0x08, 0x00]);
    assert_eq!((inl(0xcf8, 4), inl(0xcfc, 4)), (0x8000_0000, 0x1237_8086));
}

#[test]
fn data_needs_the_enable_bit_a_bus_and_a_device() {
    let _board = board();
    // A register that a guest can write: the latency timer's neighbour, the cache line size.
    for address in [0x0000_000c_u32, 0x8001_000c, 0x8000_f80c] {
        out(0xcf8, &address.to_le_bytes());
        assert_eq!(inl(0xcfc, 4), u32::MAX, "{address:#x}");
        assert_eq!(inl(0xcfd, 1), 0xff);
        out(0xcfc, &[0x5a]);
    }
    assert_eq!(config_read(0x0c), 0);
    config_write(0x0c, 0x5a);
    assert_eq!(config_read(0x0c), 0x5a);
}

#[test]
fn at_first_the_bus_shows_everywhere_below_1_mib() {
    let board = board();
    for address in [0xa0000, 0xbffff, 0xc0000, 0xdffff, 0xf0000, 0xfffff] {
        assert_eq!((peek(address), is_writable(address)), (PCI, false), "{address:#x}");
    }
    assert_eq!((peek(0x9ffff), peek(0x100000)), (RAM, RAM));
    // A reset changes nothing, as in QEMU.
    config_write(PAM, 0x30);
    cold_reset(&board.bridge);
    assert_eq!((config_read(PAM), peek(0xf0000)), (0x30, RAM));
}

#[test]
fn pam_0_decides_what_shows_as_the_bios() {
    let _board = board();
    for (field, shown, writable) in [(1, RAM, false), (3, RAM, true), (2, RAM, true), (0, PCI, false)] {
        config_write(PAM, field << 4);
        for address in [0xf0000, 0xfffff] {
            assert_eq!((peek(address), is_writable(address)), (shown, writable), "PAM0 {field}");
        }
        assert_eq!(peek(0xeffff), PCI);
    }
    // The low half of PAM0 leads nowhere.
    config_write(PAM, 0x0f);
    assert_eq!(peek(0xf0000), PCI);
}

#[test]
fn pam_1_to_6_decide_segment_by_segment() {
    let _board = board();
    for segment in 0..12 {
        let (start, last) = (0xc0000 + 0x4000 * segment, 0xc3fff + 0x4000 * segment);
        let (register, shift) = (PAM + 1 + segment as usize / 2, 4 * (segment % 2));
        config_write(register, 0x3 << shift);
        let shown = [start - 1, start, last, last + 1].map(peek);
        assert_eq!(shown, [PCI, RAM, RAM, PCI], "{start:#x}");
        config_write(register, 0);
    }
}

#[test]
fn a_32_bit_write_sets_four_pam_registers() {
    let _board = board();
    out(select(0x5c), &[0x33; 4]);
    // PAM3 to PAM6, from 0xd0000 on.
    assert_eq!([0xcffff, 0xd0000, 0xeffff, 0xf0000].map(peek), [PCI, RAM, RAM, PCI]);
}

#[test]
fn open_smram_shows_ram_in_place_of_video_memory() {
    let _board = board();
    assert_eq!((config_read(SMRAM), peek(0xa0000)), (0x02, PCI));
    config_write(SMRAM, 0x4a);
    assert_eq!([0xa0000, 0xbffff, 0xc0000].map(peek), [RAM, RAM, PCI]);
    config_write(SMRAM, 0x0a);
    assert_eq!(peek(0xa0000), PCI);
}

#[test]
fn smram_cannot_be_locked_as_in_qemu() {
    let _board = board();
    config_write(SMRAM, 0x5a);
    assert_eq!((config_read(SMRAM), peek(0xa0000)), (0x5a, RAM));
    config_write(SMRAM, 0x0a);
    assert_eq!((config_read(SMRAM), peek(0xa0000)), (0x0a, PCI));
}

proptest! {
    /// Whatever is written to the configuration, the bridge is the one that it was, and each segment is as its PAM
    /// register says.
    #[test]
    fn any_configuration_is_one(writes in prop::collection::vec((0..256_usize, any::<u8>()), 0..40)) {
        let _board = board();
        for (at, value) in writes {
            config_write(at, value);
        }
        prop_assert_eq!(inl(select(0), 4), 0x1237_8086);
        for segment in 0..12 {
            let address = 0xc_0000 + segment as u64 * 0x4000;
            let attributes = config_read(PAM + 1 + segment / 2) >> (segment % 2 * 4);
            // As in QEMU memory that can be written can be read, too.
            prop_assert_eq!(peek(address), if attributes & 3 != 0 { RAM } else { PCI }, "{:#x}", address);
        }
    }
}
