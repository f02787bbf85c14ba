//! What a client has still to read.

/// With more than this many bytes waiting, no further input is taken: a client that does not read its answers
/// gets no more of them.
pub(super) const ANSWERS_LIMIT: usize = 64 << 10;
/// With more than this many bytes waiting, events are dropped: nothing the client does brings them about, and it
/// alone is to blame that they wait.
pub(super) const EVENTS_LIMIT: usize = 1 << 20;

/// Bytes in order, taken off the front.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    taken: usize,
    /// The chardev tells when it takes more.
    pub watched: bool,
}

impl Output {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Adds text and the end of the line.
    pub fn add(&mut self, text: &str) {
        for (n, line) in text.split('\n').enumerate() {
            if n > 0 {
                self.bytes.extend_from_slice(b"\r\n");
            }
            self.bytes.extend_from_slice(line.as_bytes());
        }
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// The first `count` bytes are with the client.
    pub fn take(&mut self, count: usize) {
        self.taken = self.bytes.len().min(self.taken + count);
        if self.taken == self.bytes.len() {
            self.clear();
        } else if self.taken > ANSWERS_LIMIT {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(ANSWERS_LIMIT);
        self.taken = 0;
    }
}
