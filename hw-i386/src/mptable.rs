//! MP tables: the processors and interrupt lines for operating systems that do not use ACPI.
//!
//! Source followed: Intel MultiProcessor Specification 1.4, chapter 4, and SeaBIOS `src/fw/mptable.c` for the values.

use hw_smbios::checksum;

/// Bytes of the floating pointer structure (4.1).
pub const FLOATING_SIZE: usize = 16;
const FLOATING_CHECKSUM: usize = 10;
const SPEC_REVISION: u8 = 4;
const HEADER_SIZE: usize = 44;
const HEADER_LENGTH: usize = 4;
const HEADER_CHECKSUM: usize = 7;
const HEADER_ENTRIES: usize = 34;

// Table 4-3: entry types.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

// Table 4-4: CPU flags.
const CPU_ENABLED: u8 = 1 << 0;
const CPU_BOOTSTRAP: u8 = 1 << 1;

// Table 4-10: interrupt types and flags.
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
const CONFORMS_TO_BUS: u16 = 0;
const ACTIVE_HIGH: u16 = 1;
const ALL_LOCAL_APICS: u8 = 0xff;

const LOCAL_APIC_ADDRESS: u32 = 0xfee0_0000;
const IO_APIC_ADDRESS: u32 = 0xfec0_0000;
const IO_APIC_ID: u8 = 0;
const IO_APIC_VERSION: u8 = 0x11;
const IO_APIC_ENABLED: u8 = 1;
/// ISA interrupts that PCI links are routed to: they have no entry of the ISA bus.
const PCI_IRQS: u16 = 1 << 5 | 1 << 9 | 1 << 10 | 1 << 11;
/// The highest id an APIC without x2APIC can have.
const MAX_APIC_ID: u32 = 254;
/// CPUID leaf 1 EDX: the package has room for more than one logical processor.
const CPUID_HTT: u32 = 1 << 28;

/// What the MP tables say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MpConfig {
    /// APIC ids of the CPUs that are there, the boot CPU's first.
    pub apic_ids: Vec<u32>,
    /// EAX of CPUID leaf 1.
    pub cpuid_version: u32,
    /// EBX of CPUID leaf 1: bits 16 to 23 are the logical processors of a package.
    pub cpuid_ebx: u32,
    /// EDX of CPUID leaf 1.
    pub cpuid_features: u32,
    /// Version field of the local APICs, 0x14 for KVM's.
    pub lapic_version: u8,
    /// PCI functions of bus 0 that have an interrupt pin, in order of slot and function; `None` without a PCI bus.
    pub pci: Option<Vec<PciInterrupt>>,
}

/// The interrupt of a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciInterrupt {
    /// Slot on bus 0.
    pub slot: u8,
    /// Interrupt pin register: 1 (INTA#) to 4 (INTD#).
    pub pin: u8,
    /// Interrupt line register: the input of the I/O APIC.
    pub line: u8,
}

/// Entries of the configuration table, and their number.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    count: u16,
}

impl Entries {
    fn push(&mut self, fields: &[&[u8]]) {
        self.bytes.extend(fields.iter().copied().flatten());
        self.count += 1;
    }

    fn bus(&mut self, id: u8, name: &[u8; 6]) {
        self.push(&[&[BUS, id], name]);
    }

    fn interrupt(&mut self, entry: u8, kind: u8, flags: u16, source: [u8; 2], dest: [u8; 2]) {
        self.push(&[&[entry, kind], &flags.to_le_bytes(), &source, &dest]);
    }
}

/// As SeaBIOS does it, only the first logical processor of each package has an entry: the specification predates
/// packages with several.
fn processors(entries: &mut Entries, config: &MpConfig) {
    let logical = (config.cpuid_ebx >> 16 & 0xff).max(1).next_power_of_two();
    let step = if config.cpuid_features & CPUID_HTT != 0 { logical } else { 1 };
    for (index, &id) in config.apic_ids.iter().enumerate() {
        if id > MAX_APIC_ID || id % step != 0 {
            continue;
        }
        let flags = CPU_ENABLED | if index == 0 { CPU_BOOTSTRAP } else { 0 };
        entries.push(&[
            &[PROCESSOR, id as u8, config.lapic_version, flags],
            &config.cpuid_version.to_le_bytes(),
            &config.cpuid_features.to_le_bytes(),
            &[0; 8],
        ]);
    }
}

