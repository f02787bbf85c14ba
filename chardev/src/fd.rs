//! Chardevs on plain descriptors: files, fifos, terminals (chardev/char-fd.c, char-file.c, char-pipe.c).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use util::event_loop::{EventLoop, FdHandler, FdWatch, Interest, Ready};

use crate::backend::Backend;
use crate::chr::{Core, Event, READ_BUF_LEN};
use crate::error::ChardevError;
use crate::options::Options;

/// A descriptor that a chardev and its watch hold together.
pub(crate) type SharedFd = Arc<dyn AsFd + Send + Sync>;

/// A descriptor and its watch on an event loop, which is made when first needed.
pub(crate) struct Port {
    fd: SharedFd,
    handler: FdHandler,
    state: Mutex<PortState>,
}

struct PortState {
    event_loop: EventLoop,
    watch: PortWatch,
}

enum PortWatch {
    None,
    Some(FdWatch),
    Closed,
}

impl Port {
    /// On the loop that serves `core`.
    pub fn new(core: &Core, fd: SharedFd, handler: FdHandler) -> Self {
        let state = PortState { event_loop: core.event_loop(), watch: PortWatch::None };
        Port { fd, handler, state: Mutex::new(state) }
    }

    /// From now on `event_loop` waits for what is waited for. On the thread of the loop that did so before.
    pub fn move_to(&self, event_loop: &EventLoop) {
        let mut state = self.state.lock();
        state.event_loop = event_loop.clone();
        if let PortWatch::Some(old) = &state.watch {
            let interest = old.interest();
            // A descriptor that one loop takes, another takes, unless the host has no memory left.
            state.watch = match event_loop.add_fd(self.fd.clone(), interest, self.handler.clone()) {
                Ok(new) => PortWatch::Some(new),
                Err(_) => PortWatch::None,
            };
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Starts or stops waiting for `what`. `false`: the port is closed or the kernel refuses to wait on it.
    pub fn want(&self, what: Interest, on: bool) -> bool {
        let mut state = self.state.lock();
        match &state.watch {
            PortWatch::Closed => false,
            PortWatch::Some(watch) => {
                let present = watch.interest();
                let wanted = if on { present | what } else { present - what };
                watch.set_interest(wanted).is_ok()
            }
            PortWatch::None if on => {
                match state.event_loop.add_fd(self.fd.clone(), what, self.handler.clone()) {
                    Ok(added) => {
                        state.watch = PortWatch::Some(added);
                        true
                    }
                    Err(_) => false,
                }
            }
            PortWatch::None => true,
        }
    }

    pub fn wants(&self, what: Interest) -> bool {
        matches!(&self.state.lock().watch, PortWatch::Some(watch) if watch.interest().intersects(what))
    }

    /// No waiting any more. Returns whether it was open.
    pub fn close(&self) -> bool {
        let old = std::mem::replace(&mut self.state.lock().watch, PortWatch::Closed);
        !matches!(old, PortWatch::Closed)
    }

    /// Waits for room, on the calling thread.
    pub fn wait_writable(&self, timeout: Duration) -> bool {
        self.wait(PollFlags::OUT, Timespec::try_from(timeout).ok())
    }

    /// Waits for something to read, or to accept, on the calling thread.
    pub fn wait_readable(&self, timeout: Duration) -> bool {
        self.wait(PollFlags::IN, Timespec::try_from(timeout).ok())
    }

    fn wait(&self, what: PollFlags, timeout: Option<Timespec>) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.fd(), what)];
        poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Asks how much the frontend takes. When that is nothing, input is not waited for any more.
    pub fn room(&self, core: &Core) -> usize {
        let room = core.can_read();
        if room > 0 {
            return room;
        }
        self.want(Interest::READ, false);
        // Room made before the line above was not noted: `accept_input` found us waiting still.
        if core.can_read() > 0 {
            self.want(Interest::READ, true);
        }
        0
    }
}

/// Makes reads and writes of the descriptor not wait.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd();
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

/// A chardev on an input and an output descriptor, which may be the same.
pub(crate) struct FdChardev {
    core: Arc<Core>,
    input: Option<Arc<Port>>,
    output: Arc<Port>,
}

