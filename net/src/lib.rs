//! Networks (net/): backends, which reach the host's networks or other machines, and what connects them to the
//! machine's network devices.
//!
//! A NIC's queue and a backend's are two [`NetClientState`]s that are each other's peers. Each sends packets with
//! [`NetClientState::send_async`] and takes the other's in [`NetClient::receive`]; what cannot be taken waits in a
//! bounded queue until [`NetClientState::flush`], and its sender pauses. Any thread may send; backends read on the
//! main loop. `-netdev` and `netdev_add` make backends, `hubport` connects more than two clients.
#![deny(unsafe_code)]

mod announce;
mod client;
mod dgram;
mod filter;
mod framing;
mod hub;
mod netdev;
mod nic;
mod queue;
mod socket;
mod stream;
mod tap;
pub mod user;
mod vhost_user;

pub use client::{
    NET_BUFSIZE, NetClient, NetClientDriver, NetClientState, Offload, Received, VhostNet, VnetHdr, clients,
    del_client, del_nic, find_netdev, find_netdev_queues, net_cleanup, new_client,
};
pub use filter::{
    Direction, FilterBuffer, FilterDump, FilterMirror, FilterRedirector, FilteredPacket, NetFilter, Verdict,
};
pub use hub::net_hub_add_port;
pub use netdev::{
    Netdev, NicRxFilterChanged, RxFilterInfo, RxState, info_network, net_check_clients, net_init_client,
    net_param_nic, netdev_help, netdev_init, netdev_is_modern, netdev_wants_help, set_link, vm_started,
};
pub use nic::{MacAddr, NicInfo, instantiate, macaddr_default_if_unset, macaddr_set_free};
