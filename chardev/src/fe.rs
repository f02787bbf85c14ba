//! The frontend's end of a chardev (chardev/char-fe.c).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use util::event_loop::EventLoop;

use crate::chr::{CharHandlers, Chardev, SerialParams};
use crate::error::ChardevError;

/// What a device, monitor or multiplexer holds to use a chardev (CharBackend). Without one attached,
/// output is dropped and no input comes.
#[derive(Debug, Default)]
pub struct CharFrontend(Mutex<Option<Attachment>>);

#[derive(Clone, Debug)]
struct Attachment {
    chardev: Arc<Chardev>,
    tag: usize,
}

impl CharFrontend {
    /// Takes hold of `chardev` (qemu_chr_fe_init), letting go of another.
    ///
    /// # Errors
    /// Another frontend has it, or a multiplexer has as many as it takes.
    pub fn attach(&self, chardev: &Arc<Chardev>) -> Result<(), ChardevError> {
        let tag = chardev.attach()?;
        self.detach();
        *self.0.lock() = Some(Attachment { chardev: chardev.clone(), tag });
        Ok(())
    }

    /// Lets go of the chardev (qemu_chr_fe_deinit).
    pub fn detach(&self) {
        let attachment = self.0.lock().take();
        if let Some(Attachment { chardev, tag }) = attachment {
            chardev.detach(tag);
        }
    }

    fn attachment(&self) -> Option<Attachment> {
        self.0.lock().clone()
    }

    /// The chardev.
    #[must_use]
    pub fn chardev(&self) -> Option<Arc<Chardev>> {
        self.attachment().map(|at| at.chardev)
    }

