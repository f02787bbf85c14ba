//! Tables of fixed layout: FACS, FADT, MADT, HPET, WAET. Sections are those of ACPI 6.4.

use hw_acpi::tables::{Pointer, TableBlob};

use super::{AcpiConfig, AcpiCpu, IsaDevice};

/// FACS (5.2.10): its size, and the alignment it needs.
pub const FACS_SIZE: usize = 64;

/// The interrupt of ACPI events.
const SCI_IRQ: u16 = 9;
/// APM control port of the PIIX4, and the bytes that hand the chip set to the operating system and back.
const SMI_COMMAND: u32 = 0xb2;
const ACPI_ENABLE: u8 = 0xf1;
const ACPI_DISABLE: u8 = 0xf0;
/// Where the firmware puts the PIIX4's power management registers.
const PM_BASE: u32 = 0x600;
/// General-purpose events of QEMU's PIIX4.
pub const GPE0_BASE: u16 = 0xafe0;
pub const GPE0_LENGTH: u8 = 4;
const RESET_PORT: u64 = 0xcf9;
const RESET_VALUE: u8 = 0x0f;

// FADT (5.2.9): offsets from the start of the table.
const FADT_FIRMWARE_CTRL: u32 = 36;
const FADT_DSDT: u32 = 40;
const FADT_X_DSDT: u32 = 140;
/// CMOS register of the century.
const CENTURY: u8 = 0x32;
/// Latencies above these limits: no C2, no C3.
const NO_C_STATE: u16 = 0xfff;
/// Flags (5.2.9, table 5-10): WBINVD, C1 on all processors, sleep button is no fixed event, RTC can wake from S4,
/// a platform clock is to be used.
const FADT_FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 7 | 1 << 15;
const FADT_RESET_REG_SUP: u32 = 1 << 10;
const FADT_APIC_CLUSTER: u32 = 1 << 18;
/// Flat logical addressing of APICs reaches this many CPUs.
const FLAT_LOGICAL_CPUS: usize = 8;
/// IA-PC boot architecture flags (table 5-11): there is an 8042.
const BOOT_8042: u16 = 1 << 1;
const SYSTEM_MEMORY: u8 = 0;
const SYSTEM_IO: u8 = 1;

// MADT (5.2.12).
const LOCAL_APIC_ADDRESS: u32 = 0xfee0_0000;
const IO_APIC_ADDRESS: u32 = 0xfec0_0000;
const PCAT_COMPAT: u32 = 1;
const APIC_ENABLED: u32 = 1;
const LEVEL_ACTIVE_HIGH: u16 = 0xd;
/// APIC ids above this need an x2APIC.
const MAX_APIC_ID: u32 = 254;

const HPET_ADDRESS: u64 = 0xfed0_0000;
/// Revision 1, 3 timers, 64 bits, legacy routing, Intel.
const HPET_BLOCK_ID: u32 = 0x8086_a201;

/// WAET: the power management timer needs to be read only once.
const PM_TIMER_GOOD: u32 = 1 << 1;

/// FACS: empty but for its name and length. It has no checksum.
pub fn facs() -> Vec<u8> {
    let mut facs = b"FACS".to_vec();
    facs.extend_from_slice(&(FACS_SIZE as u32).to_le_bytes());
    facs.resize(FACS_SIZE, 0);
    facs
}

/// Fields of a table, one behind the other.
#[derive(Default)]
pub struct Fields(pub Vec<u8>);

impl Fields {
    pub fn bytes(&mut self, values: &[u8]) -> &mut Self {
        self.0.extend_from_slice(values);
        self
    }

    pub fn words(&mut self, values: &[u16]) -> &mut Self {
        values.iter().for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
        self
    }

    pub fn dwords(&mut self, values: &[u32]) -> &mut Self {
        values.iter().for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
        self
    }

    pub fn qwords(&mut self, values: &[u64]) -> &mut Self {
        values.iter().for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
        self
    }

    /// Generic Address Structure (5.2.3.2).
    fn gas(&mut self, space: u8, bits: u8, address: u64) -> &mut Self {
        self.bytes(&[space, bits, 0, 0]).qwords(&[address])
    }
}

