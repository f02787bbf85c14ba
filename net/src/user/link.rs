//! The guest's link: Ethernet frames, ARP, neighbour discovery, and packets that wait for an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::config::{Config, LINK_LOCAL_HOST};
use super::wire::{self, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Mac};

/// Addresses of the guest's that are remembered.
const NEIGHBOURS: usize = 32;
/// Packets that wait until it is known whose address theirs is.
const WAITING: usize = 16;

/// A packet of IPv4 or IPv6 on its way to the guest.
pub(crate) type IpPacket = Vec<u8>;

/// Who is where on the link.
#[derive(Default)]
pub(crate) struct Link {
    /// The newest last.
    neighbours: Vec<(IpAddr, Mac)>,
    waiting: Vec<(IpAddr, IpPacket)>,
}

/// The address of the host's end, which tells whose packets come from it.
pub(crate) fn host_mac(config: &Config, v6: bool) -> Mac {
    let mut mac = [0x52, 0x55, 0, 0, 0, 0];
    if v6 {
        mac[1] = 0x56;
        mac[2..].copy_from_slice(&LINK_LOCAL_HOST.octets()[12..]);
    } else {
        mac[2..].copy_from_slice(&config.host.octets());
    }
    mac
}

impl Link {
    /// The guest was heard from this address.
    pub fn learn(&mut self, config: &Config, address: IpAddr, mac: Mac) -> Vec<Vec<u8>> {
        let usable = !address.is_unspecified() && !address.is_multicast() && mac[0] & 1 == 0;
        let own = config.is_host(address) || config.is_dns(address);
        if !usable || own || !config.is_inside(address) {
            return Vec::new();
        }
        if self.neighbours.last() == Some(&(address, mac)) {
            return Vec::new();
        }
        self.neighbours.retain(|(known, _)| *known != address);
        if self.neighbours.len() >= NEIGHBOURS {
            self.neighbours.remove(0);
        }
        self.neighbours.push((address, mac));
        let (ready, left): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|(to, _)| *to == address);
        self.waiting = left;
        ready.into_iter().map(|(_, packet)| frame(config, mac, &packet)).collect()
    }

    pub fn mac_of(&self, address: IpAddr) -> Option<Mac> {
        self.neighbours.iter().rev().find(|(known, _)| *known == address).map(|(_, mac)| *mac)
    }

    /// The frame that a packet goes in, or the question whose address it has.
    pub fn send(&mut self, config: &Config, packet: IpPacket) -> Option<Vec<u8>> {
        let to = wire::destination(&packet)?;
        if let Some(mac) = multicast_mac(to).or_else(|| self.mac_of(to)) {
            return Some(frame(config, mac, &packet));
        }
        if self.waiting.len() >= WAITING {
            self.waiting.remove(0);
        }
        self.waiting.push((to, packet));
        Some(match to {
            IpAddr::V4(to) => arp(config, ARP_REQUEST, config.host, [0; 6], to, [0xff; 6]),
            IpAddr::V6(to) => solicitation(config, to),
        })
    }
}

fn multicast_mac(to: IpAddr) -> Option<Mac> {
    match to {
        IpAddr::V4(v4) if v4.is_broadcast() => Some([0xff; 6]),
        IpAddr::V6(v6) if v6.is_multicast() => {
            let last = &v6.octets()[12..];
            Some([0x33, 0x33, last[0], last[1], last[2], last[3]])
        }
        _ => None,
    }
}

/// A packet as it goes over the link.
pub(crate) fn frame(config: &Config, to: Mac, packet: &[u8]) -> Vec<u8> {
    let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    let ethertype = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
    wire::ethernet(to, host_mac(config, v6), ethertype, packet)
}

const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
/// An ARP packet for Ethernet and IPv4 (RFC 826).
const ARP_LEN: usize = 28;

fn arp(config: &Config, operation: u16, from: Ipv4Addr, target: Mac, to: Ipv4Addr, frame_to: Mac) -> Vec<u8> {
    let mut sender = [0x52, 0x55, 0, 0, 0, 0];
    sender[2..].copy_from_slice(&from.octets());
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender);
    packet.extend(from.octets());
    packet.extend(target);
    packet.extend(to.octets());
    wire::ethernet(frame_to, host_mac(config, false), ETHERTYPE_ARP, &packet)
}

