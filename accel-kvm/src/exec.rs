//! `kvm_cpu_exec`: run the guest, answer its exits.
//!
//! Source: QEMU `accel/kvm/kvm-all.c` (`kvm_cpu_exec`, `kvm_handle_io`, `kvm_handle_internal_error`).

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};

use hw_core::runstate::{self, RunState, ShutdownCause};
use kvm_bindings as kb;
use kvm_ioctls::VcpuFd;
use memory::{AddressSpace, SpaceReader, address_space_io, address_space_memory};
use vmm_sys_util::ioctl_io_nr;

use crate::coalesced::{self, CoalescedRanges};
use crate::debug;
use crate::kvm::{KernelIrqchip, interrupt};
use crate::vcpu::{VcpuThread, with_current_vcpu};

/// What a vCPU's thread keeps between exits.
pub(crate) struct Exec {
    vcpu: RunningVcpu,
    memory: SpaceReader,
    io: SpaceReader,
    coalesced: Arc<CoalescedRanges>,
    exit_request: Arc<AtomicBool>,
    /// The PIC is outside the kernel, and perhaps the local APIC, too.
    user_pic: bool,
    user_apic: bool,
    spaces: (Arc<AddressSpace>, Arc<AddressSpace>),
}

impl Exec {
    /// For the thread of a vCPU that is set up; `None` on any other.
    pub(crate) fn new(this: &VcpuThread) -> Option<Exec> {
        let vcpu = with_current_vcpu(RunningVcpu::new)?;
        let spaces = (address_space_memory().clone(), address_space_io().clone());
        Some(Exec {
            vcpu,
            memory: spaces.0.reader(),
            io: spaces.1.reader(),
            exit_request: this.cpu().exit_request(),
            user_pic: this.state.kernel_irqchip != KernelIrqchip::On,
            user_apic: this.state.kernel_irqchip == KernelIrqchip::Off,
            coalesced: this.state.coalesced_ranges().cloned().unwrap_or_default(),
            spaces,
        })
    }
}

impl Exec {
    /// Whether the thread is wanted elsewhere; answers yes once.
    #[inline]
    fn take_exit_request(&self) -> bool {
        self.exit_request.load(Ordering::Relaxed) && self.exit_request.swap(false, Ordering::SeqCst)
    }
}

/// An exit, copied out of the page shared with KVM so that handlers may use the vCPU.
enum Exit {
    Io {
        write: bool,
        size: u8,
        port: u16,
        count: u32,
        offset: u64,
    },
    Mmio {
        write: bool,
        address: u64,
        len: u32,
        data: [u8; 8],
    },
    /// Nothing for us: a signal, an open interrupt window.
    None,
    /// The guest waits for an interrupt; says whether it takes one.
    Halt(bool),
    /// The end of an interrupt of the board's own I/O APIC.
    IoapicEoi(u8),
    /// The registers of the guest's SynIC: control, page of events, page of messages.
    HypervSynic([u64; 3]),
    HypervHypercall {
        input: u64,
        parameters: [u64; 2],
    },
    Shutdown,
    SystemEvent(u32),
    Debug(kb::kvm_debug_exit_arch),
    /// KVM's instruction emulator lacks the instruction; the text is for when nothing else explains it.
    EmulationFailure(String),
    Fatal(String),
}

/// Runs the guest until something else wants the thread.
pub(crate) fn kvm_cpu_exec(this: &VcpuThread, exec: &mut Exec) {
    if exec.user_pic {
        let _ = with_current_vcpu(|vcpu| this.arch.process_async_events(vcpu));
        if this.arch.is_idle() {
            return;
        }
    }
    let put = with_current_vcpu(|vcpu| this.arch.put_registers(vcpu));
    if let Some(Err(error)) = put {
        return fatal(this, &format!("softmmu: {error}"));
    }
    let mut unfinished = false;
    while !exec.take_exit_request() {
        unfinished = false;
        if exec.user_pic {
            pre_run(this, exec);
        }
        let exit = run(exec);
        if exec.user_apic {
            post_run(this, exec);
        }
        match exit {
            exit @ (Exit::Io { .. } | Exit::Mmio { .. }) => {
                handle_access(exec, exit);
                unfinished = true;
            }
            Exit::None => {}
            Exit::HypervHypercall { input, parameters } => {
                let result = this.arch.hyperv_hypercall(input, parameters);
                exec.vcpu.page().__bindgen_anon_1.hyperv.u.hcall.result = result;
                unfinished = true;
            }
            Exit::Halt(interruptible) => {
                this.arch.halt(interruptible);
                break;
            }
            exit => handle_rare(this, exit),
        }
    }
    if unfinished {
        finish_access(exec);
    }
}

