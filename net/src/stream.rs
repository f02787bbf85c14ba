//! Packets over a stream, each after its length in four bytes (net/stream.c, and the streams of net/socket.c).

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use qapi::sockets::{FdName, InetSocketAddress, SocketAddress, UnixSocketAddress};
use qom::Result;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, accept_with, sendmsg, sockopt,
};
use util::event_loop::{BottomHalf, EventLoop, FdWatch, Interest, Ready};
use util::sockets;

use crate::client::{NET_BUFSIZE, NetClient, NetClientDriver, NetClientState, Received, new_client};
use crate::framing::{self, Reassembly, TooLong};
use crate::netdev::{NetdevStreamConnected, NetdevStreamDisconnected, NetdevStreamOptions};

struct Connection {
    socket: Arc<OwnedFd>,
    watch: Option<FdWatch>,
    /// Still being made.
    connecting: bool,
    input: Reassembly,
    /// A packet that the peer took waits there: no more is read.
    stopped: bool,
    /// What is left of a packet that the socket took a part of.
    output: VecDeque<u8>,
}

#[derive(Default)]
struct State {
    listener: Option<(Arc<OwnedFd>, FdWatch)>,
    connection: Option<Connection>,
    /// Counts connections, so that a handler of an old one is told apart.
    number: u64,
}

/// A backend that is a stream.
pub(crate) struct Stream {
    driver: NetClientDriver,
    nc: Weak<NetClientState>,
    state: Mutex<State>,
    /// Goes on reading, on the main loop's thread.
    resume: BottomHalf,
    this: Weak<Stream>,
}

impl Stream {
    /// A client that is connected to nothing yet.
    pub fn new(
        driver: NetClientDriver,
        id: &str,
        peer: Option<&Arc<NetClientState>>,
    ) -> (Arc<NetClientState>, Arc<Stream>) {
        new_client(driver.as_str(), Some(id), 0, peer, |nc| {
            Arc::new_cyclic(|this: &Weak<Stream>| {
                let weak = this.clone();
                let resume = BottomHalf::new(EventLoop::main(), move || {
                    if let Some(stream) = weak.upgrade() {
                        stream.go_on();
                    }
                });
                Stream { driver, nc: nc.clone(), state: Mutex::default(), resume, this: this.clone() }
            })
        })
    }

    fn with_nc(&self, then: impl FnOnce(&Arc<NetClientState>)) {
        if let Some(nc) = self.nc.upgrade() {
            then(&nc);
        }
    }

