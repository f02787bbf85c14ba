//! `ide-hd` and `ide-cd`: the devices of a channel. Source: QEMU `hw/ide/qdev.c`.

use std::sync::{Arc, OnceLock, Weak};

use block::BlockBackend;
use block::backend::BlockDevice;
use block::drive::DriveInfo;
use hw_block::conf::{self, BlockConf};
use hw_block::geometry::{Geometry, Translation};
use hw_core::boot_order::{add_boot_device_lchs, add_bootindex_property_of, del_boot_device_lchs};
use hw_core::{Device, DeviceCategory, DeviceClass, DeviceImpl, DriveProperty, qdev_new, qdev_realize};
use qom::property::field;
use qom::{Class, ClassInit, Object, Property, Result, TypeInfo, bail};

use crate::bus::{IdeBus, MAX_UNITS};
use crate::drive::{Drive, Kind, Medium};

/// The place that the user left open.
const ANY_UNIT: u32 = u32::MAX;
/// The firmware's version where nothing is said (`qemu_hw_version`).
const VERSION: &str = "2.5+";
/// The only size of logical blocks, and of what is unmapped, bytes.
const BLOCK: u32 = 512;
/// Characters of a serial number, the firmware's version and the model.
const SERIAL_LEN: usize = 20;
const VERSION_LEN: usize = 8;
const MODEL_LEN: usize = 40;

/// Most cylinders, heads and sectors.
const MOST_CHS: [u32; 3] = [65535, 16, 255];

qom::property_enum! {
    /// How a BIOS's addresses are translated to the disk's.
    pub enum BiosAtaTranslation: "BiosAtaTranslation" {
        Auto = "auto", None = "none", Lba = "lba", Large = "large", Rechs = "rechs",
    }
}

#[allow(clippy::derivable_impls)] // The macro declares it.
impl Default for BiosAtaTranslation {
    fn default() -> Self {
        BiosAtaTranslation::Auto
    }
}

/// What all devices of a type share.
#[derive(Clone, Copy, Default)]
pub struct IdeDeviceClass {
    /// A CD-ROM drive.
    pub is_cd: bool,
}

/// A device on the bus.
#[derive(Object)]
#[object(name = "ide-device", parent = Device, abstract, class_init = class_init)]
pub struct IdeDevice {
    parent: Device,
    #[property(default = ANY_UNIT)]
    unit: Property<u32>,
    // Those of its types: see `add_properties`.
    block: BlockConf,
    ver: Property<Option<String>>,
    wwn: Property<u64>,
    serial: Property<Option<String>>,
    model: Property<Option<String>>,
    // Properties of disks only.
    translation: OnceLock<Property<BiosAtaTranslation>>,
    rotation_rate: Property<u16>,

    backend: OnceLock<Arc<BlockBackend>>,
    /// What a disk's geometry came to be.
    settled: OnceLock<(Geometry, BiosAtaTranslation)>,
}
qom::type_init!(IdeDevice);
qom::type_init!(fn register);

fn class_init(class: &mut Class) {
    <Device as ClassInit<IdeDevice>>::class_init(class);
    add_bootindex_property_of(class, |device| device.cast::<IdeDevice>().map_or("", IdeDevice::boot_suffix));
    let device = class.get_mut::<DeviceClass>();
    device.bus_type = Some("IDE");
    device.category = Some(DeviceCategory::Storage);
    device.fw_name = Some("drive");
}

fn register() {
    qom::type_register(TypeInfo::new("ide-hd", "ide-device", |class| {
        class.get_mut::<DeviceClass>().desc = "virtual IDE disk";
        add_properties(class);
        add_disk_properties(class);
    }));
    qom::type_register(TypeInfo::new("ide-cd", "ide-device", |class| {
        class.get_mut::<DeviceClass>().desc = "virtual IDE CD-ROM";
        add_properties(class);
        class.get_mut::<IdeDeviceClass>().is_cd = true;
    }));
}

/// What disks and CD-ROM drives have, in QEMU's order: what of it is the base's comes last (`DEFINE_IDE_DEV_PROPERTIES`).
fn add_properties(class: &mut Class) {
    BlockConf::add_properties(class, |device: &IdeDevice| &device.block);
    BlockConf::add_error_properties(class, |device: &IdeDevice| &device.block);
    let (text, none) = (Property::new(None), Property::new(0));
    class.add_property(field::<IdeDevice, _>("ver", "", false, |d| &d.ver, &text));
    class.add_property(field::<IdeDevice, _>("wwn", "", false, |d| &d.wwn, &none));
    class.add_property(field::<IdeDevice, _>("serial", "", false, |d| &d.serial, &text));
    class.add_property(field::<IdeDevice, _>("model", "", false, |d| &d.model, &text));
}

