//! The interrupt controllers of a board whose accelerator brings none: devices of our own behind the lines.
//!
//! Source: QEMU `hw/i386/pc.c` (`pc_i8259_create`), `hw/i386/x86.c`.

use std::sync::Arc;

use hw_core::Irq;
use hw_intc::i8259_init;
use qom::{Object, Result};

use crate::x86::X86Machine;

/// The line from the PICs to the CPUs (`x86_allocate_cpu_irq`): nobody takes it where no guest code runs.
fn cpu_irq() -> Irq {
    Irq::new(Arc::new(|_: u32, _: bool| {}), 0)
}

/// Makes the two PICs, to which the lines lead from now on.
///
/// # Errors
/// When their ports are taken.
pub(crate) fn pic_init(machine: &X86Machine, isa: &Arc<dyn Object>) -> Result<()> {
    let inputs = i8259_init(isa, cpu_irq())?;
    let _ = machine.gsi_state.i8259_irq.set(inputs);
    Ok(())
}
