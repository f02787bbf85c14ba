//! A monitor: its chardev, and the session with the client that is there at present.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use chardev::{CharFrontend, CharHandlers, Chardev, Event};
use hw_core::runstate;
use parking_lot::Mutex;
use qom::{Error, Result, bail};
use serde::Serialize;
use serde_json::Value;
use util::event_loop::EventLoop;

use super::json::{Message, Reader, to_text};
use super::output::{ANSWERS_LIMIT, EVENTS_LIMIT, Output};
use super::{dispatch, events, fds, io_thread};

/// The requests of a client with `oob` that wait at most (QMP_REQ_QUEUE_LEN_MAX).
const QUEUE_LENGTH: usize = 8;
/// The bytes read at once.
const READ_SIZE: usize = 4096;

/// A request that waits for the main loop, and the session it came in.
pub(super) struct Request {
    pub message: Message,
    pub session: u64,
}

/// A QMP monitor.
pub struct QmpMonitor {
    frontend: CharFrontend,
    pretty: bool,
    input: Mutex<Input>,
    state: Mutex<State>,
    output: Mutex<Output>,
    /// Descriptors that the client named.
    pub(super) fds: fds::NamedFds,
    this: Weak<QmpMonitor>,
}

#[derive(Default)]
struct Input {
    reader: Reader,
    /// Bytes that came with an earlier message.
    rest: VecDeque<u8>,
}

struct State {
    /// Counts clients: what is left of one is not for the next.
    session: u64,
    open: bool,
    /// `qmp_capabilities` was done.
    negotiated: bool,
    /// Commands can be executed out of band.
    oob: bool,
    requests: VecDeque<Request>,
    /// One of the requests is carried out.
    executing: bool,
    /// Where input is read and handled.
    event_loop: EventLoop,
}

/// The monitors, which live as long as the program; whose turn it is comes first.
pub(super) static MONITORS: Mutex<VecDeque<Arc<QmpMonitor>>> = Mutex::new(VecDeque::new());

thread_local! {
    static CURRENT: RefCell<Option<Arc<QmpMonitor>>> = const { RefCell::new(None) };
}

/// The monitor whose command this thread carries out (`monitor_cur`).
#[must_use]
pub fn current() -> Option<Arc<QmpMonitor>> {
    CURRENT.with_borrow(Clone::clone)
}

#[derive(Serialize)]
struct Greeting {
    #[serde(rename = "QMP")]
    qmp: GreetingContent,
}

#[derive(Serialize)]
struct GreetingContent {
    version: Value,
    capabilities: [&'static str; 1],
}

/// Puts a QMP monitor on `chardev`, for good (`monitor_init_qmp`); its output is indented if `pretty`.
///
/// # Errors
/// When the chardev has all the frontends it takes.
pub fn monitor_init_qmp(chardev: &Arc<Chardev>, pretty: bool) -> Result<()> {
    let state = State {
        session: 0,
        open: false,
        negotiated: false,
        oob: false,
        requests: VecDeque::new(),
        executing: false,
        event_loop: EventLoop::main().clone(),
    };
    let monitor = Arc::new_cyclic(|this: &Weak<QmpMonitor>| QmpMonitor {
        frontend: CharFrontend::default(),
        pretty,
        input: Mutex::default(),
        state: Mutex::new(state),
        output: Mutex::default(),
        fds: Mutex::default(),
        this: this.clone(),
    });
    monitor.frontend.attach(chardev).map_err(|e| Error::new(e.to_string()))?;
    monitor.frontend.set_echo(true);
    events::listen();
    util::fdset::set_named_source(fds::take_named_fd);
    MONITORS.lock().push_back(monitor.clone());
    let handlers: Weak<dyn CharHandlers> = monitor.this.clone();
    monitor.frontend.set_handlers(handlers);
    Ok(())
}

impl State {
    /// No further message is handled at present: without `oob` each waits for the one before.
    fn is_busy(&self) -> bool {
        match self.oob {
            true => self.requests.len() >= QUEUE_LENGTH,
            false => self.executing || !self.requests.is_empty(),
        }
    }
}

impl QmpMonitor {
    /// Sends a message to the client of `session`, if it is still there.
    pub(super) fn send(&self, session: u64, message: &impl Serialize) {
        let text = to_text(message, self.pretty);
        let state = self.state.lock();
        if state.session == session && state.open {
            let mut output = self.output.lock();
            drop(state);
            output.add(&text);
            self.flush_locked(&mut output);
        }
    }

    /// Sends an event to a client that has negotiated.
    pub(super) fn send_event(&self, event: &impl Serialize) {
        let state = self.state.lock();
        if !state.negotiated {
            return;
        }
        let mut output = self.output.lock();
        drop(state);
        if output.len() <= EVENTS_LIMIT {
            output.add(&to_text(event, self.pretty));
            self.flush_locked(&mut output);
        }
    }

    /// Writes what the chardev takes now, and goes on when it takes more. The lock keeps messages of several threads
    /// apart.
    fn flush_locked(&self, output: &mut Output) {
        if output.len() == 0 || output.watched {
            return;
        }
        let written = self.frontend.write(output.waiting());
        output.take(written);
        if output.len() == 0 {
            return;
        }
        let this = self.this.clone();
        output.watched = self.frontend.add_watch(move || {
            if let Some(monitor) = this.upgrade() {
                monitor.writable();
            }
        });
        if !output.watched {
            // Nobody is there to read it.
            output.clear();
        }
    }

