//! The devices around [`I8254`]: the type all PITs share, and the one that is emulated here.
//!
//! Source: QEMU `hw/timer/i8254_common.c`, `hw/timer/i8254.c`.

use std::sync::{Arc, OnceLock};

use hw_core::{Device, DeviceClass, DeviceImpl, Irq, IrqPin, VmState, qdev_create, vmstate};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object, Property, Result, bail};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::i8254::{I8254, spec};

/// What all PITs are, whoever emulates them.
#[derive(Object)]
#[object(name = "pit-common", parent = IsaDevice, abstract, class_init = class_init)]
pub struct PitCommon {
    parent: IsaDevice,
    /// First port
    #[property(default = u32::MAX)]
    pub iobase: Property<u32>,
}

/// An emulated 8254. Its output is OUT of counter 0; its input, which the HPET drives, lets that through.
#[derive(Object)]
#[object(name = "isa-pit", parent = PitCommon, class_init = vmstate::register::<IsaPit>)]
pub struct IsaPit {
    parent: PitCommon,
    chip: Mutex<I8254>,
    timer: OnceLock<Timer>,
    irq: Arc<IrqPin>,
}
qom::type_init!(PitCommon, IsaPit);

fn class_init(class: &mut Class) {
    // Its output is the board's to wire.
    class.get_mut::<DeviceClass>().board_only = true;
}

/// What every PIT's counters are asked and told by others than the guest (`PITCommonClass`).
pub trait PitImpl: DeviceImpl {
    /// The GATE pin of counter `number`.
    fn gate(&self, number: usize) -> bool;
    /// The OUT pin of counter `number` now.
    fn out(&self, number: usize) -> bool;
    /// Sets the GATE pin of counter `number` (`pit_set_gate`).
    fn set_gate(&self, number: usize, level: bool);
    /// Leaves it as firmware does; see [`I8254::set_up_as_firmware`].
    fn set_up_as_firmware(&self);
}

/// [`PitImpl`] of a type, for whoever knows a PIT only as an object.
#[derive(Clone, Copy)]
pub struct PitClass {
    /// [`PitImpl::gate`] and [`PitImpl::out`].
    pub pins: fn(&dyn Object, usize) -> (bool, bool),
    /// [`PitImpl::set_gate`].
    pub set_gate: fn(&dyn Object, usize, bool),
    /// [`PitImpl::set_up_as_firmware`].
    pub set_up_as_firmware: fn(&dyn Object),
}

impl Default for PitClass {
    /// Pins that are not connected.
    fn default() -> Self {
        PitClass { pins: |_, _| (false, false), set_gate: |_, _, _| {}, set_up_as_firmware: |_| {} }
    }
}

impl<T: PitImpl> ClassInit<T> for PitCommon {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
        *class.get_mut::<PitClass>() = PitClass {
            pins: |object, number| {
                object.cast::<T>().map_or((false, false), |pit| (pit.gate(number), pit.out(number)))
            },
            set_gate: |object, number, level| {
                if let Some(pit) = object.cast::<T>() {
                    pit.set_gate(number, level);
                }
            },
            set_up_as_firmware: |object| {
                if let Some(pit) = object.cast::<T>() {
                    pit.set_up_as_firmware();
                }
            },
        };
    }
}

impl IsaPit {
    /// Changes the chip with `f`, which gives the levels that its line went through.
    fn change(&self, f: impl FnOnce(&mut I8254, u64) -> Vec<bool>) {
        let levels = {
            let mut chip = self.chip.lock();
            let levels = f(&mut chip, now_ns(ClockType::Virtual));
            // Under the chip's lock, so that an older deadline does not come last.
            match (self.timer.get(), chip.next_deadline()) {
                (Some(timer), Some(deadline)) => timer.mod_ns(deadline),
                (Some(timer), None) => timer.del(),
                (None, _) => {}
            }
            levels
        };
        if !levels.is_empty() {
            self.irq.sync(levels.contains(&false), || self.chip.lock().irq_level());
        }
    }
}

impl PitImpl for IsaPit {
    fn gate(&self, number: usize) -> bool {
        self.chip.lock().gate(number)
    }

    fn out(&self, number: usize) -> bool {
        self.chip.lock().out(number, now_ns(ClockType::Virtual))
    }

    fn set_gate(&self, number: usize, level: bool) {
        self.change(|chip, now| chip.set_gate(number, level, now));
    }

    fn set_up_as_firmware(&self) {
        self.change(I8254::set_up_as_firmware);
    }
}

impl DeviceImpl for IsaPit {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.chip.lock().reset(now_ns(ClockType::Virtual));
        let this = Arc::downgrade(self);
        let timer = Timer::new(ClockType::Virtual, move || {
            if let Some(this) = this.upgrade() {
                this.change(I8254::expire);
            }
        });
        let _ = self.timer.set(timer);
        self.init_gpio_out("", &self.irq);
        let this = Arc::downgrade(self);
        let control = Arc::new(move |_: u32, enabled: bool| {
            if let Some(this) = this.upgrade() {
                this.change(|chip, now| chip.set_irq_enabled(enabled, now));
            }
        });
        self.init_gpio_in("", control, 1);
        self.register_ioport(self.clone(), "pit", self.iobase.get(), spec::CONTROL as u32 + 1)?;
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
        if let Some(timer) = self.timer.get() {
            timer.del();
        }
    }

    fn reset_enter(&self) {
        self.change(|chip, now| {
            chip.reset(now);
            Vec::new()
        });
    }

    fn reset_hold(&self) {
        self.irq.set(self.chip.lock().irq_level());
    }
}

impl VmState for IsaPit {
    type State = I8254;

    fn save(&self) -> Option<I8254> {
        Some(self.chip.lock().clone())
    }

    fn load(&self, state: I8254) -> Result<()> {
        if !state.is_possible() {
            bail!("the state is none that an 8254 can have");
        }
        // The line is not driven: whom it leads to has a state of its own, and knows of its last edge.
        self.change(|chip, _| {
            *chip = state;
            Vec::new()
        });
        self.irq.assume(self.chip.lock().irq_level());
        Ok(())
    }
}

impl RegionOps for IsaPit {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        self.chip.lock().read(offset, now_ns(ClockType::Virtual)).into()
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        self.change(|chip, now| chip.write(offset, value as u8, now));
    }

    fn rules(&self) -> AccessRules {
        AccessRules::bytes(4)
    }
}

/// Leaves a PIT, whoever emulates it, as firmware does; of any other object nothing.
pub fn pit_set_up_as_firmware(pit: &Arc<dyn Object>) {
    if let Some(class) = pit.class().get::<PitClass>() {
        (class.set_up_as_firmware)(&**pit);
    }
}

/// Makes a PC's timer at port 0x40 of the ISA bus `bus`; `irq` is ISA line 0, or the HPET's legacy input 0 on a board that
/// has one (`i8254_pit_init`).
///
/// # Errors
/// When `bus` is no ISA bus.
pub fn i8254_pit_init(bus: &Arc<dyn Object>, irq: Irq) -> Result<Arc<IsaPit>> {
    let object = qdev_create("isa-pit", Some(bus), &[("iobase", spec::PORT.into())])?;
    let Some(pit) = qom::downcast::<IsaPit>(object) else { bail!("'isa-pit' is another type") };
    pit.irq.connect(irq);
    Ok(pit)
}
