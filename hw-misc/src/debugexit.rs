//! `isa-debug-exit`: a write ends the program with an odd exit status.
//!
//! Source: QEMU `hw/misc/debugexit.c`.

use std::sync::Arc;

use hw_core::runstate::{ShutdownCause, shutdown_request_with_code};
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use qom::{Class, Object, Property, Result};

/// The device.
#[derive(Object)]
#[object(name = "isa-debug-exit", parent = IsaDevice, class_init = class_init)]
pub struct IsaDebugExit {
    parent: IsaDevice,
    #[property(default = 0x501)]
    iobase: Property<u32>,
    #[property(default = 2)]
    iosize: Property<u32>,
}
qom::type_init!(IsaDebugExit);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
}

impl DeviceImpl for IsaDebugExit {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.register_ioport(self.clone(), "isa-debug-exit", self.iobase.get(), self.iosize.get())?;
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
    }
}

impl RegionOps for IsaDebugExit {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        // The system keeps the low eight bits of the status.
        shutdown_request_with_code(ShutdownCause::GuestShutdown, (value as i32) << 1 | 1);
        hw_core::runstate::leave_guest();
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 4)
    }
}
