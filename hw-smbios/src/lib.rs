//! SMBIOS tables (hw/smbios/).
//!
//! The tables tell an operating system what a machine is called, which processors and which memory it has. The
//! machine builds them once, as two fw_cfg files: the structures, and the entry point ("anchor") whose address
//! and checksums the firmware fills in.
//!
//! Source followed: DMTF DSP0134 (SMBIOS 2.8.0), sections 5 to 7, and QEMU `hw/smbios/smbios.c` for the values.

#![forbid(unsafe_code)]

mod options;
mod spec;
mod structure;

use std::ops::Range;

pub use options::{OnboardDevice, PortConnector, SmbiosOptions};
use structure::Tables;
use thiserror::Error;

/// fw_cfg name of the structures.
pub const TABLES_FILE: &str = "etc/smbios/smbios-tables";
/// fw_cfg name of the entry point.
pub const ANCHOR_FILE: &str = "etc/smbios/smbios-anchor";

/// The largest memory device that is described: more memory is shown as several of them.
const DIMM_SIZE: u64 = 16 << 30;

/// What the tables say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbiosConfig {
    /// Who made it all: "QEMU".
    pub manufacturer: String,
    /// Name of the machine: "Standard PC (i440FX + PIIX, 1996)".
    pub product: String,
    /// Version of the machine: "pc-i440fx-7.2".
    pub version: String,
    /// UUID of the machine, in the order it is written in.
    pub uuid: [u8; 16],
    /// EAX of CPUID leaf 1.
    pub cpuid_version: u32,
    /// EDX of CPUID leaf 1.
    pub cpuid_features: u32,
    /// Number of processor sockets.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores_per_socket: u32,
    /// Threads of a socket.
    pub threads_per_socket: u32,
    /// RAM as the guest's memory map has it, in ascending order.
    pub memory: Vec<Range<u64>>,
    /// What the user said.
    pub options: SmbiosOptions,
    /// The form of the entry point.
    pub entry_point: EntryPoint,
}

/// The form of an entry point, which goes with a version of the structures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EntryPoint {
    /// SMBIOS 2.1 and later (5.2.1); tables of 64 KiB at most, below 4 GiB.
    #[default]
    Bits32,
    /// SMBIOS 3.0 (DSP0134 3.0.0, 5.2.2).
    Bits64,
}

/// Why there are no tables.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SmbiosError {
    /// The entry point has 16 bits for the length.
    #[error("SMBIOS 2.1 table length {0} exceeds 65535")]
    TooLong(usize),
    /// Files describe fewer or more processors than there are.
    #[error("Expected {expected} SMBIOS Type 4 tables, got {found} instead")]
    Processors {
        /// Sockets of the machine.
        expected: u32,
        /// Structures in files.
        found: usize,
    },
}

/// The entry point, without its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Bytes of the largest structure, its strings included.
    pub max_structure_size: u16,
    /// Bytes of all structures; fits its field where `SmbiosTables::build` made them.
    pub table_length: usize,
    /// Guest physical address of the structures.
    pub table_address: u64,
    /// Number of structures.
    pub structures: u16,
    /// Its form.
    pub entry_point: EntryPoint,
}

impl Anchor {
    /// The entry point without checksums and address, which the firmware fills in.
    fn unplaced(&self) -> Vec<u8> {
        match self.entry_point {
            EntryPoint::Bits32 => self.unplaced_32().to_vec(),
            EntryPoint::Bits64 => self.unplaced_64().to_vec(),
        }
    }

    fn unplaced_64(&self) -> [u8; spec::ANCHOR64_SIZE] {
        let mut bytes = [0; spec::ANCHOR64_SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, b"_SM3_");
        put(
            spec::ANCHOR64_LENGTH,
            &[spec::ANCHOR64_SIZE as u8, spec::VERSION64_MAJOR, 0, 0, spec::ANCHOR64_REVISION],
        );
        put(spec::ANCHOR64_MAX_LENGTH, &(self.table_length as u32).to_le_bytes());
        bytes
    }

