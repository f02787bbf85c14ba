//! `null-co` and `null-aio`: a disk that is not there (block/null.c).

use std::io;
use std::time::Duration;

use qom::{Result, bail};

use crate::driver::{BlockDriver, IoVec, iov_zero};
use crate::node::MAX_LENGTH;
use crate::options::BlockdevOptionsNull;

/// Size where none is given, bytes.
const DEFAULT_SIZE: u64 = 1 << 30;

/// Requests succeed, and nothing is kept.
pub struct Null {
    format_name: &'static str,
    size: u64,
    latency: Duration,
    read_zeroes: bool,
    /// Nothing but the driver was said.
    is_plain: bool,
}

impl Null {
    pub(crate) fn open(format_name: &'static str, options: &BlockdevOptionsNull) -> Result<Self> {
        let size = options.size.unwrap_or(DEFAULT_SIZE);
        if size > MAX_LENGTH {
            bail!("Parameter 'size' expects a size of at most {MAX_LENGTH}");
        }
        let latency = options.latency_ns.unwrap_or(0);
        if i64::try_from(latency).is_err() {
            bail!("latency-ns is invalid");
        }
        Ok(Null {
            format_name,
            size,
            latency: Duration::from_nanos(latency),
            read_zeroes: options.read_zeroes.unwrap_or(false),
            is_plain: matches!(
                options,
                BlockdevOptionsNull { size: None, latency_ns: None, read_zeroes: None }
            ),
        })
    }

    fn take_time(&self) -> io::Result<()> {
        if !self.latency.is_zero() {
            std::thread::sleep(self.latency);
        }
        Ok(())
    }
}

impl BlockDriver for Null {
    fn format_name(&self) -> &'static str {
        self.format_name
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn preadv(&self, _offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
        if self.read_zeroes {
            iov_zero(to);
        }
        self.take_time()
    }

    fn never_waits(&self) -> bool {
        self.latency.is_zero()
    }

    fn pwritev(&self, _offset: u64, _from: IoVec<'_, '_>) -> io::Result<()> {
        self.take_time()
    }

    fn pwrite_zeroes(&self, _offset: u64, _bytes: u64, _may_unmap: bool) -> io::Result<()> {
        self.take_time()
    }

    fn flush(&self) -> io::Result<()> {
        self.take_time()
    }

    fn filename(&self) -> Option<String> {
        self.is_plain.then(|| format!("{}://", self.format_name))
    }

    fn allocated_size(&self) -> Option<u64> {
        Some(0)
    }
}
