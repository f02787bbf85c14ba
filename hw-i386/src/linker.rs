//! Puts the firmware tables in place when no firmware runs (`-kernel`).
//!
//! [`execute`] carries out the script of [`hw_acpi::bios_linker_loader`] as SeaBIOS `src/fw/romfile_loader.c` would;
//! [`firmware_tables`] adds the SMBIOS and MP tables and says which memory the guest must leave alone.

use std::ops::Range;

use hw_acpi::bios_linker_loader::{COMMAND_SIZE, Command, CommandError, LOADER_FILE, Zone};
use hw_acpi::tables::{RSDP_FILE, TABLES_FILE};
use hw_acpi::vmgenid::{ADDR_FILE, GUID_FILE};
use hw_smbios::{Anchor, SmbiosTables};
use thiserror::Error;

use crate::acpi_build::AcpiTables;
use crate::mptable::{self, MpConfig};
use crate::pirtable;

/// The F segment, where operating systems search for the RSDP, SMBIOS and MP entry points, less what
/// the module `bios_handlers` has at its end.
const FSEG: Range<u64> = 0xf_0000..0xf_ff00;
/// The tables may take this much below the top of low RAM; QEMU bounds its ACPI tables to as much.
const HIGH_SIZE: u64 = 0x20_0000;
/// The high zone stays above the first mebibyte.
const HIGH_FLOOR: u64 = 0x10_0000;
const PAGE_SIZE: u64 = 4096;
/// SeaBIOS aligns every allocation to this.
const MIN_ALIGN: u64 = 16;
/// SeaBIOS puts SMBIOS tables into the F segment up to this size, higher up otherwise.
const SMBIOS_FSEG_MAX: usize = 600;
/// Commands in a script: far more than any machine needs.
const MAX_COMMANDS: usize = 4096;

/// Why tables cannot be put in place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkerError {
    /// The script's length is not a multiple of a command's, or above the bound.
    #[error("{LOADER_FILE}: {0} bytes are no script of {COMMAND_SIZE}-byte commands")]
    ScriptLength(usize),
    /// A command does not parse.
    #[error("{LOADER_FILE}: {0}")]
    Command(#[from] CommandError),
    /// A command names a file that does not exist or that was not allocated.
    #[error("{LOADER_FILE}: no file '{0}'")]
    File(String),
    /// A file is allocated twice.
    #[error("{LOADER_FILE}: file '{0}' is allocated twice")]
    AllocatedTwice(String),
    /// A command reaches outside its file.
    #[error("{LOADER_FILE}: offset {offset:#x} is outside file '{file}'")]
    Outside {
        /// The file.
        file: String,
        /// Where the access begins.
        offset: u32,
    },
    /// A pointer does not fit its size.
    #[error("{LOADER_FILE}: pointer in '{file}' at {offset:#x} overflows")]
    PointerOverflow {
        /// The file that holds the pointer.
        file: String,
        /// Place of the pointer.
        offset: u32,
    },
    /// The memory does not suffice.
    #[error("no room for {size} bytes of firmware tables {place}")]
    NoRoom {
        /// Bytes asked for.
        size: u64,
        /// Where they were to go.
        place: &'static str,
    },
}

/// Hands out guest memory for tables: from the top of low RAM downwards, and from the start of the F segment upwards.
#[derive(Debug, Clone)]
pub struct TableAllocator {
    low_ram_top: u64,
    high: Range<u64>,
    fseg: Range<u64>,
}

impl TableAllocator {
    /// `low_ram_top`: guest physical address of the end of the RAM below 4 GiB.
    pub fn new(low_ram_top: u64) -> Self {
        let floor = low_ram_top.saturating_sub(HIGH_SIZE).max(HIGH_FLOOR);
        Self { low_ram_top, high: floor..low_ram_top.max(floor), fseg: FSEG }
    }

    /// Takes `size` bytes at an address that is a multiple of `align`, a power of two.
    pub fn allocate(&mut self, zone: Zone, size: u64, align: u64) -> Result<u64, LinkerError> {
        let align = align.max(MIN_ALIGN);
        match zone {
            Zone::High => {
                let no_room = LinkerError::NoRoom { size, place: "below the top of low RAM" };
                let address = self.high.end.checked_sub(size).ok_or(no_room.clone())? & !(align - 1);
                if address < self.high.start {
                    return Err(no_room);
                }
                self.high.end = address;
                Ok(address)
            }
            Zone::FSeg => {
                let no_room = LinkerError::NoRoom { size, place: "in the F segment" };
                let address = self.fseg.start.next_multiple_of(align);
                let end = address.checked_add(size).ok_or(no_room.clone())?;
                if end > self.fseg.end {
                    return Err(no_room);
                }
                self.fseg.start = end;
                Ok(address)
            }
        }
    }