    /// Waits for connections.
    pub fn listen(&self, listener: OwnedFd) -> std::io::Result<()> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        let listener = Arc::new(listener);
        let weak = self.this.clone();
        let accept = move |_| {
            if let Some(stream) = weak.upgrade() {
                stream.accept();
            }
        };
        let watch = EventLoop::main().add_fd(listener.clone(), Interest::READ, Arc::new(accept))?;
        self.state.lock().listener = Some((listener, watch));
        self.with_nc(|nc| nc.set_link_down(true));
        Ok(())
    }

    fn accept(&self) {
        let listener = self.state.lock().listener.as_ref().map(|(listener, _)| listener.clone());
        let Some(listener) = listener else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // One that went before it was accepted, or too many files: the next one may do.
        let Ok(socket) = accept_with(&listener, flags) else { return };
        let _ = self.connected(socket, false);
    }

    /// Goes on with a socket that is connected, or will be.
    pub fn connected(&self, socket: OwnedFd, connecting: bool) -> std::io::Result<()> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        if sockopt::socket_domain(&socket).is_ok_and(|family| family != AddressFamily::UNIX) {
            // Only slower if it fails.
            let _ = sockopt::set_tcp_nodelay(&socket, true);
        }
        let socket = Arc::new(socket);
        let number = {
            let mut state = self.state.lock();
            state.number += 1;
            if let Some((_, watch)) = &state.listener {
                // One at a time: others wait.
                watch.set_interest(Interest::empty())?;
            }
            state.connection = Some(Connection {
                socket: socket.clone(),
                watch: None,
                connecting,
                input: Reassembly::default(),
                stopped: false,
                output: VecDeque::new(),
            });
            state.number
        };
        let weak = self.this.clone();
        let ready = move |ready| {
            if let Some(stream) = weak.upgrade() {
                stream.ready(number, ready);
            }
        };
        let interest = if connecting { Interest::WRITE } else { Interest::READ };
        let watch = EventLoop::main().add_fd(socket.clone(), interest, Arc::new(ready))?;
        if let Some(connection) = &mut self.state.lock().connection {
            connection.watch = Some(watch);
        }
        if !connecting {
            self.established(&socket);
        }
        Ok(())
    }

    /// The link is up.
    fn established(&self, socket: &OwnedFd) {
        let server = self.state.lock().listener.is_some();
        self.with_nc(|nc| {
            nc.set_link_down(false);
            if self.driver == NetClientDriver::Stream {
                let addr = address_of(socket, server);
                nc.set_info_str(uri(&addr));
                qapi::emit(&NetdevStreamConnected { netdev_id: nc.name().to_owned(), addr });
            } else if server && let Ok((_, peer)) = sockets::ends(socket) {
                nc.set_info_str(format!("socket: connection from {peer}"));
            }
            nc.flush();
        });
    }

    fn ready(&self, number: u64, ready: Ready) {
        let connecting = {
            let state = self.state.lock();
            let Some(connection) = state.connection.as_ref().filter(|_| state.number == number) else {
                return;
            };
            connection.connecting.then(|| connection.socket.clone())
        };
        if let Some(socket) = connecting {
            return self.connect_finished(&socket);
        }
        if ready.intersects(Ready::WRITE | Ready::ERROR | Ready::HANGUP) {
            self.write();
        }
        if ready.intersects(Ready::READ | Ready::ERROR | Ready::HANGUP) {
            self.read();
        }
    }

    fn connect_finished(&self, socket: &Arc<OwnedFd>) {
        if sockopt::socket_error(socket).unwrap_or_else(Err).is_err() {
            self.state.lock().connection = None;
            self.with_nc(|nc| {
                nc.set_link_down(true);
                nc.set_info_str("connection error");
            });
            return;
        }
        {
            let mut state = self.state.lock();
            let Some(connection) = &mut state.connection else { return };
            connection.connecting = false;
            connection.update_interest();
        }
        self.established(socket);
    }

    fn read(&self) {
        let mut buffer = vec![0; NET_BUFSIZE];
        let ended = {
            let mut state = self.state.lock();
            let Some(connection) = state.connection.as_mut().filter(|c| !c.stopped) else { return };
            match rustix::io::read(&connection.socket, &mut buffer) {
                Ok(0) => true,
                Ok(read) => {
                    connection.input.add(&buffer[..read]);
                    false
                }
                Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
            }
        };
        if ended { self.hang_up() } else { self.hand_over() }
    }

    /// Hands over the packets that are whole, until the peer takes no more.
    fn hand_over(&self) {
        let Some(nc) = self.nc.upgrade() else { return };
        loop {
            let packet = {
                let mut state = self.state.lock();
                let Some(connection) = state.connection.as_mut().filter(|c| !c.stopped) else { return };
                let packet = connection.input.next();
                // Until it is known that the packet was taken: `sent` may come before `send_async` returns.
                connection.stopped = matches!(packet, Ok(Some(_)));
                packet
            };
            match packet {
                Ok(Some(packet)) if nc.send_async(&packet) => self.set_stopped(false),
                Ok(Some(_)) => return self.update_interest(),
                Ok(None) => return self.update_interest(),
                Err(TooLong) => return self.hang_up(),
            }
        }
    }

    fn set_stopped(&self, stopped: bool) {
        if let Some(connection) = &mut self.state.lock().connection {
            connection.stopped = stopped;
        }
    }

    fn update_interest(&self) {
        if let Some(connection) = &self.state.lock().connection {
            connection.update_interest();
        }
    }

    /// The peer took the packet that waited.
    fn go_on(&self) {
        self.set_stopped(false);
        self.hand_over();
    }

    fn write(&self) {
        let empty = {
            let mut state = self.state.lock();
            let Some(connection) = &mut state.connection else { return };
            let waited = !connection.output.is_empty();
            connection.write();
            connection.update_interest();
            waited && connection.output.is_empty()
        };
        if empty {
            self.with_nc(|nc| nc.flush());
        }
    }

    fn hang_up(&self) {
        let connection = {
            let mut state = self.state.lock();
            if let Some((_, watch)) = &state.listener {
                // Watching again what was watched before cannot fail for want of anything.
                let _ = watch.set_interest(Interest::READ);
            }
            state.connection.take()
        };
        if connection.is_none() {
            return;
        }
        drop(connection);
        self.with_nc(|nc| {
            nc.set_link_down(true);
            nc.set_info_str("");
            if self.driver == NetClientDriver::Stream {
                qapi::emit(&NetdevStreamDisconnected { netdev_id: nc.name().to_owned() });
            }
            // What waited goes to nobody.
            nc.flush();
        });
    }
}

impl Connection {
    fn update_interest(&self) {
        let mut interest = Interest::empty();
        interest.set(Interest::READ, !self.connecting && !self.stopped);
        interest.set(Interest::WRITE, self.connecting || !self.output.is_empty());
        if let Some(watch) = &self.watch {
            // The descriptor is open and watched: there is nothing that could fail.
            let _ = watch.set_interest(interest);
        }
    }