/// An ARP packet's sender, and the answer where one is due: `is_ours` says which addresses we answer for.
pub(crate) fn handle_arp(
    config: &Config,
    packet: &[u8],
    is_ours: impl Fn(Ipv4Addr) -> bool,
) -> Option<(Ipv4Addr, Mac, Option<Vec<u8>>)> {
    let packet: &[u8; ARP_LEN] = packet.first_chunk()?;
    if packet[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let address = |at: usize| Ipv4Addr::from([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    let mut mac = [0; 6];
    mac.copy_from_slice(&packet[8..14]);
    let (from, to) = (address(14), address(24));
    let asks = u16::from_be_bytes([packet[6], packet[7]]) == ARP_REQUEST && from != to;
    let answer = (asks && is_ours(to)).then(|| arp(config, ARP_REPLY, to, mac, from, mac));
    Some((from, mac, answer))
}

/// Types of ICMPv6 (RFC 4443, RFC 4861).
pub(crate) const ICMP6_ECHO_REQUEST: u8 = 128;
pub(crate) const ICMP6_ECHO_REPLY: u8 = 129;
pub(crate) const ND_ROUTER_SOLICIT: u8 = 133;
pub(crate) const ND_ROUTER_ADVERT: u8 = 134;
pub(crate) const ND_NEIGHBOUR_SOLICIT: u8 = 135;
pub(crate) const ND_NEIGHBOUR_ADVERT: u8 = 136;
/// Neighbour discovery's hop limit.
const ND_HOPS: u8 = 255;
const OPTION_SOURCE_LINK: u8 = 1;
const OPTION_TARGET_LINK: u8 = 2;
const OPTION_PREFIX: u8 = 3;
/// RFC 8106.
const OPTION_RDNSS: u8 = 25;
/// Seconds that what we advertise holds.
const ROUTER_LIFETIME: u16 = 1800;
const PREFIX_VALID: u32 = 86400;
const PREFIX_PREFERRED: u32 = 14400;
const DNS_LIFETIME: u32 = 1800;

fn icmp6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, body: &[u8]) -> IpPacket {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(body);
    wire::ipv6(from, to, wire::PROTO_ICMPV6, ND_HOPS, &mut message, Some(2))
}

/// An answer to an echo request.
pub(crate) fn echo6(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> IpPacket {
    icmp6(from, to, ICMP6_ECHO_REPLY, body)
}

fn solicitation(config: &Config, target: Ipv6Addr) -> Vec<u8> {
    let octets = target.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(octets[13]),
        u16::from_be_bytes([octets[14], octets[15]]),
    );
    let mut body = vec![0; 4];
    body.extend(octets);
    body.extend([OPTION_SOURCE_LINK, 1]);
    body.extend(host_mac(config, true));
    let packet = icmp6(LINK_LOCAL_HOST, group, ND_NEIGHBOUR_SOLICIT, &body);
    frame(config, multicast_mac(group.into()).unwrap_or_default(), &packet)
}

/// The answer to a neighbour solicitation for an address of ours.
pub(crate) fn neighbour_advert(config: &Config, target: Ipv6Addr, to: Ipv6Addr) -> IpPacket {
    const ROUTER: u8 = 0x80;
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let (to, flags) = match to.is_unspecified() {
        true => (all_nodes, ROUTER | OVERRIDE),
        false => (to, ROUTER | SOLICITED | OVERRIDE),
    };
    let mut body = vec![flags, 0, 0, 0];
    body.extend(target.octets());
    body.extend([OPTION_TARGET_LINK, 1]);
    body.extend(host_mac(config, true));
    icmp6(target, to, ND_NEIGHBOUR_ADVERT, &body)
}

/// The prefix, and where the name server is, if the host has one.
pub(crate) fn router_advert(config: &Config, has_dns: bool) -> IpPacket {
    const ON_LINK_AND_AUTONOMOUS: u8 = 0xc0;
    const HOPS: u8 = 64;
    let mut body = vec![HOPS, 0];
    body.extend(ROUTER_LIFETIME.to_be_bytes());
    body.extend([0; 8]);
    body.extend([OPTION_SOURCE_LINK, 1]);
    body.extend(host_mac(config, true));
    body.extend([OPTION_PREFIX, 4, config.prefix_len, ON_LINK_AND_AUTONOMOUS]);
    body.extend(PREFIX_VALID.to_be_bytes());
    body.extend(PREFIX_PREFERRED.to_be_bytes());
    body.extend([0; 4]);
    body.extend(config.prefix.octets());
    if has_dns && !config.restricted {
        body.extend([OPTION_RDNSS, 3, 0, 0]);
        body.extend(DNS_LIFETIME.to_be_bytes());
        body.extend(config.dns6.octets());
    }
    icmp6(LINK_LOCAL_HOST, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), ND_ROUTER_ADVERT, &body)
}
