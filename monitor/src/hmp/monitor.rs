//! The monitor on its chardev: greeting, prompt, focus, output that waits for no one.

use std::sync::{Arc, Weak};

use chardev::{CharFrontend, CharHandlers, Chardev, Event};
use parking_lot::Mutex;
use qom::{Error, Result};

use super::readline::{Readline, Typed};
use super::session::Session;
use super::{command, completion};

const GREETING: &str = "QEMU 7.2.0 monitor - type 'help' for more information\n";
const PROMPT: &str = "(qemu) ";
/// With more than this many bytes waiting for the terminal no further input is taken.
const MAX_WAITING: usize = 64 << 10;

struct Monitor {
    frontend: CharFrontend,
    state: Mutex<State>,
    this: Weak<Monitor>,
}

#[derive(Default)]
struct State {
    readline: Readline,
    /// Output that the terminal did not take yet.
    waiting: Vec<u8>,
    /// Another frontend of the multiplexer has the focus: output is kept.
    out_of_focus: bool,
    /// The other end was there: the greeting was said.
    opened: bool,
    /// `quit` was typed.
    ended: bool,
    /// The CPU that commands are about, once it was chosen.
    cpu_index: Option<u32>,
}

impl State {
    /// Adds output, with the line ends that terminals need.
    fn print(&mut self, text: &[u8]) {
        for &byte in text {
            if byte == b'\n' {
                self.waiting.push(b'\r');
            }
            self.waiting.push(byte);
        }
    }

    fn begin_line(&mut self) {
        self.readline.restart();
        self.print(PROMPT.as_bytes());
    }
}

/// The monitors, which live as long as the program.
static MONITORS: Mutex<Vec<Arc<Monitor>>> = Mutex::new(Vec::new());

/// Puts a human monitor on `chardev`, for good (`monitor_init_hmp`). On a multiplexer it takes the focus, which
/// a frontend that comes later takes from it.
///
/// # Errors
/// When the chardev has all the frontends it takes.
pub fn monitor_init_hmp(chardev: &Arc<Chardev>) -> Result<()> {
    let monitor = Arc::new_cyclic(|this: &Weak<Monitor>| Monitor {
        frontend: CharFrontend::default(),
        state: Mutex::default(),
        this: this.clone(),
    });
    monitor.frontend.attach(chardev).map_err(|e| Error::new(e.to_string()))?;
    MONITORS.lock().push(monitor.clone());
    let handlers: Weak<dyn CharHandlers> = monitor.this.clone();
    monitor.frontend.set_handlers(handlers);
    Ok(())
}

impl Monitor {
    /// Writes what the terminal takes now, and goes on when it takes more.
    fn flush(&self) {
        let mut state = self.state.lock();
        if state.out_of_focus || state.waiting.is_empty() {
            return;
        }
        let text = std::mem::take(&mut state.waiting);
        drop(state);
        let written = self.frontend.write(&text).min(text.len());
        if written == text.len() {
            return;
        }
        self.state.lock().waiting.splice(0..0, text[written..].iter().copied());
        let this = self.this.clone();
        let watched = self.frontend.add_watch(move || {
            if let Some(monitor) = this.upgrade() {
                monitor.flush();
                monitor.frontend.accept_input();
            }
        });
        if !watched {
            // Nobody is there to read it.
            self.state.lock().waiting.clear();
        }
    }

    fn run(&self, line: &str) {
        let state = self.state.lock();
        let mut mon = Session::new(state.cpu_index, state.readline.history());
        // The command may lead back here: to what the chardev tells.
        drop(state);
        command::run(&mut mon, line);
        let mut state = self.state.lock();
        state.ended |= mon.ended;
        state.cpu_index = mon.cpu_index;
        state.print(mon.into_text().as_bytes());
        if !state.ended {
            state.begin_line();
        }
    }

    fn complete(&self, line: &str) {
        let found = completion::complete(line);
        let mut screen = Vec::new();
        let mut state = self.state.lock();
        state.readline.complete(found, PROMPT, &mut screen);
        state.print(&screen);
    }
}

impl CharHandlers for Monitor {
    fn can_read(&self) -> usize {
        // One at a time: what a line leads to may end the room for more.
        let state = self.state.lock();
        usize::from(state.opened && !state.ended && state.waiting.len() <= MAX_WAITING)
    }

    fn read(&self, data: &[u8]) {
        for &byte in data {
            let mut screen = Vec::new();
            let mut state = self.state.lock();
            let typed = state.readline.take(byte, &mut screen);
            state.print(&screen);
            drop(state);
            match typed {
                Typed::Nothing => {}
                Typed::Line(line) => {
                    // What is typed stands before what the command prints elsewhere.
                    self.flush();
                    self.run(&line);
                }
                Typed::Complete(line) => self.complete(&line),
            }
        }
        self.flush();
    }

    fn event(&self, event: Event) {
        let mut state = self.state.lock();
        match event {
            Event::Opened => {
                state.opened = true;
                state.print(GREETING.as_bytes());
                if !state.out_of_focus {
                    state.begin_line();
                }
            }
            Event::MuxIn => {
                let had_focus = !std::mem::take(&mut state.out_of_focus);
                if state.opened && !had_focus && !state.ended {
                    state.begin_line();
                }
            }
            Event::MuxOut => {
                if state.opened && !state.out_of_focus {
                    state.print(b"\n");
                    drop(state);
                    self.flush();
                    state = self.state.lock();
                }
                state.out_of_focus = true;
            }
            Event::Closed => state.waiting.clear(),
            Event::Break => {}
        }
        drop(state);
        self.flush();
    }
}
