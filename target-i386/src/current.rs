//! The registers of the CPU whose thread this is, for devices that the guest talks to through them.
//!
//! Source: QEMU `include/sysemu/hw_accel.h` (`cpu_synchronize_state`).

use hw_core::Cpu;
use hw_core::cpu::{cpu_list, current_cpu};

use crate::cpu::X86Cpu;
use crate::kvm;
use crate::reset::Registers;

/// Calls `f` with the CPU that makes the access being answered and its registers, and has it go on with what
/// `f` makes of them. `None` on a thread that runs no CPU, and where the accelerator gives no registers.
pub fn with_current_cpu<R>(f: impl FnOnce(&X86Cpu, &mut Registers) -> R) -> Option<R> {
    let index = current_cpu()?;
    let object = cpu_list().into_iter().find(|c| c.cast::<Cpu>().is_some_and(|c| c.index() == index))?;
    let cpu = object.cast::<X86Cpu>()?;
    let before = kvm::current_registers()?;
    let mut registers = before;
    let result = f(cpu, &mut registers);
    if registers != before {
        kvm::set_current_registers(&registers);
    }
    Some(result)
}

/// How fast that CPU's time-stamp counter counts, in kHz; 0 where the accelerator does not say.
pub fn current_tsc_khz() -> u32 {
    kvm::current_tsc_khz()
}
