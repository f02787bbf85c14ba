//! Clients of the network: NICs and backends, in pairs that send each other packets (net/net.c).
//!
//! A packet that a client cannot take yet waits in a queue of bounded size, and its sender is told when it has
//! been taken, so that it stops reading what it would send next: a slow side slows the fast one.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use memory::vm_memory::VolatileSlice;
use parking_lot::Mutex;
use qapi::QapiType;

use crate::filter::{self, Direction, FilteredPacket, NetFilter, Place, Verdict};
use crate::queue::NetQueue;

/// The longest packet, with its virtio-net header (`NET_BUFSIZE`).
pub const NET_BUFSIZE: usize = 4096 + 65536;

/// A kind of client.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetClientDriver {
    /// A network device.
    Nic,
    /// The network stack in this program.
    User,
    /// A network interface of the host.
    Tap,
    /// Another virtual machine.
    Socket,
    /// A connection.
    Stream,
    /// Datagrams.
    Dgram,
    /// A network interface of the host that a helper opens on a bridge.
    Bridge,
    /// A port of a hub.
    Hubport,
    /// Another program, which serves the device's queues.
    VhostUser,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It was taken, or dropped for good.
    Done,
    /// It cannot be taken now: it waits until [`NetClientState::flush`].
    Blocked,
}

/// Offloads that a guest has agreed to (`qemu_set_offload`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Packets may come without a checksum.
    pub csum: bool,
    /// TCP over IPv4 may come in pieces longer than a packet.
    pub tso4: bool,
    /// The same over IPv6.
    pub tso6: bool,
    /// The same with ECN.
    pub ecn: bool,
    /// UDP datagrams may come whole.
    pub ufo: bool,
}

/// What a client does (`NetClientInfo`). Called without locks.
pub trait NetClient: Send + Sync {
    /// Its kind.
    fn driver(&self) -> NetClientDriver;
    /// Whether it would take a packet on `queue`.
    fn can_receive(&self, _queue: usize) -> bool {
        true
    }
    /// Takes a packet.
    fn receive(&self, queue: usize, packet: &[u8]) -> Received;
    /// Takes a packet that lies in guest memory, in parts, if it can do so without a copy, and now. `false`: it is to
    /// come by [`receive`](Self::receive).
    fn receive_parts(&self, _queue: usize, _parts: &[VolatileSlice<'_>]) -> bool {
        false
    }
    /// Several packets are about to come at once, or have come: it may wait until then with telling others of them.
    fn batch(&self, _queue: usize, _begins: bool) {}
    /// A packet that this client sent, and that was queued, has been taken.
    fn sent(&self, _queue: usize) {}
    /// What waited for the client's peer may be taken now; for hubs, whose ports have peers of their own.
    fn flush_others(&self) -> bool {
        false
    }
    /// `set_link` changed the state of its link or its peer's, or its peer went.
    fn link_status_changed(&self) {}
    /// The client goes: closes what it has open.
    fn cleanup(&self) {}
    /// What a NIC lets through.
    fn query_rx_filter(&self) -> Option<crate::netdev::RxFilterInfo> {
        None
    }
    /// Has a NIC tell its neighbours where it is.
    fn announce(&self) {}
    /// Uses a queue of several, or not.
    ///
    /// # Errors
    /// What the host says.
    fn set_enabled(&self, _enabled: bool) -> std::io::Result<()> {
        Ok(())
    }
    /// A backend's virtio-net headers, if it can have them.
    fn vnet_hdr(&self) -> Option<&dyn VnetHdr> {
        None
    }
    /// A backend's way to have the kernel serve a NIC's queues, if the user wants that and the host has it.
    fn vhost(&self) -> Option<&dyn VhostNet> {
        None
    }
    /// The chardev of a program that serves a NIC's queues, on the first queue of a backend that is one.
    fn vhost_user(&self) -> Option<&chardev::CharFrontend> {
        None
    }
    /// A backend of another type than the one that is asked for, by downcast.
    fn user(&self) -> Option<&crate::user::UserNet> {
        None
    }
}

/// A backend whose packets can have virtio-net headers.
pub trait VnetHdr {
    /// From now on packets have headers of `len` bytes, or none.
    fn use_vnet_hdr(&self, len: Option<usize>);
    /// Whether the backend knows headers of this length.
    fn has_vnet_hdr_len(&self, len: usize) -> bool;
    /// Whether UDP datagrams may be whole.
    fn has_ufo(&self) -> bool;
    /// The guest agreed to offloads.
    fn set_offload(&self, offload: Offload);
}

/// A backend whose packets the kernel can take to and from a NIC's queues (`vhost_net`).
pub trait VhostNet {
    /// An open vhost device of the kernel's.
    fn device(&self) -> &Arc<OwnedFd>;
    /// The interface.
    fn interface(&self) -> &Arc<OwnedFd>;
    /// How many microseconds the kernel looks for more before it sleeps; 0 for its own choice.
    fn busy_us(&self) -> u32;
    /// Whether there is no other way than by the kernel.
    fn is_forced(&self) -> bool;
    /// The kernel reads the interface now, or does not any more.
    fn set_served(&self, served: bool);
}

/// A client: one queue of a NIC or a backend.
pub struct NetClientState {
    model: String,
    name: String,
    queue_index: usize,
    info: Arc<dyn NetClient>,
    peer: Mutex<Option<Arc<NetClientState>>>,
    link_down: AtomicBool,
    /// Made by `-netdev` or `netdev_add`, so that `netdev_del` may take it.
    is_netdev: AtomicBool,
    /// Packets for it.
    incoming: NetQueue,
    info_str: Mutex<String>,
    /// In the order in which they see what it sends; the objects are their users'.
    filters: Mutex<Vec<Weak<dyn NetFilter>>>,
    has_filters: AtomicBool,
    /// The bytes before each packet it sends and takes that are a virtio-net header.
    vnet_hdr_len: std::sync::atomic::AtomicUsize,
    this: Weak<NetClientState>,
}

impl fmt::Debug for NetClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetClientState").field("name", &self.name).field("queue", &self.queue_index).finish()
    }
}

