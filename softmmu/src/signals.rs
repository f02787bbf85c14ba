//! Signals that end the program, and those that stop and continue it in a terminal.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hw_core::runstate::{ShutdownCause, shutdown_request};
use qom::{Error, Result};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};
use util::event_loop::{EventLoop, FdWatch, Interest};

/// What keeps the signals watched.
pub struct Signals {
    _watches: Vec<FdWatch>,
}

/// From now on SIGINT, SIGTERM and SIGHUP end the program in order, and SIGCONT sets the terminal's mode again
/// (`os_setup_signal_handling`).
///
/// # Errors
/// When the host has no descriptors left.
pub fn setup() -> Result<Signals> {
    let mut watches = Vec::new();
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGCONT] {
        let refuse = |e: std::io::Error| Error::new(format!("cannot watch signals: {e}"));
        // The handler writes a byte; the main loop reads it.
        let (reader, writer) = UnixStream::pair().map_err(refuse)?;
        reader.set_nonblocking(true).map_err(refuse)?;
        writer.set_nonblocking(true).map_err(refuse)?;
        signal_hook::low_level::pipe::register(signal, writer).map_err(refuse)?;
        let reader = Arc::new(reader);
        let input = reader.clone();
        let handler = Arc::new(move |_| {
            let mut byte = [0];
            if std::io::Read::read(&mut &*input, &mut byte).is_ok() {
                on_signal(signal);
            }
        });
        watches.push(EventLoop::main().add_fd(reader, Interest::READ, handler).map_err(refuse)?);
    }
    Ok(Signals { _watches: watches })
}

fn on_signal(signal: i32) {
    if signal == SIGCONT {
        chardev::reapply_terminal();
        return;
    }
    if signal == SIGINT && gdbserver::interrupt() {
        return;
    }
    eprintln!("softmmu: terminating on signal {signal}");
    shutdown_request(ShutdownCause::HostSignal);
}
