//! `-netdev socket`: another virtual machine, over TCP, UDP or a multicast group (net/socket.c).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use qom::{Error, Result, bail};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, SocketType, bind, connect, getsockname, listen, sockopt};
use util::log::OsError;
use util::sockets;

use crate::client::{NetClientDriver, NetClientState};
use crate::dgram::{Destination, Dgram, bound_socket, mcast_socket, parse_host_port, parse_local};
use crate::netdev::{NetdevSocketOptions, fd_param};
use crate::stream::Stream;

type Peer<'a> = Option<&'a Arc<NetClientState>>;

const DRIVER: NetClientDriver = NetClientDriver::Socket;

/// Makes the backend.
pub(crate) fn init(id: &str, options: &NetdevSocketOptions, peer: Peer<'_>) -> Result<()> {
    let ways = [&options.fd, &options.listen, &options.connect, &options.mcast, &options.udp];
    if ways.iter().filter(|way| way.is_some()).count() != 1 {
        bail!("exactly one of listen=, connect=, mcast= or udp= is required");
    }
    if options.localaddr.is_some() && options.mcast.is_none() && options.udp.is_none() {
        bail!("localaddr= is only valid with mcast= or udp=");
    }
    if let Some(fd) = &options.fd {
        return init_fd(id, fd, peer);
    }
    if let Some(host) = &options.listen {
        return init_listen(id, host, peer);
    }
    if let Some(host) = &options.connect {
        return init_connect(id, host, peer);
    }
    if let Some(host) = &options.mcast {
        let group = parse_host_port(host)?;
        let local = options.localaddr.as_deref().map(parse_local).transpose()?;
        let socket = mcast_socket(group, local)?;
        let nc = Dgram::add(DRIVER, id, peer, socket, Destination::Inet(group.into()))?;
        nc.set_info_str(format!("socket: mcast={group}"));
        return Ok(());
    }
    let (Some(remote), Some(local)) = (&options.udp, &options.localaddr) else {
        bail!("localaddr= is mandatory with udp=")
    };
    let local = parse_host_port(local)?;
    let remote = parse_host_port(remote)?;
    let nc = Dgram::add(DRIVER, id, peer, bound_socket(local)?, Destination::Inet(remote.into()))?;
    nc.set_info_str(format!("socket: udp={remote}"));
    Ok(())
}

fn failed(what: &str) -> impl FnOnce(Errno) -> Error {
    move |error| Error::new(format!("{what}: {}", OsError(error.into())))
}

fn unusable(id: &str, error: std::io::Error) -> Error {
    crate::client::del_client(id);
    Error::new(format!("{id}: Can't use file descriptor: {}", OsError(error)))
}

fn init_fd(id: &str, fd: &str, peer: Peer<'_>) -> Result<()> {
    let socket = fd_param(fd)?;
    match sockopt::socket_type(&socket) {
        Ok(SocketType::DGRAM) => {
            let unix = is_unix(&socket);
            let nc = Dgram::add(DRIVER, id, peer, socket, Destination::Connected)?;
            nc.set_info_str(format!("socket: fd={fd} {}", if unix { "unix" } else { "inet" }));
            Ok(())
        }
        Ok(SocketType::STREAM) => {
            let (nc, stream) = Stream::new(DRIVER, id, peer);
            nc.set_info_str(format!("socket: fd={fd}"));
            stream.connected(socket, false).map_err(|error| unusable(id, error))
        }
        Ok(kind) => {
            let kind = kind.as_raw();
            bail!("socket type={kind} for fd={fd} must be either SOCK_DGRAM or SOCK_STREAM")
        }
        Err(_) => bail!("can't get socket option SO_TYPE"),
    }
}

fn is_unix(socket: &OwnedFd) -> bool {
    getsockname(socket)
        .is_ok_and(|name: SocketAddrAny| name.address_family() == rustix::net::AddressFamily::UNIX)
}

fn stream_socket(address: &std::net::SocketAddr) -> Result<OwnedFd> {
    sockets::new_socket(address, SocketType::STREAM, SocketFlags::NONBLOCK)
        .map_err(failed("can't create stream socket"))
}

fn init_listen(id: &str, host: &str, peer: Peer<'_>) -> Result<()> {
    let address = parse_host_port(host)?;
    let socket = stream_socket(&address.into())?;
    // Without it a port cannot be had again for a while, no more.
    let _ = sockopt::set_socket_reuseaddr(&socket, true);
    bind(&socket, &address).map_err(failed(&format!("can't bind ip={} to socket", address.ip())))?;
    listen(&socket, 1).map_err(failed("can't listen on socket"))?;
    let (_, stream) = Stream::new(DRIVER, id, peer);
    stream.listen(socket).map_err(|error| unusable(id, error))
}

fn init_connect(id: &str, host: &str, peer: Peer<'_>) -> Result<()> {
    let address = parse_host_port(host)?;
    let socket = stream_socket(&address.into())?;
    let connecting = match rustix::io::retry_on_intr(|| connect(&socket, &address)) {
        Ok(()) => false,
        Err(Errno::INPROGRESS | Errno::ALREADY) => true,
        Err(error) => return Err(failed("can't connect socket")(error)),
    };
    let (nc, stream) = Stream::new(DRIVER, id, peer);
    stream.connected(socket, connecting).map_err(|error| unusable(id, error))?;
    nc.set_info_str(format!("socket: connect to {address}"));
    Ok(())
}
