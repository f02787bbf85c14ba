//! `kvm-pit`: the in-kernel interval timer. The speaker's port, which shows and gates counter 2, is a device beside it.
//!
//! Source: QEMU `hw/i386/kvm/i8254.c`.

use std::sync::Arc;

use accel_kvm::kvm_bindings::{
    KVM_PIT_FLAGS_HPET_LEGACY, kvm_pit_channel_state, kvm_pit_config, kvm_pit_state2,
};
use hw_core::runstate::add_state_handler;
use hw_core::{DeviceClass, DeviceImpl, VmState, vmstate};
use hw_timer::i8254::{CounterRegisters, I8254, spec};
use hw_timer::{PitCommon, PitImpl};
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, bail};
use util::clock::{ClockType, now_ns};

use super::{refused, vm};

qom::property_enum! {
    /// QAPI's `LostTickPolicy`: ticks that came while the guest could not take them.
    pub enum LostTickPolicy: "LostTickPolicy" {
        Discard = "discard",
        Delay = "delay",
        Slew = "slew",
    }
}

/// The device.
#[derive(Object)]
#[object(name = "kvm-pit", parent = PitCommon, class_init = class_init)]
pub struct KvmPit {
    parent: PitCommon,
    /// What happens to ticks the guest missed
    #[property(default = LostTickPolicy::Delay, name = "lost_tick_policy")]
    lost_tick_policy: Property<LostTickPolicy>,
    /// The chip's state while the machine is stopped, as it is at first: the kernel's counts on in that time.
    stopped: Mutex<Option<I8254>>,
}
qom::type_init!(KvmPit);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().board_only = true;
    vmstate::register::<KvmPit>(class);
}

/// What to add to the kernel's clock, which counts were loaded by, for virtual time in ns.
fn clock_offset() -> i64 {
    now_ns(ClockType::Virtual).wrapping_sub(now_ns(ClockType::Realtime)) as i64
}

/// The chip that a state of the kernel's is.
fn i8254_of(state: &kvm_pit_state2, offset: i64) -> I8254 {
    let registers = state.channels.each_ref().map(|channel| CounterRegisters {
        count: channel.count,
        latched_count: channel.latched_count,
        count_latched: channel.count_latched,
        status_latched: channel.status_latched != 0,
        status: channel.status,
        read_state: channel.read_state,
        write_state: channel.write_state,
        write_latch: channel.write_latch,
        rw_mode: channel.rw_mode,
        mode: channel.mode,
        bcd: channel.bcd != 0,
        gate: channel.gate != 0,
        loaded_at: channel.count_load_time.saturating_add(offset).max(0) as u64,
    });
    let irq_enabled = state.flags & KVM_PIT_FLAGS_HPET_LEGACY == 0;
    I8254::from_registers(&registers, irq_enabled, now_ns(ClockType::Virtual))
}

/// The state of the kernel's that a chip is.
fn kvm_pit_of(chip: &I8254, offset: i64) -> kvm_pit_state2 {
    let channel = |registers: CounterRegisters| kvm_pit_channel_state {
        count: registers.count,
        latched_count: registers.latched_count,
        count_latched: registers.count_latched,
        status_latched: registers.status_latched.into(),
        status: registers.status,
        read_state: registers.read_state,
        write_state: registers.write_state,
        write_latch: registers.write_latch,
        rw_mode: registers.rw_mode,
        mode: registers.mode,
        bcd: registers.bcd.into(),
        gate: registers.gate.into(),
        count_load_time: (registers.loaded_at as i64).saturating_sub(offset),
    };
    kvm_pit_state2 {
        channels: chip.registers().map(channel),
        flags: if chip.irq_enabled() { 0 } else { KVM_PIT_FLAGS_HPET_LEGACY },
        ..Default::default()
    }
}

fn read_kernel() -> Option<I8254> {
    let state = vm().ok()?.vm.get().ok()?.get_pit2().ok()?;
    Some(i8254_of(&state, clock_offset()))
}

/// The kernel begins all counts anew with it.
fn write_kernel(chip: &I8254) {
    let Ok(kvm) = vm() else { return };
    let written = kvm
        .vm
        .get()
        .and_then(|vm| vm.set_pit2(&kvm_pit_of(chip, clock_offset())).map_err(refused("KVM_SET_PIT2")));
    if let Err(error) = written {
        util::error_report!("{error}");
    }
}

impl KvmPit {
    fn state_changed(&self, running: bool) {
        let mut stopped = self.stopped.lock();
        if !running {
            *stopped = read_kernel();
        } else if let Some(chip) = stopped.take() {
            write_kernel(&chip);
        }
    }

    fn chip(&self) -> Option<I8254> {
        let stopped = self.stopped.lock().clone();
        stopped.or_else(read_kernel)
    }

    /// Changes the chip. Its line is the kernel's: the levels that `f` gives are of no use.
    fn change(&self, f: impl FnOnce(&mut I8254, u64) -> Vec<bool>) {
        let now = now_ns(ClockType::Virtual);
        let mut stopped = self.stopped.lock();
        if let Some(chip) = &mut *stopped {
            f(chip, now);
        } else if let Some(mut chip) = read_kernel() {
            f(&mut chip, now);
            write_kernel(&chip);
        }
    }
}

