//! A CPU's synthetic interrupt controller, where the guest takes KVM for Hyper-V. Source: QEMU
//! `target/i386/kvm/hyperv.c`.

use hw_hyperv::{CONTROL, EVENT_PAGE, MESSAGE_PAGE, SynicRegisters, synic_set};

use crate::cpu::X86Cpu;
use crate::msrs::MsrValue;

/// After a reset, or with MSRs of a state that is loaded.
pub(crate) fn put(vp_index: u32, msrs: &[MsrValue]) {
    let value = |wanted| msrs.iter().find(|(index, _)| *index == wanted).map_or(0, |(_, value)| *value);
    let registers = SynicRegisters {
        control: value(CONTROL),
        event_page: value(EVENT_PAGE),
        message_page: value(MESSAGE_PAGE),
    };
    synic_set(vp_index, registers);
}

/// The guest wrote them.
pub(crate) fn set(cpu: &X86Cpu, control: u64, event_page: u64, message_page: u64) {
    // Otherwise KVM has the SynIC for itself.
    if cpu.expanded().is_some_and(|cpu| !cpu.config.props.hv_synic_kvm_only) {
        synic_set(cpu.index(), SynicRegisters { control, event_page, message_page });
    }
}
