//! `isa-debugcon`: each byte written to a port goes to a character device.
//!
//! Source: QEMU `hw/char/debugcon.c`.

use std::sync::Arc;

use chardev::CharFrontend;
use hw_core::{CharProperty, DeviceCategory, DeviceClass, DeviceImpl};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use qom::{Class, Object, Property, Result, bail};

/// The device.
#[derive(Object)]
#[object(name = "isa-debugcon", parent = IsaDevice, class_init = class_init)]
pub struct IsaDebugcon {
    parent: IsaDevice,
    #[property(default = 0xe9)]
    iobase: Property<u32>,
    /// What a read of the port gives, so that guests know the device is there
    #[property(default = 0xe9)]
    readback: Property<u32>,
    /// ID of a chardev to use as a backend
    #[property]
    chardev: Property<CharProperty>,
    frontend: CharFrontend,
}
qom::type_init!(IsaDebugcon);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
}

impl DeviceImpl for IsaDebugcon {
    fn realize(self: &Arc<Self>) -> Result<()> {
        if !CharProperty::attach(&self.chardev, &self.frontend)? {
            bail!("Can't create debugcon device, empty char device");
        }
        self.register_ioport(self.clone(), "isa-debugcon", self.iobase.get(), 1)?;
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
        self.frontend.detach();
    }
}

impl RegionOps for IsaDebugcon {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.readback.get().into()
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        self.frontend.write_all(&[value as u8]);
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 1)
    }
}