static CLIENTS: Mutex<Vec<Arc<NetClientState>>> = Mutex::new(Vec::new());

/// All clients, in the order they came.
pub fn clients() -> Vec<Arc<NetClientState>> {
    CLIENTS.lock().clone()
}

/// The backend called `id` (`qemu_find_netdev`).
pub fn find_netdev(id: &str) -> Option<Arc<NetClientState>> {
    CLIENTS.lock().iter().find(|nc| nc.driver() != NetClientDriver::Nic && nc.name == id).cloned()
}

/// The backend's queues, in order.
pub fn find_netdev_queues(id: &str) -> Vec<Arc<NetClientState>> {
    let clients = CLIENTS.lock();
    clients.iter().filter(|nc| nc.driver() != NetClientDriver::Nic && nc.name == id).cloned().collect()
}

/// A name for a client without one: the model and how many there are of it.
fn assign_name(clients: &[Arc<NetClientState>], model: &str) -> String {
    format!("{model}.{}", clients.iter().filter(|nc| nc.model == model).count())
}

/// Adds a client (`qemu_new_net_client`). `make` gets what it sends its packets with.
pub fn new_client<T: NetClient + 'static>(
    model: &str,
    name: Option<&str>,
    queue_index: usize,
    peer: Option<&Arc<NetClientState>>,
    make: impl FnOnce(&Weak<NetClientState>) -> Arc<T>,
) -> (Arc<NetClientState>, Arc<T>) {
    let mut made = None;
    let nc = Arc::new_cyclic(|this: &Weak<NetClientState>| {
        let info = make(this);
        made = Some(info.clone());
        let name = name.map_or_else(|| assign_name(&CLIENTS.lock(), model), str::to_owned);
        NetClientState {
            model: model.to_owned(),
            name,
            queue_index,
            info,
            peer: Mutex::new(peer.cloned()),
            link_down: AtomicBool::new(false),
            is_netdev: AtomicBool::new(false),
            incoming: NetQueue::default(),
            info_str: Mutex::default(),
            filters: Mutex::default(),
            has_filters: AtomicBool::new(false),
            vnet_hdr_len: Default::default(),
            this: this.clone(),
        }
    });
    if let Some(peer) = peer {
        *peer.peer.lock() = Some(nc.clone());
    }
    CLIENTS.lock().push(nc.clone());
    // `make` has run: `Arc::new_cyclic` calls it.
    let Some(info) = made else { unreachable!("the client was made") };
    (nc, info)
}

