//! Registers into KVM (`kvm_arch_put_registers`).

use std::sync::atomic::{AtomicBool, Ordering};

use accel_kvm::kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, KVM_VCPUEVENT_VALID_SMM, Msrs,
    kvm_debugregs, kvm_dtable, kvm_fpu, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_segment,
    kvm_sregs, kvm_vcpu_events, kvm_xcr, kvm_xcrs,
};
use accel_kvm::kvm_ioctls::VcpuFd;
use qom::Result;

use super::refused;
use crate::msrs::MsrValue;
use crate::msrs::spec::IA32_SMBASE;
use crate::reset::{MpState, Registers, Segment, Table, X86State};

fn segment(from: &Segment) -> kvm_segment {
    kvm_segment {
        base: from.base,
        limit: from.limit,
        selector: from.selector,
        type_: from.kind,
        present: from.present.into(),
        dpl: from.dpl,
        db: from.db.into(),
        s: from.s.into(),
        l: from.l.into(),
        g: from.g.into(),
        avl: from.avl.into(),
        unusable: u8::from(!from.present),
        padding: 0,
    }
}

fn table(from: &Table) -> kvm_dtable {
    kvm_dtable { base: from.base, limit: from.limit, ..Default::default() }
}

pub(crate) fn sregs(state: &X86State) -> kvm_sregs {
    kvm_sregs {
        cs: segment(&state.cs),
        ds: segment(&state.ds),
        es: segment(&state.es),
        fs: segment(&state.fs),
        gs: segment(&state.gs),
        ss: segment(&state.ss),
        tr: segment(&state.tr),
        ldt: segment(&state.ldt),
        gdt: table(&state.gdt),
        idt: table(&state.idt),
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        cr8: state.cr8,
        efer: state.efer,
        apic_base: state.apic_base,
        ..Default::default()
    }
}

pub(crate) fn regs(from: &Registers) -> kvm_regs {
    kvm_regs {
        rax: from.rax,
        rbx: from.rbx,
        rcx: from.rcx,
        rdx: from.rdx,
        rsi: from.rsi,
        rdi: from.rdi,
        rsp: from.rsp,
        rbp: from.rbp,
        r8: from.r8,
        r9: from.r9,
        r10: from.r10,
        r11: from.r11,
        r12: from.r12,
        r13: from.r13,
        r14: from.r14,
        r15: from.r15,
        rip: from.rip,
        rflags: from.rflags,
    }
}

/// The other way round.
pub(crate) fn registers(from: &kvm_regs) -> Registers {
    Registers {
        rax: from.rax,
        rbx: from.rbx,
        rcx: from.rcx,
        rdx: from.rdx,
        rsi: from.rsi,
        rdi: from.rdi,
        rsp: from.rsp,
        rbp: from.rbp,
        r8: from.r8,
        r9: from.r9,
        r10: from.r10,
        r11: from.r11,
        r12: from.r12,
        r13: from.r13,
        r14: from.r14,
        r15: from.r15,
        rip: from.rip,
        rflags: from.rflags,
    }
}

/// Nothing pending, and out of system management mode where there is one.
fn no_events() -> kvm_vcpu_events {
    let has_smm = super::host::msr_indices().contains(&IA32_SMBASE);
    kvm_vcpu_events { flags: if has_smm { KVM_VCPUEVENT_VALID_SMM } else { 0 }, ..Default::default() }
}

/// Everything but MSRs and the local APIC.
pub(crate) fn put_state(vcpu: &VcpuFd, state: &X86State) -> Result<()> {
    let fpu = kvm_fpu { fcw: state.fcw, mxcsr: state.mxcsr, ..Default::default() };
    vcpu.set_fpu(&fpu).map_err(refused("KVM_SET_FPU"))?;
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    xcrs.xcrs[0] = kvm_xcr { xcr: 0, value: state.xcr0, ..Default::default() };
    // A host without XSAVE has no XCR0 to set.
    let _ = vcpu.set_xcrs(&xcrs);
    put_init_state(vcpu, state)
}

