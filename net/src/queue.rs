//! Packets that wait until their receiver can take them (net/queue.c).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use memory::vm_memory::VolatileSlice;
use parking_lot::Mutex;

use crate::client::{NetClientState, Received};

/// Packets that wait at most, but for those whose sender stops until they are taken.
pub(crate) const MAX_PACKETS: usize = 10_000;
/// The same in bytes.
pub(crate) const MAX_BYTES: usize = 4 << 20;

struct Packet {
    sender: Weak<NetClientState>,
    data: Box<[u8]>,
    /// Its sender is told when it has been taken.
    tell: bool,
}

#[derive(Default)]
struct State {
    packets: VecDeque<Packet>,
    bytes: usize,
    /// A thread hands packets over, without the lock.
    delivering: bool,
    /// The receiver refused the first packet and has not said since that there is room.
    blocked: bool,
    /// Meanwhile somebody said that there is room: what was refused is to be tried again.
    again: bool,
}

impl State {
    /// Begins to hand a packet over, if nothing waits before it.
    fn begin(&mut self, can_receive: bool) -> bool {
        if self.delivering || !self.packets.is_empty() || !can_receive {
            return false;
        }
        self.delivering = true;
        self.again = false;
        true
    }

    fn push(&mut self, packet: Packet) {
        self.bytes += packet.data.len();
        self.packets.push_back(packet);
    }

    fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.data.len();
        Some(packet)
    }

    fn push_front(&mut self, packet: Packet) {
        self.bytes += packet.data.len();
        self.packets.push_front(packet);
    }
}

/// The packets for one client, in order.
#[derive(Default)]
pub(crate) struct NetQueue(Mutex<State>);

impl NetQueue {
    /// Hands a packet to `receiver`, or keeps it. `false`: it waits, and the sender will be told.
    pub fn send(
        &self,
        receiver: &Arc<NetClientState>,
        sender: &Weak<NetClientState>,
        data: &[u8],
        tell: bool,
    ) -> bool {
        let can_receive = receiver.can_receive();
        let mut state = self.0.lock();
        if !state.begin(can_receive) {
            let kept = Self::keep(&mut state, sender, data, tell);
            let waits = state.delivering || state.blocked;
            drop(state);
            // The receiver may have made room before the packet was in the queue.
            if kept && !waits && receiver.can_receive() {
                self.flush(receiver);
            }
            return !(kept && tell);
        }
        drop(state);
        let blocked = receiver.deliver(data) == Received::Blocked;
        // Others may have come meanwhile, but after it.
        self.end(receiver, blocked.then(|| Packet { sender: sender.clone(), data: data.into(), tell }));
        !(blocked && tell)
    }

    /// Hands a packet in parts to `receiver`, who may take none so, and only where nothing waits before it. `false`: it was
    /// not taken.
    pub fn send_parts(&self, receiver: &Arc<NetClientState>, parts: &[VolatileSlice<'_>]) -> bool {
        let can_receive = receiver.can_receive();
        if !self.0.lock().begin(can_receive) {
            return false;
        }
        let taken = receiver.info().receive_parts(receiver.queue_index(), parts);
        self.end(receiver, None);
        taken
    }

    /// Ends what [`State::begin`] began; a packet that was refused waits.
    fn end(&self, receiver: &Arc<NetClientState>, refused: Option<Packet>) {
        let mut state = self.0.lock();
        state.delivering = false;
        state.blocked = refused.is_some() && !state.again;
        refused.into_iter().for_each(|packet| state.push_front(packet));
        let go_on = !state.blocked && !state.packets.is_empty();
        drop(state);
        if go_on {
            self.flush(receiver);
        }
    }

    fn keep(state: &mut State, sender: &Weak<NetClientState>, data: &[u8], tell: bool) -> bool {
        let full = state.packets.len() >= MAX_PACKETS || state.bytes + data.len() > MAX_BYTES;
        if full && !tell {
            return false;
        }
        state.push(Packet { sender: sender.clone(), data: data.into(), tell });
        true
    }

    /// Hands over what waits, until the receiver takes no more. Gives whether nothing is left.
    pub fn flush(&self, receiver: &Arc<NetClientState>) -> bool {
        let mut state = self.0.lock();
        if state.delivering {
            state.again = true;
            return false;
        }
        state.delivering = true;
        state.blocked = false;
        loop {
            state.again = false;
            let Some(packet) = state.pop() else { break };
            drop(state);
            let received = receiver.deliver(&packet.data);
            if received == Received::Done && packet.tell {
                Self::tell(&packet);
            }
            state = self.0.lock();
            if received == Received::Blocked {
                state.push_front(packet);
                if !state.again {
                    state.blocked = true;
                    break;
                }
            }
        }
        state.delivering = false;
        state.packets.is_empty()
    }

    fn tell(packet: &Packet) {
        if let Some(sender) = packet.sender.upgrade() {
            sender.tell_sent();
        }
    }

    /// Drops all that waits.
    pub fn purge(&self) {
        self.purge_if(|_| true);
    }

    /// Drops what waits from `sender`.
    pub fn purge_from(&self, sender: &Arc<NetClientState>) {
        self.purge_if(|packet| std::ptr::eq(packet.sender.as_ptr(), Arc::as_ptr(sender)));
    }

    fn purge_if(&self, wanted: impl Fn(&Packet) -> bool) {
        let mut state = self.0.lock();
        let (gone, left): (VecDeque<_>, VecDeque<_>) = state.packets.drain(..).partition(wanted);
        state.bytes = left.iter().map(|packet| packet.data.len()).sum();
        state.packets = left;
        drop(state);
        gone.iter().filter(|packet| packet.tell).for_each(Self::tell);
    }
}
