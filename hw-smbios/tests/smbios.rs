//! The structures as DSP0134 2.8.0 lays them out, and the values QEMU's `-M pc` puts into them.

use std::ops::Range;

use hw_smbios::{EntryPoint, SmbiosConfig, SmbiosError, SmbiosOptions, SmbiosTables, checksum};

const GIB: u64 = 1 << 30;
const TWO_RANGES: [Range<u64>; 2] = [0..3 * GIB, 4 * GIB..6 * GIB];

fn config(memory: &[Range<u64>]) -> SmbiosConfig {
    SmbiosConfig {
        manufacturer: "QEMU".to_owned(),
        product: "Standard PC (i440FX + PIIX, 1996)".to_owned(),
        version: "pc-i440fx-7.2".to_owned(),
        uuid: [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff],
        cpuid_version: 0x0006_0fb1,
        cpuid_features: 0x078b_fbfd,
        sockets: 2,
        cores_per_socket: 3,
        threads_per_socket: 6,
        memory: memory.to_vec(),
        options: SmbiosOptions::default(),
        entry_point: EntryPoint::Bits32,
    }
}

struct Structure {
    kind: u8,
    handle: u16,
    formatted: Vec<u8>,
    strings: Vec<String>,
}

impl Structure {
    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.formatted[at..at + 2].try_into().unwrap())
    }

    fn dword(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.formatted[at..at + 4].try_into().unwrap())
    }

    fn qword(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.formatted[at..at + 8].try_into().unwrap())
    }

    fn string(&self, at: usize) -> &str {
        &self.strings[usize::from(self.formatted[at]) - 1]
    }
}

/// Walks the table as an operating system does.
fn parse(mut bytes: &[u8]) -> Vec<Structure> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (formatted, rest) = bytes.split_at(usize::from(bytes[1]));
        let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap();
        let strings = rest[..end].split(|&byte| byte == 0).filter(|text| !text.is_empty());
        found.push(Structure {
            kind: formatted[0],
            handle: u16::from_le_bytes([formatted[2], formatted[3]]),
            formatted: formatted.to_vec(),
            strings: strings.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect(),
        });
        bytes = &rest[end + 2..];
    }
    found
}

fn build(memory: &[Range<u64>]) -> Vec<Structure> {
    parse(SmbiosTables::build(&config(memory)).unwrap().tables_file())
}

#[test]
fn every_structure_is_there_once_and_has_its_length() {
    let found = build(&TWO_RANGES);
    let summary: Vec<_> = found.iter().map(|s| (s.kind, s.formatted.len(), s.handle)).collect();
    assert_eq!(
        summary,
        [
            (1, 0x1b, 0x100),
            (3, 0x16, 0x300),
            (4, 0x2a, 0x400),
            (4, 0x2a, 0x401),
            (16, 0x17, 0x1000),
            (17, 0x28, 0x1100),
            (19, 0x1f, 0x1300),
            (19, 0x1f, 0x1301),
            (32, 0x0b, 0x2000),
            (127, 4, 0x7f00),
        ]
    );
}