/// Takes a backend away: all its queues (`qemu_del_net_client`). A NIC that it served keeps it as a peer with the
/// link down.
pub fn del_client(name: &str) {
    for nc in take_clients(|nc| nc.driver() != NetClientDriver::Nic && nc.name == name) {
        nc.filters().iter().for_each(|filter| {
            let object: &dyn qom::Object = &**filter;
            object.unparent();
        });
        nc.info.cleanup();
        nc.incoming.purge();
        let Some(peer) = nc.peer() else { continue };
        peer.incoming.purge_from(&nc);
        if peer.driver() == NetClientDriver::Nic {
            nc.link_down.store(true, Ordering::Release);
            peer.info.link_status_changed();
        } else {
            nc.unpair();
        }
    }
}

/// Takes the queues of a NIC away (`qemu_del_nic`). Its backend stays and may serve another.
pub fn del_nic(queues: &[Arc<NetClientState>]) {
    for nc in take_clients(|nc| queues.iter().any(|queue| Arc::ptr_eq(queue, nc))) {
        let peer = nc.peer();
        nc.unpair();
        nc.incoming.purge();
        if let Some(peer) = peer {
            peer.incoming.purge_from(&nc);
        }
    }
}

fn take_clients(wanted: impl Fn(&Arc<NetClientState>) -> bool) -> Vec<Arc<NetClientState>> {
    let mut clients = CLIENTS.lock();
    let (taken, left) = clients.drain(..).partition(|nc| wanted(nc));
    *clients = left;
    taken
}

/// Takes all clients away, at the program's end (`net_cleanup`).
pub fn net_cleanup() {
    for nc in take_clients(|_| true) {
        if nc.driver() != NetClientDriver::Nic {
            nc.info.cleanup();
        }
        nc.unpair();
        nc.incoming.purge();
    }
}

impl NetClientState {
    /// Its kind.
    pub fn driver(&self) -> NetClientDriver {
        self.info.driver()
    }

    /// The kind by a finer name: a NIC's model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Its id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which of the queues of a NIC or backend it is.
    pub fn queue_index(&self) -> usize {
        self.queue_index
    }

    /// What it does.
    pub fn info(&self) -> &Arc<dyn NetClient> {
        &self.info
    }

    /// Who gets its packets.
    pub fn peer(&self) -> Option<Arc<NetClientState>> {
        self.peer.lock().clone()
    }

    fn unpair(&self) {
        if let Some(peer) = self.peer.lock().take() {
            peer.peer.lock().take();
        }
    }

    /// Whether its link is down.
    pub fn link_down(&self) -> bool {
        self.link_down.load(Ordering::Acquire)
    }

    /// Takes its link down or up.
    pub fn set_link_down(&self, down: bool) {
        self.link_down.store(down, Ordering::Release);
    }

    /// Whether `netdev_del` may take it.
    pub fn is_netdev(&self) -> bool {
        self.is_netdev.load(Ordering::Relaxed)
    }

    pub(crate) fn set_is_netdev(&self) {
        self.is_netdev.store(true, Ordering::Relaxed);
    }

    /// What `info network` tells of it.
    pub fn info_str(&self) -> String {
        self.info_str.lock().clone()
    }

