//! `virtio-net` (virtio 1.2, section 5.1; QEMU `hw/net/virtio-net.c`).
//!
//! A device has pairs of queues, each with a client of the network (`pair`), and a control queue (`control`).
//! Packets have the header that the driver agreed to towards the guest; towards the backend they have one only where
//! it can have one (TAP), and what takes a header is offered only then.

mod control;
mod filter;
mod nic;
mod pair;
mod spec;
mod state;
mod vhost;
mod vhost_user;

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use hw_core::boot_order::add_bootindex_property;
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, MacProperty, NetdevProperty, vmstate};
use hw_pci::spec::CLASS_NETWORK_ETHERNET;
use hw_virtio::pci::{VECTORS_UNSPECIFIED, Variants, VirtIOPciProxy, VirtioPciType};
use hw_virtio::spec::{QUEUE_MAX, QUEUE_SIZE_MAX, Status, id, pci::DEVICE_ID_NET};
use hw_virtio::{VirtIODevice, VirtQueue, VirtioDeviceClass, VirtioDeviceImpl};
use net::{MacAddr, NetClientState, Offload, del_nic, macaddr_default_if_unset, macaddr_set_free};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, bail};
use util::event_loop::EventLoop;

use filter::RxFilter;
use nic::Nic;
use pair::Pair;
use spec::{CTRL_QUEUE_SIZE, HDR_LEN, HDR_MRG_LEN, S_ANNOUNCE, S_LINK_UP, config, feature};
use vhost::Vhost;

/// The driver said how large its ring is to be at most, whoever says nothing.
const QUEUE_DEFAULT_SIZE: u16 = 256;
const QUEUE_MIN_SIZE: u16 = 256;
/// Nanoseconds that `tx=timer` waits for more packets.
const TX_TIMER_INTERVAL: u32 = 150_000;
/// Packets sent at one go.
const TX_BURST: i32 = 256;
const SPEED_UNKNOWN: i32 = -1;
const DUPLEX_HALF: u8 = 0;
const DUPLEX_FULL: u8 = 1;
const DUPLEX_UNKNOWN: u8 = 0xff;

