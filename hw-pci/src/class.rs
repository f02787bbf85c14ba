//! What people call the classes of devices.

/// Base class and sub-class codes with their names (PCI Code and ID Assignment Specification, in QEMU's words).
const CLASSES: [(u16, &str); 21] = [
    (0x0001, "VGA controller"),
    (0x0100, "SCSI controller"),
    (0x0101, "IDE controller"),
    (0x0104, "RAID controller"),
    (0x0106, "SATA controller"),
    (0x0180, "Storage controller"),
    (0x0200, "Ethernet controller"),
    (0x0280, "Network controller"),
    (0x0300, "VGA controller"),
    (0x0380, "Display controller"),
    (0x0400, "Video controller"),
    (0x0401, "Audio controller"),
    (0x0500, "RAM controller"),
    (0x0580, "Memory controller"),
    (0x0600, "Host bridge"),
    (0x0601, "ISA bridge"),
    (0x0604, "PCI bridge"),
    (0x0680, "Bridge"),
    (0x0700, "Serial port"),
    (0x0c03, "USB controller"),
    (0x0c05, "SMBus"),
];

/// The name of a base class and sub-class; `None` for those without one.
pub fn class_desc(class: u16) -> Option<&'static str> {
    CLASSES.iter().find(|(code, _)| *code == class).map(|(_, name)| *name)
}
