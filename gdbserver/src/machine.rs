//! The machine as a debugger's target.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use hw_core::Cpu;
use hw_core::cpu::{CpuClass, cpu_list};
use hw_core::debug::{
    BreakpointError, BreakpointKind, GdbClass, GuestDebug, SSTEP_ENABLE, SSTEP_NOIRQ, SSTEP_NOTIMER,
    cpu_memory_read_debug, cpu_memory_write_debug, guest_debug,
};
use hw_core::runstate;
use qom::Object;

use crate::registers::{Processor, RegisterFile, RegisterNumber};

/// The longest packet, which is gdb's limit for what it asks for.
pub(crate) const PACKET_SIZE: usize = 4096;

/// No such register, or memory that is not there.
const EFAULT: TargetError<Infallible> = TargetError::Errno(14);
/// A value or length that cannot be.
const EINVAL: TargetError<Infallible> = TargetError::Errno(22);

/// What a CPU is to do when the machine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Continue,
    Step,
}

/// The machine, and what the client said of its CPUs.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// What CPUs are to do that were named.
    actions: Vec<(Tid, Action)>,
    /// CPUs that were not named stand still.
    locked: bool,
    /// The CPU that stopped last; breakpoints' addresses are as it sees them.
    pub current: u32,
}

/// How a CPU is called as a thread: no thread is number 0.
pub(crate) fn thread_id(cpu: u32) -> Tid {
    NonZeroUsize::MIN.saturating_add(cpu as usize)
}

fn is_thread(cpu: &Arc<dyn Object>, tid: Tid) -> bool {
    cpu.cast::<Cpu>().is_some_and(|cpu| thread_id(cpu.index()) == tid)
}

fn cpu(tid: Tid) -> TargetResult<Arc<dyn Object>, Machine> {
    cpu_list().into_iter().find(|cpu| is_thread(cpu, tid)).ok_or(EINVAL)
}

fn class(cpu: &Arc<dyn Object>) -> Option<GdbClass> {
    cpu.class().get::<CpuClass>()?.gdb
}

/// Calls `f` on the thread of a CPU.
fn on_cpu<R: Send + 'static>(
    tid: Tid,
    f: impl FnOnce(&GdbClass, &Arc<dyn Object>) -> R + Send + 'static,
) -> TargetResult<R, Machine> {
    let object = cpu(tid)?;
    let (class, this) = (class(&object).ok_or(EINVAL)?, object.clone());
    let cpu = object.cast::<Cpu>().ok_or(EINVAL)?;
    cpu.run_on_cpu(move || f(&class, &this)).ok_or(EINVAL)
}

/// Copies what there is room for.
fn fill(buffer: &mut [u8], data: &[u8]) -> usize {
    let len = data.len().min(buffer.len());
    buffer[..len].copy_from_slice(&data[..len]);
    len
}

/// The flags of a step as far as the accelerator has them.
fn step_flags() -> u32 {
    let can = guest_debug().map_or(0, |debug| debug.sstep_flags());
    (SSTEP_ENABLE | SSTEP_NOIRQ | SSTEP_NOTIMER) & can
}

/// No CPU is stepped any more.
pub(crate) fn end_steps() {
    hw_core::cpu::for_each_cpu(|cpu| cpu.single_step(0));
}

impl Machine {
    /// Calls `change` for the CPUs, the one that stopped last first, until it is done: not all see the same memory.
    fn change_breakpoint(
        &self,
        change: impl Fn(&dyn GuestDebug, &Cpu) -> Result<(), BreakpointError>,
    ) -> TargetResult<bool, Machine> {
        let Some(debug) = guest_debug() else { return Ok(false) };
        let mut cpus = cpu_list();
        cpus.sort_by_key(|cpu| !is_thread(cpu, thread_id(self.current)));
        let mut cpus = cpus.iter().filter_map(|cpu| cpu.cast::<Cpu>());
        Ok(cpus.any(|cpu| change(&**debug, cpu).is_ok()))
    }

    fn insert(&self, kind: BreakpointKind, address: u64, len: u64) -> TargetResult<bool, Machine> {
        self.change_breakpoint(|debug, cpu| debug.insert_breakpoint(cpu, kind, address, len))
    }

    fn remove(&self, kind: BreakpointKind, address: u64, len: u64) -> TargetResult<bool, Machine> {
        self.change_breakpoint(|debug, cpu| debug.remove_breakpoint(cpu, kind, address, len))
    }

    fn action(&self, tid: Tid) -> Option<Action> {
        let named = self.actions.iter().find(|(named, _)| *named == tid).map(|(_, action)| *action);
        named.or((!self.locked).then_some(Action::Continue))
    }
}

