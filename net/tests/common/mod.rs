//! What stands in for a network device: a client that keeps what comes, and the main loop.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use memory::vm_memory::VolatileSlice;
use net::{NetClient, NetClientDriver, NetClientState, Received, find_netdev, netdev_init, new_client};
use parking_lot::Mutex;
use util::event_loop::EventLoop;

/// A device without a guest.
pub struct TestNic {
    nc: Weak<NetClientState>,
    pub frames: Mutex<VecDeque<Vec<u8>>>,
    /// It takes no more.
    pub full: AtomicBool,
    /// Packets that were queued and have been taken.
    pub told: Mutex<usize>,
    /// It takes packets in parts.
    pub takes_parts: AtomicBool,
    /// How many frames there were when several had come at once.
    pub batches: Mutex<Vec<usize>>,
}

impl NetClient for TestNic {
    fn driver(&self) -> NetClientDriver {
        NetClientDriver::Nic
    }
    fn can_receive(&self, _: usize) -> bool {
        !self.full.load(Ordering::SeqCst)
    }
    fn receive(&self, _: usize, packet: &[u8]) -> Received {
        if self.full.load(Ordering::SeqCst) {
            return Received::Blocked;
        }
        self.frames.lock().push_back(packet.to_vec());
        Received::Done
    }
    fn receive_parts(&self, _: usize, parts: &[VolatileSlice<'_>]) -> bool {
        let copy = |part: &VolatileSlice<'_>| {
            let mut bytes = vec![0; part.len()];
            part.copy_to(&mut bytes[..]);
            bytes
        };
        let takes = self.takes_parts.load(Ordering::SeqCst);
        if takes {
            self.frames.lock().push_back(parts.iter().flat_map(copy).collect());
        }
        takes
    }
    fn batch(&self, _: usize, begins: bool) {
        if !begins {
            self.batches.lock().push(self.frames.lock().len());
        }
    }
    fn sent(&self, _: usize) {
        *self.told.lock() += 1;
    }
}

impl TestNic {
    /// On a backend that is there.
    pub fn on(netdev: &str) -> Arc<TestNic> {
        Self::beside(&find_netdev(netdev).expect("the backend is there"))
    }

    /// With another client as its peer.
    pub fn beside(peer: &Arc<NetClientState>) -> Arc<TestNic> {
        let make = |nc: &Weak<NetClientState>| {
            Arc::new(TestNic {
                nc: nc.clone(),
                frames: Mutex::default(),
                full: AtomicBool::new(false),
                told: Mutex::default(),
                takes_parts: AtomicBool::new(false),
                batches: Mutex::default(),
            })
        };
        new_client("test-nic", None, 0, Some(peer), make).1
    }

    /// On a new backend.
    pub fn new(netdev: &str) -> Arc<TestNic> {
        netdev_init(netdev).expect("the backend can be made");
        let id = netdev.split(',').find_map(|word| word.strip_prefix("id=")).expect("it has an id");
        Self::on(id)
    }

    pub fn nc(&self) -> Arc<NetClientState> {
        self.nc.upgrade().expect("the client is there")
    }

    pub fn send(&self, frame: &[u8]) {
        self.nc().send(frame);
    }

    /// The next frame that comes.
    pub fn receive(&self) -> Vec<u8> {
        wait_for("a frame", || self.frames.lock().pop_front())
    }

    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
        if !full {
            self.nc().flush();
        }
    }
}

/// A TCP port of the loopback that nobody has: none of those that the kernel gives to whoever asks for any, of which
/// another test may get it meanwhile, and another one for each process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 20_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Runs the main loop until there is something.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < end, "{what} did not come");
        turn();
    }
}

/// One turn of the main loop.
pub fn turn() {
    EventLoop::main().run_once(Some(Duration::from_millis(5))).expect("the loop runs");
}
