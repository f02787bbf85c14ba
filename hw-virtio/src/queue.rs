//! A virtqueue: split rings in guest memory (virtio 1.2, section 2.7), through rust-vmm's `virtio-queue`.
//!
//! Source followed besides: QEMU `hw/virtio/virtio.c` (`virtqueue_pop`, `virtqueue_push`, `virtio_notify`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use arc_swap::ArcSwapOption;
use memory::FlatView;
use memory::vm_memory::{Bytes, GuestAddress};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use util::event_loop::EventLoop;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use crate::element::{DescriptorTable, VirtQueueElement};
use crate::notifier::HostNotifier;
use crate::shared::Core;
use crate::spec::{ISR_QUEUE, NO_VECTOR, feature};

/// Available ring, flags: the driver wants no interrupts (section 2.7.6).
const AVAIL_NO_INTERRUPT: u16 = 1;
/// Bytes before the entries of either ring.
const RING_HEADER: u64 = 4;
/// Bytes of an entry of the available ring.
const AVAIL_ENTRY: u64 = 2;
/// Bytes of an entry of the used ring.
const USED_ENTRY: u64 = 8;

/// Where a driver put a queue's three parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RingAddresses {
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// A queue as it can be saved (section 2.7, and what the device remembers beside it).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtQueueState {
    /// Entries.
    pub size: u16,
    /// Whether the driver has set it up.
    pub ready: bool,
    /// Address of the descriptor table.
    pub descriptors: u64,
    /// Address of the available ring.
    pub available: u64,
    /// Address of the used ring.
    pub used: u64,
    /// The next entry of the available ring to look at.
    pub next_available: u16,
    /// The next entry of the used ring to fill.
    pub next_used: u16,
    /// Where the used ring was when the driver was notified last, if it was.
    pub signalled: Option<u16>,
    /// The interrupt vector.
    pub vector: u16,
}

struct Ring {
    queue: Queue,
    /// A reset begins another life, in which elements of the one before are of no account.
    generation: u32,
    /// Elements taken and not given back.
    in_use: u16,
    /// The driver is asked to notify when it makes buffers available.
    notification: bool,
    signalled: Option<u16>,
}

type Bad = String;

impl Ring {
    fn pop(&mut self, memory: &Arc<FlatView>) -> Result<Option<VirtQueueElement>, Bad> {
        if !self.queue.ready() || self.is_empty(memory)? {
            return Ok(None);
        }
        if self.in_use >= self.queue.size() {
            return Err("Virtqueue size exceeded".to_owned());
        }
        let chain = self.queue.iter(memory.clone()).map_err(|error| error.to_string())?.next();
        let Some(chain) = chain else { return Err("the available ring is not in memory".to_owned()) };
        let table = DescriptorTable {
            address: GuestAddress(self.queue.desc_table()),
            entries: self.queue.size().into(),
        };
        let element = VirtQueueElement::new(table, chain.head_index(), memory.clone(), self.generation)?;
        self.in_use += 1;
        if self.notification && self.queue.event_idx_enabled() {
            // The driver is to tell of the very next buffer. Whether it has come already shows at the next look.
            self.queue.enable_notification(&**memory).map_err(|error| error.to_string())?;
        }
        Ok(Some(element))
    }

    /// Whether there is nothing to take; the driver then notifies when there is, unless that is switched off.
    fn is_empty(&mut self, memory: &Arc<FlatView>) -> Result<bool, Bad> {
        let available = self.queue.avail_idx(&**memory, Ordering::Acquire).map_err(|e| e.to_string())?;
        if available.0 != self.queue.next_avail() {
            return Ok(false);
        }
        let came =
            self.notification && self.queue.enable_notification(&**memory).map_err(|e| e.to_string())?;
        Ok(!came)
    }

    fn is_current(&self, element: &VirtQueueElement) -> bool {
        self.queue.ready() && element.generation == self.generation
    }

