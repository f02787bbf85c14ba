//! The types of disks: what sets `scsi-hd` and `scsi-cd` apart.

use hw_block::conf::BlockConf;
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
        add_switch(class, "quirk_mode_page_apple_vendor", |d| &d.quirk_apple_vendor);
        add_switch(class, "quirk_mode_page_vendor_specific_apple", |d| &d.quirk_vendor_specific_apple);
        add_switch(class, "quirk_mode_sense_rom_use_dbd", |d| &d.quirk_rom_use_dbd);
        add_switch(class, "quirk_mode_page_truncated", |d| &d.quirk_truncated);
    }));
}

fn add_disk_properties(class: &mut Class) {
    add_switch(class, "removable", |d| &d.removable);
    add_switch(class, "dpofua", |d| &d.dpofua);
    add_switch(class, "quirk_mode_page_vendor_specific_apple", |d| &d.quirk_vendor_specific_apple);
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
    BlockConf::add_geometry_properties(class, |d: &ScsiDisk| &d.block);
}

fn add_switch(class: &mut Class, name: &'static str, cell: fn(&ScsiDisk) -> &Property<bool>) {
    class.add_property(field(name, "on/off", false, cell, &Property::new(false)));
}