    /// The whole pages at the top of low RAM that are handed out: reserved in the guest's memory map.
    pub fn reserved(&self) -> Range<u64> {
        self.high.end & !(PAGE_SIZE - 1)..self.low_ram_top
    }
}

/// A file that has been put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// fw_cfg name.
    pub file: String,
    /// Guest physical address.
    pub address: u64,
    /// Contents, patched.
    pub bytes: Vec<u8>,
}

/// What a WRITE_POINTER command tells the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteBack {
    /// fw_cfg file to change.
    pub file: String,
    /// First byte to change.
    pub offset: u32,
    /// The pointer, little-endian.
    pub bytes: Vec<u8>,
}

/// The outcome of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Linked {
    /// Files in guest memory, in order of allocation.
    pub placed: Vec<Placed>,
    /// Pointers for the machine, in the script's order.
    pub write_backs: Vec<WriteBack>,
}

/// A file that a script is about.
#[derive(Debug, Clone, Copy)]
pub struct LoaderFile<'a> {
    /// fw_cfg name.
    pub name: &'a str,
    /// Contents without the zeros at the end, which need an address, not the time to copy them.
    pub bytes: &'a [u8],
    /// Bytes of the whole.
    pub size: usize,
}

impl<'a> From<(&'a str, &'a [u8])> for LoaderFile<'a> {
    fn from((name, bytes): (&'a str, &'a [u8])) -> Self {
        LoaderFile { name, bytes, size: bytes.len() }
    }
}

/// Carries out `script` over `files`.
pub fn execute(
    script: &[u8],
    files: &[LoaderFile],
    allocator: &mut TableAllocator,
) -> Result<Linked, LinkerError> {
    let (commands, rest) = script.as_chunks::<COMMAND_SIZE>();
    if !rest.is_empty() || commands.len() > MAX_COMMANDS {
        return Err(LinkerError::ScriptLength(script.len()));
    }
    let mut linked = Linked::default();
    for command in commands {
        if let Some(command) = Command::decode(command)? {
            linked.run(command, files, allocator)?;
        }
    }
    Ok(linked)
}

fn find<'a>(files: &[LoaderFile<'a>], name: &str) -> Result<LoaderFile<'a>, LinkerError> {
    files.iter().find(|file| file.name == name).copied().ok_or_else(|| LinkerError::File(name.to_owned()))
}

/// The bytes `offset..offset + length` of a file, if it has them.
fn span(size: usize, file: &str, offset: u32, length: usize) -> Result<Range<usize>, LinkerError> {
    let start = offset as usize;
    let end = start.checked_add(length).filter(|&end| end <= size);
    end.map(|end| start..end).ok_or_else(|| LinkerError::Outside { file: file.to_owned(), offset })
}

fn to_bytes(pointer: Option<u64>, size: u8, file: &str, offset: u32) -> Result<Vec<u8>, LinkerError> {
    let overflow = || LinkerError::PointerOverflow { file: file.to_owned(), offset };
    let bytes = pointer.ok_or_else(overflow)?.to_le_bytes();
    let (kept, lost) = bytes.split_at_checked(usize::from(size)).ok_or_else(overflow)?;
    if lost.iter().any(|&byte| byte != 0) { Err(overflow()) } else { Ok(kept.to_vec()) }
}

impl Linked {
    fn placed(&mut self, name: &str) -> Result<&mut Placed, LinkerError> {
        let found = self.placed.iter_mut().find(|placed| placed.file == name);
        found.ok_or_else(|| LinkerError::File(name.to_owned()))
    }

