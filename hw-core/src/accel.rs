//! What runs guest code, seen from the board and the devices.
//!
//! Source: QEMU `accel/accel.c`, `include/qemu/accel.h`, `include/sysemu/kvm.h`.

use std::sync::{Arc, OnceLock};

use qom::{Class, ClassInit, Interface, Object, ObjectBase, Result, bail};
use vmm_sys_util::eventfd::EventFd;

use crate::machine::Machine;

/// What all accelerators of a type share.
#[derive(Clone, Default)]
pub struct AccelClass {
    /// The name after `-accel`, and what messages call it.
    pub name: &'static str,
}

/// The root part of every accelerator; the type of accelerator `x` is called `x-accel`.
#[derive(Object)]
#[object(name = "accel", parent = ObjectBase, abstract, instance_post_init = AccelState::apply_globals)]
pub struct AccelState {
    parent: ObjectBase,
}
qom::type_init!(AccelState);
qom::type_init!(fn register_interface);

fn register_interface() {
    qom::type_register(qom::TypeInfo::interface::<dyn Accelerator>());
}

impl AccelState {
    fn apply_globals(&self) {
        crate::global::apply(&*self.this());
    }
}

impl<T> ClassInit<T> for AccelState {
    fn class_init(_: &mut Class) {}
}

/// An accelerator that can be chosen with `-accel`.
pub trait Accelerator: Send + Sync {
    /// Makes it the machine's own (`acc->init_machine`); nothing is left behind when it fails.
    ///
    /// Without `wait`, what takes time in the kernel may be left to go on beside the rest, until
    /// [`Accelerator::finish_init`].
    ///
    /// # Errors
    /// Says why this host cannot run it; the next accelerator is tried then.
    fn init_machine(&self, machine: &Machine, wait: bool) -> Result<()>;

    /// Waits for all that was begun, CPUs included: to be called before the machine runs where nobody waited at once.
    ///
    /// # Errors
    /// Why this host cannot run it.
    fn finish_init(&self) -> Result<()> {
        Ok(())
    }

    /// Starts the thread that runs `cpu` and waits until it is up (`qemu_init_vcpu`).
    ///
    /// # Errors
    /// When the host refuses another vCPU or its features.
    fn init_vcpu(&self, cpu: &Arc<dyn Object>) -> Result<()>;

    /// The interrupt controller the accelerator brings, if it brings one.
    fn irqchip(&self) -> Option<Arc<dyn AccelIrqchip>>;

    /// Whether guests' writes signal the eventfds of memory regions (`kvm_eventfds_enabled`).
    fn has_ioeventfds(&self) -> bool {
        false
    }
}

impl Interface for dyn Accelerator {
    const TYPE_NAME: &'static str = "accelerator";
}

/// A message-signalled interrupt: what a device would write where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsiMessage {
    /// Address of the write.
    pub address: u64,
    /// The 32 bits written.
    pub data: u32,
}