    /// Gives elements back so that the driver sees all of them at once: those before the last are written behind it
    /// first.
    fn push(&mut self, memory: &FlatView, elements: &[(VirtQueueElement, u32)]) -> Result<(), Bad> {
        let mut next = self.queue.next_used();
        let Some(((last, last_len), others)) = elements.split_last() else { return Ok(()) };
        for (element, len) in others {
            let offset = RING_HEADER + u64::from(next % self.queue.size()) * USED_ENTRY;
            let place = self.queue.used_ring().checked_add(offset).ok_or("the used ring is not in memory")?;
            let entry = u64::from(element.head) | u64::from(*len) << 32;
            memory.write_slice(&entry.to_le_bytes(), GuestAddress(place)).map_err(|e| e.to_string())?;
            next = next.wrapping_add(1);
        }
        self.queue.set_next_used(next);
        self.in_use = self.in_use.saturating_sub(elements.len() as u16);
        self.queue.add_used(memory, last.head, *last_len).map_err(|error| error.to_string())
    }

    /// Whether the driver wants to hear of what was used since it was notified last (section 2.7.7).
    fn should_notify(&mut self, memory: &FlatView, features: u64) -> Result<bool, Bad> {
        // What was used shows before the driver's wish is looked at.
        fence(Ordering::SeqCst);
        let load = |ring: u64, offset: u64| -> Result<u16, Bad> {
            let address = ring.checked_add(offset).ok_or("a ring is not in memory")?;
            let value: u16 =
                memory.load(GuestAddress(address), Ordering::Relaxed).map_err(|e| e.to_string())?;
            Ok(u16::from_le(value))
        };
        if features & feature::NOTIFY_ON_EMPTY != 0
            && self.in_use == 0
            && load(self.queue.avail_ring(), 2)? == self.queue.next_avail()
        {
            return Ok(true);
        }
        if features & feature::EVENT_IDX == 0 {
            return Ok(load(self.queue.avail_ring(), 0)? & AVAIL_NO_INTERRUPT == 0);
        }
        let event = load(self.queue.avail_ring(), RING_HEADER + u64::from(self.queue.size()) * AVAIL_ENTRY)?;
        let new = self.queue.next_used();
        let Some(old) = self.signalled.replace(new) else { return Ok(true) };
        Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
    }
}

/// One queue of a device. Everything here may be called from any thread; queues share no lock.
///
/// A driver that sets up a ring, or a chain in it, that the specification does not allow breaks the device: it is
/// noted in the status ([`Status::NEEDS_RESET`](crate::spec::Status::NEEDS_RESET)), the queue appears empty from
/// then on, and what is given back goes nowhere until the driver resets the device.
pub struct VirtQueue {
    index: u16,
    core: Arc<Core>,
    ring: Mutex<Ring>,
    vector: AtomicU16,
    event_loop: Mutex<EventLoop>,
    pub(crate) notifier: Arc<HostNotifier>,
    guest_notifier: ArcSwapOption<EventFd>,
}

impl VirtQueue {
    pub(crate) fn new(core: &Arc<Core>, index: u16, size: u16) -> qom::Result<Arc<VirtQueue>> {
        let Ok(queue) = Queue::new(size) else { qom::bail!("queue size {size} is not a power of two") };
        let ring = Ring { queue, generation: 0, in_use: 0, notification: true, signalled: None };
        Ok(Arc::new(VirtQueue {
            index,
            core: core.clone(),
            ring: Mutex::new(ring),
            vector: AtomicU16::new(NO_VECTOR),
            event_loop: Mutex::new(EventLoop::main().clone()),
            notifier: Arc::default(),
            guest_notifier: ArcSwapOption::empty(),
        }))
    }

    /// Its number.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Entries, as the driver chose.
    pub fn size(&self) -> u16 {
        self.ring.lock().queue.size()
    }

    /// The most entries it can have.
    pub(crate) fn max_size(&self) -> u16 {
        self.ring.lock().queue.max_size()
    }

    /// Elements taken and not given back.
    pub(crate) fn in_use(&self) -> u16 {
        self.ring.lock().in_use
    }

    /// Whether the driver has set it up (`virtio_queue_ready`).
    pub fn is_ready(&self) -> bool {
        self.ring.lock().queue.ready()
    }

    /// The loop on whose thread its handler runs: the main loop, unless the device has an I/O thread.
    pub fn event_loop(&self) -> EventLoop {
        self.event_loop.lock().clone()
    }

    /// Says on which loop its handler runs from the next time that the driver starts the device.
    pub fn set_event_loop(&self, event_loop: &EventLoop) {
        *self.event_loop.lock() = event_loop.clone();
    }

