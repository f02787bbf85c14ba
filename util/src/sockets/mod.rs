//! Sockets by the addresses that users give (util/qemu-sockets.c, SocketAddress of qapi/sockets.json).

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{SocketAddrUnix, SocketFlags, SocketType, connect, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use thiserror::Error;

use crate::log::OsError;

mod inet;
mod unix;

pub use inet::{InetSocketAddress, ends, new_socket};
pub use unix::UnixSocketAddress;

/// Why there is no socket: one line, in QEMU's words where it has them.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The address makes no sense.
    #[error("{0}")]
    Address(String),
    /// The operating system refused.
    #[error("{0}: {1}")]
    System(String, #[source] OsError),
}

impl SocketError {
    fn address(text: impl Into<String>) -> Self {
        SocketError::Address(text.into())
    }

    fn system(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        SocketError::System(what.into(), OsError(error.into()))
    }
}

/// A socket's address.
#[derive(Clone, Debug)]
pub enum SocketAddress {
    /// A path, or a name of Linux's abstract namespace.
    Unix(UnixSocketAddress),
    /// A host and a port.
    Inet(InetSocketAddress),
    /// A socket that the program was started with.
    Fd(String),
}

/// An address that one `connect` takes.
pub enum Endpoint {
    /// A unix socket's.
    Unix(SocketAddrUnix),
    /// An IP address and a port.
    Inet(SocketAddr),
}

impl SocketAddress {
    /// A listening socket.
    ///
    /// # Errors
    /// An address that makes no sense, or what the host says.
    pub fn listen(&self) -> Result<OwnedFd, SocketError> {
        match self {
            SocketAddress::Unix(address) => address.listen(),
            SocketAddress::Inet(address) => address.listen(),
            SocketAddress::Fd(number) => {
                let socket = inherited_socket(number)?;
                match sockopt::socket_acceptconn(&socket) {
                    Ok(true) => Ok(socket),
                    _ => Err(SocketError::address(format!("File descriptor '{number}' does not listen"))),
                }
            }
        }
    }

    /// What a listening socket is bound to: the host and port that were chosen.
    #[must_use]
    pub fn bound(&self, socket: &OwnedFd) -> SocketAddress {
        let local = rustix::net::getsockname(socket).ok().and_then(|name| SocketAddr::try_from(name).ok());
        match (self, local) {
            (SocketAddress::Inet(address), Some(local)) => SocketAddress::Inet(InetSocketAddress {
                host: local.ip().to_string(),
                port: local.port().to_string(),
                ..address.clone()
            }),
            _ => self.clone(),
        }
    }

    /// A connected socket, made while the caller waits.
    ///
    /// # Errors
    /// As [`SocketAddress::listen`].
    pub fn connect(&self) -> Result<OwnedFd, SocketError> {
        if let SocketAddress::Fd(number) = self {
            return inherited_socket(number);
        }
        let mut result = Err(Errno::INVAL.into());
        for endpoint in self.endpoints()? {
            result = endpoint.connect(SocketFlags::empty()).map(|(socket, _)| socket);
            if result.is_ok() {
                break;
            }
        }
        result.map_err(|error| self.connect_error(error))
    }

    /// What to say when no connection came about.
    pub fn connect_error(&self, error: io::Error) -> SocketError {
        let name = match self {
            SocketAddress::Unix(address) => address.path.clone(),
            SocketAddress::Inet(address) => format!("{}:{}", address.host, address.port),
            SocketAddress::Fd(number) => format!("fd:{number}"),
        };
        SocketError::system(format!("Failed to connect to '{name}'"), error)
    }

    /// What `connect` may be tried on.
    ///
    /// # Errors
    /// A name that does not resolve, a path that is too long.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, SocketError> {
        match self {
            SocketAddress::Unix(address) => Ok(vec![Endpoint::Unix(address.sockaddr()?)]),
            SocketAddress::Inet(address) => {
                Ok(address.resolve(false)?.into_iter().map(Endpoint::Inet).collect())
            }
            SocketAddress::Fd(_) => Ok(Vec::new()),
        }
    }

    /// As `info chardev` shows it.
    #[must_use]
    pub fn describe(&self, protocol: &str, server: bool) -> String {
        let server = if server { ",server=on" } else { "" };
        match self {
            SocketAddress::Unix(UnixSocketAddress { path, is_abstract, tight }) => {
                let is_abstract = match (is_abstract, tight) {
                    (true, true) => ",abstract=on,tight=on",
                    (true, false) => ",abstract=on",
                    (false, _) => "",
                };
                format!("unix:{path}{is_abstract}{server}")
            }
            SocketAddress::Inet(address) => format!("{protocol}:{}:{}{server}", address.host, address.port),
            SocketAddress::Fd(number) => format!("fd:{number}{server}"),
        }
    }
}

impl Endpoint {
    /// A socket that is connected, or with [`SocketFlags::NONBLOCK`] perhaps only being connected (`false`).
    ///
    /// # Errors
    /// What the host says.
    pub fn connect(&self, flags: SocketFlags) -> io::Result<(OwnedFd, bool)> {
        let (socket, result) = match self {
            Endpoint::Unix(address) => {
                let socket = unix::new_socket(flags)?;
                let result = rustix::io::retry_on_intr(|| connect(&socket, address));
                (socket, result)
            }
            Endpoint::Inet(address) => {
                let socket = inet::new_socket(address, SocketType::STREAM, flags)?;
                let result = rustix::io::retry_on_intr(|| connect(&socket, address));
                (socket, result)
            }
        };
        match result {
            Ok(()) => Ok((socket, true)),
            Err(Errno::INPROGRESS) => Ok((socket, false)),
            Err(error) => Err(error.into()),
        }
    }
}

/// A descriptor of our own for a socket that was inherited under a number, or that a monitor's client gave a name
/// (`socket_get_fd`).
fn inherited_socket(name: &str) -> Result<OwnedFd, SocketError> {
    let error = || SocketError::address(format!("Unable to parse FD number {name}"));
    let not_a_socket = || SocketError::address(format!("File descriptor '{name}' is not a socket"));
    let own = match crate::fdset::take_named(name) {
        Some(taken) => taken.map_err(SocketError::address)?,
        None => {
            let number = name.parse().map_err(|_| error())?;
            duplicate_fd(number).map_err(|_| not_a_socket())?
        }
    };
    sockopt::socket_type(&own).map_err(|_| not_a_socket())?;
    Ok(own)
}

/// A descriptor of our own for what the program was started with under a number.
///
/// # Errors
/// `EBADF`, or what else the host says.
pub fn duplicate_fd(fd: i32) -> io::Result<OwnedFd> {
    // A number is not a descriptor that safe code may own; the kernel makes one from it.
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let own = pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?;
    fcntl_setfd(&own, FdFlags::CLOEXEC)?;
    Ok(own)
}
