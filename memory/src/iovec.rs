//! Guest memory as the host's calls take it that move data in several parts (`struct iovec`).
#![allow(unsafe_code)]

use crate::vm_memory::VolatileSlice;

/// Most parts that one call takes (`IOV_MAX`).
const IOV_MAX: usize = 1024;

/// The host's description of parts, the first 1024 of them; of use only while they stay where they are.
pub struct IoVecs(Vec<libc::iovec>);

// SAFETY: it holds addresses and does nothing with them.
unsafe impl Send for IoVecs {}

impl IoVecs {
    /// Describes `parts`.
    pub fn new(parts: &[VolatileSlice<'_>]) -> IoVecs {
        let describe = |part: &VolatileSlice<'_>| libc::iovec {
            iov_base: part.ptr_guard_mut().as_ptr().cast(),
            iov_len: part.len(),
        };
        IoVecs(parts.iter().take(IOV_MAX).map(describe).collect())
    }

    /// The first one, as the kernel's calls take them.
    pub fn as_ptr(&self) -> *const libc::iovec {
        self.0.as_ptr()
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