    /// Calls `f` with the ring and memory, if there is any that the device may reach. What `f` finds wrong breaks the
    /// device.
    fn with_ring<R: Default>(&self, f: impl FnOnce(&mut Ring, &Arc<FlatView>) -> Result<R, Bad>) -> R {
        if self.core.is_broken() {
            return R::default();
        }
        let Some(memory) = self.core.memory() else { return R::default() };
        let result = f(&mut self.ring.lock(), &memory);
        result.unwrap_or_else(|bad| {
            self.core.set_broken(&format!("queue {}: {bad}", self.index));
            R::default()
        })
    }

    /// The next descriptor chain, if there is one (`virtqueue_pop`). When there is none, the driver will notify when
    /// there is, unless notifications are off.
    pub fn pop(&self) -> Option<VirtQueueElement> {
        self.with_ring(Ring::pop)
    }

    /// Whether there is nothing to [`pop`](Self::pop) (`virtio_queue_empty`).
    pub fn is_empty(&self) -> bool {
        !self.with_ring(|ring, memory| Ok(ring.queue.ready() && !ring.is_empty(memory)?))
    }

    /// Puts the element that was taken last back, to be taken again (`virtqueue_unpop`).
    pub fn unpop(&self, element: VirtQueueElement) {
        let mut ring = self.ring.lock();
        if ring.is_current(&element) {
            ring.queue.go_to_previous_position();
            ring.in_use = ring.in_use.saturating_sub(1);
        }
    }

    /// Gives an element back with the number of bytes written from the start of its writable buffers
    /// (`virtqueue_push`). The driver sees it at once, but is only interrupted by [`notify`](Self::notify).
    pub fn push(&self, element: VirtQueueElement, written: u32) {
        self.push_all(vec![(element, written)]);
    }

    /// Gives several back at once: the driver sees all of them or none (`virtqueue_fill`, `virtqueue_flush`), as a
    /// packet in several buffers needs it.
    pub fn push_all(&self, mut elements: Vec<(VirtQueueElement, u32)>) {
        self.with_ring(|ring, memory| {
            elements.retain(|(element, _)| ring.is_current(element));
            ring.push(memory, &elements)
        });
    }

    /// Drops an element that was taken, without giving it back: for a queue that is to be reset
    /// (`virtqueue_detach_element`).
    pub fn forget(&self, element: &VirtQueueElement) {
        let mut ring = self.ring.lock();
        if ring.is_current(element) {
            ring.in_use = ring.in_use.saturating_sub(1);
        }
    }

    /// Interrupts the driver if it wants to hear of what was given back since the last time (`virtio_notify`).
    pub fn notify(&self) {
        let features = self.core.guest_features();
        let wanted =
            self.with_ring(|ring, memory| Ok(ring.queue.ready() && ring.should_notify(memory, features)?));
        if wanted {
            self.interrupt();
        }
    }

    /// Interrupts the driver, who is known to want to hear of what was given back, by whomever.
    pub(crate) fn interrupt(&self) {
        match &*self.guest_notifier.load() {
            Some(eventfd) => {
                self.core.add_isr(ISR_QUEUE);
                // A full counter interrupts, too.
                let _ = eventfd.write(1);
            }
            None => self.core.interrupt(ISR_QUEUE, self.vector()),
        }
    }

    /// The eventfd that interrupts the driver, where the transport has one.
    pub(crate) fn guest_notifier(&self) -> Option<Arc<EventFd>> {
        self.guest_notifier.load_full()
    }

    /// Has an eventfd interrupt the driver, or the transport itself.
    pub(crate) fn set_guest_notifier(&self, eventfd: Option<Arc<EventFd>>) {
        self.guest_notifier.store(eventfd);
    }

    /// Goes on where somebody else has left off, who would have looked at entry `next` of the available ring next; where that
    /// is not known, with all that was not given back.
    pub(crate) fn resume(&self, next: Option<u16>) {
        self.with_ring(|ring, memory| {
            let used =
                ring.queue.used_idx(&**memory, Ordering::Acquire).map_err(|error| error.to_string())?;
            ring.queue.set_next_avail(next.unwrap_or(used.0));
            ring.queue.set_next_used(used.0);
            (ring.in_use, ring.signalled) = (0, None);
            Ok(())
        });
    }

