//! Hypercalls that KVM leaves to the VMM. Source: QEMU `hw/hyperv/hyperv.c` (`hyperv_hcall_*`).

use std::collections::BTreeMap;
use std::sync::Arc;

use memory::{MemTxResult, address_space_memory};
use parking_lot::Mutex;

use crate::spec::{
    CONNECTION_ID_MASK, FAST, HEADER, INSUFFICIENT_BUFFERS, INSUFFICIENT_MEMORY, INVALID_ALIGNMENT,
    INVALID_CONNECTION_ID, INVALID_HYPERCALL_CODE, INVALID_HYPERCALL_INPUT, INVALID_PORT_ID, PAYLOAD,
    POST_MESSAGE, SIGNAL_EVENT, SUCCESS,
};

/// What `HvPostMessage` carries.
pub struct PostedMessage<'a> {
    /// The message's type.
    pub kind: u32,
    /// Up to 240 bytes.
    pub payload: &'a [u8],
}

/// Takes a message; false if it cannot now.
type MessageHandler = Arc<dyn Fn(&PostedMessage<'_>) -> bool + Send + Sync>;
type EventHandler = Arc<dyn Fn() + Send + Sync>;

static MESSAGES: Mutex<BTreeMap<u32, MessageHandler>> = Mutex::new(BTreeMap::new());
static EVENTS: Mutex<BTreeMap<u32, EventHandler>> = Mutex::new(BTreeMap::new());

/// Says what becomes of the messages that guests post to a connection; `None` ends it.
pub fn set_message_handler(connection: u32, handler: Option<MessageHandler>) {
    set(&MESSAGES, connection, handler);
}

/// Says what becomes of the events that guests signal to a connection; `None` ends it.
pub fn set_event_handler(connection: u32, handler: Option<EventHandler>) {
    set(&EVENTS, connection, handler);
}

fn set<T>(handlers: &Mutex<BTreeMap<u32, T>>, connection: u32, handler: Option<T>) {
    let mut handlers = handlers.lock();
    match handler {
        Some(handler) => handlers.insert(connection, handler),
        None => handlers.remove(&connection),
    };
}

/// A guest's hypercall: the input value and the first parameter, or where it is; the status.
pub fn hypercall(input: u64, parameter: u64) -> u16 {
    let fast = input & FAST != 0;
    match input & 0xffff {
        // Its parameter does not fit into registers.
        POST_MESSAGE if !fast => post_message(parameter),
        SIGNAL_EVENT => signal_event(parameter, fast),
        _ => INVALID_HYPERCALL_CODE,
    }
}

fn post_message(address: u64) -> u16 {
    if address & 7 != 0 {
        return INVALID_ALIGNMENT;
    }
    let mut input = [0; HEADER + PAYLOAD];
    if address_space_memory().read(address, &mut input) != MemTxResult::Ok {
        return INSUFFICIENT_MEMORY;
    }
    let (header, payload) = input.split_at(HEADER);
    let word = |at: usize| {
        let bytes = header.get(at * 4..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let (connection, kind, length) = (word(0) & CONNECTION_ID_MASK, word(2), word(3));
    let Some(payload) = payload.get(..length as usize) else { return INVALID_HYPERCALL_INPUT };
    let handler = MESSAGES.lock().get(&connection).cloned();
    match handler.map(|take| take(&PostedMessage { kind, payload })) {
        Some(true) => SUCCESS,
        Some(false) => INSUFFICIENT_BUFFERS,
        None => INVALID_CONNECTION_ID,
    }
}

fn signal_event(parameter: u64, fast: bool) -> u16 {
    let mut event = parameter;
    if !fast {
        if parameter & 7 != 0 {
            return INVALID_ALIGNMENT;
        }
        let mut bytes = [0; 8];
        let _ = address_space_memory().read(parameter, &mut bytes);
        event = u64::from_le_bytes(bytes);
    }
    // The number of a flag beyond the connection's own.
    if event & 0xffff_0000_0000 != 0 {
        return INVALID_PORT_ID;
    }
    if event & !u64::from(CONNECTION_ID_MASK) != 0 {
        return INVALID_HYPERCALL_INPUT;
    }
    let handler = EVENTS.lock().get(&(event as u32)).cloned();
    match handler {
        Some(signal) => {
            signal();
            SUCCESS
        }
        None => INVALID_CONNECTION_ID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST_SIGNAL: u64 = SIGNAL_EVENT | FAST;

    #[test]
    fn events_reach_who_waits_for_their_connection() {
        let seen = Arc::new(Mutex::new(0));
        let count = seen.clone();
        set_event_handler(0x21, Some(Arc::new(move || *count.lock() += 1)));
        assert_eq!(hypercall(FAST_SIGNAL, 0x21), SUCCESS);
        assert_eq!(hypercall(FAST_SIGNAL, 0x22), INVALID_CONNECTION_ID);
        assert_eq!(hypercall(FAST_SIGNAL, 1 << 32 | 0x21), INVALID_PORT_ID);
        assert_eq!(hypercall(FAST_SIGNAL, 1 << 24 | 0x21), INVALID_HYPERCALL_INPUT);
        set_event_handler(0x21, None);
        assert_eq!(hypercall(FAST_SIGNAL, 0x21), INVALID_CONNECTION_ID);
        assert_eq!(*seen.lock(), 1);
    }

    #[test]
    fn a_bad_call_has_the_status_that_says_so() {
        assert_eq!(hypercall(POST_MESSAGE | FAST, 0), INVALID_HYPERCALL_CODE);
        assert_eq!(hypercall(POST_MESSAGE, 4), INVALID_ALIGNMENT);
        assert_eq!(hypercall(SIGNAL_EVENT, 4), INVALID_ALIGNMENT);
        // There is no memory in this test.
        assert_eq!(hypercall(POST_MESSAGE, 0x1000), INSUFFICIENT_MEMORY);
        assert_eq!(hypercall(0x5b, 0), INVALID_HYPERCALL_CODE);
    }
}
