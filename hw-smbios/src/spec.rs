//! Layout and values of SMBIOS 2.8.0 (DMTF DSP0134).

pub const VERSION_MAJOR: u8 = 2;
pub const VERSION_MINOR: u8 = 8;

// 5.2.1: the 32-bit entry point.
pub const ANCHOR_SIZE: usize = 0x1f;
pub const ANCHOR_CHECKSUM: usize = 0x04;
pub const ANCHOR_LENGTH: usize = 0x05;
pub const ANCHOR_MAX_STRUCTURE_SIZE: usize = 0x08;
pub const ANCHOR_INTERMEDIATE: usize = 0x10;
pub const ANCHOR_INTERMEDIATE_CHECKSUM: usize = 0x15;
pub const ANCHOR_TABLE_LENGTH: usize = 0x16;
pub const ANCHOR_TABLE_ADDRESS: usize = 0x18;
pub const ANCHOR_STRUCTURES: usize = 0x1c;
pub const ANCHOR_BCD_REVISION: usize = 0x1e;

// DSP0134 3.0.0, 5.2.2: the 64-bit entry point. After the length come the version and the entry point's revision.
pub const ANCHOR64_SIZE: usize = 0x18;
pub const ANCHOR64_CHECKSUM: usize = 0x05;
pub const ANCHOR64_LENGTH: usize = 0x06;
pub const ANCHOR64_REVISION: u8 = 1;
pub const ANCHOR64_MAX_LENGTH: usize = 0x0c;
pub const ANCHOR64_TABLE_ADDRESS: usize = 0x10;
pub const VERSION64_MAJOR: u8 = 3;

// 6.3: structure types.
pub const BIOS_INFORMATION: u8 = 0;
pub const SYSTEM_INFORMATION: u8 = 1;
pub const BASEBOARD_INFORMATION: u8 = 2;
pub const SYSTEM_ENCLOSURE: u8 = 3;
pub const PROCESSOR_INFORMATION: u8 = 4;
pub const PORT_CONNECTOR: u8 = 8;
pub const OEM_STRINGS: u8 = 11;
pub const PHYSICAL_MEMORY_ARRAY: u8 = 16;
pub const MEMORY_DEVICE: u8 = 17;
pub const MEMORY_ARRAY_MAPPED_ADDRESS: u8 = 19;
pub const SYSTEM_BOOT_INFORMATION: u8 = 32;
pub const ONBOARD_DEVICE: u8 = 41;
pub const END_OF_TABLE: u8 = 127;

/// 7.1.2: BIOS characteristics bit 3, "not supported".
pub const BIOS_CHARACTERISTICS_UNKNOWN: u64 = 1 << 3;
/// 7.1.2.2: BIOS characteristics extension byte 2, bit 2: targeted content distribution.
pub const BIOS_TARGETED_CONTENT: u8 = 1 << 2;
/// 7.1.2.2: BIOS characteristics extension byte 2, bit 4: the tables describe a virtual machine.
pub const BIOS_VIRTUAL_MACHINE: u8 = 1 << 4;
/// 7.1.2.2: BIOS characteristics extension byte 2, bit 3: UEFI.
pub const BIOS_UEFI: u8 = 1 << 3;
/// 7.1: release number of a component that has none.
pub const RELEASE_UNKNOWN: u8 = 0xff;

/// 7.2.2: wake-up by the power switch.
pub const WAKE_UP_POWER_SWITCH: u8 = 6;

/// 7.3.1: the board hosts processors.
pub const BASEBOARD_HOSTING: u8 = 1 << 0;
/// 7.3.2: a motherboard.
pub const BASEBOARD_MOTHERBOARD: u8 = 0x0a;

/// 7.4.1: chassis type other.
pub const CHASSIS_OTHER: u8 = 1;
/// 7.4.2: chassis state safe.
pub const CHASSIS_SAFE: u8 = 3;
/// 7.4.3: security status unknown.
pub const CHASSIS_SECURITY_UNKNOWN: u8 = 2;

/// 7.5.1: central processor.
pub const PROCESSOR_CENTRAL: u8 = 3;
/// 7.5.2: processor family other.
pub const PROCESSOR_FAMILY_OTHER: u8 = 1;
/// 7.5: socket populated, CPU enabled.
pub const PROCESSOR_ENABLED: u8 = 0x41;
/// 7.5.5: upgrade other.
pub const PROCESSOR_UPGRADE_OTHER: u8 = 1;
/// 7.5.9: characteristics unknown.
pub const PROCESSOR_CHARACTERISTICS_UNKNOWN: u16 = 1 << 1;
/// 7.5: no handle of a cache.
pub const NO_CACHE_HANDLE: u16 = 0xffff;

/// 7.17.1: memory array location other.
pub const ARRAY_LOCATION_OTHER: u8 = 1;
/// 7.17.2: memory array is system memory.
pub const ARRAY_USE_SYSTEM: u8 = 3;
/// 7.17.3: multi-bit ECC.
pub const ARRAY_MULTI_BIT_ECC: u8 = 6;
/// 7.17: the maximum capacity is in the extended field.
pub const ARRAY_CAPACITY_EXTENDED: u32 = 0x8000_0000;
/// 7.17, 7.18: no handle of an error.
pub const NO_ERROR_HANDLE: u16 = 0xfffe;

/// 7.18: memory device width unknown.
pub const DEVICE_WIDTH_UNKNOWN: u16 = 0xffff;
/// 7.18: the size is in the extended field.
pub const DEVICE_SIZE_EXTENDED: u16 = 0x7fff;
/// 7.18.1: form factor DIMM.
pub const DEVICE_DIMM: u8 = 9;
/// 7.18.2: memory type RAM.
pub const DEVICE_RAM: u8 = 7;
/// 7.18.3: type detail other.
pub const DEVICE_DETAIL_OTHER: u16 = 1 << 1;

/// 7.20: the address is in the extended field.
pub const MAPPED_ADDRESS_EXTENDED: u32 = 0xffff_ffff;

/// 7.42.2: the device is enabled.
pub const ONBOARD_ENABLED: u8 = 1 << 7;
