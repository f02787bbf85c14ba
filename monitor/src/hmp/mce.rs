//! `mce`: a machine check for the guest (target/i386/helper.c, `cpu_x86_inject_mce`; Intel SDM volume 3B, 16).

use std::sync::Arc;

use accel_kvm::kvm_bindings::{Msrs, kvm_msr_entry};
use accel_kvm::kvm_ioctls::VcpuFd;
use hw_core::cpu::cpu_list;
use hw_core::runstate::{self, ShutdownCause};
use qapi::{QapiEvent, QapiType};
use qom::Object;
use target_i386::X86Cpu;

use super::args::Args;
use super::cpus::index;
use super::session::{Session, out};
use super::x86::{read_msr, with_vcpu};

mod spec {
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MCG_CTL: u32 = 0x17b;
    /// A bank's registers are at this and the bank's number four times.
    pub const MC0_CTL: u32 = 0x400;
    pub const STATUS: u32 = 1;
    pub const ADDR: u32 = 2;
    pub const MISC: u32 = 3;

    pub const MCG_CAP_BANKS: u64 = 0xff;
    pub const MCG_CTL_P: u64 = 1 << 8;
    pub const MCG_STATUS_RIPV: u64 = 1;
    pub const MCG_STATUS_MCIP: u64 = 1 << 2;
    pub const MCI_VAL: u64 = 1 << 63;
    pub const MCI_OVER: u64 = 1 << 62;
    pub const MCI_UC: u64 = 1 << 61;
    pub const MCI_AR: u64 = 1 << 55;
    pub const CR4_MCE: u64 = 1 << 6;
    pub const VECTOR_DF: u8 = 8;
    pub const VECTOR_MC: u8 = 18;
    /// KVM's `KVM_MP_STATE_HALTED`.
    pub const HALTED: u32 = 3;
}

/// Who an error is for.
#[derive(QapiType)]
enum MemoryFailureRecipient {
    Guest,
}

/// What becomes of it.
#[derive(QapiType, Clone, Copy)]
enum MemoryFailureAction {
    Inject,
    Reset,
}

#[derive(QapiType)]
struct MemoryFailureFlags {
    action_required: bool,
    recursive: bool,
}

/// The guest's memory, or what it was told so of, has an error.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_MEMORY_FAILURE-arg", event = "MEMORY_FAILURE")]
struct MemoryFailure {
    recipient: MemoryFailureRecipient,
    action: MemoryFailureAction,
    flags: MemoryFailureFlags,
}

/// What a bank is to say.
#[derive(Clone, Copy)]
struct MachineCheck {
    bank: u32,
    status: u64,
    mcg_status: u64,
    addr: u64,
    misc: u64,
}

/// What came of it.
enum Outcome {
    /// The CPU cannot report it, which a message without a line's end says, and triple faults.
    TripleFault(&'static str),
    /// A line that says why it is not reported.
    Disabled(String),
    Done,
}

fn write(vcpu: &VcpuFd, values: &[(u32, u64)]) -> Option<()> {
    let entries: Vec<_> =
        values.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() }).collect();
    let msrs = Msrs::from_entries(&entries).ok()?;
    vcpu.set_msrs(&msrs).is_ok_and(|count| count == entries.len()).then_some(())
}

impl MachineCheck {
    fn register(&self, part: u32) -> u32 {
        spec::MC0_CTL + 4 * self.bank + part
    }

    /// Puts it into the CPU's bank, and the exception after it (`do_inject_x86_mce`).
    fn inject(mut self, vcpu: &VcpuFd) -> Option<(Outcome, bool)> {
        let recursive = read_msr(vcpu, spec::MCG_STATUS)? & spec::MCG_STATUS_MCIP != 0;
        let before = read_msr(vcpu, self.register(spec::STATUS))?;
        let fatal = self.status & spec::MCI_UC != 0;
        if !fatal && before & spec::MCI_VAL != 0 && before & spec::MCI_UC != 0 {
            write(vcpu, &[(self.register(spec::STATUS), before | spec::MCI_OVER)])?;
            return Some((Outcome::Done, recursive));
        }
        if fatal {
            let has_control = read_msr(vcpu, spec::MCG_CAP)? & spec::MCG_CTL_P != 0;
            if has_control && read_msr(vcpu, spec::MCG_CTL)? != u64::MAX {
                return Some((
                    Outcome::Disabled("Uncorrected error reporting disabled".to_owned()),
                    recursive,
                ));
            }
            if read_msr(vcpu, self.register(0))? != u64::MAX {
                let text = format!("Uncorrected error reporting disabled for bank {}", self.bank);
                return Some((Outcome::Disabled(text), recursive));
            }
            if vcpu.get_sregs().ok()?.cr4 & spec::CR4_MCE == 0 {
                return Some((Outcome::TripleFault("MCE capability is not enabled"), recursive));
            }
            if recursive {
                return Some((Outcome::TripleFault("Previous MCE still in progress"), recursive));
            }
        }
        if before & spec::MCI_VAL != 0 {
            self.status |= spec::MCI_OVER;
        }
        let (addr, misc) = (self.register(spec::ADDR), self.register(spec::MISC));
        write(vcpu, &[(addr, self.addr), (misc, self.misc), (self.register(spec::STATUS), self.status)])?;
        if !fatal {
            return Some((Outcome::Done, recursive));
        }
        write(vcpu, &[(spec::MCG_STATUS, self.mcg_status)])?;
        Some((raise(vcpu)?, recursive))
    }
}

