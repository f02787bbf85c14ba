//! UDP: a socket of the host for each port of the guest's that sends, until it is silent for a while.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, bind, recvfrom, sendto};
use util::event_loop::FdWatch;

use super::wire::Datagram;

/// How long a silent port is kept, in nanoseconds (libslirp's `SO_EXPIRE`).
const EXPIRE: u64 = 240_000_000_000;
/// The same after a question to a name server.
const EXPIRE_FAST: u64 = 10_000_000_000;
const DNS_PORT: u16 = 53;
/// Destinations whose real addresses are remembered.
const DESTINATIONS: usize = 16;
/// The longest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Datagrams read at one go, so that others get their turn.
const BATCH: usize = 32;

/// One port of the guest's.
pub(crate) struct UdpFlow {
    pub guest: SocketAddr,
    socket: Arc<OwnedFd>,
    pub watch: Option<FdWatch>,
    /// Where the guest sends, and where that is.
    destinations: Vec<(SocketAddr, SocketAddr)>,
    /// The host's ports that lead here.
    forwarded: bool,
    pub expires: u64,
}

impl UdpFlow {
    /// A port that sent something.
    pub fn new(guest: SocketAddr) -> io::Result<UdpFlow> {
        let any: IpAddr =
            if guest.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let any = SocketAddr::new(any, 0);
        let socket = util::sockets::new_socket(&any, SocketType::DGRAM, SocketFlags::NONBLOCK)?;
        bind(&socket, &any)?;
        Ok(Self::on(guest, socket, false))
    }

    /// A port of the host's that leads to the guest's.
    pub fn forwarded(guest: SocketAddr, socket: OwnedFd) -> UdpFlow {
        Self::on(guest, socket, true)
    }

    fn on(guest: SocketAddr, socket: OwnedFd, forwarded: bool) -> UdpFlow {
        let expires = if forwarded { u64::MAX } else { 0 };
        let socket = Arc::new(socket);
        UdpFlow { guest, socket, watch: None, destinations: Vec::new(), forwarded, expires }
    }

    /// Where the guest sent last.
    pub fn last_destination(&self) -> Option<SocketAddr> {
        self.destinations.last().map(|(to, _)| *to)
    }

    pub fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Notes that it is in use.
    fn touch(&mut self, port: u16, now: u64) {
        if !self.forwarded {
            self.expires = now.saturating_add(if port == DNS_PORT { EXPIRE_FAST } else { EXPIRE });
        }
    }

    /// Sends the guest's data to `real`, which the guest calls `to`. What the host does not take is lost.
    pub fn send(&mut self, to: SocketAddr, real: SocketAddr, data: &[u8], now: u64) {
        self.touch(to.port(), now);
        if self.destinations.last() != Some(&(to, real)) {
            self.destinations.retain(|(_, known)| *known != real);
            if self.destinations.len() >= DESTINATIONS {
                self.destinations.remove(0);
            }
            self.destinations.push((to, real));
        }
        let _ = sendto(&self.socket, data, SendFlags::NOSIGNAL, &real);
    }

    /// What came, as packets for the guest. `translate` says what the guest calls one who was not sent to; `buffer` is
    /// for use meanwhile.
    pub fn receive(
        &mut self,
        translate: impl Fn(IpAddr) -> IpAddr,
        buffer: &mut Vec<u8>,
        id: &mut u16,
        now: u64,
    ) -> Vec<Vec<u8>> {
        buffer.resize(MAX_DATAGRAM, 0);
        let mut packets = Vec::new();
        for _ in 0..BATCH {
            let Ok((size, _, from)) = recvfrom(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) else {
                break;
            };
            let Some(from) = from.and_then(|from: SocketAddrAny| SocketAddr::try_from(from).ok()) else {
                continue;
            };
            let known = self.destinations.iter().rev().find(|(_, real)| *real == from).map(|(to, _)| *to);
            let from = known.unwrap_or_else(|| SocketAddr::new(translate(from.ip()), from.port()));
            if from.is_ipv4() != self.guest.is_ipv4() {
                continue;
            }
            self.touch(from.port(), now);
            *id = id.wrapping_add(1);
            packets.extend(Datagram { from, to: self.guest, data: &buffer[..size] }.packets(*id));
        }
        packets
    }
}
