//! The device around [`Hpet`]: registers at 0xfed00000, lines to the interrupt controllers.
//!
//! Source: QEMU `hw/timer/hpet.c`.

use std::sync::{Arc, OnceLock};

use hw_core::accel::{MsiMessage, accel_irqchip};
use hw_core::{DeviceClass, DeviceImpl, IrqPin, SysBusDevice, VmState, vmstate};
use memory::{AccessRules, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, bail};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::hpet::spec::REGISTER_SPACE;
use crate::hpet::{Hpet, HpetAction, LegacyInput};

/// Where the registers are (`HPET_BASE`).
pub const HPET_BASE: u64 = 0xfed0_0000;
/// Number of lines (`HPET_NUM_IRQ_ROUTES`).
const NUM_IRQ_ROUTES: usize = 32;

/// The device.
#[derive(Object)]
#[object(name = "hpet", parent = SysBusDevice, class_init = class_init)]
pub struct HpetDevice {
    parent: SysBusDevice,
    /// Number of comparators
    #[property(default = 3)]
    timers: Property<u8>,
    /// I/O APIC inputs the comparators can reach
    #[property]
    hpet_intcap: Property<u32>,
    /// Whether comparators can send messages
    #[property]
    msi: Property<bool>,
    chip: OnceLock<Mutex<Hpet>>,
    timer: OnceLock<Timer>,
    lines: OnceLock<Vec<Arc<IrqPin>>>,
    pit_enabled: Arc<IrqPin>,
}
qom::type_init!(HpetDevice);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().desc = "High precision event timer";
    vmstate::register::<HpetDevice>(class);
}

impl HpetDevice {
    fn change(&self, f: impl FnOnce(&mut Hpet) -> Vec<HpetAction>) {
        let Some(chip) = self.chip.get() else { return };
        let actions = {
            let mut chip = chip.lock();
            let actions = f(&mut chip);
            // Under the chip's lock, so that an older deadline does not come last.
            match (self.timer.get(), chip.next_deadline()) {
                (Some(timer), Some(deadline)) => timer.mod_ns(deadline),
                (Some(timer), None) => timer.del(),
                (None, _) => {}
            }
            actions
        };
        actions.into_iter().for_each(|action| self.carry_out(chip, action));
    }

    fn carry_out(&self, chip: &Mutex<Hpet>, action: HpetAction) {
        let line = |n: u8| self.lines.get().and_then(|l| l.get(usize::from(n)));
        match action {
            // Another thread may have changed the chip since: what it is at now counts.
            HpetAction::SetIrq { line: n, .. } => {
                line(n).into_iter().for_each(|l| l.sync(false, || chip.lock().line_level(n)));
            }
            HpetAction::PulseIrq { line: n } => line(n).into_iter().for_each(|l| l.pulse()),
            HpetAction::Msi { address, data } => {
                if let Some(irqchip) = accel_irqchip() {
                    irqchip.send_msi(MsiMessage { address: address.into(), data });
                }
            }
            HpetAction::PitEnabled(_) => self.pit_enabled.sync(false, || chip.lock().pit_enabled()),
        }
    }

    /// The capabilities register's low half, for the ACPI table.
    pub fn event_timer_block_id(&self) -> u32 {
        self.chip.get().map_or(0, |chip| chip.lock().capabilities() as u32)
    }
}

impl DeviceImpl for HpetDevice {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let intcap = self.hpet_intcap.get();
        if intcap == 0 {
            bail!("Hpet's intcap not initialized");
        }
        let _ = self.chip.set(Mutex::new(Hpet::new(self.timers.get(), intcap, self.msi.get())));
        let this = Arc::downgrade(self);
        let timer = Timer::new(ClockType::Virtual, move || {
            if let Some(this) = this.upgrade() {
                this.change(|chip| chip.expire(now_ns(ClockType::Virtual)));
            }
        });
        let _ = self.timer.set(timer);
        let lines: Vec<Arc<IrqPin>> = (0..NUM_IRQ_ROUTES).map(|_| Arc::default()).collect();
        lines.iter().for_each(|line| self.init_gpio_out("", line));
        let _ = self.lines.set(lines);
        // Connected by the board: whether the i8254's output reaches its line.
        self.init_gpio_out("pit-enabled", &self.pit_enabled);
        let this = Arc::downgrade(self);
        let legacy = Arc::new(move |n: u32, level: bool| {
            let input = if n == 0 { LegacyInput::Pit } else { LegacyInput::Rtc };
            if let Some(this) = this.upgrade() {
                this.change(|chip| chip.set_legacy_input(input, level));
            }
        });
        self.init_gpio_in("", legacy, 2);
        self.map_memory(HPET_BASE, &MemoryRegion::io("hpet", REGISTER_SPACE, self.clone()));
        Ok(())
    }

    fn reset_hold(&self) {
        self.change(Hpet::reset);
    }
}

impl VmState for HpetDevice {
    type State = Hpet;

    fn save(&self) -> Option<Hpet> {
        Some(self.chip.get()?.lock().clone())
    }

    fn load(&self, state: Hpet) -> Result<()> {
        if let Some(chip) = self.chip.get() {
            let mut chip = chip.lock();
            if !chip.is_alike(&state) {
                bail!("the state is of an HPET with other comparators");
            }
            *chip = state;
            // The PIT knows whether its line is cut off.
            self.pit_enabled.assume(chip.pit_enabled());
        }
        self.change(|chip| chip.levels());
        Ok(())
    }
}

impl RegionOps for HpetDevice {
    #[inline]
    fn read(&self, offset: u64, size: u8) -> u64 {
        match self.chip.get() {
            Some(chip) => chip.lock().read(offset, size.into(), now_ns(ClockType::Virtual)),
            None => 0,
        }
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        self.change(|chip| chip.write(offset, value, size.into(), now_ns(ClockType::Virtual)));
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(4, 8)
    }
}
