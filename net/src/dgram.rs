//! Packets as datagrams (net/dgram.c, and the datagrams of net/socket.c).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use qapi::sockets::{InetSocketAddress, SocketAddress};
use qom::{Error, Result, bail};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, sendto,
    socket_with, sockopt,
};
use util::event_loop::{EventLoop, FdWatch, Interest, Ready};
use util::log::OsError;
use util::sockets;

use crate::client::{NET_BUFSIZE, NetClient, NetClientDriver, NetClientState, Received, new_client};
use crate::netdev::{NetdevDgramOptions, fd_param};

/// Packets read at one go, so that others get their turn.
const BATCH: usize = 64;

/// Where packets go.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    /// Where the socket is connected to.
    Connected,
    Inet(SocketAddr),
    Unix(SocketAddrUnix),
}

struct State {
    watch: Option<FdWatch>,
    read: bool,
    write: bool,
}

/// A backend that is a datagram socket.
pub(crate) struct Dgram {
    driver: NetClientDriver,
    nc: Weak<NetClientState>,
    socket: Arc<OwnedFd>,
    destination: Destination,
    state: Mutex<State>,
}

impl Dgram {
    /// A client on a socket.
    ///
    /// # Errors
    /// What the host says.
    pub fn add(
        driver: NetClientDriver,
        id: &str,
        peer: Option<&Arc<NetClientState>>,
        socket: OwnedFd,
        destination: Destination,
    ) -> Result<Arc<NetClientState>> {
        let error = |error: std::io::Error| {
            Error::new(format!("{id}: Can't use file descriptor: {}", OsError(error)))
        };
        rustix::io::ioctl_fionbio(&socket, true).map_err(|e| error(e.into()))?;
        let socket = Arc::new(socket);
        let (nc, dgram) = new_client(driver.as_str(), Some(id), 0, peer, |nc| {
            let state = Mutex::new(State { watch: None, read: true, write: false });
            Arc::new(Dgram { driver, nc: nc.clone(), socket: socket.clone(), destination, state })
        });
        let weak = Arc::downgrade(&dgram);
        let ready = move |ready| {
            if let Some(dgram) = weak.upgrade() {
                dgram.ready(ready);
            }
        };
        match EventLoop::main().add_fd(socket, Interest::READ, Arc::new(ready)) {
            Ok(watch) => dgram.state.lock().watch = Some(watch),
            Err(failed) => {
                crate::client::del_client(id);
                return Err(error(failed));
            }
        }
        Ok(nc)
    }

    /// Changes what is waited for.
    fn poll(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let mut interest = Interest::empty();
        interest.set(Interest::READ, state.read);
        interest.set(Interest::WRITE, state.write);
        if let Some(watch) = &state.watch {
            // The descriptor is open and watched: there is nothing that could fail.
            let _ = watch.set_interest(interest);
        }
    }

    fn ready(&self, ready: Ready) {
        let Some(nc) = self.nc.upgrade() else { return };
        if ready.intersects(Ready::WRITE | Ready::ERROR) && self.state.lock().write {
            self.poll(|state| state.write = false);
            nc.flush();
        }
        if ready.intersects(Ready::READ | Ready::ERROR | Ready::HANGUP) {
            self.read(&nc);
        }
    }

    fn read(&self, nc: &Arc<NetClientState>) {
        let mut buffer = vec![0; NET_BUFSIZE];
        for _ in 0..BATCH {
            if !self.state.lock().read {
                return;
            }
            let size = match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return self.poll(|state| (state.read, state.write) = (false, false)),
                Ok((size, _)) => size,
                Err(_) => return,
            };
            // Before it is sent: the peer may have taken it before `send_async` returns.
            self.state.lock().read = false;
            if !nc.send_async(&buffer[..size]) {
                return self.poll(|_| {});
            }
            self.state.lock().read = true;
        }
    }

    fn send(&self, packet: &[u8]) -> rustix::io::Result<usize> {
        let (socket, flags) = (&self.socket, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        rustix::io::retry_on_intr(|| match &self.destination {
            Destination::Connected => rustix::net::send(socket, packet, flags),
            Destination::Inet(address) => sendto(socket, packet, flags, address),
            Destination::Unix(address) => sendto(socket, packet, flags, address),
        })
    }
}

impl NetClient for Dgram {
    fn driver(&self) -> NetClientDriver {
        self.driver
    }

    fn receive(&self, _: usize, packet: &[u8]) -> Received {
        match self.send(packet) {
            Err(Errno::AGAIN) => {
                self.poll(|state| state.write = true);
                Received::Blocked
            }
            // A datagram that cannot be sent is lost, as datagrams are.
            _ => Received::Done,
        }
    }

    fn sent(&self, _: usize) {
        self.poll(|state| state.read = true);
    }

    fn cleanup(&self) {
        let watch = self.state.lock().watch.take();
        drop(watch);
    }
}

/// A host and a port, of IPv4 (`convert_host_port`).
pub(crate) fn convert_host_port(host: &str, port: &str) -> Result<SocketAddrV4> {
    let ip = if host.is_empty() {
        Ipv4Addr::UNSPECIFIED
    } else if host.starts_with(|c: char| c.is_ascii_digit()) {
        let wrong = || Error::new(format!("host address '{host}' is not a valid IPv4 address"));
        host.parse().map_err(|_| wrong())?
    } else {
        let found = (host, 0).to_socket_addrs().ok();
        let v4 = |address| match address {
            SocketAddr::V4(v4) => Some(*v4.ip()),
            SocketAddr::V6(_) => None,
        };
        let ip = found.and_then(|mut found| found.find_map(v4));
        ip.ok_or_else(|| Error::new(format!("can't resolve host address '{host}'")))?
    };
    match port.parse() {
        Ok(port) => Ok(SocketAddrV4::new(ip, port)),
        Err(_) => bail!("port number '{port}' is invalid"),
    }
}

