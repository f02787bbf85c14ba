//! Queues that another program serves: `-netdev vhost-user` (`net/vhost-user.c`, `hw/net/vhost_net.c`).

use std::sync::{Arc, OnceLock, Weak};

use chardev::{CharFrontend, CharHandlers, Event};
use hw_virtio::spec::feature as ring;
use hw_virtio::vhost::{VhostDevice, VhostUser};
use net::NetClientState;
use parking_lot::Mutex;
use qom::{Error, Result};

use super::VirtIONet;
use super::spec::feature;

/// Features that are the program's to offer.
const ITS_FEATURES: u64 = ring::NOTIFY_ON_EMPTY
    | ring::INDIRECT_DESC
    | ring::EVENT_IDX
    | ring::VERSION_1
    | ring::ACCESS_PLATFORM
    | ring::RING_RESET
    | feature::NEEDS_HEADER
    | feature::GSO
    | feature::GUEST_UFO
    | feature::HOST_UFO
    | feature::MRG_RXBUF
    | feature::MTU
    | feature::GUEST_ANNOUNCE
    | feature::MQ;
/// Rings of a pair.
const RINGS: u16 = 2;

/// The program.
pub(super) struct Program {
    /// The backend's first queue, which has its chardev.
    backend: Arc<NetClientState>,
    pairs: u16,
    device: Mutex<Arc<VhostDevice>>,
    /// Hears of the connection's end and of another's beginning.
    handlers: OnceLock<Arc<Handlers>>,
}

struct Handlers(Weak<VirtIONet>);

impl CharHandlers for Handlers {
    fn event(&self, event: Event) {
        if let Some(device) = self.0.upgrade()
            && let Some(program) = device.program()
        {
            program.connection_changed(event);
        }
    }
}

fn meet(program: &CharFrontend, pairs: u16) -> Result<Arc<VhostDevice>> {
    let failed = |error: std::io::Error| Error::new(format!("vhost-user-net: {error}"));
    let stream = program.unix_stream().map_err(failed)?;
    let user = VhostUser::new(stream, pairs, RINGS, false).map_err(failed)?;
    Ok(Arc::new(VhostDevice::of_user(&user)))
}

impl Program {
    /// Meets the program that serves these clients' backend, if one does; those that fail to talk are followed by others.
    ///
    /// # Errors
    /// When nobody can come any more.
    pub fn of(clients: &[Arc<NetClientState>]) -> Result<Option<Program>> {
        let Some(backend) = clients.first().and_then(|client| client.peer()) else { return Ok(None) };
        let Some(program) = backend.info().vhost_user() else { return Ok(None) };
        let pairs = u16::try_from(clients.len()).unwrap_or(u16::MAX);
        let told = |error: chardev::ChardevError| Error::new(error.to_string());
        program.wait_connected().map_err(told)?;
        let device = loop {
            match meet(program, pairs) {
                Ok(device) => break device,
                Err(error) => util::error_report!("{error}"),
            }
            program.connect_anew().map_err(told)?;
        };
        let device = Mutex::new(device);
        Ok(Some(Program { backend: backend.clone(), pairs, device, handlers: OnceLock::new() }))
    }

    /// What is left of `features` with the program.
    pub fn features(&self, features: u64) -> u64 {
        features & (!ITS_FEATURES | self.device.lock().features())
    }

    /// Hears of the connection for `device` from now on.
    pub fn watch(&self, device: &Arc<VirtIONet>) {
        let handlers = self.handlers.get_or_init(|| Arc::new(Handlers(Arc::downgrade(device))));
        if let Some(program) = self.backend.info().vhost_user() {
            program.set_handlers(Arc::downgrade(handlers) as Weak<dyn CharHandlers>);
        }
    }

    /// The device goes; another may have the backend.
    pub fn forget(&self) {
        self.backend.info().vhost_user().into_iter().for_each(CharFrontend::clear_handlers);
    }

    /// Takes the link down and up as the program goes and another comes (`net_vhost_user_event`).
    fn connection_changed(&self, event: Event) {
        let Some(program) = self.backend.info().vhost_user() else { return };
        let up = match event {
            Event::Closed => false,
            Event::Opened if self.backend.link_down() => match meet(program, self.pairs) {
                Ok(device) => {
                    *self.device.lock() = device;
                    true
                }
                Err(error) => {
                    util::error_report!("{error}");
                    return program.disconnect();
                }
            },
            _ => return,
        };
        if let Err(error) = net::set_link(self.backend.name().to_owned(), up) {
            util::error_report!("{error}");
        }
    }

    /// Has the program serve all pairs that the driver may use; only those in use now are enabled.
    pub fn begin(&self, net: &VirtIONet, current: usize) -> std::io::Result<()> {
        let pairs = if net.has_feature(feature::MQ) { self.pairs.into() } else { 1 };
        let mut queues = Vec::new();
        for pair in (0..pairs).filter_map(|n| net.pair(n)) {
            pair.reset();
            queues.extend(pair.queues());
        }
        let ready: Vec<_> = queues.into_iter().take_while(|queue| queue.is_ready()).collect();
        let device = self.device.lock().clone();
        let enabled = current * usize::from(RINGS);
        device.start_some(net, &ready, enabled).inspect_err(|_| {
            self.backend.info().vhost_user().into_iter().for_each(CharFrontend::disconnect);
        })
    }

    /// The program is to serve nothing any more.
    pub fn end(&self, net: &VirtIONet) {
        let device = self.device.lock().clone();
        device.stop(net);
    }
}