/// The device.
#[derive(Object)]
#[object(name = "virtio-net-device", parent = VirtIODevice, class_init = class_init)]
pub struct VirtIONet {
    parent: VirtIODevice,
    /// on/off
    #[property(default = true)]
    csum: Property<bool>,
    /// on/off
    #[property(name = "guest_csum", default = true)]
    guest_csum: Property<bool>,
    /// on/off
    #[property(default = true)]
    gso: Property<bool>,
    /// on/off
    #[property(name = "guest_tso4", default = true)]
    guest_tso4: Property<bool>,
    /// on/off
    #[property(name = "guest_tso6", default = true)]
    guest_tso6: Property<bool>,
    /// on/off
    #[property(name = "guest_ecn", default = true)]
    guest_ecn: Property<bool>,
    /// on/off
    #[property(name = "guest_ufo", default = true)]
    guest_ufo: Property<bool>,
    /// on/off
    #[property(name = "guest_announce", default = true)]
    guest_announce: Property<bool>,
    /// on/off
    #[property(name = "host_tso4", default = true)]
    host_tso4: Property<bool>,
    /// on/off
    #[property(name = "host_tso6", default = true)]
    host_tso6: Property<bool>,
    /// on/off
    #[property(name = "host_ecn", default = true)]
    host_ecn: Property<bool>,
    /// on/off
    #[property(name = "host_ufo", default = true)]
    host_ufo: Property<bool>,
    /// on/off
    #[property(name = "mrg_rxbuf", default = true)]
    mrg_rxbuf: Property<bool>,
    /// on/off
    #[property(default = true)]
    status: Property<bool>,
    /// on/off
    #[property(name = "ctrl_vq", default = true)]
    ctrl_vq: Property<bool>,
    /// on/off
    #[property(name = "ctrl_rx", default = true)]
    ctrl_rx: Property<bool>,
    /// on/off
    #[property(name = "ctrl_vlan", default = true)]
    ctrl_vlan: Property<bool>,
    /// on/off
    #[property(name = "ctrl_rx_extra", default = true)]
    ctrl_rx_extra: Property<bool>,
    /// on/off
    #[property(name = "ctrl_mac_addr", default = true)]
    ctrl_mac_addr: Property<bool>,
    /// on/off
    #[property(name = "ctrl_guest_offloads", default = true)]
    ctrl_guest_offloads: Property<bool>,
    /// on/off
    #[property]
    mq: Property<bool>,
    /// on/off
    #[property]
    rss: Property<bool>,
    /// on/off
    #[property]
    hash: Property<bool>,
    /// on/off
    #[property(name = "guest_rsc_ext")]
    guest_rsc_ext: Property<bool>,
    #[property(name = "rsc_interval", default = 300_000)]
    rsc_interval: Property<u32>,
    /// Ethernet 6-byte MAC Address, example: 52:54:00:12:34:56
    #[property]
    mac: Property<MacProperty>,
    /// ID of a netdev to use as a backend
    #[property]
    netdev: Property<NetdevProperty>,
    #[property(name = "x-txtimer", default = TX_TIMER_INTERVAL)]
    tx_timer: Property<u32>,
    #[property(name = "x-txburst", default = TX_BURST)]
    tx_burst: Property<i32>,
    #[property]
    tx: Property<Option<String>>,
    #[property(name = "rx_queue_size", default = QUEUE_DEFAULT_SIZE)]
    rx_queue_size: Property<u16>,
    #[property(name = "tx_queue_size", default = QUEUE_DEFAULT_SIZE)]
    tx_queue_size: Property<u16>,
    #[property(name = "host_mtu")]
    host_mtu: Property<u16>,
    #[property(name = "x-mtu-bypass-backend", default = true)]
    mtu_bypass: Property<bool>,
    #[property(default = SPEED_UNKNOWN)]
    speed: Property<i32>,
    #[property]
    duplex: Property<Option<String>>,
    #[property]
    failover: Property<bool>,
    /// The id and the type under which the network knows the device.
    name: OnceLock<(Option<String>, String)>,
    pairs: OnceLock<Vec<Arc<Pair>>>,
    clients: OnceLock<Vec<Arc<NetClientState>>>,
    control: OnceLock<Arc<VirtQueue>>,
    /// What serves the queues with `vhost=on`, or over a backend `vhost-user`.
    vhost: OnceLock<Vhost>,
    filter: Mutex<RxFilter>,
    /// The link, and whether to announce.
    net_status: AtomicU32,
    /// Pairs that the driver uses.
    current_pairs: AtomicUsize,
    /// The bytes of packets' headers towards the guest and the backend.
    guest_header: AtomicUsize,
    host_header: AtomicUsize,
    /// Offloads that the guest takes now.
    offloads: AtomicU64,
    /// Nobody has asked for the filter since it was told that it changed.
    filter_told: std::sync::atomic::AtomicBool,
}
qom::type_init!(VirtIONet);
qom::type_init!(fn register_pci);

impl Default for RxFilter {
    fn default() -> Self {
        RxFilter::new(MacAddr::default())
    }
}

fn class_init(class: &mut Class) {
    add_bootindex_property(class, "/ethernet-phy@0");
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Network);
    class.get_mut::<VirtioDeviceClass>().legacy_features = feature::GSO;
    vmstate::register::<VirtIONet>(class);
}

