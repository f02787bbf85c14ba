//! A ring buffer that keeps the latest output, for `ringbuf-read` (chardev/char-ringbuf.c), and the null
//! device that keeps nothing (chardev/char-null.c).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::Backend;
use crate::error::ChardevError;
use crate::options::Options;

const DEFAULT_SIZE: u64 = 65536;

pub(crate) struct Null;

impl Backend for Null {}

struct RingBuf {
    size: usize,
    bytes: Mutex<VecDeque<u8>>,
}

/// `ringbuf`, also named `memory`: `size`.
pub(crate) fn open(options: &Options) -> Result<Arc<dyn Backend>, ChardevError> {
    let size = match options.size("size")? {
        None | Some(0) => DEFAULT_SIZE,
        Some(size) => size,
    };
    if !size.is_power_of_two() {
        return Err(ChardevError::options("size of ringbuf chardev must be power of two"));
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut bytes = VecDeque::new();
    bytes
        .try_reserve_exact(size)
        .map_err(|_| ChardevError::options(format!("size {size} of ringbuf chardev is more than memory")))?;
    Ok(Arc::new(RingBuf { size, bytes: Mutex::new(bytes) }))
}

impl Backend for RingBuf {
    fn write(&self, data: &[u8]) -> io::Result<usize> {
        let mut bytes = self.bytes.lock();
        let latest = &data[data.len().saturating_sub(self.size)..];
        let surplus = (bytes.len() + latest.len()).saturating_sub(self.size);
        bytes.drain(..surplus);
        bytes.extend(latest);
        Ok(data.len())
    }

    fn read_buffered(&self, limit: usize) -> Option<Vec<u8>> {
        let mut bytes = self.bytes.lock();
        let count = limit.min(bytes.len());
        Some(bytes.drain(..count).collect())
    }
}
