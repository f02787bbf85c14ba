//! ACPI hardware and table building (hw/acpi/).
