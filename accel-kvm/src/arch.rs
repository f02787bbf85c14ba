//! What a target brings for KVM to run its CPUs.

use std::sync::{Arc, OnceLock};

use hw_core::Machine;
use hw_core::debug::BreakpointError;
use kvm_bindings::{kvm_debug_exit_arch, kvm_guest_debug};
use kvm_ioctls::VcpuFd;
use qom::{Interface, Result};

use crate::KvmState;
use crate::debug::{DebugExit, HwBreakpoint};

/// A target's part of a virtual machine.
pub trait KvmArch: Send + Sync {
    /// Sets up what has to be before the first vCPU (`kvm_arch_init`).
    ///
    /// # Errors
    /// What the kernel lacks or refuses.
    fn init(&self, kvm: &Arc<KvmState>, machine: &Machine) -> Result<()>;
    /// What a debugger's software breakpoint puts in the place of code; empty where there is no such instruction.
    fn breakpoint_instruction(&self) -> &'static [u8] {
        &[]
    }
    /// How many breakpoints the debug registers hold.
    fn max_hw_breakpoints(&self) -> usize {
        0
    }
    /// Whether the debug registers can hold it (`kvm_arch_insert_hw_breakpoint`).
    ///
    /// # Errors
    /// A kind that there is not, or an address or length that cannot be.
    fn check_hw_breakpoint(&self, breakpoint: &HwBreakpoint) -> std::result::Result<(), BreakpointError> {
        let _ = breakpoint;
        Err(BreakpointError::NotSupported)
    }
}

static ARCH: OnceLock<Box<dyn KvmArch>> = OnceLock::new();

/// Makes `arch` the target of this program; the first call counts.
pub fn set_arch(arch: Box<dyn KvmArch>) {
    let _ = ARCH.set(arch);
}

pub(crate) fn arch() -> Result<&'static dyn KvmArch> {
    match ARCH.get() {
        Some(arch) => Ok(&**arch),
        None => qom::bail!("this program has no target for KVM"),
    }
}

/// A target's CPU under KVM. All calls come on the vCPU's own thread.
pub trait KvmArchCpu: Send + Sync {
    /// The number KVM knows it by (on x86 the APIC id).
    fn vcpu_id(&self) -> u64;
    /// Prepares a vCPU just made (`kvm_arch_init_vcpu`).
    ///
    /// # Errors
    /// What the kernel refuses.
    fn init_vcpu(&self, kvm: &KvmState, vcpu: &VcpuFd) -> Result<()>;
    /// Hands registers that changed outside the guest to KVM, before the guest goes on
    /// (`kvm_arch_put_registers`).
    ///
    /// # Errors
    /// What the kernel refuses.
    fn put_registers(&self, vcpu: &VcpuFd) -> Result<()>;
    /// Takes up what came from interrupt controllers outside the kernel, before registers are handed over
    /// (`kvm_arch_process_async_events`). This and what follows up to [`KvmArchCpu::ioapic_eoi`] is for machines that
    /// have some.
    fn process_async_events(&self, vcpu: &VcpuFd) {
        let _ = vcpu;
    }
    /// Whether the CPU waits for an interrupt, or for being started, and none has come.
    fn is_idle(&self) -> bool {
        false
    }
    /// The CPU halts; `interruptible` says whether it takes interrupts.
    fn halt(&self, interruptible: bool) {
        let _ = interruptible;
    }
    /// Whether an interrupt waits.
    fn has_interrupt(&self) -> bool {
        false
    }
    /// The CPU takes the interrupt: its vector, if it is still there.
    fn take_interrupt(&self) -> Option<u8> {
        None
    }
    /// CR8 as the local APIC has it.
    fn cr8(&self) -> u8 {
        0
    }
    /// What the guest made of CR8 and IA32_APIC_BASE, and whether it is in system management mode.
    fn set_apic_registers(&self, cr8: u8, apic_base: u64, smm: bool) {
        let _ = (cr8, apic_base, smm);
    }
    /// A local APIC in the kernel ended an interrupt of the board's own I/O APIC.
    fn ioapic_eoi(&self, vector: u8) {
        let _ = vector;
    }
    /// The guest wrote registers of its SynIC (`KVM_EXIT_HYPERV_SYNIC`): `HV_X64_MSR_SCONTROL`, `HV_X64_MSR_SIEFP` and
    /// `HV_X64_MSR_SIMP` as they are now. This and the next are for targets that are Hyper-V to their guests.
    fn set_synic(&self, control: u64, event_page: u64, message_page: u64) {
        let _ = (control, event_page, message_page);
    }
    /// A Hyper-V hypercall that KVM left to us: the input value and its parameters; the result.
    fn hyperv_hypercall(&self, input: u64, parameters: [u64; 2]) -> u64 {
        let _ = (input, parameters);
        // HV_STATUS_INVALID_HYPERCALL_CODE
        2
    }
    /// Registers and code bytes as text, for errors (`cpu_dump_state`).
    fn dump_state(&self, vcpu: &VcpuFd) -> String;
    /// Puts breakpoints into the debug registers (`kvm_arch_update_guest_debug`). This and what follows is for
    /// targets that can be debugged.
    fn set_debug_registers(&self, breakpoints: &[HwBreakpoint], debug: &mut kvm_guest_debug) {
        let _ = (breakpoints, debug);
    }
    /// What a debug exit was about (`kvm_arch_handle_debug`).
    fn debug_exit(&self, exit: &kvm_debug_exit_arch) -> DebugExit {
        let _ = exit;
        DebugExit::Guest
    }
    /// Gives the guest the exception of a debug exit that was not the debugger's.
    fn inject_debug_exception(&self, vcpu: &VcpuFd, exit: &kvm_debug_exit_arch) {
        let _ = (vcpu, exit);
    }
    /// The linear address of the next instruction.
    fn linear_pc(&self, vcpu: &VcpuFd) -> Option<u64> {
        let _ = vcpu;
        None
    }
}

impl Interface for dyn KvmArchCpu {
    const TYPE_NAME: &'static str = "kvm-arch-cpu";
}
