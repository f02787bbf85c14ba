//! Multiboot 1: QEMU's `load_multiboot` (hw/i386/multiboot.c) and its option ROM
//! pc-bios/optionrom/multiboot.S, which adds the memory map.
//!
//! Behind the kernel, each page-aligned: the module list with the strings, then the modules.

use std::ops::Range;

use linux_loader::elf::EM_X86_64;
use util::log::OsError;
use util::option::get_opt_value;

use super::elf::Elf;
use super::image::{Image, le32};
use super::spec::multiboot as spec;
use super::{
    BootImage, E820_RAM, E820Entry, Header, Kernel, KernelError, KernelParams, LoadError, Protocol, Rom,
    RomSource,
};

/// Offset of the Multiboot header in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderOffset(usize);

/// Finds the header by its magic number and checksum.
pub(super) fn find_header(file: &Header) -> Option<HeaderOffset> {
    (0..spec::SEARCH - spec::HEADER_SIZE).step_by(4).map(HeaderOffset).find(|at| {
        let field = |offset| at.field(file, offset);
        let sum = field(0).wrapping_add(field(spec::H_FLAGS)).wrapping_add(field(spec::H_CHECKSUM));
        field(0) == spec::HEADER_MAGIC && sum == 0
    })
}

impl HeaderOffset {
    fn field(self, file: &Header, offset: usize) -> u32 {
        le32(file, self.0 + offset)
    }
}

/// The kernel proper.
struct Loaded {
    roms: Vec<Rom>,
    addr: u64,
    size: u64,
    entry: u32,
}

/// Prepares a file with a Multiboot header.
pub(super) fn load(
    kernel: &Kernel,
    header: HeaderOffset,
    params: &KernelParams,
) -> Result<BootImage, LoadError> {
    let flags = header.field(&kernel.header, spec::H_FLAGS);
    let mut warnings = Vec::new();
    if flags & spec::HEADER_VIDEO != 0 {
        warnings.push("multiboot knows VBE. we don't");
    }
    let loaded = if flags & spec::HEADER_ADDRESSES != 0 {
        load_by_addresses(kernel, header)?
    } else {
        load_elf(kernel)?
    };
    let too_large = || kernel.error(KernelError::AddressSpace);
    let tables_addr = super::page_align(loaded.size).and_then(|size| loaded.addr.checked_add(size));
    let tables_addr = tables_addr.ok_or_else(too_large)?;

    let modules = modules(params.initrd.unwrap_or_default())?;
    let mut strings = Strings::at(tables_addr.saturating_add(modules.len() as u64 * spec::MODULE_SIZE));
    let module_strings: Vec<u64> = modules.iter().map(|module| strings.push(&module.string)).collect();
    let cmdline = strings.push(&format!("{} {}", kernel.path, params.cmdline));
    let boot_loader_name = strings.push(spec::BOOT_LOADER_NAME);

    let mut roms = loaded.roms;
    let mut list = Vec::new();
    let mut end = strings.end();
    for (module, string) in modules.iter().zip(module_strings) {
        let start = super::page_align(end).ok_or_else(too_large)?;
        end = start.checked_add(module.image.len).ok_or_else(too_large)?;
        for value in [start, end, string, 0] {
            list.extend_from_slice(&u32::try_from(value).map_err(|_| too_large())?.to_le_bytes());
        }
        let source = module.image.source(0, module.image.len).ok_or_else(too_large)?;
        roms.push(Rom::file(module.path.clone(), start, source));
    }
    if end > u64::from(u32::MAX) {
        return Err(too_large());
    }
    let mut info = Info([0; spec::INFO_SIZE]);
    info.set(spec::I_CMDLINE, cmdline as u32);
    info.set(spec::I_BOOT_LOADER_NAME, boot_loader_name as u32);
    info.set(spec::I_MODS_ADDR, tables_addr as u32);
    info.set(spec::I_MODS_COUNT, modules.len() as u32);
    list.extend_from_slice(&strings.bytes);
    roms.push(Rom::bytes("multiboot modules", tables_addr, list));
    let kernel = loaded.addr..end;
    finish((roms, kernel), info, loaded.entry, params, warnings)
}

