//! ELF kernels entered through their Xen PVH note: QEMU's `load_elfboot` and its option ROM
//! pc-bios/optionrom/pvh_main.c (Xen `docs/misc/pvh.pandoc`).

use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::ByteValued;

use super::elf::Elf;
use super::spec::pvh as spec;
use super::{BootImage, Kernel, KernelError, KernelParams, LoadError, Protocol, Rom};

/// Prepares an ELF file.
pub(super) fn load(kernel: &Kernel, params: &KernelParams) -> Result<BootImage, LoadError> {
    let elf = Elf::parse(kernel)?;
    if elf.flags & spec::BAD_ELF_FLAGS != 0 {
        return Err(kernel.error(KernelError::ElfFlags(elf.flags)));
    }
    let note = elf.note(kernel, spec::NOTE_NAME, spec::NOTE_PHYS32_ENTRY);
    let entry_addr = note.ok_or_else(|| kernel.error(KernelError::NoPvhNote))?;
    let entry_addr = u32::try_from(entry_addr).map_err(|_| kernel.error(KernelError::AddressSpace))?;
    let loaded = elf.load(kernel)?;
    let mut roms = loaded.roms;
    let mut start_info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: spec::START_INFO_VERSION,
        cmdline_paddr: super::spec::CMDLINE_ADDR,
        rsdp_paddr: params.rsdp_addr,
        memmap_paddr: spec::MEMMAP_ADDR,
        memmap_entries: params.e820.len() as u32,
        ..Default::default()
    };
    if let Some(path) = params.initrd {
        let floor = loaded.high.min(params.below_4g_mem_size);
        let (addr, image) = super::place_initrd(path, u32::MAX.into(), floor, params)?;
        start_info.nr_modules = 1;
        start_info.modlist_paddr = spec::MODLIST_ADDR;
        let module = hvm_modlist_entry { paddr: addr, size: image.len, ..Default::default() };
        roms.push(Rom::bytes("modlist", spec::MODLIST_ADDR, module.as_slice()));
        roms.extend(super::initrd_rom(addr, &image));
    }
    roms.push(super::cmdline_rom(params.cmdline)?);
    roms.push(memory_map(params)?);
    roms.push(Rom::bytes("start_info", spec::START_INFO_ADDR, start_info.as_slice()));
    let (gdt, mut entry) = super::flat_segments(spec::GDT_ADDR, spec::CS, spec::DS);
    roms.push(gdt);
    entry.eip = entry_addr;
    entry.ebx = spec::START_INFO_ADDR as u32;
    Ok(BootImage { roms, entry, protocol: Protocol::Pvh, warnings: Vec::new() })
}

fn memory_map(params: &KernelParams) -> Result<Rom, LoadError> {
    if params.e820.len() > spec::MEMMAP_MAX {
        return Err(LoadError::MemoryMap(params.e820.len()));
    }
    let mut bytes = Vec::new();
    for entry in params.e820 {
        let entry =
            hvm_memmap_table_entry { addr: entry.addr, size: entry.size, type_: entry.kind, reserved: 0 };
        bytes.extend_from_slice(entry.as_slice());
    }
    Ok(Rom::bytes("memmap", spec::MEMMAP_ADDR, bytes))
}
