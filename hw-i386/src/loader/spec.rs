//! Numbers of the three boot protocols: Linux `Documentation/arch/x86/boot.rst`, Xen
//! `docs/misc/pvh.pandoc`, Multiboot Specification 0.6.96.

/// Linux/x86 boot protocol, section "The Real-Mode Kernel Header".
pub mod linux {
    /// Offset of `setup_sects`, where the setup header begins.
    pub const SETUP_HEADER: usize = 0x1f1;
    /// Offset of the second byte of `jump`: the header ends at 0x202 plus its value.
    pub const JUMP_OFFSET: usize = 0x201;
    /// Offset of `header`, the magic number; the header's end is counted from here.
    pub const HEADER_MAGIC: usize = 0x202;
    /// `header`: "HdrS".
    pub const MAGIC: u32 = 0x5372_6448;
    /// `setup_sects` when it reads 0.
    pub const DEFAULT_SETUP_SECTS: u8 = 4;
    /// Bytes of a `setup_sects` sector.
    pub const SECTOR: u64 = 512;
    /// Bytes of a `syssize` paragraph.
    pub const PARAGRAPH: u64 = 16;
    /// `type_of_loader`: QEMU, revision 0.
    pub const LOADER_QEMU: u8 = 0xb0;
    /// `loadflags`: the protected-mode code is loaded at 0x100000.
    pub const LOADED_HIGH: u8 = 1 << 0;
    /// `loadflags`: `heap_end_ptr` is valid.
    pub const CAN_USE_HEAP: u8 = 1 << 7;
    /// `xloadflags`: kernel, boot_params, cmdline and ramdisk can be above 4 GiB.
    pub const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
    /// Before this version there is no boot protocol: neither loader type nor ramdisk.
    pub const PROTOCOL_FIRST: u16 = 0x200;
    /// From this version the command line is at `cmd_line_ptr`.
    pub const PROTOCOL_CMD_LINE_PTR: u16 = 0x202;
    /// From this version `initrd_addr_max` is there.
    pub const PROTOCOL_INITRD_ADDR_MAX: u16 = 0x203;
    /// From this version `syssize` has 32 bits.
    pub const PROTOCOL_SYSSIZE_32: u16 = 0x204;
    /// From this version `pref_address` and `init_size` are there.
    pub const PROTOCOL_INIT_SIZE: u16 = 0x20a;
    /// From this version `xloadflags` is there.
    pub const PROTOCOL_XLOADFLAGS: u16 = 0x20c;
    /// From this version boot_params holds `acpi_rsdp_addr`.
    pub const PROTOCOL_ACPI_RSDP: u16 = 0x20e;
    /// Highest byte of an initrd before version 2.03.
    pub const DEFAULT_INITRD_ADDR_MAX: u64 = 0x37ff_ffff;
    /// `vid_mode` for `vga=normal`.
    pub const VIDEO_NORMAL: u16 = 0xffff;
    /// `vid_mode` for `vga=ext`.
    pub const VIDEO_EXTENDED: u16 = 0xfffe;
    /// `vid_mode` for `vga=ask`.
    pub const VIDEO_ASK: u16 = 0xfffd;
    /// `__BOOT_CS` of the 32-bit boot protocol.
    pub const BOOT_CS: u16 = 0x10;
    /// `__BOOT_DS` of the 32-bit boot protocol.
    pub const BOOT_DS: u16 = 0x18;

    /// Where QEMU's `x86_load_linux` puts the real-mode part; here, boot_params.
    pub const BOOT_PARAMS_ADDR: u64 = 0x1_0000;
    /// The GDT, behind boot_params.
    pub const GDT_ADDR: u64 = 0x1_1000;
    /// Where QEMU puts the protected-mode part.
    pub const KERNEL_ADDR: u64 = 0x10_0000;
}

/// Xen's PVH boot protocol.
pub mod pvh {
    /// `XEN_ELFNOTE_PHYS32_ENTRY`.
    pub const NOTE_PHYS32_ENTRY: u32 = 18;
    /// The note's name.
    pub const NOTE_NAME: &[u8] = b"Xen\0";
    /// `hvm_start_info.version` with a memory map.
    pub const START_INFO_VERSION: u32 = 1;
    /// Code selector that QEMU's pvh.bin leaves.
    pub const CS: u16 = 0x08;
    /// Data selector that QEMU's pvh.bin leaves.
    pub const DS: u16 = 0x10;

    /// `hvm_start_info`.
    pub const START_INFO_ADDR: u64 = 0x6000;
    /// The GDT.
    pub const GDT_ADDR: u64 = 0x6080;
    /// The module list, for the initrd.
    pub const MODLIST_ADDR: u64 = 0x60c0;
    /// The memory map.
    pub const MEMMAP_ADDR: u64 = 0x7000;
    /// Entries that fit below the boot sector's address.
    pub const MEMMAP_MAX: usize = 128;
    /// Bits of `e_flags` that QEMU's `load_elfboot` refuses.
    pub const BAD_ELF_FLAGS: u32 = 0x0001_0004;
}

