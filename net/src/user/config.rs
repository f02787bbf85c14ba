//! What the options of `-netdev user` mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qom::{Error, Result, bail};

use super::NetdevUserOptions;

/// The network that the guest sees.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub restricted: bool,
    pub ipv4: bool,
    pub net: Ipv4Addr,
    pub mask: Ipv4Addr,
    /// The gateway, which stands for the host.
    pub host: Ipv4Addr,
    pub dns: Ipv4Addr,
    pub dhcp_start: Ipv4Addr,
    pub ipv6: bool,
    pub prefix: Ipv6Addr,
    pub prefix_len: u8,
    pub host6: Ipv6Addr,
    pub dns6: Ipv6Addr,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub dnssearch: Vec<String>,
    pub bootfile: Option<String>,
    pub tftp: Option<String>,
    pub tftp_server_name: Option<String>,
}

/// The host's address on the link.
pub(crate) const LINK_LOCAL_HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The name server's.
const LINK_LOCAL_DNS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 3);

fn parse4(text: &str, what: &str) -> Result<Ipv4Addr> {
    text.parse().map_err(|_| Error::new(format!("Failed to parse {what}")))
}

fn parse6(text: &str, what: &str) -> Result<Ipv6Addr> {
    text.parse().map_err(|_| Error::new(format!("Failed to parse {what}")))
}

