//! Ours against ACPICA's disassembler and interpreter (Debian's acpica-tools), and against the tables that QEMU
//! 7.2's `-M pc` (Debian's qemu-system-x86) hands to its firmware.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use hw_acpi::tables::{RSDP_FILE, TABLES_FILE};
use hw_i386::acpi_build::{AcpiConfig, AcpiCpu, AcpiTables, IsaDevice, NumaConfig, PciDevice, acpi_build};
use hw_i386::linker::{TableAllocator, execute};
use hw_smbios::{EntryPoint, SmbiosConfig, SmbiosOptions, SmbiosTables};

const GIB: u64 = 1 << 30;

fn cpus(number: u32, present: u32) -> Vec<AcpiCpu> {
    (0..number).map(|apic_id| AcpiCpu { apic_id, present: apic_id < present, node: None }).collect()
}

/// What [`like_qemu`] describes, in QEMU's words.
const QEMU_MACHINE: &str =
    "-M pc -m 128 -smp 2,maxcpus=4 -nodefaults -vga std -serial null -serial null -parallel null";

/// The machine of [`QEMU_MACHINE`].
fn like_qemu() -> AcpiConfig {
    let device = |slot, display| PciDevice { slot, display, ..PciDevice::default() };
    AcpiConfig {
        cpus: cpus(4, 2),
        cpu_hotplug: true,
        pci_hole64: Some(4 * GIB..6 * GIB),
        pci_hotplug: true,
        pci_devices: vec![device(0, false), device(2, true)],
        isa_devices: vec![
            IsaDevice::Keyboard,
            IsaDevice::Mouse,
            IsaDevice::Floppy([None, None]),
            IsaDevice::Parallel { number: 1, iobase: 0x378, irq: 7 },
            IsaDevice::Serial { number: 2, iobase: 0x2f8, irq: 3 },
            IsaDevice::Serial { number: 1, iobase: 0x3f8, irq: 4 },
            IsaDevice::Rtc,
        ],
        ..AcpiConfig::default()
    }
}

/// With everything that [`like_qemu`] does not have.
fn other() -> AcpiConfig {
    let mut cpus = cpus(10, 9);
    for (cpu, node) in cpus.iter_mut().zip([0, 1].into_iter().cycle()) {
        cpu.node = Some(node);
    }
    cpus[9].apic_id = 1000;
    let distances = Some(vec![vec![10, 20], vec![20, 10]]);
    AcpiConfig {
        cpus,
        reset_register: true,
        s3: false,
        s4: None,
        numa: Some(NumaConfig {
            node_memory: vec![2 * GIB, 2 * GIB],
            below_4g: 3 * GIB,
            distances,
            ..NumaConfig::default()
        }),
        ..AcpiConfig::default()
    }
}

/// Tables by signature, pointers and checksums patched.
fn linked(tables: &AcpiTables) -> BTreeMap<String, Vec<u8>> {
    let files = [(RSDP_FILE, tables.rsdp.as_slice()).into(), (TABLES_FILE, tables.tables.as_slice()).into()];
    let linked = execute(&tables.linker, &files, &mut TableAllocator::new(0x800_0000)).unwrap();
    split(&linked.placed.iter().find(|placed| placed.file == TABLES_FILE).unwrap().bytes)
}

/// Tables lie one behind the other.
fn split(mut blob: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    while blob.len() > 36 && blob[0] != 0 {
        let length = u32::from_le_bytes(blob[4..8].try_into().unwrap()) as usize;
        let (table, rest) = blob.split_at(length);
        found.insert(String::from_utf8(table[..4].to_vec()).unwrap(), table.to_vec());
        blob = rest;
    }
    found
}

