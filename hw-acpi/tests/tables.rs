//! The tables blob: headers, pointers and the RSDP, in terms of ACPI 6.4 section 5.2.

use hw_acpi::aml::{Aml, EmptyPackage, IrqNoFlags, IsaDma, Name, ONE, Processor};
use hw_acpi::bios_linker_loader::{COMMAND_SIZE, Command, Zone};
use hw_acpi::tables::{OemIds, Pointer, TableBlob};

fn commands(blob: &TableBlob) -> Vec<Command> {
    let script = blob.linker().script(1);
    script.as_chunks::<COMMAND_SIZE>().0.iter().filter_map(|bytes| Command::decode(bytes).unwrap()).collect()
}

#[test]
fn table_has_the_common_header() {
    let oem = OemIds { oem_id: *b"ABCDEF", oem_table_id: *b"01234567" };
    let mut blob = TableBlob::new(oem, 64);
    blob.raw(&[0; 64]);
    assert_eq!(blob.table(*b"TEST", 3, &[0xaa, 0xbb]), 64);
    let table = &blob.data()[64..];
    assert_eq!(table.len(), 38);
    assert_eq!(&table[..10], b"TEST\x26\0\0\0\x03\0");
    assert_eq!(&table[10..24], b"ABCDEF01234567");
    assert_eq!(&table[24..], b"\x01\0\0\0BXPC\x01\0\0\0\xaa\xbb");
    let file = "etc/acpi/tables".to_owned();
    assert_eq!(commands(&blob)[2], Command::AddChecksum { file, offset: 73, start: 64, length: 38 });
}

#[test]
fn rsdp_and_tables_are_allocated_before_they_are_used() {
    let blob = TableBlob::new(OemIds::default(), 64);
    let (rsdp, tables) = ("etc/acpi/rsdp".to_owned(), "etc/acpi/tables".to_owned());
    assert_eq!(
        commands(&blob),
        [
            Command::Allocate { file: rsdp, align: 16, zone: Zone::FSeg },
            Command::Allocate { file: tables, align: 64, zone: Zone::High },
        ]
    );
}

#[test]
fn pointers_hold_offsets_and_come_before_the_checksum() {
    let mut blob = TableBlob::new(OemIds::default(), 64);
    let target = blob.raw(&[0; 16]);
    let pointer = Pointer { at: 40, size: 8, target: 5 };
    let table = blob.table_with_pointers(*b"TEST", 1, &[0; 12], &[pointer]);
    assert_eq!((target, table), (0, 16));
    assert_eq!(blob.data()[16 + 40..][..8], 5u64.to_le_bytes());
    let commands = commands(&blob);
    assert!(matches!(commands[2], Command::AddPointer { offset: 56, size: 8, .. }));
    assert!(matches!(commands[3], Command::AddChecksum { start: 16, length: 48, .. }));
}

#[test]
fn rsdp_leads_to_the_rsdt() {
    let mut blob = TableBlob::new(OemIds::default(), 64);
    let first = blob.table(*b"AAAA", 1, &[]);
    let second = blob.table(*b"BBBB", 1, &[]);
    let rsdp = blob.finish(&[first, second]);
    assert_eq!(rsdp.len(), 20);
    assert_eq!(&rsdp[..16], b"RSD PTR \0BOCHS \0");
    let rsdt = &blob.data()[u32::from_le_bytes(rsdp[16..].try_into().unwrap()) as usize..];
    assert_eq!(&rsdt[..8], b"RSDT\x2c\0\0\0");
    assert_eq!(rsdt[36..], [0, 0, 0, 0, 36, 0, 0, 0]);
}

fn aml(term: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    term.to_aml_bytes(&mut bytes);
    bytes
}

#[test]
fn own_terms_follow_the_grammar() {
    // ProcessorOp PkgLength NameString ProcID PblkAddr PblkLen, then Name (_UID, One).
    let processor = aml(&Processor::new("C00A", 10, vec![&Name::new("_UID".into(), &ONE)]));
    assert_eq!(processor, b"\x5b\x83\x11C00A\x0a\0\0\0\0\0\x08_UID\x01");
    assert_eq!(aml(&EmptyPackage(2)), [0x12, 2, 2]);
    assert_eq!(aml(&IrqNoFlags(12)), [0x22, 0, 0x10]);
    assert_eq!(aml(&IsaDma(2)), [0x2a, 4, 0]);
}