    /// Sets what `info network` tells of it.
    pub fn set_info_str(&self, text: impl Into<String>) {
        *self.info_str.lock() = text.into();
    }

    /// Says of how many bytes the virtio-net headers are that its packets begin with.
    pub fn set_vnet_hdr_len(&self, len: usize) {
        self.vnet_hdr_len.store(len, Ordering::Relaxed);
    }

    /// Its filters, in the order in which they see what it sends.
    pub fn filters(&self) -> Vec<Arc<dyn NetFilter>> {
        self.filters_after(Direction::Tx, None)
    }

    /// The filters that see a packet after `last` has, or all, in order.
    fn filters_after(&self, direction: Direction, last: Option<&dyn NetFilter>) -> Vec<Arc<dyn NetFilter>> {
        let filters = self.filters.lock();
        let at =
            last.and_then(|last| filters.iter().position(|other| std::ptr::addr_eq(other.as_ptr(), last)));
        let (before, behind) = match at {
            Some(at) => (filters.get(..at), filters.get(at + 1..)),
            None => (Some(filters.as_slice()), Some(filters.as_slice())),
        };
        match direction {
            Direction::Tx => behind.into_iter().flatten().filter_map(Weak::upgrade).collect(),
            Direction::Rx => before.into_iter().flatten().rev().filter_map(Weak::upgrade).collect(),
        }
    }

    pub(crate) fn add_filter(&self, filter: &Arc<dyn NetFilter>, place: &Place) {
        let mut filters = self.filters.lock();
        let position = |wanted: &Arc<dyn qom::Object>| {
            filters.iter().position(|other| std::ptr::addr_eq(other.as_ptr(), Arc::as_ptr(wanted)))
        };
        let at = match place {
            Place::Head => Some(0),
            Place::Tail => None,
            Place::Before(other) => position(other),
            Place::Behind(other) => position(other).map(|at| at + 1),
        };
        let at = at.unwrap_or(filters.len());
        filters.insert(at, Arc::downgrade(filter));
        self.has_filters.store(true, Ordering::Release);
    }

    /// Forgets the filters that are gone.
    pub(crate) fn forget_filters(&self) {
        let mut filters = self.filters.lock();
        filters.retain(|filter| filter.strong_count() > 0);
        self.has_filters.store(!filters.is_empty(), Ordering::Release);
    }

    /// Shows a packet to the filters behind `last`, or to all. `false`: one of them took it.
    fn filter(&self, direction: Direction, last: Option<&dyn NetFilter>, packet: FilteredPacket<'_>) -> bool {
        let filters = self.filters_after(direction, last);
        filters.iter().all(|filter| {
            let object: &dyn qom::Object = &**filter;
            let wants = object.cast::<filter::NetFilterState>().is_some_and(|base| base.wants(direction));
            !wants || filter.receive(direction, packet) == Verdict::Pass
        })
    }

    /// Sends on a packet that `filter` held or made: to the filters behind it, then to the receiver
    /// (`qemu_netfilter_pass_to_next`).
    pub(crate) fn pass_on(&self, filter: &dyn NetFilter, direction: Direction, bytes: &[u8]) {
        let (Some(this), Some(peer)) = (self.this.upgrade(), self.peer()) else { return };
        let (sender, receiver) = match direction {
            Direction::Tx => (this, peer),
            Direction::Rx => (peer, this),
        };
        let vnet_hdr_len = sender.vnet_hdr_len.load(Ordering::Relaxed);
        if self.filter(direction, Some(filter), FilteredPacket { bytes, vnet_hdr_len }) {
            receiver.incoming.send(&receiver, &sender.this, bytes, false);
        }
    }

    /// Whether a packet that it sends would be taken at once (`qemu_can_send_packet`).
    pub fn can_send(&self) -> bool {
        self.peer().is_none_or(|peer| peer.can_receive())
    }

    pub(crate) fn can_receive(&self) -> bool {
        self.link_down() || self.info.can_receive(self.queue_index)
    }

