//! Stream sockets: unix, TCP and telnet, server and client (chardev/char-socket.c).

mod wait;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, accept_with, recvmsg, sendmsg, sockopt,
};
use util::clock::{self, ClockType, NANOSECONDS_PER_SECOND};
use util::event_loop::{BottomHalf, EventLoop, Interest, Ready};
use util::sockets::{self, SocketAddress};
use util::timer::Timer;

use crate::backend::Backend;
use crate::chr::{Core, Event, READ_BUF_LEN};
use crate::error::ChardevError;
use crate::fd::{Port, set_nonblocking};
use crate::options::Options;
use crate::telnet::{GREETING, Piece, Telnet};

/// The options.
pub(crate) const KEYS: &[&str] = &[
    "path",
    "abstract",
    "tight",
    "fd",
    "host",
    "port",
    "to",
    "ipv4",
    "ipv6",
    "server",
    "wait",
    "delay",
    "nodelay",
    "reconnect",
    "telnet",
    "tn3270",
    "websocket",
    "tls-creds",
    "tls-authz",
];

/// The descriptors that may come with a message (TCP_MAX_FDS).
const MAX_FDS: usize = 16;

struct Socket {
    core: Arc<Core>,
    address: SocketAddress,
    is_server: bool,
    is_telnet: bool,
    nodelay: bool,
    /// Try again after so many nanoseconds when there is no connection.
    reconnect_ns: Option<u64>,
    listener: Option<Port>,
    state: Mutex<State>,
    /// Where the next attempt to connect goes, of the addresses that a name resolves to.
    attempt: AtomicUsize,
    error_reported: AtomicBool,
    timer: Timer,
    /// Ends the connection, on the thread of the loop that serves it.
    hang_up: Mutex<BottomHalf>,
    this: Weak<Socket>,
}

#[derive(Default)]
enum State {
    #[default]
    Disconnected,
    /// Waiting for the kernel to connect.
    Connecting(Arc<Connection>),
    Connected(Arc<Connection>),
}

struct Connection {
    socket: Arc<OwnedFd>,
    port: Port,
    /// Descriptors can be passed over it.
    is_unix: bool,
    telnet: Mutex<Telnet>,
    read_fds: Mutex<Vec<OwnedFd>>,
    write_fds: Mutex<Vec<OwnedFd>>,
}

/// How the options say the socket is to be.
struct Config {
    address: SocketAddress,
    is_server: bool,
    is_telnet: bool,
    wait: bool,
    nodelay: bool,
    reconnect_ns: Option<u64>,
}

impl Config {
    fn parse(options: &Options) -> Result<Self, ChardevError> {
        for missing in ["websocket", "tn3270"] {
            if options.flag(missing)? == Some(true) {
                return Err(unsupported(missing));
            }
        }
        for missing in ["tls-creds", "tls-authz"] {
            if options.get(missing).is_some() {
                return Err(unsupported(missing));
            }
        }
        let address = options.address()?;
        let (delay, nodelay) = (options.flag("delay")?, options.flag("nodelay")?);
        if delay.is_some() && nodelay.is_some() {
            return Err(ChardevError::options("'delay' and 'nodelay' are mutually exclusive"));
        }
        let is_server = options.flag("server")?.unwrap_or(false);
        let wait = options.flag("wait")?;
        let reconnect = options.number("reconnect")?;
        if is_server && reconnect.is_some() {
            return Err(incompatible("reconnect", "socket in server listen mode"));
        }
        if !is_server && wait.is_some() {
            return Err(incompatible("wait", "socket in client connect mode"));
        }
        if matches!(address, SocketAddress::Fd(_)) && reconnect.is_some() {
            return Err(incompatible("reconnect", "'fd' address type"));
        }
        let reconnect = reconnect.filter(|&seconds| seconds > 0);
        Ok(Config {
            address,
            is_server,
            is_telnet: options.flag("telnet")?.unwrap_or(false),
            wait: is_server && wait.unwrap_or(true),
            nodelay: nodelay.unwrap_or(delay == Some(false)),
            reconnect_ns: reconnect.map(|seconds| seconds.saturating_mul(NANOSECONDS_PER_SECOND)),
        })
    }
}

fn unsupported(option: &str) -> ChardevError {
    ChardevError::options(format!("chardev: socket: '{option}' is not supported"))
}

