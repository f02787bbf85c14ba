//! Queues that the host's kernel or another program serves (QEMU `hw/virtio/vhost.c`).
//!
//! While a driver of the kernel's or that program works on a device's queues, nothing here touches them: the guest's notifications go
//! to it by the queues' eventfds, its interrupts come back by others, which the main loop turns into messages, so that
//! vectors can be masked as ever. When it stops, the device goes on where it left off.

mod kernel;
mod memory;
mod remote;
mod user;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use ::memory::{EventNotifier, RamBlock, address_space_memory};
use parking_lot::Mutex;
use rustix::io::Errno;
use util::event_loop::{EventLoop, FdWatch, Interest};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::device::VirtIODevice;
use crate::queue::{VirtQueue, VirtQueueState};
use kernel::{Kernel, MemoryPiece, VringAddresses};
use memory::GuestMemory;
pub use remote::{ITS_FEATURES, RemoteTerms, VhostRemote};
pub use user::VhostUser;

/// Bytes of a descriptor, of an entry of the available and of the used ring, and of what either ring has besides.
const DESCRIPTOR: u64 = 16;
const AVAILABLE: u64 = 2;
const USED: u64 = 8;
const RING_EXTRA: u64 = 6;

/// What works on queues in this program's stead.
trait VhostBackend: Send + Sync {
    /// What it is to do.
    fn set_features(&self, features: u64) -> io::Result<()>;
    /// Where the guest's memory is; the caller keeps it there until the backend is told of another or has no ring.
    fn set_memory(&self, pieces: &[(MemoryPiece, Arc<RamBlock>)]) -> io::Result<()>;
    /// The entries of a ring.
    fn set_vring_num(&self, index: u32, entries: u16) -> io::Result<()>;
    /// The entry of the available ring to look at next.
    fn set_vring_base(&self, index: u32, next: u16) -> io::Result<()>;
    /// Where a ring is.
    fn set_vring_addresses(&self, addresses: VringAddresses) -> io::Result<()>;
    /// How many µs it looks for more before it sleeps.
    fn set_vring_busyloop(&self, index: u32, microseconds: u32) -> io::Result<()> {
        let _ = (index, microseconds);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// What it signals for an interrupt.
    fn set_vring_call(&self, index: u32, call: &EventFd) -> io::Result<()>;
    /// What wakes it.
    fn set_vring_kick(&self, index: u32, kick: &EventFd) -> io::Result<()>;
    /// All is set: it may begin with a ring, or is to leave it alone until it is told again.
    fn enable_vring(&self, index: u32, on: bool) -> io::Result<()> {
        let _ = (index, on);
        Ok(())
    }
    /// Ends its work on a ring: the entry it would have looked at next.
    fn vring_base(&self, index: u32) -> io::Result<u16>;
}

/// A ring that the backend serves.
struct Vring {
    queue: Arc<VirtQueue>,
    call: Arc<EventFd>,
    /// Where the accelerator does not take the interrupts.
    _watch: Option<FdWatch>,
}

/// Who serves a device's queues, as is told of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct VhostShown {
    /// The virtio features that it knows.
    pub features: u64,
    /// The rings that it has.
    pub rings: Vec<VhostRing>,
}

/// A ring that it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VhostRing {
    /// The queue's number.
    pub queue: u16,
    /// Entries.
    pub entries: u16,
    /// Descriptors, available and used ring.
    pub parts: [RingPart; 3],
}

/// A part of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingPart {
    /// Where it is in this process.
    pub host: u64,
    /// Where the guest has it.
    pub guest: u64,
    /// Its bytes.
    pub size: u32,
}

/// A vhost device of the kernel's or another program's.
pub struct VhostDevice {
    /// The kernel's.
    fd: Option<Arc<OwnedFd>>,
    backend: Arc<dyn VhostBackend>,
    features: u64,
    memory: Arc<GuestMemory>,
    rings: Mutex<Vec<Vring>>,
}