    fn unplaced_32(&self) -> [u8; spec::ANCHOR_SIZE] {
        let mut bytes = [0; spec::ANCHOR_SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, b"_SM_");
        put(spec::ANCHOR_LENGTH, &[spec::ANCHOR_SIZE as u8, spec::VERSION_MAJOR, spec::VERSION_MINOR]);
        put(spec::ANCHOR_MAX_STRUCTURE_SIZE, &self.max_structure_size.to_le_bytes());
        put(spec::ANCHOR_INTERMEDIATE, b"_DMI_");
        put(spec::ANCHOR_TABLE_LENGTH, &(self.table_length as u16).to_le_bytes());
        put(spec::ANCHOR_STRUCTURES, &self.structures.to_le_bytes());
        put(spec::ANCHOR_BCD_REVISION, &[spec::VERSION_MAJOR << 4 | spec::VERSION_MINOR]);
        bytes
    }

    /// The entry point as an operating system finds it, on a multiple of 16 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.unplaced();
        if self.entry_point == EntryPoint::Bits64 {
            let address = spec::ANCHOR64_TABLE_ADDRESS;
            bytes[address..address + 8].copy_from_slice(&self.table_address.to_le_bytes());
            bytes[spec::ANCHOR64_CHECKSUM] = checksum(&bytes);
            return bytes;
        }
        let address = spec::ANCHOR_TABLE_ADDRESS;
        bytes[address..address + 4].copy_from_slice(&(self.table_address as u32).to_le_bytes());
        let intermediate = spec::ANCHOR_INTERMEDIATE;
        bytes[spec::ANCHOR_INTERMEDIATE_CHECKSUM] = checksum(&bytes[intermediate..]);
        bytes[spec::ANCHOR_CHECKSUM] = checksum(&bytes);
        bytes
    }
}

/// The byte that makes the sum of `bytes` zero: the checksum of SMBIOS, ACPI and MP tables.
pub fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte))
}

/// The tables, as the machine hands them to a firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbiosTables {
    tables: Tables,
    entry_point: EntryPoint,
}

impl SmbiosTables {
    /// Builds types 1, 3, 4 (for each socket), 16, 17, 19 (for each range of RAM), 32 and 127, and what the user
    /// asked for beside them. Type 0 describes the firmware and is left to it where the user said nothing of it.
    pub fn build(config: &SmbiosConfig) -> Result<Self, SmbiosError> {
        let found = config.options.files.iter().filter(|file| file.first() == Some(&4)).count();
        if found > 0 && found != config.sockets as usize {
            return Err(SmbiosError::Processors { expected: config.sockets, found });
        }
        let tables = structure::build(config, DIMM_SIZE);
        // At least 27 bytes a structure: 16 bits hold the number of structures, too.
        let built = Self { tables, entry_point: config.entry_point };
        if built.tables.bytes.len() > built.most() {
            return Err(SmbiosError::TooLong(built.tables.bytes.len()));
        }
        Ok(built)
    }

    /// Most bytes that the entry point has room to say.
    fn most(&self) -> usize {
        match self.entry_point {
            EntryPoint::Bits32 => u16::MAX.into(),
            EntryPoint::Bits64 => u32::MAX as usize,
        }
    }

    fn anchor_of(&self, tables: &Tables) -> Anchor {
        tables.anchor(self.entry_point)
    }

    /// Contents of fw_cfg file [`TABLES_FILE`].
    pub fn tables_file(&self) -> &[u8] {
        &self.tables.bytes
    }

    /// Contents of fw_cfg file [`ANCHOR_FILE`].
    pub fn anchor_file(&self) -> Vec<u8> {
        self.anchor_of(&self.tables).unplaced()
    }

    /// The structures with the type 0 that a firmware puts in front of them, and their entry point.
    pub fn with_bios_information(&self) -> (Vec<u8>, Anchor) {
        let mut tables = structure::direct_boot_bios();
        if self.tables.has_bios_information || tables.bytes.len() + self.tables.bytes.len() > self.most() {
            return (self.tables.bytes.clone(), self.anchor_of(&self.tables));
        }
        tables.append(&self.tables);
        let anchor = self.anchor_of(&tables);
        (tables.bytes, anchor)
    }
}