fn incompatible(option: &str, with: &str) -> ChardevError {
    ChardevError::options(format!("'{option}' option is incompatible with {with}"))
}

/// `socket`.
pub(crate) fn open(core: &Arc<Core>, options: &Options) -> Result<Arc<dyn Backend>, ChardevError> {
    let config = Config::parse(options)?;
    if !config.is_server {
        let socket = Socket::new(core, &config, config.address.clone(), None);
        match config.reconnect_ns {
            Some(_) => socket.start_connecting(),
            None => socket.adopt(config.address.connect()?)?,
        }
        return Ok(socket);
    }
    let listener = config.address.listen()?;
    let address = config.address.bound(&listener);
    set_nonblocking(&listener)
        .map_err(|error| ChardevError::system("Failed to set FD nonblocking", error))?;
    let socket = Socket::new(core, &config, address, Some(Arc::new(listener)));
    if config.wait {
        socket.accept_now().inspect_err(|_| socket.close())?;
    } else {
        socket.listen();
    }
    Ok(socket)
}

impl Socket {
    fn new(
        core: &Arc<Core>,
        config: &Config,
        address: SocketAddress,
        listener: Option<Arc<OwnedFd>>,
    ) -> Arc<Self> {
        let socket = Arc::new_cyclic(|this: &Weak<Socket>| {
            let (on_accept, on_timer) = (this.clone(), this.clone());
            let listener = listener.map(|fd| {
                let handler = move |_| {
                    if let Some(socket) = on_accept.upgrade() {
                        socket.accept();
                    }
                };
                Port::new(core, fd, Arc::new(handler))
            });
            Socket {
                core: core.clone(),
                address,
                is_server: config.is_server,
                is_telnet: config.is_telnet,
                nodelay: config.nodelay,
                reconnect_ns: config.reconnect_ns,
                listener,
                state: Mutex::default(),
                attempt: AtomicUsize::new(0),
                error_reported: AtomicBool::new(false),
                timer: Timer::new(ClockType::Realtime, move || {
                    if let Some(socket) = on_timer.upgrade() {
                        let core = socket.core.clone();
                        core.run_on_event_loop(move || socket.start_connecting());
                    }
                }),
                hang_up: Mutex::new(Self::hang_up_bh(&core.event_loop(), this)),
                this: this.clone(),
            }
        });
        core.set_filename(socket.describe_disconnected());
        socket
    }

    fn hang_up_bh(event_loop: &EventLoop, this: &Weak<Socket>) -> BottomHalf {
        let this = this.clone();
        BottomHalf::new(event_loop, move || {
            if let Some(socket) = this.upgrade() {
                socket.hang_up();
            }
        })
    }

