//! Placing firmware tables without a firmware: the loader script, and what the guest then finds in memory.

use hw_acpi::bios_linker_loader::{COMMAND_SIZE, Command, CommandError, Zone};
use hw_i386::acpi_build::{AcpiConfig, acpi_build};
use hw_i386::linker::{Linked, LinkerError, LoaderFile, TableAllocator, execute, firmware_tables};
use hw_i386::mptable::MpConfig;
use hw_smbios::{EntryPoint, SmbiosConfig, SmbiosOptions, SmbiosTables, checksum};

const LOW_RAM_TOP: u64 = 0x800_0000;

fn allocate(file: &str, align: u32, zone: Zone) -> Command {
    Command::Allocate { file: file.to_owned(), align, zone }
}

fn pointer(dest: &str, offset: u32, size: u8, src: &str) -> Command {
    Command::AddPointer { dest_file: dest.to_owned(), src_file: src.to_owned(), offset, size }
}

fn sum(file: &str, offset: u32, start: u32, length: u32) -> Command {
    Command::AddChecksum { file: file.to_owned(), offset, start, length }
}

fn run_in(commands: &[Command], files: &[(&str, &[u8])], top: u64) -> Result<Linked, LinkerError> {
    let script: Vec<u8> = commands.iter().flat_map(Command::encode).collect();
    execute_over(&script, files, top)
}

fn execute_over(script: &[u8], files: &[(&str, &[u8])], top: u64) -> Result<Linked, LinkerError> {
    let files: Vec<LoaderFile> = files.iter().map(|&file| file.into()).collect();
    execute(script, &files, &mut TableAllocator::new(top))
}

fn run(commands: &[Command], files: &[(&str, &[u8])]) -> Result<Linked, LinkerError> {
    run_in(commands, files, LOW_RAM_TOP)
}

#[test]
fn files_go_to_their_zones() {
    let commands =
        [allocate("low", 16, Zone::FSeg), allocate("high", 64, Zone::High), allocate("more", 16, Zone::FSeg)];
    let linked = run(&commands, &[("high", &[1; 100]), ("low", &[2; 5]), ("more", &[3])]).unwrap();
    let places: Vec<_> = linked.placed.iter().map(|placed| (placed.file.as_str(), placed.address)).collect();
    assert_eq!(places, [("low", 0xf_0000), ("high", LOW_RAM_TOP - 128), ("more", 0xf_0010)]);
    assert_eq!(linked.placed[1].bytes, [1; 100]);
}

#[test]
fn pointers_get_the_address_added() {
    let commands = [
        allocate("a", 1, Zone::FSeg),
        allocate("b", 4096, Zone::High),
        pointer("a", 4, 4, "b"),
        pointer("a", 8, 8, "a"),
    ];
    let mut a = [0; 16];
    a[4] = 0x44;
    let linked = run(&commands, &[("a", &a), ("b", &[0; 10])]).unwrap();
    let bytes = &linked.placed[0].bytes;
    assert_eq!(bytes[4..8], (LOW_RAM_TOP as u32 - 4096 + 0x44).to_le_bytes());
    assert_eq!(bytes[8..], 0xf_0000u64.to_le_bytes());
}

#[test]
fn checksums_make_the_sum_zero() {
    let commands = [allocate("a", 1, Zone::High), sum("a", 3, 1, 5)];
    let linked = run(&commands, &[("a", &[9, 1, 2, 7, 4, 5, 9])]).unwrap();
    let bytes = &linked.placed[0].bytes;
    assert_eq!(checksum(&bytes[1..6]), 0);
    assert_eq!((bytes[0], bytes[6]), (9, 9));
}

#[test]
fn write_pointer_tells_the_machine() {
    let write = Command::WritePointer {
        dest_file: "etc/addr".to_owned(),
        src_file: "a".to_owned(),
        dst_offset: 8,
        src_offset: 3,
        size: 8,
    };
    let linked =
        run(&[allocate("a", 1, Zone::FSeg), write], &[("a", &[0; 4]), ("etc/addr", &[0; 16])]).unwrap();
    assert_eq!(linked.write_backs.len(), 1);
    let told = &linked.write_backs[0];
    assert_eq!(
        (told.file.as_str(), told.offset, told.bytes.as_slice()),
        ("etc/addr", 8, &[3, 0, 15, 0, 0, 0, 0, 0][..])
    );
}

