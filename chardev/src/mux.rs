//! The multiplexer: several frontends on one terminal, switched by Ctrl-A c (chardev/char-mux.c).

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use util::clock::{self, ClockType};
use util::event_loop::{BottomHalf, EventLoop};

use crate::backend::Backend;
use crate::chr::{CharHandlers, Chardev, Core, Event};
use crate::error::ChardevError;
use crate::fe::CharFrontend;
use crate::registry;

/// The kind's name.
pub(crate) const BACKEND: &str = "mux";
/// The frontends of one multiplexer (MAX_MUX).
const MAX_MUX: usize = 4;
/// The input kept for a frontend that does not take it (MUX_BUFFER_SIZE).
const BUFFER_SIZE: usize = 32;

const HELP: [&str; 7] = [
    "% h    print this help\n\r",
    "% x    exit emulator\n\r",
    "% s    save disk data back to file (if -snapshot)\n\r",
    "% t    toggle console timestamps\n\r",
    "% b    send break (magic sysrq)\n\r",
    "% c    switch between console and monitor\n\r",
    "% %  sends %\n\r",
];
const TERMINATED: &str = "QEMU: Terminated\n\r";

/// Ctrl-A, unless `-echr` says another.
static ESCAPE_CHAR: AtomicU8 = AtomicU8::new(0x01);
static OPENS_SUSPENDED: AtomicBool = AtomicBool::new(false);

type Action = Box<dyn Fn() + Send + Sync>;
static QUIT: Mutex<Option<Arc<Action>>> = Mutex::new(None);
static COMMIT: Mutex<Option<Arc<Action>>> = Mutex::new(None);

/// Sets the character that commands to the multiplexer begin with (`-echr`).
pub fn set_escape_char(escape: u8) {
    ESCAPE_CHAR.store(escape, Ordering::Relaxed);
}

/// Sets what Ctrl-A x does: end the program.
pub fn set_quit_handler(quit: impl Fn() + Send + Sync + 'static) {
    *QUIT.lock() = Some(Arc::new(Box::new(quit)));
}

/// Sets what Ctrl-A s does: write the changes of `-snapshot` disks back.
pub fn set_commit_handler(commit: impl Fn() + Send + Sync + 'static) {
    *COMMIT.lock() = Some(Arc::new(Box::new(commit)));
}

fn act(action: &Mutex<Option<Arc<Action>>>) {
    let action = action.lock().clone();
    if let Some(action) = action {
        action();
    }
}

/// Until [`resume_mux_open`], frontends of multiplexers are not told that the other end is there: prompts
/// and banners are for the one that has the focus when the machine is complete.
pub fn suspend_mux_open() {
    OPENS_SUSPENDED.store(true, Ordering::Relaxed);
}

/// Tells them now.
pub fn resume_mux_open() {
    OPENS_SUSPENDED.store(false, Ordering::Relaxed);
    for chardev in registry::list() {
        chardev.backend().open_suspended();
    }
}

struct Mux {
    core: Arc<Core>,
    base: CharFrontend,
    base_chardev: Arc<Chardev>,
    input: Mutex<Input>,
    output: Mutex<Output>,
    /// Hands buffered input over, on the main loop's thread.
    accept: BottomHalf,
    this: Weak<Mux>,
}

#[derive(Default)]
struct Input {
    escaped: bool,
    buffers: [VecDeque<u8>; MAX_MUX],
}

#[derive(Default)]
struct Output {
    /// Text of our own that goes out before more of the frontends'.
    pending: Vec<u8>,
    timestamps: bool,
    line_start: bool,
    /// When the time stamps count from, in milliseconds of the realtime clock.
    start_ms: Option<u64>,
}

pub(crate) fn new(id: &str, base: &Arc<Chardev>, log: Option<File>) -> Result<Arc<Chardev>, ChardevError> {
    let core = Core::new(id, BACKEND, MAX_MUX);
    // Nobody has the focus yet.
    core.set_focus(usize::MAX);
    let frontend = CharFrontend::default();
    frontend.attach(base)?;
    let mux = Arc::new_cyclic(|weak: &Weak<Mux>| {
        let this = weak.clone();
        let accept = BottomHalf::new(EventLoop::main(), move || {
            if let Some(mux) = this.upgrade() {
                mux.hand_over();
            }
        });
        Mux {
            core: core.clone(),
            base: frontend,
            base_chardev: base.clone(),
            input: Mutex::default(),
            output: Mutex::default(),
            accept,
            this: weak.clone(),
        }
    });
    let handlers: Weak<dyn CharHandlers> = mux.this.clone();
    mux.base.set_handlers(handlers);
    Ok(Chardev::new(core, mux, log))
}

impl Mux {
    /// Hands buffered input to the frontend with the focus, and lets more come in.
    fn hand_over(&self) {
        while self.core.can_read() > 0 {
            let byte = self.with_buffer(VecDeque::pop_front);
            let Some(byte) = byte.flatten() else { break };
            self.core.deliver(&[byte]);
        }
        self.base.accept_input();
    }

    fn with_buffer<T>(&self, work: impl FnOnce(&mut VecDeque<u8>) -> T) -> Option<T> {
        self.input.lock().buffers.get_mut(self.core.focus()).map(work)
    }

    fn take_byte(&self, byte: u8) {
        let escape = ESCAPE_CHAR.load(Ordering::Relaxed);
        let mut input = self.input.lock();
        let was_escaped = std::mem::take(&mut input.escaped);
        if was_escaped && byte != escape {
            drop(input);
            self.command(byte);
        } else if !was_escaped && byte == escape {
            input.escaped = true;
        } else {
            drop(input);
            if self.with_buffer(|buffer| buffer.is_empty()) == Some(true) && self.core.can_read() > 0 {
                self.core.deliver(&[byte]);
            } else {
                self.with_buffer(|buffer| buffer.push_back(byte));
            }
        }
    }

