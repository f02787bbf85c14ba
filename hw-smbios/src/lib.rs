//! SMBIOS tables (hw/smbios/).