fn register_pci() {
    VirtioPciType {
        name: "virtio-net-pci",
        backend: "virtio-net-device",
        device_id: DEVICE_ID_NET,
        class_id: CLASS_NETWORK_ETHERNET,
        category: DeviceCategory::Network,
        variants: Variants::All,
        ioeventfd: Some(true),
        vectors: Some(VECTORS_UNSPECIFIED),
        has_class: false,
        // Two for each pair, one for the configuration and one for the control queue.
        default_vectors: |device| 2 * device.cast::<VirtIONet>().map_or(1, |net| net.max_pairs() as u32) + 2,
        prepare: Some(name_after_proxy),
    }
    .register();
}

fn name_after_proxy(proxy: &VirtIOPciProxy, device: &Arc<dyn Object>) -> Result<()> {
    if let Some(net) = device.cast::<VirtIONet>() {
        let id = proxy.id().map(str::to_owned);
        let _ = net.name.set((id, proxy.class().name().to_owned()));
    }
    Ok(())
}

impl VirtIONet {
    /// Pairs that the backend has queues for.
    fn max_pairs(&self) -> usize {
        self.netdev.get().queues().len().max(1)
    }

    fn pair(&self, n: usize) -> Option<&Arc<Pair>> {
        self.pairs.get()?.get(n)
    }

    fn client(&self, n: usize) -> Option<&Arc<NetClientState>> {
        self.clients.get()?.get(n)
    }