fn tool(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = run.unwrap_or_else(|error| panic!("{program} (Debian package acpica-tools): {error}"));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Disassembles a table; the tool must not complain.
fn disassemble(folder: &Path, name: &str, table: &[u8]) -> String {
    fs::write(folder.join(format!("{name}.dat")), table).unwrap();
    let said = tool(folder, "iasl", &["-d", &format!("{name}.dat")]);
    for complaint in ["Warning", "Error", "Invalid"] {
        assert!(!said.contains(complaint), "{name}: {said}");
    }
    let text = fs::read_to_string(folder.join(format!("{name}.dsl"))).unwrap();
    // A comment of the disassembler's where a table does not make sense to it.
    for complaint in ["****", "Unknown", "Invalid", "incorrect"] {
        let lines = text.lines().filter(|line| !line.contains("32-bit table (V1)"));
        assert!(lines.into_iter().all(|line| !line.contains(complaint)), "{name}: {complaint}: {text}");
    }
    text
}

#[test]
fn iasl_takes_our_tables_apart_and_puts_the_dsdt_together_again() {
    for config in [like_qemu(), other(), AcpiConfig { fw_cfg: false, hpet: false, ..AcpiConfig::default() }] {
        let folder = tempfile::tempdir().unwrap();
        for (name, table) in linked(&acpi_build(&config).unwrap()) {
            disassemble(folder.path(), &name, &table);
        }
        let said = tool(folder.path(), "iasl", &["-p", "again", "DSDT.dsl"]);
        assert!(said.contains(" 0 Errors"), "{said}");
    }
}

#[test]
fn acpica_runs_our_methods() {
    let folder = tempfile::tempdir().unwrap();
    let tables = linked(&acpi_build(&like_qemu()).unwrap());
    fs::write(folder.path().join("DSDT.dat"), &tables["DSDT"]).unwrap();
    let run = |method: &str| {
        let said = tool(folder.path(), "acpiexec", &["-b", &format!("execute {method}"), "DSDT.dat"]);
        assert!(
            said.contains("valuat") && !said.contains("Error") && !said.contains("AE_"),
            "{method}: {said}"
        );
        said
    };
    for method in
        ["\\DBUG 0xabcd", "\\_GPE._E01", "\\_GPE._E02", "\\_SB.PCI0._CRS", "\\_SB.CPUS.C001._OST 1 2 3"]
    {
        run(method);
    }
    for method in ["\\_SB.CPUS.C001._EJ0 1", "\\_SB.PCI0.S18._EJ0 1", "\\_SB.LNKA._DIS", "\\_SB.LNKS._CRS"] {
        run(method);
    }
    // Registers read as zero: no HPET, no CPU, a link that is routed to interrupt 0.
    assert!(run("\\_SB.HPET._STA").contains("[Integer] = 0000000000000000"));
    assert!(run("\\_SB.CPUS.C001._STA").contains("[Integer] = 0000000000000000"));
    assert!(run("\\_SB.LNKB._STA").contains("[Integer] = 000000000000000B"));
    assert!(run("\\_SB.LNKB._CRS").contains("89 06 00 09 01 00 00 00 00"));
}

/// QEMU that runs no guest code, told over the qtest protocol what to do.
struct Qemu {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    fn start(arguments: &str) -> Self {
        let fixed = "-accel tcg -S -display none -qtest stdio -qtest-log none";
        let mut child = Command::new("qemu-system-x86_64")
            .args(fixed.split(' ').chain(arguments.split(' ')))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("qemu-system-x86_64 (Debian package qemu-system-x86): {error}"));
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, commands, answers }
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        let mut line = String::new();
        while !line.starts_with("OK") {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "QEMU ended at {command}");
        }
        line.trim_start_matches("OK").trim().to_owned()
    }

    /// Reads a fw_cfg item by DMA, into RAM that no guest uses.
    fn item(&mut self, key: u16, length: usize) -> Vec<u8> {
        const DESCRIPTOR: u32 = 0x1000;
        const BUFFER: u32 = 0x2000;
        const SELECT_AND_READ: u32 = 1 << 3 | 1 << 1;
        let control = u32::from(key) << 16 | SELECT_AND_READ;
        self.ask(&format!("write {DESCRIPTOR:#x} 16 0x{control:08x}{length:08x}{BUFFER:016x}"));
        self.ask("outl 0x514 0");
        self.ask(&format!("outl 0x518 {:#x}", DESCRIPTOR.swap_bytes()));
        let answer = self.ask(&format!("read {BUFFER:#x} {length}"));
        let digits = answer.trim_start_matches("0x").as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// A whole fw_cfg file.
    fn file(&mut self, name: &str) -> Vec<u8> {
        const DIRECTORY: u16 = 0x19;
        let count = u32::from_be_bytes(self.item(DIRECTORY, 4).try_into().unwrap());
        let directory = self.item(DIRECTORY, 4 + count as usize * 64);
        let named = |entry: &&[u8]| entry[8..].starts_with(format!("{name}\0").as_bytes());
        let entry = directory[4..].chunks(64).find(named).unwrap();
        let size = u32::from_be_bytes(entry[..4].try_into().unwrap());
        self.item(u16::from_be_bytes(entry[4..6].try_into().unwrap()), size as usize)
    }

    /// As the firmware does before it reads the tables: the PIIX4's power management registers go to 0x600.
    fn enable_power_management(&mut self) {
        for command in ["outl 0xcf8 0x80000b40", "outl 0xcfc 0x601", "outl 0xcf8 0x80000b80", "outb 0xcfc 1"]
        {
            self.ask(command);
        }
    }
}

