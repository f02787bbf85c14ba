//! The structures, one function for each type.

use std::ops::Range;

use crate::{Anchor, SmbiosConfig, spec};

/// Handles as QEMU numbers them: the type in the high byte, except where a type has more than 256.
const CHASSIS_HANDLE: u16 = 0x300;
const ARRAY_HANDLE: u16 = 0x1000;
const DEVICE_HANDLE: u16 = 0x1100;
const MAPPED_ADDRESS_HANDLE: u16 = 0x1300;

/// QEMU gives every CPU this clock, in MHz.
const CPU_MHZ: u16 = 2000;

/// Type 0 of a machine that was started without firmware.
const DIRECT_BOOT_VENDOR: &str = "QEMU";
const DIRECT_BOOT_VERSION: &str = "direct-boot";
/// SeaBIOS's date. Linux takes machines with an older or no date for too old to trust their ACPI.
const DIRECT_BOOT_DATE: &str = "04/01/2014";

/// Structures one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    pub bytes: Vec<u8>,
    structures: u16,
    max_structure_size: u16,
}

impl Tables {
    /// The entry point. `build` bounds the length to 16 bits.
    pub fn anchor(&self) -> Anchor {
        Anchor {
            max_structure_size: self.max_structure_size,
            table_length: self.bytes.len() as u16,
            table_address: 0,
            structures: self.structures,
        }
    }

    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.structures += other.structures;
        self.max_structure_size = self.max_structure_size.max(other.max_structure_size);
    }

    fn push(&mut self, structure: Structure) {
        let bytes = structure.finish();
        self.structures = self.structures.saturating_add(1);
        self.max_structure_size = self.max_structure_size.max(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.bytes.extend_from_slice(&bytes);
    }
}

