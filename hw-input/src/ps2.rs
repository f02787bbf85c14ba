//! PS/2 keyboard and mouse: IBM's PS/2 technical reference, with the choices of QEMU's hw/input/ps2.c.

mod keyboard;
mod mouse;
mod scancode;
pub mod spec;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use keyboard::Ps2Keyboard;
pub use mouse::{MouseButton, Ps2Mouse};
pub use scancode::key_of_number;

/// What a device holds for the host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Queue {
    /// The reply to the last command, ahead of everything else.
    reply: VecDeque<u8>,
    data: VecDeque<u8>,
    last: u8,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.reply.is_empty() && self.data.is_empty()
    }

    fn room(&self) -> usize {
        spec::QUEUE_SIZE.saturating_sub(self.data.len())
    }

    fn clear(&mut self) {
        self.reply.clear();
        self.data.clear();
    }

    /// Appends `bytes`, all or, if they don't fit, none.
    fn push(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.room() {
            self.data.extend(bytes);
        }
    }

    /// Replies to a command ahead of the data; what is left of an earlier reply is gone.
    fn set_reply(&mut self, bytes: &[u8]) {
        self.reply.clear();
        self.reply.extend(bytes);
    }

    /// The next byte; the last one again if there is none, which EMM386 relies on.
    fn pop(&mut self) -> u8 {
        if let Some(byte) = self.reply.pop_front().or_else(|| self.data.pop_front()) {
            self.last = byte;
        }
        self.last
    }
}