/// What a disassembled DSDT says, without how it says it: names, resources and registers with the device they
/// belong to. Methods are left out (ours differ), and so is `_PRT`, which QEMU computes.
fn facts(dsl: &str) -> Vec<String> {
    let mut facts = Vec::new();
    let mut devices: Vec<(usize, String)> = Vec::new();
    let mut skip = None;
    for line in dsl.lines() {
        let depth = line.len() - line.trim_start().len();
        let line = line.split("//").next().unwrap_or_default().split("/*").next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if skip.is_some_and(|end| depth > end || (depth == end && line == "{")) {
            continue;
        }
        skip = None;
        devices.retain(|(at, _)| *at < depth || line.starts_with('{'));
        let argument =
            line.split(['(', ')', ',']).nth(1).unwrap_or_default().rsplit('.').next().unwrap_or_default();
        if line.starts_with("Method") || line.starts_with("Name (_PRT") {
            if !["_PRT", "CSCN", "DBUG"].contains(&argument) {
                facts.push(format!("method {argument}"));
            }
            skip = Some(depth);
        } else if line.starts_with("Device (") || line.starts_with("Processor (") {
            devices.push((depth, argument.to_owned()));
            facts.push(format!("device {argument}"));
        } else if !line.starts_with(['{', '}']) && !line.starts_with("Scope") {
            let device = devices.last().map_or("", |(_, name)| name.as_str());
            facts.push(format!("{device}: {}", line.trim_end_matches(',')));
        }
    }
    facts.sort();
    facts
}

/// From where the definitions begin: before it are the header's sizes and dates.
fn definitions(dsl: &str) -> &str {
    &dsl[dsl.find("DefinitionBlock").unwrap()..]
}

#[test]
fn our_machine_is_qemus() {
    let mut qemu = Qemu::start(QEMU_MACHINE);
    qemu.enable_power_management();
    let theirs = split(&qemu.file(TABLES_FILE));
    let tables = acpi_build(&like_qemu()).unwrap();
    let ours = split(&tables.tables);
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for name in ["FACS", "APIC", "HPET", "WAET"] {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    // The FACP's pointers, too: FACS and DSDT are at the same places.
    assert_eq!(ours["FACP"], theirs["FACP"]);
    assert_eq!(ours["DSDT"][8..36], theirs["DSDT"][8..36]);

    let folder = tempfile::tempdir().unwrap();
    let disassembled = |name: &str, table: &[u8]| {
        fs::write(folder.path().join(format!("{name}.dat")), table).unwrap();
        tool(folder.path(), "iasl", &["-d", &format!("{name}.dat")]);
        let text = fs::read_to_string(folder.path().join(format!("{name}.dsl"))).unwrap();
        facts(definitions(&text))
    };
    let (ours, theirs) = (disassembled("ours", &ours["DSDT"]), disassembled("theirs", &theirs["DSDT"]));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|fact| !those.contains(fact)).cloned().collect()
    };
    assert_eq!((only(&ours, &theirs), only(&theirs, &ours)), (vec![], vec![]));
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.len() > 300, "{}", ours.len());

    // The processor id is that of QEMU's CPU model.
    let theirs = qemu.file(hw_smbios::TABLES_FILE);
    let processor = theirs.windows(4).position(|window| window == [4, 0x2a, 0, 4]).unwrap();
    let dword = |at: usize| u32::from_le_bytes(theirs[processor + at..][..4].try_into().unwrap());
    let smbios = SmbiosTables::build(&SmbiosConfig {
        manufacturer: "QEMU".to_owned(),
        product: "Standard PC (i440FX + PIIX, 1996)".to_owned(),
        version: "pc-i440fx-7.2".to_owned(),
        uuid: [0; 16],
        cpuid_version: dword(8),
        cpuid_features: dword(12),
        sockets: 1,
        cores_per_socket: 4,
        threads_per_socket: 4,
        memory: std::iter::once(0..0x800_0000).collect(),
        options: SmbiosOptions::default(),
        entry_point: EntryPoint::Bits32,
    })
    .unwrap();
    assert_eq!(smbios.tables_file(), theirs);
    assert_eq!(smbios.anchor_file(), qemu.file(hw_smbios::ANCHOR_FILE));
}

#[test]
fn interrupts_are_routed_as_the_board_is_wired() {
    let folder = tempfile::tempdir().unwrap();
    let text = disassemble(folder.path(), "DSDT", &linked(&acpi_build(&like_qemu()).unwrap())["DSDT"]);
    let start = text.find("Name (_PRT").unwrap();
    let words: Vec<_> = text[start..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let links: Vec<_> = words.iter().filter(|word| word.starts_with("LNK")).take(128).collect();
    for slot in 0..32 {
        for pin in 0..4 {
            let wired = ["LNKD", "LNKA", "LNKB", "LNKC"][(slot + pin) % 4];
            let expected = if (slot, pin) == (1, 0) { "LNKS" } else { wired };
            assert_eq!(*links[slot * 4 + pin], expected, "slot {slot} pin {pin}");
        }
    }
}