/// The low bits of a mask of `len` ones.
fn mask6(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// A network and its mask: `ADDR`, `ADDR/BITS` or `ADDR/MASK`; without one it goes by the address's class.
fn parse_net(text: &str) -> Result<(Ipv4Addr, Ipv4Addr)> {
    let (address, mask) = text.split_once('/').map_or((text, None), |(address, mask)| (address, Some(mask)));
    let address = parse4(address, "network")?;
    let bits = |bits: u32| Ipv4Addr::from(u32::MAX.checked_shl(32 - bits).unwrap_or(0));
    let mask = match mask {
        None if address.octets()[0] & 0x80 == 0 => bits(8),
        None if address.octets()[0] & 0xc0 == 0x80 => bits(16),
        None if address.octets()[0] & 0xe0 == 0xc0 => bits(24),
        None => bits(28),
        Some(text) => match text.parse::<u32>() {
            Ok(length @ 4..32) => bits(length),
            Ok(_) => bail!("Invalid netmask provided (must be in range 4-32)"),
            Err(_) => match text.parse() {
                Ok(mask) => mask,
                Err(_) => bail!("Failed to parse netmask (trailing chars)"),
            },
        },
    };
    Ok((address & mask, mask))
}

impl Config {
    pub fn new(options: &NetdevUserOptions) -> Result<Config> {
        let (v4, v6) = (options.ipv4, options.ipv6);
        let ipv4 = !(v6 == Some(true) && v4.is_none() || v4 == Some(false));
        let ipv6 = !(v4 == Some(true) && v6.is_none() || v6 == Some(false));
        if !ipv4 && (options.net.is_some() || options.ip.is_some()) {
            bail!("IPv4 disabled but netmask specified");
        }
        if !ipv4 && !ipv6 {
            bail!("IPv4 and IPv6 disabled");
        }
        if options.smb.is_some() || options.smbserver.is_some() {
            bail!("smb= is not supported yet");
        }
        let restricted = options.restrict.unwrap_or(false);
        let net = options.net.clone().or_else(|| options.ip.as_ref().map(|ip| format!("{ip}/24")));
        let (net, mask) = net
            .as_deref()
            .map_or(Ok((Ipv4Addr::new(10, 0, 2, 0), Ipv4Addr::new(255, 255, 255, 0))), parse_net)?;
        let member = |n: u32| Ipv4Addr::from(u32::from(net) | n & !u32::from(mask));
        let inside = |address: Ipv4Addr| address & mask == net;
        let host =
            options.host.as_deref().map(|text| parse4(text, "host")).transpose()?.unwrap_or(member(0x202));
        if !inside(host) {
            bail!("Host doesn't belong to network");
        }
        let start =
            options.dhcpstart.as_deref().map(|text| parse4(text, "DHCP start address")).transpose()?;
        let dhcp_start = start.unwrap_or(member(0x20f));
        if !inside(dhcp_start) {
            bail!("DHCP doesn't belong to network");
        }
        if dhcp_start == host {
            bail!("DHCP must be different from host");
        }
        let dns =
            options.dns.as_deref().map(|text| parse4(text, "DNS")).transpose()?.unwrap_or(member(0x203));
        if restricted && !inside(dns) {
            bail!("DNS doesn't belong to network");
        }
        if dns == host {
            bail!("DNS must be different from host");
        }
        let mut config = Config {
            restricted,
            ipv4,
            net,
            mask,
            host,
            dns,
            dhcp_start,
            ipv6,
            prefix: Ipv6Addr::UNSPECIFIED,
            prefix_len: 64,
            host6: Ipv6Addr::UNSPECIFIED,
            dns6: Ipv6Addr::UNSPECIFIED,
            hostname: options.hostname.clone(),
            domainname: options.domainname.clone(),
            dnssearch: options.dnssearch.iter().flatten().map(|name| name.str.clone()).collect(),
            bootfile: options.bootfile.clone(),
            tftp: options.tftp.clone(),
            tftp_server_name: options.tftp_server_name.clone(),
        };
        config.parse_v6(options)?;
        config.check_names()?;
        Ok(config)
    }

    fn parse_v6(&mut self, options: &NetdevUserOptions) -> Result<()> {
        let asks = [&options.ipv6_prefix, &options.ipv6_host, &options.ipv6_dns];
        if !self.ipv6 && (asks.iter().any(|option| option.is_some()) || options.ipv6_prefixlen.is_some()) {
            bail!("IPv6 disabled but prefix/host6/dns6 provided");
        }
        let prefix = parse6(options.ipv6_prefix.as_deref().unwrap_or("fec0::"), "IPv6 prefix")?;
        self.prefix_len = match options.ipv6_prefixlen.unwrap_or(0) {
            0 => 64,
            len @ 1..=126 => len as u8,
            _ => bail!("Invalid IPv6 prefix provided (IPv6 prefix length must be between 0 and 126)"),
        };
        let mask = mask6(self.prefix_len);
        self.prefix = Ipv6Addr::from(u128::from(prefix) & mask);
        let member = |n: u128| Ipv6Addr::from(u128::from(prefix) | n);
        let host = options.ipv6_host.as_deref().map(|text| parse6(text, "IPv6 host")).transpose()?;
        self.host6 = host.unwrap_or(member(2));
        if !self.is_inside(self.host6.into()) {
            bail!("IPv6 Host doesn't belong to network");
        }
        let dns = options.ipv6_dns.as_deref().map(|text| parse6(text, "IPv6 DNS")).transpose()?;
        self.dns6 = dns.unwrap_or(member(3));
        if self.restricted && !self.is_inside(self.dns6.into()) {
            bail!("IPv6 DNS doesn't belong to network");
        }
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        let too_long = |name: &Option<String>| name.as_ref().is_some_and(|name| name.len() > 255);
        if self.domainname.as_deref() == Some("") {
            bail!("'domainname' parameter cannot be empty");
        }
        let names = [
            (&self.domainname, "domainname"),
            (&self.hostname, "vhostname"),
            (&self.tftp_server_name, "tftp-server-name"),
        ];
        match names.iter().find(|(name, _)| too_long(name)) {
            Some((_, what)) => bail!("'{what}' parameter cannot exceed 255 bytes"),
            None => Ok(()),
        }
    }

    /// Whether an address is of the guest's network.
    pub fn is_inside(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 & self.mask == self.net,
            IpAddr::V6(v6) => {
                u128::from(v6) & mask6(self.prefix_len) == self.prefix.into() || v6.is_unicast_link_local()
            }
        }
    }

    /// Whether an address stands for the host.
    pub fn is_host(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.host,
            IpAddr::V6(v6) => v6 == self.host6 || v6 == LINK_LOCAL_HOST,
        }
    }

    /// Whether an address stands for the host's name server.
    pub fn is_dns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.dns,
            IpAddr::V6(v6) => v6 == self.dns6 || v6 == LINK_LOCAL_DNS,
        }
    }

    /// Whether a family of addresses is there.
    pub fn has_family(&self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}