/// Multiboot 1, sections 3.1 to 3.3, laid out in memory as QEMU's hw/i386/multiboot.c does.
pub mod multiboot {
    /// The header is somewhere in this many bytes of the file, 4-byte aligned.
    pub const SEARCH: usize = 8192;
    /// The header with its address and video fields.
    pub const HEADER_SIZE: usize = 48;
    /// `magic` of the header.
    pub const HEADER_MAGIC: u32 = 0x1bad_b002;
    /// EAX at the entry.
    pub const BOOTLOADER_MAGIC: u32 = 0x2bad_b002;
    /// Header flag 2: the kernel wants video mode information.
    pub const HEADER_VIDEO: u32 = 1 << 2;
    /// Header flag 16: the address fields are valid.
    pub const HEADER_ADDRESSES: u32 = 1 << 16;
    /// Offset of `flags` in the header; the fields below are offsets too.
    pub const H_FLAGS: usize = 4;
    /// `checksum`.
    pub const H_CHECKSUM: usize = 8;
    /// `header_addr`.
    pub const H_HEADER_ADDR: usize = 12;
    /// `load_addr`.
    pub const H_LOAD_ADDR: usize = 16;
    /// `load_end_addr`.
    pub const H_LOAD_END_ADDR: usize = 20;
    /// `bss_end_addr`.
    pub const H_BSS_END_ADDR: usize = 24;
    /// `entry_addr`.
    pub const H_ENTRY_ADDR: usize = 28;

    /// Information flags: mem_*, boot_device, cmdline, mods_*, mmap_*, boot_loader_name.
    pub const INFO_FLAGS: u32 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
    /// `boot_device` as QEMU sets it: the first hard disk, no partition.
    pub const BOOT_DEVICE: u32 = 0x8000_ffff;
    /// `boot_loader_name`.
    pub const BOOT_LOADER_NAME: &str = "qemu";
    /// The multiboot information structure, its size; the fields below are offsets in it.
    pub const INFO_SIZE: usize = 88;
    /// `flags`.
    pub const I_FLAGS: usize = 0;
    /// `mem_lower`, KiB.
    pub const I_MEM_LOWER: usize = 4;
    /// `mem_upper`, KiB.
    pub const I_MEM_UPPER: usize = 8;
    /// `boot_device`.
    pub const I_BOOT_DEVICE: usize = 12;
    /// `cmdline`.
    pub const I_CMDLINE: usize = 16;
    /// `mods_count`.
    pub const I_MODS_COUNT: usize = 20;
    /// `mods_addr`.
    pub const I_MODS_ADDR: usize = 24;
    /// `mmap_length`.
    pub const I_MMAP_LENGTH: usize = 44;
    /// `mmap_addr`.
    pub const I_MMAP_ADDR: usize = 48;
    /// `boot_loader_name`.
    pub const I_BOOT_LOADER_NAME: usize = 64;
    /// Bytes of a module's entry.
    pub const MODULE_SIZE: u64 = 16;
    /// A memory map entry without its `size` field.
    pub const MMAP_ENTRY_SIZE: u32 = 20;

    /// Code selector that QEMU's multiboot.bin leaves.
    pub const CS: u16 = 0x08;
    /// Data selector that QEMU's multiboot.bin leaves.
    pub const DS: u16 = 0x10;
    /// The memory map.
    pub const MMAP_ADDR: u64 = 0x9000;
    /// Entries that fit below the information structure.
    pub const MMAP_MAX: usize = 53;
    /// The information structure.
    pub const INFO_ADDR: u64 = 0x9500;
    /// The GDT.
    pub const GDT_ADDR: u64 = 0x9600;
}

/// The kernel command line, for Linux and PVH (QEMU's `cmdline_addr`).
pub const CMDLINE_ADDR: u64 = 0x2_0000;
/// Low memory ends here: the extended BIOS data area follows.
pub const LOW_MEMORY_END: u64 = 0x9_fc00;
/// Memory above the video and ROM hole.
pub const HIGH_MEMORY: u64 = 0x10_0000;
/// The legacy hole begins here.
pub const LEGACY_HOLE: u64 = 0xa_0000;
/// A page.
pub const PAGE_SIZE: u64 = 4096;
/// 32-bit flat code segment: base 0, limit 4 GiB, execute/read, accessed.
pub const GDT_CODE: u64 = 0x00cf_9b00_0000_ffff;
/// 32-bit flat data segment: base 0, limit 4 GiB, read/write, accessed.
pub const GDT_DATA: u64 = 0x00cf_9300_0000_ffff;
