//! MSRs after reset, and what firmware makes of them, against what QEMU 7.2.22 with SeaBIOS wrote to and
//! read from KVM for `-cpu qemu64`.

#![forbid(unsafe_code)]

mod common;

use common::{ONE, expand, host};
use target_i386::msrs::{Available, feature_msrs, firmware_feature_control, firmware_mtrrs};
use target_i386::msrs::{reset_msrs, saved_only, seabios_pci_hole};

/// `KVM_GET_MSR_INDEX_LIST` of the host `few`.
const AVAILABLE: &[u32] = &[
    0x174,
    0x175,
    0x176,
    0xc000_0081,
    0xc000_0083,
    0xc000_0102,
    0xc000_0084,
    0xc000_0082,
    0x10,
    0x277,
    0xc001_0117,
    0x1d9,
    0x1db,
    0x1dc,
    0x1dd,
    0x1de,
    0x12,
    0x11,
    0x4b56_4d01,
    0x4b56_4d00,
    0x4b56_4d02,
    0x4b56_4d03,
    0x4b56_4d04,
    0x4b56_4d06,
    0x4b56_4d07,
    0x3b,
    0x6e0,
    0x10a,
    0x345,
    0x1a0,
    0x17a,
    0x17b,
    0x34,
    0xce,
    0x140,
    0xc001_011f,
    0x1fc,
    0x8b,
    0xc001_0015,
    0x4b56_4d05,
];

#[test]
fn reset_writes_what_qemu_writes() {
    let host = host("few");
    let cpu = expand("qemu64", &host, &ONE).unwrap();
    let mut expected = vec![(0x277, 0x0007_0406_0007_0406), (0x1a0, 1), (0x17b, u64::MAX)];
    expected.extend([0x174, 0x175, 0x176, 0x3b, 0x34, 0x10, 0x12, 0x11, 0x17a].map(|index| (index, 0)));
    expected.extend([0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084].map(|index| (index, 0)));
    expected.extend([0xc000_0102, 0xc001_0117, 0xc001_011f].map(|index| (index, 0)));
    expected.extend([0x4b56_4d02, 0x4b56_4d03, 0x4b56_4d04].map(|index| (index, 0)));
    expected.extend([0x2ff, 0x250, 0x258, 0x259].map(|index| (index, 0)));
    expected.extend((0x268..0x270).chain(0x200..0x210).map(|index| (index, 0)));
    expected.extend((0x400..0x428).map(|index| (index, if index % 4 == 0 { u64::MAX } else { 0 })));
    expected.sort_unstable();
    let mut list = reset_msrs(&cpu, &host, Available(AVAILABLE), true);
    list.sort_unstable();
    assert_eq!(list, expected);
    assert_eq!(saved_only(&cpu, Available(AVAILABLE)), [0x6e0]);

    let again = reset_msrs(&cpu, &host, Available(AVAILABLE), false);
    assert!(again.contains(&(0x10, 1)), "0 would tell KVM of a new processor");
}

#[test]
fn features_are_written_where_the_host_has_the_msr() {
    let host = host("few");
    let written = |cpu| feature_msrs(&expand(cpu, &host, &ONE).unwrap(), &host, Available(AVAILABLE));
    assert_eq!(written("qemu64"), [(0x10a, 0), (0x8b, 0x0100_0065)]);
    assert_eq!(written("host"), [(0x10a, 0x69), (0x8b, 0x0100_0065)]);
    assert_eq!(written("host,migratable=off")[0], (0x10a, 0x4000_0000_0c00_0069));
}

#[test]
fn vmx_controls_are_optional_where_the_cpu_has_the_feature() {
    let mut host = host("many");
    host.feature_msrs.extend([
        (0x480, 0x00da_0400_0000_0012),
        (0x485, 0x2000_01e5),
        (0x48c, 0xf01_0633_4141),
    ]);
    // The host can have all of each kind of control.
    host.feature_msrs.extend([0x48b, 0x48d, 0x48e, 0x48f, 0x490].map(|index| (index, 0xffff_ffff << 32)));
    let cpu = expand("Haswell,vendor=GenuineIntel,+vmx", &host, &ONE).unwrap();
    let list = feature_msrs(&cpu, &host, Available(AVAILABLE));
    let value = |index| list.iter().find(|(at, _)| *at == index).unwrap().1;
    // The pin-based controls of Haswell: bits 0, 3, 5, 6 and 7; bits 1, 2 and 4 must be 1.
    assert_eq!(value(0x48d), 0xff_0000_0016);
    assert_eq!(value(0x48f) >> 32 & 1 << 9, 1 << 9, "a 64-bit host");
    assert_eq!(value(0x480) & 0x1fff_7fff_ffff, 0x400_0000_0012, "region size and revision of the host");
    assert_eq!(value(0x48a), 0x2e);
    assert_eq!(firmware_feature_control(&cpu), Some(5));
    assert_eq!(firmware_feature_control(&expand("qemu64", &host, &ONE).unwrap()), None);
}

#[test]
fn mtrrs_are_seabioses() {
    const MIB: u64 = 1 << 20;
    let host = host("few");
    let cpu = expand("qemu64", &host, &ONE).unwrap();
    let cases = [
        (128, 0x8000_0000, 0xff_8000_0800),
        (2049, 0xc000_0000, 0xff_c000_0800),
        (3 * 1024, 0xc000_0000, 0xff_c000_0800),
        (3300, 0xce40_0000, 0xff_ce40_0800),
        (3500, 0xdac0_0000, 0xff_dac0_0800),
    ];
    for (low_ram, base, mask) in cases {
        let hole = seabios_pci_hole(low_ram * MIB);
        let mut expected = vec![(0x250, 0x0606_0606_0606_0606), (0x258, 0x0606_0606_0606_0606), (0x259, 0)];
        expected.extend((0x268..0x270).map(|index| (index, 0x0505_0505_0505_0505)));
        expected.extend([(0x200, base), (0x201, mask), (0x2ff, 0xc06)]);
        assert_eq!(firmware_mtrrs(&cpu, low_ram * MIB, hole), expected, "{low_ram} MiB");
    }
    let little = firmware_mtrrs(&cpu, 448 << 10, 0x8000_0000);
    assert_eq!(little[0].1, 0x0006_0606_0606_0606, "448 KiB");
    assert!(firmware_mtrrs(&expand("486", &host, &ONE).unwrap(), MIB, 1 << 31).is_empty());
}