/// `HOST:PORT` (`parse_host_port`).
pub(crate) fn parse_host_port(text: &str) -> Result<SocketAddrV4> {
    match text.split_once(':') {
        Some((host, port)) => convert_host_port(host, port),
        None => bail!("host address '{text}' doesn't contain ':' separating host from port"),
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(Errno) -> Error {
    let what = what.into();
    move |error| Error::new(format!("{what}: {}", OsError(error.into())))
}

fn inet_socket() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
        .map_err(failed("can't create datagram socket"))
}

/// A socket that is bound to an address which others may have, too.
pub(crate) fn bound_socket(local: SocketAddrV4) -> Result<OwnedFd> {
    let socket = inet_socket()?;
    sockopt::set_socket_reuseaddr(&socket, true).map_err(failed("can't set socket option SO_REUSEADDR"))?;
    bind(&socket, &local).map_err(failed(format!("can't bind ip={} to socket", local.ip())))?;
    Ok(socket)
}

/// A socket in a multicast group.
pub(crate) fn mcast_socket(group: SocketAddrV4, local: Option<Ipv4Addr>) -> Result<OwnedFd> {
    let ip = group.ip();
    if !ip.is_multicast() {
        let number = u32::from(*ip);
        bail!("specified mcastaddr {ip} (0x{number:08x}) does not contain a multicast address");
    }
    let socket = bound_socket(group)?;
    sockopt::set_ip_add_membership(&socket, ip, &local.unwrap_or(Ipv4Addr::UNSPECIFIED))
        .map_err(failed(format!("can't add socket to multicast group {ip}")))?;
    // Several machines on one host hear each other.
    sockopt::set_ip_multicast_loop(&socket, true)
        .map_err(failed("can't force multicast message to loopback"))?;
    if let Some(local) = local {
        sockopt::set_ip_multicast_if(&socket, &local)
            .map_err(failed("can't set the default network send interface"))?;
    }
    Ok(socket)
}

/// The address of a group's interface.
pub(crate) fn parse_local(text: &str) -> Result<Ipv4Addr> {
    text.parse().map_err(|_| Error::new(format!("localaddr '{text}' is not a valid IPv4 address")))
}

fn inet_address(inet: &InetSocketAddress) -> Result<SocketAddrV4> {
    convert_host_port(&inet.host, &inet.port)
}

/// `-netdev dgram`.
pub(crate) fn init(id: &str, options: &NetdevDgramOptions, peer: Option<&Arc<NetClientState>>) -> Result<()> {
    if let Some(SocketAddress::Inet(remote)) = &options.remote {
        let group = inet_address(remote)?;
        if group.ip().is_multicast() {
            return init_mcast(id, group, options.local.as_ref(), peer);
        }
    }
    let Some(local) = &options.local else { bail!("dgram requires local= parameter") };
    let (socket, destination, info) = match (local, &options.remote) {
        (SocketAddress::Fd(_), Some(_)) => bail!("don't set remote with local.fd"),
        (SocketAddress::Fd(fd), None) => {
            let socket = fd_param(&fd.str)?;
            let family = sockopt::socket_domain(&socket).map_err(failed(format!("fd {}", fd.str)))?;
            let family = if family == AddressFamily::UNIX { "unix" } else { "inet" };
            (socket, Destination::Connected, format!("fd={} {family}", fd.str))
        }
        (_, None) => bail!("type=inet or type=unix requires remote parameter"),
        (SocketAddress::Inet(local), Some(SocketAddress::Inet(remote))) => {
            let (local, remote) = (inet_address(local)?, inet_address(remote)?);
            let socket = bound_socket(local)?;
            (socket, Destination::Inet(remote.into()), format!("udp={local}/{remote}"))
        }
        (SocketAddress::Unix(local), Some(SocketAddress::Unix(remote))) => {
            let info = format!("udp={}:{}", local.path, remote.path);
            let (socket, remote) = unix_socket(&local.path, &remote.path)?;
            (socket, Destination::Unix(remote), info)
        }
        _ => bail!("remote and local types must be the same"),
    };
    Dgram::add(NetClientDriver::Dgram, id, peer, socket, destination)?.set_info_str(info);
    Ok(())
}

fn init_mcast(
    id: &str,
    group: SocketAddrV4,
    local: Option<&SocketAddress>,
    peer: Option<&Arc<NetClientState>>,
) -> Result<()> {
    let local = match local {
        None => None,
        Some(SocketAddress::Inet(local)) => Some(parse_local(&local.host)?),
        Some(_) => bail!("only support inet or fd type for local"),
    };
    let socket = mcast_socket(group, local)?;
    let nc = Dgram::add(NetClientDriver::Dgram, id, peer, socket, Destination::Inet(group.into()))?;
    nc.set_info_str(format!("mcast={group}"));
    Ok(())
}

fn unix_socket(local: &str, remote: &str) -> Result<(OwnedFd, SocketAddrUnix)> {
    let address = |path: &str| {
        let unix = sockets::UnixSocketAddress { path: path.to_owned(), is_abstract: false, tight: true };
        unix.sockaddr().map_err(|error| Error::new(error.to_string()))
    };
    let (own, other) = (address(local)?, address(remote)?);
    match std::fs::remove_file(local) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("failed to unlink socket {local}: {}", OsError(error))
        }
        _ => {}
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(failed("can't create datagram socket"))?;
    bind(socket.as_fd(), &own).map_err(failed(format!("can't bind unix={local} to socket")))?;
    Ok((socket, other))
}
