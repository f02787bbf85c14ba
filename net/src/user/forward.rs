//! `hostfwd=` and `guestfwd=`: ports of the host that lead to the guest, and addresses of the guest's network that
//! lead to a chardev or a program.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use qom::{Error, Result};

/// A port of the host that leads to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostForward {
    pub udp: bool,
    pub host: SocketAddrV4,
    /// Without an address the first that DHCP gives.
    pub guest: SocketAddrV4,
}

/// The text before a separator, and what follows it.
fn until<'a>(text: &mut &'a str, separator: char) -> Option<&'a str> {
    let (part, rest) = text.split_once(separator)?;
    *text = rest;
    Some(part)
}

fn protocol(word: &str) -> Option<bool> {
    match word {
        "tcp" | "" => Some(false),
        "udp" => Some(true),
        _ => None,
    }
}

fn address(word: &str) -> Option<Ipv4Addr> {
    if word.is_empty() { Some(Ipv4Addr::UNSPECIFIED) } else { word.parse().ok() }
}

impl HostForward {
    /// `[tcp|udp]:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT`.
    pub fn parse(text: &str) -> Result<HostForward> {
        Self::parse_parts(text)
            .map_err(|reason| Error::new(format!("Invalid host forwarding rule '{text}' ({reason})")))
    }

    fn parse_parts(text: &str) -> Result<HostForward, &'static str> {
        let mut rest = text;
        let word = until(&mut rest, ':').ok_or("No : separators")?;
        let udp = protocol(word).ok_or("Bad protocol name")?;
        let word = until(&mut rest, ':').ok_or("Missing : separator")?;
        let host = address(word).ok_or("Bad host address")?;
        let word = until(&mut rest, '-').ok_or("Bad host port separator")?;
        let host_port = word.parse().map_err(|_| "Bad host port")?;
        let word = until(&mut rest, ':').ok_or("Missing guest address")?;
        let guest = address(word).ok_or("Bad guest address")?;
        let guest_port = rest.parse().ok().filter(|port| *port > 0).ok_or("Bad guest port")?;
        Ok(HostForward {
            udp,
            host: SocketAddrV4::new(host, host_port),
            guest: SocketAddrV4::new(guest, guest_port),
        })
    }

    /// What `hostfwd_remove` names: `[tcp|udp]:[HOSTADDR]:HOSTPORT`.
    pub fn parse_host(text: &str) -> Result<(bool, SocketAddrV4)> {
        let mut rest = text;
        let parsed = (|| {
            let udp = protocol(until(&mut rest, ':')?)?;
            let host = address(until(&mut rest, ':')?)?;
            Some((udp, SocketAddrV4::new(host, rest.parse().ok()?)))
        })();
        parsed.ok_or_else(|| Error::new("invalid format"))
    }

    /// The guest's end.
    pub fn guest_end(&self, default: Ipv4Addr) -> SocketAddr {
        let ip = if self.guest.ip().is_unspecified() { default } else { *self.guest.ip() };
        SocketAddr::new(ip.into(), self.guest.port())
    }
}

/// What connections to an address of the guest's network lead to.
#[derive(Clone, Debug)]
pub(crate) enum GuestTarget {
    /// A chardev, as `-serial` names it.
    Chardev(String),
    /// A program, started for each connection.
    Command(String),
}

/// `[tcp]:SERVER:PORT-DEV`, or with `cmd:COMMAND` for the device.
pub(crate) fn parse_guestfwd(text: &str) -> Result<(SocketAddrV4, GuestTarget)> {
    let mut rest = text;
    let parsed = (|| {
        protocol(until(&mut rest, ':')?).filter(|udp| !udp)?;
        let server = address(until(&mut rest, ':')?)?;
        let port = until(&mut rest, '-')?.parse().ok().filter(|port| *port > 0)?;
        let target = match rest.strip_prefix("cmd:") {
            Some(command) => GuestTarget::Command(command.to_owned()),
            None => GuestTarget::Chardev(rest.to_owned()),
        };
        Some((SocketAddrV4::new(server, port), target))
    })();
    parsed.ok_or_else(|| Error::new(format!("Invalid guest forwarding rule '{text}'")))
}
