//! What the guest's packets mean, and what goes back: everything of the user network but its threads.

mod connections;
mod ports;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Weak};

use util::clock::{ClockType, now_ns};
use util::event_loop::{EventLoop, FdWatch, Interest, Ready};

use super::UserNet;
use super::config::Config;
use super::dhcp::{self, Dhcp};
use super::forward::{GuestTarget, HostForward};
use super::link::{self, IpPacket, Link};
use super::reassembly::Reassembly;
use super::resolver::Resolver;
use super::tcp::TcpFlow;
use super::tftp::{self, Tftp};
use super::udp::UdpFlow;
use super::wire::{self, Datagram, Ip};

/// Connections at one time.
const TCP_FLOWS: usize = 512;
/// Ports of the guest's that have a socket at one time.
const UDP_FLOWS: usize = 512;
/// Frames that wait for the guest before connections send no more.
const OUT_PAUSE: usize = 256;
/// Frames that wait for the guest at most.
const OUT_MAX: usize = 1024;
/// What a chardev has not taken.
const CHARDEV_PENDING: usize = 64 << 10;

/// A connection: the guest's end, and what the guest calls the other.
type TcpKey = (SocketAddr, SocketAddr);

/// What a descriptor is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Tcp(SocketAddr, SocketAddr),
    Udp(u64),
    Listener(u64),
}

struct Listener {
    id: u64,
    forward: HostForward,
    socket: Arc<OwnedFd>,
    _watch: FdWatch,
}

/// An address of the guest's network that leads elsewhere.
pub(crate) struct GuestForward {
    pub address: SocketAddrV4,
    pub target: GuestTarget,
    /// For the chardev.
    pub pending: Vec<u8>,
}

/// The state of a user network.
pub(crate) struct Stack {
    pub config: Config,
    owner: Weak<UserNet>,
    link: Link,
    dhcp: Dhcp,
    tftp: Tftp,
    resolver: Resolver,
    reassembly: Reassembly,
    tcp: HashMap<TcpKey, Connection>,
    udp: HashMap<u64, UdpFlow>,
    udp_by_guest: HashMap<SocketAddr, u64>,
    udp_forwards: Vec<(HostForward, u64)>,
    listeners: Vec<Listener>,
    pub guest_forwards: Vec<GuestForward>,
    children: Vec<Child>,
    /// Frames for the guest.
    out: VecDeque<Vec<u8>>,
    /// Connections that have more to send when there is room.
    stalled: Vec<TcpKey>,
    /// Connections that the guest was heard on, and that were not serviced since.
    heard: Vec<TcpKey>,
    /// Where datagrams of the host's are read to.
    datagram: Vec<u8>,
    next_id: u64,
    packet_id: u16,
    /// When something is to be done without a packet, in nanoseconds.
    pub deadline: Option<u64>,
}

struct Connection {
    flow: TcpFlow,
    deadline: Option<u64>,
    /// It is among those that the guest was heard on.
    heard: bool,
}

fn now() -> u64 {
    now_ns(ClockType::Realtime)
}

impl Stack {
    pub fn new(config: Config, owner: Weak<UserNet>) -> Stack {
        Stack {
            config,
            owner,
            link: Link::default(),
            dhcp: Dhcp::default(),
            tftp: Tftp::default(),
            resolver: Resolver::default(),
            reassembly: Reassembly::default(),
            tcp: HashMap::new(),
            udp: HashMap::new(),
            udp_by_guest: HashMap::new(),
            udp_forwards: Vec::new(),
            listeners: Vec::new(),
            guest_forwards: Vec::new(),
            children: Vec::new(),
            out: VecDeque::new(),
            stalled: Vec::new(),
            heard: Vec::new(),
            datagram: Vec::new(),
            next_id: 0,
            packet_id: 0,
            deadline: None,
        }
    }

