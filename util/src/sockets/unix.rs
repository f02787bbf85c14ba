//! Unix domain sockets (util/qemu-sockets.c).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use super::SocketError;

/// The bytes of `sun_path`.
const PATH_SIZE: usize = 108;

/// Where a unix socket is.
#[derive(Clone, Debug)]
pub struct UnixSocketAddress {
    /// Where it is, or its name.
    pub path: String,
    /// In Linux's abstract namespace rather than the file system.
    pub is_abstract: bool,
    /// The abstract name ends with the path rather than being padded with zeroes.
    pub tight: bool,
}

impl UnixSocketAddress {
    /// As the host takes it.
    ///
    /// # Errors
    /// A path that is too long.
    pub fn sockaddr(&self) -> Result<SocketAddrUnix, SocketError> {
        let room = if self.is_abstract { PATH_SIZE - 1 } else { PATH_SIZE };
        let too_long = || {
            SocketError::address(format!(
                "UNIX socket path '{}' is too long: it must be less than {room} bytes",
                self.path
            ))
        };
        let mut name = self.path.clone().into_bytes();
        if name.len() >= room {
            return Err(too_long());
        }
        let address = if self.is_abstract {
            if !self.tight {
                name.resize(room, 0);
            }
            SocketAddrUnix::new_abstract_name(&name)
        } else {
            SocketAddrUnix::new(name)
        };
        address.map_err(|_| too_long())
    }

    /// A listening socket. A socket file that nobody listens on is a leftover and replaced; any other file
    /// is left alone (QEMU removes whatever is there).
    ///
    /// # Errors
    /// As [`UnixSocketAddress::sockaddr`], or what the host says.
    pub fn listen(&self) -> Result<OwnedFd, SocketError> {
        let address = self.sockaddr()?;
        let socket = socket().map_err(|error| SocketError::system("Failed to create Unix socket", error))?;
        let mut bound = bind(&socket, &address);
        if bound == Err(Errno::ADDRINUSE)
            && !self.is_abstract
            && is_stale(&address)
            && is_replaceable(&self.path)
        {
            let path = &self.path;
            fs::remove_file(path)
                .map_err(|error| SocketError::system(format!("Failed to unlink socket {path}"), error))?;
            bound = bind(&socket, &address);
        }
        bound
            .map_err(|error| SocketError::system(format!("Failed to bind socket to {}", self.path), error))?;
        listen(&socket, 1).map_err(|error| SocketError::system("Failed to listen on socket", error))?;
        Ok(socket)
    }

    /// Removes the file of a socket that we listened on.
    pub fn unlink(&self) {
        if !self.is_abstract {
            // Whoever removed it before us is welcome.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn is_stale(address: &SocketAddrUnix) -> bool {
    socket().is_ok_and(|probe| connect(probe, address) == Err(Errno::CONNREFUSED))
}

/// Whether nothing is lost with the file: it is a socket, or empty as `mktemp` makes it to have a name.
fn is_replaceable(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path)
        .is_ok_and(|file| file.file_type().is_socket() || file.file_type().is_file() && file.len() == 0)
}

/// A connecting socket.
pub fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)?)
}
