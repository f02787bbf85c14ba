//! Waiting on the calling thread until a socket is connected (`tcp_chr_wait_connected`).

use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::{Socket, State, incompatible};
use crate::error::ChardevError;

/// After this it is looked whether to wait on: a signal may have come just before the wait began.
const PATIENCE: Duration = Duration::from_secs(1);

/// Nobody waits on in a program that is to end.
fn ensure_wanted() -> Result<(), ChardevError> {
    if util::termination::requested() {
        return Err(ChardevError::system("Failed to wait for a connection", Errno::INTR));
    }
    Ok(())
}

impl Socket {
    /// Waits for a client, and says so (`tcp_chr_accept_server_sync`).
    pub(super) fn accept_now(&self) -> Result<(), ChardevError> {
        let Some(listener) = &self.listener else { return Ok(()) };
        util::report::print_line(format_args!(
            "info: QEMU waiting for connection on: {}",
            self.describe_disconnected()
        ));
        loop {
            ensure_wanted()?;
            listener.wait_readable(PATIENCE);
            match accept_with(listener.fd(), SocketFlags::CLOEXEC) {
                Ok(client) => return self.adopt(client),
                // It was gone before it was accepted, or something else woke us.
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(ChardevError::system("Failed to accept a connection", error)),
            }
        }
    }

    /// Waits for a connection, as long as there can be one.
    pub(super) fn connect_now(&self) -> Result<(), ChardevError> {
        if self.is_telnet {
            return Err(incompatible("telnet", "waiting for connection completion"));
        }
        loop {
            ensure_wanted()?;
            let connecting = match &*self.state.lock() {
                State::Connected(_) => return Ok(()),
                State::Connecting(connection) => Some(connection.clone()),
                State::Disconnected => None,
            };
            // What is done here is not to be done by the loop, too.
            self.timer.del();
            if let Some(connection) = connecting {
                if connection.port.wait_writable(PATIENCE) {
                    self.connect_finished(connection);
                }
            } else if self.is_server {
                self.accept_now()?;
            } else {
                match (self.address.connect(), self.reconnect_ns) {
                    (Ok(socket), _) => self.adopt(socket)?,
                    (Err(_), Some(delay)) => std::thread::sleep(Duration::from_nanos(delay)),
                    (Err(error), None) => return Err(error.into()),
                }
            }
        }
    }
}
