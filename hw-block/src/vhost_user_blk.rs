//! `vhost-user-blk`: a disk that another program serves over a unix socket (virtio 1.2, section 5.2).
//!
//! Source followed besides: QEMU `hw/block/vhost-user-blk.c`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use chardev::{CharFrontend, CharHandlers, Event};
use hw_core::boot_order::add_bootindex_property;
use hw_core::{CharProperty, DeviceCategory, DeviceClass, DeviceImpl};
use hw_pci::spec::CLASS_STORAGE_SCSI;
use hw_virtio::pci::{VECTORS_UNSPECIFIED, VirtioPciType, optimal_num_queues};
use hw_virtio::spec::{QUEUE_MAX, QUEUE_SIZE_MAX, Status, feature, id, pci::DEVICE_ID_BLOCK};
use hw_virtio::vhost::{VhostDevice, VhostUser};
use hw_virtio::{VirtIODevice, VirtQueue, VirtioDeviceImpl};
use parking_lot::Mutex;
use qom::{Class, Error, Object, Property, Result, bail};

use crate::virtio_blk::spec::{config, f};

/// The number of queues that leaves it to the transport.
const QUEUES_AUTO: u16 = u16::MAX;
/// Features that are the other program's to offer.
const ITS_FEATURES: u64 = f::SIZE_MAX
    | f::SEG_MAX
    | f::GEOMETRY
    | f::BLK_SIZE
    | f::TOPOLOGY
    | f::MQ
    | f::RO
    | f::FLUSH
    | f::CONFIG_WCE
    | f::DISCARD
    | f::WRITE_ZEROES
    | feature::VERSION_1
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::NOTIFY_ON_EMPTY
    | feature::ACCESS_PLATFORM
    | feature::RING_RESET;

/// The device.
#[derive(Object)]
#[object(name = "vhost-user-blk", parent = VirtIODevice, class_init = class_init)]
pub struct VhostUserBlk {
    parent: VirtIODevice,
    /// ID of a chardev to use as a backend
    #[property]
    chardev: Property<CharProperty>,
    #[property(name = "num-queues", default = QUEUES_AUTO)]
    num_queues: Property<u16>,
    #[property(name = "queue-size", default = 128)]
    queue_size: Property<u32>,
    /// on/off
    #[property(name = "config-wce", default = true)]
    config_wce: Property<bool>,
    /// on/off
    #[property(default = true)]
    discard: Property<bool>,
    /// on/off
    #[property(name = "write-zeroes", default = true)]
    write_zeroes: Property<bool>,
    frontend: CharFrontend,
    user: OnceLock<(Arc<VhostUser>, VhostDevice)>,
    config: Mutex<Vec<u8>>,
    /// Whether the program serves the queues; held while it begins or ends.
    served: Mutex<bool>,
    /// The program has hung up.
    gone: AtomicBool,
    handlers: OnceLock<Arc<Handlers>>,
}
qom::type_init!(VhostUserBlk);
qom::type_init!(fn register_pci);

fn class_init(class: &mut Class) {
    add_bootindex_property(class, "/disk@0,0");
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Storage);
}

fn register_pci() {
    VirtioPciType {
        name: "vhost-user-blk-pci",
        backend: "vhost-user-blk",
        device_id: DEVICE_ID_BLOCK,
        class_id: CLASS_STORAGE_SCSI,
        category: DeviceCategory::Storage,
        variants: true,
        ioeventfd: Some(true),
        vectors: Some(VECTORS_UNSPECIFIED),
        has_class: true,
        default_vectors: |backend| {
            backend.cast::<VhostUserBlk>().map_or(2, |blk| u32::from(blk.num_queues.get()) + 1)
        },
        prepare: Some(|_, backend| {
            if let Some(blk) = backend.cast::<VhostUserBlk>()
                && blk.num_queues.get() == QUEUES_AUTO
            {
                blk.num_queues.set(optimal_num_queues(0));
            }
            Ok(())
        }),
    }
    .register();
}

/// Hears of the connection's end.
struct Handlers(Weak<VhostUserBlk>);

impl CharHandlers for Handlers {
    fn event(&self, event: Event) {
        if event == Event::Closed
            && let Some(blk) = self.0.upgrade()
        {
            blk.gone.store(true, Ordering::Release);
            blk.serve();
        }
    }
}

impl VhostUserBlk {
    fn check(&self) -> Result<()> {
        match self.num_queues.get() {
            QUEUES_AUTO => self.num_queues.set(1),
            1..QUEUE_MAX => {}
            _ => bail!("invalid number of IO queues"),
        }
        let (size, most) = (self.queue_size.get(), u32::from(QUEUE_SIZE_MAX));
        if size == 0 {
            bail!("queue size must be non-zero");
        }
        if size > most {
            bail!("queue size must not exceed {most}");
        }
        Ok(())
    }

