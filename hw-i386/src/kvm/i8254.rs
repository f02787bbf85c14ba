//! `kvm-pit`: the in-kernel interval timer and speaker port.
//!
//! Source: QEMU `hw/i386/kvm/i8254.c`.

use std::sync::Arc;

use accel_kvm::kvm_bindings::{
    KVM_PIT_FLAGS_HPET_LEGACY, KVM_PIT_SPEAKER_DUMMY, kvm_pit_channel_state, kvm_pit_config, kvm_pit_state2,
};
use hw_core::runstate::add_state_handler;
use hw_core::{DeviceClass, DeviceImpl, VmState, vmstate};
use hw_isa::IsaDevice;
use parking_lot::Mutex;
use qom::{Class, Object, Property, Result, bail};

use super::{refused, vm};

qom::property_enum! {
    /// QAPI's `LostTickPolicy`: ticks that came while the guest could not take them.
    pub enum LostTickPolicy: "LostTickPolicy" {
        Discard = "discard",
        Delay = "delay",
        Slew = "slew",
    }
}

/// Mode and gate of each channel after reset (8254 data sheet: undefined; QEMU and the kernel agree on these).
const RESET_MODE: u8 = 3;
/// A count of zero stands for this.
const FULL_COUNT: u32 = 0x10000;

/// The device.
#[derive(Object)]
#[object(name = "kvm-pit", parent = IsaDevice, class_init = class_init)]
pub struct KvmPit {
    parent: IsaDevice,
    /// First port; the kernel knows only 0x40
    #[property(default = 0x40)]
    iobase: Property<u32>,
    /// What happens to ticks the guest missed
    #[property(default = LostTickPolicy::Delay, name = "lost_tick_policy")]
    lost_tick_policy: Property<LostTickPolicy>,
    /// The chip's state while the machine is stopped.
    stopped: Mutex<Option<kvm_pit_state2>>,
}
qom::type_init!(KvmPit);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().board_only = true;
    vmstate::register::<KvmPit>(class);
}

impl KvmPit {
    fn state_changed(&self, running: bool) {
        let Ok(kvm) = vm() else { return };
        let mut stopped = self.stopped.lock();
        if !running {
            *stopped = kvm.vm.get_pit2().ok();
        } else if let Some(state) = stopped.take() {
            let _ = kvm.vm.set_pit2(&state);
        }
    }

    /// Lets the chip's output reach its line, or not, while the HPET has the line.
    fn set_output_enabled(&self, enabled: bool) {
        self.change(|state| {
            state.flags = if enabled { 0 } else { KVM_PIT_FLAGS_HPET_LEGACY };
        });
    }

    fn change(&self, f: impl FnOnce(&mut kvm_pit_state2)) {
        let Ok(kvm) = vm() else { return };
        let mut stopped = self.stopped.lock();
        if let Some(state) = &mut *stopped {
            f(state);
        } else if let Ok(mut state) = kvm.vm.get_pit2() {
            f(&mut state);
            let _ = kvm.vm.set_pit2(&state);
        }
    }
}

impl VmState for KvmPit {
    /// The kernel's: counts run by the host's clock, on which their start times are.
    type State = kvm_pit_state2;

    fn save(&self) -> Option<kvm_pit_state2> {
        let stopped = *self.stopped.lock();
        stopped.or_else(|| vm().ok()?.vm.get_pit2().ok())
    }

    fn load(&self, state: kvm_pit_state2) -> Result<()> {
        self.change(|old| *old = state);
        Ok(())
    }
}

fn reset_channel(number: usize) -> kvm_pit_channel_state {
    kvm_pit_channel_state {
        count: FULL_COUNT,
        mode: RESET_MODE,
        gate: u8::from(number != 2),
        ..Default::default()
    }
}

impl DeviceImpl for KvmPit {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let kvm = vm()?;
        if self.iobase.get() != 0x40 {
            bail!("kvm-pit: iobase must be 0x40");
        }
        // The dummy answers the speaker port, whose gate and output belong to channel 2.
        let config = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        kvm.vm.create_pit2(config).map_err(refused("Create kernel PIT"))?;
        match self.lost_tick_policy.get() {
            LostTickPolicy::Delay => {}
            LostTickPolicy::Discard => kvm.set_pit_reinjection(false)?,
            LostTickPolicy::Slew => bail!("Lost tick policy not supported."),
        }
        let this = Arc::downgrade(self);
        let control = Arc::new(move |_: u32, enabled: bool| {
            if let Some(this) = this.upgrade() {
                this.set_output_enabled(enabled);
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
        self.change(|state| {
            *state = kvm_pit_state2 { channels: std::array::from_fn(reset_channel), ..Default::default() };
        });
    }
}