    fn clients(&self) -> &[Arc<NetClientState>] {
        self.clients.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether packets for queue pair `n` can be taken at all.
    fn can_receive(&self, n: usize) -> bool {
        self.is_running()
            && !self.is_served()
            && n < self.current_pairs.load(Ordering::Acquire)
            && self.pair(n).is_some_and(|pair| pair.rx.is_ready())
    }

    fn peer_has_header(&self) -> bool {
        let peer = self.client(0).and_then(|client| client.peer());
        peer.is_some_and(|peer| peer.info().vnet_hdr().is_some())
    }

    /// Calls `f` with the backend's queues that have headers.
    fn each_header(&self, f: impl Fn(&dyn net::VnetHdr)) {
        for peer in self.clients().iter().filter_map(|client| client.peer()) {
            if let Some(header) = peer.info().vnet_hdr() {
                f(header);
            }
        }
    }

    /// Settles the headers' lengths (`virtio_net_set_mrg_rx_bufs`).
    fn set_headers(&self, features: u64) {
        use hw_virtio::spec::feature::VERSION_1;
        let guest = if features & (feature::MRG_RXBUF | VERSION_1) != 0 { HDR_MRG_LEN } else { HDR_LEN };
        self.guest_header.store(guest, Ordering::Release);
        if !self.peer_has_header() {
            return;
        }
        let peer = self.client(0).and_then(|client| client.peer());
        let knows =
            peer.is_some_and(|peer| peer.info().vnet_hdr().is_some_and(|h| h.has_vnet_hdr_len(guest)));
        let host = if knows { guest } else { HDR_LEN };
        if self.host_header.swap(host, Ordering::AcqRel) != host {
            // What came with other headers is of no use.
            self.clients().iter().for_each(|client| client.purge_received());
        }
        self.each_header(|header| header.use_vnet_hdr(Some(host)));
        for client in self.clients() {
            client.set_vnet_hdr_len(host);
            client.peer().into_iter().for_each(|peer| peer.set_vnet_hdr_len(host));
        }
    }

    /// Tells the backend what the guest takes (`virtio_net_apply_guest_offloads`).
    fn apply_offloads(&self, offloads: u64) {
        self.offloads.store(offloads, Ordering::Release);
        let on = |bit| offloads & bit != 0;
        let offload = Offload {
            csum: on(feature::GUEST_CSUM),
            tso4: on(feature::GUEST_TSO4),
            tso6: on(feature::GUEST_TSO6),
            ecn: on(feature::GUEST_ECN),
            ufo: on(feature::GUEST_UFO),
        };
        // The interface's, not a queue's.
        if let Some(peer) = self.client(0).and_then(|client| client.peer())
            && let Some(header) = peer.info().vnet_hdr()
        {
            header.set_offload(offload);
        }
    }

    /// The driver uses so many pairs (`virtio_net_set_queue_pairs`).
    fn set_pairs(&self, pairs: usize) {
        self.current_pairs.store(pairs, Ordering::Release);
        if self.max_pairs() < 2 {
            return;
        }
        for (n, client) in self.clients().iter().enumerate() {
            if let Some(peer) = client.peer()
                && let Err(error) = peer.info().set_enabled(n < pairs)
            {
                let what = if n < pairs { "enable" } else { "disable" };
                util::error_report!("could not {what} queue: {}", util::log::OsError(error));
            }
        }
    }

    /// What waits for the guest may be taken now; on the main loop's thread.
    fn flush_later(&self) {
        let clients = self.clients().to_vec();
        EventLoop::main().schedule(move || clients.iter().for_each(|client| client.flush()));
    }

    fn format_info(&self) {
        let mac = self.filter.lock().mac;
        if let Some(client) = self.client(0) {
            client.set_info_str(format!("model={},macaddr={mac}", client.model()));
        }
    }

    fn has_status(&self, bit: u16) -> bool {
        self.net_status.load(Ordering::Acquire) & u32::from(bit) != 0
    }

    /// Changes a bit of the status; gives whether it was another.
    fn set_net_status(&self, bit: u16, on: bool) -> bool {
        let bit = u32::from(bit);
        let old = match on {
            true => self.net_status.fetch_or(bit, Ordering::AcqRel),
            false => self.net_status.fetch_and(!bit, Ordering::AcqRel),
        };
        (old & bit != 0) != on
    }

    /// The link goes down or up.
    fn link_changed(&self, down: bool) {
        if self.set_net_status(S_LINK_UP, !down) {
            self.notify_config();
        }
        self.serve();
        self.flush_later();
    }

    /// The driver is to tell its neighbours where it is.
    fn announce(&self) {
        if self.has_feature(feature::GUEST_ANNOUNCE | feature::CTRL_VQ) {
            self.set_net_status(S_ANNOUNCE, true);
            self.notify_config();
        }
    }

    fn duplex(&self) -> Result<u8> {
        match self.duplex.get().as_deref() {
            None => Ok(DUPLEX_UNKNOWN),
            Some("half") => Ok(DUPLEX_HALF),
            Some("full") => Ok(DUPLEX_FULL),
            Some(_) => bail!("'duplex' must be 'half' or 'full'"),
        }
    }

    /// The features that properties choose.
    fn chosen(&self) -> u64 {
        let properties = [
            (&self.csum, feature::CSUM),
            (&self.guest_csum, feature::GUEST_CSUM),
            (&self.gso, feature::GSO),
            (&self.guest_tso4, feature::GUEST_TSO4),
            (&self.guest_tso6, feature::GUEST_TSO6),
            (&self.guest_ecn, feature::GUEST_ECN),
            (&self.guest_ufo, feature::GUEST_UFO),
            (&self.guest_announce, feature::GUEST_ANNOUNCE),
            (&self.host_tso4, feature::HOST_TSO4),
            (&self.host_tso6, feature::HOST_TSO6),
            (&self.host_ecn, feature::HOST_ECN),
            (&self.host_ufo, feature::HOST_UFO),
            (&self.mrg_rxbuf, feature::MRG_RXBUF),
            (&self.status, feature::STATUS),
            (&self.ctrl_vq, feature::CTRL_VQ),
            (&self.ctrl_rx, feature::CTRL_RX),
            (&self.ctrl_vlan, feature::CTRL_VLAN),
            (&self.ctrl_rx_extra, feature::CTRL_RX_EXTRA),
            (&self.ctrl_mac_addr, feature::CTRL_MAC_ADDR),
            (&self.ctrl_guest_offloads, feature::CTRL_GUEST_OFFLOADS),
            (&self.mq, feature::MQ),
        ];
        let mut chosen =
            properties.iter().filter(|(on, _)| on.get()).fold(feature::MAC, |all, (_, bit)| all | bit);
        if self.host_mtu.get() != 0 {
            chosen |= feature::MTU;
        }
        if self.speed.get() >= 0 || self.duplex.get().is_some() {
            chosen |= feature::SPEED_DUPLEX;
        }
        chosen
    }

    /// The configuration ends with the last field that a chosen feature has.
    fn config_size(&self) -> usize {
        let ends = [
            (feature::MAC, config::STATUS),
            (feature::STATUS, config::MAX_PAIRS),
            (feature::MQ, config::MTU),
            (feature::MTU, config::SPEED),
            (feature::SPEED_DUPLEX, config::DUPLEX + 1),
        ];
        let chosen = self.chosen();
        ends.iter().filter(|(bit, _)| chosen & bit != 0).map(|(_, end)| *end).max().unwrap_or(config::STATUS)
    }

    fn check(&self) -> Result<()> {
        let missing = [
            (self.rss.get(), "rss"),
            (self.hash.get(), "hash"),
            (self.guest_rsc_ext.get(), "guest_rsc_ext"),
            (self.failover.get(), "failover"),
        ];
        if let Some((_, name)) = missing.iter().find(|(on, _)| *on) {
            bail!("virtio-net: {name}=on is not supported yet");
        }
        self.duplex()?;
        if self.speed.get() < SPEED_UNKNOWN {
            bail!("'speed' must be between 0 and INT_MAX");
        }
        let possible =
            |size: u16| (QUEUE_MIN_SIZE..=QUEUE_SIZE_MAX).contains(&size) && size.is_power_of_two();
        let range = format!("must be a power of 2 between {QUEUE_MIN_SIZE} and {QUEUE_SIZE_MAX}");
        let (rx, tx) = (self.rx_queue_size.get(), self.tx_queue_size.get());
        if !possible(rx) {
            bail!("Invalid rx_queue_size (= {rx}), {range}.");
        }
        if !possible(tx) {
            bail!("Invalid tx_queue_size (= {tx}), {range}");
        }
        let pairs = self.max_pairs();
        if pairs * 2 + 1 > usize::from(QUEUE_MAX) {
            let most = (QUEUE_MAX - 1) / 2;
            bail!("Invalid number of queue pairs (= {pairs}), must be a positive integer less than {most}.");
        }
        if let Some(tx) = self.tx.get().filter(|tx| !matches!(tx.as_str(), "timer" | "bh")) {
            util::warn_report!(
                "virtio-net: Unknown option tx={tx}, valid options: \"timer\" \"bh\"\n\
                 Defaulting to \"bh\""
            );
        }
        Ok(())
    }

    /// The number of the control queue: behind those that the driver knows of.
    fn is_control(&self, index: u16) -> bool {
        let pairs = if self.has_feature(feature::MQ) { self.max_pairs() } else { 1 };
        usize::from(index) == pairs * 2
    }
}

impl DeviceImpl for VirtIONet {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.check()?;
        self.init(id::NET, self.config_size());
        self.add_queues()?;
        let mac = macaddr_default_if_unset(self.mac.get().0);
        self.mac.set(MacProperty(mac));
        *self.filter.lock() = RxFilter::new(mac);
        self.net_status.store(S_LINK_UP.into(), Ordering::Release);
        let (name, model) = self.name.get().cloned().unwrap_or((None, self.class().name().to_owned()));
        let peers = self.netdev.get();
        let _ = self.clients.set(Nic::clients(self, name.as_deref(), &model, peers.queues()));
        if self.peer_has_header() {
            self.host_header.store(HDR_LEN, Ordering::Release);
        }
        if let Some(vhost) = Vhost::of(self.clients()).inspect_err(|_| del_nic(self.clients()))? {
            let _ = self.vhost.set(vhost);
        }
        self.program().into_iter().for_each(|program| program.watch(self));
        self.set_headers(0);
        self.set_pairs(1);
        self.format_info();
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.program().into_iter().for_each(vhost_user::Program::forget);
        self.each_header(|header| header.use_vnet_hdr(None));
        del_nic(self.clients());
        macaddr_set_free(self.mac.get().0);
        self.pairs.get().into_iter().flatten().for_each(|pair| pair.stop());
    }
}

