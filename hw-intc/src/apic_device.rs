//! The devices around [`Apic`]: the type all local APICs share, the one that is emulated here, and the bus between them.
//!
//! Source: QEMU `hw/intc/apic_common.c`, `hw/intc/apic.c`, `hw/i386/x86.c` (`pic_irq_request`,
//! `cpu_get_pic_interrupt`).

use std::sync::{Arc, LazyLock, OnceLock, Weak};

use arc_swap::ArcSwap;
use hw_core::accel::MsiMessage;
use hw_core::cpu::current_cpu;
use hw_core::reset::{ResetHandler, cold_reset, qemu_register_reset, qemu_unregister_reset};
use hw_core::{Device, DeviceClass, DeviceImpl, Irq, IrqPin, VmState, vmstate};
use memory::{AccessRules, MemoryRegion, RegionOps, get_system_memory};
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object, Property, Result, bail};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::apic::{Apic, ApicEvent, CpuInterrupt, Message, Targets, spec};
use crate::i8259_device::isa_pic;
use crate::ioapic::DeliveryMode;
use crate::ioapic_device::ioapic_eoi_broadcast;

/// Places for registers in the page, 16 bytes apart.
const REGISTERS: u64 = 64;
/// Above whatever else is at the APICs' addresses.
const MAP_PRIORITY: i32 = 0x1000;

/// A CPU, as its emulated APIC sees it. Calls come from any thread and must not call back into an APIC: the CPU notes
/// what came, and its own thread asks with [`cpu_get_pic_interrupt`], [`ApicDevice::init_reset`] and
/// [`ApicDevice::sipi`].
pub trait ApicCpu: Send + Sync {
    /// Its index among CPUs, as [`current_cpu`] gives it on its thread.
    fn cpu_index(&self) -> u32;
    /// Whether an interrupt waits for it (`CPU_INTERRUPT_HARD`). Changes come in order.
    fn set_intr(&self, level: bool);
    /// It is to take this as soon as it can.
    fn interrupt(&self, kind: CpuInterrupt);
    /// The guest has switched the APIC off for good: CPUID is to show none.
    fn clear_apic_feature(&self);
}

/// What all local APICs are, whoever emulates them.
#[derive(Object)]
#[object(name = "apic-common", parent = Device, abstract, class_init = class_init)]
pub struct ApicCommon {
    parent: Device,
    /// Its id after reset
    #[property(default = u32::MAX)]
    pub id: Property<u32>,
    /// What its version register shows
    #[property(default = spec::VERSION_DEFAULT)]
    pub version: Property<u8>,
    /// Let old guests' accesses to the task priority be patched to avoid exits; not supported
    #[property]
    pub vapic: Property<bool>,
}

/// An emulated local APIC.
#[derive(Object)]
#[object(name = "apic", parent = ApicCommon, class_init = vmstate::register::<ApicDevice>)]
pub struct ApicDevice {
    parent: ApicCommon,
    chip: Mutex<Apic>,
    timer: OnceLock<Timer>,
    intr: Arc<IrqPin>,
    cpu: OnceLock<Weak<dyn ApicCpu>>,
    reset_handler: Mutex<Option<ResetHandler>>,
}
qom::type_init!(ApicCommon, ApicDevice);

fn class_init(class: &mut Class) {
    // The CPU makes its own.
    class.get_mut::<DeviceClass>().board_only = true;
}

impl<T: DeviceImpl> ClassInit<T> for ApicCommon {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
    }
}

/// All live APICs, by the ids they were made with (`local_apics`).
static APICS: LazyLock<ArcSwap<Vec<Arc<ApicDevice>>>> = LazyLock::new(ArcSwap::default);

impl ApicDevice {
    /// Says whose it is; before it is realized.
    pub fn set_cpu(&self, cpu: Weak<dyn ApicCpu>) {
        let _ = self.cpu.set(cpu);
    }

    fn cpu(&self) -> Option<Arc<dyn ApicCpu>> {
        self.cpu.get()?.upgrade()
    }

    /// Changes the chip and does what follows.
    fn change<R>(&self, f: impl FnOnce(&mut Apic) -> (R, Option<ApicEvent>)) -> R {
        let (result, event) = {
            let mut chip = self.chip.lock();
            let done = f(&mut chip);
            // Under the chip's lock, so that an older deadline does not come last.
            match (self.timer.get(), chip.next_deadline()) {
                (Some(timer), Some(deadline)) => timer.mod_ns(deadline),
                (Some(timer), None) => timer.del(),
                (None, _) => {}
            }
            done
        };
        if let Some(event) = event {
            self.carry_out(event);
        }
        self.intr.sync(false, || self.chip.lock().intr(pic_output()));
        result
    }

    fn carry_out(&self, event: ApicEvent) {
        match event {
            ApicEvent::Cpu(kind) => self.cpu().into_iter().for_each(|cpu| cpu.interrupt(kind)),
            ApicEvent::Eoi(vector) => ioapic_eoi_broadcast(vector),
            ApicEvent::Send(targets, message) => deliver(targets, message, Some(self), Apic::accept_ipi),
            ApicEvent::SynchronizeArbitration(targets) => {
                for apic in matching(&APICS.load(), targets, Some(self)) {
                    apic.change(|chip| (chip.synchronize_arbitration(), None));
                }
            }
        }
    }

