//! Loads a `-kernel` image without firmware: which format it is, what goes where in guest memory,
//! and how the boot processor enters it.
//!
//! [`load_kernel`] follows QEMU's `x86_load_linux`, `load_elfboot` (hw/i386/x86.c) and `load_multiboot`
//! (hw/i386/multiboot.c): the same formats tried in the same order, the same addresses. QEMU hands over to
//! an option ROM that runs under SeaBIOS; here [`BootEntry`] says what that ROM leaves in the registers.
//!
//! Only headers are read. The contents stay in their files until the board copies each [`Rom`] to guest
//! memory, at start and at every reset.

mod elf;
mod image;
mod linux;
mod multiboot;
mod pvh;
pub mod spec;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::sync::Arc;

use thiserror::Error;
use util::log::OsError;

use image::{Image, le32};

/// What QEMU's `pc` machine leaves free of initrd below the top of low RAM (`pcmc->acpi_data_size`).
pub const ACPI_DATA_SIZE: u64 = 0x2_8000;

/// A range of the guest's memory map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct E820Entry {
    /// First address.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// What it is: [`E820_RAM`], [`E820_RESERVED`], or another of ACPI's types (section 15.1).
    pub kind: u32,
}

/// Memory the guest may use.
pub const E820_RAM: u32 = 1;
/// Memory or addresses the guest must leave alone.
pub const E820_RESERVED: u32 = 2;

/// What to boot, and the machine it is booted on.
#[derive(Debug, Clone, Copy)]
pub struct KernelParams<'a> {
    /// `-kernel`: the image's path.
    pub kernel: &'a str,
    /// `-initrd`: a path; for Multiboot a list `FILE ARGS,FILE2 ARGS`, with `,,` for a comma.
    pub initrd: Option<&'a str>,
    /// `-append`: the kernel's command line.
    pub cmdline: &'a str,
    /// Bytes of RAM below 4 GiB, from address 0 (the legacy hole counted in).
    pub below_4g_mem_size: u64,
    /// Bytes of RAM from 4 GiB up.
    pub above_4g_mem_size: u64,
    /// Bytes below the top of low RAM to keep free for tables: [`ACPI_DATA_SIZE`] or more.
    pub acpi_data_size: u64,
    /// The memory map for the guest.
    pub e820: &'a [E820Entry],
    /// Where the RSDP will be, 0 for a machine without ACPI.
    pub rsdp_addr: u64,
}

/// How an image is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// bzImage through the 32-bit Linux boot protocol.
    LinuxBzImage,
    /// ELF through its Xen PVH entry note.
    Pvh,
    /// Multiboot 1.
    Multiboot,
}

/// Where a ROM's bytes come from.
#[derive(Debug, Clone)]
pub enum RomSource {
    /// A part of a file, copied straight to guest memory.
    File {
        /// The file.
        file: Arc<File>,
        /// First byte in it.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Bytes made here.
    Bytes(Arc<[u8]>),
}

impl RomSource {
    /// Bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A range of guest memory to fill before the machine starts and at every reset.
#[derive(Debug, Clone)]
pub struct Rom {
    /// What it is, for messages.
    pub name: String,
    /// Guest-physical address.
    pub addr: u64,
    /// Bytes in guest memory: what the source does not fill is zero. In RAM that nobody has written yet
    /// there is nothing to do for that part.
    pub size: u64,
    /// The contents, at most `size` bytes.
    pub source: RomSource,
}

impl Rom {
    fn bytes(name: &str, addr: u64, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { name: name.to_owned(), addr, size: bytes.len() as u64, source: RomSource::Bytes(bytes) }
    }

