//! A pair of queues: packets to and from the guest (virtio 1.2, sections 5.1.6.1 to 5.1.6.4).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use hw_virtio::spec::QUEUE_SIZE_MAX;
use hw_virtio::{VirtQueue, VirtQueueElement};
use net::{NET_BUFSIZE, NetClientDriver, NetClientState, Received};
use parking_lot::Mutex;
use qom::Result;
use util::clock::{ClockType, now_ns};
use util::event_loop::{BottomHalf, EventLoop};
use util::timer::Timer;

use super::spec::{HDR_LEN, HDR_MRG_LEN, HDR_NUM_BUFFERS, feature};
use super::{CTRL_QUEUE_SIZE, QUEUE_DEFAULT_SIZE, VirtIONet};

/// One pair.
pub(super) struct Pair {
    n: usize,
    pub rx: Arc<VirtQueue>,
    tx: Arc<VirtQueue>,
    /// Held while packets are written to the guest's buffers.
    receiving: Mutex<()>,
    /// Held while packets are sent: on the queue's handler's thread, or the main loop's.
    sending: Mutex<()>,
    /// The packet that waits for the backend.
    pending: Mutex<Option<VirtQueueElement>>,
    buffer: Mutex<Vec<u8>>,
    /// Senders that have more for the guest at once.
    batches: AtomicUsize,
    /// The guest got packets that it was not told of.
    untold: AtomicBool,
    /// Goes on sending.
    again: BottomHalf,
    /// With `tx=timer`: how long to wait for more.
    timer: Option<(Timer, u64)>,
}

/// Where sending stopped.
enum Stopped {
    /// There is nothing more.
    Empty,
    /// There may be more.
    Burst,
    /// The backend has enough, or the device broke.
    Waits,
}

impl Pair {
    pub fn new(
        device: &Arc<VirtIONet>,
        n: usize,
        rx: Arc<VirtQueue>,
        tx: Arc<VirtQueue>,
        timer: Option<u64>,
    ) -> Arc<Pair> {
        let weak = Arc::downgrade(device);
        let send = move |weak: &Weak<VirtIONet>| {
            if let Some(device) = weak.upgrade()
                && let Some(pair) = device.pair(n)
            {
                pair.send(&device);
            }
        };
        let (on_timer, on_again) = (weak.clone(), weak);
        Arc::new(Pair {
            n,
            rx,
            tx,
            receiving: Mutex::new(()),
            sending: Mutex::new(()),
            pending: Mutex::new(None),
            buffer: Mutex::default(),
            batches: AtomicUsize::new(0),
            untold: AtomicBool::new(false),
            again: BottomHalf::new(EventLoop::main(), move || send(&on_again)),
            timer: timer.map(|ns| (Timer::new(ClockType::Virtual, move || send(&on_timer)), ns)),
        })
    }

    /// Both.
    pub fn queues(&self) -> [Arc<VirtQueue>; 2] {
        [self.rx.clone(), self.tx.clone()]
    }

    /// Calls off what is to be done later.
    pub fn stop(&self) {
        self.again.cancel();
        self.timer.iter().for_each(|(timer, _)| timer.del());
    }

    /// Forgets what was taken; on return nothing is read or written any more.
    pub fn reset(&self) {
        self.stop();
        let _sending = self.sending.lock();
        let _receiving = self.receiving.lock();
        *self.pending.lock() = None;
    }

    /// Several packets for the guest begin to come at once, or have come.
    pub fn batch(&self, begins: bool) {
        if begins {
            self.batches.fetch_add(1, Ordering::SeqCst);
        } else {
            self.batches.fetch_sub(1, Ordering::SeqCst);
            self.tell();
        }
    }

    /// Tells the guest of what it got, unless more is about to come. Of two threads, one that ends a batch and one that
    /// has just added to it, one at least sees what the other did.
    fn tell(&self) {
        if self.batches.load(Ordering::SeqCst) == 0 && self.untold.swap(false, Ordering::SeqCst) {
            self.rx.notify();
        }
    }

    /// The driver has packets to send.
    pub fn tx_notified(&self, device: &VirtIONet) {
        match &self.timer {
            Some((timer, ns)) if !timer.pending() => {
                self.tx.set_notification(false);
                timer.mod_ns(now_ns(ClockType::Virtual).saturating_add(*ns));
            }
            Some((timer, _)) => {
                timer.del();
                self.send(device);
            }
            None => self.send(device),
        }
    }

