//! The DHCP server (RFC 2131, RFC 2132): 16 addresses, one a guest's Ethernet address.

use std::net::Ipv4Addr;

use super::config::Config;
use super::wire::Mac;

pub(crate) const SERVER_PORT: u16 = 67;
pub(crate) const CLIENT_PORT: u16 = 68;
const LEASES: usize = 16;
/// Seconds.
const LEASE_TIME: u32 = 24 * 3600;

const BOOTREQUEST: u8 = 1;
const BOOTREPLY: u8 = 2;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// The bytes before the options, the magic among them.
const FIXED: usize = 240;
/// BOOTP messages are not shorter.
const MESSAGE_MIN: usize = 300;
const FILE_AT: usize = 108;
const FILE_LEN: usize = 128;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;

const OPT_SUBNET_MASK: u8 = 1;
const OPT_ROUTER: u8 = 3;
const OPT_DNS: u8 = 6;
const OPT_HOST_NAME: u8 = 12;
const OPT_DOMAIN: u8 = 15;
const OPT_REQUESTED: u8 = 50;
const OPT_LEASE: u8 = 51;
const OPT_TYPE: u8 = 53;
const OPT_SERVER: u8 = 54;
const OPT_TFTP_SERVER: u8 = 66;
const OPT_DOMAIN_SEARCH: u8 = 119;
const OPT_END: u8 = 255;

/// Who has which address.
#[derive(Default)]
pub(crate) struct Dhcp {
    leases: [Option<Mac>; LEASES],
}

/// What a client asks.
struct Question {
    kind: Option<u8>,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    bytes.try_into().ok().map(|octets: [u8; 4]| octets.into())
}

fn read_options(mut options: &[u8]) -> Question {
    let mut question = Question { kind: None, requested: None, server: None };
    while let Some((&code, rest)) = options.split_first() {
        if code == 0 {
            options = rest;
            continue;
        }
        if code == OPT_END {
            break;
        }
        let Some((&length, rest)) = rest.split_first() else { break };
        let Some(value) = rest.get(..usize::from(length)) else { break };
        match code {
            OPT_TYPE => question.kind = value.first().copied(),
            OPT_REQUESTED => question.requested = address(value),
            OPT_SERVER => question.server = address(value),
            _ => {}
        }
        options = &rest[usize::from(length)..];
    }
    question
}

/// Domains as DHCP has them (RFC 3397), each in full; what is no name is left out.
fn search_list(domains: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for domain in domains {
        let labels: Vec<&str> = domain.trim_end_matches('.').split('.').collect();
        if labels.iter().any(|label| label.is_empty() || label.len() > 63) {
            continue;
        }
        for label in labels {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
    }
    bytes
}

/// An option, in as many parts as it takes.
fn put(message: &mut Vec<u8>, code: u8, value: &[u8]) {
    for part in value.chunks(255) {
        message.extend([code, part.len() as u8]);
        message.extend_from_slice(part);
    }
}

impl Dhcp {
    fn address(config: &Config, n: usize) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(config.dhcp_start).wrapping_add(n as u32))
    }

    /// The client's own address, or the first that is free.
    fn choose(&self, config: &Config, mac: Mac) -> Option<usize> {
        let own = self.leases.iter().position(|lease| *lease == Some(mac));
        let usable = |n: &usize| {
            let address = Self::address(config, *n);
            address != config.host && address != config.dns && config.is_inside(address.into())
        };
        own.or_else(|| (0..LEASES).filter(usable).find(|n| self.leases[*n].is_none()))
    }

    /// The address that a client asks for, if nobody else has it.
    fn wanted(&self, config: &Config, mac: Mac, wanted: Ipv4Addr) -> Option<usize> {
        let n = (0..LEASES).find(|n| Self::address(config, *n) == wanted)?;
        (wanted != config.host && wanted != config.dns && self.leases[n].is_none_or(|lease| lease == mac))
            .then_some(n)
    }

    /// A message of a client's; the answer, and whose address the client has now.
    pub fn handle(&mut self, config: &Config, message: &[u8]) -> Option<(Vec<u8>, Option<(Ipv4Addr, Mac)>)> {
        let (fixed, options) = message.split_at_checked(FIXED)?;
        if fixed[0] != BOOTREQUEST || fixed[236..] != MAGIC {
            return None;
        }
        let mut mac = [0; 6];
        mac.copy_from_slice(&fixed[28..34]);
        let question = read_options(options);
        if question.server.is_some_and(|server| server != config.host) {
            return None;
        }
        let current = address(&fixed[12..16]).filter(|address| !address.is_unspecified());
        let (kind, lease) = match question.kind {
            Some(DISCOVER) => (Some(OFFER), self.choose(config, mac)?),
            Some(REQUEST) => match question.requested.or(current) {
                Some(wanted) => match self.wanted(config, mac, wanted) {
                    Some(lease) => (Some(ACK), lease),
                    None => return Some((self.answer(config, fixed, Some(NAK), None), None)),
                },
                None => (Some(ACK), self.choose(config, mac)?),
            },
            Some(RELEASE | DECLINE) => {
                self.leases.iter_mut().filter(|lease| **lease == Some(mac)).for_each(|lease| *lease = None);
                return None;
            }
            Some(_) => return None,
            // BOOTP, which DHCP grew out of.
            None => (None, self.choose(config, mac)?),
        };
        self.leases.iter_mut().filter(|lease| **lease == Some(mac)).for_each(|lease| *lease = None);
        self.leases[lease] = Some(mac);
        let given = Self::address(config, lease);
        Some((self.answer(config, fixed, kind, Some(given)), Some((given, mac))))
    }

    fn answer(&self, config: &Config, request: &[u8], kind: Option<u8>, given: Option<Ipv4Addr>) -> Vec<u8> {
        let mut message = vec![0; FIXED];
        message[..3].copy_from_slice(&[BOOTREPLY, 1, 6]);
        // The transaction, the flags and the client's hardware address.
        for part in [4..8, 10..12, 28..44] {
            message[part.clone()].copy_from_slice(&request[part]);
        }
        message[20..24].copy_from_slice(&config.host.octets());
        message[236..].copy_from_slice(&MAGIC);
        if let Some(given) = given {
            message[16..20].copy_from_slice(&given.octets());
            let file = config.bootfile.as_deref().unwrap_or_default().as_bytes();
            let length = file.len().min(FILE_LEN - 1);
            message[FILE_AT..FILE_AT + length].copy_from_slice(&file[..length]);
        }
        if let Some(kind) = kind {
            put(&mut message, OPT_TYPE, &[kind]);
            put(&mut message, OPT_SERVER, &config.host.octets());
        }
        if given.is_some() {
            self.put_details(config, &mut message);
        }
        message.push(OPT_END);
        message.resize(message.len().max(MESSAGE_MIN), 0);
        message
    }

    fn put_details(&self, config: &Config, message: &mut Vec<u8>) {
        put(message, OPT_SUBNET_MASK, &config.mask.octets());
        if !config.restricted {
            put(message, OPT_ROUTER, &config.host.octets());
            put(message, OPT_DNS, &config.dns.octets());
        }
        put(message, OPT_LEASE, &LEASE_TIME.to_be_bytes());
        let texts = [
            (OPT_HOST_NAME, &config.hostname),
            (OPT_DOMAIN, &config.domainname),
            (OPT_TFTP_SERVER, &config.tftp_server_name),
        ];
        for (code, text) in texts {
            put(message, code, text.as_deref().unwrap_or_default().as_bytes());
        }
        put(message, OPT_DOMAIN_SEARCH, &search_list(&config.dnssearch));
    }
}