    /// Whether a chardev is attached (qemu_chr_fe_backend_connected).
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Whether the chardev's other end is there (qemu_chr_fe_backend_open).
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.attachment().is_some_and(|at| at.chardev.is_open())
    }

    /// Who gets input and events from now on; of a multiplexer's frontends this takes the focus. If the
    /// other end is there already, [`Event::Opened`](crate::Event::Opened) comes at once.
    pub fn set_handlers(&self, handlers: Weak<dyn CharHandlers>) {
        if let Some(at) = self.attachment() {
            at.chardev.set_handlers(at.tag, Some(handlers));
        }
    }

    /// Has `event_loop` serve the chardev from now on: input, events and watches come on its thread. To be called on
    /// the thread of the loop that serves it so far. `false`, and nothing changes, for a kind that only the main loop
    /// serves: a multiplexer, a datagram socket, those without descriptors.
    #[must_use]
    pub fn set_event_loop(&self, event_loop: &EventLoop) -> bool {
        self.attachment().is_some_and(|at| at.chardev.set_event_loop(event_loop))
    }

    /// No input and events any more.
    pub fn clear_handlers(&self) {
        if let Some(at) = self.attachment() {
            at.chardev.set_handlers(at.tag, None);
        }
    }

    /// Makes this the frontend of a multiplexer that gets the input (qemu_chr_fe_take_focus).
    pub fn take_focus(&self) {
        if let Some(at) = self.attachment() {
            at.chardev.backend().take_focus(at.tag);
        }
    }

    /// Writes what can be written without waiting and returns how much that was. Less than all means that
    /// the reader is slow: [`CharFrontend::add_watch`] tells when to go on. What goes to nobody (no chardev,
    /// no connection, an error) counts as written.
    pub fn write(&self, data: &[u8]) -> usize {
        self.attachment().and_then(|at| at.chardev.write(data).ok()).unwrap_or(data.len())
    }

    /// The same, for a device whose guest sends byte by byte: what follows other output within a millisecond is held
    /// back that long at most, so that its reader need not wake for every byte. The first byte after a pause goes at
    /// once.
    pub fn write_soon(&self, data: &[u8]) -> usize {
        self.attachment().and_then(|at| at.chardev.write_soon(data).ok()).unwrap_or(data.len())
    }

    /// Writes everything, waiting for a slow reader (qemu_chr_fe_write_all). A reader that takes nothing for a
    /// second loses the rest: a guest must not be held up for good by a terminal that was stopped.
    pub fn write_all(&self, data: &[u8]) {
        if let Some(at) = self.attachment() {
            // What is lost is lost.
            let _ = at.chardev.write_all(data);
        }
    }

    /// Calls `watcher` once, on the thread of the loop that serves the chardev, when writing would not block; it takes the place of
    /// an earlier one. `false`: nothing to wait for, `watcher` is dropped (qemu_chr_fe_add_watch).
    pub fn add_watch(&self, watcher: impl FnOnce() + Send + 'static) -> bool {
        self.attachment().is_some_and(|at| at.chardev.add_watch(at.tag, Box::new(watcher)))
    }

    /// Takes the watch back.
    pub fn remove_watch(&self) {
        if let Some(at) = self.attachment() {
            at.chardev.remove_watch(at.tag);
        }
    }

    /// There is room for input again (qemu_chr_fe_accept_input); callable from any thread, input still comes
    /// where it came before.
    pub fn accept_input(&self) {
        if let Some(at) = self.attachment() {
            at.chardev.backend().accept_input();
        }
    }

    /// Whether a terminal shows what is typed (qemu_chr_fe_set_echo).
    pub fn set_echo(&self, echo: bool) {
        if let Some(at) = self.attachment() {
            at.chardev.backend().set_echo(echo);
        }
    }

    /// Programs a serial line of the host (CHR_IOCTL_SERIAL_SET_PARAMS).
    ///
    /// # Errors
    /// `Unsupported` if it is not one.
    pub fn set_serial_params(&self, params: &SerialParams) -> io::Result<()> {
        self.backend_call(|chardev| chardev.backend().set_serial_params(params))
    }

    /// Sends a break on a serial line of the host (CHR_IOCTL_SERIAL_SET_BREAK).
    ///
    /// # Errors
    /// `Unsupported` if it is not one.
    pub fn send_break(&self) -> io::Result<()> {
        self.backend_call(|chardev| chardev.backend().send_break())
    }

    /// Sends descriptors with the next byte that is written (qemu_chr_fe_set_msgfds).
    ///
    /// # Errors
    /// `Unsupported` for anything but a unix socket, `NotConnected` without a connection.
    pub fn set_fds(&self, fds: Vec<OwnedFd>) -> io::Result<()> {
        self.backend_call(|chardev| chardev.backend().set_fds(fds))
    }

    fn backend_call(&self, call: impl FnOnce(&Chardev) -> io::Result<()>) -> io::Result<()> {
        call(&*self.chardev().ok_or(io::ErrorKind::NotConnected)?)
    }

    /// The descriptors that came with the latest input (qemu_chr_fe_get_msgfds).
    pub fn take_fds(&self) -> Vec<OwnedFd> {
        self.chardev().map_or_else(Vec::new, |chardev| chardev.backend().take_fds())
    }

    /// The connection of a unix socket, for a frontend that reads and writes it itself, and waits for it: the chardev
    /// tells of its end only. The frontend must take no input.
    ///
    /// # Errors
    /// `Unsupported` for anything but a unix socket, `NotConnected` without a connection.
    pub fn unix_stream(&self) -> io::Result<OwnedFd> {
        self.chardev().ok_or(io::ErrorKind::NotConnected)?.backend().unix_stream()
    }

    /// Waits, on the calling thread, until a socket is connected: a server for a client, a client that connects again
    /// for its server; other kinds are always there (qemu_chr_fe_wait_connected). To be called on the thread of
    /// the loop that serves the chardev.
    ///
    /// # Errors
    /// There is nobody to connect to.
    pub fn wait_connected(&self) -> Result<(), ChardevError> {
        self.chardev().map_or(Ok(()), |chardev| chardev.backend().wait_connected())
    }

    /// The same, but hangs up first on the one that is there.
    ///
    /// # Errors
    /// As [`CharFrontend::wait_connected`].
    pub fn connect_anew(&self) -> Result<(), ChardevError> {
        self.chardev().map_or(Ok(()), |chardev| chardev.backend().connect_anew())
    }

    /// Hangs up on the client of a socket (qemu_chr_fe_disconnect).
    pub fn disconnect(&self) {
        if let Some(chardev) = self.chardev() {
            chardev.backend().disconnect();
        }
    }
}

impl Drop for CharFrontend {
    fn drop(&mut self) {
        self.detach();
    }
}
