//! The bus, and what all devices on it have: an address.
//!
//! Source: QEMU `hw/scsi/scsi-bus.c`.

use std::sync::{Arc, OnceLock, Weak};

use hw_core::boot_order::add_bootindex_property;
use hw_core::{Bus, BusClass, Device, DeviceCategory, DeviceClass, DeviceImpl, HotplugHandler, qbus_new};
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object, Property, Result, bail};

use crate::device::ScsiDisk;
use crate::sense::Sense;

/// A part of an address that the user left open.
const ANY: u32 = u32::MAX;

/// What a host adapter's bus can have.
#[derive(Clone, Copy, Debug)]
pub struct ScsiBusLimits {
    /// Last channel.
    pub max_channel: u32,
    /// Last target.
    pub max_target: u32,
    /// Last logical unit.
    pub max_lun: u32,
    /// The adapter queues commands.
    pub queues_commands: bool,
}

/// A host adapter, as its devices see it.
pub trait ScsiHost: Send + Sync {
    /// Something about a device changed, which its unit attention tells, too.
    fn changed(&self, device: &ScsiDisk, sense: Sense) {
        let _ = (device, sense);
    }
}

/// The bus.
#[derive(Object)]
#[object(name = "SCSI", parent = Bus, class_init = bus_class_init)]
pub struct ScsiBus {
    parent: Bus,
    limits: OnceLock<ScsiBusLimits>,
    host: OnceLock<Weak<dyn ScsiHost>>,
    /// What the guest must hear of, from whichever device it asks first.
    unit_attention: Mutex<Option<Sense>>,
}

/// The root part of every device on it.
#[derive(Object)]
#[object(name = "scsi-device", parent = Device, abstract, class_init = device_class_init)]
pub struct ScsiDevice {
    parent: Device,
    #[property]
    channel: Property<u32>,
    #[property(name = "scsi-id", default = ANY)]
    scsi_id: Property<u32>,
    #[property(default = ANY)]
    lun: Property<u32>,
}

qom::type_init!(ScsiBus, ScsiDevice);

impl<T: DeviceImpl> ClassInit<T> for ScsiDevice {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
    }
}

fn bus_class_init(class: &mut Class) {
    class.get_mut::<BusClass>().fw_dev_path = Some(fw_dev_path);
}

/// Where the disk is (`scsibus_get_fw_dev_path`).
fn fw_dev_path(object: &Arc<dyn Object>) -> String {
    let Some(device) = object.cast::<ScsiDevice>() else { return String::new() };
    format!("channel@{:x}/disk@{:x},{:x}", device.channel(), device.target(), device.lun())
}

fn device_class_init(class: &mut Class) {
    add_bootindex_property(class, "");
    let device = class.get_mut::<DeviceClass>();
    device.bus_type = Some("SCSI");
    device.category = Some(DeviceCategory::Storage);
}

impl ScsiBus {
    /// A bus of `owner`'s (`scsi_bus_init_named`).
    ///
    /// # Errors
    /// When its name is taken.
    pub fn new(
        owner: &Arc<dyn Object>,
        name: Option<&str>,
        limits: ScsiBusLimits,
        host: Weak<dyn ScsiHost>,
        hotplug: Arc<dyn HotplugHandler>,
    ) -> Result<Arc<ScsiBus>> {
        let Some(bus) = qom::downcast::<ScsiBus>(qbus_new("SCSI", Some(owner), name)?) else {
            bail!("'SCSI' is not a bus")
        };
        let _ = bus.limits.set(limits);
        let _ = bus.host.set(host);
        bus.set_hotplug_handler(hotplug);
        Ok(bus)
    }

    /// What it can have.
    pub fn limits(&self) -> ScsiBusLimits {
        let nothing = ScsiBusLimits { max_channel: 0, max_target: 0, max_lun: 0, queues_commands: false };
        self.limits.get().copied().unwrap_or(nothing)
    }

    pub(crate) fn host(&self) -> Option<Arc<dyn ScsiHost>> {
        self.host.get()?.upgrade()
    }

    pub(crate) fn unit_attention(&self) -> &Mutex<Option<Sense>> {
        &self.unit_attention
    }

    /// The guest must hear of something, from whichever device it asks first (`scsi_bus_set_ua`).
    pub fn attend(&self, sense: Sense) {
        sense.attend(&mut self.unit_attention.lock());
    }

    /// All devices, in order of plugging.
    pub fn devices(&self) -> impl Iterator<Item = Arc<ScsiDisk>> {
        self.children().into_iter().filter_map(qom::downcast::<ScsiDisk>)
    }

    /// The device at an address, or another one of the same target, which answers for it (`scsi_device_find`).
    pub fn find(&self, channel: u32, target: u32, lun: u32) -> Option<Arc<ScsiDisk>> {
        let mut found: Option<Arc<ScsiDisk>> = None;
        for device in self.devices().filter(|d| d.channel() == channel && d.target() == target) {
            if device.lun() == lun {
                found = Some(device);
                break;
            }
            found.get_or_insert(device);
        }
        found.filter(|device| device.is_realized())
    }

    /// The device that has an address, alive or not.
    fn owner_of(&self, channel: u32, target: u32, lun: u32, but: &ScsiDevice) -> Option<Arc<ScsiDisk>> {
        self.devices().find(|device| {
            let other: &ScsiDevice = device;
            !std::ptr::eq(other, but)
                && (other.channel(), other.target(), other.lun()) == (channel, target, lun)
        })
    }
}

impl ScsiDevice {
    /// Channel.
    pub fn channel(&self) -> u32 {
        self.channel.get()
    }

    /// Target.
    pub fn target(&self) -> u32 {
        self.scsi_id.get()
    }

    /// Logical unit.
    pub fn lun(&self) -> u32 {
        self.lun.get()
    }

    /// The bus that it sits on.
    pub fn scsi_bus(&self) -> Option<Arc<ScsiBus>> {
        self.bus::<ScsiBus>()
    }

    /// Checks the address, and fills in what the user left open (`scsi_bus_check_address`, `scsi_qdev_realize`).
    pub(crate) fn take_address(&self, bus: &ScsiBus) -> Result<()> {
        let limits = bus.limits();
        let (channel, target, lun) = (self.channel(), self.target(), self.lun());
        if channel > limits.max_channel {
            bail!("bad scsi channel id: {channel}");
        }
        if target != ANY && target > limits.max_target {
            bail!("bad scsi device id: {target}");
        }
        if lun != ANY && lun > limits.max_lun {
            bail!("bad scsi device lun: {lun}");
        }
        let taken = |target, lun| bus.owner_of(channel, target, lun, self);
        if target == ANY {
            let lun = if lun == ANY { 0 } else { lun };
            let Some(free) = (0..=limits.max_target).find(|target| taken(*target, lun).is_none()) else {
                bail!("no free target")
            };
            self.scsi_id.set(free);
            self.lun.set(lun);
        } else if lun == ANY {
            let Some(free) = (0..=limits.max_lun).find(|lun| taken(target, *lun).is_none()) else {
                bail!("no free lun")
            };
            self.lun.set(free);
        } else if let Some(owner) = taken(target, lun) {
            bail!("lun already used by '{}'", owner.id().unwrap_or("(null)"));
        }
        Ok(())
    }
}
