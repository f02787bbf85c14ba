//! `-netdev user`: a network stack in this program (net/slirp.c).

use std::sync::Arc;

use qapi::QapiType;
use qapi::sockets::FdName;
use qom::{Result, bail};

use crate::client::NetClientState;

/// What `-netdev user` takes.
#[derive(QapiType, Clone, Debug, Default)]
pub struct NetdevUserOptions {
    /// The guest's name, which DHCP tells it.
    pub hostname: Option<String>,
    /// Whether the guest is kept from the host and the world.
    pub restrict: Option<bool>,
    /// Whether there is IPv4.
    pub ipv4: Option<bool>,
    /// Whether there is IPv6.
    pub ipv6: Option<bool>,
    /// The network's address, by an older name.
    pub ip: Option<String>,
    /// The network, `ADDR[/MASK]`.
    pub net: Option<String>,
    /// The host's address in it.
    pub host: Option<String>,
    /// The folder that TFTP serves.
    pub tftp: Option<String>,
    /// The file that DHCP names for starting.
    pub bootfile: Option<String>,
    /// The first of 16 addresses that DHCP gives.
    pub dhcpstart: Option<String>,
    /// The name server's address.
    pub dns: Option<String>,
    /// Domains to search for names in.
    pub dnssearch: Option<Vec<FdName>>,
    /// The guest's domain.
    pub domainname: Option<String>,
    /// The network of IPv6.
    pub ipv6_prefix: Option<String>,
    /// The bits that all addresses in it share.
    pub ipv6_prefixlen: Option<i64>,
    /// The host's address in it.
    pub ipv6_host: Option<String>,
    /// The name server's address in it.
    pub ipv6_dns: Option<String>,
    /// The folder that a file server of Windows' kind serves.
    pub smb: Option<String>,
    /// Its address.
    pub smbserver: Option<String>,
    /// Ports of the host that lead to the guest.
    pub hostfwd: Option<Vec<FdName>>,
    /// Addresses of the guest's network that lead to a chardev or a program.
    pub guestfwd: Option<Vec<FdName>>,
    /// The name of the TFTP server that DHCP tells.
    pub tftp_server_name: Option<String>,
}

/// The backend.
pub struct UserNet;

/// Makes the backend.
pub(crate) fn init(_: &str, _: &NetdevUserOptions, _: Option<&Arc<NetClientState>>) -> Result<()> {
    bail!("network backend 'user' is not supported yet")
}

/// What `info usernet` prints.
pub fn info_usernet() -> String {
    String::new()
}

/// `hostfwd_add`.
///
/// # Errors
/// There is no such backend, or the rule makes no sense.
pub fn hostfwd_add(_: Option<&str>, _: &str) -> Result<()> {
    bail!("user mode network stack not in use")
}

/// `hostfwd_remove`; gives whether there was such a rule.
///
/// # Errors
/// As [`hostfwd_add`].
pub fn hostfwd_remove(_: Option<&str>, _: &str) -> Result<bool> {
    bail!("user mode network stack not in use")
}