/// What INIT sets: neither MSRs nor the floating-point unit.
pub(crate) fn put_init_state(vcpu: &VcpuFd, state: &X86State) -> Result<()> {
    vcpu.set_regs(&regs(&state.registers)).map_err(refused("KVM_SET_REGS"))?;
    vcpu.set_sregs(&sregs(state)).map_err(refused("KVM_SET_SREGS"))?;
    vcpu.set_vcpu_events(&no_events()).map_err(refused("KVM_SET_VCPU_EVENTS"))?;
    let debug = kvm_debugregs { db: state.dr, dr6: state.dr6, dr7: state.dr7, ..Default::default() };
    vcpu.set_debug_regs(&debug).map_err(refused("KVM_SET_DEBUGREGS"))?;
    let mp_state = match state.mp_state {
        MpState::Runnable => KVM_MP_STATE_RUNNABLE,
        MpState::InitReceived => KVM_MP_STATE_UNINITIALIZED,
        MpState::Halted => KVM_MP_STATE_HALTED,
    };
    vcpu.set_mp_state(kvm_mp_state { mp_state }).map_err(refused("KVM_SET_MP_STATE"))
}

/// Sets MSRs; one that the host refuses is named once, and the rest are set.
pub(crate) fn write_msrs(vcpu: &VcpuFd, msrs: &[MsrValue]) {
    let mut entries: Vec<kvm_msr_entry> = msrs
        .iter()
        .map(|(index, data)| kvm_msr_entry { index: *index, data: *data, ..Default::default() })
        .collect();
    while !entries.is_empty() {
        let Ok(list) = Msrs::from_entries(&entries) else { return };
        let done = vcpu.set_msrs(&list).unwrap_or_default();
        if done >= entries.len() {
            return;
        }
        warn_refused(entries[done]);
        entries.drain(..=done);
    }
}

fn warn_refused(msr: kvm_msr_entry) {
    static WARNED: [AtomicBool; 64] = [const { AtomicBool::new(false) }; 64];
    // A few bits of the index tell the handful of refused MSRs apart well enough.
    let slot = &WARNED[(msr.index % 61) as usize];
    if !slot.swap(true, Ordering::Relaxed) {
        let (index, data) = (msr.index, msr.data);
        util::warn_report!("the host's KVM refuses MSR {index:#x} = {data:#x}: left as it is");
    }
}

/// Registers of the local APIC (SDM volume 3A, table 10-1).
mod apic {
    pub const ID: usize = 0x20;
    pub const DFR: usize = 0xe0;
    pub const SPURIOUS: usize = 0xf0;
    /// Timer, thermal, performance counters, LINT0, LINT1, error.
    pub const LVT: [usize; 6] = [0x320, 0x330, 0x340, 0x350, 0x360, 0x370];
    pub const LINT0: usize = 0x350;
    pub const LINT1: usize = 0x360;
    pub const LVT_MASKED: u32 = 1 << 16;
    pub const LVT_DELIVERY_MODE: u32 = 0x700;
    pub const LVT_NMI: u32 = 0x400;
    /// All of the register: no vector yet, APIC off.
    pub const SPURIOUS_RESET: u32 = 0xff;
    /// Flat model.
    pub const DFR_RESET: u32 = 0xffff_ffff;
    /// Enables the APIC.
    pub const SPURIOUS_ENABLE: u32 = 1 << 8;
}

/// Whether the CPU hears its NMI line.
pub(crate) fn lint1_takes_nmi(lapic: &kvm_lapic_state) -> bool {
    let bytes = lapic.regs.iter().skip(apic::LINT1).take(4).enumerate();
    let lint1 = bytes.fold(0, |value, (at, byte)| value | u32::from(*byte as u8) << (8 * at));
    lint1 & apic::LVT_MASKED == 0 && lint1 & apic::LVT_DELIVERY_MODE == apic::LVT_NMI
}

/// The local APIC after reset; `lint` is what firmware makes of its two lines, having enabled it.
pub(crate) fn put_lapic(vcpu: &VcpuFd, id: u32, lint: Option<(u32, u32)>) -> Result<()> {
    let mut lapic = kvm_lapic_state::default();
    let mut set = |at: usize, value: u32| {
        for (to, from) in lapic.regs.iter_mut().skip(at).zip(value.to_le_bytes()) {
            *to = from as _;
        }
    };
    set(apic::ID, id << 24);
    set(apic::DFR, apic::DFR_RESET);
    set(apic::SPURIOUS, apic::SPURIOUS_RESET);
    apic::LVT.into_iter().for_each(|at| set(at, apic::LVT_MASKED));
    if let Some((lint0, lint1)) = lint {
        set(apic::SPURIOUS, apic::SPURIOUS_RESET | apic::SPURIOUS_ENABLE);
        set(apic::LINT0, lint0);
        set(apic::LINT1, lint1);
    }
    vcpu.set_lapic(&lapic).map_err(refused("KVM_SET_LAPIC"))
}
