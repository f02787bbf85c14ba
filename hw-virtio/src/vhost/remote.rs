//! A device whose queues another program serves at the other end of a chardev: what all such devices share.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use chardev::{CharFrontend, CharHandlers, ChardevError, Event};
use hw_core::CharProperty;
use parking_lot::Mutex;
use qom::{Error, Property, Result, bail};

use super::user::Inflight;
use super::{VhostDevice, VhostUser};
use crate::device::VirtIODevice;
use crate::spec::feature;

/// Features of every device that are the other program's to offer.
pub const ITS_FEATURES: u64 = feature::VERSION_1
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::NOTIFY_ON_EMPTY
    | feature::ACCESS_PLATFORM
    | feature::RING_RESET;

/// How often a program that was met in vain is met again (`REALIZE_CONNECTION_RETRIES`).
const RETRIES: usize = 3;

/// What a device asks of the program.
#[derive(Clone, Copy)]
pub struct RemoteTerms {
    /// What begins all that is told.
    pub name: &'static str,
    /// How many queues there are, and their entries.
    pub queues: u16,
    /// See [`RemoteTerms::queues`].
    pub queue_size: u16,
    /// The program has the device's configuration.
    pub has_config: bool,
    /// It is waited for at the start; when it has gone, it may come again.
    pub returns: bool,
}

/// The program while it is there.
#[derive(Clone)]
struct Link {
    user: Arc<VhostUser>,
    vhost: Arc<VhostDevice>,
}

/// The program, as a device has it.
#[derive(Default)]
pub struct VhostRemote {
    frontend: CharFrontend,
    terms: OnceLock<RemoteTerms>,
    /// The one that was there last.
    link: Mutex<Option<Link>>,
    /// Whether it serves the queues; held while it begins or ends.
    served: Mutex<bool>,
    /// It has hung up.
    gone: AtomicBool,
    /// What it notes of requests that it has begun with, for the one that comes after it.
    inflight: Mutex<Option<Inflight>>,
    handlers: OnceLock<Arc<Handlers>>,
}

/// Hears of the connection's end and of another's beginning.
struct Handlers(Box<dyn Fn(Event) + Send + Sync>);

impl CharHandlers for Handlers {
    fn event(&self, event: Event) {
        (self.0)(event);
    }
}

impl VhostRemote {
    /// Meets the program at the other end of the chardev that `property` names.
    ///
    /// # Errors
    /// For the user: no chardev, no connection, or what the program does wrong.
    pub fn connect(&self, terms: RemoteTerms, property: &Property<CharProperty>) -> Result<Arc<VhostUser>> {
        if !CharProperty::attach(property, &self.frontend)? {
            bail!("chardev is mandatory");
        }
        let _ = self.terms.set(terms);
        let met = if terms.returns { self.await_and_meet(&terms) } else { self.meet(&terms) };
        met.inspect_err(|_| self.frontend.detach())
    }

    /// Waits for a program that can be met (`vhost_user_blk_realize_connect`).
    fn await_and_meet(&self, terms: &RemoteTerms) -> Result<Arc<VhostUser>> {
        let told = |error: ChardevError| Error::new(error.to_string());
        self.frontend.wait_connected().map_err(told)?;
        for _ in 0..RETRIES {
            match self.greet(terms, self.stream()?) {
                Ok(user) => return Ok(user),
                Err(error) => util::error_report!("Reconnecting after error: {error}"),
            }
            self.frontend.connect_anew().map_err(told)?;
        }
        self.meet(terms)
    }

    fn meet(&self, terms: &RemoteTerms) -> Result<Arc<VhostUser>> {
        self.greet(terms, self.stream()?)
    }

    fn stream(&self) -> Result<OwnedFd> {
        let label = self.frontend.chardev().map(|chardev| chardev.label().to_owned()).unwrap_or_default();
        self.frontend.unix_stream().map_err(|error| {
            Error::new(match error.kind() {
                io::ErrorKind::Unsupported => format!("chardev '{label}' is not a unix socket"),
                _ => format!("chardev '{label}' is not connected"),
            })
        })
    }

    fn greet(&self, terms: &RemoteTerms, stream: OwnedFd) -> Result<Arc<VhostUser>> {
        let user = VhostUser::new(stream, terms.queues, 1, terms.has_config)
            .map_err(|error| Error::new(format!("{}: {error}", terms.name)))?;
        let vhost = Arc::new(VhostDevice::of_user(&user));
        *self.link.lock() = Some(Link { user: user.clone(), vhost });
        Ok(user)
    }

    /// The program, once it was met.
    pub fn user(&self) -> Option<Arc<VhostUser>> {
        self.link.lock().as_ref().map(|link| link.user.clone())
    }

    /// Adds the queues, and has the program serve nothing any more once it has hung up; `of` gives what a device has of
    /// it, which is connected.
    ///
    /// # Errors
    /// As [`VirtIODevice::add_queue`]; the chardev is let go then.
    pub fn attach<D>(device: &Arc<D>, of: fn(&D) -> &Self) -> Result<()>
    where
        D: Deref<Target = VirtIODevice> + Send + Sync + 'static,
    {
        let remote = of(device);
        let Some(terms) = remote.terms.get() else { return Ok(()) };
        for _ in 0..terms.queues {
            device.add_queue(terms.queue_size).inspect_err(|_| remote.detach())?;
        }
        let weak = Arc::downgrade(device);
        let changed = move |event| {
            if let Some(device) = weak.upgrade() {
                of(&device).connection_changed(event, &device);
            }
        };
        let handlers = remote.handlers.get_or_init(|| Arc::new(Handlers(Box::new(changed))));
        remote.frontend.set_handlers(Arc::downgrade(handlers) as Weak<dyn CharHandlers>);
        Ok(())
    }

    fn connection_changed(&self, event: Event, device: &VirtIODevice) {
        let Some(terms) = self.terms.get() else { return };
        match event {
            Event::Closed => self.gone.store(true, Ordering::Release),
            Event::Opened if terms.returns && self.gone.load(Ordering::Acquire) => {
                if let Err(error) = self.meet(terms) {
                    util::error_report!("{error}");
                    return self.frontend.disconnect();
                }
                self.gone.store(false, Ordering::Release);
            }
            _ => return,
        }
        self.serve(device);
    }

    /// Has the program begin or end, by what the driver and the machine are doing.
    pub fn serve(&self, device: &VirtIODevice) {
        let (Some(terms), Some(link)) = (self.terms.get(), self.link.lock().clone()) else { return };
        let mut served = self.served.lock();
        let wanted = device.is_running() && !self.gone.load(Ordering::Acquire);
        if wanted == *served {
            return;
        }
        *served = wanted;
        if !wanted {
            return link.vhost.stop(device);
        }
        let queues: Vec<_> = device.queues().into_iter().take_while(|queue| queue.is_ready()).collect();
        let mut inflight = self.inflight.lock();
        let tracked = link.user.track(&mut inflight, terms.queues, terms.queue_size);
        if let Err(error) = tracked.and_then(|()| link.vhost.start(device, &queues, 0, 0)) {
            *served = false;
            util::error_report!("{}: vhost start failed: {error}", terms.name);
            self.frontend.disconnect();
        }
    }

    /// The driver resets the device: the program ends, and nothing is left to be done.
    pub fn reset(&self, device: &VirtIODevice) {
        self.serve(device);
        *self.inflight.lock() = None;
    }

    /// Lets go of the chardev.
    pub fn detach(&self) {
        self.frontend.detach();
    }
}
