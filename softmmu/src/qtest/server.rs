//! The connection: lines in, answers out, one after the other.

use std::sync::{Arc, Weak};

use accel_qtest::protocol::Request;
use accel_qtest::qtest_enabled;
use chardev::{CharFrontend, CharHandlers, Chardev, Event};
use parking_lot::Mutex;
use qom::{Error, Result};
use util::event_loop::{BottomHalf, EventLoop};

use super::execute::{Job, Outcome, execute};
use super::irq::Intercept;
use super::log::Log;

/// The longest line: the data of a large `write`.
const MAX_LINE: usize = 32 << 20;
/// With more than this many bytes waiting for the client, interrupts are no longer reported.
const MAX_WAITING: usize = 1 << 20;
/// Bytes taken at once.
const READ_SIZE: usize = 4096;

/// The server.
pub struct Server {
    frontend: CharFrontend,
    state: Mutex<State>,
    pub(super) intercept: Mutex<Intercept>,
    log: Mutex<Log>,
    /// Goes on with what is left to do, at the main loop's next turn.
    turn: BottomHalf,
    this: Weak<Server>,
}

#[derive(Default)]
struct State {
    input: Vec<u8>,
    /// Bytes of `input` that no line ends in.
    searched: usize,
    /// The line is too long: the rest of it is thrown away.
    overlong: bool,
    /// What the client did not take yet.
    waiting: Vec<u8>,
    /// Lines about interrupts that came after the beginning of an answer was sent.
    held: Vec<u8>,
    /// The answer that a job works on, as far as it was not sent.
    answer: String,
    job: Option<Job>,
    /// The beginning of the answer was sent.
    mid_answer: bool,
    /// Requests are being carried out: interrupts' lines wait for the end of it.
    busy: bool,
}

enum Work {
    Line(String),
    TooLong,
    Job(Job),
}

impl State {
    /// What to do next.
    fn take_work(&mut self) -> Option<Work> {
        if let Some(job) = self.job.take() {
            return Some(Work::Job(job));
        }
        let end = self.input.iter().skip(self.searched).position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.searched) else {
            self.searched = self.input.len();
            if self.searched > MAX_LINE {
                self.overlong = true;
                self.input = Vec::new();
                self.searched = 0;
            }
            return None;
        };
        let line: Vec<u8> = self.input.drain(..=end).collect();
        self.searched = 0;
        if std::mem::take(&mut self.overlong) {
            return Some(Work::TooLong);
        }
        Some(Work::Line(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned()))
    }
}

impl Server {
    /// A server for the client at `chardev`.
    ///
    /// # Errors
    /// When another frontend has the chardev.
    pub fn start(chardev: &Arc<Chardev>, log: Mutex<Log>) -> Result<Arc<Server>> {
        let server = Arc::new_cyclic(|this: &Weak<Server>| {
            let next = this.clone();
            Server {
                frontend: CharFrontend::default(),
                state: Mutex::default(),
                intercept: Mutex::default(),
                log,
                turn: BottomHalf::new(EventLoop::main(), move || {
                    if let Some(server) = next.upgrade() {
                        server.go_on();
                    }
                }),
                this: this.clone(),
            }
        });
        server.frontend.attach(chardev).map_err(|e| Error::new(e.to_string()))?;
        let handlers: Weak<dyn CharHandlers> = server.this.clone();
        server.frontend.set_handlers(handlers);
        server.frontend.set_echo(true);
        Ok(server)
    }

    pub(super) fn weak(&self) -> Weak<Server> {
        self.this.clone()
    }

    /// Has the client told that a line changed. Callable from any thread.
    pub(super) fn report_irq(&self, n: u32, level: bool) {
        let line = format!("IRQ {} {n}", if level { "raise" } else { "lower" });
        let mut state = self.state.lock();
        if state.waiting.len() + state.held.len() > MAX_WAITING || !self.frontend.is_open() {
            return;
        }
        let to = if state.mid_answer { &mut state.held } else { &mut state.waiting };
        to.extend_from_slice(line.as_bytes());
        to.push(b'\n');
        let idle = !state.busy;
        drop(state);
        self.log.lock().sent(line);
        if idle {
            self.turn.schedule();
        }
    }