    /// Asks the driver to notify when it makes buffers available, or not to: for a handler that looks again anyway
    /// (`virtio_queue_set_notification`). Gives whether there is something to take.
    pub fn set_notification(&self, on: bool) -> bool {
        self.with_ring(|ring, memory| {
            ring.notification = on;
            if !ring.queue.ready() {
                return Ok(false);
            }
            let came = match on {
                true => ring.queue.enable_notification(&**memory),
                false => ring.queue.disable_notification(&**memory).map(|()| false),
            };
            came.map_err(|error| error.to_string())
        })
    }

    /// The interrupt vector.
    pub(crate) fn vector(&self) -> u16 {
        self.vector.load(Ordering::Acquire)
    }

    pub(crate) fn set_vector(&self, vector: u16) {
        self.vector.store(vector, Ordering::Release);
    }

    /// The driver chooses a size; one that a ring cannot have changes nothing.
    pub(crate) fn set_size(&self, size: u16) {
        let _ = self.ring.lock().queue.try_set_size(size);
    }

    /// Where the driver put it.
    pub(crate) fn addresses(&self) -> RingAddresses {
        let ring = self.ring.lock();
        let queue = &ring.queue;
        RingAddresses {
            descriptors: queue.desc_table(),
            available: queue.avail_ring(),
            used: queue.used_ring(),
        }
    }

    /// The driver has set it up.
    pub(crate) fn enable(&self, at: RingAddresses) {
        let result = {
            let mut ring = self.ring.lock();
            let event_idx = self.core.guest_features() & feature::EVENT_IDX != 0;
            ring.queue.set_event_idx(event_idx);
            let set = ring
                .queue
                .try_set_desc_table_address(GuestAddress(at.descriptors))
                .and_then(|()| ring.queue.try_set_avail_ring_address(GuestAddress(at.available)))
                .and_then(|()| ring.queue.try_set_used_ring_address(GuestAddress(at.used)));
            ring.queue.set_ready(set.is_ok());
            set
        };
        if let Err(error) = result {
            self.core.set_broken(&format!("queue {}: {error}", self.index));
        }
    }

    /// Features were agreed on after it was set up, as legacy drivers may do.
    pub(crate) fn set_event_idx(&self, on: bool) {
        self.ring.lock().queue.set_event_idx(on);
    }

    /// As after power-on; elements that were taken are of no account any more.
    pub(crate) fn reset(&self) {
        let mut ring = self.ring.lock();
        ring.queue.reset();
        ring.generation = ring.generation.wrapping_add(1);
        (ring.in_use, ring.notification, ring.signalled) = (0, true, None);
        drop(ring);
        self.set_vector(NO_VECTOR);
    }

    /// Its state, for one who goes on with it elsewhere. Elements that are taken, which are the last ones, are taken
    /// there again.
    pub fn save(&self) -> VirtQueueState {
        let ring = self.ring.lock();
        let state = ring.queue.state();
        VirtQueueState {
            size: state.size,
            ready: state.ready,
            descriptors: state.desc_table,
            available: state.avail_ring,
            used: state.used_ring,
            next_available: state.next_avail.wrapping_sub(ring.in_use),
            next_used: state.next_used,
            signalled: ring.signalled,
            vector: self.vector(),
        }
    }

    /// Goes on with a state that was saved.
    ///
    /// # Errors
    /// When no ring can be so.
    pub fn restore(&self, state: &VirtQueueState) -> qom::Result<()> {
        let mut ring = self.ring.lock();
        let saved = virtio_queue::QueueState {
            max_size: ring.queue.max_size(),
            next_avail: state.next_available,
            next_used: state.next_used,
            event_idx_enabled: self.core.guest_features() & feature::EVENT_IDX != 0,
            size: state.size,
            ready: state.ready,
            desc_table: state.descriptors,
            avail_ring: state.available,
            used_ring: state.used,
        };
        match Queue::try_from(saved) {
            Ok(queue) => ring.queue = queue,
            Err(error) => qom::bail!("queue {}: {error}", self.index),
        }
        ring.generation = ring.generation.wrapping_add(1);
        (ring.in_use, ring.notification, ring.signalled) = (0, true, state.signalled);
        drop(ring);
        self.set_vector(state.vector);
        Ok(())
    }
}
