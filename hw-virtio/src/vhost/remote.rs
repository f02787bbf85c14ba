//! A device whose queues another program serves at the other end of a chardev: what all such devices share.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use chardev::{CharFrontend, CharHandlers, Event};
use hw_core::CharProperty;
use parking_lot::Mutex;
use qom::{Error, Property, Result, bail};

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

/// The program, as a device has it.
#[derive(Default)]
pub struct VhostRemote {
    frontend: CharFrontend,
    user: OnceLock<(Arc<VhostUser>, VhostDevice)>,
    /// Whether it serves the queues; held while it begins or ends.
    served: Mutex<bool>,
    /// It has hung up.
    gone: AtomicBool,
    handlers: OnceLock<Arc<Handlers>>,
}

/// Hears of the connection's end.
struct Handlers(Box<dyn Fn() + Send + Sync>);

impl CharHandlers for Handlers {
    fn event(&self, event: Event) {
        if event == Event::Closed {
            (self.0)();
        }
    }
}

impl VhostRemote {
    /// Meets the program at the other end of the chardev that `property` names, for `queues` queues of a device whose
    /// configuration it has, if `has_config` says so. `name` begins what is told.
    ///
    /// # Errors
    /// For the user: no chardev, no connection, or what the program does wrong.
    pub fn connect(
        &self,
        name: &str,
        property: &Property<CharProperty>,
        queues: u16,
        has_config: bool,
    ) -> Result<Arc<VhostUser>> {
        if !CharProperty::attach(property, &self.frontend)? {
            bail!("chardev is mandatory");
        }
        self.meet(name, queues, has_config).inspect_err(|_| self.frontend.detach())
    }

    fn meet(&self, name: &str, queues: u16, has_config: bool) -> Result<Arc<VhostUser>> {
        let label = self.frontend.chardev().map(|chardev| chardev.label().to_owned()).unwrap_or_default();
        let stream = self.frontend.unix_stream().map_err(|error| {
            Error::new(match error.kind() {
                io::ErrorKind::Unsupported => format!("chardev '{label}' is not a unix socket"),
                _ => format!("chardev '{label}' is not connected"),
            })
        })?;
        let user = VhostUser::new(stream, queues, has_config)
            .map_err(|error| Error::new(format!("{name}: {error}")))?;
        let device = VhostDevice::of_user(&user);
        let _ = self.user.set((user.clone(), device));
        Ok(user)
    }

    /// The program, once it was met.
    pub fn user(&self) -> Option<&Arc<VhostUser>> {
        self.user.get().map(|(user, _)| user)
    }

    /// Adds the queues, `count` of `size` entries, and has the program serve nothing any more once it has hung up; `of`
    /// gives what a device has of it.
    ///
    /// # Errors
    /// As [`VirtIODevice::add_queue`]; the chardev is let go then.
    pub fn attach<D>(
        name: &'static str,
        device: &Arc<D>,
        of: fn(&D) -> &Self,
        count: u16,
        size: u16,
    ) -> Result<()>
    where
        D: Deref<Target = VirtIODevice> + Send + Sync + 'static,
    {
        let remote = of(device);
        for _ in 0..count {
            device.add_queue(size).inspect_err(|_| remote.detach())?;
        }
        let weak = Arc::downgrade(device);
        let hung_up = move || {
            if let Some(device) = weak.upgrade() {
                of(&device).gone.store(true, Ordering::Release);
                of(&device).serve(name, &device);
            }
        };
        let handlers = remote.handlers.get_or_init(|| Arc::new(Handlers(Box::new(hung_up))));
        remote.frontend.set_handlers(Arc::downgrade(handlers) as Weak<dyn CharHandlers>);
        Ok(())
    }

    /// Has the program begin or end, by what the driver and the machine are doing.
    pub fn serve(&self, name: &str, device: &VirtIODevice) {
        let Some((_, vhost)) = self.user.get() else { return };
        let mut served = self.served.lock();
        let wanted = device.is_running() && !self.gone.load(Ordering::Acquire);
        if wanted == *served {
            return;
        }
        *served = wanted;
        if !wanted {
            return vhost.stop(device);
        }
        let queues: Vec<_> = device.queues().into_iter().take_while(|queue| queue.is_ready()).collect();
        if let Err(error) = vhost.start(device, &queues, 0, 0) {
            *served = false;
            util::error_report!("{name}: vhost start failed: {error}");
            self.frontend.disconnect();
        }
    }

    /// Lets go of the chardev.
    pub fn detach(&self) {
        self.frontend.detach();
    }
}
