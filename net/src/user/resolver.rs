//! The host's name servers, which the guest's stands for.

use std::net::IpAddr;

/// How long what was read holds, in nanoseconds.
const FRESH: u64 = 1_000_000_000;

/// What `/etc/resolv.conf` said last.
#[derive(Default)]
pub(crate) struct Resolver {
    servers: Vec<IpAddr>,
    read_at: Option<u64>,
}

fn parse(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

impl Resolver {
    /// The first server of a family.
    pub fn server(&mut self, v4: bool, now: u64) -> Option<IpAddr> {
        if self.read_at.is_none_or(|at| now.saturating_sub(at) > FRESH) {
            let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            self.servers = parse(&text);
            self.read_at = Some(now);
        }
        self.servers.iter().find(|server| server.is_ipv4() == v4).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_lines() {
        let text = "# nameserver 1.1.1.1\nsearch x\nnameserver 9.9.9.9\nnameserver  fd00::1 \nnameserver x\n";
        assert_eq!(parse(text), ["9.9.9.9".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    }
}
