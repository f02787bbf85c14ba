//! `i6300esb`: the PCI function around [`I6300esb`].
//!
//! Source: QEMU `hw/watchdog/wdt_i6300esb.c`.

use std::sync::{Arc, OnceLock};

use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_pci::spec::{CLASS_SYSTEM_OTHER, VENDOR_ID_INTEL};
use hw_pci::{BarKind, PciDevice, PciDeviceClass, PciDeviceImpl};
use memory::{AccessLimits, AccessRules, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Object, Result};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::i6300esb::{I6300esb, spec};
use crate::watchdog_perform_action;

/// The device.
#[derive(Object)]
#[object(name = "i6300esb", parent = PciDevice, class_init = class_init)]
pub struct I6300esbDevice {
    parent: PciDevice,
    chip: Mutex<I6300esb>,
    timer: OnceLock<Timer>,
}
qom::type_init!(I6300esbDevice);

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.desc = "Intel 6300ESB";
    device.category = Some(DeviceCategory::Watchdog);
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.device_id) = (VENDOR_ID_INTEL, spec::DEVICE_ID);
    pci.class_id = CLASS_SYSTEM_OTHER;
    vmstate::register::<I6300esbDevice>(class);
}

impl I6300esbDevice {
    fn change<R>(&self, f: impl FnOnce(&mut I6300esb, u64) -> R) -> R {
        let mut chip = self.chip.lock();
        let result = f(&mut chip, now_ns(ClockType::Virtual));
        // Under the chip's lock, so that an older deadline does not come last.
        match (self.timer.get(), chip.next_deadline()) {
            (Some(timer), Some(deadline)) => timer.mod_ns(deadline),
            (Some(timer), None) => timer.del(),
            (None, _) => {}
        }
        result
    }
}

impl DeviceImpl for I6300esbDevice {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let this = Arc::downgrade(self);
        let timer = Timer::new(ClockType::Virtual, move || {
            if this.upgrade().is_some_and(|this| this.change(I6300esb::expire)) {
                watchdog_perform_action();
            }
        });
        let _ = self.timer.set(timer);
        let region =
            MemoryRegion::io("i6300esb", spec::MEMORY_SIZE, Arc::new(Registers(Arc::downgrade(self))));
        self.register_bar(0, BarKind::Memory32, &region);
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.timer.get().into_iter().for_each(Timer::del);
    }

    fn reset_hold(&self) {
        self.change(|chip, _| chip.reset());
    }
}

impl PciDeviceImpl for I6300esbDevice {
    fn config_read_own(&self, at: usize, size: u8) -> Option<u32> {
        self.chip.lock().config_read(at, size)
    }

    fn config_write_own(&self, at: usize, value: u32, size: u8) -> bool {
        self.change(|chip, now| chip.config_write(at, value, size, now))
    }
}

impl VmState for I6300esbDevice {
    type State = I6300esb;

    fn save(&self) -> Option<I6300esb> {
        Some(self.chip.lock().clone())
    }

    fn load(&self, state: I6300esb) -> Result<()> {
        self.change(|chip, _| *chip = state);
        Ok(())
    }
}

/// The registers in memory; held weakly, as the device holds the region.
struct Registers(std::sync::Weak<I6300esbDevice>);

impl RegionOps for Registers {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.0.upgrade().map_or(0, |device| device.chip.lock().read(offset, size)).into()
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        if let Some(device) = self.0.upgrade() {
            device.change(|chip, now| chip.write(offset, value as u32, size, now));
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules { valid: AccessLimits::new(1, 4), ..AccessRules::sizes(1, 4) }
    }
}