fn add_disk_properties(class: &mut Class) {
    BlockConf::add_geometry_properties(class, |device: &IdeDevice| &device.block);
    let auto = Property::new(BiosAtaTranslation::Auto);
    class.add_property(field::<IdeDevice, _>(
        "bios-chs-trans",
        "Logical CHS translation algorithm, auto/none/lba/large/rechs",
        false,
        |d| d.translation.get_or_init(Property::default),
        &auto,
    ));
    let none = Property::new(0);
    class.add_property(field::<IdeDevice, _>("rotation_rate", "", false, |d| &d.rotation_rate, &none));
}

/// Makes the device of a drive's (`ide_create_drive`).
///
/// # Errors
/// For the user.
pub fn create_drive(bus: &Arc<IdeBus>, unit: u32, drive: &DriveInfo) -> Result<()> {
    let device = qdev_new(if drive.is_cdrom { "ide-cd" } else { "ide-hd" })?;
    device.property_set_value("unit", unit)?;
    device.property_set_str("drive", drive.backend.name())?;
    let bus: Arc<dyn Object> = bus.clone();
    qdev_realize(&device, Some(&bus))
}

/// A backend as a device reads from it.
struct BackendMedium(Arc<BlockBackend>);

impl Medium for BackendMedium {
    fn sectors(&self) -> u64 {
        self.0.node().and_then(|node| node.length().ok()).unwrap_or(0) / conf::SECTOR
    }

    fn is_inserted(&self) -> bool {
        self.0.node().is_some()
    }

    fn write_cache(&self) -> bool {
        self.0.write_cache()
    }

    fn set_write_cache(&self, on: bool) {
        self.0.set_write_cache(on);
    }
}

fn shortened(text: &str, len: usize) -> String {
    text.chars().take(len).collect()
}

impl IdeDevice {
    fn is_cd(&self) -> bool {
        self.class().get::<IdeDeviceClass>().is_some_and(|class| class.is_cd)
    }

    fn ide_bus(&self) -> Option<Arc<IdeBus>> {
        self.bus::<IdeBus>()
    }

    /// Its place.
    pub fn unit(&self) -> u32 {
        self.unit.get()
    }

    /// A disk's geometry and how a BIOS translates it; `None` for CD-ROM drives.
    pub fn settled_geometry(&self) -> Option<(Geometry, BiosAtaTranslation)> {
        self.settled.get().copied()
    }