/// Adds the parts at fixed addresses, but for what lies where the kernel and its modules are: the option ROM loads these
/// last.
fn finish(
    (mut roms, kernel): (Vec<Rom>, Range<u64>),
    mut info: Info,
    eip: u32,
    params: &KernelParams,
    warnings: Vec<&'static str>,
) -> Result<BootImage, LoadError> {
    let map = memory_map(params.e820)?;
    info.set(spec::I_FLAGS, spec::INFO_FLAGS);
    info.set(spec::I_MEM_LOWER, mem_lower(params.e820));
    info.set(spec::I_MEM_UPPER, mem_upper(params.e820));
    info.set(spec::I_BOOT_DEVICE, spec::BOOT_DEVICE);
    info.set(spec::I_MMAP_LENGTH, map.len() as u32);
    info.set(spec::I_MMAP_ADDR, spec::MMAP_ADDR as u32);
    let (gdt, mut entry) = super::flat_segments(spec::GDT_ADDR, spec::CS, spec::DS);
    let fixed = [
        Rom::bytes("multiboot mmap", spec::MMAP_ADDR, map),
        Rom::bytes("multiboot info", spec::INFO_ADDR, info.0),
        gdt,
    ];
    roms.extend(fixed.into_iter().flat_map(|rom| outside(rom, &kernel)));
    entry.eip = eip;
    entry.eax = spec::BOOTLOADER_MAGIC;
    entry.ebx = spec::INFO_ADDR as u32;
    Ok(BootImage { roms, entry, protocol: Protocol::Multiboot, warnings })
}

/// What of a part in memory lies outside of `taken`.
fn outside(rom: Rom, taken: &Range<u64>) -> Vec<Rom> {
    let end = rom.addr.saturating_add(rom.size);
    let RomSource::Bytes(bytes) = &rom.source else { return vec![rom] };
    if taken.end <= rom.addr || taken.start >= end {
        return vec![rom];
    }
    let piece = |from: u64, to: u64| {
        let at = |address: u64| usize::try_from(address.saturating_sub(rom.addr)).ok();
        let bytes = bytes.get(at(from)?..at(to)?).filter(|bytes| !bytes.is_empty())?;
        Some(Rom::bytes(&rom.name, from, bytes))
    };
    [piece(rom.addr, taken.start), piece(taken.end, end)].into_iter().flatten().collect()
}

/// A kernel whose header says where it goes (flag 16).
fn load_by_addresses(kernel: &Kernel, header: HeaderOffset) -> Result<Loaded, LoadError> {
    let field = |offset| u64::from(header.field(&kernel.header, offset));
    let bad = |what| kernel.error(KernelError::MultibootField(what));
    let load_addr = field(spec::H_LOAD_ADDR);
    let load_end_addr = field(spec::H_LOAD_END_ADDR);
    let bss_end_addr = field(spec::H_BSS_END_ADDR);
    let before_header =
        field(spec::H_HEADER_ADDR).checked_sub(load_addr).ok_or_else(|| bad("load_addr address"))?;
    let text_offset =
        (header.0 as u64).checked_sub(before_header).ok_or_else(|| bad("header_addr address"))?;
    let load_size = if load_end_addr != 0 {
        load_end_addr.checked_sub(load_addr).ok_or_else(|| bad("load_end_addr address"))?
    } else {
        kernel.image.len.saturating_sub(text_offset)
    };
    let size = if bss_end_addr != 0 {
        let size = bss_end_addr.checked_sub(load_addr).filter(|size| *size >= load_size);
        size.ok_or_else(|| bad("bss_end_addr address"))?
    } else {
        load_size
    };
    let source = kernel.source(text_offset, load_size)?;
    let rom = Rom { name: kernel.path.to_owned(), addr: load_addr, size, source };
    let entry = header.field(&kernel.header, spec::H_ENTRY_ADDR);
    Ok(Loaded { roms: vec![rom], addr: load_addr, size, entry })
}

/// A kernel that is a 32-bit ELF file.
fn load_elf(kernel: &Kernel) -> Result<Loaded, LoadError> {
    let elf = Elf::parse(kernel)?;
    if elf.machine == EM_X86_64 {
        return Err(kernel.error(KernelError::Multiboot64));
    }
    let loaded = elf.load(kernel)?;
    let entry = u32::try_from(elf.physical_entry()).map_err(|_| kernel.error(KernelError::AddressSpace))?;
    Ok(Loaded { addr: loaded.low, size: loaded.high - loaded.low, roms: loaded.roms, entry })
}

