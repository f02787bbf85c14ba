//! What a device gives back to a queue, in batches while its handler is at work.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{VirtQueue, VirtQueueElement};

/// A queue whose elements are given back from any thread, as requests end.
pub struct QueueWork {
    /// The queue.
    pub queue: Arc<VirtQueue>,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    elements: Vec<(VirtQueueElement, u32)>,
    /// The handler is at work, and will give back what is done when it is through.
    handling: bool,
}

impl QueueWork {
    /// For `queue`.
    pub fn new(queue: Arc<VirtQueue>) -> QueueWork {
        QueueWork { queue, done: Mutex::default() }
    }

    /// The handler begins.
    pub fn begin(&self) {
        self.done.lock().handling = true;
    }

    /// The handler is through.
    pub fn end(&self) {
        let mut done = self.done.lock();
        done.handling = false;
        let elements = std::mem::take(&mut done.elements);
        drop(done);
        self.give_back(elements);
    }

    fn give_back(&self, elements: Vec<(VirtQueueElement, u32)>) {
        if !elements.is_empty() {
            self.queue.push_all(elements);
            self.queue.notify();
        }
    }

    /// A request is done, which wrote `written` bytes; the driver sees it now, or when the handler is through.
    pub fn finish(&self, element: VirtQueueElement, written: u64) {
        self.finish_all([(element, written)]);
    }

    /// The same of several.
    pub fn finish_all(&self, elements: impl IntoIterator<Item = (VirtQueueElement, u64)>) {
        let mut done = self.done.lock();
        let as_used = |(element, written)| (element, u32::try_from(written).unwrap_or(u32::MAX));
        done.elements.extend(elements.into_iter().map(as_used));
        if !done.handling {
            let elements = std::mem::take(&mut done.elements);
            drop(done);
            self.give_back(elements);
        }
    }
}
