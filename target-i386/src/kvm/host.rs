//! What the host's KVM can do, asked once.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use accel_kvm::kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_msr_entry};
use accel_kvm::kvm_ioctls::{Cap, VcpuFd};
use accel_kvm::{KernelIrqchip, KvmState};
use hw_core::accel::current_accel_name;
use qom::{Result, bail};

use super::{cpu_pm, refused};
use crate::host::{CpuidEntry, HostCpu, IrqChip};
use crate::msrs::spec::IA32_ARCH_CAPABILITIES;

struct Host {
    cpu: HostCpu,
    msrs: Vec<u32>,
}

static HOST: OnceLock<Host> = OnceLock::new();

/// The host as CPU models see it; one that can do nothing before an accelerator is set up.
pub(crate) fn host() -> &'static HostCpu {
    static NONE: OnceLock<HostCpu> = OnceLock::new();
    static ANY: OnceLock<HostCpu> = OnceLock::new();
    match HOST.get() {
        Some(host) => &host.cpu,
        None if current_accel_name().is_some() => {
            ANY.get_or_init(|| HostCpu { runs_nothing: true, ..HostCpu::default() })
        }
        None => NONE.get_or_init(HostCpu::default),
    }
}

/// The MSRs of `KVM_GET_MSR_INDEX_LIST`.
pub(crate) fn msr_indices() -> &'static [u32] {
    HOST.get().map_or(&[], |host| &host.msrs)
}

/// Asks KVM.
pub(crate) fn init(kvm: &Arc<KvmState>) -> Result<()> {
    let supported =
        kvm.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused("KVM_GET_SUPPORTED_CPUID"))?;
    let msrs = kvm.kvm.get_msr_index_list().map_err(refused("KVM_GET_MSR_INDEX_LIST"))?.as_slice().to_vec();
    let cpu = HostCpu {
        supported: leaves(&supported),
        hyperv: kvm.supported_hv_cpuid().map(|list| leaves(&list)).unwrap_or_default(),
        cpuid: HostCpu::read_cpuid(),
        feature_msrs: feature_msrs(kvm),
        has_arch_capabilities: msrs.contains(&IA32_ARCH_CAPABILITIES),
        irqchip: match kvm.kernel_irqchip {
            KernelIrqchip::On => IrqChip::Kernel,
            KernelIrqchip::Split => IrqChip::Split,
            KernelIrqchip::Off => IrqChip::Off,
        },
        tsc_deadline: kvm.kvm.check_extension(Cap::TscDeadlineTimer),
        mce_cap: kvm.mce_cap_supported(),
        mce_banks: u32::try_from(kvm.kvm.check_extension_int(Cap::Mce)).unwrap_or_default(),
        cpu_pm: cpu_pm::enabled(),
        can_keep_mwait: cpu_pm::can_keep_mwait(kvm),
        ..HostCpu::default()
    };
    let _ = HOST.set(Host { cpu, msrs });
    Ok(())
}

fn leaves(list: &CpuId) -> Vec<CpuidEntry> {
    let entry = |e: &kvm_cpuid_entry2| CpuidEntry {
        function: e.function,
        index: e.index,
        flags: e.flags,
        eax: e.eax,
        ebx: e.ebx,
        ecx: e.ecx,
        edx: e.edx,
    };
    list.as_slice().iter().map(entry).collect()
}

/// Values of the MSRs that describe the processor. One that KVM lists and then refuses reads as absent.
fn feature_msrs(kvm: &KvmState) -> BTreeMap<u32, u64> {
    let Ok(list) = kvm.kvm.get_msr_feature_index_list() else { return BTreeMap::new() };
    let entries: Vec<_> =
        list.as_slice().iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() }).collect();
    let Ok(mut msrs) = Msrs::from_entries(&entries) else { return BTreeMap::new() };
    let read = kvm.kvm.get_msrs(&mut msrs).unwrap_or_default();
    msrs.as_slice().iter().take(read).map(|e| (e.index, e.data)).collect()
}

/// Turns machine checks on (`KVM_X86_SETUP_MCE`).
pub(crate) fn setup_mce(vcpu: &VcpuFd, cap: u64) -> Result<()> {
    if let Err(error) = accel_kvm::x86_setup_mce(vcpu, cap) {
        bail!("KVM_X86_SETUP_MCE failed: {error}");
    }
    Ok(())
}