/// The exception, at the next entry of the guest; a CPU that halts wakes up for it.
fn raise(vcpu: &VcpuFd) -> Option<Outcome> {
    let mut events = vcpu.get_vcpu_events().ok()?;
    let exception = &mut events.exception;
    if exception.injected != 0 && exception.nr == spec::VECTOR_DF {
        return Some(Outcome::TripleFault("double fault under way"));
    }
    (exception.injected, exception.nr, exception.has_error_code) = (1, spec::VECTOR_MC, 0);
    vcpu.set_vcpu_events(&events).ok()?;
    if let Ok(mut state) = vcpu.get_mp_state()
        && state.mp_state == spec::HALTED
    {
        state.mp_state = 0;
        vcpu.set_mp_state(state).ok()?;
    }
    Some(Outcome::Done)
}

/// Whether machine checks go to all CPUs of a processor such as this (`cpu_x86_support_mca_broadcast`).
fn broadcasts(cpu: &Arc<dyn Object>) -> bool {
    let leaf = cpu.cast::<X86Cpu>().and_then(|cpu| cpu.cpuid_leaf(1));
    let Some(signature) = leaf.map(|leaf| leaf.eax) else { return false };
    let family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
    let model = (signature >> 12 & 0xf0) + (signature >> 4 & 0xf);
    family == 6 && model >= 14 || family > 6
}

fn inject(mon: &mut Session, cpu: &Arc<dyn Object>, check: MachineCheck) -> Result<(), String> {
    let injected = with_vcpu(cpu, move |vcpu| check.inject(vcpu)).flatten();
    let Some((outcome, recursive)) = injected else { return Err("MCE injection not supported".to_owned()) };
    let number = index(cpu);
    let action = match outcome {
        Outcome::Disabled(text) => return Err(format!("CPU {number}: {text}")),
        Outcome::TripleFault(text) => {
            out!(mon, "CPU {number}: {text}, raising triple fault");
            runstate::reset_request(ShutdownCause::GuestReset);
            MemoryFailureAction::Reset
        }
        Outcome::Done => MemoryFailureAction::Inject,
    };
    let flags = MemoryFailureFlags { action_required: check.status & spec::MCI_AR != 0, recursive };
    qapi::emit(&MemoryFailure { recipient: MemoryFailureRecipient::Guest, action, flags });
    Ok(())
}

pub(crate) fn mce(mon: &mut Session, args: &Args) -> Result<(), String> {
    let wanted = args.number("cpu_index");
    let cpus = cpu_list();
    // As in QEMU, nothing is said of a CPU that is not there.
    let Some(cpu) = cpus.iter().find(|cpu| Some(i64::from(index(cpu))) == wanted) else { return Ok(()) };
    let cap = with_vcpu(cpu, |vcpu| read_msr(vcpu, spec::MCG_CAP)).flatten().unwrap_or_default();
    if cap == 0 {
        return Err("MCE injection not supported".to_owned());
    }
    let number = |name: &str| args.number(name).unwrap_or_default() as u64;
    let bank = u32::try_from(number("bank")).ok().filter(|bank| u64::from(*bank) < cap & spec::MCG_CAP_BANKS);
    let bank = bank.ok_or("Invalid MCE bank number")?;
    let status = number("status");
    if status & spec::MCI_VAL == 0 {
        return Err("Invalid MCE status code".to_owned());
    }
    let to_all = args.is_set("broadcast");
    if to_all && !broadcasts(cpu) {
        return Err("Guest CPU does not support MCA broadcast".to_owned());
    }
    let (mcg_status, addr, misc) = (number("mcg_status"), number("addr"), number("misc"));
    inject(mon, cpu, MachineCheck { bank, status, mcg_status, addr, misc })?;
    for other in cpus.iter().filter(|other| to_all && !Arc::ptr_eq(other, cpu)) {
        let mcg_status = spec::MCG_STATUS_MCIP | spec::MCG_STATUS_RIPV;
        let status = spec::MCI_VAL | spec::MCI_UC;
        inject(mon, other, MachineCheck { bank: 1, status, mcg_status, addr: 0, misc: 0 })?;
    }
    Ok(())
}
