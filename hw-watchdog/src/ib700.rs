//! `ib700`: the watchdog of iBASE's single board computers, two ports without a register to read.
//!
//! Source: QEMU `hw/watchdog/wdt_ib700.c`; Linux `drivers/watchdog/ib700wdt.c`.

use std::sync::{Arc, OnceLock};

use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use qom::{Class, Object, Result};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::watchdog_perform_action;

/// A write of anything stops it.
const DISABLE_PORT: u32 = 0x441;
/// A write starts it: the low four bits choose the time.
const ENABLE_PORT: u32 = 0x443;
/// Each port is followed by one that does the same.
const PORTS: u32 = 2;
/// The longest time, in seconds.
const LONGEST: u64 = 30;

/// The device.
#[derive(Object)]
#[object(name = "ib700", parent = IsaDevice, class_init = class_init)]
pub struct Ib700 {
    parent: IsaDevice,
    timer: OnceLock<Timer>,
}
qom::type_init!(Ib700);

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.desc = "iBASE 700";
    device.category = Some(DeviceCategory::Watchdog);
    vmstate::register::<Ib700>(class);
}

/// The time that a value stands for: from 0, 30 seconds, two less for each more.
fn timeout_ns(value: u64) -> u64 {
    (LONGEST - 2 * (value & 0xf)) * 1_000_000_000
}

impl DeviceImpl for Ib700 {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let _ = self.timer.set(Timer::new(ClockType::Virtual, watchdog_perform_action));
        self.register_ioport(
            Arc::new(Port { device: self.clone(), enables: false }),
            "ib700",
            DISABLE_PORT,
            PORTS,
        )?;
        self.register_ioport(
            Arc::new(Port { device: self.clone(), enables: true }),
            "ib700",
            ENABLE_PORT,
            PORTS,
        )?;
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
        self.reset_hold();
    }

    fn reset_hold(&self) {
        self.timer.get().into_iter().for_each(Timer::del);
    }
}

impl VmState for Ib700 {
    /// When it fires, if it runs.
    type State = Option<u64>;

    fn save(&self) -> Option<Option<u64>> {
        Some(self.timer.get()?.expire_ns())
    }

    fn load(&self, expire_ns: Option<u64>) -> Result<()> {
        match (self.timer.get(), expire_ns) {
            (Some(timer), Some(expire_ns)) => timer.mod_ns(expire_ns),
            (Some(timer), None) => timer.del(),
            (None, _) => {}
        }
        Ok(())
    }
}

struct Port {
    device: Arc<Ib700>,
    enables: bool,
}

impl RegionOps for Port {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        u64::MAX
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        let Some(timer) = self.device.timer.get() else { return };
        match self.enables {
            true => timer.mod_ns(now_ns(ClockType::Virtual).saturating_add(timeout_ns(value))),
            false => timer.del(),
        }
    }

    fn rules(&self) -> AccessRules {
        // Of a word's bytes each is written to its own port.
        AccessRules::bytes(2).allow_unaligned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_four_bits_choose_the_time() {
        assert_eq!(
            [0, 1, 14, 15, 0xff, 0x30].map(|value| timeout_ns(value) / 1_000_000_000),
            [30, 28, 2, 0, 0, 30]
        );
    }
}
