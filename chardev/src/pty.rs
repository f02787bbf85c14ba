//! A pseudo-terminal for others to open (chardev/char-pty.c).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use util::clock::{self, ClockType, NANOSECONDS_PER_SECOND};
use util::event_loop::{EventLoop, Interest, Ready};
use util::timer::Timer;

use crate::backend::Backend;
use crate::chr::{Core, Event, READ_BUF_LEN};
use crate::error::ChardevError;
use crate::fd::{Port, SharedFd, nonblocking};

/// The kernel does not tell when somebody opens the terminal, so it is asked this often.
const POLL_INTERVAL_NS: u64 = NANOSECONDS_PER_SECOND;

struct Pty {
    core: Arc<Core>,
    port: Port,
    /// Somebody has the terminal open.
    connected: AtomicBool,
    timer: Timer,
}

/// `pty`. Prints where it is.
pub(crate) fn open(core: &Arc<Core>) -> Result<Arc<dyn Backend>, ChardevError> {
    let (fd, name) = open_raw().map_err(|error| ChardevError::system("Failed to create PTY", error))?;
    let fd: SharedFd = nonblocking(fd)?;
    core.set_filename(format!("pty:{name}"));
    println!("char device redirected to {name} (label {})", core.label());
    let pty = Arc::new_cyclic(|weak: &Weak<Pty>| {
        let (on_ready, on_timer) = (weak.clone(), weak.clone());
        let handler = move |ready| {
            if let Some(pty) = on_ready.upgrade() {
                pty.ready(ready);
            }
        };
        let timer = Timer::new(ClockType::Realtime, move || {
            if let Some(pty) = on_timer.upgrade() {
                let core = pty.core.clone();
                core.run_on_event_loop(move || pty.look());
            }
        });
        Pty {
            core: core.clone(),
            port: Port::new(core, fd, Arc::new(handler)),
            connected: AtomicBool::new(false),
            timer,
        }
    });
    pty.timer.mod_ns(0);
    Ok(pty)
}

/// The master's end of a new terminal in raw mode, and the name of the other end.
fn open_raw() -> io::Result<(std::os::fd::OwnedFd, String)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    // Only once the other end has been open does the master report that nobody has it open.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let mut tty = tcgetattr(&slave)?;
    tty.make_raw();
    tcsetattr(&slave, OptionalActions::Flush, &tty)?;
    let name = ptsname(&master, Vec::new())?;
    Ok((master, name.to_string_lossy().into_owned()))
}

impl Pty {
    fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Looks whether somebody opened the terminal.
    fn look(&self) {
        let mut fds = [PollFd::from_borrowed_fd(self.port.fd(), PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = poll(&mut fds, Some(&at_once));
        if polled.is_err() || fds[0].revents().contains(PollFlags::HUP) {
            self.timer.mod_ns(clock::now_ns(ClockType::Realtime) + POLL_INTERVAL_NS);
            return;
        }
        self.connected.store(true, Ordering::Release);
        self.core.event(Event::Opened);
        self.port.want(Interest::READ, true);
    }

    fn hang_up(&self) {
        self.port.want(Interest::READ | Interest::WRITE, false);
        self.connected.store(false, Ordering::Release);
        self.timer.mod_ns(clock::now_ns(ClockType::Realtime) + POLL_INTERVAL_NS);
        // What waits to be written goes to nobody.
        self.core.writable();
    }

    fn ready(&self, ready: Ready) {
        if ready.intersects(Ready::READ | Ready::HANGUP | Ready::ERROR) && self.port.wants(Interest::READ) {
            self.read();
        }
        if ready.intersects(Ready::WRITE | Ready::HANGUP | Ready::ERROR) && self.port.wants(Interest::WRITE) {
            self.port.want(Interest::WRITE, false);
            self.core.writable();
        }
    }

    fn read(&self) {
        let room = self.port.room(&self.core);
        if room == 0 {
            return;
        }
        let mut buffer = [0; READ_BUF_LEN];
        match rustix::io::read(self.port.fd(), &mut buffer[..room]) {
            Ok(read) if read > 0 => self.core.deliver(&buffer[..read]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => self.hang_up(),
        }
    }
}

impl Backend for Pty {
    fn wakes_reader(&self) -> bool {
        true
    }

    fn set_event_loop(&self, event_loop: &EventLoop) -> bool {
        self.port.move_to(event_loop);
        true
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        if !self.is_connected() {
            return Ok(data.len());
        }
        Ok(rustix::io::retry_on_intr(|| rustix::io::write(self.port.fd(), data))?)
    }

    fn poll_writable(&self) -> bool {
        self.is_connected() && self.port.want(Interest::WRITE, true)
    }

    fn wait_writable(&self, timeout: Duration) -> bool {
        self.port.wait_writable(timeout)
    }

    fn accept_input(&self) {
        if self.is_connected() {
            self.port.want(Interest::READ, true);
        }
    }
}
