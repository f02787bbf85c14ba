//! TCP and UDP addresses (util/qemu-sockets.c).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::SocketError;

/// A host and port as the user names them.
#[derive(Clone, Debug)]
pub struct InetSocketAddress {
    /// A name or a number; empty for this machine.
    pub host: String,
    /// A number.
    pub port: String,
    /// The last port to try when listening.
    pub to: Option<u16>,
    /// Whether addresses of IPv4 will do.
    pub ipv4: Option<bool>,
    /// Whether addresses of IPv6 will do.
    pub ipv6: Option<bool>,
}

impl InetSocketAddress {
    /// A host and port, and which families will do.
    ///
    /// # Errors
    /// When none will.
    pub fn new(host: &str, port: &str, ipv4: Option<bool>, ipv6: Option<bool>) -> Result<Self, SocketError> {
        if (ipv4, ipv6) == (Some(false), Some(false)) {
            return Err(SocketError::address("Cannot disable IPv4 and IPv6 at same time"));
        }
        Ok(InetSocketAddress { host: host.to_owned(), port: port.to_owned(), to: None, ipv4, ipv6 })
    }

    fn takes_v4(&self) -> bool {
        self.ipv4.unwrap_or(self.ipv6 != Some(true))
    }

    fn takes_v6(&self) -> bool {
        self.ipv6.unwrap_or(self.ipv4 != Some(true))
    }

    fn error(&self, what: &str) -> SocketError {
        SocketError::address(format!("address resolution failed for {}:{}: {what}", self.host, self.port))
    }

    fn port_number(&self) -> Result<u16, SocketError> {
        self.port.parse().map_err(|_| self.error("Servname not supported for ai_socktype"))
    }

    /// The addresses to try in turn. An empty host is this machine: any of its addresses to listen on, or
    /// its loopback to connect to.
    ///
    /// # Errors
    /// A name that does not resolve.
    pub fn resolve(&self, passive: bool) -> Result<Vec<SocketAddr>, SocketError> {
        let port = self.port_number()?;
        let found: Vec<SocketAddr> = if self.host.is_empty() {
            let (v4, v6) = match passive {
                true => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
                false => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            };
            // The unspecified IPv6 address listens for IPv4 too.
            [IpAddr::V6(v6), IpAddr::V4(v4)].map(|ip| SocketAddr::new(ip, port)).to_vec()
        } else {
            let found = (self.host.as_str(), port).to_socket_addrs().map_err(|error| {
                let text = error.to_string();
                self.error(text.rsplit(": ").next().unwrap_or(&text))
            })?;
            found.collect()
        };
        let suits = |address: &SocketAddr| if address.is_ipv4() { self.takes_v4() } else { self.takes_v6() };
        let found: Vec<_> = found.into_iter().filter(suits).collect();
        if found.is_empty() {
            Err(self.error("Address family for hostname not supported"))
        } else {
            Ok(found)
        }
    }

    /// A listening socket on the first port that is free.
    ///
    /// # Errors
    /// As [`InetSocketAddress::resolve`], or what the host says.
    pub fn listen(&self) -> Result<OwnedFd, SocketError> {
        let mut error = Errno::ADDRNOTAVAIL;
        for mut address in self.resolve(true)? {
            let first = address.port();
            for port in first..=self.to.unwrap_or(first).max(first) {
                address.set_port(port);
                match self.try_listen(&address) {
                    Ok(socket) => return Ok(socket),
                    Err(failed @ (Errno::ADDRINUSE | Errno::AFNOSUPPORT)) => error = failed,
                    Err(failed) => return Err(SocketError::system("Failed to bind socket", failed)),
                }
            }
        }
        Err(SocketError::system("Failed to find an available port", error))
    }

    fn try_listen(&self, address: &SocketAddr) -> rustix::io::Result<OwnedFd> {
        let socket = new_socket(address, SocketType::STREAM, SocketFlags::empty())?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, !(self.takes_v4() && self.takes_v6()))?;
        }
        bind(&socket, address)?;
        listen(&socket, 1)?;
        Ok(socket)
    }
}

/// A socket of the family of `address`.
///
/// # Errors
/// What the host says.
pub fn new_socket(address: &SocketAddr, kind: SocketType, flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, kind, flags | SocketFlags::CLOEXEC, None)
}

/// The addresses at both ends of a connection.
///
/// # Errors
/// What the host says.
pub fn ends(socket: &OwnedFd) -> io::Result<(SocketAddr, SocketAddr)> {
    let local = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    let peer = rustix::net::getpeername(socket)?.ok_or(io::ErrorKind::NotConnected)?;
    Ok((local, SocketAddr::try_from(peer)?))
}
