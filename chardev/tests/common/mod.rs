//! What the tests share.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use chardev::{CharFrontend, CharHandlers, Chardev, ChardevError, Event};
use parking_lot::{Mutex, MutexGuard};
use util::event_loop::EventLoop;

/// The main loop and the registry are the process's: one test at a time.
pub struct Bench(#[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Bench {
    pub fn new() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        Bench(ONE.lock())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        chardev::remove_all();
    }
}

/// A frontend that notes what comes.
#[derive(Default)]
pub struct Recorder {
    pub frontend: CharFrontend,
    /// How much it takes before it must be told to take more.
    pub room: AtomicUsize,
    pub data: Mutex<Vec<u8>>,
    pub events: Mutex<Vec<Event>>,
}

impl Recorder {
    pub fn on(chardev: &Arc<Chardev>) -> Arc<Self> {
        let recorder = Arc::new(Recorder { room: AtomicUsize::new(1 << 20), ..Recorder::default() });
        recorder.frontend.attach(chardev).unwrap();
        let handlers: Arc<dyn CharHandlers> = recorder.clone();
        let handlers: Weak<dyn CharHandlers> = Arc::downgrade(&handlers);
        recorder.frontend.set_handlers(handlers);
        recorder
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data.lock()).into_owned()
    }

    pub fn wait_for(&self, text: &str) {
        run_until(|| self.text() == text, || format!("got {:?}, not {text:?}", self.text()));
    }

    pub fn wait_for_event(&self, event: Event) {
        run_until(|| self.events.lock().contains(&event), || format!("no {event:?}"));
        self.events.lock().retain(|&seen| seen != event);
    }
}

impl CharHandlers for Recorder {
    fn can_read(&self) -> usize {
        self.room.load(Ordering::SeqCst)
    }

    fn read(&self, data: &[u8]) {
        assert!(data.len() <= self.room.load(Ordering::SeqCst));
        self.room.fetch_sub(data.len(), Ordering::SeqCst);
        self.data.lock().extend_from_slice(data);
    }

    fn event(&self, event: Event) {
        self.events.lock().push(event);
    }
}

/// Runs the main loop until `done`; a test that hangs fails after a minute.
pub fn run_until(done: impl Fn() -> bool, problem: impl Fn() -> String) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", problem());
        EventLoop::main().run_once(Some(Duration::from_millis(10))).unwrap();
    }
}

/// Lets the loop do what it has at hand.
pub fn settle() {
    for _ in 0..5 {
        EventLoop::main().run_once(Some(Duration::ZERO)).unwrap();
    }
}

/// A chardev of `key=value,…`.
pub fn new(id: &str, options: &str) -> Result<Arc<Chardev>, ChardevError> {
    let pairs = options.split(',').map(|pair| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    });
    chardev::new_from_opts(id, &pairs.collect::<Vec<_>>())
}

pub fn error(options: &str) -> String {
    new("x", options).unwrap_err().to_string()
}
