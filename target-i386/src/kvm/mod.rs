//! x86 CPUs under KVM. Source: QEMU `target/i386/kvm/kvm.c`.

mod dump;
mod host;
mod put;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use accel_kvm::kvm_bindings::{CpuId, kvm_cpuid_entry2};
use accel_kvm::kvm_ioctls::{Cap, VcpuFd};
use accel_kvm::{KvmArch, KvmArchCpu, KvmState};
use hw_core::Machine;
use qom::{Error, Result, bail};

use crate::cpu::X86Cpu;
use crate::cpuid::{VcpuPlace, build_cpuid};
use crate::host::CpuidEntry;
use crate::msrs::{self, Available};
use crate::reset::Registers;

pub(crate) use host::host;

/// Where the identity map of EPT is: a page below the BIOS, and three of the TSS behind it
/// (`kvm_arch_init`).
pub const IDENTITY_MAP_BASE: u64 = 0xfeff_c000;
/// The TSS, three pages.
const TSS_BASE: u64 = IDENTITY_MAP_BASE + 0x1000;
/// Size of both, which the guest must be told is reserved.
pub const IDENTITY_MAP_SIZE: u64 = 0x4000;

/// x86's part of a KVM machine.
pub(crate) struct X86KvmArch;

pub(crate) fn refused(what: &str) -> impl Fn(accel_kvm::kvm_ioctls::Error) -> Error + '_ {
    move |error| Error::new(format!("{what} failed: {}", std::io::Error::from(error)))
}

impl KvmArch for X86KvmArch {
    fn init(&self, kvm: &Arc<KvmState>, _machine: &Machine) -> Result<()> {
        for (cap, name) in [(Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"), (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID")] {
            if !kvm.vm.check_extension(cap) {
                bail!("kvm does not support {name}");
            }
        }
        if kvm.vm.check_extension(Cap::SetIdentityMapAddr) {
            kvm.vm
                .set_identity_map_address(IDENTITY_MAP_BASE)
                .map_err(refused("KVM_SET_IDENTITY_MAP_ADDR"))?;
        }
        kvm.vm.set_tss_address(TSS_BASE as usize).map_err(refused("KVM_SET_TSS_ADDR"))?;
        if kvm.shadow_mem_pages > 0 {
            kvm.set_shadow_mmu_pages()?;
        }
        host::init(kvm)
    }
}

fn to_kvm(entry: &CpuidEntry) -> kvm_cpuid_entry2 {
    let CpuidEntry { function, index, flags, eax, ebx, ecx, edx } = *entry;
    kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

/// The registers of the vCPU whose thread this is, as text.
pub(crate) fn dump_current() -> Option<String> {
    accel_kvm::with_current_vcpu(|vcpu| dump::dump_state(vcpu))
}

/// Raises the NMI line of the vCPU whose thread this is: LINT1 of its local APIC says whether it hears it.
pub(crate) fn nmi_current() {
    accel_kvm::with_current_vcpu(|vcpu| {
        if !vcpu.get_lapic().is_ok_and(|lapic| put::lint1_takes_nmi(&lapic)) {
            return;
        }
        if let Err(error) = vcpu.nmi() {
            eprintln!("softmmu: KVM: injection failed, NMI lost ({error})");
        }
    });
}

/// The general registers of the vCPU whose thread this is.
pub(crate) fn current_registers() -> Option<Registers> {
    accel_kvm::with_current_vcpu(|vcpu| vcpu.get_regs().ok()).flatten().map(|regs| put::registers(&regs))
}

/// Has the vCPU whose thread this is go on with other registers.
pub(crate) fn set_current_registers(registers: &Registers) {
    // KVM refuses only flags that no guest can have, and those are the vCPU's own.
    let _ = accel_kvm::with_current_vcpu(|vcpu| vcpu.set_regs(&put::regs(registers)));
}

/// Queues a system management interrupt for the vCPU whose thread this is (`KVM_SMI`).
pub(crate) fn inject_smi() {
    // A KVM without SMM has no such interrupt.
    let _ = accel_kvm::with_current_vcpu(|vcpu| vcpu.smi());
}

/// How fast the time-stamp counter of the vCPU counts whose thread this is, in kHz; 0 where KVM does not say.
pub(crate) fn current_tsc_khz() -> u32 {
    accel_kvm::with_current_vcpu(|vcpu| vcpu.get_tsc_khz().unwrap_or_default()).unwrap_or_default()
}

impl KvmArchCpu for X86Cpu {
    fn vcpu_id(&self) -> u64 {
        self.apic_id().into()
    }

    fn init_vcpu(&self, kvm: &KvmState, vcpu: &VcpuFd) -> Result<()> {
        let Some(cpu) = self.expanded() else { bail!("the CPU's features are not settled") };
        let wanted = cpu.config.tsc_khz;
        if wanted > 0 && kvm.vm.check_extension(Cap::TscControl) {
            let khz = u32::try_from(wanted).unwrap_or(u32::MAX);
            vcpu.set_tsc_khz(khz).map_err(refused("KVM_SET_TSC_KHZ"))?;
        }
        let tsc_khz = vcpu.get_tsc_khz().unwrap_or_default();
        let place = VcpuPlace { topology: self.topology(), apic_id: self.apic_id(), tsc_khz };
        let entries: Vec<_> = build_cpuid(cpu, host(), &place).iter().map(to_kvm).collect();
        let Ok(cpuid) = CpuId::from_entries(&entries) else { bail!("too many CPUID leaves for KVM") };
        vcpu.set_cpuid2(&cpuid).map_err(refused("KVM_SET_CPUID2"))?;
        if let Some(cap) = cpu.mcg_cap {
            host::setup_mce(vcpu, cap)?;
        }
        let available = host::msr_indices();
        put::write_msrs(vcpu, &msrs::feature_msrs(cpu, host(), Available(available)));
        Ok(())
    }

    fn put_registers(&self, vcpu: &VcpuFd) -> Result<()> {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let Some(cpu) = self.expanded() else { return Ok(()) };
        let pending = self.pending.lock().clone();
        let available = Available(host::msr_indices());
        let reset = msrs::reset_msrs(cpu, host(), available, !pending.was_reset);
        put::put_state(vcpu, &pending.state)?;
        put::write_msrs(vcpu, &reset);
        put::write_msrs(vcpu, &pending.msrs);
        put::put_lapic(vcpu, self.apic_id(), self.is_bootstrap(), pending.lint)
    }

    fn dump_state(&self, vcpu: &VcpuFd) -> String {
        dump::dump_state(vcpu)
    }
}