    fn watch(&self, fd: &Arc<OwnedFd>, interest: Interest, source: Source) -> std::io::Result<FdWatch> {
        let owner = self.owner.clone();
        let handler = move |ready| {
            if let Some(user) = owner.upgrade() {
                user.with_stack(|stack| stack.host_ready(source, ready));
            }
        };
        EventLoop::main().add_fd(fd.clone(), interest, Arc::new(handler))
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A number that guests cannot foresee, as sequence numbers begin with it.
    fn seed(&mut self) -> u64 {
        let mut bytes = [0; 8];
        // Early in the host's life there may be none: then the time must do.
        match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
            Ok(8) => u64::from_ne_bytes(bytes),
            _ => now() ^ self.id() << 32,
        }
    }

    /// The next frame for the guest.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.out.pop_front();
        if self.out.len() < OUT_PAUSE / 2 && !self.stalled.is_empty() {
            let stalled = std::mem::take(&mut self.stalled);
            stalled.into_iter().for_each(|key| self.service(key));
        }
        frame
    }

    fn push_frame(&mut self, frame: Vec<u8>) {
        if self.out.len() < OUT_MAX {
            self.out.push_back(frame);
        }
    }

    fn push_packet(&mut self, packet: IpPacket) {
        if let Some(frame) = self.link.send(&self.config, packet) {
            self.push_frame(frame);
        }
    }

    /// Whether nothing waits for the guest.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What waits for a chardev.
    pub fn take_pending(&mut self, index: usize) -> Vec<u8> {
        self.guest_forwards
            .get_mut(index)
            .map(|forward| std::mem::take(&mut forward.pending))
            .unwrap_or_default()
    }

    /// What it did not take, before what came meanwhile.
    pub fn put_pending(&mut self, index: usize, left: &[u8]) {
        if let Some(forward) = self.guest_forwards.get_mut(index) {
            forward.pending.splice(..0, left.iter().copied());
        }
    }

    /// Closes everything.
    pub fn close(&mut self) {
        self.tcp.clear();
        self.heard.clear();
        self.udp.clear();
        self.udp_by_guest.clear();
        self.udp_forwards.clear();
        self.listeners.clear();
        self.out.clear();
        self.deadline = None;
    }

    /// Notes when something is to be done.
    fn due(&mut self, at: u64) {
        self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
    }

    /// A frame of the guest's. What follows for connections is done in [`service_heard`](Self::service_heard), once for
    /// many frames.
    pub fn input(&mut self, frame: &[u8]) {
        let Some((header, payload)) = frame.split_first_chunk::<{ wire::ETHERNET_LEN }>() else { return };
        let mut mac = [0; 6];
        mac.copy_from_slice(&header[6..12]);
        match u16::from_be_bytes([header[12], header[13]]) {
            wire::ETHERTYPE_ARP if self.config.ipv4 => self.arp(payload),
            wire::ETHERTYPE_IPV4 | wire::ETHERTYPE_IPV6 => {
                let Some(ip) = Ip::parse(payload) else { return };
                if self.config.has_family(ip.from) {
                    self.learn(ip.from, mac);
                    self.ip(&ip);
                }
            }
            _ => {}
        }
    }

    fn learn(&mut self, address: IpAddr, mac: wire::Mac) {
        let frames = self.link.learn(&self.config, address, mac);
        frames.into_iter().for_each(|frame| self.push_frame(frame));
    }

    fn arp(&mut self, packet: &[u8]) {
        let is_ours = |address: Ipv4Addr| {
            let forwarded = self.guest_forwards.iter().any(|forward| *forward.address.ip() == address);
            address == self.config.host || address == self.config.dns || forwarded
        };
        let Some((from, mac, answer)) = link::handle_arp(&self.config, packet, is_ours) else { return };
        self.learn(from.into(), mac);
        if let Some(answer) = answer {
            self.push_frame(answer);
        }
    }

    fn ip(&mut self, ip: &Ip<'_>) {
        let whole;
        let payload = match ip.fragment {
            None => ip.payload,
            Some(fragment) => match self.reassembly.add(ip, fragment) {
                Some(payload) => {
                    whole = payload;
                    &whole
                }
                None => return,
            },
        };
        match (ip.protocol, ip.from, ip.to) {
            (wire::PROTO_TCP, ..) if ip.fragment.is_none() => self.tcp_input(ip),
            (wire::PROTO_UDP, from, to) => {
                if let Some(datagram) = Datagram::parse(from, to, payload) {
                    self.udp_input(&datagram);
                }
            }
            (wire::PROTO_ICMP, IpAddr::V4(from), IpAddr::V4(to)) => self.icmp4(from, to, payload),
            (wire::PROTO_ICMPV6, IpAddr::V6(from), IpAddr::V6(to)) => self.icmp6(from, to, payload),
            _ => {}
        }
    }

    fn icmp4(&mut self, from: Ipv4Addr, to: Ipv4Addr, message: &[u8]) {
        const ECHO_REQUEST: u8 = 8;
        let ours = to == self.config.host || to == self.config.dns;
        if !ours
            || message.first() != Some(&ECHO_REQUEST)
            || message.len() < 8
            || wire::checksum(message) != 0
        {
            return;
        }
        let mut answer = message.to_vec();
        answer[..4].fill(0);
        let check = wire::checksum(&answer).to_be_bytes();
        answer[2..4].copy_from_slice(&check);
        self.packet_id = self.packet_id.wrapping_add(1);
        let packets = wire::ipv4(to, from, wire::PROTO_ICMP, self.packet_id, &answer);
        packets.into_iter().for_each(|packet| self.push_packet(packet));
    }

    fn icmp6(&mut self, from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) {
        let Some((header, body)) = message.split_first_chunk::<4>() else { return };
        let ours =
            |address: Ipv6Addr| self.config.is_host(address.into()) || self.config.is_dns(address.into());
        match header[0] {
            link::ICMP6_ECHO_REQUEST if ours(to) => self.push_packet(link::echo6(to, from, body)),
            link::ND_ROUTER_SOLICIT => {
                let has_dns = self.resolver.server(false, now()).is_some();
                self.push_packet(link::router_advert(&self.config, has_dns));
            }
            link::ND_NEIGHBOUR_SOLICIT => {
                let Some(octets) = body.get(4..20).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) else {
                    return;
                };
                let target = Ipv6Addr::from(octets);
                if ours(target) {
                    self.push_packet(link::neighbour_advert(&self.config, target, from));
                }
            }
            _ => {}
        }
    }

    /// Where the host finds what the guest calls `to`.
    fn real(&mut self, to: SocketAddr) -> Option<SocketAddr> {
        let ip = to.ip();
        if self.config.restricted {
            return None;
        }
        let v4 = ip.is_ipv4();
        let loopback: IpAddr = if v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let real = if self.config.is_host(ip) {
            loopback
        } else if self.config.is_dns(ip) {
            self.resolver.server(v4, now())?
        } else {
            // Nobody else is in the guest's network, and its loopback is its own.
            let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
            let elsewhere =
                ip.is_unspecified() || ip.is_multicast() || broadcast || ip.to_canonical().is_loopback();
            if elsewhere || self.config.is_inside(ip) {
                return None;
            }
            ip
        };
        Some(SocketAddr::new(real, to.port()))
    }

    fn udp_input(&mut self, datagram: &Datagram<'_>) {
        let Datagram { from, to, data } = *datagram;
        if to.port() == dhcp::SERVER_PORT && to.is_ipv4() {
            return self.dhcp_input(data);
        }
        if to.port() == tftp::PORT && self.config.is_host(to.ip()) {
            return self.tftp_input(from, to, data);
        }
        let Some(real) = self.real(to).filter(|_| self.is_guests(from.ip())) else { return };
        let id = match self.udp_by_guest.get(&from) {
            Some(id) => *id,
            None => match self.new_udp_flow(from) {
                Some(id) => id,
                None => return,
            },
        };
        let Some(flow) = self.udp.get_mut(&id) else { return };
        flow.send(to, real, data, now());
        let expires = flow.expires;
        self.due(expires);
    }

    fn new_udp_flow(&mut self, guest: SocketAddr) -> Option<u64> {
        if self.udp.len() >= UDP_FLOWS {
            // The one that would go first makes room; ports of the host's never do.
            let oldest = self.udp.iter().filter(|(_, flow)| flow.expires != u64::MAX);
            let oldest = *oldest.min_by_key(|(_, flow)| flow.expires)?.0;
            self.remove_udp(oldest);
        }
        let flow = UdpFlow::new(guest).ok()?;
        self.add_udp(flow)
    }

    fn add_udp(&mut self, mut flow: UdpFlow) -> Option<u64> {
        let id = self.id();
        flow.watch = Some(self.watch(flow.socket(), Interest::READ, Source::Udp(id)).ok()?);
        self.udp_by_guest.entry(flow.guest).or_insert(id);
        self.udp.insert(id, flow);
        Some(id)
    }

    fn remove_udp(&mut self, id: u64) {
        if let Some(flow) = self.udp.remove(&id)
            && self.udp_by_guest.get(&flow.guest) == Some(&id)
        {
            self.udp_by_guest.remove(&flow.guest);
        }
    }

    fn dhcp_input(&mut self, data: &[u8]) {
        let Some((answer, lease)) = self.dhcp.handle(&self.config, data) else { return };
        if let Some((address, mac)) = lease {
            self.learn(address.into(), mac);
        }
        let from = SocketAddr::new(self.config.host.into(), dhcp::SERVER_PORT);
        let to = SocketAddr::new(Ipv4Addr::BROADCAST.into(), dhcp::CLIENT_PORT);
        self.send_datagram(from, to, &answer);
    }

    fn tftp_input(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let Some(root) = self.config.tftp.clone() else { return };
        if let Some(answer) = self.tftp.handle(&root, from, data) {
            self.send_datagram(to, from, &answer);
        }
    }

    fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        self.packet_id = self.packet_id.wrapping_add(1);
        let packets = Datagram { from, to, data }.packets(self.packet_id);
        packets.into_iter().for_each(|packet| self.push_packet(packet));
    }

    /// Whether the guest may have an address: one of its network that is nobody else's.
    fn is_guests(&self, address: IpAddr) -> bool {
        let own = self.config.is_host(address) || self.config.is_dns(address);
        let broadcast = matches!(address, IpAddr::V4(v4) if v4 == self.config.net | !self.config.mask);
        self.config.is_inside(address) && !own && !broadcast
    }

    /// A descriptor of the host's is ready for something.
    fn host_ready(&mut self, source: Source, ready: Ready) {
        match source {
            Source::Tcp(guest, remote) => self.tcp_ready((guest, remote), ready),
            Source::Udp(id) => self.udp_ready(id),
            Source::Listener(id) => self.accept(id),
        }
    }

    fn udp_ready(&mut self, id: u64) {
        let config = &self.config;
        let translate = |ip: IpAddr| match ip {
            IpAddr::V4(v4) if v4.is_loopback() => config.host.into(),
            IpAddr::V6(v6) if v6.is_loopback() => config.host6.into(),
            other => other,
        };
        let Some(flow) = self.udp.get_mut(&id) else { return };
        let packets = flow.receive(translate, &mut self.datagram, &mut self.packet_id, now());
        packets.into_iter().for_each(|packet| self.push_packet(packet));
    }

    /// Something's time has come.
    pub fn timer(&mut self) {
        let now = now();
        self.deadline = None;
        let late: Vec<TcpKey> = self
            .tcp
            .iter()
            .filter(|(_, c)| c.deadline.is_some_and(|at| at <= now))
            .map(|(key, _)| *key)
            .collect();
        late.into_iter().for_each(|key| self.service(key));
        let silent: Vec<u64> =
            self.udp.iter().filter(|(_, flow)| flow.expires <= now).map(|(id, _)| *id).collect();
        silent.into_iter().for_each(|id| self.remove_udp(id));
        let next = self.tcp.values().filter_map(|c| c.deadline).filter(|at| *at > now);
        let silent = self.udp.values().map(|flow| flow.expires).filter(|at| *at != u64::MAX);
        if let Some(at) = next.chain(silent).min() {
            self.due(at);
        }
    }
}
