//! Programs that serve at a unix socket.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a program may take until it listens.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A program that serves at a unix socket, killed at the end.
pub struct Daemon(Child);

impl Daemon {
    /// Starts it and waits until it listens at `socket`. `package` is Debian's that has it.
    pub fn start(command: &mut Command, package: &str, socket: &Path) -> Daemon {
        let child = command.spawn();
        let daemon = Daemon(child.unwrap_or_else(|error| panic!("{command:?} (package {package}): {error}")));
        wait_for_listener(socket);
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens at a unix socket. That the file is there is not enough: a socket has its name
/// before it listens, and refuses whoever comes in between. To try to connect would use up a server that
/// takes one client.
pub fn wait_for_listener(socket: &Path) {
    let start = Instant::now();
    while !listens(socket) {
        assert!(start.elapsed() < TIMEOUT, "waited in vain for somebody to listen at {}", socket.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn listens(socket: &Path) -> bool {
    /// The column of flags, and `__SO_ACCEPTCON` in it (Linux `net/unix/af_unix.c`, `unix_seq_show`).
    const FLAGS: usize = 3;
    const ACCEPTCON: &str = "00010000";

    let sockets = std::fs::read_to_string("/proc/net/unix").expect("the kernel's list of unix sockets");
    let socket = socket.to_str().expect("UTF-8");
    sockets.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(FLAGS) == Some(ACCEPTCON) && fields.last() == Some(socket)
    })
}
