//! The tables' contents, by offset, as ACPI 6.4 lays them out. What the AML says is in `acpi_oracle.rs`.

use hw_acpi::aml::Aml;
use hw_i386::acpi_build::{
    AcpiConfig, AcpiCpu, AcpiError, AcpiTables, IsaDevice, NumaConfig, PciDevice, acpi_build,
};

const GIB: u64 = 1 << 30;

fn cpu(apic_id: u32) -> AcpiCpu {
    AcpiCpu { apic_id, present: true, node: None }
}

/// A table by its signature, found through the RSDT.
fn table(tables: &AcpiTables, signature: &[u8; 4]) -> Vec<u8> {
    let dword = |at: usize| u32::from_le_bytes(tables.tables[at..at + 4].try_into().unwrap()) as usize;
    let rsdt = u32::from_le_bytes(tables.rsdp[16..].try_into().unwrap()) as usize;
    let all = (rsdt + 36..rsdt + dword(rsdt + 4)).step_by(4).map(dword);
    let at = all.into_iter().find(|&at| &tables.tables[at..at + 4] == signature).unwrap();
    tables.tables[at..at + dword(at + 4)].to_vec()
}

fn build(config: &AcpiConfig, signature: &[u8; 4]) -> Vec<u8> {
    table(&acpi_build(config).unwrap(), signature)
}

#[test]
fn files_are_padded_as_qemu_pads_them() {
    let tables = acpi_build(&AcpiConfig::default()).unwrap();
    assert_eq!((tables.rsdp.len(), tables.tables.len(), tables.linker.len()), (20, 0x2_0000, 0x1000));
    assert!(tables.tables[tables.tables_used..].iter().all(|&byte| byte == 0));
    assert_ne!(tables.tables[tables.tables_used - 4..tables.tables_used], [0; 4]);
}

#[test]
fn fadt_leads_to_the_power_management_registers() {
    let fadt = build(&AcpiConfig::default(), b"FACP");
    assert_eq!((fadt.len(), fadt[8]), (116, 1));
    assert_eq!(fadt[46..48], [9, 0]);
    assert_eq!(fadt[48..54], [0xb2, 0, 0, 0, 0xf1, 0xf0]);
    let dword = |at: usize| u32::from_le_bytes(fadt[at..at + 4].try_into().unwrap());
    assert_eq!([56, 64, 76, 80].map(dword), [0x600, 0x604, 0x608, 0xafe0]);
    assert_eq!(fadt[88..94], [4, 2, 0, 4, 4, 0]);
    assert_eq!((fadt[108], dword(112)), (0x32, 0x80a5));
}

#[test]
fn fadt_without_smm_names_no_command_port() {
    let fadt = build(&AcpiConfig { smi_command: false, ..AcpiConfig::default() }, b"FACP");
    assert_eq!(fadt[48..54], [0; 6]);
}

#[test]
fn fadt_of_revision_3_has_the_reset_register() {
    let isa_devices = vec![IsaDevice::Keyboard];
    let fadt = build(&AcpiConfig { reset_register: true, isa_devices, ..AcpiConfig::default() }, b"FACP");
    assert_eq!((fadt.len(), fadt[8]), (244, 3));
    assert_eq!(fadt[109..111], [2, 0]);
    assert_eq!(u32::from_le_bytes(fadt[112..116].try_into().unwrap()), 0x84a5);
    assert_eq!(fadt[116..129], [1, 8, 0, 0, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 0x0f]);
    assert_eq!(fadt[140..148], [0x40, 0, 0, 0, 0, 0, 0, 0]);
    // PM1a event and control block, PM timer, GPE0.
    let gas =
        |at: usize| (fadt[at], fadt[at + 1], u64::from_le_bytes(fadt[at + 4..at + 12].try_into().unwrap()));
    assert_eq!(
        [148, 172, 208, 220].map(gas),
        [(1, 32, 0x600), (1, 16, 0x604), (1, 32, 0x608), (1, 32, 0xafe0)]
    );
    assert_eq!([160, 184, 196, 232].map(gas), [(0, 0, 0); 4]);
}

