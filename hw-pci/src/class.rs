//! What people and OpenFirmware call the classes of devices.

/// Base class and sub-class codes with their names (PCI Code and ID Assignment Specification, in QEMU's words) and
/// OpenFirmware's (PCI Bus Binding to IEEE 1275, section 2.2.1.4.1).
const CLASSES: [(u16, &str, Option<&str>); 53] = [
    (0x0001, "VGA controller", Some("display")),
    (0x0100, "SCSI controller", Some("scsi")),
    (0x0101, "IDE controller", Some("ide")),
    (0x0102, "Floppy controller", Some("fdc")),
    (0x0103, "IPI controller", Some("ipi")),
    (0x0104, "RAID controller", Some("raid")),
    (0x0106, "SATA controller", None),
    (0x0107, "SAS controller", None),
    (0x0180, "Storage controller", None),
    (0x0200, "Ethernet controller", Some("ethernet")),
    (0x0201, "Token Ring controller", Some("token-ring")),
    (0x0202, "FDDI controller", Some("fddi")),
    (0x0203, "ATM controller", Some("atm")),
    (0x0280, "Network controller", None),
    (0x0300, "VGA controller", Some("display")),
    (0x0301, "XGA controller", None),
    (0x0302, "3D controller", None),
    (0x0380, "Display controller", None),
    (0x0400, "Video controller", Some("video")),
    (0x0401, "Audio controller", Some("sound")),
    (0x0402, "Phone", None),
    (0x0403, "Audio controller", Some("sound")),
    (0x0480, "Multimedia controller", None),
    (0x0500, "RAM controller", Some("memory")),
    (0x0501, "Flash controller", Some("flash")),
    (0x0580, "Memory controller", None),
    (0x0600, "Host bridge", Some("host")),
    (0x0601, "ISA bridge", Some("isa")),
    (0x0602, "EISA bridge", Some("eisa")),
    (0x0603, "MC bridge", Some("mca")),
    (0x0604, "PCI bridge", Some("pci-bridge")),
    (0x0605, "PCMCIA bridge", Some("pcmcia")),
    (0x0606, "NUBUS bridge", Some("nubus")),
    (0x0607, "CARDBUS bridge", Some("cardbus")),
    (0x0608, "RACEWAY bridge", None),
    (0x0680, "Bridge", None),
    (0x0700, "Serial port", Some("serial")),
    (0x0701, "Parallel port", Some("parallel")),
    (0x0800, "Interrupt controller", Some("interrupt-controller")),
    (0x0801, "DMA controller", Some("dma-controller")),
    (0x0802, "Timer", Some("timer")),
    (0x0803, "RTC", Some("rtc")),
    (0x0900, "Keyboard", Some("keyboard")),
    (0x0901, "Pen", Some("pen")),
    (0x0902, "Mouse", Some("mouse")),
    (0x0a00, "Dock station", Some("dock")),
    (0x0b00, "i386 cpu", Some("cpu")),
    (0x0c00, "Firewire controller", Some("firewire")),
    (0x0c01, "Access bus controller", Some("access-bus")),
    (0x0c02, "SSA controller", Some("ssa")),
    (0x0c03, "USB controller", Some("usb")),
    (0x0c04, "Fibre channel controller", Some("fibre-channel")),
    (0x0c05, "SMBus", None),
];
/// Base classes of which OpenFirmware does not tell the sub-classes apart: display, docking station, processor.
const WHOLE: [u8; 3] = [0x03, 0x0a, 0x0b];

/// The name of a base class and sub-class; `None` for those without one.
pub fn class_desc(class: u16) -> Option<&'static str> {
    CLASSES.iter().find(|(code, ..)| *code == class).map(|(_, name, _)| *name)
}

/// OpenFirmware's name of a base class and sub-class; `None` for those without one.
pub(crate) fn class_fw_name(class: u16) -> Option<&'static str> {
    let [_, base] = class.to_le_bytes();
    let code = if WHOLE.contains(&base) { class & 0xff00 } else { class };
    CLASSES.iter().find(|(known, ..)| *known == code)?.2
}
