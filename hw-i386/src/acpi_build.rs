//! The ACPI tables of a PC with the i440FX and PIIX chip set.
//!
//! [`acpi_build`] is a pure function from what the board is made of to the three fw_cfg files a firmware reads;
//! [`crate::linker`] places them when there is no firmware.
//!
//! Source followed: ACPI specification 6.4; QEMU 7.2's `-M pc` (`hw/i386/acpi-build.c`) for names, addresses and
//! values, so that a guest sees no other machine.

mod cpus;
mod dsdt;
mod fixed;
mod hmat;
mod isa;
mod memory;
mod numa;
mod pci;
mod pcihp;
mod vmgenid;

use std::ops::Range;

use hw_acpi::tables::{OemIds, TableBlob, UserTable};
use thiserror::Error;

pub use hmat::{HmatCache, HmatConfig, HmatMatrix};
pub use isa::{FloppyDrive, IsaDevice};
pub use numa::NumaConfig;
pub use pci::{PciBridge, PciDevice};

/// QEMU pads the tables to this, so that their size is the same on both ends of a migration.
const TABLES_ALIGN: usize = 0x2_0000;
/// QEMU pads the script to this.
const LINKER_ALIGN: usize = 0x1000;
/// Above this QEMU cannot migrate tables.
const TABLES_MAX: usize = 0x20_0000;
/// Processors are named C000 to CFFF.
const MAX_CPUS: usize = 0x1000;
const FOUR_GIB: u64 = 1 << 32;

/// A CPU that is or can be there. Its place in [`AcpiConfig::cpus`] is its ACPI processor UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcpiCpu {
    /// Local APIC id.
    pub apic_id: u32,
    /// There when the machine starts; else it can be plugged later.
    pub present: bool,
    /// NUMA node.
    pub node: Option<u32>,
}

/// What the tables are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcpiConfig {
    /// Names in the headers.
    pub oem: OemIds,
    /// All possible CPUs.
    pub cpus: Vec<AcpiCpu>,
    /// The CPU hotplug registers at 0xaf00 exist.
    pub cpu_hotplug: bool,
    /// Slots for memory modules; with some, the memory hotplug registers at 0xa00 exist.
    pub memory_slots: u32,
    /// The number of the PCI bus (`_UID`).
    pub pci_root_uid: u8,
    /// Addresses below 4 GiB that belong to PCI: from the end of low RAM to the I/O APIC.
    pub pci_hole: Range<u64>,
    /// Addresses above 4 GiB that belong to PCI.
    pub pci_hole64: Option<Range<u64>>,
    /// The PCI hotplug registers at 0xae00 exist.
    pub pci_hotplug: bool,
    /// Devices on bus 0 but the ISA bridge: function 0 of each slot, and bridges.
    pub pci_devices: Vec<PciDevice>,
    /// Slot of the ISA bridge (PIIX3): 1.
    pub isa_bridge_slot: u8,
    /// Devices on the ISA bus, in the order they are to be listed.
    pub isa_devices: Vec<IsaDevice>,
    /// The HPET at 0xfed00000 exists.
    pub hpet: bool,
    /// fw_cfg with DMA at port 0x510 exists.
    pub fw_cfg: bool,
    /// The machine can suspend to RAM.
    pub s3: bool,
    /// SLP_TYPx of suspend to disk, if the machine can do that.
    pub s4: Option<u8>,
    /// Announce port 0xcf9 in a FADT of revision 3, as QEMU's Q35 does. QEMU's `pc` has a FADT of revision 1,
    /// which has no such field, and guests reset it through the keyboard controller.
    pub reset_register: bool,
    /// ACPI is turned on by a command at the SMI command port; without, it always is.
    pub smi_command: bool,
    /// NUMA nodes, if configured.
    pub numa: Option<NumaConfig>,
    /// There is a VM generation ID: what the fw_cfg file of its memory holds.
    pub vmgenid: Option<Vec<u8>>,
    /// Tables that the user gives.
    pub user_tables: Vec<UserTable>,
}

impl Default for AcpiConfig {
    /// One CPU, 128 MiB of RAM, no hotplug, no devices that can be left out.
    fn default() -> Self {
        Self {
            oem: OemIds::default(),
            cpus: vec![AcpiCpu { apic_id: 0, present: true, node: None }],
            cpu_hotplug: false,
            memory_slots: 0,
            pci_root_uid: 0,
            pci_hole: 0x800_0000..0xfec0_0000,
            pci_hole64: None,
            pci_hotplug: false,
            pci_devices: vec![PciDevice::default()],
            isa_bridge_slot: 1,
            isa_devices: vec![IsaDevice::Rtc],
            hpet: true,
            fw_cfg: true,
            s3: true,
            s4: Some(2),
            reset_register: false,
            smi_command: true,
            numa: None,
            vmgenid: None,
            user_tables: Vec::new(),
        }
    }
}

