//! Numbers of the virtio specification, version 1.2, and its PCI transport (section 4.1).

use bitflags::bitflags;

bitflags! {
    /// Device status (section 2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u8 {
        /// The driver has noticed the device.
        const ACKNOWLEDGE = 1;
        /// It knows how to drive it.
        const DRIVER = 2;
        /// It drives it.
        const DRIVER_OK = 4;
        /// Features are agreed on.
        const FEATURES_OK = 8;
        /// The device is broken until it is reset.
        const NEEDS_RESET = 0x40;
        /// The driver has given up.
        const FAILED = 0x80;
        // A driver may set any bit.
        const _ = !0;
    }
}

/// Interrupt status: a queue has used buffers (section 4.1.4.5).
pub const ISR_QUEUE: u8 = 1;
/// Interrupt status: the configuration changed.
pub const ISR_CONFIG: u8 = 2;

/// The vector that is none.
pub const NO_VECTOR: u16 = 0xffff;
/// More queues no device has (QEMU's `VIRTIO_QUEUE_MAX`).
pub const QUEUE_MAX: u16 = 1024;
/// More buffers no ring and no chain has (QEMU's `VIRTQUEUE_MAX_SIZE`).
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// Device ids (section 5).
pub mod id {
    /// Network card.
    pub const NET: u16 = 1;
    /// Block device.
    pub const BLOCK: u16 = 2;
    /// Console.
    pub const CONSOLE: u16 = 3;
    /// Entropy source.
    pub const RNG: u16 = 4;
    /// Memory balloon.
    pub const BALLOON: u16 = 5;
    /// SCSI host.
    pub const SCSI: u16 = 8;
    /// 9P transport.
    pub const P9: u16 = 9;
    /// Input device.
    pub const INPUT: u16 = 18;
    /// Socket device.
    pub const VSOCK: u16 = 19;
    /// File system.
    pub const FS: u16 = 26;
}

/// Feature bits that are not a device's own (section 6), as masks.
pub mod feature {
    /// A legacy device notifies when a ring is empty, whatever was asked for (section 6.3).
    pub const NOTIFY_ON_EMPTY: u64 = 1 << 24;
    /// A legacy device takes any layout of its headers.
    pub const ANY_LAYOUT: u64 = 1 << 27;
    /// Descriptors can name tables of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Both sides say which buffer they want to hear of next.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// What no driver should accept; one that does accepts everything without a look.
    pub const BAD_FEATURE: u64 = 1 << 30;
    /// The device follows version 1 of the specification.
    pub const VERSION_1: u64 = 1 << 32;
    /// The device reaches memory by addresses of its platform's.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    /// Packed rings.
    pub const RING_PACKED: u64 = 1 << 34;
    /// Single queues can be reset.
    pub const RING_RESET: u64 = 1 << 40;
}

/// The PCI transport.
pub mod pci {
    /// Vendor of all virtio devices.
    pub const VENDOR_ID: u16 = 0x1af4;
    /// The device id of a device that is not transitional, less its virtio id.
    pub const MODERN_DEVICE_ID: u16 = 0x1040;
    /// PCI device ids of transitional devices (section 4.1.2.1).
    pub const DEVICE_ID_NET: u16 = 0x1000;
    /// Block device.
    pub const DEVICE_ID_BLOCK: u16 = 0x1001;
    /// Memory balloon.
    pub const DEVICE_ID_BALLOON: u16 = 0x1002;
    /// Console.
    pub const DEVICE_ID_CONSOLE: u16 = 0x1003;
    /// SCSI host.
    pub const DEVICE_ID_SCSI: u16 = 0x1004;
    /// Entropy source.
    pub const DEVICE_ID_RNG: u16 = 0x1005;
    /// 9P transport.
    pub const DEVICE_ID_P9: u16 = 0x1009;
    /// Socket device.
    pub const DEVICE_ID_VSOCK: u16 = 0x1012;

    /// Capability types (section 4.1.4).
    pub const CAP_COMMON: u8 = 1;
    /// Notification area.
    pub const CAP_NOTIFY: u8 = 2;
    /// Interrupt status.
    pub const CAP_ISR: u8 = 3;
    /// The device's own configuration.
    pub const CAP_DEVICE: u8 = 4;
    /// Access through configuration space.
    pub const CAP_PCI: u8 = 5;

    /// Bytes of a capability; offsets in it follow.
    pub const CAP_SIZE: usize = 16;
    /// Bytes of the notification capability, which has a multiplier.
    pub const NOTIFY_CAP_SIZE: usize = 20;
    /// Bytes of the capability for access through configuration space, which has data.
    pub const PCI_CAP_SIZE: usize = 20;
    /// Length of the capability.
    pub const CAP_LEN: usize = 2;
    /// Base address register.
    pub const CAP_BAR: usize = 4;
    /// Offset in what it decodes, 32 bits.
    pub const CAP_OFFSET: usize = 8;
    /// Length there, 32 bits.
    pub const CAP_LENGTH: usize = 12;
    /// What follows: multiplier or data, 32 bits.
    pub const CAP_EXTRA: usize = 16;

    /// Offsets in the common configuration (section 4.1.4.3).
    pub mod common {
        #![allow(missing_docs)]
        pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
        pub const DEVICE_FEATURE: u64 = 0x04;
        pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
        pub const DRIVER_FEATURE: u64 = 0x0c;
        pub const CONFIG_MSIX_VECTOR: u64 = 0x10;
        pub const NUM_QUEUES: u64 = 0x12;
        pub const DEVICE_STATUS: u64 = 0x14;
        pub const CONFIG_GENERATION: u64 = 0x15;
        pub const QUEUE_SELECT: u64 = 0x16;
        pub const QUEUE_SIZE: u64 = 0x18;
        pub const QUEUE_MSIX_VECTOR: u64 = 0x1a;
        pub const QUEUE_ENABLE: u64 = 0x1c;
        pub const QUEUE_NOTIFY_OFF: u64 = 0x1e;
        pub const QUEUE_DESC_LOW: u64 = 0x20;
        pub const QUEUE_DESC_HIGH: u64 = 0x24;
        pub const QUEUE_DRIVER_LOW: u64 = 0x28;
        pub const QUEUE_DRIVER_HIGH: u64 = 0x2c;
        pub const QUEUE_DEVICE_LOW: u64 = 0x30;
        pub const QUEUE_DEVICE_HIGH: u64 = 0x34;
        pub const QUEUE_RESET: u64 = 0x3a;
    }

    /// Offsets of the legacy interface's registers (section 4.1.4.10).
    pub mod legacy {
        #![allow(missing_docs)]
        pub const DEVICE_FEATURES: u64 = 0;
        pub const DRIVER_FEATURES: u64 = 4;
        pub const QUEUE_ADDRESS: u64 = 8;
        pub const QUEUE_SIZE: u64 = 12;
        pub const QUEUE_SELECT: u64 = 14;
        pub const QUEUE_NOTIFY: u64 = 16;
        pub const DEVICE_STATUS: u64 = 18;
        pub const ISR_STATUS: u64 = 19;
        /// Only while MSI-X is enabled; the device's configuration begins here otherwise.
        pub const CONFIG_MSIX_VECTOR: u64 = 20;
        pub const QUEUE_MSIX_VECTOR: u64 = 22;
        /// Where the device's configuration begins without and with MSI-X.
        pub const CONFIG: u64 = 20;
        pub const CONFIG_MSIX: u64 = 24;
        /// Rings lie at multiples of this, and their used part, too.
        pub const PAGE: u64 = 4096;
    }
}
