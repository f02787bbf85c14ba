//! Formats of packets: Ethernet, IPv4, IPv6, UDP. The guest's are untrusted: what does not hold together is no
//! packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Ipv4Packet, Ipv6ExtHeader, Ipv6Packet, UdpPacket, UdpRepr, checksum};

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// The bytes of an Ethernet header.
pub(crate) const ETHERNET_LEN: usize = 14;
/// The shortest frame; what is shorter is padded.
const ETHERNET_MIN: usize = 60;
/// The longest packet on the guest's link.
pub(crate) const MTU: usize = 1500;

pub(crate) const PROTO_ICMP: u8 = 1;
pub(crate) const PROTO_TCP: u8 = 6;
pub(crate) const PROTO_UDP: u8 = 17;
pub(crate) const PROTO_ICMPV6: u8 = 58;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const HOPS: u8 = 64;

/// A frame.
pub(crate) fn ethernet(to: Mac, from: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity((ETHERNET_LEN + payload.len()).max(ETHERNET_MIN));
    frame.extend(to);
    frame.extend(from);
    frame.extend(ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(ETHERNET_MIN), 0);
    frame
}

/// A packet of either family, taken apart.
pub(crate) struct Ip<'a> {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: u8,
    /// Only of IPv4: a part of a longer one.
    pub fragment: Option<Fragment>,
    pub payload: &'a [u8],
    /// Without what the frame was padded with.
    pub whole: &'a [u8],
}

/// Which part of a packet it is.
#[derive(Clone, Copy)]
pub(crate) struct Fragment {
    pub id: u16,
    pub offset: usize,
    pub last: bool,
}

impl<'a> Ip<'a> {
    pub fn parse(packet: &'a [u8]) -> Option<Ip<'a>> {
        match packet.first()? >> 4 {
            4 => Self::parse4(packet),
            6 => Self::parse6(packet),
            _ => None,
        }
    }

    fn parse4(bytes: &'a [u8]) -> Option<Ip<'a>> {
        let packet = Ipv4Packet::new_checked(bytes).ok()?;
        if !packet.verify_checksum() {
            return None;
        }
        let (offset, more) = (usize::from(packet.frag_offset()), packet.more_frags());
        let fragment = (more || offset > 0).then(|| Fragment { id: packet.ident(), offset, last: !more });
        Some(Ip {
            from: packet.src_addr().into(),
            to: packet.dst_addr().into(),
            protocol: packet.next_header().into(),
            fragment,
            payload: packet.payload(),
            whole: bytes.get(..usize::from(packet.total_len()))?,
        })
    }

    fn parse6(bytes: &'a [u8]) -> Option<Ip<'a>> {
        let packet = Ipv6Packet::new_checked(bytes).ok()?;
        let whole = bytes.get(..packet.total_len())?;
        let mut protocol: u8 = packet.next_header().into();
        let mut payload = whole.get(IPV6_LEN..)?;
        // Hop-by-hop, routing and destination options are passed over.
        while matches!(protocol, 0 | 43 | 60) {
            let header = Ipv6ExtHeader::new_checked(payload).ok()?;
            protocol = header.next_header().into();
            payload = payload.get((usize::from(header.header_len()) + 1) * 8..)?;
        }
        let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
        Some(Ip { from, to, protocol, fragment: None, payload, whole })
    }
}

/// Where a packet of ours goes.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => packet.get(16..20)?.try_into().ok().map(|octets: [u8; 4]| octets.into()),
        6 => packet.get(24..40)?.try_into().ok().map(|octets: [u8; 16]| octets.into()),
        _ => None,
    }
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    !checksum::data(bytes)
}

/// A packet of IPv4, in as many fragments as it takes.
pub(crate) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, id: u16, payload: &[u8]) -> Vec<Vec<u8>> {
    const MORE: u16 = 0x2000;
    /// The longest part: offsets count in eights.
    const PART: usize = (MTU - IPV4_LEN) & !7;
    let parts = if payload.len() <= MTU - IPV4_LEN { payload.len().max(1) } else { PART };
    let count = payload.len().div_ceil(parts).max(1);
    let part = |n: usize| {
        let start = n * parts;
        let data = &payload[start..(start + parts).min(payload.len())];
        let more = if n + 1 < count { MORE } else { 0 };
        let mut packet = Vec::with_capacity(IPV4_LEN + data.len());
        packet.extend([0x45, 0]);
        packet.extend(((IPV4_LEN + data.len()) as u16).to_be_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend((more | (start / 8) as u16).to_be_bytes());
        packet.extend([HOPS, protocol, 0, 0]);
        packet.extend(from.octets());
        packet.extend(to.octets());
        let check = checksum(&packet).to_be_bytes();
        packet[10..12].copy_from_slice(&check);
        packet.extend_from_slice(data);
        packet
    };
    (0..count).map(part).collect()
}

/// A packet of IPv6. With `check` the checksum over payload and pseudo-header goes there in the payload.
pub(crate) fn ipv6(
    from: Ipv6Addr,
    to: Ipv6Addr,
    protocol: u8,
    hops: u8,
    payload: &mut [u8],
    check: Option<usize>,
) -> Vec<u8> {
    if let Some(place) = check.and_then(|at| payload.get_mut(at..at + 2)) {
        place.fill(0);
        let mut pseudo = [from.octets(), to.octets()].concat();
        pseudo.extend((payload.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, protocol]);
        let value = !checksum::combine(&[checksum::data(&pseudo), checksum::data(payload)]);
        if let Some(place) = check.and_then(|at| payload.get_mut(at..at + 2)) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([protocol, hops]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend_from_slice(payload);
    packet
}

/// A datagram, taken apart.
pub(crate) struct Datagram<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub data: &'a [u8],
}

impl<'a> Datagram<'a> {
    pub fn parse(from: IpAddr, to: IpAddr, payload: &'a [u8]) -> Option<Datagram<'a>> {
        let packet = UdpPacket::new_checked(payload).ok()?;
        let sums = ChecksumCapabilities::default();
        let parsed = UdpRepr::parse(&packet, &from.into(), &to.into(), &sums).ok()?;
        let (from, to) = (SocketAddr::new(from, parsed.src_port), SocketAddr::new(to, parsed.dst_port));
        Some(Datagram { from, to, data: payload.get(UDP_LEN..usize::from(packet.len()))? })
    }

    /// The packets it goes in.
    pub fn packets(&self, id: u16) -> Vec<Vec<u8>> {
        let length = UDP_LEN + self.data.len();
        let mut bytes = vec![0; length];
        let mut packet = UdpPacket::new_unchecked(&mut bytes);
        let header = UdpRepr { src_port: self.from.port(), dst_port: self.to.port() };
        let (from, to) = (self.from.ip(), self.to.ip());
        let sums = ChecksumCapabilities::default();
        let put = |payload: &mut [u8]| payload.copy_from_slice(self.data);
        header.emit(&mut packet, &from.into(), &to.into(), self.data.len(), put, &sums);
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, PROTO_UDP, id, &bytes),
            (IpAddr::V6(from), IpAddr::V6(to)) if length <= MTU - IPV6_LEN => {
                vec![ipv6(from, to, PROTO_UDP, HOPS, &mut bytes, None)]
            }
            // A datagram that does not fit is lost: hosts take pains not to send those.
            _ => Vec::new(),
        }
    }
}
