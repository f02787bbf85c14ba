//! Messages to a virtual processor, one at a time. Source: QEMU `hw/hyperv/hyperv.c` (`hyperv_post_msg`).
//!
//! KVM sends messages of its own into the same slots (synthetic timers), so ours are put there by the processor's thread,
//! outside the guest.

use std::sync::{Arc, Weak};

use memory::{MemTxResult, address_space_memory};
use parking_lot::Mutex;

use crate::spec::{FLAG_PENDING, HEADER, MESSAGE_FLAGS, MESSAGE_NONE, PAYLOAD};
use crate::synic::SintRoute;

/// A message as it is in its slot.
type Message = [u8; HEADER + PAYLOAD];

/// The message that is on its way.
enum Staged {
    None,
    /// The processor's thread is to deliver it.
    Posted(Box<Message>),
    /// The slot is taken until the guest says otherwise.
    Waiting(Box<Message>),
}

/// A way to send messages to an interrupt source of a virtual processor.
pub struct MessageConnection {
    route: SintRoute,
    staged: Mutex<Staged>,
}

impl MessageConnection {
    /// Makes one; `None` for what [`SintRoute::new`] says.
    pub fn new(vp_index: u32, sint: u8) -> Option<Arc<MessageConnection>> {
        let this: Arc<Mutex<Weak<MessageConnection>>> = Arc::default();
        let found = this.clone();
        let acknowledged = move || {
            let connection = found.lock().upgrade();
            if let Some(connection) = connection {
                connection.acknowledged();
            }
        };
        let route = SintRoute::new(vp_index, sint, Some(Box::new(acknowledged)))?;
        let connection = Arc::new(MessageConnection { route, staged: Mutex::new(Staged::None) });
        *this.lock() = Arc::downgrade(&connection);
        Some(connection)
    }

    /// Sends a message of a kind; what it carries is cut at 240 bytes. False if the one before has not been delivered.
    #[must_use]
    pub fn post(self: &Arc<Self>, kind: u32, payload: &[u8]) -> bool {
        let mut message = [0; HEADER + PAYLOAD];
        let length = payload.len().min(PAYLOAD);
        let (header, body) = message.split_at_mut(HEADER);
        body.iter_mut().zip(payload).for_each(|(to, from)| *to = *from);
        let words = kind.to_le_bytes().into_iter().chain([length as u8]);
        header.iter_mut().zip(words).for_each(|(to, from)| *to = from);
        let mut staged = self.staged.lock();
        if !matches!(*staged, Staged::None) {
            return false;
        }
        *staged = Staged::Posted(Box::new(message));
        drop(staged);
        self.deliver_soon();
        true
    }

    fn deliver_soon(self: &Arc<Self>) {
        let this = self.clone();
        self.route.run_on_processor(move || this.deliver());
    }

    /// On the processor's thread (`cpu_post_msg`).
    fn deliver(&self) {
        let mut staged = self.staged.lock();
        let message = match std::mem::replace(&mut *staged, Staged::None) {
            Staged::Posted(message) => message,
            other => {
                *staged = other;
                return;
            }
        };
        drop(staged);
        // Without a page the message is lost.
        let Some(slot) = self.route.message_slot() else { return };
        let mut kind = [0; 4];
        if address_space_memory().read(slot, &mut kind) != MemTxResult::Ok {
            return;
        }
        if u32::from_le_bytes(kind) == MESSAGE_NONE {
            // Where the guest wants it there may be no memory any more: then nobody gets it.
            let _ = address_space_memory().write(slot, &message[..]);
            self.route.set_sint();
            return;
        }
        let mut flags = [0];
        let _ = address_space_memory().read(slot + MESSAGE_FLAGS, &mut flags);
        *self.staged.lock() = Staged::Waiting(message);
        let _ = address_space_memory().write(slot + MESSAGE_FLAGS, &[flags[0] | FLAG_PENDING]);
    }

    /// The guest has emptied the slot.
    fn acknowledged(self: &Arc<Self>) {
        let mut staged = self.staged.lock();
        *staged = match std::mem::replace(&mut *staged, Staged::None) {
            Staged::Waiting(message) => Staged::Posted(message),
            // A message of somebody else's.
            other => {
                *staged = other;
                return;
            }
        };
        drop(staged);
        self.deliver_soon();
    }
}
