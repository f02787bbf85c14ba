//! Numbers of the network device (virtio 1.2, section 5.1).

/// Feature bits (section 5.1.3), as masks.
pub mod feature {
    pub const CSUM: u64 = 1 << 0;
    pub const GUEST_CSUM: u64 = 1 << 1;
    pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    /// Legacy drivers' name for all of segmentation offload.
    pub const GSO: u64 = 1 << 6;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const GUEST_TSO6: u64 = 1 << 8;
    pub const GUEST_ECN: u64 = 1 << 9;
    pub const GUEST_UFO: u64 = 1 << 10;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const HOST_ECN: u64 = 1 << 13;
    pub const HOST_UFO: u64 = 1 << 14;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
    pub const CTRL_VQ: u64 = 1 << 17;
    pub const CTRL_RX: u64 = 1 << 18;
    pub const CTRL_VLAN: u64 = 1 << 19;
    pub const CTRL_RX_EXTRA: u64 = 1 << 20;
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    pub const MQ: u64 = 1 << 22;
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;
    pub const SPEED_DUPLEX: u64 = 1 << 63;

    /// What a guest may switch while it runs.
    pub const GUEST_OFFLOADS: u64 = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | GUEST_UFO;
    /// What takes a backend whose packets have headers.
    pub const NEEDS_HEADER: u64 =
        CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN;
}

/// Offsets in the configuration (section 5.1.4).
pub mod config {
    pub const MAC: usize = 0;
    pub const STATUS: usize = 6;
    pub const MAX_PAIRS: usize = 8;
    pub const MTU: usize = 10;
    pub const SPEED: usize = 12;
    pub const DUPLEX: usize = 16;
}

/// Status: the link is up.
pub const S_LINK_UP: u16 = 1;
/// Status: the driver is to tell its neighbours where it is.
pub const S_ANNOUNCE: u16 = 2;

/// The header of a packet (section 5.1.6) without and with the number of buffers.
pub const HDR_LEN: usize = 10;
pub const HDR_MRG_LEN: usize = 12;
/// Where the number of buffers is.
pub const HDR_NUM_BUFFERS: u64 = 10;

/// Commands of the control queue (section 5.1.6.5): classes, and what each has.
pub mod ctrl {
    pub const OK: u8 = 0;
    pub const ERR: u8 = 1;

    pub const RX: u8 = 0;
    pub const RX_PROMISC: u8 = 0;
    pub const RX_ALLMULTI: u8 = 1;
    pub const RX_ALLUNI: u8 = 2;
    pub const RX_NOMULTI: u8 = 3;
    pub const RX_NOUNI: u8 = 4;
    pub const RX_NOBCAST: u8 = 5;

    pub const MAC: u8 = 1;
    pub const MAC_TABLE_SET: u8 = 0;
    pub const MAC_ADDR_SET: u8 = 1;

    pub const VLAN: u8 = 2;
    pub const VLAN_ADD: u8 = 0;
    pub const VLAN_DEL: u8 = 1;

    pub const ANNOUNCE: u8 = 3;
    pub const ANNOUNCE_ACK: u8 = 0;

    pub const MQ: u8 = 4;
    pub const MQ_VQ_PAIRS_SET: u8 = 0;

    pub const GUEST_OFFLOADS: u8 = 5;
    pub const GUEST_OFFLOADS_SET: u8 = 0;

    /// The longest command that is of any use; one that is longer is wrong.
    pub const MAX: u64 = 1 << 16;
}

/// Entries of the control queue.
pub const CTRL_QUEUE_SIZE: u16 = 64;
/// Addresses of unicast and multicast together that the filter keeps.
pub const MAC_TABLE_ENTRIES: usize = 64;
/// VLANs there are.
pub const MAX_VLAN: u16 = 1 << 12;