    /// Sends what there is, or as much as goes.
    fn send(&self, device: &VirtIONet) {
        if !device.is_running() {
            // Called again when the machine goes on.
            return;
        }
        let _sending = self.sending.lock();
        if device.is_served() {
            return;
        }
        self.tx.set_notification(false);
        match self.send_burst(device) {
            Stopped::Waits => {}
            Stopped::Burst => self.send_later(),
            // Something may have come after the last look, of which the driver did not tell.
            Stopped::Empty if self.tx.set_notification(true) => self.send_later(),
            Stopped::Empty => {}
        }
    }

    fn send_later(&self) {
        match &self.timer {
            Some((timer, ns)) => timer.mod_ns(now_ns(ClockType::Virtual).saturating_add(*ns)),
            None => self.again.schedule(),
        }
    }

    fn send_burst(&self, device: &VirtIONet) -> Stopped {
        let Some(client) = device.client(self.n) else { return Stopped::Waits };
        let burst = device.tx_burst.get().max(1);
        let mut buffer = std::mem::take(&mut *self.buffer.lock());
        let mut sent = 0;
        let stopped = loop {
            if self.pending.lock().is_some() {
                break Stopped::Waits;
            }
            if sent >= burst {
                break Stopped::Burst;
            }
            let Some(element) = self.tx.pop() else { break Stopped::Empty };
            sent += 1;
            if device.send_as_it_lies(client, &element) {
                self.tx.push(element, 0);
                continue;
            }
            let packet = match device.read_packet(&element, &mut buffer) {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    self.tx.push(element, 0);
                    continue;
                }
                Err(why) => {
                    device.set_broken(why);
                    self.tx.forget(&element);
                    break Stopped::Waits;
                }
            };
            // Before it is sent: the backend may have taken it before `send_async` returns.
            *self.pending.lock() = Some(element);
            if !client.send_async(packet) {
                break Stopped::Waits;
            }
            let element = self.pending.lock().take();
            element.into_iter().for_each(|element| self.tx.push(element, 0));
        };
        *self.buffer.lock() = buffer;
        if sent > 0 {
            self.tx.notify();
        }
        stopped
    }

    /// The backend took the packet that waited.
    pub fn sent(&self) {
        let element = self.pending.lock().take();
        if let Some(element) = element {
            self.tx.push(element, 0);
            self.tx.notify();
            self.again.schedule();
        }
    }
}

impl VirtIONet {
    /// Makes the queues of all pairs and the control queue.
    pub(super) fn add_queues(self: &Arc<Self>) -> Result<()> {
        let timer = (self.tx.get().as_deref() == Some("timer")).then(|| u64::from(self.tx_timer.get()));
        let mut pairs = Vec::new();
        // Other backends than programs have no use for more.
        let backend = self.netdev.get().queues().first().map(|backend| backend.driver());
        let most =
            if backend == Some(NetClientDriver::VhostUser) { QUEUE_SIZE_MAX } else { QUEUE_DEFAULT_SIZE };
        for n in 0..self.max_pairs() {
            let rx = self.add_queue(self.rx_queue_size.get())?;
            let tx = self.add_queue(self.tx_queue_size.get().min(most))?;
            pairs.push(Pair::new(self, n, rx, tx, timer));
        }
        let _ = self.control.set(self.add_queue(CTRL_QUEUE_SIZE)?);
        let _ = self.pairs.set(pairs);
        Ok(())
    }

    /// Sends a packet from where the guest has it, if the backend wants its header as it is and takes it so.
    fn send_as_it_lies(&self, client: &NetClientState, element: &VirtQueueElement) -> bool {
        let header = self.guest_header.load(Ordering::Acquire);
        let length = element.readable_len();
        let fits = (header as u64..=NET_BUFSIZE as u64).contains(&length);
        if !fits || header != self.host_header.load(Ordering::Acquire) {
            return false;
        }
        let parts: Vec<_> = element.readable_slices(0, length).collect();
        client.send_parts(&parts)
    }

