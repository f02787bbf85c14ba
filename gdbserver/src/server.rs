//! The connection: one client after the other.

use std::convert::Infallible;
use std::sync::{Arc, Weak};

use chardev::{CharFrontend, CharHandlers, Event};
use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStubBuilder, MultiThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind;
use hw_core::cpu::{cpu_list, pause_all_vcpus, resume_all_vcpus};
use hw_core::debug::{BreakpointKind, guest_debug, take_stop};
use hw_core::runstate::{self, RunState, ShutdownCause};
use parking_lot::Mutex;
use qom::{Error, Result, bail};
use util::event_loop::{BottomHalf, EventLoop};

use crate::machine::{Machine, PACKET_SIZE, end_steps, thread_id};

/// Bytes taken at once.
const READ_SIZE: usize = 4096;
/// The id of the server's chardev.
const LABEL: &str = "gdb";
/// A stop that gdb has no signal for.
const UNKNOWN_SIGNAL: Signal = Signal(143);

type Stub = GdbStubStateMachine<'static, Machine, Output>;
type StopReason = MultiThreadStopReason<u64>;

/// What is to be sent, which outlives a protocol state that was given up.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Connection for Output {
    type Error = Infallible;

    fn write(&mut self, byte: u8) -> Result<(), Infallible> {
        self.0.lock().push(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A client.
struct Session {
    /// None only when the library cannot make one.
    stub: Option<Stub>,
    machine: Machine,
    output: Output,
    /// The machine stands still on the client's account.
    holds: bool,
}

impl Session {
    /// A client is there: the machine stops for it.
    fn new(output: Output) -> Session {
        let mut machine = Machine::default();
        let stub = new_stub(&output, &mut machine);
        let mut session = Session { stub, machine, output, holds: false };
        session.stop_machine();
        session
    }

    fn stop_machine(&mut self) {
        if runstate::is_running() {
            self.holds = true;
            runstate::vm_stop(RunState::Paused);
        }
    }

    /// Takes a byte of input.
    fn take(&mut self, byte: u8) {
        let next = match self.stub.take() {
            Some(GdbStubStateMachine::Idle(stub)) => {
                // gdb believes that the machine stands still; somebody else has started it.
                self.stop_machine();
                stub.incoming_data(&mut self.machine, byte)
            }
            Some(GdbStubStateMachine::Running(stub)) => stub.incoming_data(&mut self.machine, byte),
            other => return self.stub = other,
        };
        self.stub = match next {
            Ok(GdbStubStateMachine::CtrlCInterrupt(stub)) => {
                self.stop_machine();
                // Why it stopped is told when it did, whatever the reason.
                stub.interrupt_handled(&mut self.machine, None::<StopReason>).ok()
            }
            Ok(GdbStubStateMachine::Disconnected(stub)) => {
                self.leave(stub.get_reason());
                Some(stub.return_to_idle())
            }
            Ok(stub) => Some(stub),
            Err(_) => None,
        };
        if self.stub.is_none() {
            // It was damaged on the way, or is nothing that gdb says.
            let _ = self.output.write(b'-');
            self.stub = new_stub(&self.output, &mut self.machine);
        }
    }

    /// The client has done with the machine.
    fn leave(&mut self, reason: DisconnectReason) {
        if reason == DisconnectReason::Kill {
            util::error_report!("QEMU: Terminated via GDBstub");
            // The library leaves out that this was understood.
            let _ = self.output.write_all(b"$OK#9a");
            runstate::shutdown_request(ShutdownCause::HostUi);
            return;
        }
        // Who detaches wants the machine to run, whoever stopped it.
        self.holds = true;
        self.release();
    }

    /// Breakpoints go, and what stood still for the client goes on.
    fn release(&mut self) {
        let running = runstate::is_running();
        pause_all_vcpus();
        if let Some(debug) = guest_debug() {
            debug.remove_all_breakpoints();
        }
        end_steps();
        // One that was hit and not told yet counts no more.
        take_stop();
        if running {
            resume_all_vcpus();
        } else if std::mem::take(&mut self.holds) && !runstate::needs_reset() {
            runstate::vm_start();
        }
    }

    /// Tells the client that the machine stopped, if it waits for that (`gdb_vm_state_change`).
    fn tell_stop(&mut self) {
        if runstate::is_running() {
            return;
        }
        self.stub = match self.stub.take() {
            Some(GdbStubStateMachine::Running(stub)) => {
                end_steps();
                let reason = self.stop_reason();
                stub.report_stop(&mut self.machine, reason).ok()
            }
            other => other,
        };
    }

    fn stop_reason(&mut self) -> StopReason {
        let state = runstate::runstate_get();
        let stop = take_stop().filter(|_| state == RunState::Debug);
        if let Some(stop) = &stop {
            self.machine.current = stop.cpu;
            self.holds = true;
        }
        let tid = thread_id(self.machine.current);
        if let Some(watchpoint) = stop.and_then(|stop| stop.watchpoint) {
            let kind = match watchpoint.kind {
                BreakpointKind::AccessWatch => WatchKind::ReadWrite,
                _ => WatchKind::Write,
            };
            return StopReason::Watch { tid, kind, addr: watchpoint.address };
        }
        let signal = match state {
            RunState::Debug => Signal::SIGTRAP,
            RunState::Paused => Signal::SIGINT,
            RunState::Shutdown => Signal::SIGQUIT,
            RunState::IoError => Signal::SIGIO,
            RunState::Watchdog => Signal::SIGALRM,
            RunState::InternalError => Signal::SIGABRT,
            RunState::FinishMigrate => Signal::SIGXCPU,
            _ => UNKNOWN_SIGNAL,
        };
        StopReason::SignalWithThread { tid, signal }
    }

    /// Tells the client that the program ends.
    fn tell_exit(&mut self, status: u8) {
        if let Some(GdbStubStateMachine::Running(stub)) = self.stub.take() {
            // Nobody is there to be told otherwise.
            let _ = stub.report_stop(&mut self.machine, StopReason::Exited(status));
        }
    }
}

fn new_stub(output: &Output, machine: &mut Machine) -> Option<Stub> {
    let stub = GdbStubBuilder::new(output.clone()).packet_buffer_size(PACKET_SIZE).build().ok()?;
    stub.run_state_machine(machine).ok()
}

/// A server.
struct Server {
    frontend: CharFrontend,
    /// The client that is there; it is taken out while something is done for it, which may call back.
    session: Mutex<Option<Session>>,
    output: Output,
    /// The user interrupts the program by hand at the terminal that gdb is at.
    at_terminal: bool,
    state_handler: u64,
    this: Weak<Server>,
}

static SERVER: Mutex<Option<Arc<Server>>> = Mutex::new(None);

impl Server {
    fn new(at_terminal: bool) -> Arc<Server> {
        Arc::new_cyclic(|this: &Weak<Server>| {
            let next = this.clone();
            // Later: who stops the machine is in the middle of something.
            let stopped = BottomHalf::new(EventLoop::main(), move || {
                if let Some(server) = next.upgrade() {
                    server.stopped();
                }
            });
            let tell = move |running: bool, _| {
                if !running {
                    stopped.schedule();
                }
            };
            Server {
                frontend: CharFrontend::default(),
                session: Mutex::default(),
                output: Output::default(),
                at_terminal,
                state_handler: runstate::add_state_handler(Arc::new(tell)),
                this: this.clone(),
            }
        })
    }

    /// The machine stopped.
    fn stopped(&self) {
        self.with_session(Session::tell_stop);
        if !self.frontend.is_open() && runstate::runstate_get() == RunState::Debug {
            // A CPU was at a breakpoint of a client that went at that moment.
            runstate::vm_start();
        }
    }

    /// Does something for the client, if there is one and nothing else is being done for it, and sends what follows.
    fn with_session(&self, work: impl FnOnce(&mut Session)) {
        let Some(mut session) = self.session.lock().take() else { return };
        work(&mut session);
        session.tell_stop();
        if self.frontend.is_open() {
            *self.session.lock() = Some(session);
            self.flush();
        } else {
            // It hung up meanwhile, or the server was told to go.
            session.release();
        }
    }

    /// Writes what the client takes now, and goes on when it takes more.
    fn flush(&self) {
        let text = std::mem::take(&mut *self.output.0.lock());
        let written = self.frontend.write(&text).min(text.len());
        let rest = text.get(written..).unwrap_or_default();
        if rest.is_empty() {
            return self.frontend.accept_input();
        }
        self.output.0.lock().splice(0..0, rest.iter().copied());
        let this = self.this.clone();
        let waits = self.frontend.add_watch(move || {
            if let Some(server) = this.upgrade() {
                server.flush();
            }
        });
        if !waits {
            // Nobody is there to read it.
            self.output.0.lock().clear();
        }
    }

    fn disconnected(&self) {
        self.output.0.lock().clear();
        if let Some(mut session) = self.session.lock().take() {
            session.release();
        }
    }
}

impl CharHandlers for Server {
    fn can_read(&self) -> usize {
        let idle = self.session.lock().is_some() && self.output.0.lock().is_empty();
        if idle { READ_SIZE } else { 0 }
    }

    fn read(&self, data: &[u8]) {
        self.with_session(|session| {
            for byte in data {
                session.take(*byte);
                session.tell_stop();
            }
        });
    }

    fn event(&self, event: Event) {
        match event {
            Event::Opened => {
                self.disconnected();
                let session = Session::new(self.output.clone());
                *self.session.lock() = Some(session);
                self.frontend.accept_input();
            }
            Event::Closed => self.disconnected(),
            Event::Break | Event::MuxIn | Event::MuxOut => {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        runstate::remove_state_handler(self.state_handler);
    }
}

/// Waits for gdb on a device, named as for `-serial`; `none` ends the waiting. On the main loop's thread.
///
/// # Errors
/// When there is no CPU, or the device cannot be opened.
pub fn gdbserver_start(device: &str) -> Result<()> {
    if cpu_list().is_empty() {
        bail!("gdbstub: meaningless to attach gdb to a machine without any CPU.");
    }
    if device == "none" {
        stop_server();
        return Ok(());
    }
    let device = if device.starts_with("tcp:") {
        format!("{device},wait=off,nodelay=on,server=on")
    } else {
        device.to_owned()
    };
    let at_terminal = device == "stdio";
    let wrong = |error: chardev::ChardevError| Error::new(error.to_string());
    let (chardev, with_monitor) = chardev::new_from_compat(LABEL, &device, true).map_err(wrong)?;
    let server = Server::new(at_terminal);
    server.frontend.attach(&chardev).map_err(wrong)?;
    let handlers: Weak<dyn CharHandlers> = server.this.clone();
    *SERVER.lock() = Some(server.clone());
    server.frontend.set_handlers(handlers);
    if with_monitor {
        monitor::monitor_init_hmp(&chardev)?;
    }
    Ok(())
}

/// Ends the waiting for a client, and lets one go that is there.
fn stop_server() {
    let Some(server) = SERVER.lock().take() else { return };
    let chardev = server.frontend.chardev();
    server.frontend.detach();
    server.disconnected();
    if chardev.is_some() {
        // A multiplexer stays while a monitor has it.
        let _ = chardev::remove(LABEL);
    }
}

/// The user interrupted the program. That stops the machine where gdb is at the program's terminal, and `true` is
/// given; elsewhere it is the end of the program.
pub fn interrupt() -> bool {
    let Some(server) = SERVER.lock().clone().filter(|server| server.at_terminal) else { return false };
    server.with_session(Session::stop_machine);
    true
}

/// Tells a client that the program ends with a status (`gdb_exit`).
pub fn gdb_exit(status: i32) {
    let Some(server) = SERVER.lock().take() else { return };
    let session = server.session.lock().take();
    if let Some(mut session) = session {
        session.tell_exit(status as u8);
        server.frontend.write_all(&std::mem::take(&mut *server.output.0.lock()));
    }
}