/// A structure under construction: formatted area and the strings behind it (6.1).
struct Structure {
    formatted: Vec<u8>,
    strings: Vec<u8>,
    count: u8,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let mut formatted = vec![kind, 0];
        formatted.extend_from_slice(&handle.to_le_bytes());
        Self { formatted, strings: Vec::new(), count: 0 }
    }

    fn bytes(mut self, values: &[u8]) -> Self {
        self.formatted.extend_from_slice(values);
        self
    }

    fn words(self, values: &[u16]) -> Self {
        values.iter().fold(self, |this, value| this.bytes(&value.to_le_bytes()))
    }

    fn dword(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn qword(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A reference to a string; an empty one is none. A zero byte would end the string.
    fn string(mut self, value: &str) -> Self {
        let value = value.split('\0').next().unwrap_or_default();
        if value.is_empty() {
            return self.bytes(&[0]);
        }
        self.strings.extend_from_slice(value.as_bytes());
        self.strings.push(0);
        self.count += 1;
        let number = self.count;
        self.bytes(&[number])
    }

    fn finish(mut self) -> Vec<u8> {
        self.formatted[1] = self.formatted.len() as u8;
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        self.strings.push(0);
        [self.formatted, self.strings].concat()
    }
}

/// Type 0 (7.1), with SeaBIOS's values but for the names and the mark that this is a virtual machine.
pub fn bios_information() -> Tables {
    let structure = Structure::new(spec::BIOS_INFORMATION, 0)
        .string(DIRECT_BOOT_VENDOR)
        .string(DIRECT_BOOT_VERSION)
        .words(&[0xe800])
        .string(DIRECT_BOOT_DATE)
        .bytes(&[0])
        .qword(spec::BIOS_CHARACTERISTICS_UNKNOWN)
        .bytes(&[
            0,
            spec::BIOS_TARGETED_CONTENT | spec::BIOS_VIRTUAL_MACHINE,
            0,
            0,
            spec::RELEASE_UNKNOWN,
            spec::RELEASE_UNKNOWN,
        ]);
    let mut tables = Tables::default();
    tables.push(structure);
    tables
}

/// All but type 0.
pub fn build(config: &SmbiosConfig, dimm_size: u64) -> Tables {
    let mut tables = Tables::default();
    tables.push(system_information(config));
    tables.push(system_enclosure(config));
    for socket in 0..config.sockets {
        tables.push(processor_information(config, socket));
    }
    let memory: Vec<_> = config.memory.iter().filter(|range| !range.is_empty()).collect();
    let ram: u64 = memory.iter().map(|range| range.end - range.start).sum();
    let dimms = ram.div_ceil(dimm_size);
    tables.push(physical_memory_array(ram, dimms));
    // What does not fit is refused as a whole by the caller, so nothing beyond it is needed.
    for dimm in (0..dimms).take(usize::from(u16::MAX)) {
        tables.push(memory_device(config, dimm, dimm_size.min(ram - dimm * dimm_size)));
    }
    let first = MAPPED_ADDRESS_HANDLE.max(nth(DEVICE_HANDLE, dimms));
    for (index, range) in (0..).zip(memory) {
        tables.push(memory_array_mapped_address(nth(first, index), range));
    }
    tables.push(Structure::new(spec::SYSTEM_BOOT_INFORMATION, 0x2000).bytes(&[0; 7]));
    tables.push(Structure::new(spec::END_OF_TABLE, 0x7f00));
    tables
}

/// The handle `index` steps behind `first`. So many that it wraps do not fit the table anyway.
fn nth(first: u16, index: u64) -> u16 {
    first.wrapping_add(index as u16)
}

/// Type 1 (7.2). Since 2.6 the first three fields of the UUID are little-endian.
fn system_information(config: &SmbiosConfig) -> Structure {
    let mut uuid = config.uuid;
    uuid[0..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    Structure::new(spec::SYSTEM_INFORMATION, 0x100)
        .string(&config.manufacturer)
        .string(&config.product)
        .string(&config.version)
        .string("")
        .bytes(&uuid)
        .bytes(&[spec::WAKE_UP_POWER_SWITCH])
        .string("")
        .string("")
}

/// Type 3 (7.4).
fn system_enclosure(config: &SmbiosConfig) -> Structure {
    Structure::new(spec::SYSTEM_ENCLOSURE, CHASSIS_HANDLE)
        .string(&config.manufacturer)
        .bytes(&[spec::CHASSIS_OTHER])
        .string(&config.version)
        .string("")
        .string("")
        .bytes(&[spec::CHASSIS_SAFE, spec::CHASSIS_SAFE, spec::CHASSIS_SAFE, spec::CHASSIS_SECURITY_UNKNOWN])
        .dword(0)
        .bytes(&[0, 0, 0, 0])
        .string("")
}

/// Type 4 (7.5).
fn processor_information(config: &SmbiosConfig, socket: u32) -> Structure {
    let count = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let cores = count(config.cores_per_socket);
    Structure::new(spec::PROCESSOR_INFORMATION, nth(0x400, socket.into()))
        .string(&format!("CPU{socket:2x}"))
        .bytes(&[spec::PROCESSOR_CENTRAL, spec::PROCESSOR_FAMILY_OTHER])
        .string(&config.manufacturer)
        .dword(config.cpuid_version)
        .dword(config.cpuid_features)
        .string(&config.version)
        .bytes(&[0])
        .words(&[0, CPU_MHZ, CPU_MHZ])
        .bytes(&[spec::PROCESSOR_ENABLED, spec::PROCESSOR_UPGRADE_OTHER])
        .words(&[spec::NO_CACHE_HANDLE; 3])
        .string("")
        .string("")
        .string("")
        .bytes(&[cores, cores, count(config.threads_per_socket)])
        .words(&[spec::PROCESSOR_CHARACTERISTICS_UNKNOWN, spec::PROCESSOR_FAMILY_OTHER.into()])
}

/// Type 16 (7.17): capacity in KiB, or in bytes in the extended field.
fn physical_memory_array(ram: u64, dimms: u64) -> Structure {
    let (capacity, extended) = match u32::try_from(ram >> 10) {
        Ok(kib) if kib < spec::ARRAY_CAPACITY_EXTENDED => (kib, 0),
        _ => (spec::ARRAY_CAPACITY_EXTENDED, ram),
    };
    Structure::new(spec::PHYSICAL_MEMORY_ARRAY, ARRAY_HANDLE)
        .bytes(&[spec::ARRAY_LOCATION_OTHER, spec::ARRAY_USE_SYSTEM, spec::ARRAY_MULTI_BIT_ECC])
        .dword(capacity)
        .words(&[spec::NO_ERROR_HANDLE, u16::try_from(dimms).unwrap_or(u16::MAX)])
        .qword(extended)
}

/// Type 17 (7.18): size in MiB. A DIMM has at most 16 GiB, so that it always fits the 16-bit field.
fn memory_device(config: &SmbiosConfig, index: u64, size: u64) -> Structure {
    let mib = (size >> 20) as u32;
    let (size, extended) = match u16::try_from(mib) {
        Ok(mib) if mib < spec::DEVICE_SIZE_EXTENDED => (mib, 0),
        _ => (spec::DEVICE_SIZE_EXTENDED, mib),
    };
    Structure::new(spec::MEMORY_DEVICE, nth(DEVICE_HANDLE, index))
        .words(&[
            ARRAY_HANDLE,
            spec::NO_ERROR_HANDLE,
            spec::DEVICE_WIDTH_UNKNOWN,
            spec::DEVICE_WIDTH_UNKNOWN,
            size,
        ])
        .bytes(&[spec::DEVICE_DIMM, 0])
        .string(&format!("DIMM {index}"))
        .string("")
        .bytes(&[spec::DEVICE_RAM])
        .words(&[spec::DEVICE_DETAIL_OTHER, 0])
        .string(&config.manufacturer)
        .string("")
        .string("")
        .string("")
        .bytes(&[0])
        .dword(extended)
        .words(&[0; 4])
}

/// Type 19 (7.20): inclusive range in KiB, or in bytes in the extended fields.
fn memory_array_mapped_address(handle: u16, range: &Range<u64>) -> Structure {
    let last = range.end - 1;
    let kib =
        |address: u64| u32::try_from(address >> 10).ok().filter(|&kib| kib < spec::MAPPED_ADDRESS_EXTENDED);
    let (start, end, extended) = match (kib(range.start), kib(last)) {
        (Some(start), Some(end)) => (start, end, [0, 0]),
        _ => (spec::MAPPED_ADDRESS_EXTENDED, spec::MAPPED_ADDRESS_EXTENDED, [range.start, last]),
    };
    Structure::new(spec::MEMORY_ARRAY_MAPPED_ADDRESS, handle)
        .dword(start)
        .dword(end)
        .words(&[ARRAY_HANDLE])
        .bytes(&[1])
        .qword(extended[0])
        .qword(extended[1])
}