    fn writable(&self) {
        let mut output = self.output.lock();
        output.watched = false;
        self.flush_locked(&mut output);
        drop(output);
        self.take_input();
    }

    /// Writes what it can before the program ends.
    pub(super) fn flush(&self) {
        let mut output = self.output.lock();
        let waiting = output.waiting().to_vec();
        output.clear();
        drop(output);
        self.frontend.write_all(&waiting);
    }

    fn is_full(&self) -> bool {
        self.output.lock().len() > ANSWERS_LIMIT
    }

    /// Handles what was read as far as that is its turn, then lets more be read.
    fn take_input(&self) {
        while !self.state.lock().is_busy() && !self.is_full() {
            let mut input = self.input.lock();
            let Input { reader, rest } = &mut *input;
            let (used, message) = reader.feed(rest.make_contiguous());
            rest.drain(..used);
            drop(input);
            match message {
                Some(message) => self.handle(message),
                None => {
                    self.frontend.accept_input();
                    return;
                }
            }
        }
    }

    /// Goes on with input on the thread where it is handled.
    pub(super) fn resume(&self) {
        let event_loop = self.state.lock().event_loop.clone();
        if event_loop.is_main() {
            return self.take_input();
        }
        let this = self.this.clone();
        event_loop.schedule(move || {
            if let Some(monitor) = this.upgrade() {
                monitor.take_input();
            }
        });
    }

    /// Carries out a command that is out of band, and queues another (`handle_qmp_command`).
    fn handle(&self, message: Message) {
        let mut state = self.state.lock();
        let session = state.session;
        if let Ok(Value::Object(request)) = &message
            && request.contains_key("exec-oob")
            && !request.contains_key("execute")
        {
            drop(state);
            let answer = self.dispatch(message);
            return self.send(session, &answer);
        }
        state.requests.push_back(Request { message, session });
        drop(state);
        dispatch::kick();
    }

    /// Takes the first request that waits, which counts as carried out until [`QmpMonitor::finish_request`].
    pub(super) fn begin_request(&self) -> Option<Request> {
        let mut state = self.state.lock();
        let was_busy = state.is_busy();
        let request = state.requests.pop_front()?;
        state.executing = true;
        let has_room = was_busy && !state.is_busy();
        drop(state);
        if has_room {
            self.resume();
        }
        Some(request)
    }

    /// The request was answered: the next may come.
    pub(super) fn finish_request(&self) {
        self.state.lock().executing = false;
        self.resume();
    }

    /// Carries a request out on this thread.
    pub(super) fn dispatch(&self, message: Message) -> dispatch::Answer {
        let state = self.state.lock();
        let (negotiated, oob) = (state.negotiated, state.oob);
        drop(state);
        let before = CURRENT.replace(self.this.upgrade());
        let answer = dispatch::qmp_dispatch(message, negotiated, oob);
        CURRENT.set(before);
        answer
    }

    /// Ends the negotiation (`qmp_capabilities`).
    ///
    /// # Errors
    /// When it has ended before.
    pub(super) fn negotiate(&self, oob: bool) -> Result<()> {
        let mut state = self.state.lock();
        if state.negotiated {
            let error = Error::new("Capabilities negotiation is already complete, command ignored");
            return Err(error.with_class(qom::ErrorClass::CommandNotFound));
        }
        state.negotiated = true;
        state.oob = oob;
        drop(state);
        if oob {
            self.move_to_io_thread();
        }
        Ok(())
    }

    /// From now on commands out of band do not wait for the main loop. A chardev that cannot be served elsewhere (a
    /// multiplexer) stays where it is.
    fn move_to_io_thread(&self) {
        if let Some(event_loop) = io_thread::event_loop()
            && self.frontend.set_event_loop(&event_loop)
        {
            self.state.lock().event_loop = event_loop;
        }
    }

    /// A descriptor that came with the latest input (`monitor_get_fd`'s other half, `qemu_chr_fe_get_msgfd`).
    ///
    /// # Errors
    /// When there was none.
    pub(super) fn take_passed_fd(&self) -> Result<std::os::fd::OwnedFd> {
        let Some(fd) = self.frontend.take_fds().into_iter().next() else {
            bail!("No file descriptor supplied via SCM_RIGHTS")
        };
        Ok(fd)
    }

    fn opened(&self) {
        let mut state = self.state.lock();
        state.session += 1;
        (state.open, state.negotiated, state.oob) = (true, false, false);
        let session = state.session;
        drop(state);
        util::fdset::client_opened();
        let version = qapi::QapiType::to_json(&super::control::version());
        self.send(session, &Greeting { qmp: GreetingContent { version, capabilities: ["oob"] } });
    }

    fn closed(&self) {
        let mut state = self.state.lock();
        state.session += 1;
        (state.open, state.negotiated) = (false, false);
        state.requests.clear();
        drop(state);
        *self.input.lock() = Input::default();
        let mut output = self.output.lock();
        output.clear();
        output.watched = false;
        drop(output);
        util::fdset::client_closed(runstate::is_running());
    }
}

impl CharHandlers for QmpMonitor {
    fn can_read(&self) -> usize {
        let idle = !self.state.lock().is_busy() && !self.is_full() && self.input.lock().rest.is_empty();
        if idle { READ_SIZE } else { 0 }
    }

    fn read(&self, data: &[u8]) {
        self.input.lock().rest.extend(data);
        self.take_input();
    }

    fn event(&self, event: Event) {
        match event {
            Event::Opened => self.opened(),
            Event::Closed => self.closed(),
            Event::Break | Event::MuxIn | Event::MuxOut => {}
        }
    }
}
