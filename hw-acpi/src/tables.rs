//! The tables of an ACPI machine in the making: one blob, and the script that places it.
//!
//! Source followed: ACPI specification 6.4, section 5.2, and QEMU `hw/acpi/aml-build.c`. What describes one board
//! is that board's; here is what every board needs.

use thiserror::Error;

use crate::bios_linker_loader::{BiosLinker, Command, Zone};

/// fw_cfg name of the blob that holds all tables but the RSDP.
pub const TABLES_FILE: &str = "etc/acpi/tables";
/// fw_cfg name of the RSDP.
pub const RSDP_FILE: &str = "etc/acpi/rsdp";

/// Bytes of the header that every table but the FACS begins with (5.2.6).
pub const HEADER_SIZE: usize = 36;
const HEADER_LENGTH: usize = 4;
const HEADER_CHECKSUM: usize = 9;
/// The header of a user's table that has none of its own.
const USER_HEADER: [u8; HEADER_SIZE] = *b"QEMU\0\0\0\0\x01\0QEMUQEQEMUQEMU\x01\0\0\0QEMU\x01\0\0\0";
/// Bytes of an ACPI 1.0 RSDP (5.2.5.3).
const RSDP_SIZE: u32 = 20;
const RSDP_CHECKSUM: u32 = 8;
const RSDP_RSDT_ADDRESS: u32 = 16;
/// QEMU names itself in these fields of the header; guests match on them.
const CREATOR_ID: [u8; 4] = *b"BXPC";

/// Who made the machine: fields of every table's header. Windows ties its activation to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OemIds {
    /// `x-oem-id` of the machine, padded with spaces.
    pub oem_id: [u8; 6],
    /// `x-oem-table-id` of the machine, padded with spaces.
    pub oem_table_id: [u8; 8],
}

impl Default for OemIds {
    fn default() -> Self {
        Self { oem_id: *b"BOCHS ", oem_table_id: *b"BXPC    " }
    }
}

/// A pointer inside a table to another place of the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// Where the pointer is, in bytes from the start of the table.
    pub at: u32,
    /// Bytes of the pointer: 4 or 8.
    pub size: u8,
    /// What it points to: a place in the blob.
    pub target: u32,
}

/// A field of the header of a table that the user gives: its value is cut to its size, or filled up with zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderField {
    /// Where it is, in bytes from the start of the table.
    pub at: usize,
    /// Bytes of it.
    pub size: usize,
    /// What to put there.
    pub value: Vec<u8>,
}

/// Why a table of the user's cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UserTableError {
    /// It is to have a header, and is shorter than one.
    #[error("ACPI table claiming to have header is too short, available: {0}, expected: {HEADER_SIZE}")]
    TooShort(usize),
    /// fw_cfg has 16 bits for its length.
    #[error("ACPI table too big, requested: {0}, max: 65535")]
    TooLarge(usize),
}

/// A whole table that the user gives (`-acpitable`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTable {
    bytes: Vec<u8>,
    warnings: Vec<String>,
}