#[test]
fn system_is_named_and_its_uuid_is_in_wire_order() {
    let found = build(&TWO_RANGES);
    let system = &found[0];
    assert_eq!(system.string(4), "QEMU");
    assert_eq!(system.string(5), "Standard PC (i440FX + PIIX, 1996)");
    assert_eq!(system.string(6), "pc-i440fx-7.2");
    let uuid = [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    assert_eq!(system.formatted[8..24], uuid);
    assert_eq!((system.formatted[7], system.formatted[24]), (0, 6));
}

#[test]
fn sockets_count_cores_and_threads() {
    let found = build(&TWO_RANGES);
    for (socket, name) in ["CPU 0", "CPU 1"].into_iter().enumerate() {
        let processor = &found[2 + socket];
        assert_eq!(processor.string(4), name);
        assert_eq!(processor.qword(8), 0x078b_fbfd_0006_0fb1);
        assert_eq!((processor.word(0x14), processor.word(0x16)), (2000, 2000));
        assert_eq!(processor.formatted[0x23..0x26], [3, 3, 6]);
    }
}

#[test]
fn memory_is_split_into_dimms_of_16_gib() {
    let found = build(&[0..3 * GIB, 4 * GIB..34 * GIB]);
    let array = found.iter().find(|s| s.kind == 16).unwrap();
    assert_eq!((array.dword(7), array.word(0xd)), (33 << 20, 3));
    let dimms: Vec<_> =
        found.iter().filter(|s| s.kind == 17).map(|s| (s.word(0xc), s.string(0x10))).collect();
    assert_eq!(dimms, [(16384, "DIMM 0"), (16384, "DIMM 1"), (1024, "DIMM 2")]);
    let ranges: Vec<_> = found.iter().filter(|s| s.kind == 19).map(|s| (s.dword(4), s.dword(8))).collect();
    assert_eq!(ranges, [(0, (3 << 20) - 1), (4 << 20, (34 << 20) - 1)]);
}

#[test]
fn sizes_beyond_32_bits_go_to_the_extended_fields() {
    let end = 5 * 1024 * GIB;
    let found = build(&[0..3 * GIB, 4 * GIB..end]);
    let array = found.iter().find(|s| s.kind == 16).unwrap();
    assert_eq!((array.dword(7), array.qword(0xf)), (0x8000_0000, end - GIB));
    let range = found.iter().rfind(|s| s.kind == 19).unwrap();
    assert_eq!((range.dword(4), range.dword(8)), (u32::MAX, u32::MAX));
    assert_eq!((range.qword(0xf), range.qword(0x17)), (4 * GIB, end - 1));
}

#[test]
fn handles_are_unique_with_many_dimms() {
    // 600 DIMMs reach beyond the first handle of type 19.
    let found = build(&[0..3 * GIB, 4 * GIB..(600 * 16 + 1) * GIB]);
    let mut handles: Vec<_> = found.iter().map(|s| s.handle).collect();
    handles.sort_unstable();
    handles.dedup();
    assert_eq!(handles.len(), found.len());
}

#[test]
fn memory_beyond_the_format_is_refused() {
    let error = SmbiosTables::build(&config(&[0..3 * GIB, 4 * GIB..1 << 60])).unwrap_err();
    let SmbiosError::TooLong(length) = error else { panic!("{error}") };
    assert_eq!(error.to_string(), format!("SMBIOS 2.1 table length {length} exceeds 65535"));
}

#[test]
fn anchor_waits_for_the_firmware() {
    let tables = SmbiosTables::build(&config(&TWO_RANGES)).unwrap();
    let anchor = tables.anchor_file();
    assert_eq!(anchor.len(), 31);
    assert_eq!(&anchor[..8], b"_SM_\0\x1f\x02\x08");
    assert_eq!(&anchor[16..22], b"_DMI_\0");
    assert_eq!(u16::from_le_bytes([anchor[22], anchor[23]]) as usize, tables.tables_file().len());
    assert_eq!(anchor[24..28], [0; 4]);
    assert_eq!(u16::from_le_bytes([anchor[28], anchor[29]]) as usize, parse(tables.tables_file()).len());
    assert_eq!(anchor[30], 0x28);
    // Type 1 is the largest: 27 bytes, three strings with their zeros, and a last zero.
    assert_eq!(u16::from_le_bytes([anchor[8], anchor[9]]), 27 + 5 + 34 + 14 + 1);
}

#[test]
fn placed_anchor_has_address_and_checksums() {
    let tables = SmbiosTables::build(&config(&TWO_RANGES)).unwrap();
    let (bytes, mut anchor) = tables.with_bios_information();
    anchor.table_address = 0xf_1230;
    let anchor = anchor.to_bytes();
    assert_eq!(checksum(&anchor), 0);
    assert_eq!(checksum(&anchor[16..]), 0);
    assert_eq!(anchor[24..28], 0xf_1230u32.to_le_bytes());
    assert_eq!(u16::from_le_bytes([anchor[22], anchor[23]]) as usize, bytes.len());
    let found = parse(&bytes);
    assert_eq!(u16::from_le_bytes([anchor[28], anchor[29]]) as usize, found.len());
    assert_eq!((found[0].kind, found[0].formatted.len(), found[0].string(8)), (0, 0x18, "04/01/2014"));
    assert!(bytes.ends_with(tables.tables_file()));
}

#[test]
fn a_name_cannot_break_the_table() {
    let mut config = config(&TWO_RANGES);
    config.product = "a\0\0b".to_owned();
    config.version = String::new();
    let found = parse(SmbiosTables::build(&config).unwrap().tables_file());
    assert_eq!((found[0].string(5), found[0].formatted[6]), ("a", 0));
    assert_eq!(found.last().unwrap().kind, 127);
}

#[test]
fn what_the_user_says_goes_before_the_machines_own() {
    let mut config = config(&TWO_RANGES);
    let said = |kind: u8, field: &str, value: &str| ((kind, field.to_owned()), value.to_owned());
    config.options.fields = [
        said(1, "serial", "42"),
        said(1, "product", "Thing"),
        said(2, "asset", "A-1"),
        said(4, "max-speed", "3000"),
        said(17, "speed", "1600"),
    ]
    .into();
    config.options.kinds = [0, 1, 2, 4, 17].into();
    config.options.release = Some((5, 6));
    config.options.oem_strings = vec!["one".to_owned(), "two".to_owned()];
    config.options.files = vec![b"\x03\x04\x00\x03\x00\x00".to_vec()];
    let tables = parse(SmbiosTables::build(&config).unwrap().tables_file());
    let of = |kind: u8| tables.iter().find(|table| table.kind == kind).unwrap();
    assert_eq!((of(1).string(7), of(1).string(5)), ("42", "Thing"));
    assert_eq!((of(2).string(8), of(2).word(11)), ("A-1", 0x300));
    assert_eq!((of(4).word(0x14), of(4).word(0x16), of(17).word(0x15)), (3000, 2000, 1600));
    assert_eq!(of(0).formatted[0x14..0x16], [5, 6]);
    assert_eq!((of(11).formatted[4], &of(11).strings[..]), (2, &["one".to_owned(), "two".to_owned()][..]));
    // The user's enclosure comes first and alone.
    assert_eq!((tables[0].kind, tables.iter().filter(|table| table.kind == 3).count()), (3, 1));
}

#[test]
fn the_64_bit_entry_point_has_room_for_long_tables() {
    let config = SmbiosConfig { entry_point: EntryPoint::Bits64, sockets: 1500, ..config(&TWO_RANGES) };
    let tables = SmbiosTables::build(&config).unwrap();
    assert!(tables.tables_file().len() > 1 << 16);
    let anchor = tables.anchor_file();
    assert_eq!(anchor.len(), 24);
    assert_eq!(&anchor[..12], b"_SM3_\0\x18\x03\0\0\x01\0");
    assert_eq!(anchor[12..16], (tables.tables_file().len() as u32).to_le_bytes());
    assert_eq!(anchor[16..], [0; 8]);
    let (bytes, mut placed) = tables.with_bios_information();
    placed.table_address = 0x7fff_0000;
    let placed = placed.to_bytes();
    assert_eq!(placed[12..16], (bytes.len() as u32).to_le_bytes());
    assert_eq!(placed[16..], 0x7fff_0000u64.to_le_bytes());
    assert_eq!(checksum(&placed), 0);
    // Processors have their counts a second time.
    let processor = parse(tables.tables_file()).into_iter().find(|s| s.kind == 4).unwrap();
    assert_eq!((processor.formatted.len(), processor.word(0x2a), processor.word(0x2e)), (0x30, 3, 6));
}