fn pci_interrupts(entries: &mut Entries, functions: &[PciInterrupt]) {
    let mut seen = Vec::new();
    for &PciInterrupt { slot, pin, line } in functions {
        if !(1..=4).contains(&pin) || seen.contains(&(slot, pin)) {
            continue;
        }
        seen.push((slot, pin));
        let source = [0, (slot & 0x1f) << 2 | (pin - 1)];
        entries.interrupt(IO_INTERRUPT, INT, ACTIVE_HIGH, source, [IO_APIC_ID, line]);
    }
}

/// IRQ 0 arrives at input 2, where IRQ 2, the cascade, never does.
fn isa_interrupts(entries: &mut Entries, isa_bus: u8) {
    for irq in (0..16u8).filter(|&irq| irq != 2 && PCI_IRQS & 1 << irq == 0) {
        let input = if irq == 0 { 2 } else { irq };
        entries.interrupt(IO_INTERRUPT, INT, CONFORMS_TO_BUS, [isa_bus, irq], [IO_APIC_ID, input]);
    }
}

/// The configuration table (4.2).
pub fn config_table(config: &MpConfig) -> Vec<u8> {
    let mut entries = Entries::default();
    processors(&mut entries, config);
    if config.pci.is_some() {
        entries.bus(0, b"PCI   ");
    }
    let isa_bus = u8::from(config.pci.is_some());
    entries.bus(isa_bus, b"ISA   ");
    let io_apic = [IO_APIC, IO_APIC_ID, IO_APIC_VERSION, IO_APIC_ENABLED];
    entries.push(&[&io_apic, &IO_APIC_ADDRESS.to_le_bytes()]);
    pci_interrupts(&mut entries, config.pci.as_deref().unwrap_or_default());
    isa_interrupts(&mut entries, isa_bus);
    let bootstrap = config.apic_ids.first().map_or(0, |&id| id as u8);
    entries.interrupt(LOCAL_INTERRUPT, EXT_INT, CONFORMS_TO_BUS, [isa_bus, 0], [bootstrap, 0]);
    entries.interrupt(LOCAL_INTERRUPT, NMI, CONFORMS_TO_BUS, [isa_bus, 0], [ALL_LOCAL_APICS, 1]);

    let mut table = vec![0; HEADER_SIZE];
    table.extend_from_slice(&entries.bytes);
    // At most 255 processors of 20 bytes, 128 PCI pins and 14 others of 8: far below 64 KiB.
    let length = table.len() as u16;
    let mut put = |at: usize, field: &[u8]| table[at..at + field.len()].copy_from_slice(field);
    put(0, b"PCMP");
    put(HEADER_LENGTH, &length.to_le_bytes());
    put(HEADER_LENGTH + 2, &[SPEC_REVISION]);
    put(8, b"BOCHSCPU0.1         ");
    put(HEADER_ENTRIES, &entries.count.to_le_bytes());
    put(HEADER_ENTRIES + 2, &LOCAL_APIC_ADDRESS.to_le_bytes());
    table[HEADER_CHECKSUM] = checksum(&table);
    table
}

/// The floating pointer structure (4.1) for `address`, a multiple of 16 in the F segment, and `table` behind it.
pub fn with_floating_pointer(address: u64, table: Vec<u8>) -> Vec<u8> {
    let table_address = address as u32 + FLOATING_SIZE as u32;
    let mut floating = b"_MP_".to_vec();
    floating.extend_from_slice(&table_address.to_le_bytes());
    floating.extend_from_slice(&[(FLOATING_SIZE / 16) as u8, SPEC_REVISION, 0, 0, 0, 0, 0, 0]);
    floating[FLOATING_CHECKSUM] = checksum(&floating);
    [floating, table].concat()
}