impl VirtioDeviceImpl for VirtIONet {
    fn queue_notified(self: &Arc<Self>, queue: &Arc<VirtQueue>) {
        let index = queue.index();
        if self.is_control(index) {
            return self.handle_control(queue);
        }
        if self.is_served() {
            return;
        }
        let n = usize::from(index / 2);
        match (index % 2, self.pair(n)) {
            (0, Some(_)) => self.client(n).into_iter().for_each(|client| client.flush()),
            (_, Some(pair)) => pair.tx_notified(self),
            (_, None) => {}
        }
    }

    fn features(&self, offered: u64) -> Result<u64> {
        let mut features = offered | self.chosen();
        let peer = self.client(0).and_then(|client| client.peer());
        let header = peer.as_ref().and_then(|peer| peer.info().vnet_hdr());
        if header.is_none() {
            features &= !feature::NEEDS_HEADER;
        }
        if header.is_none_or(|header| !header.has_ufo()) {
            features &= !(feature::GUEST_UFO | feature::HOST_UFO);
        }
        Ok(self.vhost.get().map_or(features, |vhost| vhost.features(features)))
    }

    fn set_features(&self, accepted: u64) {
        self.set_headers(accepted);
        self.apply_offloads(accepted & feature::GUEST_OFFLOADS);
        self.filter.lock().set_vlan_filtering(accepted & feature::CTRL_VLAN != 0);
    }