/// Gives the guest an interrupt of the controllers outside the kernel, or asks to be told when it can take one
/// (`kvm_arch_pre_run`).
fn pre_run(this: &VcpuThread, exec: &mut Exec) {
    let page = exec.vcpu.page();
    let ready = page.ready_for_interrupt_injection != 0 && page.if_flag != 0;
    if ready
        && this.arch.has_interrupt()
        && let Some(vector) = this.arch.take_interrupt()
        && let Some(Err(error)) = with_current_vcpu(|vcpu| interrupt(vcpu, vector))
    {
        util::error_report!("KVM: injection failed, interrupt lost ({error})");
    }
    let (window, cr8) = (this.arch.has_interrupt(), this.arch.cr8());
    let page = exec.vcpu.page();
    page.request_interrupt_window = window.into();
    if exec.user_apic {
        page.cr8 = cr8.into();
    }
}

/// Tells the local APIC what the guest made of its registers that are the processor's (`kvm_arch_post_run`).
fn post_run(this: &VcpuThread, exec: &mut Exec) {
    let page = exec.vcpu.page();
    let (cr8, apic_base, smm) = (page.cr8 as u8, page.apic_base, is_in_smm(page));
    this.arch.set_apic_registers(cr8, apic_base, smm);
}

/// Whether the guest was in system management mode when it left.
#[inline]
fn is_in_smm(page: &kb::kvm_run) -> bool {
    u32::from(page.flags) & kb::KVM_RUN_X86_SMM != 0
}

#[inline]
fn handle_access(exec: &mut Exec, exit: Exit) {
    if is_in_smm(exec.vcpu.page()) {
        memory::with_secure_access(|| answer_access(exec, exit));
    } else {
        answer_access(exec, exit);
    }
}

#[inline]
fn answer_access(exec: &mut Exec, exit: Exit) {
    match exit {
        Exit::Io { write, size, port, count, offset } => handle_io(exec, write, size, port, count, offset),
        Exit::Mmio { write, address, len, data } => handle_mmio(exec, write, address, len, data),
        _ => {}
    }
}

/// Has KVM end the instruction whose access was answered: registers are only then as the guest will see them.
#[cold]
fn finish_access(exec: &mut Exec) {
    loop {
        exec.vcpu.page().immediate_exit = 1;
        let exit = run(exec);
        match exit {
            // The access has another part.
            Exit::Io { .. } | Exit::Mmio { .. } => handle_access(exec, exit),
            _ => return,
        }
    }
}

/// Exits that end something, or the debugger's.
#[cold]
fn handle_rare(this: &VcpuThread, exit: Exit) {
    match exit {
        Exit::Shutdown => runstate::reset_request(ShutdownCause::GuestReset),
        Exit::SystemEvent(kb::KVM_SYSTEM_EVENT_SHUTDOWN) => {
            runstate::shutdown_request(ShutdownCause::GuestShutdown);
        }
        Exit::SystemEvent(kb::KVM_SYSTEM_EVENT_RESET) => runstate::reset_request(ShutdownCause::GuestReset),
        Exit::SystemEvent(_) => runstate::guest_panicked(),
        Exit::Debug(exit) => debug::handle_debug(this, &exit),
        Exit::EmulationFailure(_) if debug::is_breakpoint(this) => {}
        Exit::EmulationFailure(text) | Exit::Fatal(text) => fatal(this, &text),
        Exit::HypervSynic([control, events, messages]) => this.arch.set_synic(control, events, messages),
        Exit::IoapicEoi(vector) => this.arch.ioapic_eoi(vector),
        // Not rare.
        Exit::Io { .. } | Exit::Mmio { .. } | Exit::None | Exit::Halt(_) | Exit::HypervHypercall { .. } => {}
    }
}

fn fatal(this: &VcpuThread, text: &str) {
    let state = with_current_vcpu(|vcpu| this.arch.dump_state(vcpu)).unwrap_or_default();
    util::report::print_line(format_args!("{text}\n{state}"));
    runstate::vmstop_request(RunState::InternalError);
    this.cpu().stop_self();
}

ioctl_io_nr!(KVM_RUN, kb::KVMIO, 0x80);

/// The thread's own way to its vCPU, around the cell that [`with_current_vcpu`] looks into: an exit is too
/// short for more than needed.
struct RunningVcpu {
    fd: RawFd,
    run: *mut kb::kvm_run,
}