impl VhostDevice {
    /// Makes this process the owner of an open vhost device (`vhost_dev_init`).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(fd: Arc<OwnedFd>) -> io::Result<VhostDevice> {
        match kernel::set_owner(&fd) {
            // It is ours from before.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => return Err(error.into()),
        }
        let features = kernel::features(&fd)?;
        let backend = Arc::new(Kernel(fd.clone()));
        Ok(VhostDevice { fd: Some(fd), ..Self::with(backend, features) })
    }

    /// A device of another program's.
    pub fn of_user(user: &Arc<VhostUser>) -> VhostDevice {
        Self::with(user.clone(), user.features())
    }

    fn with(backend: Arc<dyn VhostBackend>, features: u64) -> VhostDevice {
        let memory = GuestMemory::new(backend.clone());
        VhostDevice { fd: None, backend, features, memory, rings: Mutex::default() }
    }

    /// The virtio features that the backend knows.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Has the backend serve `queues`, its rings 0 and on, with the features that the guest accepted and `extra` ones of
    /// the kernel's own, and look `busy_us` µs for more (`vhost_dev_start`). It does nothing before it has a backend.
    ///
    /// # Errors
    /// What the kernel says. Nothing has changed then.
    pub fn start(
        &self,
        device: &VirtIODevice,
        queues: &[Arc<VirtQueue>],
        extra: u64,
        busy_us: u32,
    ) -> io::Result<()> {
        self.start_all(device, queues, queues.len(), extra, busy_us)
    }

    /// The same with no features and no wishes; the rings after the first `enabled` ones are only made known.
    ///
    /// # Errors
    /// As [`VhostDevice::start`].
    pub fn start_some(
        &self,
        device: &VirtIODevice,
        queues: &[Arc<VirtQueue>],
        enabled: usize,
    ) -> io::Result<()> {
        self.start_all(device, queues, enabled, 0, 0)
    }

    fn start_all(
        &self,
        device: &VirtIODevice,
        queues: &[Arc<VirtQueue>],
        enabled: usize,
        extra: u64,
        busy_us: u32,
    ) -> io::Result<()> {
        self.backend.set_features(device.core().guest_features() & self.features | extra)?;
        address_space_memory().add_listener(self.memory.clone());
        let started = self.memory.set().and_then(|()| {
            let start = |(index, queue)| {
                let ring = self.start_ring(device, index, queue, busy_us)?;
                self.backend.enable_vring(index, (index as usize) < enabled).map(|()| ring)
            };
            (0..).zip(queues).map(start).collect::<io::Result<Vec<_>>>()
        });
        let rings = started.inspect_err(|_| self.stop(device))?;
        device.set_vhost(Some(VhostShown { features: self.features, rings }));
        Ok(())
    }

    fn start_ring(
        &self,
        device: &VirtIODevice,
        index: u32,
        queue: &Arc<VirtQueue>,
        busy_us: u32,
    ) -> io::Result<VhostRing> {
        let (call, watch) = Self::call(queue)?;
        let kick = queue.notifier.lend()?;
        queue.notifier.wait();
        let ring = queue.save();
        if let Err(error) = self.set_base(index, &ring) {
            device.take_back_notifier(queue);
            return Err(error);
        }
        self.rings.lock().push(Vring { queue: queue.clone(), call: call.clone(), _watch: watch });
        let addresses = self.addresses(index, &ring)?;
        self.backend.set_vring_addresses(addresses)?;
        if busy_us > 0 {
            self.backend.set_vring_busyloop(index, busy_us)?;
        }
        self.backend.set_vring_call(index, &call)?;
        self.backend.set_vring_kick(index, &kick)?;
        // What the guest told of before nobody else will look at; a full counter wakes, too.
        let _ = kick.write(1);
        let has_event_index = device.has_feature(crate::spec::feature::EVENT_IDX);
        Ok(VhostRing::new(queue.index(), &addresses, &ring, has_event_index))
    }

    /// The eventfd for a queue's interrupts: the accelerator's, or one that the main loop watches.
    fn call(queue: &Arc<VirtQueue>) -> io::Result<(Arc<EventFd>, Option<FdWatch>)> {
        if let Some(eventfd) = queue.guest_notifier() {
            return Ok((eventfd, None));
        }
        let call = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let (to_read, interrupted) = (call.clone(), queue.clone());
        let handler = Arc::new(move |_| {
            if to_read.read().is_ok() {
                interrupted.interrupt();
            }
        });
        let watch = EventLoop::main().add_fd(EventNotifier(call.clone()), Interest::READ, handler)?;
        Ok((call, Some(watch)))
    }

    fn set_base(&self, index: u32, ring: &VirtQueueState) -> io::Result<()> {
        if !ring.ready {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.backend.set_vring_num(index, ring.size)?;
        self.backend.set_vring_base(index, ring.next_available)
    }

    fn addresses(&self, index: u32, ring: &VirtQueueState) -> io::Result<VringAddresses> {
        let size = u64::from(ring.size);
        let host = |address, len| self.memory.host(address, len).ok_or(io::ErrorKind::InvalidInput);
        Ok(VringAddresses {
            index,
            descriptors: host(ring.descriptors, size * DESCRIPTOR)?,
            available: host(ring.available, size * AVAILABLE + RING_EXTRA)?,
            used: host(ring.used, size * USED + RING_EXTRA)?,
            ..VringAddresses::default()
        })
    }

    /// Has the kernel take a ring's packets to and from `backend`, or from nobody (`vhost_net_set_backend`).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_net_backend(&self, index: u32, backend: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fd = self.fd.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Ok(kernel::net_set_backend(fd, index, backend)?)
    }

    /// Says which address the guest has among the kernel's sockets (`vhost_vsock_set_guest_cid`).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_guest_cid(&self, cid: u64) -> io::Result<()> {
        let fd = self.fd.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Ok(kernel::vsock_set_guest_cid(fd, cid)?)
    }

    /// Has the kernel take packets between the rings, which it has, and sockets, or not any more
    /// (`vhost_vsock_set_running`).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_running(&self, running: bool) -> io::Result<()> {
        let fd = self.fd.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        kernel::vsock_set_running(fd, running)?;
        // What it was told of before it ran it did not look at.
        self.rings.lock().iter().filter(|_| running).for_each(|ring| {
            ring.queue.notifier.signal();
        });
        Ok(())
    }

    /// The device goes on with the queues itself (`vhost_dev_stop`).
    pub fn stop(&self, device: &VirtIODevice) {
        device.set_vhost(None);
        let rings = std::mem::take(&mut *self.rings.lock());
        for (index, ring) in (0..).zip(&rings) {
            // A program that is gone does not say.
            ring.queue.resume(self.backend.vring_base(index).ok());
            device.take_back_notifier(&ring.queue);
            // What the main loop has not come to.
            if ring.call.read().is_ok() {
                ring.queue.interrupt();
            }
        }
        // First, so that the backend is not told of memory that it loses.
        self.memory.clear();
        let listener: Arc<dyn ::memory::MemoryListener> = self.memory.clone();
        address_space_memory().remove_listener(&listener);
    }
}

impl VhostRing {
    fn new(queue: u16, at: &VringAddresses, ring: &VirtQueueState, has_event_index: bool) -> VhostRing {
        let entries = u32::from(ring.size);
        // Flags and index, and where there is one the index of the next event.
        let extra = if has_event_index { RING_EXTRA } else { RING_EXTRA - 2 } as u32;
        let part = |host, guest, size| RingPart { host, guest, size };
        let parts = [
            part(at.descriptors, ring.descriptors, entries * DESCRIPTOR as u32),
            part(at.available, ring.available, entries * AVAILABLE as u32 + extra),
            part(at.used, ring.used, entries * USED as u32 + extra),
        ];
        VhostRing { queue, entries: ring.size, parts }
    }
}
