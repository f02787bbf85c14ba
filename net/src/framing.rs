//! Packets in a stream of bytes: each after its length in four bytes, and where both sides say so after that of its
//! virtio-net header (`net_fill_rstate` in net/net.c).

use crate::client::NET_BUFSIZE;

/// The bytes of a length.
const LENGTH: usize = 4;

/// What comes is longer than any packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// What is sent before a packet of `len` bytes.
pub(crate) fn header(len: usize, vnet_hdr_len: Option<usize>) -> Vec<u8> {
    let lengths = std::iter::once(len).chain(vnet_hdr_len);
    lengths.flat_map(|len| (len as u32).to_be_bytes()).collect()
}

/// What came and is no packet yet.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    bytes: Vec<u8>,
    /// Before it all was handed over.
    start: usize,
    /// The length of the virtio-net header comes, too.
    vnet_hdr: bool,
}

impl Reassembly {
    /// Nothing yet; `vnet_hdr` says whether the lengths of virtio-net headers come, too.
    pub fn new(vnet_hdr: bool) -> Self {
        Reassembly { vnet_hdr, ..Reassembly::default() }
    }

    /// Takes what came.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet.
    ///
    /// # Errors
    /// When what comes is longer than any packet.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let Some((header, rest)) =
            self.bytes.get(self.start..).and_then(|bytes| bytes.split_first_chunk::<LENGTH>())
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header) as usize;
        if length > NET_BUFSIZE {
            return Err(TooLong);
        }
        let skip = if self.vnet_hdr { LENGTH } else { 0 };
        let packet = rest.get(skip..skip + length).map(<[u8]>::to_vec);
        if packet.is_some() {
            self.start += LENGTH + skip + length;
        }
        Ok(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_whole_however_they_were_cut() {
        for vnet_hdr in [false, true] {
            let mut bytes = Vec::new();
            for packet in [&b"one"[..], b"", b"three"] {
                bytes.extend(header(packet.len(), vnet_hdr.then_some(0)));
                bytes.extend_from_slice(packet);
            }
            let mut stream = Reassembly::new(vnet_hdr);
            let mut packets = Vec::new();
            for byte in bytes {
                stream.add(&[byte]);
                packets.extend(stream.next().unwrap());
            }
            assert_eq!(packets, [b"one".to_vec(), Vec::new(), b"three".to_vec()]);
        }
    }

    #[test]
    fn a_length_that_no_packet_has_is_an_error() {
        let mut stream = Reassembly::new(false);
        stream.add(&header(NET_BUFSIZE + 1, None));
        assert_eq!(stream.next(), Err(TooLong));
    }
}
