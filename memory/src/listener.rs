//! Who wants to know what an address space shows: accelerators, vhost, dirty tracking.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::FlatRange;

/// An eventfd that a guest's write signals without leaving the kernel (`memory_region_add_eventfd`).
#[derive(Clone, Debug)]
pub struct IoEventFd {
    /// First byte, in the region when it is declared, in the address space when a listener sees it.
    pub address: u64,
    /// Size of the write in bytes; 0 for any.
    pub size: u8,
    /// The value written, if only one value signals.
    pub data: Option<u64>,
    /// What is signalled.
    pub eventfd: Arc<EventFd>,
}

impl PartialEq for IoEventFd {
    fn eq(&self, other: &IoEventFd) -> bool {
        (self.address, self.size, self.data) == (other.address, other.size, other.data)
            && self.eventfd.as_raw_fd() == other.eventfd.as_raw_fd()
    }
}

/// An eventfd that an event loop can watch while others signal it (`EventNotifier`).
#[derive(Clone, Debug)]
pub struct EventNotifier(pub Arc<EventFd>);

impl AsFd for EventNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the EventFd, which lives as long as the borrow.
        #[allow(unsafe_code)]
        unsafe {
            BorrowedFd::borrow_raw(self.0.as_raw_fd())
        }
    }
}

/// Follows the changes of one address space, with the lock on the topology held. A change comes as `begin`,
/// what went, what came, `commit`; a change that leaves the view as it was comes as nothing.
pub trait MemoryListener: Send + Sync {
    /// A change starts.
    fn begin(&self) {}
    /// `range` is gone.
    fn region_del(&self, _range: &FlatRange) {}
    /// `range` is new.
    fn region_add(&self, _range: &FlatRange) {}
    /// Writes to `fd.address` no longer signal.
    fn eventfd_del(&self, _fd: &IoEventFd) {}
    /// Writes to `fd.address` signal from now on.
    fn eventfd_add(&self, _fd: &IoEventFd) {}
    /// Writes to `len` bytes at `address` come at once again.
    fn coalesced_io_del(&self, _address: u64, _len: u64) {}
    /// Writes to `len` bytes at `address` may be collected and handed over at the next exit.
    fn coalesced_io_add(&self, _address: u64, _len: u64) {}
    /// The change is complete.
    fn commit(&self) {}
}