    /// What INIT does to it (`apic_init_reset`).
    pub fn init_reset(&self) {
        self.change(|chip| (chip.init_reset(), None));
    }

    /// The CPU takes a start-up: the page to start at, if it waits for one (`apic_sipi`).
    pub fn sipi(&self) -> Option<u8> {
        self.change(|chip| (chip.sipi(), None))
    }

    /// Makes its CPU the bootstrap processor or not (`apic_designate_bsp`).
    pub fn designate_bsp(&self, bsp: bool) {
        self.change(|chip| (chip.designate_bsp(bsp), None));
    }

    /// IA32_APIC_BASE (`cpu_get_apic_base`).
    pub fn base(&self) -> u64 {
        self.chip.lock().base()
    }

    /// Writes IA32_APIC_BASE (`cpu_set_apic_base`). As in QEMU the registers do not move.
    pub fn set_base(&self, value: u64) {
        if self.change(|chip| (chip.set_base(value), None))
            && let Some(cpu) = self.cpu()
        {
            cpu.clear_apic_feature();
        }
    }

    /// CR8 (`cpu_get_apic_tpr`).
    pub fn cr8(&self) -> u8 {
        self.chip.lock().cr8()
    }

    /// Writes CR8 (`cpu_set_apic_tpr`).
    pub fn set_cr8(&self, value: u8) {
        self.change(|chip| (chip.set_cr8(value), None));
    }

    /// Pulses LINT1, as the monitor's `nmi` does (`apic_deliver_nmi`).
    pub fn deliver_nmi(&self) {
        self.change(|chip| ((), chip.external_nmi()));
    }

    /// Enables it and sets its two lines, as firmware does.
    pub fn set_firmware_state(&self, lint0: u32, lint1: u32) {
        let at = |register: u8| u64::from(register) << spec::REGISTER_SHIFT;
        self.write_register(at(spec::SVR), spec::SVR_ENABLE | spec::SVR_VECTOR);
        self.write_register(at(spec::LVT + spec::LVT_LINT0 as u8), lint0);
        self.write_register(at(spec::LVT + spec::LVT_LINT1 as u8), lint1);
    }

    /// Whether the PIC's interrupts reach its CPU (`apic_accept_pic_intr`).
    pub fn accepts_pic_intr(&self) -> bool {
        self.chip.lock().accepts_pic()
    }

    /// The page of registers, which nothing changes by being looked at.
    pub fn page(&self) -> Vec<u8> {
        let chip = self.chip.lock().clone();
        let now = now_ns(ClockType::Virtual);
        // To read one that is not there is an error, which the next is not to tell of.
        let register = |n: u64| chip.clone().read(n << 4, now);
        (0..REGISTERS).flat_map(|n| u128::from(register(n)).to_le_bytes()).collect()
    }

    fn read_register(&self, offset: u64) -> u32 {
        self.chip.lock().read(offset, now_ns(ClockType::Virtual))
    }

    fn write_register(&self, offset: u64, value: u32) {
        self.change(|chip| ((), chip.write(offset, value, pic_output(), now_ns(ClockType::Virtual))));
    }
}

fn pic_output() -> bool {
    isa_pic().is_some_and(|pic| pic.output())
}

/// The APICs of `apics` that a message is for.
fn matching<'a>(
    apics: &'a [Arc<ApicDevice>],
    targets: Targets,
    sender: Option<&'a ApicDevice>,
) -> impl Iterator<Item = &'a Arc<ApicDevice>> {
    let is_sender = move |apic: &ApicDevice| sender.is_some_and(|sender| std::ptr::eq(sender, apic));
    apics.iter().filter(move |apic| match targets {
        Targets::Destination { destination, logical } => apic.chip.lock().matches(destination, logical),
        Targets::This => is_sender(apic),
        Targets::All => true,
        Targets::Others => !is_sender(apic),
    })
}

/// Has `accept` take `message` at each APIC it is for; one of lowest priority goes to the first only.
fn deliver(
    targets: Targets,
    message: Message,
    sender: Option<&ApicDevice>,
    accept: impl Fn(&mut Apic, Message) -> Option<ApicEvent>,
) {
    let apics = APICS.load();
    let limit = if message.mode == DeliveryMode::LowestPriority { 1 } else { usize::MAX };
    for apic in matching(&apics, targets, sender).take(limit) {
        apic.change(|chip| ((), accept(chip, message)));
    }
}

/// Delivers a message-signalled interrupt to the emulated APICs (`apic_send_msi`).
pub fn send_msi(message: MsiMessage) {
    let (targets, message) = Message::from_msi(message.address, message.data);
    deliver(targets, message, None, Apic::accept);
}