/// A file from `-initrd`.
struct Module {
    path: String,
    /// What the kernel is told: the file's name with the arguments.
    string: String,
    image: Image,
}

/// Opens the files of a list `FILE ARGS,FILE2 ARGS`.
fn modules(mut list: &str) -> Result<Vec<Module>, LoadError> {
    let mut modules = Vec::new();
    while !list.is_empty() {
        let (string, rest) = get_opt_value(list);
        list = rest.strip_prefix(',').unwrap_or(rest);
        let path = string.split(' ').next().unwrap_or_default().to_owned();
        let image = Image::open(&path)
            .map_err(|error| LoadError::Module { path: path.clone(), error: OsError(error) })?;
        modules.push(Module { path, string, image });
    }
    Ok(modules)
}

/// Zero-terminated strings one behind another, and where in memory each is.
struct Strings {
    addr: u64,
    bytes: Vec<u8>,
}

impl Strings {
    fn at(addr: u64) -> Self {
        Self { addr, bytes: Vec::new() }
    }

    fn end(&self) -> u64 {
        self.addr.saturating_add(self.bytes.len() as u64)
    }

    fn push(&mut self, string: &str) -> u64 {
        let addr = self.end();
        self.bytes.extend_from_slice(string.as_bytes());
        self.bytes.push(0);
        addr
    }
}

/// The multiboot information structure.
struct Info([u8; spec::INFO_SIZE]);

impl Info {
    fn set(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
}

fn memory_map(e820: &[E820Entry]) -> Result<Vec<u8>, LoadError> {
    if e820.len() > spec::MMAP_MAX {
        return Err(LoadError::MemoryMap(e820.len()));
    }
    let mut map = Vec::new();
    for entry in e820 {
        map.extend_from_slice(&spec::MMAP_ENTRY_SIZE.to_le_bytes());
        map.extend_from_slice(&entry.addr.to_le_bytes());
        map.extend_from_slice(&entry.size.to_le_bytes());
        map.extend_from_slice(&entry.kind.to_le_bytes());
    }
    Ok(map)
}

/// KiB of RAM from address 0, at most 640 (what INT 12h reports).
fn mem_lower(e820: &[E820Entry]) -> u32 {
    let low = e820.iter().find(|entry| entry.kind == E820_RAM && entry.addr == 0);
    low.map_or(0, |entry| entry.size.min(super::spec::LEGACY_HOLE) as u32 / 1024)
}

/// KiB of RAM from 1 MiB up to the first hole.
fn mem_upper(e820: &[E820Entry]) -> u32 {
    let start = super::spec::HIGH_MEMORY;
    let mut end = start;
    let extends = |end: u64| {
        let entries = e820.iter().filter(|entry| entry.kind == E820_RAM && entry.addr <= u32::MAX.into());
        let mut ends =
            entries.filter(|entry| entry.addr <= end).map(|entry| entry.addr.saturating_add(entry.size));
        ends.find(|entry_end| *entry_end > end)
    };
    while let Some(further) = extends(end) {
        end = further;
    }
    u32::try_from((end - start) / 1024).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_covers_is_the_kernels() {
        let left = |taken: Range<u64>| {
            let rom = Rom::bytes("x", 0x9000, [1, 2, 3, 4]);
            let pieces = outside(rom, &taken).into_iter().map(|rom| match rom.source {
                RomSource::Bytes(bytes) => (rom.addr, rom.size, bytes.to_vec()),
                _ => (rom.addr, rom.size, Vec::new()),
            });
            pieces.collect::<Vec<_>>()
        };
        assert_eq!(left(0x8000..0x9000), [(0x9000, 4, vec![1, 2, 3, 4])]);
        assert_eq!(left(0x9004..0xa000), [(0x9000, 4, vec![1, 2, 3, 4])]);
        assert_eq!(left(0x8000..0x9001), [(0x9001, 3, vec![2, 3, 4])]);
        assert_eq!(left(0x9003..0xa000), [(0x9000, 3, vec![1, 2, 3])]);
        assert_eq!(left(0x9001..0x9003), [(0x9000, 1, vec![1]), (0x9003, 1, vec![4])]);
        assert_eq!(left(0x8000..0xa000), []);
    }
}
