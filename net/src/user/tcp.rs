//! TCP: each connection of the guest's ends in a stack of its own here, and goes on over a socket of the host.
//!
//! The guest's side is a `smoltcp` interface with one socket, so that a packet costs the same however many connections
//! there are. A full buffer on either side stops reading on the other. The guest's connection is made when the host's
//! is (the answer to its SYN waits), and each side's end is passed on by itself.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, shutdown, sockopt};
use smoltcp::iface::{Config as InterfaceConfig, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use util::event_loop::{FdWatch, Interest};

use super::link::IpPacket;
use super::wire::MTU;

/// What waits for the host.
const RX_BUFFER: usize = 128 << 10;
/// What waits for the guest.
const TX_BUFFER: usize = 256 << 10;
/// Packets that one connection may leave for the guest at one go.
const TX_PACKETS: usize = 64;
/// How long the guest may be silent when it should answer.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Where the guest's data goes.
pub(crate) enum HostEnd {
    /// A socket of the host.
    Socket { socket: Arc<OwnedFd>, watch: Option<FdWatch>, connecting: bool },
    /// A chardev of `guestfwd=`, and what it brought.
    Chardev { index: usize, input: VecDeque<u8> },
}

/// What a connection's guest side reads from and writes to.
struct Pipe {
    incoming: Option<Vec<u8>>,
    outgoing: Vec<IpPacket>,
}

struct Rx(Vec<u8>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Tx<'a>(&'a mut Vec<IpPacket>);

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Pipe {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let packet = self.incoming.take()?;
        Some((Rx(packet), Tx(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        (self.outgoing.len() < TX_PACKETS).then_some(Tx(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

/// The time of `smoltcp`'s timers.
pub(crate) fn instant(ns: u64) -> Instant {
    Instant::from_micros((ns / 1000) as i64)
}

/// One connection.
pub(crate) struct TcpFlow {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    pipe: Pipe,
    pub host: HostEnd,
    /// The host's side has sent its last.
    host_done: bool,
    /// The guest's side has, and the host was told.
    guest_done: bool,
    /// The host's socket takes no more at present.
    host_full: bool,
    /// The host's side may have something to read.
    host_ready: bool,
    /// The guest has sent its last.
    guest_ended: bool,
    /// Something went wrong: what is left is for nobody.
    failed: bool,
    /// When the guest was heard last, or had nothing to answer.
    heard: Instant,
    /// For `info usernet`.
    pub guest: SocketAddr,
    pub remote: SocketAddr,
    /// Made by a client of `hostfwd=`.
    pub incoming: bool,
}

/// What servicing a connection came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It goes on; the time when it wants to be looked at again.
    Alive(Option<Instant>),
    /// It is over.
    Over,
}

impl TcpFlow {
    fn new(guest: SocketAddr, remote: SocketAddr, host: HostEnd, now: Instant, seed: u64) -> TcpFlow {
        let mut pipe = Pipe { incoming: None, outgoing: Vec::new() };
        let mut config = InterfaceConfig::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut pipe, now);
        let own = IpAddress::from(remote.ip());
        let bits = if remote.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|addresses| {
            // There is room for two.
            let _ = addresses.push(IpCidr::new(own, bits));
        });
        // Everything is reached over the one link. There is room for a route.
        let _ = match remote.ip() {
            IpAddr::V4(gateway) => interface.routes_mut().add_default_ipv4_route(gateway),
            IpAddr::V6(gateway) => interface.routes_mut().add_default_ipv6_route(gateway),
        };
        let mut socket =
            Socket::new(SocketBuffer::new(vec![0; RX_BUFFER]), SocketBuffer::new(vec![0; TX_BUFFER]));
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        TcpFlow {
            interface,
            sockets,
            handle,
            pipe,
            host,
            host_done: false,
            guest_done: false,
            host_full: false,
            host_ready: true,
            guest_ended: false,
            failed: false,
            heard: now,
            guest,
            remote,
            incoming: false,
        }
    }

    /// A connection that the guest asks for; its SYN is answered when the host's is made.
    pub fn accept(
        guest: SocketAddr,
        remote: SocketAddr,
        host: HostEnd,
        now: Instant,
        seed: u64,
    ) -> Option<TcpFlow> {
        let mut flow = Self::new(guest, remote, host, now, seed);
        let waits = flow.is_connecting();
        let socket = flow.socket();
        socket.pause_synack(waits);
        socket.listen(remote).ok()?;
        Some(flow)
    }

    /// A connection to the guest, for a client of the host.
    pub fn connect(
        guest: SocketAddr,
        remote: SocketAddr,
        host: HostEnd,
        now: Instant,
        seed: u64,
    ) -> Option<TcpFlow> {
        let mut flow = Self::new(guest, remote, host, now, seed);
        flow.incoming = true;
        let context = flow.interface.context();
        let socket = flow.sockets.get_mut::<Socket>(flow.handle);
        socket.connect(context, guest, remote).ok()?;
        Some(flow)
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn is_connecting(&self) -> bool {
        matches!(self.host, HostEnd::Socket { connecting: true, .. })
    }

    /// The state of the guest's side.
    pub fn state(&self) -> State {
        self.sockets.get::<Socket>(self.handle).state()
    }

    /// Bytes that wait for the guest and for the host.
    pub fn queues(&self) -> (usize, usize) {
        let socket = self.sockets.get::<Socket>(self.handle);
        (socket.send_queue(), socket.recv_queue())
    }

    /// A packet of the guest's.
    pub fn input(&mut self, packet: &[u8], now: Instant) {
        self.heard = now;
        self.pipe.incoming = Some(packet.to_vec());
        let _ = self.interface.poll_ingress_single(now, &mut self.pipe, &mut self.sockets);
        self.pipe.incoming = None;
    }

    /// Whether the host's side has come about.
    ///
    /// # Errors
    /// Why it did not.
    pub fn check_connected(&mut self) -> Result<(), Errno> {
        let HostEnd::Socket { socket, connecting, .. } = &mut self.host else { return Ok(()) };
        if !*connecting {
            return Ok(());
        }
        sockopt::socket_error(&*socket).unwrap_or_else(Err)?;
        *connecting = false;
        self.socket().pause_synack(false);
        Ok(())
    }

    /// Ends it at once; the guest is told.
    pub fn abort(&mut self) {
        self.socket().abort();
        self.failed = true;
    }

    /// Room for what a chardev brings.
    pub fn chardev_room(&self) -> usize {
        match &self.host {
            HostEnd::Chardev { input, .. } => TX_BUFFER.saturating_sub(input.len()),
            HostEnd::Socket { .. } => 0,
        }
    }

    /// The host's descriptor has nothing to wait for any more.
    pub fn hung_up(&mut self) {
        if let HostEnd::Socket { watch, connecting: false, .. } = &mut self.host
            && self.host_done
        {
            *watch = None;
        }
    }

    /// The host's side has something to read.
    pub fn host_readable(&mut self) {
        self.host_ready = true;
    }

    /// The host's socket takes more.
    pub fn host_writable(&mut self) {
        self.host_full = false;
    }

    /// Moves what can be moved, in both directions. Packets for the guest go to `out`; `write_chardev` takes data for a
    /// chardev.
    pub fn service(
        &mut self,
        now: Instant,
        out: &mut Vec<IpPacket>,
        write_chardev: &mut dyn FnMut(usize, &[u8]) -> usize,
    ) -> Progress {
        let connecting = self.is_connecting();
        if !connecting && !self.failed {
            self.write_host(write_chardev);
            self.read_host();
        }
        self.pass_ends_on();
        self.check_silence(now);
        self.emit(now);
        out.append(&mut self.pipe.outgoing);
        if self.is_over() {
            self.leave();
            return Progress::Over;
        }
        self.update_interest();
        if connecting && !self.failed {
            // The host tells.
            return Progress::Alive(None);
        }
        Progress::Alive(self.interface.poll_at(now, &self.sockets))
    }

    fn emit(&mut self, now: Instant) {
        while self.pipe.outgoing.len() < TX_PACKETS
            && self.interface.poll_egress(now, &mut self.pipe, &mut self.sockets) != PollResult::None
        {
        }
    }

    fn is_over(&self) -> bool {
        let socket = self.sockets.get::<Socket>(self.handle);
        match socket.state() {
            // A request for a connection that was none.
            State::Listen => true,
            State::Closed => self.failed || !socket.can_recv(),
            // The guest has all, and so has the host: what remains is waiting for stray packets.
            State::TimeWait => self.guest_done && self.host_done,
            _ => false,
        }
    }

    /// A guest that owes an answer and gives none is gone.
    fn check_silence(&mut self, now: Instant) {
        let socket = self.sockets.get::<Socket>(self.handle);
        let idle = matches!(socket.state(), State::Established | State::CloseWait | State::FinWait2)
            && socket.send_queue() == 0;
        if idle || self.is_connecting() {
            self.heard = now;
        } else if now > self.heard + TIMEOUT {
            self.abort();
        }
    }

    /// The host's peer learns of a guest that broke off.
    fn leave(&self) {
        if let HostEnd::Socket { socket, .. } = &self.host
            && !self.guest_ended
            && self.state() == State::Closed
        {
            // A plain end is the next best.
            let _ = sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
        }
    }

    fn read_host(&mut self) {
        let (host, handle) = (&mut self.host, self.handle);
        let socket = self.sockets.get_mut::<Socket>(handle);
        let ready = &mut self.host_ready;
        while socket.can_send() && !self.host_done && *ready {
            let outcome = match host {
                HostEnd::Socket { socket: fd, .. } => socket.send(|buffer| {
                    match rustix::io::retry_on_intr(|| rustix::io::read(&*fd, &mut *buffer)) {
                        Ok(count) => {
                            // Less than there is room for is all there is. An end is told of by itself.
                            *ready = count == buffer.len();
                            (count, Ok(count))
                        }
                        Err(error) => (0, Err(error)),
                    }
                }),
                HostEnd::Chardev { input, .. } => socket.send(|buffer| {
                    let count = buffer.len().min(input.len());
                    buffer.iter_mut().zip(input.drain(..count)).for_each(|(to, from)| *to = from);
                    (count, if count > 0 { Ok(count) } else { Err(Errno::AGAIN) })
                }),
            };
            match outcome {
                Ok(Ok(0)) => self.host_done = true,
                Ok(Ok(_)) => {}
                Ok(Err(Errno::AGAIN)) => {
                    // A chardev says nothing when it brings more.
                    *ready = matches!(host, HostEnd::Chardev { .. });
                    return;
                }
                Err(_) => return,
                Ok(Err(_)) => {
                    // Reset, or the like: the guest sees the same.
                    socket.abort();
                    self.failed = true;
                    return;
                }
            }
        }
    }

    fn write_host(&mut self, write_chardev: &mut dyn FnMut(usize, &[u8]) -> usize) {
        let (host, handle) = (&mut self.host, self.handle);
        let socket = self.sockets.get_mut::<Socket>(handle);
        while socket.can_recv() && !self.host_full {
            let outcome = socket.recv(|data| match host {
                HostEnd::Socket { socket: fd, .. } => {
                    let sent =
                        rustix::io::retry_on_intr(|| rustix::net::send(&*fd, data, SendFlags::NOSIGNAL));
                    (*sent.as_ref().unwrap_or(&0), sent)
                }
                HostEnd::Chardev { index, .. } => {
                    let taken = write_chardev(*index, data);
                    (taken, if taken > 0 { Ok(taken) } else { Err(Errno::AGAIN) })
                }
            });
            match outcome {
                Ok(Ok(_)) => {}
                Ok(Err(Errno::AGAIN)) => self.host_full = true,
                Ok(Err(_)) => {
                    socket.abort();
                    self.failed = true;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// A side's end becomes the other's.
    fn pass_ends_on(&mut self) {
        let (connecting, host_done) = (self.is_connecting(), self.host_done);
        let socket = self.socket();
        let state = socket.state();
        let all_read = !socket.can_recv();
        if host_done && matches!(state, State::Established | State::CloseWait | State::SynReceived) {
            socket.close();
        }
        if matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait) {
            self.guest_ended = true;
        }
        if self.guest_ended && all_read && !self.guest_done && !connecting {
            self.guest_done = true;
            match &self.host {
                // A socket that is gone needs no telling.
                HostEnd::Socket { socket, .. } => {
                    let _ = shutdown(socket, Shutdown::Write);
                }
                // A chardev has no end to be told of, and none of its own.
                HostEnd::Chardev { .. } => {
                    self.host_done = true;
                    self.socket().close();
                }
            }
        }
    }

    fn update_interest(&mut self) {
        let socket = self.sockets.get::<Socket>(self.handle);
        let (room, full) = (socket.can_send() && !self.host_done, self.host_full);
        let HostEnd::Socket { watch: Some(watch), connecting, .. } = &self.host else { return };
        let mut interest = Interest::empty();
        interest.set(Interest::READ, room && !connecting);
        interest.set(Interest::WRITE, *connecting || full);
        // The descriptor is open and watched: there is nothing that could fail.
        let _ = watch.set_interest(interest);
    }
}

/// The answer to a packet of no connection (RFC 9293, 3.10.7.1), in a packet with the addresses turned around.
pub(crate) fn reset_for(from: IpAddr, to: IpAddr, segment: &[u8]) -> Option<IpPacket> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr};
    let sums = ChecksumCapabilities::default();
    let packet = TcpPacket::new_checked(segment).ok()?;
    let heard = TcpRepr::parse(&packet, &from.into(), &to.into(), &sums).ok()?;
    if heard.control == TcpControl::Rst {
        return None;
    }
    let mut answer = TcpRepr {
        src_port: heard.dst_port,
        dst_port: heard.src_port,
        control: TcpControl::Rst,
        seq_number: heard.ack_number.unwrap_or_default(),
        ack_number: None,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    if heard.ack_number.is_none() {
        answer.ack_number = Some(heard.seq_number + heard.segment_len());
    }
    let ip = IpRepr::new(to.into(), from.into(), IpProtocol::Tcp, answer.buffer_len(), 64);
    let mut bytes = vec![0; ip.buffer_len()];
    ip.emit(&mut bytes, &sums);
    let (own, other) = (to.into(), from.into());
    let start = ip.header_len();
    answer.emit(&mut TcpPacket::new_unchecked(bytes.get_mut(start..)?), &own, &other, &sums);
    Some(bytes)
}

/// Whether a segment asks for a connection.
pub(crate) fn ports_and_syn(segment: &[u8]) -> Option<(u16, u16, bool)> {
    let packet = smoltcp::wire::TcpPacket::new_checked(segment).ok()?;
    Some((packet.src_port(), packet.dst_port(), packet.syn() && !packet.ack() && !packet.rst()))
}

/// A socket that is being connected.
pub(crate) fn connecting_socket(to: SocketAddr) -> io::Result<(OwnedFd, bool)> {
    util::sockets::Endpoint::Inet(to).connect(rustix::net::SocketFlags::NONBLOCK)
}