#[test]
fn more_than_eight_cpus_need_clustered_apics() {
    let flags = |cpus: u32| {
        let fadt =
            build(&AcpiConfig { cpus: (0..cpus).map(cpu).collect(), ..AcpiConfig::default() }, b"FACP");
        u32::from_le_bytes(fadt[112..116].try_into().unwrap())
    };
    assert_eq!((flags(8), flags(9)), (0x80a5, 0x80a5 | 1 << 18));
}

#[test]
fn madt_lists_cpus_interrupts_and_nmi() {
    let absent = AcpiCpu { present: false, ..cpu(5) };
    let madt = build(&AcpiConfig { cpus: vec![cpu(0), cpu(4), absent], ..AcpiConfig::default() }, b"APIC");
    assert_eq!(madt[36..44], [0, 0, 0xe0, 0xfe, 1, 0, 0, 0]);
    let expected: [&[u8]; 10] = [
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &[0, 8, 1, 4, 1, 0, 0, 0],
        &[0, 8, 2, 5, 0, 0, 0, 0],
        &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[2, 10, 0, 5, 5, 0, 0, 0, 0x0d, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0],
        &[2, 10, 0, 10, 10, 0, 0, 0, 0x0d, 0],
        &[2, 10, 0, 11, 11, 0, 0, 0, 0x0d, 0],
        &[4, 6, 0xff, 0, 0, 1],
    ];
    assert_eq!(madt[44..], expected.concat());
}

