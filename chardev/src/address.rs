//! Where a stream socket listens or connects (SocketAddress of qapi/sockets.json).

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{SocketAddrUnix, SocketFlags, SocketType, connect, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::error::ChardevError;
use crate::inet::{self, InetAddress};
use crate::options::Options;
use crate::unix::{self, UnixAddress};

/// A socket's address.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Unix(UnixAddress),
    Inet(InetAddress),
    /// A socket that the program was started with.
    Fd(String),
}

/// An address that one `connect` takes.
pub(crate) enum Endpoint {
    Unix(SocketAddrUnix),
    Inet(SocketAddr),
}

impl Address {
    /// From the options `path`, `fd`, or `host` and `port`.
    pub fn parse(options: &Options) -> Result<Self, ChardevError> {
        let (path, fd, host) = (options.get("path"), options.get("fd"), options.get("host"));
        match (path, fd, host) {
            (Some(path), None, None) => Ok(Address::Unix(UnixAddress {
                path: path.to_owned(),
                is_abstract: options.flag("abstract")?.unwrap_or(false),
                tight: options.flag("tight")?.unwrap_or(true),
            })),
            (None, fd, None) => Ok(Address::Fd(fd.unwrap_or_default().to_owned())),
            (None, None, Some(host)) => {
                let port = options.get("port");
                let port = port.ok_or_else(|| ChardevError::options("chardev: socket: no port given"))?;
                let mut address = InetAddress::parse(host, port, options)?;
                let to = options.number("to")?;
                let range = || ChardevError::options("Parameter 'to' expects a port number");
                address.to = to.map(u16::try_from).transpose().map_err(|_| range())?;
                Ok(Address::Inet(address))
            }
            _ => Err(ChardevError::options("None or one of 'path', 'fd' or 'host' option required.")),
        }
    }

    /// A listening socket.
    pub fn listen(&self) -> Result<OwnedFd, ChardevError> {
        match self {
            Address::Unix(address) => address.listen(),
            Address::Inet(address) => address.listen(),
            Address::Fd(number) => {
                let socket = inherited_socket(number)?;
                match sockopt::socket_acceptconn(&socket) {
                    Ok(true) => Ok(socket),
                    _ => Err(ChardevError::options(format!("File descriptor '{number}' does not listen"))),
                }
            }
        }
    }

    /// What a listening socket is bound to: the host and port that were chosen.
    pub fn bound(&self, socket: &OwnedFd) -> Address {
        let local = rustix::net::getsockname(socket).ok().and_then(|name| SocketAddr::try_from(name).ok());
        match (self, local) {
            (Address::Inet(address), Some(local)) => Address::Inet(InetAddress {
                host: local.ip().to_string(),
                port: local.port().to_string(),
                ..address.clone()
            }),
            _ => self.clone(),
        }
    }

    /// A connected socket, made while the caller waits.
    pub fn connect(&self) -> Result<OwnedFd, ChardevError> {
        if let Address::Fd(number) = self {
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

    pub fn connect_error(&self, error: io::Error) -> ChardevError {
        let name = match self {
            Address::Unix(address) => address.path.clone(),
            Address::Inet(address) => format!("{}:{}", address.host, address.port),
            Address::Fd(number) => format!("fd:{number}"),
        };
        ChardevError::system(format!("Failed to connect to '{name}'"), error)
    }

    /// What `connect` may be tried on.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, ChardevError> {
        match self {
            Address::Unix(address) => Ok(vec![Endpoint::Unix(address.sockaddr()?)]),
            Address::Inet(address) => Ok(address.resolve(false)?.into_iter().map(Endpoint::Inet).collect()),
            Address::Fd(_) => Ok(Vec::new()),
        }
    }

    /// As `info chardev` shows it.
    pub fn describe(&self, protocol: &str, server: bool) -> String {
        let server = if server { ",server=on" } else { "" };
        match self {
            Address::Unix(UnixAddress { path, is_abstract, tight }) => {
                let is_abstract = match (is_abstract, tight) {
                    (true, true) => ",abstract=on,tight=on",
                    (true, false) => ",abstract=on",
                    (false, _) => "",
                };
                format!("unix:{path}{is_abstract}{server}")
            }
            Address::Inet(address) => format!("{protocol}:{}:{}{server}", address.host, address.port),
            Address::Fd(number) => format!("fd:{number}{server}"),
        }
    }
}

impl Endpoint {
    /// A socket that is connected, or with [`SocketFlags::NONBLOCK`] perhaps only being connected (`false`).
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

/// A descriptor of our own for a socket that was inherited under a number.
fn inherited_socket(number: &str) -> Result<OwnedFd, ChardevError> {
    let error = || ChardevError::options(format!("Unable to parse FD number {number}"));
    let fd: i32 = number.parse().map_err(|_| error())?;
    let not_a_socket = || ChardevError::options(format!("File descriptor '{number}' is not a socket"));
    // A number is not a descriptor that safe code may own; the kernel makes one from it.
    let own = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|process| pidfd_getfd(process, fd, PidfdGetfdFlags::empty()))
        .map_err(|_| not_a_socket())?;
    fcntl_setfd(&own, FdFlags::CLOEXEC).map_err(|_| not_a_socket())?;
    sockopt::socket_type(&own).map_err(|_| not_a_socket())?;
    Ok(own)
}
