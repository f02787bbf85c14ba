//! What an access of any size and alignment becomes on its way to a device, through both ways into an address
//! space. Expectations follow QEMU's `memory_access_size`, `memory_region_access_valid` and
//! `access_with_adjusted_size`.

mod common;

use std::sync::Arc;

use common::{Access, Probe, ram};
use memory::{
    AccessLimits, AccessRules, AddressSpace, Endianness, MemTxResult, MemoryRegion, address_space_io,
    get_system_io,
};

const ANY: AccessLimits = AccessLimits { min: 1, max: 8, unaligned: true };

/// Reads `len` bytes at `offset` of a device with `rules`: what came back, and what the device was asked.
fn read(rules: AccessRules, offset: u64, len: usize) -> (MemTxResult, Vec<u8>, Vec<Access>) {
    let probe = Probe::new(rules);
    let root = MemoryRegion::container("root", 0x1000);
    let space = AddressSpace::new("test", &root);
    root.add_subregion(0x100, &MemoryRegion::io("device", 0x100, probe.clone()));
    let mut data = vec![0xee; len];
    let result = space.read(0x100 + offset, &mut data);
    let log = probe.take_log();
    let mut again = vec![0xee; len];
    assert_eq!(space.reader().read(0x100 + offset, &mut again), result);
    assert_eq!((&again, &probe.take_log()), (&data, &log), "a reader sees the same");
    (result, data, log)
}

/// Writes `data` there.
fn write(rules: AccessRules, offset: u64, data: &[u8]) -> (MemTxResult, Vec<Access>) {
    let probe = Probe::new(rules);
    let root = MemoryRegion::container("root", 0x1000);
    let space = AddressSpace::new("test", &root);
    root.add_subregion(0x100, &MemoryRegion::io("device", 0x100, probe.clone()));
    let result = space.write(0x100 + offset, data);
    let log = probe.take_log();
    assert_eq!(space.reader().write(0x100 + offset, data), result);
    assert_eq!(probe.take_log(), log, "a reader does the same");
    (result, log)
}

fn reads(list: &[(u64, u8)]) -> Vec<Access> {
    list.iter().map(|(offset, size)| Access::Read(*offset, *size)).collect()
}

#[test]
fn by_default_one_to_four_aligned_bytes_go_through_as_they_are() {
    for (offset, len) in [(5, 1), (6, 2), (4, 4)] {
        let (result, data, log) = read(AccessRules::default(), offset, len);
        assert_eq!(result, MemTxResult::Ok);
        assert_eq!(data, (offset as u8..).take(len).collect::<Vec<_>>());
        assert_eq!(log, reads(&[(offset, len as u8)]));
    }
}

#[test]
fn what_is_wider_than_valid_is_split() {
    let (result, data, log) = read(AccessRules::default(), 8, 8);
    assert_eq!((result, data), (MemTxResult::Ok, (8..16).collect()));
    assert_eq!(log, reads(&[(8, 4), (12, 4)]));
    assert_eq!(read(AccessRules::sizes(1, 8), 8, 8).2, reads(&[(8, 8)]));
    assert_eq!(read(AccessRules::sizes(1, 2), 8, 4).2, reads(&[(8, 2), (10, 2)]));
}

#[test]
fn odd_lengths_are_split_into_powers_of_two() {
    assert_eq!(read(AccessRules::sizes(1, 8), 0, 7).2, reads(&[(0, 4), (4, 2), (6, 1)]));
    assert_eq!(read(AccessRules::sizes(1, 8), 8, 3).2, reads(&[(8, 2), (10, 1)]));
}

#[test]
fn misaligned_accesses_are_split_by_alignment() {
    let (result, data, log) = read(AccessRules::default(), 1, 4);
    assert_eq!((result, data), (MemTxResult::Ok, vec![1, 2, 3, 4]));
    assert_eq!(log, reads(&[(1, 1), (2, 2), (4, 1)]));
}

#[test]
fn misaligned_accesses_go_through_to_handlers_that_take_them() {
    let rules = AccessRules { valid: ANY, implemented: ANY, ..AccessRules::default() };
    assert_eq!(read(rules, 3, 4), (MemTxResult::Ok, vec![3, 4, 5, 6], reads(&[(3, 4)])));
    // The handlers take them, the bus does not.
    let rules = AccessRules { valid: AccessLimits::new(1, 8), ..rules };
    assert_eq!(read(rules, 3, 4), (MemTxResult::DecodeError, vec![0; 4], Vec::new()));
}

