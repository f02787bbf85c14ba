//! `vhost-user-blk`: a disk that another program serves over a unix socket (virtio 1.2, section 5.2).
//!
//! Source followed besides: QEMU `hw/block/vhost-user-blk.c`.

use std::sync::Arc;

use hw_core::boot_order::add_bootindex_property;
use hw_core::{CharProperty, DeviceCategory, DeviceClass, DeviceImpl};
use hw_pci::spec::CLASS_STORAGE_SCSI;
use hw_virtio::pci::{VECTORS_UNSPECIFIED, Variants, VirtioPciType, optimal_num_queues};
use hw_virtio::spec::{QUEUE_MAX, QUEUE_SIZE_MAX, Status, id, pci::DEVICE_ID_BLOCK};
use hw_virtio::vhost::{ITS_FEATURES, RemoteTerms, VhostRemote};
use hw_virtio::{VirtIODevice, VirtQueue, VirtioDeviceImpl};
use parking_lot::Mutex;
use qom::{Class, Error, Object, Property, Result, bail};

use crate::virtio_blk::spec::{config, f};

const NAME: &str = "vhost-user-blk";
/// The number of queues that leaves it to the transport.
const QUEUES_AUTO: u16 = u16::MAX;
/// Features of a disk that are the other program's to offer.
const ITS_DISK_FEATURES: u64 = f::SIZE_MAX
    | f::SEG_MAX
    | f::GEOMETRY
    | f::BLK_SIZE
    | f::TOPOLOGY
    | f::MQ
    | f::RO
    | f::FLUSH
    | f::CONFIG_WCE
    | f::DISCARD
    | f::WRITE_ZEROES;

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
    remote: VhostRemote,
    config: Mutex<Vec<u8>>,
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
        variants: Variants::All,
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

    fn config_len(&self) -> usize {
        match (self.write_zeroes.get(), self.discard.get()) {
            (true, _) => config::LEN_WRITE_ZEROES,
            (_, true) => config::LEN_DISCARD,
            _ => config::LEN_MIN,
        }
    }
}

impl DeviceImpl for VhostUserBlk {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.check()?;
        let config_len = self.config_len();
        // It was checked to fit.
        let (queues, queue_size) = (self.num_queues.get(), self.queue_size.get() as u16);
        let terms = RemoteTerms { name: NAME, queues, queue_size, has_config: true, returns: true };
        let user = self.remote.connect(terms, &self.chardev)?;
        let config = user.config(config_len).map_err(|error| Error::new(format!("{NAME}: {error}")));
        *self.config.lock() = config.inspect_err(|_| self.remote.detach())?;
        self.init(id::BLOCK, config_len);
        VhostRemote::attach(self, |blk| &blk.remote)
    }

    fn unrealize(self: &Arc<Self>) {
        self.remote.detach();
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
        let its = self.remote.user().map_or(0, |user| user.features());
        Ok(all & (!(ITS_FEATURES | ITS_DISK_FEATURES) | its))
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
        let Some(user) = self.remote.user() else { return };
        let mut known = self.config.lock();
        let Some(place) = known.get_mut(config::WCE).filter(|place| **place != *wce) else { return };
        match user.set_config(config::WCE as u32, &[*wce]) {
            Ok(()) => *place = *wce,
            Err(_) => util::error_report!("set device config space failed"),
        }
    }

    fn set_status(&self, _status: Status) {
        self.remote.serve(self);
    }

    fn device_reset(&self) {
        self.remote.reset(self);
    }
}