impl RunningVcpu {
    fn new(vcpu: &mut VcpuFd) -> RunningVcpu {
        RunningVcpu { fd: vcpu.as_raw_fd(), run: vcpu.get_kvm_run() }
    }

    /// Enters the guest.
    #[inline]
    fn enter(&self) -> Option<std::io::Error> {
        // SAFETY: KVM_RUN takes no argument. What the kernel writes meanwhile is the page shared with it, of
        // which nothing is borrowed here, and guest memory, which is only reached by volatile accesses.
        let result = unsafe { vmm_sys_util::ioctl::ioctl(self, KVM_RUN()) };
        (result < 0).then(std::io::Error::last_os_error)
    }

    /// The page shared with the kernel.
    #[inline]
    fn page(&mut self) -> &mut kb::kvm_run {
        // SAFETY: the page stays mapped while the vCPU lives, which is until its thread ends, and this value
        // does not leave the thread. The guest is not running, so the kernel leaves the page alone; others
        // reach it through `with_current_vcpu` only, on this thread, and not while this borrow lives: no
        // caller here calls out with it.
        unsafe { &mut *self.run }
    }

    /// Where the kernel puts port data: `offset` is the exit's.
    #[inline]
    fn port_data(&self, offset: usize) -> *mut u8 {
        // SAFETY: the kernel gave the offset in this exit: KVM_PIO_PAGE_OFFSET and up, inside the vCPU's
        // mapping, with room for all elements of the access.
        unsafe { self.run.cast::<u8>().add(offset) }
    }

    /// The element of an `out` at `offset`.
    #[inline]
    fn port_value(&self, offset: usize, size: u8) -> u32 {
        let data = self.port_data(offset);
        // SAFETY: see `port_data`; the guest is stopped and nobody else looks at it.
        unsafe {
            match size {
                1 => data.read().into(),
                2 => data.cast::<u16>().read_unaligned().into(),
                _ => data.cast::<u32>().read_unaligned(),
            }
        }
    }

    /// Answers the element of an `in` at `offset`.
    #[inline]
    fn set_port_value(&mut self, offset: usize, size: u8, value: u32) {
        let data = self.port_data(offset);
        // SAFETY: as in `port_value`.
        unsafe {
            match size {
                1 => data.write(value as u8),
                2 => data.cast::<u16>().write_unaligned(value as u16),
                _ => data.cast::<u32>().write_unaligned(value),
            }
        }
    }
}

impl AsRawFd for RunningVcpu {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

#[inline]
fn run(exec: &mut Exec) -> Exit {
    let error = exec.vcpu.enter();
    if exec.coalesced.any() {
        with_current_vcpu(|vcpu| coalesced::flush(vcpu, &exec.spaces.0, &exec.spaces.1));
    }
    match error {
        None => decode(exec.vcpu.page()),
        Some(error) => interrupted(exec, &error),
    }
}

/// `KVM_RUN` came back without an exit.
#[cold]
fn interrupted(exec: &mut Exec, error: &std::io::Error) -> Exit {
    match error.raw_os_error() {
        Some(libc::EINTR | libc::EAGAIN) => {
            exec.vcpu.page().immediate_exit = 0;
            // The signal's sender set a request first; do not look for it before the flag is down.
            compiler_fence(Ordering::SeqCst);
            Exit::None
        }
        _ => Exit::Fatal(format!("error: kvm run failed {error}")),
    }
}

/// Copies what the kernel says about the exit out of the shared page.
#[inline]
fn decode(run: &mut kb::kvm_run) -> Exit {
    match run.exit_reason {
        kb::KVM_EXIT_IO => {
            // SAFETY: the exit reason says which member of the union the kernel filled in, and all members
            // are plain numbers, for which any bit pattern is valid. So for the others below.
            let io = unsafe { run.__bindgen_anon_1.io };
            Exit::Io {
                write: u32::from(io.direction) == kb::KVM_EXIT_IO_OUT,
                size: io.size,
                port: io.port,
                count: io.count,
                offset: io.data_offset,
            }
        }
        kb::KVM_EXIT_MMIO => {
            // SAFETY: see above.
            let mmio = unsafe { run.__bindgen_anon_1.mmio };
            Exit::Mmio {
                write: mmio.is_write != 0,
                address: mmio.phys_addr,
                len: mmio.len.min(8),
                data: mmio.data,
            }
        }
        kb::KVM_EXIT_INTR | kb::KVM_EXIT_IRQ_WINDOW_OPEN | kb::KVM_EXIT_SET_TPR => Exit::None,
        kb::KVM_EXIT_HLT => Exit::Halt(run.if_flag != 0),
        // SAFETY: see above.
        kb::KVM_EXIT_IOAPIC_EOI => Exit::IoapicEoi(unsafe { run.__bindgen_anon_1.eoi.vector }),
        // SAFETY: see above.
        kb::KVM_EXIT_HYPERV => hyperv(unsafe { &run.__bindgen_anon_1.hyperv }),
        kb::KVM_EXIT_SHUTDOWN => Exit::Shutdown,
        // SAFETY: see above.
        kb::KVM_EXIT_SYSTEM_EVENT => Exit::SystemEvent(unsafe { run.__bindgen_anon_1.system_event.type_ }),
        // SAFETY: see above.
        kb::KVM_EXIT_DEBUG => Exit::Debug(unsafe { run.__bindgen_anon_1.debug.arch }),
        kb::KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: see above.
            let entry = unsafe { run.__bindgen_anon_1.fail_entry };
            let reason = entry.hardware_entry_failure_reason;
            Exit::Fatal(format!("KVM: entry failed, hardware error 0x{reason:x}"))
        }
        // SAFETY: see above.
        kb::KVM_EXIT_INTERNAL_ERROR => internal_error(unsafe { &run.__bindgen_anon_1.internal }),
        kb::KVM_EXIT_UNKNOWN => {
            // SAFETY: see above.
            let reason = unsafe { run.__bindgen_anon_1.hw.hardware_exit_reason };
            Exit::Fatal(format!("KVM: unknown exit, hardware reason {reason:x}"))
        }
        reason => Exit::Fatal(format!("KVM: unhandled exit {reason}")),
    }
}