    /// Writes what is left. Errors show when reading.
    fn write(&mut self) {
        while !self.output.is_empty() {
            let (first, _) = self.output.as_slices();
            match rustix::net::send(&self.socket, first, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.output.clear(),
            }
        }
    }

    /// Sends a packet; what the socket does not take is kept.
    fn send(&mut self, packet: &[u8]) {
        let header = framing::header(packet.len(), None);
        let parts = [IoSlice::new(&header), IoSlice::new(packet)];
        let mut none = SendAncillaryBuffer::default();
        let sent =
            rustix::io::retry_on_intr(|| sendmsg(&self.socket, &parts, &mut none, SendFlags::NOSIGNAL));
        let sent = match sent {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(_) => return,
        };
        self.output.extend(header.iter().chain(packet).skip(sent));
        if !self.output.is_empty() {
            self.update_interest();
        }
    }
}

impl NetClient for Stream {
    fn driver(&self) -> NetClientDriver {
        self.driver
    }

    fn can_receive(&self, _: usize) -> bool {
        let state = self.state.lock();
        state
            .connection
            .as_ref()
            .is_none_or(|connection| !connection.connecting && connection.output.is_empty())
    }

    fn receive(&self, _: usize, packet: &[u8]) -> Received {
        let mut state = self.state.lock();
        match &mut state.connection {
            Some(connection) if connection.connecting || !connection.output.is_empty() => Received::Blocked,
            Some(connection) => {
                connection.send(packet);
                Received::Done
            }
            None => Received::Done,
        }
    }

    fn sent(&self, _: usize) {
        self.resume.schedule();
    }

    fn cleanup(&self) {
        let old = std::mem::take(&mut *self.state.lock());
        drop(old);
    }
}

fn inet(address: SocketAddr) -> SocketAddress {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    SocketAddress::Inet(InetSocketAddress { host, port, ..InetSocketAddress::default() })
}

/// The other end's address; at a unix socket's server the own, as clients have none.
fn address_of(socket: &OwnedFd, server: bool) -> SocketAddress {
    let name = match server && sockopt::socket_domain(socket).is_ok_and(|f| f == AddressFamily::UNIX) {
        true => rustix::net::getsockname(socket).ok(),
        false => rustix::net::getpeername(socket).ok().flatten(),
    };
    let unix = || {
        let address = rustix::net::SocketAddrUnix::try_from(name.clone()?).ok()?;
        let path = address.path_bytes().map(|path| String::from_utf8_lossy(path).into_owned());
        let is_abstract = address.abstract_name().map(|name| String::from_utf8_lossy(name).into_owned());
        let r#abstract = is_abstract.as_ref().map(|_| true);
        let path = path.or(is_abstract).unwrap_or_default();
        Some(SocketAddress::Unix(UnixSocketAddress { path, r#abstract, tight: r#abstract }))
    };
    let ip = name.clone().and_then(|name| SocketAddr::try_from(name).ok()).map(inet);
    ip.or_else(unix).unwrap_or_else(|| SocketAddress::Fd(FdName { str: String::new() }))
}

/// As `info network` shows an address (`socket_uri`).
fn uri(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Inet(inet) => format!("tcp:{}:{}", inet.host, inet.port),
        SocketAddress::Unix(unix) => format!("unix:{}", unix.path),
        SocketAddress::Fd(fd) => format!("fd:{}", fd.str),
    }
}

/// `-netdev stream`. An address where nobody listens is no error: the backend then has no link.
pub(crate) fn init(
    id: &str,
    options: &NetdevStreamOptions,
    peer: Option<&Arc<NetClientState>>,
) -> Result<()> {
    let address = options.addr.to_address()?;
    let fd = match &options.addr {
        SocketAddress::Fd(fd) => Some(crate::netdev::fd_param(&fd.str)?),
        SocketAddress::Inet(_) | SocketAddress::Unix(_) => None,
    };
    let (nc, stream) = Stream::new(NetClientDriver::Stream, id, peer);
    nc.set_link_down(true);
    let done = if options.server.unwrap_or(false) {
        fd.map_or_else(|| address.listen().map_err(|_| ()), Ok)
            .and_then(|listener| stream.listen(listener).map_err(|_| ()))
    } else {
        match fd {
            Some(socket) => stream.connected(socket, false).map_err(|_| ()),
            None => {
                connect(&address).and_then(|(socket, done)| stream.connected(socket, !done).map_err(|_| ()))
            }
        }
    };
    if done.is_err() {
        nc.set_info_str("connection error");
    }
    Ok(())
}

fn connect(address: &sockets::SocketAddress) -> Result<(OwnedFd, bool), ()> {
    let endpoints = address.endpoints().map_err(|_| ())?;
    endpoints.iter().find_map(|endpoint| endpoint.connect(SocketFlags::NONBLOCK).ok()).ok_or(())
}