    fn file(name: String, addr: u64, source: RomSource) -> Self {
        Self { name, addr, size: source.len(), source }
    }
}

/// The boot processor's state at the entry: protected mode without paging, interrupts off, and flat
/// 32-bit segments, whose descriptors are in the table at `gdt_base`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BootEntry {
    /// Instruction pointer.
    pub eip: u32,
    /// EAX: Multiboot's magic number.
    pub eax: u32,
    /// EBX: address of the PVH start info or the Multiboot information.
    pub ebx: u32,
    /// ESI: address of Linux' boot_params.
    pub esi: u32,
    /// Code selector.
    pub cs: u16,
    /// Selector for DS, ES, SS, FS and GS.
    pub ds: u16,
    /// GDTR base.
    pub gdt_base: u32,
    /// GDTR limit.
    pub gdt_limit: u16,
}

/// A kernel ready to be put into guest memory and entered.
#[derive(Debug, Clone)]
pub struct BootImage {
    /// Guest memory contents, none overlapping another.
    pub roms: Vec<Rom>,
    /// How the boot processor enters the kernel.
    pub entry: BootEntry,
    /// The format found.
    pub protocol: Protocol,
    /// What the user should know although the kernel boots.
    pub warnings: Vec<&'static str>,
}

/// Why a kernel cannot be booted. The texts are QEMU's, without its name in front, and name the file.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel cannot be opened.
    #[error("could not open kernel file '{path}': {error}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        error: OsError,
    },
    /// The kernel cannot be read.
    #[error("could not load kernel '{path}': {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: OsError,
    },
    /// The kernel is not one, or is damaged.
    #[error("could not load kernel '{path}': {reason}")]
    Kernel {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: KernelError,
    },
    /// A ramdisk for a kernel that knows none.
    #[error("linux kernel too old to load a ram disk")]
    TooOldForInitrd,
    /// The initrd cannot be opened.
    #[error("error reading initrd {path}: {error}")]
    Initrd {
        /// The file.
        path: String,
        /// Why.
        error: OsError,
    },
    /// The initrd does not fit into memory.
    #[error("initrd is too large, cannot support. (max: {max}, need {need})")]
    InitrdTooLarge {
        /// Bytes there is room for.
        max: u64,
        /// Bytes of the initrd.
        need: u64,
    },
    /// A Multiboot module cannot be opened.
    #[error("Failed to open file '{path}': {error}")]
    Module {
        /// The file.
        path: String,
        /// Why.
        error: OsError,
    },
    /// `vga=` on the command line has no number and no known name behind it.
    #[error("invalid 'vga=' kernel parameter.")]
    VideoMode,
    /// The command line reaches beyond low memory.
    #[error("kernel command line is too long (max: {max}, need {need})")]
    CmdlineTooLong {
        /// Bytes there is room for.
        max: u64,
        /// Bytes of the command line.
        need: u64,
    },
    /// The memory map has more entries than the protocol has room for.
    #[error("the memory map has {0} entries, too many for the kernel's boot protocol")]
    MemoryMap(usize),
    /// Two parts of the image claim the same memory.
    #[error("rom: requested regions overlap (rom {name}. free={free:#018x}, addr={addr:#018x})")]
    Overlap {
        /// The second of the two.
        name: String,
        /// Where the first one ends.
        free: u64,
        /// Where the second one begins.
        addr: u64,
    },
    /// A part of the image is where the machine has no memory.
    #[error("{name} does not fit into guest memory ({addr:#x} to {end:#x})")]
    NoMemory {
        /// The part.
        name: String,
        /// Where it begins.
        addr: u64,
        /// Where it ends.
        end: u64,
    },
}

/// What is wrong with a kernel image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KernelError {
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// No format was recognised.
    #[error("not a bzImage, Multiboot or ELF kernel")]
    Unknown,
    /// The setup part is longer than the file.
    #[error("invalid kernel header")]
    Header,
    /// The file ends early.
    #[error("truncated file (need {need} bytes, have {have})")]
    Truncated {
        /// Bytes by the header.
        need: u64,
        /// Bytes in the file.
        have: u64,
    },
    /// A zImage, or a kernel before Linux 2.4: only its real-mode part could start it, with a BIOS.
    #[error("boot protocol {}.{:02} is too old, or the kernel is a zImage", .0 >> 8, .0 & 0xff)]
    TooOld(u16),
    /// A kernel for a BIOS, as iPXE is: `code32_start` is outside the protected-mode part.
    #[error("no 32-bit entry point (code32_start is {0:#x})")]
    NoEntry(u64),
    /// The ELF structures do not hold.
    #[error("Error while loading elf kernel")]
    Elf,
    /// The kernel is for a different processor.
    #[error("Error while loading elf kernel: not an x86 image")]
    ElfMachine,
    /// `e_flags` asks for what a loader does not know.
    #[error("elfboot unsupported flags = {0:x}")]
    ElfFlags(u32),
    /// ELF without the PVH entry note.
    #[error("Error loading uncompressed kernel without PVH ELF Note")]
    NoPvhNote,
    /// Multiboot 1 enters 32-bit kernels only.
    #[error("Cannot load x86-64 image, give a 32bit one.")]
    Multiboot64,
    /// A Multiboot address field contradicts the others.
    #[error("invalid {0}")]
    MultibootField(&'static str),
    /// The image or what goes with it reaches over 4 GiB.
    #[error("kernel does not fit in address space")]
    AddressSpace,
}

/// Bytes of the file that hold every header (QEMU's `header`).
type Header = [u8; spec::multiboot::SEARCH];

/// A kernel file, its start, and how errors about it read.
struct Kernel<'a> {
    path: &'a str,
    image: Image,
    header: Header,
}

impl<'a> Kernel<'a> {
    fn open(path: &'a str) -> Result<Self, LoadError> {
        let image = Image::open(path)
            .map_err(|error| LoadError::Open { path: path.to_owned(), error: OsError(error) })?;
        let mut kernel = Self { path, image, header: [0; spec::multiboot::SEARCH] };
        if kernel.image.len == 0 {
            return Err(kernel.error(KernelError::Empty));
        }
        let have =
            usize::try_from(kernel.image.len).map_or(kernel.header.len(), |n| n.min(kernel.header.len()));
        let read = kernel.image.read_at(0, &mut kernel.header[..have]);
        read.map_err(|error| LoadError::Read { path: path.to_owned(), error: OsError(error) })?;
        Ok(kernel)
    }

    fn error(&self, reason: KernelError) -> LoadError {
        LoadError::Kernel { path: self.path.to_owned(), reason }
    }

