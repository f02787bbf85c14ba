//! x86 CPUs under KVM. Source: QEMU `target/i386/kvm/kvm.c`.

mod cpu_pm;
pub(crate) mod debug;
mod dump;
mod host;
mod put;
mod state;
mod synic;
mod user_irq;
mod vectors;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use accel_kvm::kvm_bindings::{
    CpuId, KVM_CAP_HYPERV_SYNIC, KVM_MP_STATE_HALTED, kvm_cpuid_entry2, kvm_debug_exit_arch, kvm_enable_cap,
    kvm_guest_debug, kvm_regs, kvm_sregs,
};
use accel_kvm::kvm_ioctls::{Cap, VcpuFd};
use accel_kvm::{DebugExit, HwBreakpoint, KvmArch, KvmArchCpu, KvmState};
use hw_core::Machine;
use hw_core::debug::BreakpointError;
use memory::{MemTxResult, address_space_memory};
use qom::{Error, Result, bail};

use crate::cpu::X86Cpu;
use crate::cpuid::{VcpuPlace, build_cpuid};
use crate::host::{CpuidEntry, IrqChip};
use crate::hyperv;
use crate::msrs::{self, Available};
use crate::reset::{MpState, Registers};

pub use cpu_pm::enable_cpu_pm;
pub use dump::segment_flags;
pub(crate) use host::host;
pub(crate) use user_irq::UserIrq;

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
            if !kvm.kvm.check_extension(cap) {
                bail!("kvm does not support {name}");
            }
        }
        if kvm.kvm.check_extension(Cap::SetIdentityMapAddr) {
            kvm.vm.then(|vm| {
                vm.set_identity_map_address(IDENTITY_MAP_BASE).map_err(refused("KVM_SET_IDENTITY_MAP_ADDR"))
            })?;
        }
        kvm.vm.then(|vm| vm.set_tss_address(TSS_BASE as usize).map_err(refused("KVM_SET_TSS_ADDR")))?;
        if kvm.shadow_mem_pages > 0 {
            kvm.set_shadow_mmu_pages()?;
        }
        cpu_pm::init(kvm);
        host::init(kvm)
    }

    fn breakpoint_instruction(&self) -> &'static [u8] {
        debug::INT3
    }

    fn max_hw_breakpoints(&self) -> usize {
        debug::BREAKPOINTS
    }

    fn check_hw_breakpoint(&self, breakpoint: &HwBreakpoint) -> std::result::Result<(), BreakpointError> {
        debug::check(breakpoint)
    }
}

