//! Registers of the type 0 configuration header (PCI Local Bus Specification 3.0, chapter 6), and the
//! configuration mechanism (section 3.2.2.3.2).

/// Size of conventional configuration space in bytes.
pub const CONFIG_SPACE_SIZE: usize = 256;

/// Vendor id, 16 bits.
pub const VENDOR_ID: usize = 0x00;
/// Device id, 16 bits.
pub const DEVICE_ID: usize = 0x02;
/// Command, 16 bits.
pub const COMMAND: usize = 0x04;
/// Status, 16 bits.
pub const STATUS: usize = 0x06;
/// Revision id.
pub const REVISION_ID: usize = 0x08;
/// Programming interface; sub-class and base class follow.
pub const CLASS_PROG: usize = 0x09;
/// Sub-class and base class, 16 bits.
pub const CLASS_DEVICE: usize = 0x0a;
/// Cache line size.
pub const CACHE_LINE_SIZE: usize = 0x0c;
/// Latency timer.
pub const LATENCY_TIMER: usize = 0x0d;
/// Header type.
pub const HEADER_TYPE: usize = 0x0e;
/// First base address register, 32 bits; six in a row.
pub const BASE_ADDRESS_0: usize = 0x10;
/// Number of base address registers.
pub const NUM_BARS: usize = 6;
/// Number of base address registers of a bridge.
pub const NUM_BARS_BRIDGE: usize = 2;
/// Subsystem vendor id, 16 bits.
pub const SUBSYSTEM_VENDOR_ID: usize = 0x2c;
/// Subsystem id, 16 bits.
pub const SUBSYSTEM_ID: usize = 0x2e;
/// Expansion ROM base address, 32 bits.
pub const ROM_ADDRESS: usize = 0x30;
/// Expansion ROM base address of a bridge, 32 bits.
pub const ROM_ADDRESS_BRIDGE: usize = 0x38;
/// Where the list of capabilities begins.
pub const CAPABILITY_LIST: usize = 0x34;
/// Interrupt line.
pub const INTERRUPT_LINE: usize = 0x3c;
/// Interrupt pin.
pub const INTERRUPT_PIN: usize = 0x3d;

/// Command: responds to I/O.
pub const COMMAND_IO: u16 = 1 << 0;
/// Command: responds to memory.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: may master the bus.
pub const COMMAND_MASTER: u16 = 1 << 2;
/// Command: special cycles.
pub const COMMAND_SPECIAL: u16 = 1 << 3;
/// Command: parity error response.
pub const COMMAND_PARITY: u16 = 1 << 6;
/// Command: SERR# enable.
pub const COMMAND_SERR: u16 = 1 << 8;
/// Command: INTx disable.
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;

/// Status: INTx is asserted.
pub const STATUS_INTERRUPT: u16 = 1 << 3;
/// Status: there is a list of capabilities.
pub const STATUS_CAP_LIST: u16 = 1 << 4;
/// Status: fast back-to-back capable.
pub const STATUS_FAST_BACK: u16 = 1 << 7;
/// Status: DEVSEL timing medium.
pub const STATUS_DEVSEL_MEDIUM: u16 = 1 << 9;
/// Status: bits that a write of one clears.
pub const STATUS_W1C: u16 = 0xf900;

/// Status: capable of 66 MHz.
pub const STATUS_66MHZ: u16 = 1 << 5;

/// Bridge: number of the bus above it (PCI-to-PCI Bridge Architecture Specification 1.1, section 3.2).
pub const PRIMARY_BUS: usize = 0x18;
/// Bridge: number of the bus below it.
pub const SECONDARY_BUS: usize = 0x19;
/// Bridge: highest number of a bus below it.
pub const SUBORDINATE_BUS: usize = 0x1a;
/// Bridge: latency timer of the bus below it.
pub const SEC_LATENCY_TIMER: usize = 0x1b;
/// Bridge: the I/O window's bits 15 to 12; its end's follow.
pub const IO_BASE: usize = 0x1c;
/// Bridge: status of the bus below it, 16 bits.
pub const SEC_STATUS: usize = 0x1e;
/// Bridge: the memory window's bits 31 to 20, 16 bits; its end's follow.
pub const MEMORY_BASE: usize = 0x20;
/// Bridge: the prefetchable window's bits 31 to 20, 16 bits; its end's follow.
pub const PREF_MEMORY_BASE: usize = 0x24;
/// Bridge: the prefetchable window's bits 63 to 32; its end's follow.
pub const PREF_BASE_UPPER32: usize = 0x28;
/// Bridge: control, 16 bits.
pub const BRIDGE_CONTROL: usize = 0x3e;
/// I/O window: the bits that are an address.
pub const IO_RANGE_MASK: u8 = 0xf0;
/// Memory windows: the bits that are an address.
pub const MEMORY_RANGE_MASK: u16 = 0xfff0;
/// Prefetchable window: has 64 bits.
pub const PREF_RANGE_64: u16 = 1 << 0;
/// Bridge control: SERR# is forwarded.
pub const BRIDGE_CTL_SERR: u16 = 1 << 1;
/// Bridge control: VGA's memory and ports are forwarded.
pub const BRIDGE_CTL_VGA: u16 = 1 << 3;
/// Bridge control: the bus below is held in reset.
pub const BRIDGE_CTL_BUS_RESET: u16 = 1 << 6;
/// Bridge control: the bits that can be set.
pub const BRIDGE_CTL_WRITABLE: u16 = 0x0bff;
/// Bridge control: a discarded request, cleared by a write of one.
pub const BRIDGE_CTL_DISCARD_STATUS: u16 = 1 << 10;

