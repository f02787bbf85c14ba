//! The floating-point state in the form of XSAVE, which has what `KVM_GET_FPU` leaves out (MXCSR).

use kvm_bindings::kvm_xsave;
use kvm_ioctls::VcpuFd;
use qom::Result;

use crate::error::ioctl;

/// Sets a vCPU's state to an area that was read with `KVM_GET_XSAVE` and changed (`KVM_SET_XSAVE`).
///
/// # Errors
/// When KVM refuses it.
pub fn set_xsave(vcpu: &VcpuFd, xsave: &kvm_xsave) -> Result<()> {
    // SAFETY: KVM reads more than this structure only in processes that asked for larger state by `arch_prctl`
    // (AMX), which this one never does.
    unsafe { vcpu.set_xsave(xsave) }.map_err(|e| ioctl("KVM_SET_XSAVE", e))
}