fn to_kvm(entry: &CpuidEntry) -> kvm_cpuid_entry2 {
    let CpuidEntry { function, index, flags, eax, ebx, ecx, edx } = *entry;
    kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

/// The registers of `cpu`, whose thread this must be, as text; without KVM those after reset.
pub(crate) fn dump_current(cpu: &X86Cpu) -> String {
    let dumped = synchronized(cpu, |vcpu| dump::dump_state(vcpu, dump::Beyond::Fpu));
    dumped.unwrap_or_else(|| dump::dump_reset_state(&cpu.pending.lock().state))
}

/// The registers of a CPU, for whoever looks at the machine; called on the CPU's own thread. Without KVM they are those
/// after reset.
pub fn registers(cpu: &X86Cpu) -> Option<(kvm_regs, kvm_sregs)> {
    let read = synchronized(cpu, |vcpu| Some((vcpu.get_regs().ok()?, vcpu.get_sregs().ok()?)));
    read.unwrap_or_else(|| {
        let state = &cpu.pending.lock().state;
        Some((put::regs(&state.registers), put::sregs(state)))
    })
}

/// Raises the NMI line of the vCPU whose thread this is: LINT1 of its local APIC says whether it hears it.
pub(crate) fn nmi_current() {
    accel_kvm::with_current_vcpu(|vcpu| {
        if !vcpu.get_lapic().is_ok_and(|lapic| put::lint1_takes_nmi(&lapic)) {
            return;
        }
        if let Err(error) = vcpu.nmi() {
            util::error_report!("KVM: injection failed, NMI lost ({error})");
        }
    });
}

/// Calls `f` with the vCPU of `cpu`, whose thread this must be, after KVM was told what changed outside the guest
/// (`cpu_synchronize_state`).
pub(crate) fn synchronized<R>(cpu: &X86Cpu, f: impl FnOnce(&VcpuFd) -> R) -> Option<R> {
    accel_kvm::with_current_vcpu(|vcpu| cpu.put_registers(vcpu).is_ok().then(|| f(vcpu))).flatten()
}

/// Where the page tables lead from the linear address.
pub(crate) fn translate(vcpu: &VcpuFd, address: u64) -> Option<u64> {
    let translation = vcpu.translate_gva(address).ok()?;
    (translation.valid != 0).then_some(translation.physical_address)
}

/// Eight bytes at a linear address, which lie in one page.
pub(crate) fn read_linear(vcpu: &VcpuFd, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    let result = address_space_memory().read(translate(vcpu, address)?, &mut bytes);
    (result == MemTxResult::Ok).then_some(u64::from_le_bytes(bytes))
}

/// Whether the vCPU waits for an interrupt.
pub(crate) fn is_halted(vcpu: &VcpuFd) -> bool {
    vcpu.get_mp_state().is_ok_and(|state| state.mp_state == KVM_MP_STATE_HALTED)
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
        if wanted > 0 && kvm.kvm.check_extension(Cap::TscControl) {
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
        if hyperv::has_synic(&cpu.config) {
            // The older of two capabilities: with it the kernel clears the pages that the guest hands it.
            let cap = kvm_enable_cap { cap: KVM_CAP_HYPERV_SYNIC, ..Default::default() };
            vcpu.enable_cap(&cap)
                .map_err(refused("failed to turn on HyperV SynIC in KVM: KVM_ENABLE_CAP"))?;
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
        let mut state = pending.state;
        let apic_in_kernel = host().irqchip != IrqChip::Off;
        if !apic_in_kernel {
            // A CPU that waits does so here, and the kernel hears of it when it runs.
            state.mp_state = MpState::Runnable;
        }
        if pending.init_only {
            return put::put_init_state(vcpu, &state);
        }
        let available = Available(host::msr_indices());
        let reset = msrs::reset_msrs(cpu, host(), available, !pending.was_reset);
        put::put_state(vcpu, &state)?;
        put::write_msrs(vcpu, &reset);
        put::write_msrs(vcpu, &pending.msrs);
        if hyperv::has_synic(&cpu.config) {
            synic::put(self.index(), &pending.msrs);
        }
        match apic_in_kernel {
            true => put::put_lapic(vcpu, self.apic_id(), pending.lint),
            false => Ok(()),
        }
    }

    fn process_async_events(&self, vcpu: &VcpuFd) {
        user_irq::process_async_events(self, vcpu);
    }

    fn is_idle(&self) -> bool {
        self.user_irq.is_idle()
    }

    fn halt(&self, interruptible: bool) {
        self.user_irq.halt(interruptible);
    }

    fn has_interrupt(&self) -> bool {
        self.user_irq.has_interrupt()
    }

    fn take_interrupt(&self) -> Option<u8> {
        self.user_irq.take_interrupt()
    }

    fn cr8(&self) -> u8 {
        self.user_irq.apic().map_or(0, |apic| apic.cr8())
    }

    fn set_apic_registers(&self, cr8: u8, apic_base: u64, smm: bool) {
        if self.user_irq.set_apic_registers(cr8, apic_base, smm) {
            self.wake_idle();
        }
    }

    fn ioapic_eoi(&self, vector: u8) {
        hw_intc::ioapic_eoi_broadcast(vector);
    }

    fn set_synic(&self, control: u64, event_page: u64, message_page: u64) {
        synic::set(self, control, event_page, message_page);
    }

    fn hyperv_hypercall(&self, input: u64, parameters: [u64; 2]) -> u64 {
        hw_hyperv::hypercall(input, parameters[0]).into()
    }

    fn dump_state(&self, vcpu: &VcpuFd) -> String {
        dump::dump_state(vcpu, dump::Beyond::Code)
    }

    fn set_debug_registers(&self, breakpoints: &[HwBreakpoint], debug: &mut kvm_guest_debug) {
        debug::set_registers(breakpoints, debug);
    }

    fn debug_exit(&self, exit: &kvm_debug_exit_arch) -> DebugExit {
        debug::exit(exit)
    }

    fn inject_debug_exception(&self, vcpu: &VcpuFd, exit: &kvm_debug_exit_arch) {
        debug::inject(vcpu, exit);
    }

    fn linear_pc(&self, vcpu: &VcpuFd) -> Option<u64> {
        debug::linear_pc(vcpu)
    }
}