/// FADT (5.2.9): revision 1, or 3 with the reset register.
pub fn fadt(config: &AcpiConfig, blob: &mut TableBlob, facs: u32, dsdt: u32) -> u32 {
    let mut flags = FADT_FLAGS;
    if config.cpus.len() > FLAT_LOGICAL_CPUS {
        flags |= FADT_APIC_CLUSTER;
    }
    let mut boot_flags = 0;
    if config.reset_register {
        flags |= FADT_RESET_REG_SUP;
        if config.isa_devices.contains(&IsaDevice::Keyboard) {
            boot_flags = BOOT_8042;
        }
    }
    let (smi_command, acpi_enable, acpi_disable) = match config.smi_command {
        true => (SMI_COMMAND, ACPI_ENABLE, ACPI_DISABLE),
        false => (0, 0, 0),
    };
    let mut fadt = Fields::default();
    fadt.dwords(&[0, 0]) // FIRMWARE_CTRL and DSDT
        .bytes(&[1, 0]) // multiple APICs; no preferred profile
        .words(&[SCI_IRQ])
        .dwords(&[smi_command])
        .bytes(&[acpi_enable, acpi_disable, 0, 0])
        .dwords(&[PM_BASE, 0, PM_BASE + 4, 0, 0, PM_BASE + 8, GPE0_BASE.into(), 0])
        .bytes(&[4, 2, 0, 4, GPE0_LENGTH, 0, 0, 0])
        .words(&[NO_C_STATE, NO_C_STATE, 0, 0])
        .bytes(&[0, 0, 0, 0, CENTURY])
        .words(&[boot_flags])
        .bytes(&[0])
        .dwords(&[flags]);
    let mut pointers = vec![
        Pointer { at: FADT_FIRMWARE_CTRL, size: 4, target: facs },
        Pointer { at: FADT_DSDT, size: 4, target: dsdt },
    ];
    if config.reset_register {
        extend_fadt(&mut fadt);
        pointers.push(Pointer { at: FADT_X_DSDT, size: 8, target: dsdt });
    }
    let revision = if config.reset_register { 3 } else { 1 };
    blob.table_with_pointers(*b"FACP", revision, &fadt.0, &pointers)
}

/// The fields that ACPI 2.0 added.
fn extend_fadt(fadt: &mut Fields) {
    fadt.gas(SYSTEM_IO, 8, RESET_PORT).bytes(&[RESET_VALUE, 0, 0, 0]).qwords(&[0, 0]);
    let blocks = [(32, PM_BASE), (0, 0), (16, PM_BASE + 4), (0, 0), (0, 0), (32, PM_BASE + 8)];
    for (bits, port) in blocks.into_iter().chain([(GPE0_LENGTH * 8, GPE0_BASE.into()), (0, 0)]) {
        let space = if bits == 0 { SYSTEM_MEMORY } else { SYSTEM_IO };
        fadt.gas(space, bits, port.into());
    }
}

/// The MADT's entry for a CPU (5.2.12.2, 5.2.12.12), which is also what its `_MAT` returns.
pub fn madt_cpu(uid: u32, apic_id: u32, flags: u32) -> Vec<u8> {
    let mut entry = Fields::default();
    if apic_id <= MAX_APIC_ID {
        entry.bytes(&[0, 8, uid as u8, apic_id as u8]).dwords(&[flags]);
    } else {
        entry.bytes(&[9, 16, 0, 0]).dwords(&[apic_id, flags, uid]);
    }
    entry.0
}

/// Whether a CPU has an APIC id that only an x2APIC can have.
pub fn needs_x2apic(cpu: &AcpiCpu) -> bool {
    cpu.apic_id > MAX_APIC_ID
}

/// MADT (5.2.12).
pub fn madt(config: &AcpiConfig, blob: &mut TableBlob) -> u32 {
    let mut madt = Fields::default();
    madt.dwords(&[LOCAL_APIC_ADDRESS, PCAT_COMPAT]);
    for (uid, cpu) in (0..).zip(&config.cpus) {
        let flags = if cpu.present { APIC_ENABLED } else { 0 };
        madt.bytes(&madt_cpu(uid, cpu.apic_id, flags));
    }
    madt.bytes(&[1, 12, 0, 0]).dwords(&[IO_APIC_ADDRESS, 0]);
    madt.bytes(&[2, 10, 0, 0]).dwords(&[2]).words(&[0]);
    for irq in [5, 9, 10, 11] {
        madt.bytes(&[2, 10, 0, irq]).dwords(&[irq.into()]).words(&[LEVEL_ACTIVE_HIGH]);
    }
    // NMI at LINT1 of all processors.
    if config.cpus.iter().any(needs_x2apic) {
        madt.bytes(&[10, 12, 0, 0]).dwords(&[u32::MAX]).bytes(&[1, 0, 0, 0]);
    } else {
        madt.bytes(&[4, 6, 0xff, 0, 0, 1]);
    }
    blob.table(*b"APIC", 1, &madt.0)
}

/// HPET description table (IA-PC HPET specification 1.0a, 3.2.4).
pub fn hpet(blob: &mut TableBlob) -> u32 {
    let mut hpet = Fields::default();
    hpet.dwords(&[HPET_BLOCK_ID]).gas(SYSTEM_MEMORY, 0, HPET_ADDRESS).bytes(&[0, 0, 0, 0]);
    blob.table(*b"HPET", 1, &hpet.0)
}

/// Windows ACPI Emulated devices Table.
pub fn waet(blob: &mut TableBlob) -> u32 {
    blob.table(*b"WAET", 1, &PM_TIMER_GOOD.to_le_bytes())
}