/// The PIC's output changes: every APIC that lets it through is told. False when there are no APICs, and the line is
/// the first CPU's own (`pic_irq_request`).
pub fn pic_irq_request(level: bool) -> bool {
    let apics = APICS.load();
    for apic in apics.iter() {
        apic.change(|chip| ((), chip.set_lint0(level)));
    }
    !apics.is_empty()
}

/// The CPU with `apic`, or with none, takes an interrupt: its vector, or `None` when there is nothing after all
/// (`cpu_get_pic_interrupt`).
pub fn cpu_get_pic_interrupt(apic: Option<&ApicDevice>) -> Option<u8> {
    if let Some(apic) = apic {
        let pic = pic_output();
        if let Some(vector) = apic.change(|chip| (chip.take_interrupt(pic), None)) {
            return Some(vector);
        }
        if !apic.accepts_pic_intr() {
            return None;
        }
    }
    let vector = isa_pic()?.read_irq();
    Some(vector)
}

impl DeviceImpl for ApicDevice {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let id = self.id.get();
        let Some(id) = u8::try_from(id).ok().filter(|_| id < spec::MAX_APICS) else {
            bail!("apic initialization failed. APIC ID {} is invalid", id as i32);
        };
        if self.vapic.get() {
            bail!("apic: vapic=on is not supported");
        }
        let bsp = self.chip.lock().base() & spec::BASE_BSP != 0;
        let mut chip = Apic::new(id, self.version.get());
        chip.designate_bsp(bsp);
        chip.reset();
        *self.chip.lock() = chip;
        let this = Arc::downgrade(self);
        let timer = Timer::new(ClockType::Virtual, move || {
            if let Some(this) = this.upgrade() {
                this.change(|chip| ((), chip.expire(now_ns(ClockType::Virtual))));
            }
        });
        let _ = self.timer.set(timer);
        let this = Arc::downgrade(self);
        let intr = Arc::new(move |_: u32, level: bool| {
            if let Some(cpu) = this.upgrade().and_then(|this| this.cpu()) {
                cpu.set_intr(level);
            }
        });
        self.intr.connect(Irq::new(intr, 0));
        map_once();
        APICS.rcu(|list| {
            let mut list = (**list).clone();
            list.push(self.clone());
            list.sort_by_key(|apic| apic.id.get());
            list
        });
        // No bus has it reset.
        let this = Arc::downgrade(self);
        let handler: ResetHandler = Arc::new(move || {
            if let Some(this) = this.upgrade() {
                let object: Arc<dyn Object> = this;
                cold_reset(&object);
            }
        });
        qemu_register_reset(handler.clone());
        *self.reset_handler.lock() = Some(handler);
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        APICS.rcu(|list| list.iter().filter(|apic| !Arc::ptr_eq(apic, self)).cloned().collect::<Vec<_>>());
        if let Some(timer) = self.timer.get() {
            timer.del();
        }
        if let Some(handler) = self.reset_handler.lock().take() {
            qemu_unregister_reset(&handler);
        }
    }

    fn reset_enter(&self) {
        self.chip.lock().reset();
    }

    fn reset_hold(&self) {
        self.change(|_| ((), None));
    }
}

impl VmState for ApicDevice {
    type State = Apic;

    fn save(&self) -> Option<Apic> {
        Some(self.chip.lock().clone())
    }

    fn load(&self, state: Apic) -> Result<()> {
        self.change(|chip| (*chip = state, None));
        Ok(())
    }
}

/// The APICs' addresses. Each CPU sees its own registers there, and everybody sends messages.
struct ApicSpace;

/// Shows the APICs' addresses in physical memory.
fn map_once() {
    static REGION: OnceLock<MemoryRegion> = OnceLock::new();
    REGION.get_or_init(|| {
        let region = MemoryRegion::io("apic-msi", spec::APIC_SPACE_SIZE, Arc::new(ApicSpace));
        get_system_memory().add_subregion_overlap(spec::APIC_DEFAULT_ADDRESS, &region, MAP_PRIORITY);
        region
    });
}

/// The APIC of the CPU whose thread this is (`cpu_get_current_apic`); the main loop's has none.
fn current_apic() -> Option<Arc<ApicDevice>> {
    let index = current_cpu()?;
    let apics = APICS.load();
    apics.iter().find(|apic| apic.cpu().is_some_and(|cpu| cpu.cpu_index() == index)).cloned()
}

impl RegionOps for ApicSpace {
    fn read(&self, offset: u64, size: u8) -> u64 {
        match current_apic() {
            Some(apic) if size == 4 => apic.read_register(offset).into(),
            _ => 0,
        }
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        if size != 4 {
            return;
        }
        // No register is at the page's start: what comes there or behind it is a message.
        if offset >= spec::REGISTER_PAGE || offset >> spec::REGISTER_SHIFT == 0 {
            send_msi(MsiMessage { address: spec::APIC_DEFAULT_ADDRESS + offset, data: value as u32 });
        } else if let Some(apic) = current_apic() {
            apic.write_register(offset, value as u32);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::default()
    }
}
