//! `vhost-user-fs`: a folder that another program shares over a unix socket (virtio 1.2, section 5.11).
//!
//! Source followed besides: QEMU `hw/virtio/vhost-user-fs.c`.

use std::sync::Arc;

use hw_core::boot_order::add_bootindex_property;
use hw_core::{CharProperty, DeviceCategory, DeviceClass, DeviceImpl};
use hw_pci::spec::CLASS_STORAGE_OTHER;
use qom::{Class, Object, Property, PropertyType, Result, bail};

use crate::pci::{VECTORS_UNSPECIFIED, Variants, VirtioPciType};
use crate::queue::VirtQueue;
use crate::spec::{QUEUE_MAX, QUEUE_SIZE_MAX, Status, id};
use crate::vhost::{ITS_FEATURES, RemoteTerms, VhostRemote};
use crate::{VirtIODevice, VirtioDeviceImpl};

const NAME: &str = "vhost-user-fs";
/// Bytes of the tag, and of the whole configuration: the tag, and the number of request queues.
const TAG_LEN: usize = 36;
const CONFIG_LEN: usize = 40;

/// The device.
#[derive(Object)]
#[object(name = "vhost-user-fs-device", parent = VirtIODevice, class_init = class_init)]
pub struct VhostUserFs {
    parent: VirtIODevice,
    /// ID of a chardev to use as a backend
    #[property]
    chardev: Property<CharProperty>,
    /// What the guest is told as the folder's name, at most 36 bytes
    #[property]
    tag: Property<Option<String>>,
    #[property(name = "num-request-queues", default = 1)]
    num_request_queues: Property<u16>,
    #[property(name = "queue-size", default = 128)]
    queue_size: Property<u16>,
    remote: VhostRemote,
}
qom::type_init!(VhostUserFs);
qom::type_init!(fn register_pci);

fn class_init(class: &mut Class) {
    add_bootindex_property(class, "/filesystem@0");
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Storage);
}

fn register_pci() {
    VirtioPciType {
        name: "vhost-user-fs-pci",
        backend: "vhost-user-fs-device",
        device_id: 0,
        class_id: CLASS_STORAGE_OTHER,
        category: DeviceCategory::Storage,
        variants: Variants::None,
        ioeventfd: Some(true),
        vectors: Some(VECTORS_UNSPECIFIED),
        has_class: false,
        // One for changes of the configuration, and one for requests that overtake others.
        default_vectors: |backend| {
            backend.cast::<VhostUserFs>().map_or(3, |fs| u32::from(fs.num_request_queues.get()) + 2)
        },
        prepare: Some(|proxy, _| {
            proxy.force_virtio_1();
            Ok(())
        }),
    }
    .register();
}

impl VhostUserFs {
    fn check(&self) -> Result<()> {
        if self.chardev.get().to_value() == "" {
            bail!("missing chardev");
        }
        let tag = self.tag.get();
        match tag.as_deref() {
            None => bail!("missing tag property"),
            Some("") => bail!("tag property cannot be empty"),
            Some(tag) if tag.len() > TAG_LEN => bail!("tag property must be {TAG_LEN} bytes or less"),
            Some(_) => {}
        }
        let (queues, size) = (self.num_request_queues.get(), self.queue_size.get());
        if queues == 0 {
            bail!("num-request-queues property must be larger than 0");
        }
        if queues >= QUEUE_MAX {
            bail!("num-request-queues property must be smaller than {QUEUE_MAX}");
        }
        if !size.is_power_of_two() {
            bail!("queue-size property must be a power of 2");
        }
        if size > QUEUE_SIZE_MAX {
            bail!("queue-size property must be {QUEUE_SIZE_MAX} or smaller");
        }
        Ok(())
    }
}

impl DeviceImpl for VhostUserFs {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.check()?;
        let queues = self.num_request_queues.get() + 1;
        let queue_size = self.queue_size.get();
        let terms = RemoteTerms { name: NAME, queues, queue_size, has_config: false, returns: false };
        self.remote.connect(terms, &self.chardev)?;
        self.init(id::FS, CONFIG_LEN);
        VhostRemote::attach(self, |fs| &fs.remote)
    }

    fn unrealize(self: &Arc<Self>) {
        self.remote.detach();
    }
}

impl VirtioDeviceImpl for VhostUserFs {
    /// The program hears of it itself.
    fn queue_notified(self: &Arc<Self>, _queue: &Arc<VirtQueue>) {}

    fn features(&self, offered: u64) -> Result<u64> {
        let its = self.remote.user().map_or(0, |user| user.features());
        Ok(offered & (!ITS_FEATURES | its))
    }

    fn read_config(&self, config: &mut [u8]) {
        let tag = self.tag.get().unwrap_or_default();
        config.iter_mut().zip(tag.as_bytes()).for_each(|(to, from)| *to = *from);
        if let Some(place) = config.get_mut(TAG_LEN..CONFIG_LEN) {
            place.copy_from_slice(&u32::from(self.num_request_queues.get()).to_le_bytes());
        }
    }

    fn set_status(&self, _status: Status) {
        self.remote.serve(self);
    }

    fn device_reset(&self) {
        self.remote.reset(self);
    }
}
