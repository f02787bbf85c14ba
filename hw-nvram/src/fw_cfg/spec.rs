//! Keys, layouts and bits of QEMU's docs/specs/fw_cfg.txt and include/standard-headers/linux/qemu_fw_cfg.h.

/// I/O port of the selector register on a PC; the data register is the next port.
pub const PORT_SELECTOR: u16 = 0x510;
/// I/O port of the DMA address register on a PC, eight bytes.
pub const PORT_DMA: u16 = 0x514;
/// Ports of selector and data register.
pub const CTL_SIZE: u64 = 2;
/// Ports of the DMA address register.
pub const DMA_SIZE: u64 = 8;

/// "QEMU".
pub const SIGNATURE: u16 = 0x00;
/// Feature bits: [`VERSION`], [`VERSION_DMA`].
pub const ID: u16 = 0x01;
/// The machine's UUID, 16 bytes.
pub const UUID: u16 = 0x02;
/// Bytes of RAM below and above 4 GiB, 64 bits.
pub const RAM_SIZE: u16 = 0x03;
/// 1 without a display, 16 bits.
pub const NOGRAPHIC: u16 = 0x04;
/// Number of CPUs at start, 16 bits.
pub const NB_CPUS: u16 = 0x05;
/// Machine id (not on PCs).
pub const MACHINE_ID: u16 = 0x06;
/// Address of the kernel.
pub const KERNEL_ADDR: u16 = 0x07;
/// Length of [`KERNEL_DATA`].
pub const KERNEL_SIZE: u16 = 0x08;
/// Command line of the kernel (not on PCs).
pub const KERNEL_CMDLINE: u16 = 0x09;
/// Address of the initial RAM disk.
pub const INITRD_ADDR: u16 = 0x0a;
/// Length of [`INITRD_DATA`].
pub const INITRD_SIZE: u16 = 0x0b;
/// Boot order letter (not on PCs).
pub const BOOT_DEVICE: u16 = 0x0c;
/// NUMA topology: 64-bit words.
pub const NUMA: u16 = 0x0d;
/// 1 to show the boot menu, 16 bits.
pub const BOOT_MENU: u16 = 0x0e;
/// Limit of APIC ids, 16 bits.
pub const MAX_CPUS: u16 = 0x0f;
/// Entry point of the kernel.
pub const KERNEL_ENTRY: u16 = 0x10;
/// The kernel.
pub const KERNEL_DATA: u16 = 0x11;
/// The initial RAM disk.
pub const INITRD_DATA: u16 = 0x12;
/// Address of the command line.
pub const CMDLINE_ADDR: u16 = 0x13;
/// Length of [`CMDLINE_DATA`].
pub const CMDLINE_SIZE: u16 = 0x14;
/// The command line.
pub const CMDLINE_DATA: u16 = 0x15;
/// Address of the kernel's real-mode part.
pub const SETUP_ADDR: u16 = 0x16;
/// Length of [`SETUP_DATA`].
pub const SETUP_SIZE: u16 = 0x17;
/// The kernel's real-mode part.
pub const SETUP_DATA: u16 = 0x18;
/// The directory of files.
pub const FILE_DIR: u16 = 0x19;
/// Key of the first file.
pub const FILE_FIRST: u16 = 0x20;

/// x86: `-acpitable` tables.
pub const ACPI_TABLES: u16 = ARCH_LOCAL;
/// x86: SMBIOS entries in the old format.
pub const SMBIOS_ENTRIES: u16 = ARCH_LOCAL + 1;
/// x86: 1 if ISA interrupt 0 is I/O APIC input 2.
pub const IRQ0_OVERRIDE: u16 = ARCH_LOCAL + 2;
/// x86: reserved ranges of the memory map.
pub const E820_TABLE: u16 = ARCH_LOCAL + 3;
/// x86: the HPETs.
pub const HPET: u16 = ARCH_LOCAL + 4;

/// Selector bit of the write mode that QEMU 2.4 removed; ignored.
pub const WRITE_CHANNEL: u16 = 0x4000;
/// Selector bit of architecture-specific items.
pub const ARCH_LOCAL: u16 = 0x8000;
/// The selector without its two flag bits.
pub const ENTRY_MASK: u16 = !(WRITE_CHANNEL | ARCH_LOCAL);
/// What the selector holds after a key that does not exist was written.
pub const INVALID: u16 = 0xffff;

/// Feature bit: selector and data register.
pub const VERSION: u32 = 0x01;
/// Feature bit: DMA.
pub const VERSION_DMA: u32 = 0x02;

/// Fewest file slots.
pub const FILE_SLOTS_MIN: u16 = 0x10;
/// File slots of machines since 2.9.
pub const FILE_SLOTS_DEFAULT: u16 = 0x20;
/// Most file slots: the selector has 14 bits.
pub const FILE_SLOTS_MAX: u16 = ENTRY_MASK - FILE_FIRST + 1;
/// Length of a file name's field in the directory, with its terminating NUL.
pub const MAX_FILE_PATH: usize = 56;
/// Length of a directory entry: size (32 bits), key (16), reserved (16) and name.
pub const FILE_ENTRY_SIZE: usize = 8 + MAX_FILE_PATH;

/// What the DMA address register reads, in the order of its bytes.
pub const DMA_SIGNATURE: [u8; DMA_SIZE as usize] = *b"QEMU CFG";
/// Length of the structure at the DMA address: control, length (32 bits each), address (64), big-endian.
pub const DMA_ACCESS_SIZE: usize = 16;
/// DMA control: the transfer failed.
pub const DMA_CTL_ERROR: u32 = 0x01;
/// DMA control: copy the item to memory.
pub const DMA_CTL_READ: u32 = 0x02;
/// DMA control: advance the offset.
pub const DMA_CTL_SKIP: u32 = 0x04;
/// DMA control: select the key in the upper half first.
pub const DMA_CTL_SELECT: u32 = 0x08;
/// DMA control: copy memory to the item.
pub const DMA_CTL_WRITE: u32 = 0x10;
