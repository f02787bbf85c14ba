//! `kvmclock`: the clock that KVM shows guests stands still while the machine is stopped.
//!
//! Source: QEMU `hw/i386/kvm/clock.c`.

use std::sync::Arc;

use accel_kvm::kvm_bindings::kvm_clock_data;
use hw_core::runstate::add_state_handler;
use hw_core::{DeviceClass, DeviceImpl, SysBusDevice, VmState, vmstate};
use parking_lot::Mutex;
use qom::{Class, Object, Result};

use super::{refused, vm};

/// The device.
#[derive(Object)]
#[object(name = "kvmclock", parent = SysBusDevice, class_init = class_init)]
pub struct KvmClock {
    parent: SysBusDevice,
    /// The clock in nanoseconds when the machine stopped.
    stopped_at: Mutex<Option<u64>>,
}
qom::type_init!(KvmClock);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().desc = "KVM's paravirtual clock";
    vmstate::register::<KvmClock>(class);
}

impl KvmClock {
    fn state_changed(&self, running: bool) {
        let Ok(kvm) = vm() else { return };
        let mut stopped_at = self.stopped_at.lock();
        if !running {
            *stopped_at = kvm.vm.get().ok().and_then(|vm| vm.get_clock().ok()).map(|data| data.clock);
            return;
        }
        let Some(clock) = stopped_at.take() else { return };
        let data = kvm_clock_data { clock, ..Default::default() };
        if let Err(error) = kvm.vm.get().and_then(|vm| vm.set_clock(&data).map_err(refused("KVM_SET_CLOCK")))
        {
            util::error_report!("{error}");
        }
        // Tells guests that they were stopped, so that their watchdogs do not bark.
        hw_core::cpu::for_each_cpu(|cpu| {
            cpu.async_run_on_cpu(|| {
                // It fails for a guest that does not use the clock.
                let _ = accel_kvm::with_current_vcpu(|vcpu| vcpu.kvmclock_ctrl());
            });
        });
    }
}

impl VmState for KvmClock {
    /// The clock in nanoseconds while the machine is stopped.
    type State = Option<u64>;

    fn save(&self) -> Option<Option<u64>> {
        Some(*self.stopped_at.lock())
    }

    fn load(&self, stopped_at: Option<u64>) -> Result<()> {
        *self.stopped_at.lock() = stopped_at;
        Ok(())
    }
}

impl DeviceImpl for KvmClock {
    fn realize(self: &Arc<Self>) -> Result<()> {
        vm()?;
        let this = Arc::downgrade(self);
        add_state_handler(Arc::new(move |running, _| {
            if let Some(this) = this.upgrade() {
                this.state_changed(running);
            }
        }));
        Ok(())
    }
}