    /// The part of a ROM that comes from this file.
    fn source(&self, offset: u64, len: u64) -> Result<RomSource, LoadError> {
        let need = offset.saturating_add(len);
        let truncated = || self.error(KernelError::Truncated { need, have: self.image.len });
        self.image.source(offset, len).ok_or_else(truncated)
    }
}

/// Recognises and prepares the kernel image, in QEMU's order: bzImage by its magic number, then Multiboot,
/// then ELF.
///
/// # Errors
/// Files that cannot be read or are no kernels, and what does not fit into the machine's memory.
pub fn load_kernel(params: &KernelParams) -> Result<BootImage, LoadError> {
    let kernel = Kernel::open(params.kernel)?;
    let image = if le32(&kernel.header, spec::linux::HEADER_MAGIC) == spec::linux::MAGIC {
        linux::load(&kernel, params)?
    } else if let Some(header) = multiboot::find_header(&kernel.header) {
        multiboot::load(&kernel, header, params)?
    } else if kernel.header.starts_with(elf::MAGIC) {
        pvh::load(&kernel, params)?
    } else {
        return Err(kernel.error(KernelError::Unknown));
    };
    check_placement(&image.roms, params)?;
    Ok(image)
}

/// Every ROM lies in RAM, and no two overlap.
fn check_placement(roms: &[Rom], params: &KernelParams) -> Result<(), LoadError> {
    const FOUR_GIB: u64 = 1 << 32;
    let low_end = params.below_4g_mem_size;
    let high_end = FOUR_GIB.saturating_add(params.above_4g_mem_size);
    let ram = [0..low_end.min(spec::LEGACY_HOLE), spec::HIGH_MEMORY..low_end, FOUR_GIB..high_end];
    let mut sorted: Vec<&Rom> = roms.iter().filter(|rom| rom.size > 0).collect();
    sorted.sort_by_key(|rom| rom.addr);
    let mut free = 0;
    for rom in sorted {
        let end = rom.addr.saturating_add(rom.size);
        if !ram.iter().any(|range| range.contains(&rom.addr) && end <= range.end) {
            return Err(LoadError::NoMemory { name: rom.name.clone(), addr: rom.addr, end });
        }
        if rom.addr < free {
            return Err(LoadError::Overlap { name: rom.name.clone(), free, addr: rom.addr });
        }
        free = end;
    }
    Ok(())
}

/// The initrd of a Linux or PVH kernel: as high as possible, ending at or below `max` (its last byte).
///
/// `floor` is where the memory that the kernel needs for itself ends.
fn place_initrd(path: &str, max: u64, floor: u64, params: &KernelParams) -> Result<(u64, Image), LoadError> {
    let image = Image::open(path)
        .map_err(|error| LoadError::Initrd { path: path.to_owned(), error: OsError(error) })?;
    // The last byte of low RAM that the tables leave.
    let top = params.below_4g_mem_size.saturating_sub(params.acpi_data_size).saturating_sub(1);
    let max = max.min(top);
    let need = image.len;
    if need >= max {
        return Err(LoadError::InitrdTooLarge { max, need });
    }
    let addr = (max - need) & !(spec::PAGE_SIZE - 1);
    if need > 0 && addr < floor {
        return Err(LoadError::InitrdTooLarge { max: max.saturating_sub(floor), need });
    }
    Ok((addr, image))
}

/// The initrd's contents as a ROM, none for an empty file.
fn initrd_rom(addr: u64, image: &Image) -> Option<Rom> {
    image
        .source(0, image.len)
        .filter(|source| !source.is_empty())
        .map(|source| Rom::file("initrd".to_owned(), addr, source))
}

/// The command line as a ROM at the address that Linux and PVH kernels get it at.
fn cmdline_rom(cmdline: &str) -> Result<Rom, LoadError> {
    let max = spec::LOW_MEMORY_END - spec::CMDLINE_ADDR;
    let need = cmdline.len() as u64 + 1;
    if need > max {
        return Err(LoadError::CmdlineTooLong { max, need });
    }
    Ok(Rom::bytes("cmdline", spec::CMDLINE_ADDR, [cmdline.as_bytes(), &[0]].concat()))
}

/// A GDT with flat segments at the two selectors, and the entry that uses them.
fn flat_segments(gdt_addr: u64, cs: u16, ds: u16) -> (Rom, BootEntry) {
    const DESCRIPTOR: usize = 8;
    let mut table = vec![0; usize::from(ds) + DESCRIPTOR];
    for (selector, descriptor) in [(cs, spec::GDT_CODE), (ds, spec::GDT_DATA)] {
        let at = usize::from(selector);
        table[at..at + DESCRIPTOR].copy_from_slice(&descriptor.to_le_bytes());
    }
    let gdt_limit = ds + DESCRIPTOR as u16 - 1;
    let entry = BootEntry { cs, ds, gdt_base: gdt_addr as u32, gdt_limit, ..Default::default() };
    (Rom::bytes("gdt", gdt_addr, table), entry)
}

/// Rounds up to a page; none past the end of the address space.
fn page_align(value: u64) -> Option<u64> {
    value.checked_next_multiple_of(spec::PAGE_SIZE)
}
