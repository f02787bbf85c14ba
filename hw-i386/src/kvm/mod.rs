//! The devices that stand for KVM's in-kernel chips: they have no handlers, they reset and describe what the
//! kernel emulates.
//!
//! Source: QEMU `hw/i386/kvm/`.

mod clock;
mod i8254;
mod irqchip;

pub(crate) use irqchip::{set_up_as_firmware, setup_irq_routing};

use std::sync::Arc;

use accel_kvm::{KvmState, kvm_state};
use qom::{Result, bail};

/// The virtual machine these devices belong to.
fn vm() -> Result<&'static Arc<KvmState>> {
    match kvm_state() {
        Some(state) => Ok(state),
        None => bail!("this device needs the accelerator kvm"),
    }
}

/// A refusal of the kernel as an error for the user.
fn refused(what: &str) -> impl Fn(accel_kvm::kvm_ioctls::Error) -> qom::Error + '_ {
    move |error| qom::Error::new(format!("{what} failed: {}", std::io::Error::from(error)))
}
