//! The registers of virtual processors' SynICs, and interrupts into them. Source: QEMU `hw/hyperv/hyperv.c`.
//!
//! The two pages are the guest's own memory at the address that it gives, which KVM clears when the guest enables them;
//! in QEMU they are memory laid over it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hw_core::Cpu;
use hw_core::accel::{AccelIrqchip, accel_irqchip};
use hw_core::cpu::cpu_list;
use memory::{EventNotifier, MemTxResult, address_space_memory};
use parking_lot::Mutex;
use util::event_loop::{EventLoop, FdWatch, Interest};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::spec::{ENABLE, PAGE, SINTS, SLOT};

/// A virtual processor's registers, as the guest wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynicRegisters {
    /// `HV_X64_MSR_SCONTROL`
    pub control: u64,
    /// `HV_X64_MSR_SIEFP`
    pub event_page: u64,
    /// `HV_X64_MSR_SIMP`
    pub message_page: u64,
}

/// By number of the virtual processor.
static SYNICS: Mutex<BTreeMap<u32, SynicRegisters>> = Mutex::new(BTreeMap::new());

/// Takes note of the registers of a virtual processor (`hyperv_synic_update`); zeros after a reset.
pub fn synic_set(vp_index: u32, registers: SynicRegisters) {
    SYNICS.lock().insert(vp_index, registers);
}

fn registers(vp_index: u32) -> Option<SynicRegisters> {
    SYNICS.lock().get(&vp_index).copied()
}

impl SynicRegisters {
    fn enabled(&self) -> bool {
        self.control & ENABLE != 0
    }
}

fn page(register: u64) -> Option<u64> {
    (register & ENABLE != 0).then_some(register & PAGE)
}

/// A way from devices to an interrupt source of a virtual processor.
pub struct SintRoute {
    vp_index: u32,
    sint: u8,
    line: Option<Line>,
}

/// The route in the accelerator.
struct Line {
    irqchip: Arc<dyn AccelIrqchip>,
    gsi: u32,
    set: EventFd,
    /// Signalled when the guest has taken a message out of its slot.
    _ack: Option<FdWatch>,
}

impl SintRoute {
    /// Makes a route (`hyperv_sint_route_new`); `acknowledged` runs on the main loop each time the guest is done with a
    /// message. `None` if there is no such processor or source, its SynIC is not there, or the host has no more routes.
    pub fn new(
        vp_index: u32,
        sint: u8,
        acknowledged: Option<Box<dyn Fn() + Send + Sync>>,
    ) -> Option<SintRoute> {
        let registers = registers(vp_index).filter(|_| sint < SINTS)?;
        // A SynIC that is off hears nothing.
        let line = match registers.enabled() {
            true => Some(Line::new(vp_index, sint, acknowledged)?),
            false => None,
        };
        Some(SintRoute { vp_index, sint, line })
    }

    /// Raises the interrupt.
    pub fn set_sint(&self) {
        if let Some(line) = &self.line {
            // Fails only when the counter is full, and then the kernel has not taken the last one yet.
            let _ = line.set.write(1);
        }
    }

    /// Has the processor's thread call `work` outside the guest: what it changes in the pages, KVM and the guest on this
    /// processor do not change at the same time.
    pub(crate) fn run_on_processor(&self, work: impl FnOnce() + Send + 'static) {
        let cpus = cpu_list();
        let cpu = cpus.iter().filter_map(|cpu| cpu.cast::<Cpu>()).find(|cpu| cpu.index() == self.vp_index);
        if let Some(cpu) = cpu {
            cpu.async_run_on_cpu(work);
        }
    }

    /// Where the guest wants messages of this source now.
    pub(crate) fn message_slot(&self) -> Option<u64> {
        Some(page(registers(self.vp_index)?.message_page)? + u64::from(self.sint) * SLOT)
    }

    /// Sets an event flag, and raises the interrupt if it was not set (`hyperv_set_event_flag`).
    pub fn set_event_flag(self: &Arc<Self>, flag: u8) {
        let this = self.clone();
        self.run_on_processor(move || this.set_flag_now(flag));
    }

    fn set_flag_now(&self, flag: u8) {
        let Some(registers) = registers(self.vp_index).filter(SynicRegisters::enabled) else { return };
        let Some(page) = page(registers.event_page) else { return };
        let address = page + u64::from(self.sint) * SLOT + u64::from(flag / 8);
        let mut byte = [0];
        let read = address_space_memory().read(address, &mut byte);
        let set = byte[0] | 1 << (flag % 8);
        if read == MemTxResult::Ok && set != byte[0] {
            let _ = address_space_memory().write(address, &[set]);
            self.set_sint();
        }
    }
}

impl Line {
    fn new(vp_index: u32, sint: u8, acknowledged: Option<Box<dyn Fn() + Send + Sync>>) -> Option<Line> {
        let irqchip = accel_irqchip()?;
        let set = EventFd::new(EFD_NONBLOCK).ok()?;
        let ack = match acknowledged {
            Some(call) => Some(watch(call)?),
            None => None,
        };
        let gsi = irqchip.add_hv_sint_route(vp_index, sint.into()).ok()?;
        let resample = ack.as_ref().map(|(eventfd, _)| &**eventfd);
        if irqchip.add_irqfd(gsi, &set, resample).is_err() {
            irqchip.release_routes(&[gsi]);
            return None;
        }
        Some(Line { irqchip, gsi, set, _ack: ack.map(|(_, watch)| watch) })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.irqchip.remove_irqfd(self.gsi, &self.set);
        self.irqchip.release_routes(&[self.gsi]);
    }
}

/// An eventfd, and the watch that calls `call` whenever it is signalled.
fn watch(call: Box<dyn Fn() + Send + Sync>) -> Option<(Arc<EventFd>, FdWatch)> {
    let eventfd = Arc::new(EventFd::new(EFD_NONBLOCK).ok()?);
    let to_read = eventfd.clone();
    let handler = Arc::new(move |_| {
        if to_read.read().is_ok() {
            call();
        }
    });
    let watch = EventLoop::main().add_fd(EventNotifier(eventfd.clone()), Interest::READ, handler).ok()?;
    Some((eventfd, watch))
}
