//! ACPI hardware and table building (hw/acpi/).

pub mod core;
