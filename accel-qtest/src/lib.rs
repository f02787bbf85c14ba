//! The accelerator `qtest`: a machine that runs no guest code. Its virtual CPUs idle, and virtual time moves only
//! when a test says so, over the protocol of `-qtest`.
//!
//! Sources followed: QEMU `accel/qtest/qtest.c`, `accel/dummy-cpus.c`.
#![forbid(unsafe_code)]

pub mod protocol;
mod vcpu;

use std::sync::Arc;

use hw_core::accel::{AccelClass, AccelIrqchip, AccelState, Accelerator};
use hw_core::{Cpu, Machine};
use qom::{Class, Object, Result, bail};

/// The accelerator `qtest`.
#[derive(Object)]
#[object(name = "qtest-accel", parent = AccelState, interfaces(dyn Accelerator), class_init = class_init)]
pub struct QtestAccel {
    parent: AccelState,
}
qom::type_init!(QtestAccel);

fn class_init(class: &mut Class) {
    class.get_mut::<AccelClass>().name = "QTest";
}

impl Accelerator for QtestAccel {
    fn init_machine(&self, _machine: &Machine, _wait: bool) -> Result<()> {
        util::clock::set_manual();
        Ok(())
    }

    fn init_vcpu(&self, cpu: &Arc<dyn Object>) -> Result<()> {
        if cpu.cast::<Cpu>().is_none() {
            bail!("'{}' is not a CPU", cpu.type_name());
        }
        vcpu::start(cpu)
    }

    fn irqchip(&self) -> Option<Arc<dyn AccelIrqchip>> {
        None
    }
}

/// Whether this accelerator was chosen (`qtest_enabled`).
pub fn qtest_enabled() -> bool {
    hw_core::accel::current_accel_name() == Some("QTest")
}
