//! What bits of features and of the status are called, with a word about each, highest first in each part
//! (virtio 1.2, 2.1, 5 and 6).

use crate::spec::id;

/// A bit's number and what it is called.
pub(super) type Name = (u32, &'static str);

/// The device status, in the order that is told.
pub(super) const STATUS: &[Name] = &[
    (0, "VIRTIO_CONFIG_S_ACKNOWLEDGE: the guest has found the device"),
    (7, "VIRTIO_CONFIG_S_FAILED: the guest has given up"),
    (6, "VIRTIO_CONFIG_S_NEEDS_RESET: broken until it is reset"),
    (1, "VIRTIO_CONFIG_S_DRIVER: the guest has a driver"),
    (3, "VIRTIO_CONFIG_S_FEATURES_OK: features are agreed on"),
    (2, "VIRTIO_CONFIG_S_DRIVER_OK: the driver drives the device"),
];

/// Features of rings and transports.
pub(super) const TRANSPORT: &[Name] = &[
    (40, "VIRTIO_F_RING_RESET: single queues can be reset"),
    (37, "VIRTIO_F_SR_IOV: single root I/O virtualization"),
    (36, "VIRTIO_F_ORDER_PLATFORM: memory accesses in the platform's order"),
    (35, "VIRTIO_F_IN_ORDER: buffers are used in the order they come in"),
    (34, "VIRTIO_F_RING_PACKED: packed rings"),
    (33, "VIRTIO_F_IOMMU_PLATFORM: addresses are the platform's"),
    (32, "VIRTIO_F_VERSION_1: version 1 of the specification"),
    (29, "VIRTIO_RING_F_EVENT_IDX: either side says when it wants to hear"),
    (28, "VIRTIO_RING_F_INDIRECT_DESC: tables of descriptors"),
    (27, "VIRTIO_F_ANY_LAYOUT: headers lie as the driver likes"),
    (24, "VIRTIO_F_NOTIFY_ON_EMPTY: interrupts when a ring is empty"),
];

const NET: &[Name] = &[
    (63, "VIRTIO_NET_F_SPEED_DUPLEX: speed and duplex are told"),
    (62, "VIRTIO_NET_F_STANDBY: stands in for another device"),
    (61, "VIRTIO_NET_F_RSC_EXT: tells what was coalesced"),
    (60, "VIRTIO_NET_F_RSS: steers received packets by a hash"),
    (57, "VIRTIO_NET_F_HASH_REPORT: tells packets' hashes"),
    (23, "VIRTIO_NET_F_CTRL_MAC_ADDR: the driver sets the MAC address"),
    (22, "VIRTIO_NET_F_MQ: several pairs of queues"),
    (21, "VIRTIO_NET_F_GUEST_ANNOUNCE: the driver announces the guest"),
    (20, "VIRTIO_NET_F_CTRL_RX_EXTRA: more modes of receiving"),
    (19, "VIRTIO_NET_F_CTRL_VLAN: filters VLANs"),
    (18, "VIRTIO_NET_F_CTRL_RX: modes of receiving"),
    (17, "VIRTIO_NET_F_CTRL_VQ: a control queue"),
    (16, "VIRTIO_NET_F_STATUS: the link's status"),
    (15, "VIRTIO_NET_F_MRG_RXBUF: packets in several buffers"),
    (14, "VIRTIO_NET_F_HOST_UFO: takes UFO"),
    (13, "VIRTIO_NET_F_HOST_ECN: takes TSO with ECN"),
    (12, "VIRTIO_NET_F_HOST_TSO6: takes TSOv6"),
    (11, "VIRTIO_NET_F_HOST_TSO4: takes TSOv4"),
    (10, "VIRTIO_NET_F_GUEST_UFO: the driver takes UFO"),
    (9, "VIRTIO_NET_F_GUEST_ECN: the driver takes TSO with ECN"),
    (8, "VIRTIO_NET_F_GUEST_TSO6: the driver takes TSOv6"),
    (7, "VIRTIO_NET_F_GUEST_TSO4: the driver takes TSOv4"),
    (6, "VIRTIO_NET_F_GSO: takes segments of any kind"),
    (5, "VIRTIO_NET_F_MAC: has a MAC address"),
    (3, "VIRTIO_NET_F_MTU: tells the greatest MTU"),
    (2, "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS: offloads change while it runs"),
    (1, "VIRTIO_NET_F_GUEST_CSUM: the driver takes partial checksums"),
    (0, "VIRTIO_NET_F_CSUM: takes partial checksums"),
];

const BLOCK: &[Name] = &[
    (14, "VIRTIO_BLK_F_WRITE_ZEROES: zeroes ranges"),
    (13, "VIRTIO_BLK_F_DISCARD: discards ranges"),
    (12, "VIRTIO_BLK_F_MQ: several queues"),
    (11, "VIRTIO_BLK_F_CONFIG_WCE: the driver switches the write cache"),
    (10, "VIRTIO_BLK_F_TOPOLOGY: sizes of physical blocks"),
    (9, "VIRTIO_BLK_F_FLUSH: flushes the write cache"),
    (7, "VIRTIO_BLK_F_SCSI: SCSI commands"),
    (6, "VIRTIO_BLK_F_BLK_SIZE: the size of a block"),
    (5, "VIRTIO_BLK_F_RO: can only be read"),
    (4, "VIRTIO_BLK_F_GEOMETRY: cylinders, heads and sectors"),
    (2, "VIRTIO_BLK_F_SEG_MAX: the most segments of a request"),
    (1, "VIRTIO_BLK_F_SIZE_MAX: the greatest segment"),
    (0, "VIRTIO_BLK_F_BARRIER: barriers"),
];

const CONSOLE: &[Name] = &[
    (2, "VIRTIO_CONSOLE_F_EMERG_WRITE: output before there are queues"),
    (1, "VIRTIO_CONSOLE_F_MULTIPORT: several ports"),
    (0, "VIRTIO_CONSOLE_F_SIZE: the console's size"),
];

const BALLOON: &[Name] = &[
    (5, "VIRTIO_BALLOON_F_REPORTING: the driver reports free pages"),
    (4, "VIRTIO_BALLOON_F_PAGE_POISON: the driver fills free pages"),
    (3, "VIRTIO_BALLOON_F_FREE_PAGE_HINT: hints about free pages"),
    (2, "VIRTIO_BALLOON_F_DEFLATE_ON_OOM: deflates when memory runs out"),
    (1, "VIRTIO_BALLOON_F_STATS_VQ: statistics"),
    (0, "VIRTIO_BALLOON_F_MUST_TELL_HOST: the driver tells before it takes pages back"),
];

const SCSI: &[Name] = &[
    (3, "VIRTIO_SCSI_F_T10_PI: T10 protection information"),
    (2, "VIRTIO_SCSI_F_CHANGE: tells changes of units"),
    (1, "VIRTIO_SCSI_F_HOTPLUG: tells of units that come and go"),
    (0, "VIRTIO_SCSI_F_INOUT: requests with data both ways"),
];

const P9: &[Name] = &[(0, "VIRTIO_9P_MOUNT_TAG: has a tag to be mounted by")];

/// The features of a kind of device.
pub(super) fn device(device_id: u16) -> &'static [Name] {
    match device_id {
        id::NET => NET,
        id::BLOCK => BLOCK,
        id::CONSOLE => CONSOLE,
        id::BALLOON => BALLOON,
        id::SCSI => SCSI,
        id::P9 => P9,
        _ => &[],
    }
}
