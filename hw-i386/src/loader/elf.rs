//! ELF program headers and notes, 32 and 64 bits (System V ABI, chapter 5; QEMU `load_elf`).

use linux_loader::elf;
use vm_memory::ByteValued;

use super::image::{le16, le32};
use super::{Header, Kernel, KernelError, LoadError, Rom};

/// What an ELF file begins with.
pub(super) const MAGIC: &[u8] = elf::ELFMAG;

/// Program headers are few; this many is more than any kernel has.
const MAX_PROGRAM_HEADERS: u16 = 1024;
/// A kernel's notes are a few hundred bytes.
const MAX_NOTES: u64 = 64 * 1024;

/// An ELF kernel's headers. Both classes in the 64-bit structures.
pub(super) struct Elf {
    /// `e_machine`.
    pub machine: u16,
    /// `e_flags`.
    pub flags: u32,
    entry: u64,
    program_headers: Vec<elf::Elf64_Phdr>,
}

/// What `load_elf` reports of the loaded segments.
pub(super) struct Loaded {
    /// One ROM for each segment.
    pub roms: Vec<Rom>,
    /// The lowest address.
    pub low: u64,
    /// The address behind the highest.
    pub high: u64,
}

impl Elf {
    /// Reads the headers of a little-endian x86 image.
    pub fn parse(kernel: &Kernel) -> Result<Self, LoadError> {
        let bad = || kernel.error(KernelError::Elf);
        let header = &kernel.header;
        if !header.starts_with(MAGIC) || header[elf::EI_DATA] != elf::ELFDATA2LSB {
            return Err(bad());
        }
        let (ehdr, phdr_size) = match header[elf::EI_CLASS] {
            elf::ELFCLASS32 => (ehdr32(header), size_of::<elf::Elf32_Phdr>()),
            elf::ELFCLASS64 => (ehdr64(header), size_of::<elf::Elf64_Phdr>()),
            _ => return Err(bad()),
        };
        if ehdr.e_machine != elf::EM_386 && ehdr.e_machine != elf::EM_X86_64 {
            return Err(kernel.error(KernelError::ElfMachine));
        }
        if ehdr.e_phnum > MAX_PROGRAM_HEADERS || usize::from(ehdr.e_phentsize) != phdr_size {
            return Err(bad());
        }
        let mut table = vec![0; usize::from(ehdr.e_phnum) * phdr_size];
        kernel.image.read_at(ehdr.e_phoff, &mut table).map_err(|_| bad())?;
        let convert = if header[elf::EI_CLASS] == elf::ELFCLASS32 { phdr32 } else { phdr64 };
        Ok(Self {
            machine: ehdr.e_machine,
            flags: ehdr.e_flags,
            entry: ehdr.e_entry,
            program_headers: table.chunks_exact(phdr_size).map(convert).collect(),
        })
    }

