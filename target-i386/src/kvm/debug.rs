//! x86's debug registers in a debugger's hands, and registers to and from KVM for gdb.
//!
//! Source: QEMU `target/i386/kvm/kvm.c` (`kvm_arch_update_guest_debug`, `kvm_arch_handle_debug`); Intel SDM volume
//! 3B, 18.2 (17.2 in older editions).

use accel_kvm::kvm_bindings::{
    Msrs, kvm_debug_exit_arch, kvm_fpu, kvm_guest_debug, kvm_msr_entry, kvm_sregs,
};
use accel_kvm::kvm_ioctls::VcpuFd;
use accel_kvm::{DebugExit, HwBreakpoint, set_xsave};
use hw_core::debug::{BreakpointError, BreakpointKind};

use crate::gdbstub::GdbRegisters;

/// Bits of DR6 and DR7, and vectors.
mod spec {
    /// DR6: a single step.
    pub const DR6_BS: u64 = 1 << 14;
    /// DR7: the bits that are always 1, and exact breakpoints.
    pub const DR7_BASE: u64 = 0x600;
    /// DR7: the global enable bit of breakpoint 0; two bits a breakpoint.
    pub const DR7_G0: u64 = 2;
    /// DR7: where condition and length of breakpoint 0 are; four bits a breakpoint.
    pub const DR7_CONDITION_SHIFT: usize = 16;
    pub const CONDITION_EXECUTE: u64 = 0;
    pub const CONDITION_WRITE: u64 = 1;
    pub const CONDITION_ACCESS: u64 = 3;
    /// Debug exception, breakpoint exception.
    pub const VECTOR_DB: u32 = 1;
    pub const VECTOR_BP: u32 = 3;
    /// `int3`.
    pub const INT3: &[u8] = &[0xcc];
    pub const BREAKPOINTS: usize = 4;
    pub const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
    /// Where MXCSR is in the XSAVE area, in words (SDM volume 1, 10.5.1).
    pub const XSAVE_MXCSR: usize = 6;
}

pub(super) use spec::{BREAKPOINTS, INT3};

fn condition(kind: BreakpointKind) -> Option<u64> {
    match kind {
        BreakpointKind::Hardware => Some(spec::CONDITION_EXECUTE),
        BreakpointKind::WriteWatch => Some(spec::CONDITION_WRITE),
        BreakpointKind::AccessWatch => Some(spec::CONDITION_ACCESS),
        // There is no condition for reads alone.
        BreakpointKind::ReadWatch | BreakpointKind::Software => None,
    }
}

/// How DR7 writes a length.
fn length(len: u64) -> Option<u64> {
    match len {
        1 => Some(0),
        2 => Some(1),
        4 => Some(3),
        8 => Some(2),
        _ => None,
    }
}

pub(super) fn check(breakpoint: &HwBreakpoint) -> Result<(), BreakpointError> {
    condition(breakpoint.kind).ok_or(BreakpointError::NotSupported)?;
    length(breakpoint.len).ok_or(BreakpointError::Refused)?;
    // The debug registers ignore the low bits of an address that is not a multiple of the length.
    if breakpoint.address.is_multiple_of(breakpoint.len) { Ok(()) } else { Err(BreakpointError::Refused) }
}

pub(super) fn set_registers(breakpoints: &[HwBreakpoint], debug: &mut kvm_guest_debug) {
    let registers = &mut debug.arch.debugreg;
    registers[7] = spec::DR7_BASE;
    for (n, breakpoint) in breakpoints.iter().enumerate().take(spec::BREAKPOINTS) {
        let (Some(condition), Some(length)) = (condition(breakpoint.kind), length(breakpoint.len)) else {
            continue;
        };
        registers[n] = breakpoint.address;
        registers[7] |= spec::DR7_G0 << (2 * n);
        registers[7] |= (condition | length << 2) << (spec::DR7_CONDITION_SHIFT + 4 * n);
    }
}

pub(super) fn exit(exit: &kvm_debug_exit_arch) -> DebugExit {
    if exit.exception != spec::VECTOR_DB {
        return DebugExit::Instruction(exit.pc);
    }
    if exit.dr6 & spec::DR6_BS != 0 {
        return DebugExit::Step;
    }
    (0..spec::BREAKPOINTS).find(|n| exit.dr6 & 1 << n != 0).map_or(DebugExit::Guest, DebugExit::Hardware)
}

/// Has the guest get the exception of the exit.
pub(super) fn inject(vcpu: &VcpuFd, exit: &kvm_debug_exit_arch) {
    let Ok(mut events) = vcpu.get_vcpu_events() else { return };
    if exit.exception == spec::VECTOR_DB
        && let Ok(mut debug) = vcpu.get_debug_regs()
    {
        debug.dr6 |= exit.dr6;
        // KVM refuses only bits that it gave itself.
        let _ = vcpu.set_debug_regs(&debug);
    }
    events.exception.injected = 1;
    events.exception.nr =
        if exit.exception == spec::VECTOR_DB { spec::VECTOR_DB } else { spec::VECTOR_BP } as u8;
    events.exception.has_error_code = 0;
    events.exception.pending = 0;
    let _ = vcpu.set_vcpu_events(&events);
}