/// What a guest that takes KVM for Hyper-V wants (`kvm_hv_handle_exit`).
fn hyperv(exit: &kb::kvm_hyperv_exit) -> Exit {
    match exit.type_ {
        kb::KVM_EXIT_HYPERV_SYNIC => {
            // SAFETY: the type says which member of the union the kernel filled in, and all are plain numbers.
            let synic = unsafe { exit.u.synic };
            Exit::HypervSynic([synic.control, synic.evt_page, synic.msg_page])
        }
        kb::KVM_EXIT_HYPERV_HCALL => {
            // SAFETY: as above.
            let call = unsafe { exit.u.hcall };
            Exit::HypervHypercall { input: call.input, parameters: call.params }
        }
        kind => Exit::Fatal(format!("KVM: unhandled exit of Hyper-V, type {kind}")),
    }
}

fn internal_error(internal: &kb::kvm_run__bindgen_ty_1__bindgen_ty_13) -> Exit {
    let mut text = format!("KVM internal error. Suberror: {}", internal.suberror);
    for (n, data) in internal.data.iter().take(internal.ndata as usize).enumerate() {
        text.push_str(&format!("\nextra data[{n}]: 0x{data:016x}"));
    }
    if internal.suberror == kb::KVM_INTERNAL_ERROR_EMULATION {
        text.push_str("\nemulation failure");
        return Exit::EmulationFailure(text);
    }
    Exit::Fatal(text)
}

/// `in` and `out`, with their repetitions: element by element to the same port.
#[inline]
fn handle_io(exec: &mut Exec, write: bool, size: u8, port: u16, count: u32, offset: u64) {
    for n in 0..count as usize {
        let at = offset as usize + n * usize::from(size);
        if write {
            let value = exec.vcpu.port_value(at, size);
            exec.io.write_value(port.into(), value.into(), size);
        } else {
            let value = exec.io.read_value(port.into(), size);
            exec.vcpu.set_port_value(at, size, value as u32);
        }
    }
}

fn handle_mmio(exec: &mut Exec, write: bool, address: u64, len: u32, mut data: [u8; 8]) {
    let len = len as u8;
    match (write, len.is_power_of_two()) {
        (true, true) => exec.memory.write_value(address, u64::from_le_bytes(data), len),
        (false, true) => {
            data = exec.memory.read_value(address, len).to_le_bytes();
            exec.vcpu.page().__bindgen_anon_1.mmio.data = data;
        }
        // An access across pages comes in pieces of any length. What nothing answers is as on the bus.
        (true, false) => {
            let _ = exec.memory.write(address, data.get(..len.into()).unwrap_or_default());
        }
        (false, false) => {
            let _ = exec.memory.read(address, data.get_mut(..len.into()).unwrap_or_default());
            exec.vcpu.page().__bindgen_anon_1.mmio.data = data;
        }
    }
}
