//! The structures, one function for each type.

use std::ops::Range;

use crate::options::{OnboardDevice, PortConnector, SmbiosOptions};
use crate::{Anchor, EntryPoint, SmbiosConfig, spec};

/// Handles as QEMU numbers them: the type in the high byte, except where a type has more than 256.
const CHASSIS_HANDLE: u16 = 0x300;
const ARRAY_HANDLE: u16 = 0x1000;
const DEVICE_HANDLE: u16 = 0x1100;
const MAPPED_ADDRESS_HANDLE: u16 = 0x1300;

/// QEMU gives every CPU this clock, in MHz.
const CPU_MHZ: u64 = 2000;

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
    /// A structure of type 0 is among them.
    pub has_bios_information: bool,
}

impl Tables {
    /// The entry point.
    pub fn anchor(&self, entry_point: EntryPoint) -> Anchor {
        Anchor {
            max_structure_size: self.max_structure_size,
            table_length: self.bytes.len(),
            table_address: 0,
            structures: self.structures,
            entry_point,
        }
    }

    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.structures += other.structures;
        self.has_bios_information |= other.has_bios_information;
        self.max_structure_size = self.max_structure_size.max(other.max_structure_size);
    }

    fn push(&mut self, structure: Structure) {
        self.push_bytes(&structure.finish());
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.has_bios_information |= bytes.first() == Some(&spec::BIOS_INFORMATION);
        self.structures = self.structures.saturating_add(1);
        self.max_structure_size = self.max_structure_size.max(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.bytes.extend_from_slice(bytes);
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
        self.count = self.count.wrapping_add(1);
        let number = self.count;
        self.bytes(&[number])
    }

    /// Reference to a string that the user may have given.
    fn said(self, options: &SmbiosOptions, kind: u8, field: &str, default: &str) -> Self {
        self.string(options.text(kind, field).unwrap_or(default))
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
fn bios_information(
    vendor: &str,
    version: &str,
    date: &str,
    release: Option<(u8, u8)>,
    uefi: bool,
) -> Structure {
    let (major, minor) = release.unwrap_or_default();
    let uefi = if uefi { spec::BIOS_UEFI } else { 0 };
    let extension = spec::BIOS_TARGETED_CONTENT | spec::BIOS_VIRTUAL_MACHINE | uefi;
    Structure::new(spec::BIOS_INFORMATION, 0)
        .string(vendor)
        .string(version)
        .words(&[0xe800])
        .string(date)
        .bytes(&[0])
        .qword(spec::BIOS_CHARACTERISTICS_UNKNOWN)
        .bytes(&[0, extension, major, minor, spec::RELEASE_UNKNOWN, spec::RELEASE_UNKNOWN])
}

/// Type 0 of a machine that has no firmware.
pub fn direct_boot_bios() -> Tables {
    let mut tables = Tables::default();
    tables.push(bios_information(DIRECT_BOOT_VENDOR, DIRECT_BOOT_VERSION, DIRECT_BOOT_DATE, None, false));
    tables
}

/// The user's files, then what the machine makes itself, by type.
pub fn build(config: &SmbiosConfig, dimm_size: u64) -> Tables {
    let options = &config.options;
    let mut tables = Tables::default();
    options.files.iter().for_each(|file| tables.push_bytes(file));
    if options.builds(spec::BIOS_INFORMATION, false) {
        let text = |field| options.text(spec::BIOS_INFORMATION, field).unwrap_or_default();
        let (vendor, version, date) = (text("vendor"), text("version"), text("date"));
        tables.push(bios_information(vendor, version, date, options.release, options.uefi));
    }
    if options.builds(spec::SYSTEM_INFORMATION, true) {
        tables.push(system_information(config));
    }
    if options.builds(spec::BASEBOARD_INFORMATION, false) {
        tables.push(baseboard_information(config));
    }
    if options.builds(spec::SYSTEM_ENCLOSURE, true) {
        tables.push(system_enclosure(config));
    }
    if options.builds(spec::PROCESSOR_INFORMATION, true) {
        (0..config.sockets).for_each(|socket| tables.push(processor_information(config, socket)));
    }
    if options.builds(spec::PORT_CONNECTOR, true) {
        (0..).zip(&options.ports).for_each(|(n, port)| tables.push(port_connector(n, port)));
    }
    if options.builds(spec::OEM_STRINGS, true) && !options.oem_strings.is_empty() {
        tables.push(oem_strings(&options.oem_strings));
    }
    memory(config, dimm_size, &mut tables);
    if options.builds(spec::SYSTEM_BOOT_INFORMATION, true) {
        tables.push(Structure::new(spec::SYSTEM_BOOT_INFORMATION, 0x2000).bytes(&[0; 7]));
    }
    if options.builds(spec::ONBOARD_DEVICE, true) {
        (0..).zip(&options.onboard).for_each(|(n, device)| tables.push(onboard_device(n, device)));
    }
    if options.builds(spec::END_OF_TABLE, true) {
        tables.push(Structure::new(spec::END_OF_TABLE, 0x7f00));
    }
    tables
}

/// Types 16, 17 and 19.
fn memory(config: &SmbiosConfig, dimm_size: u64, tables: &mut Tables) {
    let options = &config.options;
    let memory: Vec<_> = config.memory.iter().filter(|range| !range.is_empty()).collect();
    let ram: u64 = memory.iter().map(|range| range.end - range.start).sum();
    let dimms = ram.div_ceil(dimm_size);
    if options.builds(spec::PHYSICAL_MEMORY_ARRAY, true) {
        tables.push(physical_memory_array(ram, dimms));
    }
    if options.builds(spec::MEMORY_DEVICE, true) {
        // What does not fit is refused as a whole by the caller, so nothing beyond it is needed.
        for dimm in (0..dimms).take(usize::from(u16::MAX)) {
            tables.push(memory_device(config, dimm, dimm_size.min(ram - dimm * dimm_size)));
        }
    }
    if options.builds(spec::MEMORY_ARRAY_MAPPED_ADDRESS, true) {
        let first = MAPPED_ADDRESS_HANDLE.max(nth(DEVICE_HANDLE, dimms));
        for (index, range) in (0..).zip(memory) {
            tables.push(memory_array_mapped_address(nth(first, index), range));
        }
    }
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
    let (options, kind) = (&config.options, spec::SYSTEM_INFORMATION);
    Structure::new(kind, 0x100)
        .said(options, kind, "manufacturer", &config.manufacturer)
        .said(options, kind, "product", &config.product)
        .said(options, kind, "version", &config.version)
        .said(options, kind, "serial", "")
        .bytes(&uuid)
        .bytes(&[spec::WAKE_UP_POWER_SWITCH])
        .said(options, kind, "sku", "")
        .said(options, kind, "family", "")
}

/// Type 2 (7.3).
fn baseboard_information(config: &SmbiosConfig) -> Structure {
    let (options, kind) = (&config.options, spec::BASEBOARD_INFORMATION);
    Structure::new(kind, 0x200)
        .said(options, kind, "manufacturer", &config.manufacturer)
        .said(options, kind, "product", &config.product)
        .said(options, kind, "version", &config.version)
        .said(options, kind, "serial", "")
        .said(options, kind, "asset", "")
        .bytes(&[spec::BASEBOARD_HOSTING])
        .said(options, kind, "location", "")
        .words(&[CHASSIS_HANDLE])
        .bytes(&[spec::BASEBOARD_MOTHERBOARD, 0])
}

/// Type 3 (7.4).
fn system_enclosure(config: &SmbiosConfig) -> Structure {
    let (options, kind) = (&config.options, spec::SYSTEM_ENCLOSURE);
    Structure::new(kind, CHASSIS_HANDLE)
        .said(options, kind, "manufacturer", &config.manufacturer)
        .bytes(&[spec::CHASSIS_OTHER])
        .said(options, kind, "version", &config.version)
        .said(options, kind, "serial", "")
        .said(options, kind, "asset", "")
        .bytes(&[spec::CHASSIS_SAFE, spec::CHASSIS_SAFE, spec::CHASSIS_SAFE, spec::CHASSIS_SECURITY_UNKNOWN])
        .dword(0)
        .bytes(&[0, 0, 0, 0])
        .said(options, kind, "sku", "")
}

/// Type 4 (7.5).
fn processor_information(config: &SmbiosConfig, socket: u32) -> Structure {
    let count = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let cores = count(config.cores_per_socket);
    let (options, kind) = (&config.options, spec::PROCESSOR_INFORMATION);
    let speed = |field| options.number(kind, field, CPU_MHZ) as u16;
    let own_id = u64::from(config.cpuid_features) << 32 | u64::from(config.cpuid_version);
    let id = match options.number(kind, "processor-id", 0) {
        0 => own_id,
        id => id,
    };
    let structure = Structure::new(kind, nth(0x400, socket.into()))
        .string(&format!("{}{socket:2x}", options.text(kind, "sock_pfx").unwrap_or("CPU")))
        .bytes(&[spec::PROCESSOR_CENTRAL, spec::PROCESSOR_FAMILY_OTHER])
        .said(options, kind, "manufacturer", &config.manufacturer)
        .qword(id)
        .said(options, kind, "version", &config.version)
        .bytes(&[0])
        .words(&[0, speed("max-speed"), speed("current-speed")])
        .bytes(&[spec::PROCESSOR_ENABLED, spec::PROCESSOR_UPGRADE_OTHER])
        .words(&[spec::NO_CACHE_HANDLE; 3])
        .said(options, kind, "serial", "")
        .said(options, kind, "asset", "")
        .said(options, kind, "part", "")
        .bytes(&[cores, cores, count(config.threads_per_socket)])
        .words(&[spec::PROCESSOR_CHARACTERISTICS_UNKNOWN, spec::PROCESSOR_FAMILY_OTHER.into()]);
    match config.entry_point {
        EntryPoint::Bits32 => structure,
        // The counts again, with more room.
        EntryPoint::Bits64 => {
            let [cores, threads] =
                [config.cores_per_socket, config.threads_per_socket].map(|count| count as u16);
            structure.words(&[cores, cores, threads])
        }
    }
}

/// Type 8 (7.9).
fn port_connector(index: u64, port: &PortConnector) -> Structure {
    Structure::new(spec::PORT_CONNECTOR, nth(0, index))
        .string(&port.internal_reference)
        .bytes(&[0])
        .string(&port.external_reference)
        .bytes(&[port.connector_type, port.port_type])
}

/// Type 11 (7.12): a number of strings, and the strings.
fn oem_strings(values: &[String]) -> Structure {
    let mut structure = Structure::new(spec::OEM_STRINGS, 0xe00).bytes(&[values.len() as u8]);
    for value in values {
        // The list refers to none of them by number.
        let length = structure.formatted.len();
        structure = structure.string(value);
        structure.formatted.truncate(length);
    }
    structure
}

/// Type 41 (7.42).
fn onboard_device(index: u64, device: &OnboardDevice) -> Structure {
    Structure::new(spec::ONBOARD_DEVICE, nth(0x2900, index))
        .string(&device.designation)
        .bytes(&[device.kind | spec::ONBOARD_ENABLED, device.instance])
        .words(&[0])
        .bytes(&[0, device.devfn])
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
    let (options, kind) = (&config.options, spec::MEMORY_DEVICE);
    let speed = options.number(kind, "speed", 0) as u16;
    Structure::new(kind, nth(DEVICE_HANDLE, index))
        .words(&[
            ARRAY_HANDLE,
            spec::NO_ERROR_HANDLE,
            spec::DEVICE_WIDTH_UNKNOWN,
            spec::DEVICE_WIDTH_UNKNOWN,
            size,
        ])
        .bytes(&[spec::DEVICE_DIMM, 0])
        .string(&format!("{} {index}", options.text(kind, "loc_pfx").unwrap_or("DIMM")))
        .said(options, kind, "bank", "")
        .bytes(&[spec::DEVICE_RAM])
        .words(&[spec::DEVICE_DETAIL_OTHER, speed])
        .said(options, kind, "manufacturer", &config.manufacturer)
        .said(options, kind, "serial", "")
        .said(options, kind, "asset", "")
        .said(options, kind, "part", "")
        .bytes(&[0])
        .dword(extended)
        .words(&[speed, 0, 0, 0])
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
