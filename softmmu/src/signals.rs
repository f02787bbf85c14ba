//! Signals that end the program, and those that stop and continue it in a terminal.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hw_core::runstate::{ShutdownCause, shutdown_request};
use parking_lot::Mutex;
use qom::{Error, Result};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Origin;
use util::event_loop::{EventLoop, FdWatch, Interest};

/// What keeps the signals watched.
pub struct Signals {
    _watch: FdWatch,
}

/// From now on SIGINT, SIGTERM and SIGHUP end the program in order, and SIGCONT sets the terminal's mode again
/// (`os_setup_signal_handling`).
///
/// # Errors
/// When the host has no descriptors left.
pub fn setup() -> Result<Signals> {
    let refuse = |e: std::io::Error| Error::new(format!("cannot watch signals: {e}"));
    let (reader, writer) = UnixStream::pair().map_err(refuse)?;
    // The handlers write to the other end.
    let input = Arc::new(reader);
    let signals = [SIGINT, SIGTERM, SIGHUP, SIGCONT];
    let delivery = SignalDelivery::with_pipe(input.clone(), writer, WithOrigin::default(), signals);
    let delivery = Mutex::new(delivery.map_err(refuse)?);
    let handler = Arc::new(move |_| {
        let pending = delivery.lock().pending();
        pending.for_each(|origin| on_signal(&origin));
    });
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, util::termination::flag()).map_err(refuse)?;
    }
    let watch = EventLoop::main().add_fd(input, Interest::READ, handler).map_err(refuse)?;
    Ok(Signals { _watch: watch })
}

fn on_signal(origin: &Origin) {
    let signal = origin.signal;
    if signal == SIGCONT {
        chardev::reapply_terminal();
        return;
    }
    if signal == SIGINT && gdbserver::interrupt() {
        util::termination::withdraw();
        return;
    }
    // The kernel itself, for a key on the terminal, has no number.
    let sender =
        origin.process.as_ref().filter(|process| process.pid > 0).map_or(String::new(), |process| {
            format!(" from pid {} ({})", process.pid, pid_name(process.pid))
        });
    util::error_report!("terminating on signal {signal}{sender}");
    shutdown_request(ShutdownCause::HostSignal);
}

/// What a process was called as (`qemu_get_pid_name`).
fn pid_name(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    match line.split(|byte| *byte == 0).next() {
        Some(name @ [_, ..]) => String::from_utf8_lossy(name).into_owned(),
        _ => "<unknown process>".to_owned(),
    }
}