    /// Every `PT_LOAD` segment at its physical address.
    pub fn load(&self, kernel: &Kernel) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded { roms: Vec::new(), low: u64::MAX, high: 0 };
        for (number, ph) in self.program_headers.iter().enumerate() {
            if ph.p_type != elf::PT_LOAD || ph.p_memsz == 0 {
                continue;
            }
            let end = ph.p_paddr.checked_add(ph.p_memsz);
            let (Some(end), true) = (end, ph.p_filesz <= ph.p_memsz) else {
                return Err(kernel.error(KernelError::Elf));
            };
            loaded.roms.push(Rom {
                name: format!("phdr #{number}: {}", kernel.path),
                addr: ph.p_paddr,
                size: ph.p_memsz,
                source: kernel.source(ph.p_offset, ph.p_filesz)?,
            });
            loaded.low = loaded.low.min(ph.p_paddr);
            loaded.high = loaded.high.max(end);
        }
        if loaded.roms.is_empty() {
            return Err(kernel.error(KernelError::Elf));
        }
        Ok(loaded)
    }

    /// The physical entry point: `e_entry` is virtual where the text segment's two addresses differ.
    pub fn physical_entry(&self) -> u64 {
        let holds_entry = |ph: &&elf::Elf64_Phdr| {
            let offset = self.entry.checked_sub(ph.p_vaddr);
            ph.p_type == elf::PT_LOAD
                && ph.p_flags & elf::PF_X != 0
                && offset.is_some_and(|n| n < ph.p_filesz)
        };
        let text = self.program_headers.iter().find(holds_entry);
        text.map_or(self.entry, |ph| self.entry.wrapping_sub(ph.p_vaddr).wrapping_add(ph.p_paddr))
    }

    /// The first note of that name and type: its descriptor's first 8 bytes, zero-extended.
    pub fn note(&self, kernel: &Kernel, name: &[u8], kind: u32) -> Option<u64> {
        let segments = self.program_headers.iter().filter(|ph| ph.p_type == elf::PT_NOTE);
        segments.into_iter().find_map(|ph| {
            let mut notes = vec![0; ph.p_filesz.min(MAX_NOTES) as usize];
            kernel.image.read_at(ph.p_offset, &mut notes).ok()?;
            // Notes are 4-byte aligned except in segments that say 8.
            let align = if ph.p_align == 8 { 8 } else { 4 };
            find_note(&notes, align, name, kind)
        })
    }
}

fn find_note(notes: &[u8], align: usize, name: &[u8], kind: u32) -> Option<u64> {
    let mut rest = notes;
    while rest.len() > size_of::<elf::Elf64_Nhdr>() {
        let name_size = le32(rest, 0) as usize;
        let descriptor_size = le32(rest, 4) as usize;
        let name_at = size_of::<elf::Elf64_Nhdr>();
        let descriptor_at = name_at.checked_add(name_size)?.checked_next_multiple_of(align)?;
        let end = descriptor_at.checked_add(descriptor_size)?;
        if le32(rest, 8) == kind && rest.get(name_at..name_at + name_size)? == name {
            let descriptor = rest.get(descriptor_at..end)?;
            let mut value = [0; 8];
            let size = descriptor.len().min(value.len());
            value[..size].copy_from_slice(&descriptor[..size]);
            return (size >= 4).then(|| u64::from_le_bytes(value));
        }
        rest = rest.get(end.checked_next_multiple_of(align)?..)?;
    }
    None
}

fn ehdr64(header: &Header) -> elf::Elf64_Ehdr {
    let mut ehdr = elf::Elf64_Ehdr::default();
    ehdr.as_mut_slice().copy_from_slice(&header[..size_of::<elf::Elf64_Ehdr>()]);
    ehdr
}

/// The fields used here, from `Elf32_Ehdr`.
fn ehdr32(header: &Header) -> elf::Elf64_Ehdr {
    elf::Elf64_Ehdr {
        e_machine: le16(header, 18),
        e_entry: le32(header, 24).into(),
        e_phoff: le32(header, 28).into(),
        e_flags: le32(header, 36),
        e_phentsize: le16(header, 42),
        e_phnum: le16(header, 44),
        ..Default::default()
    }
}

fn phdr64(bytes: &[u8]) -> elf::Elf64_Phdr {
    let mut phdr = elf::Elf64_Phdr::default();
    phdr.as_mut_slice().copy_from_slice(bytes);
    phdr
}

/// From `Elf32_Phdr`.
fn phdr32(bytes: &[u8]) -> elf::Elf64_Phdr {
    elf::Elf64_Phdr {
        p_type: le32(bytes, 0),
        p_offset: le32(bytes, 4).into(),
        p_vaddr: le32(bytes, 8).into(),
        p_paddr: le32(bytes, 12).into(),
        p_filesz: le32(bytes, 16).into(),
        p_memsz: le32(bytes, 20).into(),
        p_flags: le32(bytes, 24),
        p_align: le32(bytes, 28).into(),
    }
}