    /// Copies a packet of the guest's to `buffer`, with the header that the backend wants; none for one that is too long,
    /// and so lost.
    fn read_packet<'a>(
        &self,
        element: &VirtQueueElement,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, &'static str> {
        let (guest, host) =
            (self.guest_header.load(Ordering::Acquire), self.host_header.load(Ordering::Acquire));
        let length = element.readable_len();
        if length < guest as u64 {
            return Err("virtio-net header incorrect");
        }
        let data = length - guest as u64;
        if data > (NET_BUFSIZE - HDR_MRG_LEN) as u64 {
            return Ok(None);
        }
        let needed = host + data as usize;
        // Never made smaller: what is new must be cleared.
        buffer.resize(needed.max(buffer.len()), 0);
        let Some(packet) = buffer.get_mut(..needed) else { return Ok(None) };
        let (header, body) = packet.split_at_mut(host);
        header.fill(0);
        element.read(0, header);
        element.read(guest as u64, body);
        Ok(Some(packet))
    }

    /// A packet for the guest.
    pub(super) fn receive(&self, n: usize, packet: &[u8]) -> Received {
        let Some(pair) = self.pair(n).filter(|_| self.can_receive(n)) else { return Received::Done };
        let (guest, host) =
            (self.guest_header.load(Ordering::Acquire), self.host_header.load(Ordering::Acquire));
        let Some((header, body)) = packet.split_at_checked(host) else { return Received::Done };
        if !self.filter.lock().takes(body) {
            return Received::Done;
        }
        let receiving = pair.receiving.lock();
        if self.is_served() {
            return Received::Done;
        }
        let elements = match self.take_buffers(pair, guest, guest + body.len()) {
            Ok(elements) => elements,
            Err(received) => return received,
        };
        let filled = fill(elements, guest, header, body);
        pair.rx.push_all(filled);
        drop(receiving);
        pair.untold.store(true, Ordering::SeqCst);
        pair.tell();
        Received::Done
    }

    /// Buffers with room for `needed` bytes; one, unless the driver takes packets in several.
    fn take_buffers(
        &self,
        pair: &Pair,
        header: usize,
        needed: usize,
    ) -> Result<Vec<VirtQueueElement>, Received> {
        let mergeable = self.has_feature(feature::MRG_RXBUF);
        let mut elements = Vec::new();
        let mut room = 0;
        let put_back = |elements: Vec<VirtQueueElement>| {
            elements.into_iter().rev().for_each(|element| pair.rx.unpop(element));
        };
        while room < needed as u64 {
            let Some(element) = pair.rx.pop() else {
                // Asked for while all that there is has been taken, so that the driver tells of the next.
                if pair.rx.set_notification(true) {
                    continue;
                }
                put_back(elements);
                return Err(Received::Blocked);
            };
            if elements.is_empty() && element.writable_len() < header as u64 {
                self.set_broken("virtio-net receive queue contains no in buffers");
                pair.rx.forget(&element);
                return Err(Received::Done);
            }
            room += element.writable_len();
            elements.push(element);
            if !mergeable && room < needed as u64 {
                // It does not fit, and never will.
                put_back(elements);
                return Err(Received::Done);
            }
        }
        pair.rx.set_notification(false);
        Ok(elements)
    }
}

/// Writes a packet to buffers that have room for it; gives each with what it holds.
fn fill(
    elements: Vec<VirtQueueElement>,
    header_len: usize,
    header: &[u8],
    body: &[u8],
) -> Vec<(VirtQueueElement, u32)> {
    let mut guest_header = [0; HDR_MRG_LEN];
    let known = header.len().min(HDR_LEN);
    guest_header[..known].copy_from_slice(&header[..known]);
    let count = (elements.len() as u16).to_le_bytes();
    guest_header[HDR_NUM_BUFFERS as usize..].copy_from_slice(&count);
    let mut left = body;
    let mut filled = Vec::with_capacity(elements.len());
    for (n, element) in elements.into_iter().enumerate() {
        let mut written = 0;
        if n == 0 {
            written = element.write(0, &guest_header[..header_len.min(HDR_MRG_LEN)]);
        }
        let part = element.write(written as u64, left);
        left = left.get(part..).unwrap_or_default();
        filled.push((element, (written + part) as u32));
    }
    filled
}