    fn run(
        &mut self,
        command: Command,
        files: &[LoaderFile],
        allocator: &mut TableAllocator,
    ) -> Result<(), LinkerError> {
        match command {
            Command::Allocate { file, align, zone } => {
                if self.placed(&file).is_ok() {
                    return Err(LinkerError::AllocatedTwice(file));
                }
                let found = find(files, &file)?;
                let address = allocator.allocate(zone, found.size as u64, align.into())?;
                self.placed.push(Placed { file, address, bytes: found.bytes.to_vec() });
            }
            Command::AddPointer { dest_file, src_file, offset, size } => {
                let address = self.placed(&src_file)?.address;
                let dest = self.placed(&dest_file)?;
                let span = span(dest.bytes.len(), &dest_file, offset, size.into())?;
                let field = &mut dest.bytes[span];
                let old = field.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
                field.copy_from_slice(&to_bytes(old.checked_add(address), size, &dest_file, offset)?);
            }
            Command::AddChecksum { file, offset, start, length } => {
                let placed = self.placed(&file)?;
                let covered = span(placed.bytes.len(), &file, start, length as usize)?;
                let at = span(placed.bytes.len(), &file, offset, 1)?;
                let sum = hw_smbios::checksum(&placed.bytes[covered]);
                placed.bytes[at.start] = placed.bytes[at.start].wrapping_add(sum);
            }
            Command::WritePointer { dest_file, src_file, dst_offset, src_offset, size } => {
                let src = self.placed(&src_file)?;
                span(src.bytes.len(), &src_file, src_offset, 1)?;
                let pointer = src.address.checked_add(src_offset.into());
                span(find(files, &dest_file)?.bytes.len(), &dest_file, dst_offset, size.into())?;
                let bytes = to_bytes(pointer, size, &dest_file, dst_offset)?;
                self.write_backs.push(WriteBack { file: dest_file, offset: dst_offset, bytes });
            }
        }
        Ok(())
    }
}

/// Everything a firmware would have left in memory for the operating system to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareTables {
    /// Guest physical addresses and what to write there. They do not overlap.
    pub blobs: Vec<(u64, Vec<u8>)>,
    /// Memory at the top of low RAM that is reserved in the guest's memory map (e820 type 2). The F segment is
    /// outside of the RAM that the map shows anyway.
    pub reserved: Range<u64>,
    /// Pointers for the machine.
    pub write_backs: Vec<WriteBack>,
}

/// Places the ACPI tables (none under `-no-acpi`), the SMBIOS tables and the MP tables.
///
/// `low_ram_top`: guest physical address of the end of the RAM below 4 GiB.
pub fn firmware_tables(
    acpi: Option<&AcpiTables>,
    smbios: &SmbiosTables,
    mp: &MpConfig,
    low_ram_top: u64,
) -> Result<FirmwareTables, LinkerError> {
    let mut allocator = TableAllocator::new(low_ram_top);
    let (mut blobs, mut write_backs) = (Vec::new(), Vec::new());
    if let Some(acpi) = acpi {
        let used = acpi.tables.get(..acpi.tables_used).unwrap_or(&acpi.tables);
        let tables = LoaderFile { name: TABLES_FILE, bytes: used, size: acpi.tables.len() };
        let mut files = vec![(RSDP_FILE, acpi.rsdp.as_slice()).into(), tables];
        if let Some(guid) = &acpi.vmgenid {
            files.push((GUID_FILE, guid.as_slice()).into());
            files.push((ADDR_FILE, &[0; 8][..]).into());
        }
        let linked = execute(&acpi.linker, &files, &mut allocator)?;
        write_backs = linked.write_backs;
        blobs.extend(linked.placed.into_iter().map(|placed| (placed.address, placed.bytes)));
    }
    let (table, anchor) = place_smbios(smbios, &mut allocator)?;
    blobs.extend([table, anchor]);
    let table = mptable::config_table(mp);
    let size = (mptable::FLOATING_SIZE + table.len()) as u64;
    let address = allocator.allocate(Zone::FSeg, size, MIN_ALIGN)?;
    blobs.push((address, mptable::with_floating_pointer(address, table)));
    if mp.pci.is_some() {
        let table = pirtable::pir_table();
        blobs.push((allocator.allocate(Zone::FSeg, table.len() as u64, MIN_ALIGN)?, table));
    }
    Ok(FirmwareTables { blobs, reserved: allocator.reserved(), write_backs })
}

type Blob = (u64, Vec<u8>);

fn place_smbios(smbios: &SmbiosTables, allocator: &mut TableAllocator) -> Result<(Blob, Blob), LinkerError> {
    let (tables, mut anchor): (Vec<u8>, Anchor) = smbios.with_bios_information();
    let zone = if tables.len() > SMBIOS_FSEG_MAX { Zone::High } else { Zone::FSeg };
    let address = allocator.allocate(zone, tables.len() as u64, MIN_ALIGN)?;
    anchor.table_address = address;
    let anchor = anchor.to_bytes();
    let anchor_address = allocator.allocate(Zone::FSeg, anchor.len() as u64, MIN_ALIGN)?;
    Ok(((address, tables), (anchor_address, anchor)))
}
