//! What every kind of chardev does in its own way (ChardevClass).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use util::event_loop::EventLoop;

use crate::chr::SerialParams;
use crate::error::ChardevError;
use crate::fd::FdChardev;

/// The backend of a chardev. Its calls come from any thread.
pub(crate) trait Backend: Send + Sync {
    /// The plain descriptors that do the work, for a kind that only adds to them.
    fn descriptors(&self) -> Option<&FdChardev> {
        None
    }

    /// Writes what can be written without waiting: `WouldBlock` if nothing. Another error means that what
    /// is written is lost.
    fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.descriptors().map_or(Ok(data.len()), |fds| fds.write(data))
    }

    /// Whether each write wakes a reader, who would rather have more at once.
    fn wakes_reader(&self) -> bool {
        self.descriptors().is_some()
    }

    /// Has `event_loop` serve it from now on, as `Core::event_loop` says; `false` where only the main loop can
    /// (`chr_update_read_handler`).
    fn set_event_loop(&self, event_loop: &EventLoop) -> bool {
        self.descriptors().is_some_and(|fds| fds.set_event_loop(event_loop))
    }

    /// Asks for `Core::writable` to be called once writing would not block. `false`: no use waiting.
    fn poll_writable(&self) -> bool {
        self.descriptors().is_some_and(Backend::poll_writable)
    }

    /// Waits until writing would not block, at most `timeout`. Returns whether it came to that.
    fn wait_writable(&self, timeout: Duration) -> bool {
        self.descriptors().is_some_and(|fds| fds.wait_writable(timeout))
    }

    /// The frontend can take input, or may now: handlers were set, or it has room again.
    fn accept_input(&self) {
        if let Some(fds) = self.descriptors() {
            fds.accept_input();
        }
    }

    /// The frontend in slot `tag` wants the input.
    fn take_focus(&self, tag: usize) {
        let _ = tag;
    }

    /// Multiplexers may tell their frontends now that the other end is there.
    fn open_suspended(&self) {}

    /// Whether a terminal shows what is typed.
    fn set_echo(&self, echo: bool) {
        let _ = echo;
    }

    /// Programs a serial line.
    fn set_serial_params(&self, params: &SerialParams) -> io::Result<()> {
        let _ = params;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends a break on a serial line.
    fn send_break(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Descriptors that came with the input read last.
    fn take_fds(&self) -> Vec<OwnedFd> {
        Vec::new()
    }

    /// Descriptors to send with the next byte written.
    fn set_fds(&self, fds: Vec<OwnedFd>) -> io::Result<()> {
        let _ = fds;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A connected unix socket itself, for somebody who reads and writes it in place of the chardev.
    fn unix_stream(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A stream socket, whose other end may go and another come.
    fn is_socket(&self) -> bool {
        false
    }

    /// Descriptors can be passed over it.
    fn passes_fds(&self) -> bool {
        false
    }

    /// Hangs up on a socket's client.
    fn disconnect(&self) {}

    /// Waits until the other end is there.
    fn wait_connected(&self) -> Result<(), ChardevError> {
        Ok(())
    }

    /// The same, but hangs up first on the one that is there.
    fn connect_anew(&self) -> Result<(), ChardevError> {
        Ok(())
    }

    /// Reads out what a ring buffer holds.
    fn read_buffered(&self, limit: usize) -> Option<Vec<u8>> {
        let _ = limit;
        None
    }

    /// The program ends: leave nothing behind on the host.
    fn close(&self) {}
}
