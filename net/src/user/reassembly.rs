//! Datagrams of IPv4 that come in parts (RFC 791, 3.2).

use std::net::IpAddr;

use super::wire::{Fragment, Ip};

/// Datagrams that are being put together at one time; the oldest makes room.
const DATAGRAMS: usize = 8;
/// The longest datagram's payload.
const MAX: usize = 65_535;
/// Parts of one datagram.
const PARTS: usize = 128;

struct Partial {
    key: (IpAddr, IpAddr, u8, u16),
    parts: Vec<(usize, Vec<u8>)>,
    /// Known with the last part.
    length: Option<usize>,
}

/// What is not whole yet.
#[derive(Default)]
pub(crate) struct Reassembly(Vec<Partial>);

impl Reassembly {
    /// Takes a part; gives the payload when it is whole.
    pub fn add(&mut self, ip: &Ip<'_>, fragment: Fragment) -> Option<Vec<u8>> {
        let key = (ip.from, ip.to, ip.protocol, fragment.id);
        let end = fragment.offset + ip.payload.len();
        let at = self.0.iter().position(|partial| partial.key == key).unwrap_or_else(|| {
            if self.0.len() >= DATAGRAMS {
                self.0.remove(0);
            }
            self.0.push(Partial { key, parts: Vec::new(), length: None });
            self.0.len() - 1
        });
        let partial = &mut self.0[at];
        // A host sends no parts that overlap.
        let overlaps =
            |(start, data): &(usize, Vec<u8>)| *start < end && fragment.offset < start + data.len();
        if end > MAX || partial.parts.len() >= PARTS || partial.parts.iter().any(overlaps) {
            self.0.remove(at);
            return None;
        }
        partial.parts.push((fragment.offset, ip.payload.to_vec()));
        if fragment.last {
            partial.length = Some(end);
        }
        let have: usize = partial.parts.iter().map(|(_, data)| data.len()).sum();
        if partial.length != Some(have) {
            return None;
        }
        let mut parts = self.0.remove(at).parts;
        parts.sort_unstable_by_key(|(start, _)| *start);
        Some(parts.into_iter().flat_map(|(_, data)| data).collect())
    }
}