#[test]
fn malformed_scripts_are_refused() {
    let files: [(&str, &[u8]); 2] = [("a", &[0xff; 8]), ("b", &[0; 8])];
    let both = [allocate("a", 1, Zone::High), allocate("b", 1, Zone::High)];
    let with = |last: Command| run(&[&both[..], &[last]].concat(), &files).unwrap_err();
    let outside = |file: &str, offset| LinkerError::Outside { file: file.to_owned(), offset };

    assert_eq!(with(allocate("c", 1, Zone::High)), LinkerError::File("c".to_owned()));
    assert_eq!(with(allocate("a", 1, Zone::High)), LinkerError::AllocatedTwice("a".to_owned()));
    assert_eq!(with(pointer("c", 0, 4, "a")), LinkerError::File("c".to_owned()));
    assert_eq!(with(pointer("b", 0, 4, "c")), LinkerError::File("c".to_owned()));
    assert_eq!(with(pointer("b", 5, 4, "a")), outside("b", 5));
    assert_eq!(with(pointer("b", u32::MAX, 8, "a")), outside("b", u32::MAX));
    assert_eq!(
        with(pointer("b", 0, 1, "a")),
        LinkerError::PointerOverflow { file: "b".to_owned(), offset: 0 }
    );
    assert_eq!(
        with(pointer("a", 0, 8, "a")),
        LinkerError::PointerOverflow { file: "a".to_owned(), offset: 0 }
    );
    assert_eq!(with(sum("a", 8, 0, 8)), outside("a", 8));
    assert_eq!(with(sum("a", 0, 1, 8)), outside("a", 1));
    assert_eq!(with(sum("a", 0, u32::MAX, u32::MAX)), outside("a", u32::MAX));
    // A file that exists, but has no address.
    assert_eq!(run(&[pointer("a", 0, 4, "a")], &files), Err(LinkerError::File("a".to_owned())));

    let execute = |script: &[u8]| execute_over(script, &files, LOW_RAM_TOP);
    assert_eq!(execute(&[0; 100]), Err(LinkerError::ScriptLength(100)));
    assert_eq!(execute(&vec![0; 1 << 20]), Err(LinkerError::ScriptLength(1 << 20)));
    assert_eq!(execute(&[7; COMMAND_SIZE]), Err(CommandError::Unknown(0x0707_0707).into()));
    assert_eq!(execute(&[0; 10 * COMMAND_SIZE]), Ok(Linked::default()));
}

#[test]
fn memory_that_does_not_suffice_is_refused() {
    let large = vec![0; 0x1_0001];
    let files: [(&str, &[u8]); 1] = [("a", &large)];
    assert!(matches!(
        run(&[allocate("a", 1, Zone::FSeg)], &files),
        Err(LinkerError::NoRoom { size: 0x1_0001, .. })
    ));
    let high = [allocate("a", 1, Zone::High)];
    assert!(matches!(run_in(&high, &files, 0x11_0000), Err(LinkerError::NoRoom { .. })));
    assert!(matches!(run_in(&high, &files, 0), Err(LinkerError::NoRoom { .. })));
    assert!(run_in(&high, &files, 0x12_0000).is_ok());
    assert!(matches!(run(&[allocate("a", 1 << 31, Zone::High)], &files), Err(LinkerError::NoRoom { .. })));
}

/// Guest memory with nothing but the tables in it.
struct Guest(Vec<(u64, Vec<u8>)>);

impl Guest {
    fn at(&self, address: u64, length: usize) -> &[u8] {
        let inside = |start: u64, bytes: &[u8]| (start..start + bytes.len() as u64).contains(&address);
        let (start, bytes) = self.0.iter().find(|(start, bytes)| inside(*start, bytes)).unwrap();
        &bytes[(address - start) as usize..][..length]
    }

    fn dword(&self, address: u64) -> u64 {
        u32::from_le_bytes(self.at(address, 4).try_into().unwrap()).into()
    }

    /// What an operating system does: search the F segment in steps of 16 bytes.
    fn search(&self, signature: &[u8]) -> u64 {
        let found = self.0.iter().find(|(_, bytes)| bytes.starts_with(signature)).unwrap().0;
        assert!((0xf_0000..0x10_0000).contains(&found) && found % 16 == 0, "{found:#x}");
        found
    }

