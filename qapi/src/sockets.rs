//! Addresses of sockets (qapi/sockets.json).

use util::sockets;

use crate::QapiType;

/// Where an inet socket is.
#[derive(QapiType, Clone, Debug, Default)]
pub struct InetSocketAddress {
    /// A name or a number.
    pub host: String,
    /// A number.
    pub port: String,
    /// Whether host and port are numbers for sure.
    pub numeric: Option<bool>,
    /// The last port to try when listening.
    pub to: Option<u16>,
    /// Whether addresses of IPv4 will do.
    pub ipv4: Option<bool>,
    /// Whether addresses of IPv6 will do.
    pub ipv6: Option<bool>,
    /// Whether the host is to probe connections that are silent.
    pub keep_alive: Option<bool>,
}

/// Where a unix socket is.
#[derive(QapiType, Clone, Debug)]
pub struct UnixSocketAddress {
    /// The path, or the name.
    pub path: String,
    /// In Linux's abstract namespace rather than the file system.
    pub r#abstract: Option<bool>,
    /// The abstract name ends with the path rather than being padded with zeroes.
    pub tight: Option<bool>,
}

/// A descriptor's number or name.
#[derive(QapiType, Clone, Debug)]
#[qapi(name = "String")]
pub struct FdName {
    /// The number or name.
    pub str: String,
}

/// Where a socket is.
#[derive(QapiType, Clone, Debug)]
#[qapi(tag = "type", tag_type = "SocketAddressType")]
pub enum SocketAddress {
    /// TCP or UDP.
    Inet(InetSocketAddress),
    /// A path.
    Unix(UnixSocketAddress),
    /// A descriptor that the program was started with, or that a monitor's client passed.
    Fd(FdName),
}

impl SocketAddress {
    /// QAPI's name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            SocketAddress::Inet(_) => "inet",
            SocketAddress::Unix(_) => "unix",
            SocketAddress::Fd(_) => "fd",
        }
    }

    /// As sockets are made from it.
    ///
    /// # Errors
    /// When no family of addresses would do.
    pub fn to_address(&self) -> qom::Result<sockets::SocketAddress> {
        Ok(match self {
            SocketAddress::Inet(inet) => {
                let made = sockets::InetSocketAddress::new(&inet.host, &inet.port, inet.ipv4, inet.ipv6);
                let mut address = made.map_err(|error| qom::Error::new(error.to_string()))?;
                address.to = inet.to;
                sockets::SocketAddress::Inet(address)
            }
            SocketAddress::Unix(unix) => sockets::SocketAddress::Unix(sockets::UnixSocketAddress {
                path: unix.path.clone(),
                is_abstract: unix.r#abstract.unwrap_or(false),
                tight: unix.tight.unwrap_or(true),
            }),
            SocketAddress::Fd(fd) => sockets::SocketAddress::Fd(fd.str.clone()),
        })
    }
}
