//! A UDP socket: what is written at once is one datagram (chardev/char-udp.c).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{SocketFlags, SocketType, bind, connect, sockopt};
use util::event_loop::{BottomHalf, EventLoop, Interest, Ready};
use util::sockets::{InetSocketAddress, new_socket};

use crate::backend::Backend;
use crate::chr::{Core, READ_BUF_LEN};
use crate::error::ChardevError;
use crate::fd::Port;
use crate::options::Options;

struct Udp {
    core: Arc<Core>,
    port: Port,
    /// What the frontend has not taken yet of the latest datagram.
    received: Mutex<VecDeque<u8>>,
    /// Hands it over, on the main loop's thread.
    accept: BottomHalf,
}

/// `udp`: `host`, `port`, `localaddr`, `localport`, `ipv4`, `ipv6`.
pub(crate) fn open(core: &Arc<Core>, options: &Options) -> Result<Arc<dyn Backend>, ChardevError> {
    let given = |key| options.get(key).filter(|text| !text.is_empty());
    let port =
        given("port").ok_or_else(|| ChardevError::options("chardev: udp: remote port not specified"))?;
    let remote = options.inet(given("host").unwrap_or("localhost"), port)?;
    let local = InetSocketAddress {
        host: given("localaddr").unwrap_or("").to_owned(),
        port: given("localport").unwrap_or("0").to_owned(),
        ..remote.clone()
    };
    let remote_address = remote.resolve(false)?[0];
    let socket = new_datagram_socket(remote_address, &local)?;
    connect(&socket, &remote_address).map_err(|error| {
        ChardevError::system(format!("Failed to connect to '{}:{}'", remote.host, remote.port), error)
    })?;
    Ok(Arc::new_cyclic(|weak: &Weak<Udp>| {
        let (on_ready, on_accept) = (weak.clone(), weak.clone());
        let handler = move |ready| {
            if let Some(udp) = on_ready.upgrade() {
                udp.ready(ready);
            }
        };
        Udp {
            core: core.clone(),
            port: Port::new(core, Arc::new(socket), Arc::new(handler)),
            received: Mutex::default(),
            accept: BottomHalf::new(EventLoop::main(), move || {
                if let Some(udp) = on_accept.upgrade() {
                    udp.hand_over();
                }
            }),
        }
    }))
}

fn new_datagram_socket(remote: SocketAddr, local: &InetSocketAddress) -> Result<OwnedFd, ChardevError> {
    let local = local.resolve(true)?.into_iter().find(|address| address.is_ipv4() == remote.is_ipv4());
    let bound = new_socket(&remote, SocketType::DGRAM, SocketFlags::NONBLOCK).and_then(|socket| {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if let Some(local) = &local {
            bind(&socket, local)?;
        }
        Ok(socket)
    });
    bound.map_err(|error| ChardevError::system("Failed to bind socket", error))
}

impl Udp {
    fn ready(&self, ready: Ready) {
        if ready.intersects(Ready::READ | Ready::ERROR) && self.port.wants(Interest::READ) {
            let left = !self.received.lock().is_empty();
            if left {
                self.hand_over();
            } else {
                self.read();
            }
        }
        if ready.intersects(Ready::WRITE | Ready::ERROR) && self.port.wants(Interest::WRITE) {
            self.port.want(Interest::WRITE, false);
            self.core.writable();
        }
    }

    fn read(&self) {
        if self.port.room(&self.core) == 0 {
            return;
        }
        let mut buffer = [0; READ_BUF_LEN];
        // An error is a datagram of ours that found nobody, which ends nothing.
        let read = rustix::io::read(self.port.fd(), &mut buffer).unwrap_or(0);
        self.received.lock().extend(&buffer[..read]);
        self.hand_over();
    }

    /// Hands the rest of a datagram to the frontend; the next is not read before it is gone.
    fn hand_over(&self) {
        while !self.received.lock().is_empty() {
            let room = self.port.room(&self.core);
            if room == 0 {
                return;
            }
            let mut received = self.received.lock();
            let count = room.min(received.len());
            let data: Vec<u8> = received.drain(..count).collect();
            drop(received);
            self.core.deliver(&data);
        }
        self.port.want(Interest::READ, true);
    }
}

impl Backend for Udp {
    fn write(&self, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.port.fd(), data)?)
    }

    fn poll_writable(&self) -> bool {
        self.port.want(Interest::WRITE, true)
    }

    fn wait_writable(&self, timeout: Duration) -> bool {
        self.port.wait_writable(timeout)
    }

    fn accept_input(&self) {
        self.accept.schedule();
    }
}