#[test]
fn narrower_than_valid_is_refused_without_asking_the_device() {
    let rules = AccessRules::sizes(4, 4);
    assert_eq!(read(rules, 4, 2), (MemTxResult::DecodeError, vec![0; 2], Vec::new()));
    assert_eq!(write(rules, 4, &[1]), (MemTxResult::DecodeError, Vec::new()));
    assert_eq!(read(rules, 4, 4).0, MemTxResult::Ok);
}

#[test]
fn valid_but_not_implemented_is_made_of_smaller_accesses() {
    let (result, data, log) = read(AccessRules::bytes(4), 4, 4);
    assert_eq!((result, data), (MemTxResult::Ok, vec![4, 5, 6, 7]));
    assert_eq!(log, reads(&[(4, 1), (5, 1), (6, 1), (7, 1)]));
    let (result, log) = write(AccessRules::bytes(4), 4, &[0x11, 0x22, 0x33, 0x44]);
    assert_eq!(result, MemTxResult::Ok);
    let bytes = [(4, 0x11), (5, 0x22), (6, 0x33), (7, 0x44)];
    assert_eq!(log, bytes.map(|(offset, value)| Access::Write(offset, value, 1)));
}

#[test]
fn valid_but_not_implemented_is_taken_out_of_a_wider_access() {
    let rules = AccessRules { valid: ANY, implemented: AccessLimits::new(4, 4), ..AccessRules::default() };
    assert_eq!(read(rules, 8, 1), (MemTxResult::Ok, vec![8], reads(&[(8, 4)])));
    assert_eq!(read(rules, 10, 2), (MemTxResult::Ok, vec![10, 11], reads(&[(10, 4)])));
    assert_eq!(write(rules, 8, &[0xab]), (MemTxResult::Ok, vec![Access::Write(8, 0xab, 4)]));
    assert_eq!(read(rules, 8, 8), (MemTxResult::Ok, (8..16).collect(), reads(&[(8, 4), (12, 4)])));
}

#[test]
fn big_endian_registers_keep_the_order_of_bytes_in_memory() {
    let big = |rules: AccessRules| rules.with_endianness(Endianness::Big);
    for rules in [AccessRules::sizes(1, 8), AccessRules::bytes(8), AccessRules::default()] {
        for (offset, len) in [(3, 1), (4, 2), (4, 4), (8, 8)] {
            let (result, data, _) = read(big(rules), offset, len);
            assert_eq!((result, data), (MemTxResult::Ok, (offset as u8..).take(len).collect()), "{rules:?}");
        }
    }
    let (_, log) = write(big(AccessRules::sizes(1, 8)), 0, &[1, 2, 3, 4]);
    assert_eq!(log, [Access::Write(0, 0x0102_0304, 4)]);
    let (_, log) = write(big(AccessRules::bytes(8)), 0, &[1, 2]);
    assert_eq!(log, [Access::Write(0, 1, 1), Access::Write(1, 2, 1)]);
}

#[test]
fn the_first_byte_of_a_wide_big_endian_register_is_its_most_significant() {
    let rules = AccessRules {
        valid: ANY,
        implemented: AccessLimits::new(4, 4),
        endianness: Endianness::Big,
        ..AccessRules::default()
    };
    assert_eq!(read(rules, 8, 1), (MemTxResult::Ok, vec![8], reads(&[(8, 4)])));
    assert_eq!(read(rules, 8, 2), (MemTxResult::Ok, vec![8, 9], reads(&[(8, 4)])));
    assert_eq!(write(rules, 8, &[0xab]), (MemTxResult::Ok, vec![Access::Write(8, 0xab00_0000, 4)]));
}

#[test]
fn a_device_may_refuse_what_no_rule_describes() {
    let probe = Probe::picky(AccessRules::sizes(1, 4).asking(), |offset, size, write| {
        offset == 0 && size == 2 && write
    });
    let root = MemoryRegion::container("root", 0x1000);
    let space = AddressSpace::new("test", &root);
    root.add_subregion(0, &MemoryRegion::io("device", 0x10, probe.clone()));
    assert_eq!(space.write(0, &[1, 2]), MemTxResult::Ok);
    assert_eq!(space.write(0, &[1]), MemTxResult::DecodeError);
    assert_eq!(space.write(2, &[1, 2]), MemTxResult::DecodeError);
    assert_eq!(space.read(0, &mut [0, 0]), MemTxResult::DecodeError);
    let mut reader = space.reader();
    assert_eq!(reader.write(0, &[1]), MemTxResult::DecodeError);
    assert_eq!(reader.write(0, &[3, 4]), MemTxResult::Ok);
    assert_eq!(probe.take_log(), [Access::Write(0, 0x0201, 2), Access::Write(0, 0x0403, 2)]);
}

