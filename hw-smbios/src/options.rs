//! What a user says of the structures: fields of types, and structures as files (`-smbios`).

use std::collections::{BTreeMap, BTreeSet};

/// A port on the outside (type 8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortConnector {
    /// Name on the board.
    pub internal_reference: String,
    /// Name on the case.
    pub external_reference: String,
    /// Kind of connector (7.9.2).
    pub connector_type: u8,
    /// What the port is for (7.9.3).
    pub port_type: u8,
}

/// A device on the board (type 41).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnboardDevice {
    /// Name on the board.
    pub designation: String,
    /// Kind of device (7.42.2), without the bit that it is enabled.
    pub kind: u8,
    /// Its number among those of its kind.
    pub instance: u8,
    /// Id of a PCI device.
    pub pcidev: Option<String>,
    /// Where that device is: device and function number on bus 0; filled in by the board.
    pub devfn: u8,
}

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SmbiosOptions {
    /// Values of fields by type and name, as text.
    pub fields: BTreeMap<(u8, String), String>,
    /// Types of which fields were said.
    pub kinds: BTreeSet<u8>,
    /// Structures to be taken as they are, with their strings.
    pub files: Vec<Vec<u8>>,
    /// Major and minor release of the BIOS.
    pub release: Option<(u8, u8)>,
    /// The BIOS is an UEFI.
    pub uefi: bool,
    /// Ports (type 8).
    pub ports: Vec<PortConnector>,
    /// OEM strings (type 11).
    pub oem_strings: Vec<String>,
    /// Devices (type 41).
    pub onboard: Vec<OnboardDevice>,
}

impl SmbiosOptions {
    /// What was said of a field.
    pub fn text(&self, kind: u8, field: &str) -> Option<&str> {
        self.fields.get(&(kind, field.to_owned())).map(String::as_str)
    }

    /// A field that is a number; `default` where nothing was said.
    pub fn number(&self, kind: u8, field: &str, default: u64) -> u64 {
        let text = self.text(kind, field);
        text.and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// Whether a file holds structures of a type; what is said of fields does not count then.
    pub fn has_file(&self, kind: u8) -> bool {
        self.files.iter().any(|file| file.first() == Some(&kind))
    }

    /// Whether the machine makes structures of a type; those that are not `required` only where fields were said.
    pub(crate) fn builds(&self, kind: u8, required: bool) -> bool {
        !self.has_file(kind) && (required || self.kinds.contains(&kind))
    }
}
