//! All that a CPU has, from KVM and back to it (`kvm_arch_get_registers`, `kvm_arch_put_registers`).

use std::sync::atomic::Ordering;

use accel_kvm::kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, Msrs, kvm_debugregs, kvm_dtable, kvm_lapic_state,
    kvm_msr_entry, kvm_segment, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use accel_kvm::kvm_ioctls::VcpuFd;
use accel_kvm::set_xsave;
use hw_core::VmState;
use qom::{Error, Result, bail};
use serde::{Deserialize, Serialize};

use super::host::{host, msr_indices};
use super::user_irq::Waiting;
use super::{put, refused, synchronized};
use crate::cpu::X86Cpu;
use crate::host::IrqChip;
use crate::msrs::{Available, MsrValue, reset_msrs, saved_only};
use crate::reset::{MpState, Segment, Table, X86State};

/// A CPU's state. Without an accelerator that runs it, it is what the CPU would begin with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CpuState {
    registers: X86State,
    /// x87, SSE and AVX as XSAVE has them, without the zeroes at the end.
    xsave: Vec<u32>,
    msrs: Vec<MsrValue>,
    /// What KVM has pending: exceptions, interrupts, NMIs, system management mode.
    events: Option<kvm_vcpu_events>,
    /// The registers of the kernel's local APIC, one each 16 bytes.
    apic: Option<Vec<u32>>,
    /// What controllers outside the kernel have for it.
    waiting: Waiting,
}

fn segment(from: &kvm_segment) -> Segment {
    Segment {
        selector: from.selector,
        base: from.base,
        limit: from.limit,
        kind: from.type_,
        s: from.s != 0,
        dpl: from.dpl,
        present: from.present != 0 && from.unusable == 0,
        avl: from.avl != 0,
        l: from.l != 0,
        db: from.db != 0,
        g: from.g != 0,
    }
}

fn table(from: &kvm_dtable) -> Table {
    Table { base: from.base, limit: from.limit }
}

fn with_sregs(state: X86State, sregs: &kvm_sregs) -> X86State {
    X86State {
        cs: segment(&sregs.cs),
        ds: segment(&sregs.ds),
        es: segment(&sregs.es),
        ss: segment(&sregs.ss),
        fs: segment(&sregs.fs),
        gs: segment(&sregs.gs),
        tr: segment(&sregs.tr),
        ldt: segment(&sregs.ldt),
        gdt: table(&sregs.gdt),
        idt: table(&sregs.idt),
        cr0: sregs.cr0,
        cr2: sregs.cr2,
        cr3: sregs.cr3,
        cr4: sregs.cr4,
        cr8: sregs.cr8,
        efer: sregs.efer,
        apic_base: sregs.apic_base,
        ..state
    }
}

fn get_registers(vcpu: &VcpuFd) -> Result<X86State> {
    let regs = vcpu.get_regs().map_err(refused("KVM_GET_REGS"))?;
    let sregs = vcpu.get_sregs().map_err(refused("KVM_GET_SREGS"))?;
    let fpu = vcpu.get_fpu().map_err(refused("KVM_GET_FPU"))?;
    let debug: kvm_debugregs = vcpu.get_debug_regs().map_err(refused("KVM_GET_DEBUGREGS"))?;
    let mp_state = vcpu.get_mp_state().map_err(refused("KVM_GET_MP_STATE"))?.mp_state;
    // A host without XSAVE has no XCR0.
    let xcrs: kvm_xcrs = vcpu.get_xcrs().unwrap_or_default();
    let xcr0 = xcrs.xcrs.iter().take(xcrs.nr_xcrs as usize).find(|xcr| xcr.xcr == 0);
    let state = X86State {
        registers: put::registers(&regs),
        xcr0: xcr0.map_or(0, |xcr| xcr.value),
        dr: debug.db,
        dr6: debug.dr6,
        dr7: debug.dr7,
        fcw: fpu.fcw,
        mxcsr: fpu.mxcsr,
        mp_state: match mp_state {
            KVM_MP_STATE_RUNNABLE => MpState::Runnable,
            KVM_MP_STATE_HALTED => MpState::Halted,
            _ => MpState::InitReceived,
        },
        ..X86State::default()
    };
    Ok(with_sregs(state, &sregs))
}

/// The values of MSRs, as far as KVM gives them.
fn get_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Vec<MsrValue> {
    let mut values = Vec::new();
    let mut left = indices;
    while !left.is_empty() {
        let entries: Vec<_> =
            left.iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() }).collect();
        let Ok(mut list) = Msrs::from_entries(&entries) else { break };
        let done = vcpu.get_msrs(&mut list).unwrap_or_default();
        values.extend(list.as_slice().iter().take(done).map(|entry| (entry.index, entry.data)));
        // The one behind is one that it does not give.
        left = left.get(done + 1..).unwrap_or_default();
    }
    values
}

