//! What leads into the guest: ports of the host's and chardevs; and what `info usernet` tells of them.

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::net::{SocketFlags, SocketType, bind, getsockname, listen, sockopt};
use util::event_loop::Interest;

use super::super::forward::HostForward;
use super::super::tcp::{HostEnd, TcpFlow};
use super::super::udp::UdpFlow;
use super::{Connection, Listener, Source, Stack, TcpKey, now};

impl Stack {
    /// Opens a port of the host's that leads to the guest.
    ///
    /// # Errors
    /// What the host says.
    pub fn add_forward(&mut self, mut forward: HostForward) -> std::io::Result<()> {
        let address = SocketAddr::V4(forward.host);
        let kind = if forward.udp { SocketType::DGRAM } else { SocketType::STREAM };
        let socket = util::sockets::new_socket(&address, kind, SocketFlags::NONBLOCK)?;
        if !forward.udp {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &address)?;
        // Port 0 leaves the choice to the host.
        if let Ok(SocketAddr::V4(name)) = getsockname(&socket)?.try_into() {
            forward.host = name;
        }
        if forward.udp {
            let flow = UdpFlow::forwarded(forward.guest_end(self.config.dhcp_start), socket);
            let id = self.add_udp(flow).ok_or(std::io::ErrorKind::OutOfMemory)?;
            self.udp_forwards.push((forward, id));
            return Ok(());
        }
        listen(&socket, 16)?;
        let (id, socket) = (self.id(), Arc::new(socket));
        let watch = self.watch(&socket, Interest::READ, Source::Listener(id))?;
        self.listeners.push(Listener { id, forward, socket, _watch: watch });
        Ok(())
    }

    /// Closes such a port; gives whether there was one. Connections go on.
    pub fn remove_forward(&mut self, udp: bool, host: SocketAddrV4) -> bool {
        let matches = |forward: &HostForward| forward.udp == udp && forward.host == host;
        if let Some(at) = self.listeners.iter().position(|listener| matches(&listener.forward)) {
            self.listeners.remove(at);
            return true;
        }
        let Some(at) = self.udp_forwards.iter().position(|(forward, _)| matches(forward)) else {
            return false;
        };
        let (_, id) = self.udp_forwards.remove(at);
        self.remove_udp(id);
        true
    }

    /// Room for what the chardev of a `guestfwd=` brings; none without a connection.
    pub fn chardev_room(&self, index: usize) -> usize {
        self.chardev_flow(index).map_or(0, |(_, connection)| connection.flow.chardev_room())
    }

    fn chardev_flow(&self, index: usize) -> Option<(&TcpKey, &Connection)> {
        self.tcp
            .iter()
            .find(|(_, c)| matches!(c.flow.host, HostEnd::Chardev { index: own, .. } if own == index))
    }

    /// What a chardev brings.
    pub fn chardev_input(&mut self, index: usize, data: &[u8]) {
        let Some(key) = self.chardev_flow(index).map(|(key, _)| *key) else { return };
        if let Some(Connection { flow: TcpFlow { host: HostEnd::Chardev { input, .. }, .. }, .. }) =
            self.tcp.get_mut(&key)
        {
            input.extend(data);
        }
        self.service(key);
    }

    /// A chardev took what waited for it.
    pub fn chardev_writable(&mut self, index: usize) {
        let Some(key) = self.chardev_flow(index).map(|(key, _)| *key) else { return };
        if let Some(connection) = self.tcp.get_mut(&key) {
            connection.flow.host_writable();
        }
        self.service(key);
    }

    /// Lines of `info usernet`, without their heading.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut line = |state: String, from: SocketAddr, to: SocketAddr, queues: (usize, usize), fd: i32| {
            let ip = |address: SocketAddr| match address.ip() {
                ip if ip.is_unspecified() => "*".to_owned(),
                ip => ip.to_string(),
            };
            text.push_str(&format!(
                "  {state:<17} {fd:3} {:>15} {:5} {:>15} {:5} {:5} {:5}\n",
                ip(from),
                from.port(),
                ip(to),
                to.port(),
                queues.0,
                queues.1,
            ));
        };
        for listener in &self.listeners {
            let to = listener.forward.guest_end(self.config.dhcp_start);
            let fd = listener.socket.as_raw_fd();
            line("TCP[HOST_FORWARD]".to_owned(), listener.forward.host.into(), to, (0, 0), fd);
        }
        for Connection { flow, .. } in self.tcp.values() {
            let (fd, name) = match &flow.host {
                HostEnd::Socket { socket, .. } => (socket.as_raw_fd(), getsockname(socket).ok()),
                HostEnd::Chardev { .. } => (-1, None),
            };
            let state = format!("TCP[{}]", state_name(flow));
            let name = name.and_then(|name| SocketAddr::try_from(name).ok());
            let (from, to) = match flow.incoming {
                true => (name.unwrap_or(flow.remote), flow.guest),
                false => (flow.guest, flow.remote),
            };
            line(state, from, to, flow.queues(), fd);
        }
        for (forward, id) in &self.udp_forwards {
            let fd = self.udp.get(id).map_or(-1, |flow| flow.socket().as_raw_fd());
            let to = forward.guest_end(self.config.dhcp_start);
            line("UDP[HOST_FORWARD]".to_owned(), forward.host.into(), to, (0, 0), fd);
        }
        let at = now();
        for flow in self.udp.values().filter(|flow| flow.expires != u64::MAX) {
            let state = format!("UDP[{} sec]", flow.expires.saturating_sub(at) / 1_000_000_000);
            let to = flow.last_destination().unwrap_or(flow.guest);
            line(state, flow.guest, to, (0, 0), flow.socket().as_raw_fd());
        }
        text
    }
}

fn state_name(flow: &TcpFlow) -> &'static str {
    use smoltcp::socket::tcp::State;
    match flow.state() {
        State::Closed => "CLOSED",
        State::Listen => "LISTEN",
        State::SynSent => "SYN_SENT",
        State::SynReceived => "SYN_RCVD",
        State::Established => "ESTABLISHED",
        State::CloseWait => "CLOSE_WAIT",
        State::FinWait1 => "FIN_WAIT_1",
        State::Closing => "CLOSING",
        State::LastAck => "LAST_ACK",
        State::FinWait2 => "FIN_WAIT_2",
        State::TimeWait => "TIME_WAIT",
    }
}