/// Why a configuration has no tables.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AcpiError {
    /// No CPU, or too many to be named.
    #[error("ACPI tables can describe 1 to {MAX_CPUS} CPUs, not {0}")]
    Cpus(usize),
    /// A PCI window is empty or on the wrong side of 4 GiB.
    #[error("PCI window {0:#x?} is empty or on the wrong side of 4 GiB")]
    PciHole(Range<u64>),
    /// A PCI slot above 31, or one that is taken.
    #[error("PCI slot {0} is not free on bus 0")]
    PciSlot(u8),
    /// The matrix of distances is not square, or a node is named that does not exist.
    #[error("NUMA nodes, CPUs and distances do not match")]
    Numa,
    /// The tables outgrew what can be migrated.
    #[error("ACPI tables of {0} bytes exceed {TABLES_MAX} bytes")]
    TooLarge(usize),
}

/// The tables as fw_cfg files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcpiTables {
    /// Contents of "etc/acpi/rsdp".
    pub rsdp: Vec<u8>,
    /// Contents of "etc/acpi/tables", padded with zeros.
    pub tables: Vec<u8>,
    /// Bytes of `tables` before the padding.
    pub tables_used: usize,
    /// Contents of "etc/table-loader".
    pub linker: Vec<u8>,
    /// Contents of "etc/vmgenid_guid".
    pub vmgenid: Option<Vec<u8>>,
}

fn check(config: &AcpiConfig) -> Result<(), AcpiError> {
    if config.cpus.is_empty() || config.cpus.len() > MAX_CPUS {
        return Err(AcpiError::Cpus(config.cpus.len()));
    }
    let hole = &config.pci_hole;
    if hole.is_empty() || hole.start == 0 || hole.end > FOUR_GIB {
        return Err(AcpiError::PciHole(hole.clone()));
    }
    if let Some(hole) = config.pci_hole64.as_ref().filter(|hole| hole.is_empty() || hole.start < FOUR_GIB) {
        return Err(AcpiError::PciHole(hole.clone()));
    }
    check_slots(&config.pci_devices, Some(config.isa_bridge_slot))?;
    config.numa.as_ref().map_or(Ok(()), |numa| numa::check(numa, &config.cpus))
}

/// Every function of a bus, and of those below it, has a place of its own.
fn check_slots(devices: &[PciDevice], isa_bridge: Option<u8>) -> Result<(), AcpiError> {
    let mut taken = Vec::new();
    let isa_bridge = isa_bridge.map(|slot| (slot, 0));
    for place in devices.iter().map(|device| (device.slot, device.function)).chain(isa_bridge) {
        if place.0 > 31 || place.1 > 7 || taken.contains(&place) {
            return Err(AcpiError::PciSlot(place.0));
        }
        taken.push(place);
    }
    let mut bridges = devices.iter().filter_map(|device| device.bridge.as_ref());
    bridges.try_for_each(|bridge| check_slots(&bridge.devices, None))
}

/// Builds the tables.
pub fn acpi_build(config: &AcpiConfig) -> Result<AcpiTables, AcpiError> {
    check(config)?;
    let mut blob = TableBlob::new(config.oem, fixed::FACS_SIZE as u32);
    let facs = blob.raw(&fixed::facs());
    let dsdt = blob.table(*b"DSDT", 1, &dsdt::dsdt(config));
    let mut tables = vec![fixed::fadt(config, &mut blob, facs, dsdt), fixed::madt(config, &mut blob)];
    if config.vmgenid.is_some() {
        tables.push(vmgenid::vmgenid(&mut blob));
    }
    if config.hpet {
        tables.push(fixed::hpet(&mut blob));
    }
    if let Some(numa) = &config.numa {
        tables.push(numa::srat(numa, config, &mut blob));
        tables.extend(numa::slit(numa, &mut blob));
        tables.extend(numa.hmat.as_ref().map(|hmat| hmat::hmat(hmat, &mut blob)));
    }
    tables.push(fixed::waet(&mut blob));
    tables.extend(config.user_tables.iter().map(|table| blob.raw(table.bytes())));
    let rsdp = blob.finish(&tables);
    let used = blob.data();
    let tables_used = used.len();
    if tables_used > TABLES_MAX {
        return Err(AcpiError::TooLarge(tables_used));
    }
    // Zero from the start, so that the padding's memory is not touched.
    let mut tables = vec![0; tables_used.next_multiple_of(TABLES_ALIGN)];
    tables[..tables_used].copy_from_slice(used);
    Ok(AcpiTables {
        rsdp,
        tables,
        tables_used,
        linker: blob.linker().script(LINKER_ALIGN),
        vmgenid: config.vmgenid.clone(),
    })
}
