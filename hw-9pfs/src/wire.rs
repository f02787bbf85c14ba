//! Messages as bytes: numbers are little-endian, strings have their length in 16 bits in front.

use crate::spec::HEADER;

/// A message is shorter than what should be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of the bytes behind the header.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Eight bits.
    ///
    /// # Errors
    /// When the message ends first; likewise below.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.take().map(u8::from_le_bytes)
    }

    /// Sixteen bits.
    ///
    /// # Errors
    /// When the message ends first.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.take().map(u16::from_le_bytes)
    }

    /// Thirty-two bits.
    ///
    /// # Errors
    /// When the message ends first.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.take().map(u32::from_le_bytes)
    }

    /// Sixty-four bits.
    ///
    /// # Errors
    /// When the message ends first.
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        self.take().map(u64::from_le_bytes)
    }

    /// A string, of any bytes.
    ///
    /// # Errors
    /// When the message ends first.
    pub fn string(&mut self) -> Result<&'a [u8], Truncated> {
        let len = usize::from(self.u16()?);
        let (string, rest) = self.0.split_at_checked(len).ok_or(Truncated)?;
        self.0 = rest;
        Ok(string)
    }
}

/// A reply, with room for its header.
#[derive(Clone, Debug)]
pub struct Writer(Vec<u8>);

impl Default for Writer {
    fn default() -> Self {
        Writer(vec![0; HEADER])
    }
}

impl Writer {
    /// Eight bits.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Sixteen bits.
    pub fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    /// Thirty-two bits.
    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    /// Sixty-four bits.
    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    /// A string; what is longer than one can be is cut off.
    pub fn string(&mut self, string: &[u8]) {
        let len = string.len().min(u16::MAX.into());
        self.u16(len as u16);
        self.0.extend(string.get(..len).unwrap_or_default());
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// Bytes so far, the header's among them.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing but the header.
    pub fn is_empty(&self) -> bool {
        self.len() == HEADER
    }

    /// The message, whose size counts `further` bytes that follow.
    pub fn finish(mut self, kind: u8, tag: u16, further: usize) -> Vec<u8> {
        let size = u32::try_from(self.0.len().saturating_add(further)).unwrap_or(u32::MAX);
        let header = size.to_le_bytes().into_iter().chain([kind]).chain(tag.to_le_bytes());
        self.0.iter_mut().zip(header).for_each(|(to, from)| *to = from);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        assert!(writer.is_empty());
        writer.u8(1);
        writer.u16(0x203);
        writer.u32(0x405_0607);
        writer.u64(0x809_0a0b_0c0d_0e0f);
        writer.string(b"name");
        writer.bytes(&[9]);
        let message = writer.finish(101, 0xabcd, 5);
        assert_eq!(message[..7], [34, 0, 0, 0, 101, 0xcd, 0xab]);
        let mut reader = Reader::new(&message[7..]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x203));
        assert_eq!(reader.u32(), Ok(0x405_0607));
        assert_eq!(reader.u64(), Ok(0x809_0a0b_0c0d_0e0f));
        assert_eq!(reader.string(), Ok(&b"name"[..]));
        assert_eq!(reader.u16(), Err(Truncated));
        assert_eq!(reader.u8(), Ok(9));
    }

    #[test]
    fn a_string_that_ends_early_is_no_string() {
        assert_eq!(Reader::new(&[3, 0, b'a', b'b']).string(), Err(Truncated));
        assert_eq!(Reader::new(&[3]).string(), Err(Truncated));
        assert_eq!(Reader::new(&[0, 0]).string(), Ok(&b""[..]));
    }

    #[test]
    fn a_string_that_is_too_long_is_cut_off() {
        let mut writer = Writer::default();
        writer.string(&[b'x'; 70000]);
        assert_eq!(writer.len(), HEADER + 2 + 65535);
    }
}