impl FdChardev {
    /// On two descriptors. They must not block.
    pub fn new(core: Arc<Core>, input: Option<SharedFd>, output: SharedFd) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let input = input.map(|fd| Self::port(&core, fd, weak, Self::input_ready));
            let output = Self::port(&core, output, weak, Self::output_ready);
            FdChardev { core, input, output }
        })
    }

    /// On one descriptor for both directions. It must not block.
    pub fn new_duplex(core: Arc<Core>, fd: SharedFd) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let port = Self::port(&core, fd, weak, |this, ready| {
                this.input_ready(ready);
                this.output_ready(ready);
            });
            FdChardev { core, input: Some(port.clone()), output: port }
        })
    }

    fn port(core: &Core, fd: SharedFd, weak: &Weak<Self>, ready: fn(&Self, Ready)) -> Arc<Port> {
        let weak = weak.clone();
        let handler = move |what| {
            if let Some(this) = weak.upgrade() {
                ready(&this, what);
            }
        };
        Arc::new(Port::new(core, fd, Arc::new(handler)))
    }

    fn input_ready(&self, ready: Ready) {
        let Some(input) = &self.input else { return };
        if !ready.intersects(Ready::READ | Ready::HANGUP | Ready::ERROR) || !input.wants(Interest::READ) {
            return;
        }
        let room = input.room(&self.core);
        if room == 0 {
            return;
        }
        let mut buffer = [0; READ_BUF_LEN];
        match rustix::io::read(input.fd(), &mut buffer[..room]) {
            Ok(read) if read > 0 => self.core.deliver(&buffer[..read]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The end of the input, or a terminal that hung up.
            Ok(_) | Err(_) => {
                if input.close() {
                    self.core.event(Event::Closed);
                }
            }
        }
    }

    fn output_ready(&self, ready: Ready) {
        if ready.intersects(Ready::WRITE | Ready::HANGUP | Ready::ERROR) && self.output.wants(Interest::WRITE)
        {
            self.output.want(Interest::WRITE, false);
            self.core.writable();
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.output.fd()
    }
}

impl Backend for FdChardev {
    fn wakes_reader(&self) -> bool {
        true
    }

    fn set_event_loop(&self, event_loop: &EventLoop) -> bool {
        self.input.iter().for_each(|port| port.move_to(event_loop));
        self.output.move_to(event_loop);
        true
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::write(self.output.fd(), data))?)
    }

    fn poll_writable(&self) -> bool {
        self.output.want(Interest::WRITE, true)
    }

    fn wait_writable(&self, timeout: Duration) -> bool {
        self.output.wait_writable(timeout)
    }

    fn accept_input(&self) {
        if let Some(input) = &self.input {
            input.want(Interest::READ, true);
        }
    }
}

/// Opens a file that an option names, whose access is to be that of `flags` where it is one of a set.
pub(crate) fn open(path: &str, flags: OFlags, options: &mut OpenOptions) -> Result<File, ChardevError> {
    let file = util::fdset::open(path, flags, options);
    file.map_err(|error| ChardevError::system(format!("Could not open '{path}'"), error))
}

pub(crate) fn nonblocking(fd: impl AsFd + Send + Sync + 'static) -> Result<SharedFd, ChardevError> {
    set_nonblocking(&fd).map_err(|error| ChardevError::system("Failed to set FD nonblocking", error))?;
    Ok(Arc::new(fd))
}

/// `file`: `path`, `append`, `input-path`.
pub(crate) fn open_file(core: &Arc<Core>, options: &Options) -> Result<Arc<dyn Backend>, ChardevError> {
    let path =
        options.get("path").ok_or_else(|| ChardevError::options("chardev: file: no filename given"))?;
    let append = options.flag("append")?.unwrap_or(false);
    let input = options.get("input-path");
    let output = open(
        path,
        OFlags::WRONLY,
        OpenOptions::new().write(true).create(true).append(append).truncate(!append),
    )?;
    let input = input
        .map(|path| nonblocking(open(path, OFlags::RDONLY, OpenOptions::new().read(true))?))
        .transpose()?;
    Ok(FdChardev::new(core.clone(), input, nonblocking(output)?))
}

/// `pipe`: the fifos `path.in` and `path.out`, or the one fifo `path`.
pub(crate) fn open_pipe(core: &Arc<Core>, options: &Options) -> Result<Arc<dyn Backend>, ChardevError> {
    let path =
        options.get("path").ok_or_else(|| ChardevError::options("chardev: pipe: no device path given"))?;
    // Opened for both directions, a fifo neither waits for nor ends with the other side's opening.
    let fifo = |path: &str| open(path, OFlags::RDWR, OpenOptions::new().read(true).write(true));
    match (fifo(&format!("{path}.in")), fifo(&format!("{path}.out"))) {
        (Ok(input), Ok(output)) => {
            Ok(FdChardev::new(core.clone(), Some(nonblocking(input)?), nonblocking(output)?))
        }
        _ => Ok(FdChardev::new_duplex(core.clone(), nonblocking(fifo(path)?)?)),
    }
}
