//! ACPI hardware and table building (hw/acpi/).
#![forbid(unsafe_code)]

pub mod aml;
pub mod bios_linker_loader;
pub mod core;
pub mod cpu_hotplug;
pub mod memory_hotplug;
pub mod pcihp;
pub mod piix4;
pub mod tables;
pub mod vmgenid;
