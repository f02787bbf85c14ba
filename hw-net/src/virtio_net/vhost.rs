//! Queues that the host's kernel serves, `-netdev tap,vhost=on`, or another program (`hw/net/vhost_net.c`, `virtio_net_vhost_status`).

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hw_virtio::spec::feature as ring;
use hw_virtio::vhost::VhostDevice;
use net::{NetClientState, VhostNet};
use parking_lot::Mutex;
use qom::{Result, bail};

use super::VirtIONet;
use super::spec::{S_LINK_UP, feature};
use super::vhost_user::Program;

/// Features that are the kernel's to offer.
const KERNEL_FEATURES: u64 = ring::NOTIFY_ON_EMPTY
    | ring::INDIRECT_DESC
    | ring::EVENT_IDX
    | ring::VERSION_1
    | ring::ACCESS_PLATFORM
    | ring::RING_RESET
    | feature::MRG_RXBUF
    | feature::MTU;
/// A feature of the kernel's: packets have no header on the interface's side (Linux `linux/vhost_types.h`).
const VHOST_NET_F_VIRTIO_NET_HDR: u64 = 1 << 27;

/// Who serves the queues.
enum Servant {
    /// The kernel, with a device for each pair of queues.
    Kernel(Vec<VhostDevice>),
    /// Another program.
    Program(Program),
}

/// Who serves the queues, and how far that is.
pub(super) struct Vhost {
    servant: Servant,
    /// Held while it begins or ends.
    change: Mutex<()>,
    /// Pairs that are served. Set before it begins, for handlers to keep off.
    served: AtomicUsize,
}

/// Calls `f` with a client's backend, if the kernel can serve it.
fn with_backend<R>(client: &NetClientState, f: impl FnOnce(&dyn VhostNet) -> R) -> Option<R> {
    client.peer()?.info().vhost().map(f)
}

impl Vhost {
    /// The program that serves the backend, or the kernel's devices of all its queues; none unless each has one.
    ///
    /// # Errors
    /// When one cannot be had and the user insists on it, or nobody comes.
    pub fn of(clients: &[Arc<NetClientState>]) -> Result<Option<Vhost>> {
        let servant = match Program::of(clients)? {
            Some(program) => Some(Servant::Program(program)),
            None => Self::kernel(clients)?.map(Servant::Kernel),
        };
        Ok(servant.map(|servant| Vhost { servant, change: Mutex::new(()), served: AtomicUsize::new(0) }))
    }

    fn kernel(clients: &[Arc<NetClientState>]) -> Result<Option<Vec<VhostDevice>>> {
        let mut devices = Vec::new();
        for client in clients {
            let Some((device, forced)) =
                with_backend(client, |backend| (backend.device().clone(), backend.is_forced()))
            else {
                return Ok(None);
            };
            match VhostDevice::new(device) {
                Ok(device) => devices.push(device),
                Err(_) if forced => bail!("vhost-net requested but could not be initialized"),
                Err(_) => {
                    util::warn_report!("vhost-net requested but could not be initialized");
                    return Ok(None);
                }
            }
        }
        Ok(Some(devices))
    }

    /// What is left of `features` with who serves.
    pub fn features(&self, features: u64) -> u64 {
        match &self.servant {
            Servant::Program(program) => program.features(features),
            Servant::Kernel(devices) => {
                devices.iter().fold(features, |all, device| all & (!KERNEL_FEATURES | device.features()))
            }
        }
    }
}

impl VirtIONet {
    /// Whether the kernel or another program serves the queues, which nobody else may touch then.
    pub(super) fn is_served(&self) -> bool {
        self.vhost.get().is_some_and(|vhost| vhost.served.load(Ordering::Acquire) > 0)
    }

    /// Has who serves begin or end, by what the driver, the machine and the link are doing.
    pub(super) fn serve(&self) {
        let Some(vhost) = self.vhost.get() else { return };
        let peer_up =
            || self.client(0).and_then(|client| client.peer()).is_some_and(|peer| !peer.link_down());
        let wanted = self.is_running() && self.has_status(S_LINK_UP) && peer_up();
        let _change = vhost.change.lock();
        if wanted == self.is_served() {
            return;
        }
        if !wanted {
            self.end(vhost);
            return;
        }
        let pairs = self.current_pairs.load(Ordering::Acquire);
        vhost.served.store(pairs, Ordering::Release);
        // What waits was for this program to hand over.
        for client in self.clients() {
            client.purge_received();
            client.purge_sent();
        }
        let begun = match &vhost.servant {
            Servant::Kernel(devices) => (0..pairs).try_for_each(|n| self.begin(devices, n)),
            Servant::Program(program) => program.begin(self, pairs),
        };
        if let Err(error) = begun {
            util::error_report!("unable to start vhost net: {error}: falling back on userspace virtio");
            self.end(vhost);
        }
    }

    /// The driver uses another number of pairs.
    pub(super) fn serve_again(&self, change: impl FnOnce()) {
        if let Some(vhost) = self.vhost.get() {
            let _change = vhost.change.lock();
            self.end(vhost);
        }
        change();
        self.serve();
    }

    fn begin(&self, devices: &[VhostDevice], n: usize) -> io::Result<()> {
        let (Some(device), Some(pair), Some(client)) = (devices.get(n), self.pair(n), self.client(n)) else {
            return Ok(());
        };
        let begun = with_backend(client, |backend| {
            backend.set_served(true);
            let extra = if self.peer_has_header() { 0 } else { VHOST_NET_F_VIRTIO_NET_HDR };
            pair.reset();
            device.start(self, &pair.queues(), extra, backend.busy_us())?;
            let interface = Some(backend.interface().as_fd());
            device.set_net_backend(0, interface)?;
            device.set_net_backend(1, interface)
        });
        begun.unwrap_or(Ok(()))
    }

    fn end(&self, vhost: &Vhost) {
        let served = vhost.served.load(Ordering::Acquire);
        match &vhost.servant {
            Servant::Kernel(devices) => (0..served).for_each(|n| self.end_pair(devices, n)),
            Servant::Program(program) => program.end(self),
        }
        vhost.served.store(0, Ordering::Release);
    }

    /// The program that serves the queues, where one does.
    pub(super) fn program(&self) -> Option<&Program> {
        match &self.vhost.get()?.servant {
            Servant::Program(program) => Some(program),
            Servant::Kernel(_) => None,
        }
    }

    fn end_pair(&self, devices: &[VhostDevice], n: usize) {
        let (Some(device), Some(client)) = (devices.get(n), self.client(n)) else { return };
        for index in 0..2 {
            // Only a ring that has none refuses.
            let _ = device.set_net_backend(index, None);
        }
        device.stop(self);
        with_backend(client, |backend| backend.set_served(false));
    }
}