    /// Meets the program at the other end of the chardev, and asks it for the configuration.
    fn connect(&self, config_len: usize) -> Result<()> {
        if !CharProperty::attach(&self.chardev, &self.frontend)? {
            bail!("chardev is mandatory");
        }
        let label = self.frontend.chardev().map(|chardev| chardev.label().to_owned()).unwrap_or_default();
        let stream = self.frontend.unix_stream().map_err(|error| {
            Error::new(match error.kind() {
                std::io::ErrorKind::Unsupported => format!("chardev '{label}' is not a unix socket"),
                _ => format!("chardev '{label}' is not connected"),
            })
        })?;
        let failed = |error: std::io::Error| Error::new(format!("vhost-user-blk: {error}"));
        let user = VhostUser::new(stream, self.num_queues.get()).map_err(failed)?;
        *self.config.lock() = user.config(config_len).map_err(failed)?;
        let device = VhostDevice::of_user(&user);
        let _ = self.user.set((user, device));
        Ok(())
    }

    fn config_len(&self) -> usize {
        match (self.write_zeroes.get(), self.discard.get()) {
            (true, _) => config::LEN_WRITE_ZEROES,
            (_, true) => config::LEN_DISCARD,
            _ => config::LEN_MIN,
        }
    }

    /// Has the program begin or end, by what the driver and the machine are doing.
    fn serve(&self) {
        let Some((_, device)) = self.user.get() else { return };
        let mut served = self.served.lock();
        let wanted = self.is_running() && !self.gone.load(Ordering::Acquire);
        if wanted == *served {
            return;
        }
        *served = wanted;
        if !wanted {
            return device.stop(self);
        }
        let queues: Vec<_> = self.queues().into_iter().take_while(|queue| queue.is_ready()).collect();
        if let Err(error) = device.start(self, &queues, 0, 0) {
            *served = false;
            util::error_report!("vhost-user-blk: vhost start failed: {error}");
            self.frontend.disconnect();
        }
    }
}

impl DeviceImpl for VhostUserBlk {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.check()?;
        let config_len = self.config_len();
        self.connect(config_len).inspect_err(|_| self.frontend.detach())?;
        self.init(id::BLOCK, config_len);
        for _ in 0..self.num_queues.get() {
            // It was checked to fit.
            self.add_queue(self.queue_size.get() as u16).inspect_err(|_| self.frontend.detach())?;
        }
        let handlers = self.handlers.get_or_init(|| Arc::new(Handlers(Arc::downgrade(self))));
        self.frontend.set_handlers(Arc::downgrade(handlers) as Weak<dyn CharHandlers>);
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.frontend.detach();
    }
}

impl VirtioDeviceImpl for VhostUserBlk {
    /// The program hears of it itself.
    fn queue_notified(self: &Arc<Self>, _queue: &Arc<VirtQueue>) {}

    fn features(&self, offered: u64) -> Result<u64> {
        let always = f::SIZE_MAX | f::SEG_MAX | f::GEOMETRY | f::TOPOLOGY | f::BLK_SIZE | f::FLUSH | f::RO;
        let of = |on: bool, bit: u64| if on { bit } else { 0 };
        let all = offered
            | always
            | of(self.num_queues.get() > 1, f::MQ)
            | of(self.config_wce.get(), f::CONFIG_WCE)
            | of(self.discard.get(), f::DISCARD)
            | of(self.write_zeroes.get(), f::WRITE_ZEROES);
        let its = self.user.get().map_or(0, |(user, _)| user.features());
        Ok(all & (!ITS_FEATURES | its))
    }

    fn read_config(&self, config: &mut [u8]) {
        let known = self.config.lock();
        config.iter_mut().zip(&*known).for_each(|(to, from)| *to = *from);
        if let Some(place) = config.get_mut(config::NUM_QUEUES..config::NUM_QUEUES + 2) {
            place.copy_from_slice(&self.num_queues.get().to_le_bytes());
        }
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        let Some(wce) = config::WCE.checked_sub(offset).and_then(|at| data.get(at)) else { return };
        let Some((user, _)) = self.user.get() else { return };
        let mut known = self.config.lock();
        let Some(place) = known.get_mut(config::WCE).filter(|place| **place != *wce) else { return };
        match user.set_config(config::WCE as u32, &[*wce]) {
            Ok(()) => *place = *wce,
            Err(_) => util::error_report!("set device config space failed"),
        }
    }

    fn set_status(&self, _status: Status) {
        self.serve();
    }

    fn device_reset(&self) {
        self.serve();
    }
}
