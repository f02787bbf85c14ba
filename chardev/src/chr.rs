//! The chardev itself, and the state that backends share with it (chardev/char.c).

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use util::clock::{ClockType, now_ns};
use util::event_loop::EventLoop;
use util::timer::Timer;

use crate::backend::Backend;
use crate::error::ChardevError;
use crate::output::{HOLD_NS, Output};

/// The bytes handed to a frontend at once at most (CHR_READ_BUF_LEN).
pub(crate) const READ_BUF_LEN: usize = 4096;

/// How long `write_all` waits for a reader that takes nothing, before what is left is dropped.
const WRITE_ALL_PATIENCE: Duration = Duration::from_secs(1);

/// Stands for the chardev itself among those who wait until writing would not block.
const HOLD_TAG: usize = usize::MAX;

/// What happens to a chardev besides input (QEMUChrEvent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other end is there.
    Opened,
    /// The other end is gone.
    Closed,
    /// A break arrived on the line.
    Break,
    /// This frontend of a multiplexer got the focus.
    MuxIn,
    /// This frontend of a multiplexer lost the focus.
    MuxOut,
}

/// What a frontend does with what arrives. Called on the main loop's thread, or that of the loop which
/// [`CharFrontend::set_event_loop`] named, with no lock held, except that setting handlers on an open chardev calls [`CharHandlers::event`] at once.
///
/// [`CharFrontend::set_event_loop`]: crate::CharFrontend::set_event_loop
pub trait CharHandlers: Send + Sync {
    /// How many bytes the frontend can take. After it answered 0, [`CharFrontend::accept_input`] must be
    /// called when there is room.
    ///
    /// [`CharFrontend::accept_input`]: crate::CharFrontend::accept_input
    fn can_read(&self) -> usize {
        0
    }

    /// Takes input, never more than [`CharHandlers::can_read`] said.
    fn read(&self, data: &[u8]) {
        let _ = data;
    }

    /// Takes note of an event.
    fn event(&self, event: Event) {
        let _ = event;
    }
}

/// The parity bit of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Even parity.
    Even,
    /// Odd parity.
    Odd,
}

/// How a serial line is set (QEMUSerialSetParams).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialParams {
    /// Bits a second.
    pub speed: u32,
    /// The parity bit.
    pub parity: Parity,
    /// 5 to 8.
    pub data_bits: u8,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// Called once when writing would not block any more.
pub(crate) type Watcher = Box<dyn FnOnce() + Send>;

struct Slot {
    handlers: Option<Weak<dyn CharHandlers>>,
}

/// What the chardev and its backend share: the name and the frontends.
pub(crate) struct Core {
    label: String,
    filename: Mutex<String>,
    open: AtomicBool,
    /// One, or with a multiplexer several; `None` where one went away.
    slots: Mutex<Vec<Option<Slot>>>,
    max_slots: usize,
    focus: AtomicUsize,
    watchers: Mutex<Vec<(usize, Watcher)>>,
    event_loop: Mutex<EventLoop>,
}

