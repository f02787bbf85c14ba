//! The types of disks: what sets `scsi-hd` and `scsi-cd` apart.

use hw_core::DeviceClass;
use qom::property::field;
use qom::{Class, Property, TypeInfo};

use super::{MAX_UNMAP, ScsiDisk};

/// What all drives of a type share.
#[derive(Clone, Copy, Default)]
pub struct DiskClass {
    /// A CD-ROM drive.
    pub is_rom: bool,
}

qom::type_init!(fn register);

fn register() {
    qom::type_register(TypeInfo::new("scsi-hd", "scsi-disk-base", |class| {
        class.get_mut::<DeviceClass>().desc = "virtual SCSI disk";
        add_disk_properties(class);
    }));
    qom::type_register(TypeInfo::new("scsi-cd", "scsi-disk-base", |class| {
        class.get_mut::<DeviceClass>().desc = "virtual SCSI CD-ROM";
        class.get_mut::<DiskClass>().is_rom = true;
    }));
}

fn add_disk_properties(class: &mut Class) {
    let off = Property::new(false);
    class.add_property(field::<ScsiDisk, _>("removable", "on/off", false, |d| &d.removable, &off));
    class.add_property(field::<ScsiDisk, _>("dpofua", "on/off", false, |d| &d.dpofua, &off));
    let most = Property::new(MAX_UNMAP);
    class.add_property(field::<ScsiDisk, _>(
        "max_unmap_size",
        "",
        false,
        |d| d.max_unmap_size.get_or_init(|| Property::new(MAX_UNMAP)),
        &most,
    ));
    let none = Property::new(0);
    class.add_property(field::<ScsiDisk, _>("rotation_rate", "", false, |d| &d.rotation_rate, &none));
    let none = Property::new(0);
    class.add_property(field::<ScsiDisk, _>("cyls", "", false, |d| &d.geometry[0], &none));
    class.add_property(field::<ScsiDisk, _>("heads", "", false, |d| &d.geometry[1], &none));
    class.add_property(field::<ScsiDisk, _>("secs", "", false, |d| &d.geometry[2], &none));
}
