//! MP tables, as chapter 4 of the MultiProcessor Specification 1.4 lays them out.

use hw_i386::mptable::{MpConfig, PciInterrupt, config_table, with_floating_pointer};
use hw_smbios::checksum;

fn config(apic_ids: &[u32]) -> MpConfig {
    MpConfig {
        apic_ids: apic_ids.to_vec(),
        cpuid_version: 0x0006_0fb1,
        cpuid_ebx: 0x0002_0800,
        cpuid_features: 0x078b_fbfd,
        lapic_version: 0x14,
        pci: Some(vec![
            PciInterrupt { slot: 1, pin: 1, line: 9 },
            PciInterrupt { slot: 3, pin: 1, line: 11 },
            PciInterrupt { slot: 3, pin: 1, line: 11 },
            PciInterrupt { slot: 3, pin: 4, line: 10 },
            PciInterrupt { slot: 4, pin: 0, line: 0 },
        ]),
    }
}

/// The entries, after the header was checked.
fn entries(table: &[u8]) -> Vec<&[u8]> {
    assert_eq!(checksum(table), 0);
    assert_eq!(&table[..4], b"PCMP");
    assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
    assert_eq!(table[6], 4);
    assert_eq!(&table[8..28], b"BOCHSCPU0.1         ");
    assert_eq!(table[36..40], 0xfee0_0000u32.to_le_bytes());
    let mut rest = &table[44..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (entry, tail) = rest.split_at(if rest[0] == 0 { 20 } else { 8 });
        found.push(entry);
        rest = tail;
    }
    assert_eq!(usize::from(u16::from_le_bytes([table[34], table[35]])), found.len());
    found
}

#[test]
fn processors_buses_and_io_apic() {
    let table = config_table(&config(&[0, 1]));
    let found = entries(&table);
    let boot = [0, 0, 0x14, 3, 0xb1, 0x0f, 6, 0, 0xfd, 0xfb, 0x8b, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(found[0], boot);
    assert_eq!(found[1][..4], [0, 1, 0x14, 1]);
    assert_eq!(found[2], b"\x01\0PCI   ");
    assert_eq!(found[3], b"\x01\x01ISA   ");
    assert_eq!(found[4], [2, 0, 0x11, 1, 0, 0, 0xc0, 0xfe]);
}

#[test]
fn interrupts_of_pci_isa_and_local_apics() {
    let table = config_table(&config(&[0]));
    let found = entries(&table);
    let pci: Vec<_> = found.iter().filter(|entry| entry[0] == 3 && entry[4] == 0).copied().collect();
    assert_eq!(pci, [[3, 0, 1, 0, 0, 4, 0, 9], [3, 0, 1, 0, 0, 12, 0, 11], [3, 0, 1, 0, 0, 15, 0, 10]]);
    let isa: Vec<_> = found
        .iter()
        .filter(|entry| entry[0] == 3 && entry[4] == 1)
        .map(|entry| (entry[5], entry[7]))
        .collect();
    let same = |irq| (irq, irq);
    let rest = [1, 3, 4, 6, 7, 8, 12, 13, 14, 15].map(same);
    assert_eq!(isa, [&[(0, 2)][..], &rest].concat());
    assert_eq!(found[found.len() - 2], [4, 3, 0, 0, 1, 0, 0, 0]);
    assert_eq!(found[found.len() - 1], [4, 1, 0, 0, 1, 0, 0xff, 1]);
}

#[test]
fn only_the_first_logical_processor_of_a_package_has_an_entry() {
    let mut config = config(&[0, 1, 2, 4, 5]);
    config.cpuid_features |= 1 << 28;
    config.cpuid_ebx = 3 << 16;
    let table = config_table(&config);
    let ids: Vec<_> = entries(&table).iter().filter(|entry| entry[0] == 0).map(|entry| entry[1]).collect();
    assert_eq!(ids, [0, 4]);
    config.cpuid_features &= !(1 << 28);
    config.apic_ids.push(300);
    let table = config_table(&config);
    assert_eq!(entries(&table).iter().filter(|entry| entry[0] == 0).count(), 5);
}

#[test]
fn without_pci_the_isa_bus_is_bus_0() {
    let table = config_table(&MpConfig { pci: None, ..config(&[0]) });
    let found = entries(&table);
    assert_eq!(found[1], b"\x01\0ISA   ");
    assert!(found.iter().filter(|entry| entry[0] == 3).all(|entry| entry[4] == 0));
}

#[test]
fn floating_pointer_leads_to_the_table() {
    let table = config_table(&config(&[0]));
    let placed = with_floating_pointer(0xf_5ba0, table.clone());
    assert_eq!(&placed[..4], b"_MP_");
    assert_eq!(placed[4..8], 0xf_5bb0u32.to_le_bytes());
    assert_eq!((placed[8], placed[9]), (1, 4));
    assert_eq!(checksum(&placed[..16]), 0);
    assert_eq!(placed[16..], table);
}