#[test]
fn large_apic_ids_use_x2apic_entries() {
    let madt = build(&AcpiConfig { cpus: vec![cpu(254), cpu(255)], ..AcpiConfig::default() }, b"APIC");
    assert_eq!(madt[44..52], [0, 8, 0, 254, 1, 0, 0, 0]);
    assert_eq!(madt[52..68], [9, 16, 0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(madt[madt.len() - 12..], [10, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
}

#[test]
fn hpet_is_described_only_if_there() {
    let with = AcpiConfig::default();
    let hpet = build(&with, b"HPET");
    assert_eq!(hpet[36..], [1, 0xa2, 0x86, 0x80, 0, 0, 0, 0, 0, 0, 0xd0, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0]);
    let without = acpi_build(&AcpiConfig { hpet: false, ..with }).unwrap();
    assert!(!without.tables.windows(4).any(|window| window == b"HPET"));
}

/// Node and range of each memory entry of the SRAT that is in use, and how many are not.
fn srat_memory(node_memory: &[u64], below_4g: u64) -> (Vec<(u32, u64, u64)>, usize) {
    let numa = Some(NumaConfig {
        node_memory: node_memory.to_vec(),
        below_4g,
        distances: None,
        ..NumaConfig::default()
    });
    let mut rest = &build(&AcpiConfig { numa, ..AcpiConfig::default() }, b"SRAT")[48..];
    let (mut used, mut unused) = (Vec::new(), 0);
    while let Some(&length) = rest.get(1) {
        let (entry, tail) = rest.split_at(length.into());
        let qword = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap());
        match (entry[0], entry.get(28)) {
            (1, Some(1)) => used.push((u32::from(entry[2]), qword(8), qword(16))),
            (1, _) => unused += 1,
            _ => {}
        }
        rest = tail;
    }
    (used, unused)
}

#[test]
fn srat_lays_nodes_out_around_the_holes() {
    let low = (0, 0, 0xa_0000);
    assert_eq!(
        srat_memory(&[2 * GIB, 2 * GIB], 3 * GIB),
        (vec![low, (0, 0x10_0000, 2 * GIB - 0x10_0000), (1, 2 * GIB, GIB), (1, 4 * GIB, GIB)], 0)
    );
    assert_eq!(
        srat_memory(&[GIB, 0, GIB], 3 * GIB),
        (vec![low, (0, 0x10_0000, GIB - 0x10_0000), (2, GIB, GIB)], 2)
    );
    assert_eq!(
        srat_memory(&[4 * GIB, 4 * GIB], 3 * GIB),
        (vec![low, (0, 0x10_0000, 3 * GIB - 0x10_0000), (0, 4 * GIB, GIB), (1, 5 * GIB, 4 * GIB)], 0)
    );
}

#[test]
fn slit_holds_the_distances() {
    let distances = Some(vec![vec![10, 20], vec![21, 10]]);
    let numa = Some(NumaConfig {
        node_memory: vec![GIB, GIB],
        below_4g: 3 * GIB,
        distances,
        ..NumaConfig::default()
    });
    let slit = build(&AcpiConfig { numa, ..AcpiConfig::default() }, b"SLIT");
    assert_eq!(slit[36..], [2, 0, 0, 0, 0, 0, 0, 0, 10, 20, 21, 10]);
}

#[test]
fn srat_names_the_node_of_each_cpu() {
    let numa = Some(NumaConfig {
        node_memory: vec![GIB, GIB],
        below_4g: 3 * GIB,
        distances: None,
        ..NumaConfig::default()
    });
    let cpus = vec![AcpiCpu { node: Some(0), ..cpu(0) }, AcpiCpu { node: Some(1), ..cpu(300) }];
    let srat = build(&AcpiConfig { numa, cpus, ..AcpiConfig::default() }, b"SRAT");
    assert_eq!(srat[48..64], [0, 16, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let x2apic = [2, 24, 0, 0, 1, 0, 0, 0, 44, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(srat[64..88], x2apic);
}

#[test]
fn serial_port_has_its_resources() {
    let mut aml = Vec::new();
    IsaDevice::Serial { number: 2, iobase: 0x2f8, irq: 3 }.to_aml_bytes(&mut aml);
    let has = |bytes: &[u8]| aml.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"COM2") && has(b"_UID\x0a\x02"));
    assert!(has(&[0x47, 1, 0xf8, 2, 0xf8, 2, 0, 8]), "ports");
    assert!(has(&[0x22, 8, 0]), "interrupt");
}

#[test]
fn configurations_without_tables_are_refused() {
    let default = AcpiConfig::default;
    let refused = |config: AcpiConfig| acpi_build(&config).unwrap_err();
    assert_eq!(refused(AcpiConfig { cpus: vec![], ..default() }), AcpiError::Cpus(0));
    assert_eq!(refused(AcpiConfig { cpus: vec![cpu(0); 5000], ..default() }), AcpiError::Cpus(5000));
    assert_eq!(refused(AcpiConfig { pci_hole: 5..5, ..default() }), AcpiError::PciHole(5..5));
    let above = GIB..5 * GIB;
    assert_eq!(
        refused(AcpiConfig { pci_hole: above.clone(), ..default() }),
        AcpiError::PciHole(above.clone())
    );
    assert_eq!(
        refused(AcpiConfig { pci_hole64: Some(above.clone()), ..default() }),
        AcpiError::PciHole(above)
    );
    let device = |slot| PciDevice { slot, ..PciDevice::default() };
    for slot in [1, 32, 2] {
        let config = AcpiConfig { pci_devices: vec![device(2), device(slot)], ..default() };
        assert_eq!(refused(config), AcpiError::PciSlot(slot));
    }
    let numa = |distances| {
        Some(NumaConfig { node_memory: vec![GIB], below_4g: GIB, distances, ..NumaConfig::default() })
    };
    assert_eq!(refused(AcpiConfig { numa: numa(Some(vec![vec![10, 20]])), ..default() }), AcpiError::Numa);
    let cpus = vec![AcpiCpu { node: Some(1), ..cpu(0) }];
    assert_eq!(refused(AcpiConfig { cpus, numa: numa(None), ..default() }), AcpiError::Numa);
}