/// The linear address of the next instruction.
pub(super) fn linear_pc(vcpu: &VcpuFd) -> Option<u64> {
    let (regs, sregs) = (vcpu.get_regs().ok()?, vcpu.get_sregs().ok()?);
    let base = if is_64bit_code(&sregs) { 0 } else { sregs.cs.base };
    Some(base.wrapping_add(regs.rip))
}

fn is_64bit_code(sregs: &kvm_sregs) -> bool {
    sregs.cs.l != 0
}

fn kernel_gs_base(value: u64) -> Option<Msrs> {
    let entry = kvm_msr_entry { index: spec::MSR_KERNEL_GS_BASE, data: value, ..Default::default() };
    Msrs::from_entries(&[entry]).ok()
}

/// The registers that gdb sees.
pub(crate) fn get_registers(vcpu: &VcpuFd) -> Option<GdbRegisters> {
    let mut msrs = kernel_gs_base(0)?;
    // A CPU without long mode has no such MSR.
    let read = vcpu.get_msrs(&mut msrs).unwrap_or_default();
    // KVM_GET_FPU leaves it out. A host may have no XSAVE area.
    let mxcsr = vcpu.get_xsave().map_or(0, |xsave| xsave.region[spec::XSAVE_MXCSR]);
    Some(GdbRegisters {
        regs: vcpu.get_regs().ok()?,
        sregs: vcpu.get_sregs().ok()?,
        fpu: kvm_fpu { mxcsr, ..vcpu.get_fpu().ok()? },
        kernel_gs_base: msrs.as_slice().first().filter(|_| read == 1).map_or(0, |msr| msr.data),
    })
}

fn put_mxcsr(vcpu: &VcpuFd, value: u32) -> Option<()> {
    let mut xsave = vcpu.get_xsave().ok()?;
    xsave.region[spec::XSAVE_MXCSR] = value;
    set_xsave(vcpu, &xsave).ok()
}

/// Hands to KVM what differs from `before`; whether KVM took it all.
pub(crate) fn put_registers(vcpu: &VcpuFd, before: &GdbRegisters, after: &GdbRegisters) -> bool {
    let mut ok = true;
    if after.sregs != before.sregs {
        ok &= vcpu.set_sregs(&after.sregs).is_ok();
    }
    if after.regs != before.regs {
        ok &= vcpu.set_regs(&after.regs).is_ok();
    }
    if after.fpu != before.fpu {
        ok &= vcpu.set_fpu(&after.fpu).is_ok();
    }
    if after.fpu.mxcsr != before.fpu.mxcsr {
        ok &= put_mxcsr(vcpu, after.fpu.mxcsr).is_some();
    }
    if after.kernel_gs_base != before.kernel_gs_base {
        ok &= kernel_gs_base(after.kernel_gs_base).is_some_and(|msrs| vcpu.set_msrs(&msrs) == Ok(1));
    }
    ok
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakpoint(kind: BreakpointKind, address: u64, len: u64) -> HwBreakpoint {
        HwBreakpoint { kind, address, len }
    }

    #[test]
    fn debug_registers_are_as_the_manual_has_them() {
        let list = [
            breakpoint(BreakpointKind::Hardware, 0x1000, 1),
            breakpoint(BreakpointKind::WriteWatch, 0x2000, 4),
            breakpoint(BreakpointKind::AccessWatch, 0x3000, 8),
        ];
        let mut debug = kvm_guest_debug::default();
        set_registers(&list, &mut debug);
        assert_eq!(debug.arch.debugreg, [0x1000, 0x2000, 0x3000, 0, 0, 0, 0, 0x0bd0_062a]);
    }

    #[test]
    fn what_debug_registers_cannot_hold_is_refused() {
        for (kind, address, len, expected) in [
            (BreakpointKind::Hardware, 0x1001, 1, Ok(())),
            (BreakpointKind::WriteWatch, 0x1000, 8, Ok(())),
            (BreakpointKind::WriteWatch, 0x1001, 4, Err(BreakpointError::Refused)),
            (BreakpointKind::AccessWatch, 0x1008, 3, Err(BreakpointError::Refused)),
            (BreakpointKind::AccessWatch, 0x1008, 0, Err(BreakpointError::Refused)),
            (BreakpointKind::ReadWatch, 0x1000, 4, Err(BreakpointError::NotSupported)),
        ] {
            assert_eq!(check(&breakpoint(kind, address, len)), expected, "{kind:?} {address:#x} {len}");
        }
    }

    #[test]
    fn exits_are_told_apart() {
        let of = |exception, dr6| exit(&kvm_debug_exit_arch { exception, dr6, pc: 7, ..Default::default() });
        assert_eq!(of(1, 0xffff_4ff1), DebugExit::Step);
        assert_eq!(of(1, 0xffff_0ff4), DebugExit::Hardware(2));
        assert_eq!(of(1, 0xffff_0ff0), DebugExit::Guest);
        assert_eq!(of(3, 0), DebugExit::Instruction(7));
    }
}