impl Core {
    pub fn new(label: &str, filename: &str, max_slots: usize) -> Arc<Self> {
        Arc::new(Core {
            label: label.to_owned(),
            filename: Mutex::new(filename.to_owned()),
            open: AtomicBool::new(false),
            slots: Mutex::default(),
            max_slots,
            focus: AtomicUsize::new(0),
            watchers: Mutex::default(),
            event_loop: Mutex::new(EventLoop::main().clone()),
        })
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// The loop on whose thread input and events are handed over.
    pub fn event_loop(&self) -> EventLoop {
        self.event_loop.lock().clone()
    }

    /// Runs `work` there: now, if that is the main loop, whose thread this must be.
    pub fn run_on_event_loop(&self, work: impl FnOnce() + Send + 'static) {
        let event_loop = self.event_loop();
        if event_loop.is_main() { work() } else { event_loop.schedule(work) }
    }

    pub fn set_filename(&self, filename: String) {
        *self.filename.lock() = filename;
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub fn focus(&self) -> usize {
        self.focus.load(Ordering::Acquire)
    }

    pub fn set_focus(&self, tag: usize) {
        self.focus.store(tag, Ordering::Release);
    }

    /// The slots that are taken.
    pub fn tags(&self) -> Vec<usize> {
        let slots = self.slots.lock();
        (0..slots.len()).filter(|&tag| slots[tag].is_some()).collect()
    }

    fn handlers(&self, tag: usize) -> Option<Arc<dyn CharHandlers>> {
        self.slots.lock().get(tag)?.as_ref()?.handlers.as_ref()?.upgrade()
    }

    /// How much input the frontend with the focus can take.
    pub fn can_read(&self) -> usize {
        self.handlers(self.focus()).map_or(0, |handlers| handlers.can_read()).min(READ_BUF_LEN)
    }

    /// Hands input to the frontend with the focus.
    pub fn deliver(&self, data: &[u8]) {
        if let Some(handlers) = self.handlers(self.focus()) {
            handlers.read(data);
        }
    }

    /// Tells the frontend with the focus (qemu_chr_be_event).
    pub fn event(&self, event: Event) {
        self.note(event);
        self.event_to(self.focus(), event);
    }

    /// Tells all frontends.
    pub fn event_to_all(&self, event: Event) {
        self.note(event);
        for tag in self.tags() {
            self.event_to(tag, event);
        }
    }

    /// Tells one frontend.
    pub fn event_to(&self, tag: usize, event: Event) {
        if let Some(handlers) = self.handlers(tag) {
            handlers.event(event);
        }
    }

    fn note(&self, event: Event) {
        match event {
            Event::Opened => self.open.store(true, Ordering::Release),
            Event::Closed => self.open.store(false, Ordering::Release),
            Event::Break | Event::MuxIn | Event::MuxOut => {}
        }
    }

    /// Writing would not block: calls those who wait for it.
    pub fn writable(&self) {
        let watchers = std::mem::take(&mut *self.watchers.lock());
        for (_, watcher) in watchers {
            watcher();
        }
    }
}

/// A character device: the host's end.
pub struct Chardev {
    core: Arc<Core>,
    backend: Arc<dyn Backend>,
    output: Mutex<Output>,
    /// Ends the holding back of output.
    hold_timer: Timer,
}

impl Chardev {
    pub(crate) fn new(core: Arc<Core>, backend: Arc<dyn Backend>, log: Option<File>) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Chardev>| {
            let this = this.clone();
            let hold_timer = Timer::new(ClockType::Realtime, move || {
                if let Some(this) = this.upgrade() {
                    this.end_hold();
                }
            });
            Chardev { core, backend, output: Mutex::new(Output::new(log)), hold_timer }
        })
    }

    /// The id (QEMU also calls it the label).
    #[must_use]
    pub fn label(&self) -> &str {
        self.core.label()
    }

    /// What it is connected to, as `info chardev` shows it.
    #[must_use]
    pub fn filename(&self) -> String {
        self.core.filename.lock().clone()
    }

