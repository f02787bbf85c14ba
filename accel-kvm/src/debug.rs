//! Breakpoints, watchpoints and single steps for a debugger (`KVM_SET_GUEST_DEBUG`).
//!
//! A software breakpoint is the target's breakpoint instruction in guest memory; all else is in the debug
//! registers, which KVM keeps from the guest meanwhile. An exception that is not the debugger's goes to the guest.
//!
//! Source: QEMU `accel/kvm/kvm-all.c` (`kvm_insert_breakpoint`, `kvm_update_guest_debug`),
//! `target/i386/kvm/kvm.c` (`kvm_arch_handle_debug`).

use std::sync::Arc;

use hw_core::Cpu;
use hw_core::cpu::for_each_cpu;
use hw_core::debug::{
    BreakpointError, BreakpointKind, DebugStop, GuestDebug, SSTEP_ENABLE, SSTEP_NOIRQ, Watchpoint,
    cpu_memory_read_debug, cpu_memory_write_debug, set_guest_debug,
};
use hw_core::runstate;
use kvm_bindings as kb;
use kvm_ioctls::{Cap, VcpuFd};
use parking_lot::Mutex;
use qom::{Object, Result};

use crate::error::ioctl;
use crate::vcpu::{VcpuThread, with_current_vcpu};
use crate::{KvmArchCpu, KvmState, arch};

/// The most software breakpoints: a debugger gone wild must not fill our memory.
const MAX_SOFTWARE: usize = 1 << 16;

/// A breakpoint or watchpoint in a debug register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HwBreakpoint {
    /// What it is for.
    pub kind: BreakpointKind,
    /// Where it begins.
    pub address: u64,
    /// How many bytes it watches.
    pub len: u64,
}

struct SwBreakpoint {
    address: u64,
    saved: Vec<u8>,
    users: u32,
}

#[derive(Default)]
struct Breakpoints {
    software: Vec<SwBreakpoint>,
    hardware: Vec<HwBreakpoint>,
}

/// What a target finds that a debug exit was about ([`KvmArchCpu::debug_exit`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugExit {
    /// A single step was done.
    Step,
    /// The hardware breakpoint of that number was hit.
    Hardware(usize),
    /// A breakpoint instruction was run at that address.
    Instruction(u64),
    /// The guest's own matter.
    Guest,
}

/// The breakpoints of a virtual machine.
pub(crate) struct KvmGuestDebug {
    /// The `SSTEP_*` flags that this KVM can do.
    sstep_flags: u32,
    breakpoints: Mutex<Breakpoints>,
}

impl KvmGuestDebug {
    /// For a new virtual machine; none where KVM cannot debug.
    pub fn new(state: &KvmState) -> Option<Arc<KvmGuestDebug>> {
        if !state.kvm.check_extension(Cap::SetGuestDebug) {
            return None;
        }
        let can = state.kvm.check_extension_raw(kb::KVM_CAP_SET_GUEST_DEBUG2.into());
        let no_irq = can & kb::KVM_GUESTDBG_BLOCKIRQ as i32 != 0;
        let sstep_flags = SSTEP_ENABLE | if no_irq { SSTEP_NOIRQ } else { 0 };
        let this = Arc::new(KvmGuestDebug { sstep_flags, breakpoints: Mutex::default() });
        set_guest_debug(this.clone());
        Some(this)
    }

    /// Tells KVM what this vCPU is to stop at (`kvm_update_guest_debug`). On the vCPU's thread.
    fn apply(&self, cpu: &Cpu, arch: &dyn KvmArchCpu, vcpu: &VcpuFd) -> Result<()> {
        let mut debug = kb::kvm_guest_debug::default();
        let step = cpu.single_step_flags();
        if step & SSTEP_ENABLE != 0 {
            debug.control |= kb::KVM_GUESTDBG_ENABLE | kb::KVM_GUESTDBG_SINGLESTEP;
            if step & SSTEP_NOIRQ != 0 {
                debug.control |= kb::KVM_GUESTDBG_BLOCKIRQ;
            }
        }
        let breakpoints = self.breakpoints.lock();
        if !breakpoints.software.is_empty() {
            debug.control |= kb::KVM_GUESTDBG_ENABLE | kb::KVM_GUESTDBG_USE_SW_BP;
        }
        if !breakpoints.hardware.is_empty() {
            debug.control |= kb::KVM_GUESTDBG_ENABLE | kb::KVM_GUESTDBG_USE_HW_BP;
            arch.set_debug_registers(&breakpoints.hardware, &mut debug);
        }
        drop(breakpoints);
        // What was changed outside the guest has to be there first: a step begins where the vCPU is now.
        arch.put_registers(vcpu)?;
        vcpu.set_guest_debug(&debug).map_err(|e| ioctl("KVM_SET_GUEST_DEBUG", e))
    }