/// The accelerator's interrupt routing: global system interrupts (GSIs), and routes of messages and eventfds
/// into it.
pub trait AccelIrqchip: Send + Sync {
    /// Whether only the local APICs are the accelerator's: PIC, I/O APIC and PIT are the board's own then.
    fn is_split(&self) -> bool {
        false
    }
    /// Says which messages the inputs of a board's own I/O APIC send, so that the ends of level-triggered ones are told
    /// of. A masked input's need not be right.
    fn set_ioapic_messages(&self, messages: &[MsiMessage]) {
        let _ = messages;
    }
    /// Sets the level of a GSI.
    fn set_gsi(&self, gsi: u32, level: bool);
    /// Delivers a message now.
    fn send_msi(&self, message: MsiMessage);
    /// New GSIs that stand for `messages`.
    ///
    /// # Errors
    /// When all are in use, or the host refuses; there are none then.
    fn add_msi_routes(&self, messages: &[MsiMessage]) -> Result<Vec<u32>>;
    /// Lets GSIs of [`AccelIrqchip::add_msi_routes`] stand for other messages.
    ///
    /// # Errors
    /// When the host refuses; they stand for what they stood for then.
    fn update_msi_routes(&self, changes: &[(u32, MsiMessage)]) -> Result<()>;
    /// A new GSI that stands for interrupt source `sint` of a virtual processor's SynIC, as Hyper-V has them.
    ///
    /// # Errors
    /// When all are in use, or the accelerator has none of it.
    fn add_hv_sint_route(&self, vp_index: u32, sint: u32) -> Result<u32> {
        let _ = (vp_index, sint);
        bail!("this accelerator has no synthetic interrupt controllers")
    }
    /// Gives such GSIs back, which nothing triggers any more.
    fn release_routes(&self, gsis: &[u32]);
    /// Has `eventfd` trigger `gsi`; for a level-triggered one `resample` is signalled at its end.
    ///
    /// # Errors
    /// When the host refuses.
    fn add_irqfd(&self, gsi: u32, eventfd: &EventFd, resample: Option<&EventFd>) -> Result<()>;
    /// Undoes [`AccelIrqchip::add_irqfd`].
    fn remove_irqfd(&self, gsi: u32, eventfd: &EventFd);
}

static CURRENT: OnceLock<Arc<dyn Accelerator>> = OnceLock::new();
static NAME: OnceLock<&str> = OnceLock::new();

/// The class of the accelerator called `name` (`accel_find`).
pub fn accel_find(name: &str) -> Option<&'static Class> {
    qom::class_by_name(&format!("{name}-accel")).filter(|c| c.is_a("accel") && !c.is_abstract())
}

/// Makes `accelerator` the machine's own, if it can (`accel_init_machine`).
///
/// # Errors
/// As [`Accelerator::init_machine`].
pub fn accel_init_machine(accelerator: &Arc<dyn Object>, machine: &Arc<dyn Object>) -> Result<()> {
    accel_begin_machine(accelerator, machine, true)
}

/// The same; without `wait` the accelerator may still be at it, until [`Accelerator::finish_init`].
///
/// # Errors
/// As [`Accelerator::init_machine`].
pub fn accel_begin_machine(
    accelerator: &Arc<dyn Object>,
    machine: &Arc<dyn Object>,
    wait: bool,
) -> Result<()> {
    let Some(machine) = machine.cast::<Machine>() else {
        qom::bail!("'{}' is not a machine", machine.type_name())
    };
    let Some(accel) = accelerator.interface::<dyn Accelerator>() else {
        qom::bail!("'{}' is not an accelerator", accelerator.type_name())
    };
    let _span = util::trace::span("accel_init_machine");
    accel.init_machine(machine, wait)?;
    let _ = qom::object_get_root().property_add_child("accel", accelerator);
    let _ = CURRENT.set(accel);
    let _ = NAME.set(accelerator.class().get::<AccelClass>().map_or("", |class| class.name));
    Ok(())
}

/// The machine's accelerator, once one was chosen.
pub fn current_accel() -> Option<&'static Arc<dyn Accelerator>> {
    CURRENT.get()
}

/// What the chosen accelerator is called, once one was chosen (`current_accel_name`).
pub fn current_accel_name() -> Option<&'static str> {
    NAME.get().copied()
}

/// Whether guests' writes signal the eventfds of memory regions; otherwise they reach the regions' handlers.
pub fn has_ioeventfds() -> bool {
    current_accel().is_some_and(|accel| accel.has_ioeventfds())
}

/// Whether the board has to bring its own PIC, I/O APIC and PIT.
pub fn needs_own_pic() -> bool {
    accel_irqchip().is_none_or(|irqchip| irqchip.is_split())
}

/// The in-kernel interrupt controller, once there is one.
pub fn accel_irqchip() -> Option<Arc<dyn AccelIrqchip>> {
    current_accel()?.irqchip()
}