    fn bad_features(&self) -> u32 {
        // Linux 2.6.25 knew these.
        let known =
            feature::MAC | feature::CSUM | feature::HOST_TSO4 | feature::HOST_TSO6 | feature::HOST_ECN;
        known as u32
    }

    fn read_config(&self, config: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = config.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(config::MAC, &self.filter.lock().mac.0);
        put(config::STATUS, &(self.net_status.load(Ordering::Acquire) as u16).to_le_bytes());
        put(config::MAX_PAIRS, &(self.max_pairs() as u16).to_le_bytes());
        put(config::MTU, &self.host_mtu.get().to_le_bytes());
        put(config::SPEED, &self.speed.get().to_le_bytes());
        put(config::DUPLEX, &[self.duplex().unwrap_or(DUPLEX_UNKNOWN)]);
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        use hw_virtio::spec::feature::VERSION_1;
        // Only drivers that know no other way.
        if self.has_feature(feature::CTRL_MAC_ADDR) || self.has_feature(VERSION_1) {
            return;
        }
        let mut filter = self.filter.lock();
        for (place, byte) in filter.mac.0.iter_mut().skip(offset).zip(data) {
            *place = *byte;
        }
        drop(filter);
        self.format_info();
    }

    fn set_status(&self, _status: Status) {
        self.serve();
        if self.is_running() {
            self.flush_later();
        }
    }

    fn device_reset(&self) {
        self.pairs.get().into_iter().flatten().for_each(|pair| pair.reset());
        self.clients().iter().for_each(|client| client.purge_sent());
        *self.filter.lock() = RxFilter::new(self.mac.get().0);
        self.set_net_status(S_ANNOUNCE, false);
        self.set_pairs(1);
        self.format_info();
    }

    fn queue_reset(&self, queue: &Arc<VirtQueue>) {
        let n = usize::from(queue.index() / 2);
        if let (Some(pair), Some(client)) = (self.pair(n), self.client(n)) {
            pair.reset();
            client.purge_sent();
        }
    }
}
