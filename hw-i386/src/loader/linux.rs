//! bzImage: QEMU's `x86_load_linux` up to the option ROM, and from there the 32-bit boot protocol
//! (Linux `Documentation/arch/x86/boot.rst`, "32-bit Boot Protocol").

use std::ops::Range;

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use util::cutils::strtou64;
use vm_memory::ByteValued;

use super::spec::linux as spec;
use super::{BootImage, Kernel, KernelError, KernelParams, LoadError, Protocol, Rom};

/// Prepares a file with the magic number "HdrS".
pub(super) fn load(kernel: &Kernel, params: &KernelParams) -> Result<BootImage, LoadError> {
    let mut hdr = setup_header_of(kernel);
    let protocol = hdr.version;
    if params.initrd.is_some() && protocol < spec::PROTOCOL_FIRST {
        return Err(LoadError::TooOldForInitrd);
    }
    if protocol < spec::PROTOCOL_CMD_LINE_PTR || hdr.loadflags & spec::LOADED_HIGH == 0 {
        return Err(kernel.error(KernelError::TooOld(protocol)));
    }
    let kernel_rom = protected_mode_rom(kernel, &hdr)?;
    let cmdline = super::cmdline_rom(params.cmdline)?;
    hdr.cmd_line_ptr = cmdline.addr as u32;
    if let Some(mode) = video_mode(params.cmdline)? {
        hdr.vid_mode = mode;
    }
    hdr.type_of_loader = spec::LOADER_QEMU;
    hdr.loadflags |= spec::CAN_USE_HEAP;
    hdr.heap_end_ptr = (cmdline.addr - spec::BOOT_PARAMS_ADDR - 0x200) as u16;

    let work_area = work_area(&hdr);
    if work_area.end > params.below_4g_mem_size {
        let name = kernel.path.to_owned();
        return Err(LoadError::NoMemory { name, addr: work_area.start, end: work_area.end });
    }
    let mut roms = vec![kernel_rom, cmdline];
    if let Some(path) = params.initrd {
        let floor = work_area.end.max(roms[0].addr + roms[0].size);
        let (addr, image) = super::place_initrd(path, initrd_addr_max(&hdr), floor, params)?;
        // Both below 4 GiB: the initrd ends there.
        hdr.ramdisk_image = addr as u32;
        hdr.ramdisk_size = image.len as u32;
        roms.extend(super::initrd_rom(addr, &image));
    }

    let boot_params = boot_params_of(hdr, params)?;
    roms.push(Rom::bytes("boot_params", spec::BOOT_PARAMS_ADDR, boot_params.as_slice()));
    let (gdt, mut entry) = super::flat_segments(spec::GDT_ADDR, spec::BOOT_CS, spec::BOOT_DS);
    roms.push(gdt);
    entry.eip = hdr.code32_start;
    entry.esi = spec::BOOT_PARAMS_ADDR as u32;
    Ok(BootImage { roms, entry, protocol: Protocol::LinuxBzImage, warnings: Vec::new() })
}

/// The file's setup header, as long as it says it is; the fields past that are zero.
fn setup_header_of(kernel: &Kernel) -> setup_header {
    let mut hdr = setup_header::default();
    let end = spec::HEADER_MAGIC + usize::from(kernel.header[spec::JUMP_OFFSET]);
    let have = end.saturating_sub(spec::SETUP_HEADER).min(size_of::<setup_header>());
    let bytes = &kernel.header[spec::SETUP_HEADER..spec::SETUP_HEADER + have];
    hdr.as_mut_slice()[..have].copy_from_slice(bytes);
    hdr
}

/// Everything behind the real-mode part.
fn protected_mode_rom(kernel: &Kernel, hdr: &setup_header) -> Result<Rom, LoadError> {
    let sectors = if hdr.setup_sects == 0 { spec::DEFAULT_SETUP_SECTS } else { hdr.setup_sects };
    let setup_size = (u64::from(sectors) + 1) * spec::SECTOR;
    let have = kernel.image.len;
    if setup_size >= have {
        return Err(kernel.error(KernelError::Header));
    }
    let syssize = match hdr.version {
        spec::PROTOCOL_SYSSIZE_32.. => hdr.syssize,
        _ => hdr.syssize & 0xffff,
    };
    let need = setup_size + u64::from(syssize) * spec::PARAGRAPH;
    // Some kernels' last paragraph is not a whole one.
    if need >= have + spec::PARAGRAPH {
        return Err(kernel.error(KernelError::Truncated { need, have }));
    }
    let rom =
        Rom::file(kernel.path.to_owned(), spec::KERNEL_ADDR, kernel.source(setup_size, have - setup_size)?);
    let entry = u64::from(hdr.code32_start);
    if !(rom.addr..rom.addr + rom.size).contains(&entry) {
        return Err(kernel.error(KernelError::NoEntry(entry)));
    }
    Ok(rom)
}

/// The initrd's highest possible last byte by the kernel's header.
fn initrd_addr_max(hdr: &setup_header) -> u64 {
    if hdr.version >= spec::PROTOCOL_XLOADFLAGS && hdr.xloadflags & spec::XLF_CAN_BE_LOADED_ABOVE_4G != 0 {
        // initrd_addr_max is lower only to suit old boot loaders.
        u32::MAX.into()
    } else if hdr.version >= spec::PROTOCOL_INITRD_ADDR_MAX {
        hdr.initrd_addr_max.into()
    } else {
        spec::DEFAULT_INITRD_ADDR_MAX
    }
}

/// The memory that the kernel works in before it looks at the memory map: it moves itself up to
/// `pref_address` and unpacks itself there. Without it, it hangs without a word.
fn work_area(hdr: &setup_header) -> Range<u64> {
    if hdr.version < spec::PROTOCOL_INIT_SIZE {
        return 0..0;
    }
    let start = hdr.pref_address.max(spec::KERNEL_ADDR);
    start..start.saturating_add(hdr.init_size.into())
}

/// The value for `vid_mode` by the command line's `vga=`, as QEMU reads it. No firmware is there to set the
/// mode: the kernel only learns what was asked for.
fn video_mode(cmdline: &str) -> Result<Option<u16>, LoadError> {
    let Some((_, value)) = cmdline.split_once("vga=") else {
        return Ok(None);
    };
    let names = [("normal", spec::VIDEO_NORMAL), ("ext", spec::VIDEO_EXTENDED), ("ask", spec::VIDEO_ASK)];
    if let Some((_, mode)) = names.iter().find(|(name, _)| value.starts_with(name)) {
        return Ok(Some(*mode));
    }
    let number = value.split(' ').next().unwrap_or_default();
    let mode = strtou64(number, 0).map_err(|_| LoadError::VideoMode)?;
    u32::try_from(mode).map(|mode| Some(mode as u16)).map_err(|_| LoadError::VideoMode)
}

/// The zero page.
fn boot_params_of(hdr: setup_header, params: &KernelParams) -> Result<boot_params, LoadError> {
    let mut zero_page = boot_params { hdr, ..Default::default() };
    if hdr.version >= spec::PROTOCOL_ACPI_RSDP {
        zero_page.acpi_rsdp_addr = params.rsdp_addr;
    }
    let mut table = zero_page.e820_table;
    if params.e820.len() > table.len() {
        return Err(LoadError::MemoryMap(params.e820.len()));
    }
    for (slot, entry) in table.iter_mut().zip(params.e820) {
        *slot = boot_e820_entry { addr: entry.addr, size: entry.size, r#type: entry.kind };
    }
    zero_page.e820_table = table;
    zero_page.e820_entries = params.e820.len() as u8;
    Ok(zero_page)
}
