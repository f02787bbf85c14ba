//! CPUs whose interrupt controllers are outside the kernel: what these have for a CPU, halting, INIT and start-up.
//!
//! Source: QEMU `target/i386/kvm/kvm.c` (`kvm_arch_process_async_events`, `kvm_handle_halt`), `target/i386/helper.c`
//! (`do_cpu_init`, `do_cpu_sipi`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use accel_kvm::kvm_ioctls::VcpuFd;
use hw_core::cpu::current_cpu;
use hw_intc::apic::CpuInterrupt;
use hw_intc::{ApicCpu, ApicDevice, cpu_get_pic_interrupt};
use serde::{Deserialize, Serialize};

use crate::cpu::{Pending, X86Cpu};
use crate::reset::X86State;

/// What waits for a CPU. All is empty where the kernel has the controllers.
#[derive(Default)]
pub(crate) struct UserIrq {
    apic: OnceLock<Arc<ApicDevice>>,
    /// The interrupt line.
    intr: AtomicBool,
    nmi: AtomicBool,
    smi: AtomicBool,
    init: AtomicBool,
    sipi: AtomicBool,
    halted: AtomicBool,
    /// In system management mode, where INIT waits.
    smm: AtomicBool,
    /// Whether it took interrupts when it halted.
    interruptible: AtomicBool,
}

/// What waits for a CPU, to be saved. The line is its driver's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    nmi: bool,
    smi: bool,
    init: bool,
    sipi: bool,
    halted: bool,
    interruptible: bool,
    #[serde(default)]
    smm: bool,
}

fn get(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst)
}

fn set(flag: &AtomicBool, value: bool) {
    flag.store(value, Ordering::SeqCst);
}

fn take(flag: &AtomicBool) -> bool {
    get(flag) && flag.swap(false, Ordering::SeqCst)
}

impl UserIrq {
    /// Its local APIC, if that is outside the kernel.
    pub(crate) fn apic(&self) -> Option<&Arc<ApicDevice>> {
        self.apic.get()
    }

    pub(crate) fn set_apic(&self, apic: Arc<ApicDevice>) {
        let _ = self.apic.set(apic);
    }

    /// As after reset: only the first CPU runs. The line is its driver's.
    pub(crate) fn reset(&self, bootstrap: bool) {
        for flag in [&self.nmi, &self.smi, &self.init, &self.sipi] {
            set(flag, false);
        }
        set(&self.halted, self.apic().is_some() && !bootstrap);
        set(&self.interruptible, false);
        set(&self.smm, false);
    }

    pub(crate) fn waiting(&self) -> Waiting {
        Waiting {
            nmi: get(&self.nmi),
            smi: get(&self.smi),
            init: get(&self.init),
            sipi: get(&self.sipi),
            halted: get(&self.halted),
            interruptible: get(&self.interruptible),
            smm: get(&self.smm),
        }
    }

    pub(crate) fn set_waiting(&self, waiting: &Waiting) {
        set(&self.nmi, waiting.nmi);
        set(&self.smi, waiting.smi);
        set(&self.init, waiting.init);
        set(&self.sipi, waiting.sipi);
        set(&self.halted, waiting.halted);
        set(&self.interruptible, waiting.interruptible);
        set(&self.smm, waiting.smm);
    }

    pub(crate) fn set_intr(&self, level: bool) {
        set(&self.intr, level);
    }

    pub(crate) fn has_interrupt(&self) -> bool {
        get(&self.intr)
    }

    pub(crate) fn halt(&self, interruptible: bool) {
        set(&self.interruptible, interruptible);
        set(&self.halted, true);
    }

    /// Whether something ends a halt.
    fn wakes(&self) -> bool {
        get(&self.intr) && get(&self.interruptible) || get(&self.nmi) || get(&self.smi)
    }

    pub(crate) fn is_idle(&self) -> bool {
        get(&self.halted) && !self.wakes() && !self.takes_init() && !get(&self.sipi)
    }

    /// Whether an INIT waits that can be taken.
    fn takes_init(&self) -> bool {
        get(&self.init) && !get(&self.smm)
    }

    pub(crate) fn take_interrupt(&self) -> Option<u8> {
        cpu_get_pic_interrupt(self.apic().map(|apic| &**apic))
    }