    /// [`KvmGuestDebug::apply`] for a vCPU just made, if there is anything.
    pub fn apply_to_new(&self, cpu: &Cpu, arch: &dyn KvmArchCpu, vcpu: &VcpuFd) -> Result<()> {
        let breakpoints = self.breakpoints.lock();
        let none = breakpoints.software.is_empty() && breakpoints.hardware.is_empty();
        drop(breakpoints);
        if none { Ok(()) } else { self.apply(cpu, arch, vcpu) }
    }

    fn update_all(&self) -> bool {
        let mut all = true;
        for_each_cpu(|cpu| all &= self.update_one(cpu));
        all
    }

    /// Has the CPU's thread call [`KvmGuestDebug::apply`]; whether KVM took it.
    fn update_one(&self, cpu: &Cpu) -> bool {
        let object = cpu.this();
        let done = cpu.run_on_cpu(move || {
            let (cpu, arch) = (object.cast::<Cpu>()?, object.interface::<dyn KvmArchCpu>()?);
            let debug = crate::kvm_state()?.guest_debug()?;
            with_current_vcpu(|vcpu| debug.apply(cpu, &*arch, vcpu).is_ok())
        });
        done.flatten() == Some(true)
    }

    fn insert_software(&self, cpu: &Cpu, address: u64) -> Option<()> {
        {
            let mut breakpoints = self.breakpoints.lock();
            if let Some(known) = breakpoints.software.iter_mut().find(|b| b.address == address) {
                known.users = known.users.saturating_add(1);
                return Some(());
            }
            if breakpoints.software.len() >= MAX_SOFTWARE {
                return None;
            }
        }
        let instruction = arch::arch().ok()?.breakpoint_instruction();
        if instruction.is_empty() {
            return None;
        }
        let mut saved = vec![0; instruction.len()];
        cpu_memory_read_debug(&cpu.this(), address, &mut saved)?;
        cpu_memory_write_debug(&cpu.this(), address, instruction)?;
        self.breakpoints.lock().software.push(SwBreakpoint { address, saved, users: 1 });
        Some(())
    }

    fn remove_software(&self, cpu: &Cpu, address: u64) -> Option<()> {
        let mut breakpoints = self.breakpoints.lock();
        let at = breakpoints.software.iter().position(|b| b.address == address)?;
        let breakpoint = breakpoints.software.get_mut(at)?;
        breakpoint.users -= 1;
        if breakpoint.users > 0 {
            return Some(());
        }
        let breakpoint = breakpoints.software.swap_remove(at);
        drop(breakpoints);
        restore(&cpu.this(), &breakpoint)
    }
}

/// Puts the instruction back, unless the guest wrote something else there.
fn restore(cpu: &Arc<dyn Object>, breakpoint: &SwBreakpoint) -> Option<()> {
    let mut now = vec![0; breakpoint.saved.len()];
    cpu_memory_read_debug(cpu, breakpoint.address, &mut now)?;
    if now != arch::arch().ok()?.breakpoint_instruction() {
        return None;
    }
    cpu_memory_write_debug(cpu, breakpoint.address, &breakpoint.saved)
}

impl GuestDebug for KvmGuestDebug {
    fn sstep_flags(&self) -> u32 {
        self.sstep_flags
    }