    /// Checks a table's length and checksum, and returns it.
    fn table(&self, address: u64) -> &[u8] {
        let table = self.at(address, self.dword(address + 4) as usize);
        assert_eq!(checksum(table), 0, "{:?}", &table[..4]);
        table
    }
}

fn smbios() -> SmbiosTables {
    let config = SmbiosConfig {
        manufacturer: "QEMU".to_owned(),
        product: "Standard PC (i440FX + PIIX, 1996)".to_owned(),
        version: "pc-i440fx-7.2".to_owned(),
        uuid: [0; 16],
        cpuid_version: 0x663,
        cpuid_features: 0x0781_abfd,
        sockets: 1,
        cores_per_socket: 1,
        threads_per_socket: 1,
        memory: std::iter::once(0..LOW_RAM_TOP).collect(),
        options: SmbiosOptions::default(),
        entry_point: EntryPoint::Bits32,
    };
    SmbiosTables::build(&config).unwrap()
}

fn mp() -> MpConfig {
    MpConfig { apic_ids: vec![0, 1], lapic_version: 0x14, ..MpConfig::default() }
}

#[test]
fn a_guest_finds_its_tables() {
    let acpi = acpi_build(&AcpiConfig::default()).unwrap();
    let tables = firmware_tables(Some(&acpi), &smbios(), &mp(), LOW_RAM_TOP).unwrap();
    assert_eq!(tables.reserved, LOW_RAM_TOP - 0x2_0000..LOW_RAM_TOP);
    let guest = Guest(tables.blobs);

    let rsdp = guest.search(b"RSD PTR ");
    assert_eq!(checksum(guest.at(rsdp, 20)), 0);
    let rsdt = guest.table(guest.dword(rsdp + 16));
    let found: Vec<_> = rsdt[36..]
        .chunks(4)
        .map(|entry| guest.table(u32::from_le_bytes(entry.try_into().unwrap()).into()))
        .collect();
    let names: Vec<_> = found.iter().map(|table| &table[..4]).collect();
    assert_eq!(names, [&b"FACP"[..], b"APIC", b"HPET", b"WAET"]);
    let field = |at: usize| u64::from(u32::from_le_bytes(found[0][at..at + 4].try_into().unwrap()));
    assert_eq!(&guest.table(field(40))[..4], b"DSDT");
    assert_eq!(guest.at(field(36), 8), b"FACS\x40\0\0\0");
    assert_eq!(field(36) % 64, 0);

    let anchor = guest.search(b"_SM_");
    assert_eq!(checksum(guest.at(anchor, 31)), 0);
    assert_eq!(guest.at(guest.dword(anchor + 24), 1), [0]);

    let floating = guest.search(b"_MP_");
    assert_eq!(checksum(guest.at(floating, 16)), 0);
    let config = guest.dword(floating + 4);
    assert_eq!(guest.at(config, 4), b"PCMP");
    let length = u16::from_le_bytes(guest.at(config + 4, 2).try_into().unwrap());
    assert_eq!(checksum(guest.at(config, length.into())), 0);
}

#[test]
fn blobs_do_not_overlap_and_stay_out_of_ram_that_the_guest_uses() {
    let acpi = acpi_build(&AcpiConfig::default()).unwrap();
    let tables = firmware_tables(Some(&acpi), &smbios(), &mp(), LOW_RAM_TOP).unwrap();
    let mut ranges: Vec<_> = tables.blobs.iter().map(|(at, bytes)| *at..at + bytes.len() as u64).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{ranges:x?}");
    for range in ranges {
        let fseg = range.start >= 0xf_0000 && range.end <= 0x10_0000;
        assert!(
            fseg || (range.start >= tables.reserved.start && range.end <= tables.reserved.end),
            "{range:x?}"
        );
    }
}

#[test]
fn without_acpi_no_ram_is_reserved() {
    let tables = firmware_tables(None, &smbios(), &mp(), LOW_RAM_TOP).unwrap();
    assert!(tables.reserved.is_empty());
    assert!(tables.blobs.iter().all(|(_, bytes)| !bytes.starts_with(b"RSD PTR ")));
}
