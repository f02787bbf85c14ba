//! The devices around [`IoApic`]: the type all I/O APICs share, and the one that is emulated here.
//!
//! Source: QEMU `hw/intc/ioapic_common.c`, `hw/intc/ioapic.c`.

use std::sync::{Arc, LazyLock, OnceLock};

use arc_swap::ArcSwap;
use hw_core::accel::{MsiMessage, accel_irqchip};
use hw_core::intc::InterruptStatsProvider;
use hw_core::{Device, DeviceImpl, SysBusDevice, VmState, vmstate};
use memory::{AccessRules, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object, Property, Result, bail};
use util::clock::{ClockType, now_ns};
use util::timer::Timer;

use crate::apic_device::send_msi;
use crate::i8259_device::isa_pic;
use crate::ioapic::{DeliveryMode, IoApic, IoApicMessage, STORM_DELAY_NS, spec};
use crate::statistics::IrqStatistics;

/// ISA line 0 leads to this input.
const TIMER_INPUT: u8 = 2;

/// What all I/O APICs are, whoever emulates them.
#[derive(Object)]
#[object(name = "ioapic-common", parent = SysBusDevice, abstract)]
pub struct IoApicCommon {
    parent: SysBusDevice,
}

/// An emulated 82093AA at 0xfec00000. Its 24 inputs are GSIs: number 0 leads to the chip's input 2, as ISA line 0 does.
#[derive(Object)]
#[object(name = "ioapic", parent = IoApicCommon, interfaces(dyn InterruptStatsProvider),
    class_init = vmstate::register::<IoApicDevice>)]
pub struct IoApicDevice {
    parent: IoApicCommon,
    /// 0x11, or 0x20 with an EOI register
    #[property(default = spec::VERSION_20)]
    version: Property<u8>,
    chip: OnceLock<Mutex<IoApic>>,
    timer: OnceLock<Timer>,
    statistics: IrqStatistics,
}
qom::type_init!(IoApicCommon, IoApicDevice);

impl<T: DeviceImpl> ClassInit<T> for IoApicCommon {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
    }
}

/// Those that are told of the ends of interrupts.
static IOAPICS: LazyLock<ArcSwap<Vec<Arc<IoApicDevice>>>> = LazyLock::new(ArcSwap::default);

/// A local APIC has ended the level-triggered interrupt with `vector` (`ioapic_eoi_broadcast`).
pub fn ioapic_eoi_broadcast(vector: u8) {
    for ioapic in IOAPICS.load().iter() {
        ioapic.change(|chip| chip.eoi(vector));
    }
}

impl IoApicDevice {
    /// Changes the chip and sends the messages that follow.
    fn change<M: IntoIterator<Item = IoApicMessage>>(&self, f: impl FnOnce(&mut IoApic) -> M) {
        let Some(chip) = self.chip.get() else { return };
        let (messages, delayed) = {
            let mut chip = chip.lock();
            (f(&mut chip), chip.is_delayed())
        };
        if let Some(timer) = self.timer.get().filter(|_| delayed) {
            timer.mod_anticipate(now_ns(ClockType::Virtual).saturating_add(STORM_DELAY_NS));
        }
        messages.into_iter().for_each(deliver);
    }

    /// Tells local APICs in the kernel whose ends we want to hear of (`ioapic_update_kvm_routes`).
    fn update_routes(&self) {
        let (Some(irqchip), Some(chip)) = (accel_irqchip(), self.chip.get()) else { return };
        let messages: Vec<_> = chip.lock().messages().map(msi).collect();
        irqchip.set_ioapic_messages(&messages);
    }
}

fn msi(message: IoApicMessage) -> MsiMessage {
    let (address, data) = message.to_msi();
    MsiMessage { address, data }
}

/// Sends a message to the local APICs, wherever they are.
fn deliver(mut message: IoApicMessage) {
    if message.delivery_mode == DeliveryMode::ExtInt
        && let Some(pic) = isa_pic()
    {
        message.vector = pic.read_irq();
    }
    let message = msi(message);
    match accel_irqchip() {
        Some(irqchip) => irqchip.send_msi(message),
        None => send_msi(message),
    }
}

impl DeviceImpl for IoApicDevice {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let chip = match IoApic::new(self.version.get()) {
            Ok(chip) => chip,
            Err(error) => bail!("{error}"),
        };
        let _ = self.chip.set(Mutex::new(chip));
        let this = Arc::downgrade(self);
        let timer = Timer::new(ClockType::Virtual, move || {
            if let Some(this) = this.upgrade() {
                this.change(IoApic::service_delayed);
            }
        });
        let _ = self.timer.set(timer);
        let this = Arc::downgrade(self);
        let inputs = Arc::new(move |n: u32, level: bool| {
            if let (Some(this), Ok(n)) = (this.upgrade(), u8::try_from(n)) {
                this.statistics.note(n, level);
                this.change(|chip| chip.set_irq(if n == 0 { TIMER_INPUT } else { n }, level));
            }
        });
        self.init_gpio_in("", inputs, spec::PINS as u32);
        let region = MemoryRegion::io("ioapic", spec::REGISTER_SPACE, self.clone());
        self.map_memory(spec::IO_APIC_DEFAULT_ADDRESS, &region);
        IOAPICS.rcu(|list| list.iter().cloned().chain([self.clone()]).collect::<Vec<_>>());
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        IOAPICS.rcu(|list| list.iter().filter(|d| !Arc::ptr_eq(d, self)).cloned().collect::<Vec<_>>());
        self.regions().iter().for_each(MemoryRegion::unmap);
        if let Some(timer) = self.timer.get() {
            timer.del();
        }
    }

    fn reset_enter(&self) {
        self.change(|chip| {
            chip.reset();
            None
        });
        self.update_routes();
    }
}

impl VmState for IoApicDevice {
    type State = IoApic;

    fn save(&self) -> Option<IoApic> {
        Some(self.chip.get()?.lock().clone())
    }

    fn load(&self, state: IoApic) -> Result<()> {
        self.change(|chip| {
            *chip = state;
            None
        });
        self.update_routes();
        Ok(())
    }
}

impl InterruptStatsProvider for IoApicDevice {
    fn statistics(&self) -> Option<Vec<u64>> {
        Some(self.statistics.counts(spec::PINS).collect())
    }

    fn info(&self) -> Option<String> {
        Some(self.chip.get()?.lock().info())
    }
}

impl RegionOps for IoApicDevice {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.chip.get().map_or(0, |chip| chip.lock().read(offset, size.into())).into()
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        // Before the input may interrupt by what is written.
        let messages = self.chip.get().map(|chip| chip.lock().write(offset, value as u32, size.into()));
        self.update_routes();
        self.change(|_| messages.unwrap_or_default());
    }

    fn rules(&self) -> AccessRules {
        AccessRules::default()
    }
}