    /// Carries out what there is to do, as far as the client takes the answers.
    fn go_on(&self) {
        if std::mem::replace(&mut self.state.lock().busy, true) {
            return;
        }
        let mut is_taken = self.flush();
        while is_taken {
            let work = self.state.lock().take_work();
            let unfinished = match work {
                None => break,
                Some(Work::Line(line)) => self.carry_out(&line),
                Some(Work::TooLong) => self.answer("FAIL Line too long"),
                Some(Work::Job(job)) => self.step(job),
            };
            if unfinished {
                self.turn.schedule();
                break;
            }
            is_taken = self.flush();
        }
        let mut state = self.state.lock();
        state.busy = false;
        // Another thread may have told of an interrupt since: no request is read before that is sent.
        let is_late = is_taken && !state.waiting.is_empty();
        drop(state);
        if is_late {
            self.turn.schedule();
        }
        self.frontend.accept_input();
    }

    /// Writes what the client takes now, and goes on when it takes more. Whether all was taken.
    fn flush(&self) -> bool {
        let text = std::mem::take(&mut self.state.lock().waiting);
        if text.is_empty() {
            return true;
        }
        let written = self.frontend.write(&text).min(text.len());
        if written == text.len() {
            return true;
        }
        self.state.lock().waiting.splice(0..0, text[written..].iter().copied());
        let this = self.this.clone();
        let watched = self.frontend.add_watch(move || {
            if let Some(server) = this.upgrade() {
                server.go_on();
            }
        });
        if !watched {
            // Nobody is there to read it.
            self.state.lock().waiting.clear();
        }
        !watched
    }

    /// Whether something is left to do.
    fn carry_out(&self, line: &str) -> bool {
        self.log.lock().received(line);
        let outcome = Request::parse(line, qtest_enabled()).map(|request| execute(self, request));
        match outcome {
            Err(error) => self.answer(&error.to_string()),
            Ok(Outcome::Answer(answer)) => self.answer(&answer),
            Ok(Outcome::Job(begin, job)) => {
                self.state.lock().answer = begin;
                self.step(job)
            }
        }
    }

    /// Gives an answer, or the end of one.
    fn answer(&self, answer: &str) -> bool {
        self.log.lock().sent(answer);
        let mut state = self.state.lock();
        state.mid_answer = false;
        let held = std::mem::take(&mut state.held);
        for text in [answer.as_bytes(), b"\n", &held] {
            state.waiting.extend_from_slice(text);
        }
        false
    }

    /// Does a slice of a job. Whether something is left to do.
    fn step(&self, job: Job) -> bool {
        let mut answer = std::mem::take(&mut self.state.lock().answer);
        let rest = job.step(&mut answer);
        if rest.is_none() {
            return self.answer(&answer);
        }
        let streams = matches!(rest, Some(Job::Read { .. }));
        if streams {
            self.log.lock().sent(&answer);
        }
        let mut state = self.state.lock();
        state.job = rest;
        if streams {
            state.mid_answer = true;
            state.waiting.extend_from_slice(answer.as_bytes());
        } else {
            // What interrupts do meanwhile comes before the answer.
            state.answer = answer;
        }
        true
    }
}

impl CharHandlers for Server {
    fn can_read(&self) -> usize {
        let state = self.state.lock();
        let idle = !state.busy && state.job.is_none() && state.waiting.is_empty();
        if idle { READ_SIZE } else { 0 }
    }

    fn read(&self, data: &[u8]) {
        self.state.lock().input.extend_from_slice(data);
        self.go_on();
    }

    fn event(&self, event: Event) {
        match event {
            Event::Opened => {
                self.intercept.lock().forget_levels();
                self.log.lock().opened();
            }
            Event::Closed => {
                let mut state = self.state.lock();
                *state = State { busy: state.busy, ..State::default() };
                drop(state);
                self.log.lock().closed();
            }
            Event::Break | Event::MuxIn | Event::MuxOut => {}
        }
    }
}