    fn command(&self, byte: u8) {
        match byte {
            b'h' | b'?' => self.print(&help(ESCAPE_CHAR.load(Ordering::Relaxed))),
            b'x' => {
                self.print(TERMINATED);
                act(&QUIT);
            }
            b's' => act(&COMMIT),
            b'b' => self.core.event(Event::Break),
            b'c' => self.switch(),
            b't' => {
                let mut output = self.output.lock();
                output.timestamps = !output.timestamps;
                output.start_ms = None;
                output.line_start = false;
            }
            _ => {}
        }
    }

    /// Gives the focus to the next frontend.
    fn switch(&self) {
        let (tags, focus) = (self.core.tags(), self.core.focus());
        let next = tags.iter().find(|&&tag| tag > focus).or(tags.first());
        if let Some(&tag) = next {
            self.take_focus(tag);
        }
    }

    /// Writes text of our own, now or when there is room.
    fn print(&self, text: &str) {
        let mut output = self.output.lock();
        output.pending.extend_from_slice(text.as_bytes());
        let done = self.flush(&mut output);
        drop(output);
        if !done {
            self.poll_writable();
        }
    }

    /// Writes pending text; `false` if some is left.
    fn flush(&self, output: &mut Output) -> bool {
        if !output.pending.is_empty() {
            let written = self.base.write(&output.pending);
            output.pending.drain(..written);
        }
        output.pending.is_empty()
    }

    fn write_stamped(&self, output: &mut Output, data: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < data.len() {
            if std::mem::take(&mut output.line_start) {
                let stamp = stamp(&mut output.start_ms);
                output.pending.extend_from_slice(stamp.as_bytes());
            }
            if !self.flush(output) {
                break;
            }
            let rest = &data[taken..];
            let line = rest.split_inclusive(|&byte| byte == b'\n').next().unwrap_or(rest);
            let written = self.base_chardev.write(line)?;
            taken += written;
            if written < line.len() {
                break;
            }
            output.line_start = line.ends_with(b"\n");
        }
        Ok(taken)
    }
}

fn help(escape: u8) -> String {
    let (start, name) = match escape {
        1..=26 => ("\n\r".to_owned(), format!("C-{}", char::from(escape - 1 + b'a'))),
        _ => (format!("\n\rEscape-Char set to Ascii: 0x{escape:02x}\n\r\n\r"), "Escape-Char".to_owned()),
    };
    start + &HELP.concat().replace('%', &name)
}

fn stamp(start_ms: &mut Option<u64>) -> String {
    let now = clock::now_ns(ClockType::Realtime) / 1_000_000;
    let ms = now - *start_ms.get_or_insert(now);
    let secs = ms / 1000;
    format!("[{:02}:{:02}:{:02}.{:03}] ", secs / 3600, secs / 60 % 60, secs % 60, ms % 1000)
}

impl CharHandlers for Mux {
    fn can_read(&self) -> usize {
        let input = self.input.lock();
        let used = self.core.tags().into_iter().filter_map(|tag| input.buffers.get(tag)).map(VecDeque::len);
        let room = BUFFER_SIZE.saturating_sub(used.max().unwrap_or(0));
        let focused = input.buffers.get(self.core.focus()).map_or(0, VecDeque::len);
        drop(input);
        match room {
            // A byte may switch to another frontend: more than one must fit every buffer.
            0 if focused < BUFFER_SIZE => 1,
            0 => self.core.can_read().min(1),
            room => room,
        }
    }

    fn read(&self, data: &[u8]) {
        self.hand_over();
        for &byte in data {
            self.take_byte(byte);
        }
    }

    fn event(&self, event: Event) {
        match event {
            Event::Opened if OPENS_SUSPENDED.load(Ordering::Relaxed) => {}
            event => self.core.event_to_all(event),
        }
    }
}

impl Backend for Mux {
    fn wakes_reader(&self) -> bool {
        true
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        let mut output = self.output.lock();
        if output.timestamps {
            self.write_stamped(&mut output, data)
        } else if self.flush(&mut output) {
            self.base_chardev.write(data)
        } else {
            Ok(0)
        }
    }

    fn poll_writable(&self) -> bool {
        let this = self.this.clone();
        self.base.add_watch(move || {
            if let Some(mux) = this.upgrade() {
                let flushed = mux.flush(&mut mux.output.lock());
                if flushed {
                    mux.core.writable();
                } else {
                    mux.poll_writable();
                }
            }
        })
    }

    fn wait_writable(&self, timeout: Duration) -> bool {
        self.base_chardev.backend().wait_writable(timeout)
    }

    fn accept_input(&self) {
        self.accept.schedule();
    }

    fn take_focus(&self, tag: usize) {
        let old = self.core.focus();
        self.core.event_to(old, Event::MuxOut);
        self.core.set_focus(tag);
        self.core.event_to(tag, Event::MuxIn);
        self.accept.schedule();
    }

    fn open_suspended(&self) {
        if !self.core.is_open() && self.base_chardev.is_open() {
            self.core.event_to_all(Event::Opened);
        }
    }

    fn set_echo(&self, echo: bool) {
        self.base.set_echo(echo);
    }

    fn set_serial_params(&self, params: &crate::chr::SerialParams) -> io::Result<()> {
        self.base.set_serial_params(params)
    }

    fn send_break(&self) -> io::Result<()> {
        self.base.send_break()
    }
}