    /// Whether the other end is there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.core.is_open()
    }

    /// Whether a frontend is attached (qemu_chr_is_busy).
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.core.tags().is_empty()
    }

    /// Whether the frontend with the focus has handlers (`frontend-open` of `query-chardev`).
    #[must_use]
    pub fn frontend_open(&self) -> bool {
        self.core.handlers(self.core.focus()).is_some()
    }

    /// Takes at most `limit` bytes out of a ring buffer, oldest first; `None` for other kinds (`ringbuf-read`).
    #[must_use]
    pub fn read_buffered(&self, limit: usize) -> Option<Vec<u8>> {
        self.backend.read_buffered(limit)
    }

    /// Adds to what a ring buffer holds (`ringbuf-write`); `None` for other kinds.
    #[must_use]
    pub fn write_buffered(&self, data: &[u8]) -> Option<()> {
        self.backend.read_buffered(0)?;
        self.write(data).ok().map(drop)
    }

    /// Whether it is a stream socket, whose other end may go and another come.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.backend.is_socket()
    }

    /// Whether descriptors can be passed over it.
    #[must_use]
    pub fn passes_fds(&self) -> bool {
        self.backend.passes_fds()
    }

    /// Whether several frontends can share it.
    #[must_use]
    pub fn is_mux(&self) -> bool {
        self.core.max_slots > 1
    }

    /// Has the frontend see a break on the line (`chardev-send-break`). On the main loop's thread.
    pub fn receive_break(&self) {
        self.core.event(Event::Break);
    }

    /// Sends what is left, and frees what it holds on the host: socket paths, the terminal's mode (for the program's
    /// end).
    pub fn close(&self) {
        let held = self.output.lock().take_held();
        // What is lost is lost.
        let _ = self.write_all(&held);
        self.backend.close();
    }

    /// Has `event_loop` serve the chardev from now on: input, events and watches come on its thread. To be called on
    /// the thread of the loop that serves it so far. `false`, and nothing changes, for a kind that only the main loop
    /// serves: a multiplexer, a datagram socket, those without descriptors (`qemu_chr_be_update_gcontext`).
    pub(crate) fn set_event_loop(&self, event_loop: &EventLoop) -> bool {
        let before = std::mem::replace(&mut *self.core.event_loop.lock(), event_loop.clone());
        let moved = self.backend.set_event_loop(event_loop);
        if !moved {
            *self.core.event_loop.lock() = before;
        }
        moved
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(crate) fn attach(&self) -> Result<usize, ChardevError> {
        let mut slots = self.core.slots.lock();
        let slot = Some(Slot { handlers: None });
        if let Some(tag) = slots.iter().position(Option::is_none) {
            slots[tag] = slot;
            Ok(tag)
        } else if slots.len() < self.core.max_slots {
            slots.push(slot);
            Ok(slots.len() - 1)
        } else {
            Err(ChardevError::InUse(self.label().to_owned()))
        }
    }

    pub(crate) fn detach(&self, tag: usize) {
        self.remove_watch(tag);
        if let Some(slot) = self.core.slots.lock().get_mut(tag) {
            *slot = None;
        }
    }

    pub(crate) fn set_handlers(&self, tag: usize, handlers: Option<Weak<dyn CharHandlers>>) {
        let present = handlers.is_some();
        if let Some(Some(slot)) = self.core.slots.lock().get_mut(tag) {
            slot.handlers = handlers;
        }
        if !present {
            return;
        }
        self.backend.take_focus(tag);
        if self.is_open() {
            self.core.event_to(tag, Event::Opened);
        }
        self.backend.accept_input();
    }

    /// Writes without waiting; `WouldBlock` is 0 bytes.
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.output.lock().write(&*self.backend, data)
    }

    /// The same, for what comes byte by byte: it may be held back for a moment, to go with what follows.
    pub(crate) fn write_soon(&self, data: &[u8]) -> io::Result<usize> {
        if !self.backend.wakes_reader() {
            return self.write(data);
        }
        let now = now_ns(ClockType::Realtime);
        let (taken, holds) = self.output.lock().write_soon(&*self.backend, data, now);
        if holds {
            self.hold_timer.mod_ns(now.saturating_add(HOLD_NS));
        }
        taken
    }

    fn end_hold(self: &Arc<Self>) {
        if self.output.lock().end_hold(&*self.backend, now_ns(ClockType::Realtime)) {
            return;
        }
        let this = Arc::downgrade(self);
        let go_on = move || {
            if let Some(this) = this.upgrade() {
                this.end_hold();
            }
        };
        if !self.add_watch(HOLD_TAG, Box::new(go_on)) {
            self.output.lock().take_held();
        }
    }

    /// Writes, waiting for a slow reader.
    pub(crate) fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let taken = self.write(data)?;
            data = &data[taken..];
            if taken == 0 && !self.backend.wait_writable(WRITE_ALL_PATIENCE) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    pub(crate) fn add_watch(&self, tag: usize, watcher: Watcher) -> bool {
        self.remove_watch(tag);
        self.core.watchers.lock().push((tag, watcher));
        let waiting = self.backend.poll_writable();
        if !waiting {
            self.remove_watch(tag);
        }
        waiting
    }

    pub(crate) fn remove_watch(&self, tag: usize) {
        let mut watchers = self.core.watchers.lock();
        let removed: Vec<_> = watchers.extract_if(.., |entry| entry.0 == tag).collect();
        // What they captured may hold frontends: they go when the lock is free.
        drop(watchers);
        drop(removed);
    }
}

impl fmt::Debug for Chardev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chardev")
            .field("label", &self.label())
            .field("filename", &self.filename())
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

impl Drop for Chardev {
    fn drop(&mut self) {
        self.close();
    }
}
