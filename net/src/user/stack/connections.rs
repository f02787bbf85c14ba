//! The guest's TCP connections, and those of the host's that come in to it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, sockopt};
use smoltcp::time::Instant;
use util::event_loop::{Interest, Ready};

use super::super::forward::GuestTarget;
use super::super::tcp::{self, HostEnd, Progress, TcpFlow};
use super::super::wire::Ip;
use super::{CHARDEV_PENDING, Connection, OUT_PAUSE, Source, Stack, TCP_FLOWS, TcpKey, now};

impl Stack {
    pub(super) fn tcp_input(&mut self, ip: &Ip<'_>) {
        if !self.is_guests(ip.from) {
            return;
        }
        let Some((from_port, to_port, syn)) = tcp::ports_and_syn(ip.payload) else { return };
        let key = (SocketAddr::new(ip.from, from_port), SocketAddr::new(ip.to, to_port));
        if !(self.tcp.contains_key(&key) || syn && self.new_tcp_flow(key)) {
            if let Some(reset) = tcp::reset_for(ip.from, ip.to, ip.payload) {
                self.push_packet(reset);
            }
            return;
        }
        if let Some(connection) = self.tcp.get_mut(&key) {
            connection.flow.input(ip.whole, tcp::instant(now()));
            if !std::mem::replace(&mut connection.heard, true) {
                self.heard.push(key);
            }
        }
    }

    /// Moves the connections on that the guest was heard on.
    pub fn service_heard(&mut self) {
        for key in std::mem::take(&mut self.heard) {
            if let Some(connection) = self.tcp.get_mut(&key) {
                connection.heard = false;
                self.service(key);
            }
        }
    }

    /// What a connection leads to, where there is something.
    fn host_end(&mut self, to: SocketAddr) -> Option<HostEnd> {
        let forward = self.guest_forwards.iter().position(|forward| SocketAddr::V4(forward.address) == to);
        if let Some(index) = forward {
            return match self.guest_forwards[index].target.clone() {
                GuestTarget::Chardev(_) => Some(HostEnd::Chardev { index, input: VecDeque::new() }),
                GuestTarget::Command(command) => self.start_command(&command),
            };
        }
        let real = self.real(to)?;
        let (socket, connected) = tcp::connecting_socket(real).ok()?;
        Some(HostEnd::Socket { socket: Arc::new(socket), watch: None, connecting: !connected })
    }

    fn start_command(&mut self, command: &str) -> Option<HostEnd> {
        let flags = SocketFlags::CLOEXEC;
        let family = rustix::net::AddressFamily::UNIX;
        let (own, its) = rustix::net::socketpair(family, SocketType::STREAM, flags, None).ok()?;
        rustix::io::ioctl_fionbio(&own, true).ok()?;
        let output = its.try_clone().ok()?;
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::from(its))
            .stdout(Stdio::from(output))
            .spawn();
        self.children.push(child.ok()?);
        Some(HostEnd::Socket { socket: Arc::new(own), watch: None, connecting: false })
    }

    fn new_tcp_flow(&mut self, (guest, remote): TcpKey) -> bool {
        if self.tcp.len() >= TCP_FLOWS {
            return false;
        }
        let (seed, at) = (self.seed(), tcp::instant(now()));
        let flow = self.host_end(remote).and_then(|host| TcpFlow::accept(guest, remote, host, at, seed));
        flow.is_some_and(|flow| self.add_tcp(flow))
    }

    fn add_tcp(&mut self, mut flow: TcpFlow) -> bool {
        let (guest, remote) = (flow.guest, flow.remote);
        if let HostEnd::Socket { socket, watch, connecting } = &mut flow.host {
            // Only slower if it fails.
            let _ = sockopt::set_tcp_nodelay(&*socket, true);
            let interest = if *connecting { Interest::WRITE } else { Interest::READ };
            match self.watch(socket, interest, Source::Tcp(guest, remote)) {
                Ok(watched) => *watch = Some(watched),
                Err(_) => return false,
            }
        }
        self.tcp.insert((guest, remote), Connection { flow, deadline: None, heard: false });
        true
    }

    /// Moves a connection on as far as it goes.
    pub(super) fn service(&mut self, key: TcpKey) {
        if self.out.len() >= OUT_PAUSE {
            if !self.stalled.contains(&key) {
                self.stalled.push(key);
            }
            return;
        }
        let Some(connection) = self.tcp.get_mut(&key) else { return };
        let mut packets = Vec::new();
        let forwards = &mut self.guest_forwards;
        let mut write_chardev = |index: usize, data: &[u8]| {
            let Some(forward) = forwards.get_mut(index) else { return data.len() };
            let taken = data.len().min(CHARDEV_PENDING.saturating_sub(forward.pending.len()));
            forward.pending.extend_from_slice(&data[..taken]);
            taken
        };
        let progress = connection.flow.service(tcp::instant(now()), &mut packets, &mut write_chardev);
        match progress {
            Progress::Over => drop(self.tcp.remove(&key)),
            Progress::Alive(at) => {
                let at = at.map(|at: Instant| (at.total_micros().max(0) as u64).saturating_mul(1000));
                connection.deadline = at;
                at.into_iter().for_each(|at| self.due(at));
            }
        }
        packets.into_iter().for_each(|packet| self.push_packet(packet));
    }

    pub(super) fn tcp_ready(&mut self, key: TcpKey, ready: Ready) {
        let Some(connection) = self.tcp.get_mut(&key) else { return };
        let flow = &mut connection.flow;
        if let Err(error) = flow.check_connected() {
            return self.tcp_failed(key, error);
        }
        if ready.intersects(Ready::WRITE | Ready::ERROR | Ready::HANGUP) {
            flow.host_writable();
        }
        if ready.intersects(Ready::READ | Ready::ERROR | Ready::HANGUP) {
            flow.host_readable();
        }
        self.service(key);
        // What a descriptor that hung up has to say was said, or waits for room; it would be told again and again.
        if ready.contains(Ready::HANGUP)
            && let Some(connection) = self.tcp.get_mut(&key)
        {
            connection.flow.hung_up();
        }
    }

    /// No connection came about.
    fn tcp_failed(&mut self, key: TcpKey, _: Errno) {
        if let Some(connection) = self.tcp.get_mut(&key) {
            connection.flow.abort();
        }
        self.service(key);
    }

    pub(super) fn accept(&mut self, id: u64) {
        let Some(listener) = self.listeners.iter().find(|listener| listener.id == id) else { return };
        let guest = listener.forward.guest_end(self.config.dhcp_start);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok((client, peer)) = acceptfrom_with(&listener.socket, flags) else { return };
        let peer = peer.and_then(|peer: SocketAddrAny| SocketAddr::try_from(peer).ok());
        let Some(peer) = peer.filter(|_| self.tcp.len() < TCP_FLOWS) else { return };
        let ip = if peer.ip().is_loopback() { self.config.host.into() } else { peer.ip() };
        let remote = SocketAddr::new(ip, peer.port());
        if self.tcp.contains_key(&(guest, remote)) {
            return;
        }
        let host = HostEnd::Socket { socket: Arc::new(client), watch: None, connecting: false };
        let (seed, at) = (self.seed(), tcp::instant(now()));
        if TcpFlow::connect(guest, remote, host, at, seed).is_some_and(|flow| self.add_tcp(flow)) {
            self.service((guest, remote));
        }
    }
}