impl UserTable {
    /// A table of `blob`, which begins with a header if `has_header`, and otherwise gets QEMU's; then `fields` of the
    /// header are set, its length and its checksum.
    ///
    /// # Errors
    /// When it is too short for a header, or too large for fw_cfg.
    pub fn new(blob: &[u8], has_header: bool, fields: &[HeaderField]) -> Result<Self, UserTableError> {
        if has_header && blob.len() < HEADER_SIZE {
            return Err(UserTableError::TooShort(blob.len()));
        }
        let mut bytes = if has_header { Vec::new() } else { USER_HEADER.to_vec() };
        bytes.extend_from_slice(blob);
        let length =
            u32::from(u16::try_from(bytes.len()).map_err(|_| UserTableError::TooLarge(bytes.len()))?);
        let mut warnings = Vec::new();
        let told = bytes[HEADER_LENGTH..HEADER_LENGTH + 4].iter().rev();
        let told = told.fold(0, |value, byte| value << 8 | u32::from(*byte));
        if has_header && told != length {
            warnings
                .push(format!("ACPI table has wrong length, header says {told}, actual size {length} bytes"));
        }
        if !has_header && fields.is_empty() {
            warnings.push("ACPI table: no headers are specified".to_owned());
        }
        bytes[HEADER_LENGTH..HEADER_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        for field in fields {
            let value = field.value.iter().copied().chain(std::iter::repeat(0));
            bytes[field.at..field.at + field.size].iter_mut().zip(value).for_each(|(to, from)| *to = from);
        }
        bytes[HEADER_CHECKSUM] = 0;
        bytes[HEADER_CHECKSUM] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
        Ok(Self { bytes, warnings })
    }

    /// The table.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is odd about it, for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The user's tables as fw_cfg hands them out: their number, then each with its length before it.
pub fn user_tables_item(tables: &[UserTable]) -> Vec<u8> {
    let mut item = (tables.len() as u16).to_le_bytes().to_vec();
    for table in tables {
        item.extend((table.bytes.len() as u16).to_le_bytes());
        item.extend(&table.bytes);
    }
    item
}

/// The tables blob and its script.
#[derive(Debug, Clone)]
pub struct TableBlob {
    data: Vec<u8>,
    linker: BiosLinker,
    oem: OemIds,
}

impl TableBlob {
    /// An empty blob. The script allocates the RSDP in the F segment and the tables high, at `align` bytes.
    pub fn new(oem: OemIds, align: u32) -> Self {
        let mut linker = BiosLinker::new();
        linker.push(Command::Allocate { file: RSDP_FILE.to_owned(), align: 16, zone: Zone::FSeg });
        linker.push(Command::Allocate { file: TABLES_FILE.to_owned(), align, zone: Zone::High });
        Self { data: Vec::new(), linker, oem }
    }

    /// The tables so far.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The script so far.
    pub fn linker(&self) -> &BiosLinker {
        &self.linker
    }

    fn end(&self) -> u32 {
        u32::try_from(self.data.len()).unwrap_or(u32::MAX)
    }

    /// Appends a structure without a header (the FACS) and returns its place.
    pub fn raw(&mut self, bytes: &[u8]) -> u32 {
        let start = self.end();
        self.data.extend_from_slice(bytes);
        start
    }

    /// Appends a table: the header, and `body` behind it. Returns its place.
    pub fn table(&mut self, signature: [u8; 4], revision: u8, body: &[u8]) -> u32 {
        self.table_with_pointers(signature, revision, body, &[])
    }

    /// Appends a table, `pointers` of which the firmware is to patch.
    pub fn table_with_pointers(
        &mut self,
        signature: [u8; 4],
        revision: u8,
        body: &[u8],
        pointers: &[Pointer],
    ) -> u32 {
        let start = self.append(signature, revision, self.oem.oem_table_id, body);
        for pointer in pointers {
            self.pointer(start, *pointer);
        }
        self.seal(start, body);
        start
    }

    /// Appends a table with a name of its own in the header's OEM table ID, which the script then runs `commands` on.
    pub fn named_table(
        &mut self,
        signature: [u8; 4],
        name: [u8; 8],
        body: &[u8],
        commands: impl FnOnce(u32) -> Vec<Command>,
    ) -> u32 {
        let start = self.append(signature, 1, name, body);
        commands(start).into_iter().for_each(|command| self.linker.push(command));
        self.seal(start, body);
        start
    }

    fn append(&mut self, signature: [u8; 4], revision: u8, oem_table_id: [u8; 8], body: &[u8]) -> u32 {
        let length = u32::try_from(HEADER_SIZE + body.len()).unwrap_or(u32::MAX);
        let mut table = Vec::with_capacity(HEADER_SIZE + body.len());
        table.extend_from_slice(&signature);
        table.extend_from_slice(&length.to_le_bytes());
        table.extend_from_slice(&[revision, 0]);
        table.extend_from_slice(&self.oem.oem_id);
        table.extend_from_slice(&oem_table_id);
        table.extend_from_slice(&1u32.to_le_bytes());
        table.extend_from_slice(&CREATOR_ID);
        table.extend_from_slice(&1u32.to_le_bytes());
        table.extend_from_slice(body);
        self.raw(&table)
    }

    /// The table is complete: the firmware is to sum it up.
    fn seal(&mut self, start: u32, body: &[u8]) {
        let length = u32::try_from(HEADER_SIZE + body.len()).unwrap_or(u32::MAX);
        self.linker.push(Command::AddChecksum {
            file: TABLES_FILE.to_owned(),
            offset: start + HEADER_CHECKSUM as u32,
            start,
            length,
        });
    }

    fn pointer(&mut self, table: u32, Pointer { at, size, target }: Pointer) {
        let offset = table + at;
        let value = u64::from(target).to_le_bytes();
        let place = offset as usize..offset as usize + usize::from(size);
        self.data[place].copy_from_slice(&value[..usize::from(size)]);
        self.linker.push(Command::AddPointer {
            dest_file: TABLES_FILE.to_owned(),
            src_file: TABLES_FILE.to_owned(),
            offset,
            size,
        });
    }

    /// Appends the RSDT (5.2.7), which points to `tables`, and returns the RSDP (5.2.5) that points to it.
    ///
    /// The RSDP is of revision 0, as QEMU's PCs have it: no XSDT, all tables lie below 4 GiB.
    pub fn finish(&mut self, tables: &[u32]) -> Vec<u8> {
        let pointers: Vec<_> = (HEADER_SIZE as u32..)
            .step_by(4)
            .zip(tables)
            .map(|(at, &target)| Pointer { at, size: 4, target })
            .collect();
        let rsdt = self.table_with_pointers(*b"RSDT", 1, &vec![0; tables.len() * 4], &pointers);
        let mut rsdp = b"RSD PTR \0".to_vec();
        rsdp.extend_from_slice(&self.oem.oem_id);
        rsdp.push(0);
        rsdp.extend_from_slice(&rsdt.to_le_bytes());
        self.linker.push(Command::AddPointer {
            dest_file: RSDP_FILE.to_owned(),
            src_file: TABLES_FILE.to_owned(),
            offset: RSDP_RSDT_ADDRESS,
            size: 4,
        });
        self.linker.push(Command::AddChecksum {
            file: RSDP_FILE.to_owned(),
            offset: RSDP_CHECKSUM,
            start: 0,
            length: RSDP_SIZE,
        });
        rsdp
    }
}