/// The MSRs that make up a CPU's state.
fn msrs_of(cpu: &X86Cpu) -> Vec<u32> {
    let Some(expanded) = cpu.expanded() else { return Vec::new() };
    let available = Available(msr_indices());
    let mut list: Vec<u32> =
        reset_msrs(expanded, host(), available, false).into_iter().map(|(index, _)| index).collect();
    list.extend(saved_only(expanded, available));
    list
}

/// Registers of a local APIC's page: 64, one each 16 bytes.
const APIC_REGISTERS: usize = 64;

fn apic_registers(lapic: &kvm_lapic_state) -> Vec<u32> {
    let byte = |at: usize| lapic.regs.get(at).map_or(0, |byte| *byte as u8);
    let register = |n: usize| u32::from_le_bytes(std::array::from_fn(|at| byte(16 * n + at)));
    (0..APIC_REGISTERS).map(register).collect()
}

fn apic_page(registers: &[u32]) -> kvm_lapic_state {
    let mut lapic = kvm_lapic_state::default();
    for (chunk, register) in lapic.regs.chunks_mut(16).zip(registers) {
        for (to, from) in chunk.iter_mut().zip(register.to_le_bytes()) {
            *to = from as _;
        }
    }
    lapic
}

fn get(cpu: &X86Cpu, vcpu: &VcpuFd) -> Result<CpuState> {
    let mut xsave = vcpu.get_xsave().map_or_else(|_| Vec::new(), |xsave| xsave.region.to_vec());
    let used = xsave.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
    xsave.truncate(used);
    let apic_in_kernel = host().irqchip != IrqChip::Off;
    let lapic = if apic_in_kernel { Some(vcpu.get_lapic().map_err(refused("KVM_GET_LAPIC"))?) } else { None };
    Ok(CpuState {
        registers: get_registers(vcpu)?,
        xsave,
        msrs: get_msrs(vcpu, &msrs_of(cpu)),
        events: Some(vcpu.get_vcpu_events().map_err(refused("KVM_GET_VCPU_EVENTS"))?),
        apic: lapic.as_ref().map(apic_registers),
        waiting: cpu.user_irq.waiting(),
    })
}

/// In QEMU's order: the local APIC before the MSR that is its deadline, what is pending after all.
fn put(cpu: &X86Cpu, vcpu: &VcpuFd, state: &CpuState) -> Result<()> {
    put::put_state(vcpu, &state.registers)?;
    if !state.xsave.is_empty() {
        let mut xsave = kvm_xsave::default();
        xsave.region.iter_mut().zip(&state.xsave).for_each(|(to, from)| *to = *from);
        set_xsave(vcpu, &xsave)?;
    }
    if let (Some(registers), true) = (&state.apic, host().irqchip != IrqChip::Off) {
        vcpu.set_lapic(&apic_page(registers)).map_err(refused("KVM_SET_LAPIC"))?;
    }
    let own = msrs_of(cpu);
    let msrs: Vec<_> = state.msrs.iter().copied().filter(|(index, _)| own.contains(index)).collect();
    put::write_msrs(vcpu, &msrs);
    if let Some(events) = &state.events {
        vcpu.set_vcpu_events(events).map_err(refused("KVM_SET_VCPU_EVENTS"))?;
    }
    cpu.user_irq.set_waiting(&state.waiting);
    Ok(())
}

/// Calls `f` on the CPU's own thread; `None`: it is gone.
fn on_thread<R: Send + 'static>(cpu: &X86Cpu, f: impl FnOnce(&X86Cpu) -> R + Send + 'static) -> Option<R> {
    let this = cpu.this();
    cpu.run_on_cpu(move || this.cast::<X86Cpu>().map(f)).flatten()
}

impl VmState for X86Cpu {
    type State = CpuState;

    fn save(&self) -> Option<CpuState> {
        on_thread(self, |cpu| match synchronized(cpu, |vcpu| get(cpu, vcpu)) {
            Some(Ok(state)) => Some(state),
            Some(Err(error)) => {
                util::error_report!("{error}");
                None
            }
            None => Some(CpuState {
                registers: cpu.pending.lock().state.clone(),
                waiting: cpu.user_irq.waiting(),
                ..CpuState::default()
            }),
        })
        .flatten()
    }

    fn load(&self, mut state: CpuState) -> Result<()> {
        if host().irqchip == IrqChip::Off {
            // It waits here, not in the kernel.
            state.registers.mp_state = MpState::Runnable;
        }
        let loaded = on_thread(self, move |cpu| {
            let done = synchronized(cpu, |vcpu| put(cpu, vcpu, &state));
            done.unwrap_or_else(|| {
                cpu.pending.lock().state = state.registers.clone();
                cpu.user_irq.set_waiting(&state.waiting);
                cpu.dirty.store(true, Ordering::Release);
                Ok(())
            })
        });
        match loaded {
            Some(result) => result.map_err(|error: Error| error.prepend("the CPU's state: ")),
            None => bail!("the CPU is gone"),
        }
    }
}