    fn protocol(&self) -> &'static str {
        if self.is_telnet { "telnet" } else { "tcp" }
    }

    fn connection(&self) -> Option<Arc<Connection>> {
        match &*self.state.lock() {
            State::Connected(connection) => Some(connection.clone()),
            State::Disconnected | State::Connecting(_) => None,
        }
    }

    fn listen(&self) {
        if let Some(listener) = &self.listener {
            listener.want(Interest::READ, true);
        }
    }

    fn accept(&self) {
        let Some(listener) = &self.listener else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // A client that went away before it was accepted, or too many files: the next one may do.
        let Ok(client) = accept_with(listener.fd(), flags) else { return };
        if self.adopt(client).is_err() {
            self.listen();
        }
    }

    /// Makes a connected socket the connection.
    fn adopt(&self, socket: OwnedFd) -> Result<(), ChardevError> {
        let error = |error| ChardevError::system("Failed to set FD nonblocking", error);
        set_nonblocking(&socket).map_err(error)?;
        if let Some(listener) = &self.listener {
            // One client at a time: others wait.
            listener.want(Interest::READ, false);
        }
        let connection = self.new_connection(socket);
        self.established(connection);
        Ok(())
    }

    fn new_connection(&self, socket: OwnedFd) -> Arc<Connection> {
        let this = self.this.clone();
        let socket = Arc::new(socket);
        let handler = move |ready| {
            if let Some(this) = this.upgrade() {
                this.ready(ready);
            }
        };
        Arc::new(Connection {
            port: Port::new(&self.core, socket.clone(), Arc::new(handler)),
            is_unix: sockopt::socket_domain(&socket).is_ok_and(|domain| domain == AddressFamily::UNIX),
            socket,
            telnet: Mutex::default(),
            read_fds: Mutex::default(),
            write_fds: Mutex::default(),
        })
    }

    fn established(&self, connection: Arc<Connection>) {
        if self.nodelay && !connection.is_unix {
            // Only slower if it fails.
            let _ = sockopt::set_tcp_nodelay(&connection.socket, true);
        }
        if self.is_telnet && self.is_server {
            // An empty socket buffer takes it.
            let _ = rustix::io::write(&connection.socket, &GREETING);
        }
        self.core.set_filename(self.describe(&connection));
        self.error_reported.store(false, Ordering::Relaxed);
        *self.state.lock() = State::Connected(connection.clone());
        self.core.event(Event::Opened);
        // Even while no input is wanted, to notice that the client left.
        connection.port.want(Interest::READ | Interest::HANGUP, true);
    }

    fn describe_disconnected(&self) -> String {
        format!("disconnected:{}", self.address.describe(self.protocol(), self.is_server))
    }

    fn describe(&self, connection: &Connection) -> String {
        match sockets::ends(&connection.socket) {
            Ok((local, peer)) => {
                let server = if self.is_server { ",server=on" } else { "" };
                format!("{}:{local}{server} <-> {peer}", self.protocol())
            }
            Err(_) => self.address.describe(self.protocol(), self.is_server),
        }
    }

    fn start_connecting(&self) {
        let connecting = self.address.endpoints().and_then(|endpoints| {
            let attempt = self.attempt.fetch_add(1, Ordering::Relaxed);
            let endpoint = &endpoints[attempt % endpoints.len()];
            endpoint.connect(SocketFlags::NONBLOCK).map_err(|error| self.address.connect_error(error))
        });
        match connecting {
            Ok((socket, true)) => self.established(self.new_connection(socket)),
            Ok((socket, false)) => {
                let connection = self.new_connection(socket);
                *self.state.lock() = State::Connecting(connection.clone());
                connection.port.want(Interest::WRITE, true);
            }
            Err(error) => self.connecting_failed(&error.into()),
        }
    }

    fn connecting_failed(&self, error: &ChardevError) {
        *self.state.lock() = State::Disconnected;
        if !self.error_reported.swap(true, Ordering::Relaxed) {
            util::report::print_line(format_args!(
                "Unable to connect character device {}: {error}",
                self.core.label()
            ));
        }
        self.retry_later();
    }

    fn retry_later(&self) {
        if let Some(delay) = self.reconnect_ns {
            self.timer.mod_ns(clock::now_ns(ClockType::Realtime).saturating_add(delay));
        }
    }

    /// The connection's descriptor is ready for something.
    fn ready(&self, ready: Ready) {
        let connecting = match &*self.state.lock() {
            State::Disconnected => return,
            State::Connecting(connection) => Some(connection.clone()),
            State::Connected(_) => None,
        };
        if let Some(connection) = connecting {
            return self.connect_finished(connection);
        }
        let Some(connection) = self.connection() else { return };
        let ended = Ready::HANGUP | Ready::ERROR;
        if connection.port.wants(Interest::READ) && ready.intersects(Ready::READ | ended) {
            self.read(&connection);
        }
        if connection.port.wants(Interest::WRITE) && ready.intersects(Ready::WRITE | ended) {
            connection.port.want(Interest::WRITE, false);
            self.core.writable();
        }
        if ready.intersects(ended) && !connection.port.wants(Interest::READ) {
            self.hang_up();
        }
    }

    fn connect_finished(&self, connection: Arc<Connection>) {
        connection.port.want(Interest::WRITE, false);
        let result = sockopt::socket_error(&connection.socket).unwrap_or_else(Err);
        match result {
            Ok(()) => self.established(connection),
            Err(error) => {
                connection.port.close();
                self.connecting_failed(&self.address.connect_error(error.into()).into());
            }
        }
    }

    fn read(&self, connection: &Connection) {
        let room = connection.port.room(&self.core);
        if room == 0 {
            return;
        }
        let mut buffer = [0; READ_BUF_LEN];
        let data = match connection.receive(&mut buffer[..room]) {
            Ok(read) if read > 0 => &buffer[..read],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return;
            }
            Ok(_) | Err(_) => return self.hang_up(),
        };
        if !self.is_telnet {
            return self.core.deliver(data);
        }
        let pieces = connection.telnet.lock().parse(data);
        for piece in pieces {
            match piece {
                Piece::Data(data) => self.core.deliver(&data),
                Piece::Break => self.core.event(Event::Break),
            }
        }
    }

    /// The connection ended: waits for the next.
    fn hang_up(&self) {
        let Some(connection) = self.connection() else { return };
        *self.state.lock() = State::Disconnected;
        connection.port.close();
        self.core.set_filename(self.describe_disconnected());
        self.core.event(Event::Closed);
        // What waits to be written goes to nobody.
        self.core.writable();
        self.listen();
        self.retry_later();
    }
}