    /// Sends a packet that has no virtio-net header, whatever the peer expects (`qemu_send_packet_raw`).
    pub fn send_raw(&self, packet: &[u8]) {
        let header = self.vnet_hdr_len.load(Ordering::Relaxed);
        let mut whole = vec![0; header];
        whole.extend_from_slice(packet);
        self.send(&whole);
    }

    /// Sends a packet; it is lost where the peer cannot take it and too much waits already (`qemu_send_packet`).
    pub fn send(&self, packet: &[u8]) {
        self.send_to_peer(packet, false);
    }

    /// Sends a packet. `false`: it waits for the peer, and the sender must send no more until
    /// [`NetClient::sent`] is called (`qemu_send_packet_async`).
    pub fn send_async(&self, packet: &[u8]) -> bool {
        self.send_to_peer(packet, true)
    }

    /// Sends a packet that lies in guest memory, in parts. `false`: this does not work here or now, and it is to be sent
    /// as one piece.
    pub fn send_parts(&self, parts: &[VolatileSlice<'_>]) -> bool {
        let Some(peer) = self.peer() else { return false };
        let filters = [self, &*peer].iter().any(|nc| nc.has_filters.load(Ordering::Acquire));
        !filters && !self.link_down() && !peer.link_down() && peer.incoming.send_parts(&peer, parts)
    }

    /// Has `send` send packets of which the peer may tell others when all have come.
    pub(crate) fn batch<T>(&self, send: impl FnOnce() -> T) -> T {
        let peer = self.peer();
        let tell = |begins| peer.iter().for_each(|peer| peer.info.batch(peer.queue_index, begins));
        tell(true);
        let result = send();
        tell(false);
        result
    }

    fn send_to_peer(&self, packet: &[u8], tell: bool) -> bool {
        if packet.len() > NET_BUFSIZE || self.link_down() {
            return true;
        }
        let Some(peer) = self.peer() else { return true };
        let seen = FilteredPacket { bytes: packet, vnet_hdr_len: self.vnet_hdr_len.load(Ordering::Relaxed) };
        if self.has_filters.load(Ordering::Acquire) && !self.filter(Direction::Tx, None, seen)
            || peer.has_filters.load(Ordering::Acquire) && !peer.filter(Direction::Rx, None, seen)
        {
            return true;
        }
        peer.incoming.send(&peer, &self.this, packet, tell)
    }

    pub(crate) fn deliver(&self, packet: &[u8]) -> Received {
        if self.link_down() {
            return Received::Done;
        }
        self.info.receive(self.queue_index, packet)
    }

    pub(crate) fn tell_sent(&self) {
        self.info.sent(self.queue_index);
    }

    /// Takes what waits for it, now that it can (`qemu_flush_queued_packets`).
    pub fn flush(&self) {
        let Some(this) = self.this.upgrade() else { return };
        if let Some(peer) = self.peer() {
            peer.info.flush_others();
        }
        self.incoming.flush(&this);
    }

    pub(crate) fn flush_incoming(&self) -> bool {
        self.this.upgrade().is_some_and(|this| self.incoming.flush(&this))
    }

    /// Drops what it sent and its peer has not taken (`qemu_purge_queued_packets`).
    pub fn purge_sent(&self) {
        if let (Some(this), Some(peer)) = (self.this.upgrade(), self.peer()) {
            peer.incoming.purge_from(&this);
        }
    }

    /// Drops what waits for it: it will understand it no more.
    pub fn purge_received(&self) {
        self.incoming.purge();
    }

    /// As `info network` shows it.
    pub fn describe(&self) -> String {
        let (name, index, info) = (&self.name, self.queue_index, self.info_str());
        let mut text = format!("{name}: index={index},type={},{info}\n", self.driver().as_str());
        let filters = self.filters();
        if !filters.is_empty() {
            text.push_str("filters:\n");
        }
        filters.iter().for_each(|one| text.push_str(&format!("  - {}\n", filter::describe(&**one))));
        text
    }
}