impl PitImpl for KvmPit {
    fn gate(&self, number: usize) -> bool {
        self.chip().is_some_and(|chip| chip.gate(number))
    }

    fn out(&self, number: usize) -> bool {
        self.chip().is_some_and(|chip| chip.out(number, now_ns(ClockType::Virtual)))
    }

    fn set_gate(&self, number: usize, level: bool) {
        self.change(|chip, now| chip.set_gate(number, level, now));
    }

    fn set_up_as_firmware(&self) {
        self.change(I8254::set_up_as_firmware);
    }
}

impl VmState for KvmPit {
    /// That of a chip of our own.
    type State = I8254;

    fn save(&self) -> Option<I8254> {
        self.chip()
    }

    fn load(&self, state: I8254) -> Result<()> {
        if !state.is_possible() {
            bail!("the state is none that an 8254 can have");
        }
        self.change(|chip, _| {
            *chip = state;
            Vec::new()
        });
        Ok(())
    }
}

impl DeviceImpl for KvmPit {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let kvm = vm()?;
        if self.iobase.get() != spec::PORT {
            bail!("kvm-pit: iobase must be {:#x}", spec::PORT);
        }
        let policy = self.lost_tick_policy.get();
        if policy == LostTickPolicy::Slew {
            bail!("Lost tick policy not supported.");
        }
        kvm.vm.then(move |vm| {
            vm.create_pit2(kvm_pit_config::default()).map_err(refused("Create kernel PIT"))?;
            if policy == LostTickPolicy::Discard { kvm.set_pit_reinjection(false) } else { Ok(()) }
        })?;
        *self.stopped.lock() = Some(I8254::new(now_ns(ClockType::Virtual)));
        let this = Arc::downgrade(self);
        let control = Arc::new(move |_: u32, enabled: bool| {
            if let Some(this) = this.upgrade() {
                this.change(|chip, now| chip.set_irq_enabled(enabled, now));
            }
        });
        self.init_gpio_in("", control, 1);
        let this = Arc::downgrade(self);
        add_state_handler(Arc::new(move |running, _| {
            if let Some(this) = this.upgrade() {
                this.state_changed(running);
            }
        }));
        Ok(())
    }

    fn reset_hold(&self) {
        self.change(|chip, now| {
            chip.reset(now);
            Vec::new()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways give what there was: the kernel's chip and ours have the same registers.
    #[test]
    fn the_kernels_state_is_that_of_our_model() {
        const LOADED: u64 = 1_000_000_000;
        let mut chip = I8254::new(0);
        // Counter 0: mode 2, a count of two bytes. Counter 2: mode 0, one of two bytes written, a latched status.
        for (port, value) in
            [(3, 0x34), (0, 0x34), (0, 0x12), (3, 0xb0), (2, 0x10), (2, 0x20), (2, 0x55), (3, 0xe8)]
        {
            let _ = chip.write(port, value, LOADED);
        }
        let _ = chip.set_gate(2, true, LOADED);
        let offset = 5_000_000_000;
        let state = kvm_pit_of(&chip, offset);
        let [first, _, last] = &state.channels;
        assert_eq!((first.count, first.mode, first.rw_mode, first.gate), (0x1234, 2, 3, 1));
        assert!(first.count_load_time.abs_diff(LOADED as i64 - offset) < 1000);
        assert_eq!((last.write_state, last.write_latch, last.status_latched, last.gate), (4, 0x55, 1, 1));
        let copy = i8254_of(&state, offset);
        let mut again = kvm_pit_of(&copy, offset);
        // Ticks begin anew at the clock of now, which is before the count was loaded.
        for (again, channel) in again.channels.iter_mut().zip(&state.channels) {
            again.count_load_time = channel.count_load_time;
        }
        assert_eq!(again, state);
        let _ = chip.set_irq_enabled(false, LOADED);
        assert_eq!(kvm_pit_of(&chip, 0).flags, KVM_PIT_FLAGS_HPET_LEGACY);
        assert!(!i8254_of(&kvm_pit_of(&chip, 0), 0).irq_enabled());
    }

    /// What a running counter shows is the same on both sides.
    #[test]
    fn counts_go_on_where_they_were() {
        let now = now_ns(ClockType::Virtual);
        let mut chip = I8254::new(now);
        for (port, value) in [(3, 0x34), (0, 0), (0, 0x80)] {
            let _ = chip.write(port, value, now);
        }
        let mut copy = i8254_of(&kvm_pit_of(&chip, 7), 7);
        let later = now + 3_000_000;
        let read = |chip: &mut I8254| {
            let [low, high] = [chip.read(0, later), chip.read(0, later)];
            u16::from_le_bytes([low, high])
        };
        let (ours, kernels) = (read(&mut chip), read(&mut copy));
        assert!(ours.abs_diff(kernels) <= 1, "{ours} {kernels}");
        assert!(ours < 0x8000 - 3000);
    }
}