fn patchwork() -> (MemoryRegion, Arc<AddressSpace>, Arc<Probe>) {
    let root = MemoryRegion::container("root", 0x1000);
    let space = AddressSpace::new("test", &root);
    let probe = Probe::new(AccessRules::default());
    root.add_subregion(0, &ram("ram", 4, 0xaa));
    root.add_subregion(4, &MemoryRegion::io("device", 4, probe.clone()));
    root.add_subregion(12, &ram("more", 4, 0xbb));
    (root, space, probe)
}

#[test]
fn an_access_over_borders_is_done_piece_by_piece() {
    let (_root, space, probe) = patchwork();
    let mut data = [0xee; 14];
    assert_eq!(space.read(2, &mut data), MemTxResult::DecodeError);
    assert_eq!(data, [0xaa, 0xaa, 0, 1, 2, 3, 0, 0, 0, 0, 0xbb, 0xbb, 0xbb, 0xbb]);
    assert_eq!(probe.take_log(), reads(&[(0, 4)]));
    assert_eq!(space.read(2, &mut [0; 6]), MemTxResult::Ok);
}

#[test]
fn a_write_over_a_hole_reaches_both_sides() {
    let (_root, space, probe) = patchwork();
    assert_eq!(space.write(6, &[1, 2, 3, 4, 5, 6, 7, 8]), MemTxResult::DecodeError);
    assert_eq!(probe.take_log(), [Access::Write(2, 0x0201, 2)]);
    let mut data = [0; 4];
    assert_eq!(space.read(12, &mut data), MemTxResult::Ok);
    assert_eq!(data, [7, 8, 0xbb, 0xbb]);
}

#[test]
fn a_reader_crosses_borders_and_holes_as_the_space_does() {
    let (_root, space, probe) = patchwork();
    let mut reader = space.reader();
    for len in 1..=8 {
        for address in 0..20 {
            let (mut slow, mut fast) = (vec![0xee; len], vec![0xee; len]);
            let expected = space.read(address, &mut slow);
            let log = probe.take_log();
            assert_eq!(reader.read(address, &mut fast), expected, "{len} at {address}");
            assert_eq!((fast, probe.take_log()), (slow, log), "{len} at {address}");
        }
    }
}

#[test]
fn a_register_is_as_wide_as_the_device_says_whatever_decodes_its_middle() {
    let root = MemoryRegion::container("root", 0x1000);
    let space = AddressSpace::new("test", &root);
    let (wide, inner) = (Probe::new(AccessRules::default()), Probe::new(AccessRules::bytes(1)));
    root.add_subregion(8, &MemoryRegion::io("wide", 4, wide.clone()));
    root.add_subregion_overlap(9, &MemoryRegion::io("inner", 1, inner.clone()), 1);
    let mut data = [0; 4];
    for reader in [false, true] {
        let result = if reader { space.reader().read(8, &mut data) } else { space.read(8, &mut data) };
        assert_eq!((result, data), (MemTxResult::Ok, [0, 1, 2, 3]));
        assert_eq!((wide.take_log(), inner.take_log()), (reads(&[(0, 4)]), Vec::new()));
    }
    assert_eq!(space.write(9, &[7]), MemTxResult::Ok);
    assert_eq!((wide.take_log(), inner.take_log()), (Vec::new(), vec![Access::Write(0, 7, 1)]));
}

#[test]
fn holes_read_as_zero_and_drop_writes() {
    let root = MemoryRegion::container("root", 0x1000);
    let space = AddressSpace::new("test", &root);
    let mut data = [0xee; 8];
    assert_eq!(space.read(0x800, &mut data), MemTxResult::DecodeError);
    assert_eq!(data, [0; 8]);
    assert_eq!(space.write(0x800, &[1]), MemTxResult::DecodeError);
    // Far beyond everything, and over the end of the address space.
    assert_eq!(space.read(u64::MAX - 3, &mut data), MemTxResult::DecodeError);
}

#[test]
fn ports_without_a_device_read_as_all_ones() {
    let mut data = [0; 4];
    assert_eq!(address_space_io().read(0x1234, &mut data), MemTxResult::Ok);
    assert_eq!(data, [0xff; 4]);
    assert_eq!(address_space_io().read(0x1233, &mut data[..2]), MemTxResult::Ok);
    assert_eq!(address_space_io().write(0x1234, &[1, 2]), MemTxResult::Ok);
    let device = MemoryRegion::io("device", 2, Probe::new(AccessRules::bytes(2)));
    get_system_io().add_subregion(0x1234, &device);
    let mut data = [0; 4];
    // Half of it is the device's, the rest floats.
    assert_eq!(address_space_io().read(0x1234, &mut data), MemTxResult::Ok);
    assert_eq!(data, [0, 1, 0xff, 0xff]);
    device.unmap();
}