    /// What its OpenFirmware path has behind the device.
    fn boot_suffix(&self) -> &'static str {
        if self.unit.get() == 1 { "/disk@1" } else { "/disk@0" }
    }

    /// The translation that the user chose, or the one that fits.
    fn chosen_translation(&self, fitting: Translation) -> BiosAtaTranslation {
        match (self.translation.get().map(Property::get).unwrap_or_default(), fitting) {
            (BiosAtaTranslation::Auto, Translation::None) => BiosAtaTranslation::None,
            (BiosAtaTranslation::Auto, Translation::Lba) => BiosAtaTranslation::Lba,
            (BiosAtaTranslation::Auto, Translation::Large) => BiosAtaTranslation::Large,
            (chosen, _) => chosen,
        }
    }

    /// Checks the place, or takes the one that is free (`ide_qdev_realize`).
    fn take_unit(&self, bus: &IdeBus) -> Result<usize> {
        let is_taken = |unit: u32| bus.look(|channel| channel.drive(unit as usize).is_some());
        let unit = match self.unit.get() {
            ANY_UNIT => u32::from(is_taken(0)),
            unit => unit,
        };
        if unit >= MAX_UNITS {
            bail!("Can't create IDE unit {}, bus supports only {MAX_UNITS} units", unit as i32);
        }
        if is_taken(unit) {
            bail!("IDE unit {unit} is in use");
        }
        self.unit.set(unit);
        Ok(unit as usize)
    }

    fn take_backend(self: &Arc<Self>) -> Result<Arc<BlockBackend>> {
        if self.block.drive.get().backend().is_none() {
            match self.is_cd() {
                true => self.block.drive.set(DriveProperty::empty()),
                false => bail!("No drive specified"),
            }
        }
        let device: Weak<dyn BlockDevice> = Arc::downgrade(self) as Weak<dyn BlockDevice>;
        DriveProperty::attach(&self.block.drive, device)
    }

    /// The device as the channel has it; the geometry is settled then (`ide_dev_initfn`, `ide_init_drive`).
    fn make(&self, backend: &Arc<BlockBackend>) -> Result<Drive> {
        let is_cd = self.is_cd();
        let sizes = self.block.sizes(Some(backend))?;
        let granularity = sizes.discard.unwrap_or(BLOCK);
        if ![0, BLOCK].contains(&granularity) {
            bail!("discard_granularity must be 512 for ide");
        }
        self.block.show_discard(granularity);
        if sizes.logical != BLOCK {
            bail!("logical_block_size must be 512 for IDE");
        }
        let mut geometry = (0, 0, 0);
        if !is_cd {
            let found = self.block.geometry(backend, MOST_CHS)?;
            geometry = (found.cylinders, found.heads, found.sectors);
            let _ = self.settled.set((found, self.chosen_translation(found.translation)));
        }
        self.block.apply(backend, !is_cd)?;
        if !is_cd && backend.node().is_some_and(|node| node.is_read_only()) {
            bail!("Block node is read-only");
        }
        let or = |text: &Property<Option<String>>, default: &str, len| {
            shortened(text.get().as_deref().unwrap_or(default), len)
        };
        let serial = self.default_serial();
        let drive = Drive {
            kind: if is_cd { Kind::Cd } else { Kind::Disk },
            serial: or(&self.serial, &serial, SERIAL_LEN),
            model: or(&self.model, if is_cd { "QEMU DVD-ROM" } else { "QEMU HARDDISK" }, MODEL_LEN),
            version: or(&self.ver, VERSION, VERSION_LEN),
            wwn: self.wwn.get(),
            geometry,
            trims: granularity != 0,
            physical_exponent: (sizes.physical / sizes.logical).ilog2() as u16,
            rotation_rate: self.rotation_rate.get(),
            medium: Arc::new(BackendMedium(backend.clone())),
        };
        // They show what they came to be.
        let fill = |text: &Property<Option<String>>, value: &str| {
            if text.get().is_none() {
                text.set(Some(value.to_owned()));
            }
        };
        fill(&self.ver, &drive.version);
        fill(&self.serial, &drive.serial);
        Ok(drive)
    }

    /// The serial number of a place: they count through all places of a PC.
    fn default_serial(&self) -> String {
        let first = self.ide_bus().map_or(0, |bus| bus.first_serial());
        format!("QM{:05}", first + self.unit.get())
    }

    fn id_or_path(&self) -> String {
        match Device::id(self) {
            Some(id) => id.to_owned(),
            None => self.this().canonical_path().unwrap_or_default(),
        }
    }
}

impl DeviceImpl for IdeDevice {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let Some(bus) = self.ide_bus() else { bail!("an IDE device needs an IDE bus") };
        let unit = self.take_unit(&bus)?;
        let backend = self.take_backend()?;
        let drive = self.make(&backend).inspect_err(|_| backend.detach())?;
        bus.attach(unit, drive, backend.clone());
        let _ = self.backend.set(backend);
        add_boot_device_lchs(&self.this(), self.boot_suffix(), self.block.logical_geometry());
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        if let (Some(bus), Some(backend)) = (self.ide_bus(), self.backend.get()) {
            del_boot_device_lchs(&**self);
            bus.quiesce();
            bus.detach(self.unit.get() as usize);
            backend.detach();
        }
    }
}

impl BlockDevice for IdeDevice {
    fn id(&self) -> String {
        self.id_or_path()
    }

    fn is_removable(&self) -> bool {
        self.is_cd()
    }

    fn change_media(&self, load: bool) {
        if let Some(bus) = self.ide_bus() {
            bus.change(|channel| channel.change_media(self.unit.get() as usize, load));
        }
    }

    fn is_tray_open(&self) -> Option<bool> {
        let bus = self.ide_bus().filter(|_| self.is_cd())?;
        Some(bus.look(|channel| channel.tray(self.unit.get() as usize).0))
    }

    fn is_medium_locked(&self) -> bool {
        self.ide_bus().is_some_and(|bus| bus.look(|channel| channel.tray(self.unit.get() as usize).1))
    }

    fn eject_request(&self, force: bool) {
        if let Some(bus) = self.ide_bus() {
            bus.change(|channel| channel.eject_request(self.unit.get() as usize, force));
        }
    }

    fn resized(&self) {
        if let Some(bus) = self.ide_bus().filter(|_| !self.is_cd()) {
            bus.change(|channel| channel.resized(self.unit.get() as usize));
        }
    }
}