/// First byte that capabilities can lie at.
pub const CONFIG_HEADER_SIZE: usize = 0x40;
/// Capability: offset of the next one's offset, behind the id.
pub const CAP_LIST_NEXT: usize = 1;
/// Capability id: slot numbering.
pub const CAP_ID_SLOTID: u8 = 0x04;
/// Capability id: message-signalled interrupts.
pub const CAP_ID_MSI: u8 = 0x05;
/// Capability id: vendor-specific.
pub const CAP_ID_VENDOR: u8 = 0x09;
/// Capability id: standard hot-plug controller.
pub const CAP_ID_SHPC: u8 = 0x0c;
/// Capability id: MSI-X.
pub const CAP_ID_MSIX: u8 = 0x11;

/// MSI: message control, 16 bits, from the start of the capability (PCI 3.0, section 6.8.1).
pub const MSI_CONTROL: usize = 2;
/// MSI: address, 32 or 64 bits; data, masks and pending bits follow.
pub const MSI_ADDRESS: usize = 4;
/// MSI: the bits of the address that there are.
pub const MSI_ADDRESS_MASK: u32 = !3;
/// MSI message control: on.
pub const MSI_CONTROL_ENABLE: u16 = 1 << 0;
/// MSI message control: number of messages that the function can send, as a power of two.
pub const MSI_CONTROL_CAPABLE: u16 = 0x7 << MSI_CONTROL_CAPABLE_SHIFT;
/// Where these bits begin.
pub const MSI_CONTROL_CAPABLE_SHIFT: u32 = 1;
/// MSI message control: number of messages that the guest lets it send, as a power of two.
pub const MSI_CONTROL_COUNT: u16 = 0x7 << MSI_CONTROL_COUNT_SHIFT;
/// Where these bits begin.
pub const MSI_CONTROL_COUNT_SHIFT: u32 = 4;
/// MSI message control: the address has 64 bits.
pub const MSI_CONTROL_64BIT: u16 = 1 << 7;
/// MSI message control: each message has a mask and a pending bit.
pub const MSI_CONTROL_MASKS: u16 = 1 << 8;
/// MSI: most messages of a function.
pub const MSI_VECTORS_MAX: u32 = 32;

/// MSI-X: message control, 16 bits, from the start of the capability (PCI 3.0, section 6.8.2).
pub const MSIX_CONTROL: usize = 2;
/// MSI-X: offset and BAR of the table, 32 bits.
pub const MSIX_TABLE: usize = 4;
/// MSI-X: offset and BAR of the pending bits, 32 bits.
pub const MSIX_PBA: usize = 8;
/// MSI-X: size of the capability in bytes.
pub const MSIX_CAP_SIZE: usize = 12;
/// MSI-X message control: on.
pub const MSIX_CONTROL_ENABLE: u16 = 1 << 15;
/// MSI-X message control: all vectors masked.
pub const MSIX_CONTROL_FUNCTION_MASK: u16 = 1 << 14;
/// MSI-X message control: number of vectors less one.
pub const MSIX_CONTROL_TABLE_SIZE: u16 = 0x7ff;
/// MSI-X: bytes of a table entry: address, data, vector control.
pub const MSIX_ENTRY_SIZE: usize = 16;
/// MSI-X vector control: masked.
pub const MSIX_ENTRY_MASKED: u32 = 1 << 0;

/// Header type: the device has several functions.
pub const HEADER_MULTI_FUNCTION: u8 = 0x80;

/// Header type: a bridge to another bus.
pub const HEADER_BRIDGE: u8 = 1;

/// Expansion ROM: decoded.
pub const ROM_ENABLE: u32 = 1 << 0;
/// Expansion ROM: bits that are no address.
pub const ROM_FLAGS: u32 = 0x7ff;
/// BAR: I/O space.
pub const BAR_IO: u32 = 1 << 0;
/// BAR: 64 bits wide.
pub const BAR_MEM_64: u32 = 1 << 2;
/// BAR: prefetchable.
pub const BAR_PREFETCH: u32 = 1 << 3;

/// Base class and sub-class: no class.
pub const CLASS_OTHERS: u16 = 0x00ff;
/// Base class network, Ethernet.
pub const CLASS_NETWORK_ETHERNET: u16 = 0x0200;
/// Base class communication, of another kind.
pub const CLASS_COMMUNICATION_OTHER: u16 = 0x0780;
/// SCSI controller, which QEMU's virtio disks say they are.
pub const CLASS_STORAGE_SCSI: u16 = 0x0100;
/// Mass storage of another kind.
pub const CLASS_STORAGE_OTHER: u16 = 0x0180;
/// Base class and sub-class: host bridge.
pub const CLASS_BRIDGE_HOST: u16 = 0x0600;
/// Base class and sub-class: ISA bridge.
pub const CLASS_BRIDGE_ISA: u16 = 0x0601;
/// Base class and sub-class: bridge to another PCI bus.
pub const CLASS_BRIDGE_PCI: u16 = 0x0604;
/// Base class and sub-class: other bridge.
pub const CLASS_BRIDGE_OTHER: u16 = 0x0680;
/// Another base system peripheral.
pub const CLASS_SYSTEM_OTHER: u16 = 0x0880;

/// Vendor: Intel.
pub const VENDOR_ID_INTEL: u16 = 0x8086;
/// Subsystem vendor that QEMU's devices carry.
pub const SUBVENDOR_ID_QUMRANET: u16 = 0x1af4;
/// Subsystem that QEMU's devices carry.
pub const SUBDEVICE_ID_QEMU: u16 = 0x1100;
/// Red Hat's vendor id, for devices that QEMU made up.
pub const VENDOR_ID_REDHAT: u16 = 0x1b36;

/// CONFADD: configuration cycles are enabled.
pub const CONFADD_ENABLE: u32 = 1 << 31;