    /// Gives whether an INIT can be taken that could not before.
    #[must_use]
    pub(crate) fn set_apic_registers(&self, cr8: u8, base: u64, smm: bool) -> bool {
        let left_smm = get(&self.smm) && !smm;
        if get(&self.smm) != smm {
            set(&self.smm, smm);
        }
        let Some(apic) = self.apic() else { return false };
        if apic.cr8() != cr8 {
            apic.set_cr8(cr8);
        }
        if apic.base() != base {
            apic.set_base(base);
        }
        left_smm && get(&self.init)
    }
}

impl ApicCpu for X86Cpu {
    fn cpu_index(&self) -> u32 {
        self.index()
    }

    fn set_intr(&self, level: bool) {
        self.user_irq.set_intr(level);
        // The CPU itself looks before it goes on.
        if level && current_cpu() != Some(self.index()) {
            self.wake_idle();
        }
    }

    fn interrupt(&self, kind: CpuInterrupt) {
        let irq = &self.user_irq;
        set(
            match kind {
                CpuInterrupt::Nmi => &irq.nmi,
                CpuInterrupt::Smi => &irq.smi,
                CpuInterrupt::Init => &irq.init,
                CpuInterrupt::Sipi => &irq.sipi,
            },
            true,
        );
        // Its own thread, too, has to come out of the loop to take it up.
        self.wake_idle();
    }

    fn clear_apic_feature(&self) {
        // QEMU clears a copy of CPUID that KVM does not ask for again; the guest sees no change there, either.
    }
}

/// Takes up what came for the CPU whose thread this is.
pub(super) fn process_async_events(cpu: &X86Cpu, vcpu: &VcpuFd) {
    let irq = &cpu.user_irq;
    if irq.takes_init() && take(&irq.init) {
        init(cpu);
    }
    if irq.wakes() {
        set(&irq.halted, false);
    }
    if take(&irq.nmi)
        && let Err(error) = vcpu.nmi()
    {
        util::error_report!("KVM: injection failed, NMI lost ({error})");
    }
    if take(&irq.smi) {
        // A KVM without SMM has no such interrupt.
        let _ = vcpu.smi();
    }
    if take(&irq.sipi) {
        start_up(cpu);
    }
}

/// INIT: the CPU is as after reset but for MSRs, and waits to be started unless it is the first (`do_cpu_init`).
fn init(cpu: &X86Cpu) {
    let (Some(expanded), Some(apic)) = (cpu.expanded(), cpu.user_irq.apic()) else { return };
    apic.init_reset();
    let mut state = X86State::reset(expanded, cpu.is_bootstrap());
    state.apic_base = apic.base();
    {
        let mut pending = cpu.pending.lock();
        // Before a reset has reached KVM it is still a reset.
        let init_only = !cpu.dirty.load(Ordering::Acquire) || pending.init_only;
        *pending = Pending { state, was_reset: true, init_only, ..pending.clone() };
    }
    cpu.dirty.store(true, Ordering::Release);
    cpu.user_irq.halt(false);
    set(&cpu.user_irq.halted, !cpu.is_bootstrap());
}

/// A start-up interrupt: the CPU begins in real mode at the page that it names (`do_cpu_sipi`).
fn start_up(cpu: &X86Cpu) {
    let Some(page) = cpu.user_irq.apic().and_then(|apic| apic.sipi()) else { return };
    cpu.change_state(|state| {
        state.cs.selector = u16::from(page) << 8;
        state.cs.base = u64::from(page) << 12;
        state.registers.rip = 0;
    });
    set(&cpu.user_irq.halted, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SDM volume 3C, 32.3: INIT is held pending in system management mode.
    #[test]
    fn init_waits_for_the_end_of_system_management_mode() {
        let irq = UserIrq::default();
        irq.set_waiting(&Waiting { init: true, halted: true, smm: true, ..Waiting::default() });
        assert!(!irq.takes_init() && irq.is_idle());
        set(&irq.smm, false);
        assert!(irq.takes_init() && !irq.is_idle());
        irq.reset(true);
        assert_eq!(irq.waiting(), Waiting::default());
    }
}
