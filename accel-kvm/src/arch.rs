//! What a target brings for KVM to run its CPUs.

use std::sync::{Arc, OnceLock};

use hw_core::Machine;
use kvm_ioctls::VcpuFd;
use qom::{Interface, Result};

use crate::KvmState;

/// A target's part of a virtual machine.
pub trait KvmArch: Send + Sync {
    /// Sets up what has to be before the first vCPU (`kvm_arch_init`).
    ///
    /// # Errors
    /// What the kernel lacks or refuses.
    fn init(&self, kvm: &Arc<KvmState>, machine: &Machine) -> Result<()>;
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
    /// Registers and code bytes as text, for errors (`cpu_dump_state`).
    fn dump_state(&self, vcpu: &VcpuFd) -> String;
}

impl Interface for dyn KvmArchCpu {
    const TYPE_NAME: &'static str = "kvm-arch-cpu";
}
