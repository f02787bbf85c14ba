//! What a debugger needs of the CPUs, the accelerator and the memory, and who stopped last.
//!
//! Source: QEMU `include/hw/core/cpu.h`, `cpu.c`, `softmmu/physmem.c` (`cpu_memory_rw_debug`),
//! `gdbstub/gdbstub.c` (`gdb_set_stop_cpu`).

use std::sync::{Arc, OnceLock};

use memory::{MemTxResult, address_space_memory};
use parking_lot::Mutex;
use qom::Object;

use crate::cpu::{Cpu, CpuClass};

/// Flags of a single step (`SSTEP_*`): one is asked for.
pub const SSTEP_ENABLE: u32 = 1;
/// No interrupts during the step.
pub const SSTEP_NOIRQ: u32 = 2;
/// Timers stand still during the step.
pub const SSTEP_NOTIMER: u32 = 4;

/// A kind of breakpoint, with gdb's numbers (`GDB_BREAKPOINT_SW` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakpointKind {
    /// An instruction put in the place of another.
    Software = 0,
    /// An execution address in a debug register.
    Hardware = 1,
    /// Stops after a write.
    WriteWatch = 2,
    /// Stops after a read.
    ReadWatch = 3,
    /// Stops after a read or a write.
    AccessWatch = 4,
}

/// Why a breakpoint could not be inserted or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakpointError {
    /// The accelerator has no such kind.
    NotSupported,
    /// An address or length that cannot be, no debug register left, or memory that is not there.
    Refused,
}

/// A watched address and the kind of access that it is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchpoint {
    /// Write, read or any access.
    pub kind: BreakpointKind,
    /// Where the watched bytes begin.
    pub address: u64,
}

/// What a CPU was stopped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugStop {
    /// The CPU's index.
    pub cpu: u32,
    /// The watchpoint that was hit; none for breakpoints and steps.
    pub watchpoint: Option<Watchpoint>,
}

/// Breakpoints and steps of an accelerator. Called on the main loop's thread while the machine stands still.
pub trait GuestDebug: Send + Sync {
    /// Which of the `SSTEP_*` flags it can do.
    fn sstep_flags(&self) -> u32;
    /// Sets a breakpoint for all CPUs; addresses are those that `cpu` sees.
    ///
    /// # Errors
    /// As [`BreakpointError`].
    fn insert_breakpoint(
        &self,
        cpu: &Cpu,
        kind: BreakpointKind,
        address: u64,
        len: u64,
    ) -> Result<(), BreakpointError>;
    /// Undoes [`GuestDebug::insert_breakpoint`].
    ///
    /// # Errors
    /// As [`BreakpointError`].
    fn remove_breakpoint(
        &self,
        cpu: &Cpu,
        kind: BreakpointKind,
        address: u64,
        len: u64,
    ) -> Result<(), BreakpointError>;
    /// Removes all breakpoints.
    fn remove_all_breakpoints(&self);
    /// Has a CPU follow its single-step flags, which changed ([`Cpu::single_step`]).
    fn update(&self, cpu: &Cpu);
}

static GUEST_DEBUG: OnceLock<Arc<dyn GuestDebug>> = OnceLock::new();

/// The accelerator can debug; the first call counts.
pub fn set_guest_debug(debug: Arc<dyn GuestDebug>) {
    let _ = GUEST_DEBUG.set(debug);
}

/// The accelerator's breakpoints and steps, where it has them.
pub fn guest_debug() -> Option<&'static Arc<dyn GuestDebug>> {
    GUEST_DEBUG.get()
}

/// What gdb is to know of a kind of CPU. Functions that take an object are called on that CPU's own thread.
#[derive(Clone, Copy)]
pub struct GdbClass {
    /// gdb's name of the architecture.
    pub arch_name: &'static str,
    /// The files that the target description consists of.
    pub xml_files: &'static [&'static str],
    /// The text of such a file.
    pub xml: fn(&str) -> Option<&'static str>,
    /// How many registers there are.
    pub num_core_regs: u32,
    /// The bytes of registers, given by number; those without a number are left out.
    pub read_registers: fn(&Arc<dyn Object>, std::ops::Range<u32>) -> Vec<u8>,
    /// Sets registers from the number given on, as far as there are bytes for whole ones. `false` when a value
    /// cannot be.
    pub write_registers: fn(&Arc<dyn Object>, u32, &[u8]) -> bool,
    /// Sets the instruction pointer.
    pub set_pc: fn(&Arc<dyn Object>, u64),
    /// Whether it waits for an interrupt.
    pub is_halted: fn(&Arc<dyn Object>) -> bool,
    /// Where the CPU's page tables lead from the start of a page.
    pub get_phys_page: fn(&Arc<dyn Object>, u64) -> Option<u64>,
}

static LAST_STOP: Mutex<Option<DebugStop>> = Mutex::new(None);

/// Notes what stopped a CPU; of several before the machine stands still the first counts.
pub(crate) fn note_stop(stop: DebugStop) {
    LAST_STOP.lock().get_or_insert(stop);
}

/// What the machine was stopped by; asked once, when it stopped for the debugger.
pub fn take_stop() -> Option<DebugStop> {
    LAST_STOP.lock().take()
}

const PAGE_SIZE: u64 = 4096;

/// The page frame of an address as `cpu` sees it.
fn phys_page(cpu: &Arc<dyn Object>, page: u64) -> Option<u64> {
    let translate = cpu.class().get::<CpuClass>()?.gdb.as_ref()?.get_phys_page;
    let this = cpu.clone();
    cpu.cast::<Cpu>()?.run_on_cpu(move || translate(&this, page)).flatten()
}

/// Calls `access` for every piece of `[address, address + len)` that lies in one page, with its physical address
/// and its place in the buffer. `None` when a page is not there or `access` says no.
fn by_pages(
    cpu: &Arc<dyn Object>,
    address: u64,
    len: usize,
    mut access: impl FnMut(u64, std::ops::Range<usize>) -> bool,
) -> Option<()> {
    let mut done = 0;
    while done < len {
        let at = address.wrapping_add(done as u64);
        let offset = at % PAGE_SIZE;
        let part = (len - done).min((PAGE_SIZE - offset) as usize);
        let physical = phys_page(cpu, at - offset)?.wrapping_add(offset);
        access(physical, done..done + part).then_some(())?;
        done += part;
    }
    Some(())
}

/// Reads memory as the programs on `cpu` see it. `None` when some of it is not there.
pub fn cpu_memory_read_debug(cpu: &Arc<dyn Object>, address: u64, data: &mut [u8]) -> Option<()> {
    by_pages(cpu, address, data.len(), |physical, part| {
        address_space_memory().read(physical, &mut data[part]) == MemTxResult::Ok
    })
}

/// Writes memory as the programs on `cpu` see it, ROM included. `None` when some of it is not there.
pub fn cpu_memory_write_debug(cpu: &Arc<dyn Object>, address: u64, data: &[u8]) -> Option<()> {
    by_pages(cpu, address, data.len(), |physical, part| {
        address_space_memory().view().write_rom(physical, &data[part]) == MemTxResult::Ok
    })
}