impl Connection {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_unix {
            return Ok(rustix::io::read(&self.socket, buffer)?);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(buffer)];
        let received = recvmsg(&self.socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                // Those of an earlier message that nobody fetched are closed.
                *self.read_fds.lock() = fds.collect();
            }
        }
        Ok(received.bytes)
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        let mut fds = self.write_fds.lock();
        if fds.is_empty() {
            return Ok(rustix::net::send(&self.socket, data, SendFlags::NOSIGNAL)?);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        let sent = sendmsg(&self.socket, &[IoSlice::new(data)], &mut ancillary, SendFlags::NOSIGNAL);
        if sent != Err(rustix::io::Errno::AGAIN) {
            fds.clear();
        }
        Ok(sent?)
    }
}

impl Backend for Socket {
    fn wakes_reader(&self) -> bool {
        true
    }

    fn set_event_loop(&self, event_loop: &EventLoop) -> bool {
        self.listener.iter().for_each(|port| port.move_to(event_loop));
        if let State::Connecting(connection) | State::Connected(connection) = &*self.state.lock() {
            connection.port.move_to(event_loop);
        }
        *self.hang_up.lock() = Self::hang_up_bh(event_loop, &self.this);
        true
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        let connection = self.connection().ok_or(io::ErrorKind::NotConnected)?;
        let sent = connection.send(data);
        if let Err(error) = &sent
            && !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            // Else reading finds out, after what is left to read.
            && !connection.port.wants(Interest::READ)
        {
            self.hang_up.lock().schedule();
        }
        match sent {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            other => other,
        }
    }

    fn poll_writable(&self) -> bool {
        self.connection().is_some_and(|connection| connection.port.want(Interest::WRITE, true))
    }

    fn wait_writable(&self, timeout: Duration) -> bool {
        self.connection().is_some_and(|connection| connection.port.wait_writable(timeout))
    }

    fn accept_input(&self) {
        if let Some(connection) = self.connection() {
            connection.port.want(Interest::READ, true);
        }
    }

    fn take_fds(&self) -> Vec<OwnedFd> {
        self.connection().map_or_else(Vec::new, |connection| std::mem::take(&mut connection.read_fds.lock()))
    }

    fn set_fds(&self, fds: Vec<OwnedFd>) -> io::Result<()> {
        let connection = self.connection().ok_or(io::ErrorKind::NotConnected)?;
        if !connection.is_unix {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if fds.len() > MAX_FDS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        *connection.write_fds.lock() = fds;
        Ok(())
    }

    fn unix_stream(&self) -> io::Result<OwnedFd> {
        let connection = self.connection().ok_or(io::ErrorKind::NotConnected)?;
        if !connection.is_unix {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Of both descriptors: the one here is not read any more.
        rustix::io::ioctl_fionbio(&connection.socket, false)?;
        connection.socket.try_clone()
    }

    fn is_socket(&self) -> bool {
        true
    }

    fn passes_fds(&self) -> bool {
        match &self.address {
            SocketAddress::Fd(_) => self.connection().is_some_and(|connection| connection.is_unix),
            address => matches!(address, SocketAddress::Unix(_)),
        }
    }

    fn disconnect(&self) {
        self.hang_up.lock().schedule();
    }

    fn connect_anew(&self) -> Result<(), ChardevError> {
        self.hang_up();
        self.connect_now()
    }

    fn wait_connected(&self) -> Result<(), ChardevError> {
        self.connect_now()
    }

    fn close(&self) {
        let Some(listener) = &self.listener else { return };
        if listener.close()
            && let SocketAddress::Unix(address) = &self.address
        {
            address.unlink();
        }
    }
}