impl Target for Machine {
    type Arch = Processor;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, Processor, Infallible> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Machine {
    fn read_registers(&mut self, registers: &mut RegisterFile, tid: Tid) -> TargetResult<(), Self> {
        registers.0 = on_cpu(tid, |class, cpu| (class.read_registers)(cpu, 0..class.num_core_regs))?;
        Ok(())
    }

    fn write_registers(&mut self, registers: &RegisterFile, tid: Tid) -> TargetResult<(), Self> {
        let bytes = registers.0.clone();
        let written = on_cpu(tid, move |class, cpu| (class.write_registers)(cpu, 0, &bytes))?;
        written.then_some(()).ok_or(EINVAL)
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, address: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        // More than an answer may have.
        if data.len() > PACKET_SIZE / 2 {
            return Err(EINVAL);
        }
        cpu_memory_read_debug(&cpu(tid)?, address, data).ok_or(EFAULT)?;
        Ok(data.len())
    }

    fn write_addrs(&mut self, address: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        cpu_memory_write_debug(&cpu(tid)?, address, data).ok_or(EFAULT)
    }

    fn list_active_threads(&mut self, is_active: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        cpu_list()
            .iter()
            .filter_map(|cpu| cpu.cast::<Cpu>())
            .for_each(|cpu| is_active(thread_id(cpu.index())));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<Tid> for Machine {
    fn read_register(
        &mut self,
        tid: Tid,
        RegisterNumber(number): RegisterNumber,
        buffer: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let which: Range<u32> = number..number.saturating_add(1);
        let bytes = on_cpu(tid, |class, cpu| (class.read_registers)(cpu, which))?;
        if bytes.is_empty() { Err(EFAULT) } else { Ok(fill(buffer, &bytes)) }
    }

    fn write_register(
        &mut self,
        tid: Tid,
        RegisterNumber(number): RegisterNumber,
        value: &[u8],
    ) -> TargetResult<(), Self> {
        let bytes = value.to_vec();
        let written = on_cpu(tid, move |class, cpu| (class.write_registers)(cpu, number, &bytes))?;
        written.then_some(()).ok_or(EFAULT)
    }
}

impl ThreadExtraInfo for Machine {
    fn thread_extra_info(&self, tid: Tid, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let halted = on_cpu(tid, |class, cpu| (class.is_halted)(cpu)).unwrap_or(false);
        let state = if halted { "halted " } else { "running" };
        Ok(fill(buffer, format!("CPU#{} [{state}]", tid.get() - 1).as_bytes()))
    }
}

impl MultiThreadResume for Machine {
    /// No CPU goes on when the machine first needs a reset (`gdb_continue_partial`).
    fn resume(&mut self) -> Result<(), Infallible> {
        if runstate::needs_reset() {
            return Ok(());
        }
        let cpus = cpu_list();
        let going = |cpu: &&Cpu| Some((thread_id(cpu.index()), self.action(thread_id(cpu.index()))?));
        let cpus: Vec<_> = cpus
            .iter()
            .filter_map(|cpu| cpu.cast::<Cpu>())
            .filter_map(|cpu| Some((cpu, going(&cpu)?)))
            .collect();
        for (cpu, (_, action)) in &cpus {
            cpu.single_step(if *action == Action::Step { step_flags() } else { 0 });
        }
        if runstate::vm_prepare_start() {
            cpus.iter().for_each(|(cpu, _)| cpu.resume());
        }
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        self.actions.clear();
        self.locked = false;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Infallible> {
        self.actions.push((tid, Action::Continue));
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Machine {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Infallible> {
        self.actions.push((tid, Action::Step));
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Machine {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        self.locked = true;
        Ok(())
    }
}

impl Breakpoints for Machine {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Machine {
    fn add_sw_breakpoint(&mut self, address: u64, kind: usize) -> TargetResult<bool, Self> {
        self.insert(BreakpointKind::Software, address, kind as u64)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, kind: usize) -> TargetResult<bool, Self> {
        self.remove(BreakpointKind::Software, address, kind as u64)
    }
}

impl HwBreakpoint for Machine {
    fn add_hw_breakpoint(&mut self, address: u64, kind: usize) -> TargetResult<bool, Self> {
        self.insert(BreakpointKind::Hardware, address, kind as u64)
    }

    fn remove_hw_breakpoint(&mut self, address: u64, kind: usize) -> TargetResult<bool, Self> {
        self.remove(BreakpointKind::Hardware, address, kind as u64)
    }
}

/// What serves a watchpoint. Processors cannot watch reads alone: gdb itself leaves out what was a write, as it sees
/// the value changed.
fn watched(kind: WatchKind) -> BreakpointKind {
    match kind {
        WatchKind::Write => BreakpointKind::WriteWatch,
        WatchKind::Read | WatchKind::ReadWrite => BreakpointKind::AccessWatch,
    }
}

impl HwWatchpoint for Machine {
    fn add_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.insert(watched(kind), address, len)
    }

    fn remove_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.remove(watched(kind), address, len)
    }
}

impl MonitorCmd for Machine {
    fn handle_monitor_cmd(&mut self, command: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Infallible> {
        let line = String::from_utf8_lossy(command);
        let said = monitor::hmp::human_monitor_command(&line, Some(self.current.into()))
            .unwrap_or_else(|error| format!("{}\n", error.message));
        for part in said.as_bytes().chunks(PACKET_SIZE / 2 - 5) {
            out.write_raw(part);
            out.flush();
        }
        Ok(())
    }
}

/// A file of the target description (`get_feature_xml`).
fn description(name: &str) -> Option<String> {
    let class = cpu_list().first().and_then(class)?;
    if name != "target.xml" {
        return (class.xml)(name).map(str::to_owned);
    }
    let includes: String =
        class.xml_files.iter().map(|file| format!("<xi:include href=\"{file}\"/>")).collect();
    Some(format!(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>\
         <architecture>{}</architecture>{includes}</target>",
        class.arch_name
    ))
}

impl TargetDescriptionXmlOverride for Machine {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buffer: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let text = std::str::from_utf8(annex).ok().and_then(description).ok_or(TargetError::Errno(0))?;
        let rest = usize::try_from(offset).ok().and_then(|offset| text.as_bytes().get(offset..));
        let rest = rest.unwrap_or_default();
        // Every byte may need an escape.
        let most = length.min(PACKET_SIZE / 2 - 5);
        Ok(fill(buffer, rest.get(..most).unwrap_or(rest)))
    }
}