    fn insert_breakpoint(
        &self,
        cpu: &Cpu,
        kind: BreakpointKind,
        address: u64,
        len: u64,
    ) -> Result<(), BreakpointError> {
        if kind == BreakpointKind::Software {
            self.insert_software(cpu, address).ok_or(BreakpointError::Refused)?;
        } else {
            let target = arch::arch().map_err(|_| BreakpointError::NotSupported)?;
            let mut breakpoints = self.breakpoints.lock();
            // One for execution has no length of its own.
            let len = if kind == BreakpointKind::Hardware { 1 } else { len };
            let new = HwBreakpoint { kind, address, len };
            target.check_hw_breakpoint(&new)?;
            if breakpoints.hardware.len() >= target.max_hw_breakpoints()
                || breakpoints.hardware.contains(&new)
            {
                return Err(BreakpointError::Refused);
            }
            breakpoints.hardware.push(new);
        }
        if self.update_all() { Ok(()) } else { Err(BreakpointError::Refused) }
    }

    fn remove_breakpoint(
        &self,
        cpu: &Cpu,
        kind: BreakpointKind,
        address: u64,
        len: u64,
    ) -> Result<(), BreakpointError> {
        if kind == BreakpointKind::Software {
            self.remove_software(cpu, address).ok_or(BreakpointError::Refused)?;
        } else {
            let len = if kind == BreakpointKind::Hardware { 1 } else { len };
            let gone = HwBreakpoint { kind, address, len };
            let mut breakpoints = self.breakpoints.lock();
            let at = breakpoints.hardware.iter().position(|b| *b == gone).ok_or(BreakpointError::Refused)?;
            breakpoints.hardware.remove(at);
        }
        if self.update_all() { Ok(()) } else { Err(BreakpointError::Refused) }
    }

    fn remove_all_breakpoints(&self) {
        let Breakpoints { software, hardware } = std::mem::take(&mut *self.breakpoints.lock());
        if software.is_empty() && hardware.is_empty() {
            return;
        }
        let cpus = hw_core::cpu::cpu_list();
        for breakpoint in &software {
            // Not every CPU has the page mapped.
            cpus.iter().find_map(|cpu| restore(cpu, breakpoint));
        }
        self.update_all();
    }

    fn update(&self, cpu: &Cpu) {
        self.update_one(cpu);
    }
}

/// Answers a debug exit: stops for the debugger, or lets the guest have its exception.
pub(crate) fn handle_debug(this: &VcpuThread, exit: &kb::kvm_debug_exit_arch) {
    let Some(debug) = this.state.guest_debug() else { return };
    let breakpoints = debug.breakpoints.lock();
    let watchpoint = match this.arch.debug_exit(exit) {
        DebugExit::Step => (this.cpu().single_step_flags() != 0).then_some(None),
        DebugExit::Hardware(n) => breakpoints.hardware.get(n).map(|b| {
            (b.kind != BreakpointKind::Hardware).then_some(Watchpoint { kind: b.kind, address: b.address })
        }),
        DebugExit::Instruction(address) => has_software(&breakpoints, address).then_some(None),
        DebugExit::Guest => None,
    };
    drop(breakpoints);
    match watchpoint {
        Some(watchpoint) => stop(this, watchpoint),
        None => {
            with_current_vcpu(|vcpu| this.arch.inject_debug_exception(vcpu, exit));
        }
    }
}

fn has_software(breakpoints: &Breakpoints, address: u64) -> bool {
    breakpoints.software.iter().any(|b| b.address == address)
}

fn stop(this: &VcpuThread, watchpoint: Option<Watchpoint>) {
    runstate::debug_request(DebugStop { cpu: this.cpu().index(), watchpoint });
}

/// KVM's instruction emulator could not go on: it lacks breakpoint instructions, so one of the debugger's may be
/// why. Then this stops for the debugger.
pub(crate) fn is_breakpoint(this: &VcpuThread) -> bool {
    let Some(debug) = this.state.guest_debug() else { return false };
    if debug.breakpoints.lock().software.is_empty() {
        return false;
    }
    let pc = with_current_vcpu(|vcpu| this.arch.linear_pc(vcpu)).flatten();
    let hit = pc.is_some_and(|pc| has_software(&debug.breakpoints.lock(), pc));
    if hit {
        stop(this, None);
    }
    hit
}
