//! Makes each kernel format out of a linked guest: an ELF file for Multiboot only, one for PVH
//! only, and a bzImage. The linked file itself is Multiboot (by its address fields) and PVH.
#![forbid(unsafe_code)]

pub mod cases;

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// A kernel format, by the extension of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The file as linked: Multiboot with address fields, and the PVH note.
    Linked,
    /// A 32-bit ELF file with a Multiboot header without address fields: the loader must read ELF.
    Multiboot,
    /// The ELF file with its Multiboot header blanked, so that the PVH note counts.
    Pvh,
    /// A bzImage.
    BzImage,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 4] = [Format::Linked, Format::Multiboot, Format::Pvh, Format::BzImage];

    /// The extension of the packed file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Linked => "elf",
            Format::Multiboot => "mb",
            Format::Pvh => "pvh",
            Format::BzImage => "bz",
        }
    }
}

/// Sectors of bzImage's real-mode part are this long.
const SECTOR: usize = 512;
/// The Multiboot header's magic number.
const MULTIBOOT_MAGIC: u32 = 0x1bad_b002;
const MULTIBOOT_ADDRESS_FIELDS: u32 = 1 << 16;

/// Converts a linked guest.
pub fn pack(elf: &[u8], format: Format) -> Result<Vec<u8>> {
    match format {
        Format::Linked => Ok(elf.to_vec()),
        Format::Multiboot => multiboot(elf),
        Format::Pvh => {
            let mut file = elf.to_vec();
            let header = multiboot_header(&file)?;
            put32(&mut file, header, 0);
            Ok(file)
        }
        Format::BzImage => bzimage(elf),
    }
}

/// Writes the four formats of each guest into a directory as `NAME.EXTENSION`; their paths.
pub fn pack_files(guests: &[PathBuf], to: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(to)?;
    let mut files = Vec::new();
    for guest in guests {
        let in_guest = |e: Error| Error::new(e.kind(), format!("{}: {e}", guest.display()));
        let elf = std::fs::read(guest).map_err(in_guest)?;
        let name = guest.file_name().unwrap_or_default();
        for format in Format::ALL {
            let file = to.join(name).with_extension(format.extension());
            std::fs::write(&file, pack(&elf, format).map_err(in_guest)?)?;
            files.push(file);
        }
    }
    Ok(files)
}

/// The real-mode part from `.bzsetup`, then the image.
fn bzimage(elf: &[u8]) -> Result<Vec<u8>> {
    let mut file = section(elf, ".bzsetup")?.to_vec();
    let sectors = usize::from(*file.get(0x1f1).ok_or_else(|| bad("no setup header"))?);
    if file.len() != (sectors + 1) * SECTOR {
        return Err(bad("the length of .bzsetup is not setup_sects"));
    }
    file.extend_from_slice(image(elf)?.bytes);
    Ok(file)
}

/// A 32-bit ELF file of one segment, its Multiboot header without address fields.
fn multiboot(elf: &[u8]) -> Result<Vec<u8>> {
    const HEADERS: u32 = 52 + 32;
    let image = image(elf)?;
    let entry = get64(elf, 24)? as u32;
    let mut file = Vec::new();
    // e_ident: 32-bit, little-endian, version 1; executable for EM_386.
    file.extend_from_slice(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0");
    for value in [1, entry, 52, 0, 0] {
        file.extend_from_slice(&u32::to_le_bytes(value));
    }
    for value in [52, 32, 1, 40, 0, 0] {
        file.extend_from_slice(&u16::to_le_bytes(value));
    }
    // PT_LOAD, read, write and execute.
    let length = image.bytes.len() as u32;
    for value in [1, HEADERS, image.address, image.address, length, image.memory_length, 7, 4] {
        file.extend_from_slice(&u32::to_le_bytes(value));
    }
    file.extend_from_slice(image.bytes);
    let header = multiboot_header(&file)?;
    let flags = get32(&file, header + 4)? & !MULTIBOOT_ADDRESS_FIELDS;
    put32(&mut file, header + 4, flags);
    put32(&mut file, header + 8, MULTIBOOT_MAGIC.wrapping_add(flags).wrapping_neg());
    Ok(file)
}

struct Image<'a> {
    address: u32,
    bytes: &'a [u8],
    memory_length: u32,
}

/// The one PT_LOAD.
fn image(elf: &[u8]) -> Result<Image<'_>> {
    let table = get64(elf, 32)? as usize;
    let count = usize::from(get16(elf, 56)?);
    let mut loads = (0..count).map(|i| table + i * 56).filter(|&at| get32(elf, at).is_ok_and(|t| t == 1));
    let (Some(at), None) = (loads.next(), loads.next()) else {
        return Err(bad("not an ELF file with one PT_LOAD"));
    };
    let bytes = slice(elf, get64(elf, at + 8)?, get64(elf, at + 32)?)?;
    Ok(Image { address: get64(elf, at + 24)? as u32, bytes, memory_length: get64(elf, at + 40)? as u32 })
}

/// The contents of a section.
fn section<'a>(elf: &'a [u8], name: &str) -> Result<&'a [u8]> {
    let table = get64(elf, 40)? as usize;
    let header = |index: u16| table + usize::from(index) * 64;
    let contents = |at: usize| slice(elf, get64(elf, at + 24)?, get64(elf, at + 32)?);
    let names = contents(header(get16(elf, 62)?))?;
    for at in (0..get16(elf, 60)?).map(header) {
        let own = names.get(get32(elf, at)? as usize..).unwrap_or(&[]);
        if own.split(|&b| b == 0).next() == Some(name.as_bytes()) {
            return contents(at);
        }
    }
    Err(bad("no section .bzsetup"))
}

/// The offset of the Multiboot header, which lies in the first 8 KiB.
fn multiboot_header(file: &[u8]) -> Result<usize> {
    (0..8192)
        .step_by(4)
        .find(|&at| get32(file, at).is_ok_and(|magic| magic == MULTIBOOT_MAGIC))
        .ok_or_else(|| bad("no Multiboot header in the first 8 KiB"))
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn slice(file: &[u8], offset: u64, length: u64) -> Result<&[u8]> {
    let end = offset.checked_add(length).ok_or_else(|| bad("truncated"))?;
    file.get(offset as usize..end as usize).ok_or_else(|| bad("truncated"))
}

fn array<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    file.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or_else(|| bad("truncated"))
}

fn get16(file: &[u8], at: usize) -> Result<u16> {
    array(file, at).map(u16::from_le_bytes)
}

fn get32(file: &[u8], at: usize) -> Result<u32> {
    array(file, at).map(u32::from_le_bytes)
}

fn get64(file: &[u8], at: usize) -> Result<u64> {
    array(file, at).map(u64::from_le_bytes)
}

/// Overwrites four bytes that have been read before.
fn put32(file: &mut [u8], at: usize, value: u32) {
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
