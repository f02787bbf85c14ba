//! The devices around [`I8259`]: the type all PICs share, and the one that is emulated here.
//!
//! Source: QEMU `hw/intc/i8259_common.c`, `hw/intc/i8259.c`.

use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapOption;
use hw_core::intc::InterruptStatsProvider;
use hw_core::{Device, DeviceClass, DeviceImpl, Irq, IrqPin, VmState, qdev_create, vmstate};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object, Property, Result, bail};

use crate::i8259::{I8259, IntAck, spec};
use crate::statistics::IrqStatistics;

/// "No such port".
const NO_PORT: u32 = u32::MAX;

/// What all PICs are, whoever emulates them.
#[derive(Object)]
#[object(name = "pic-common", parent = IsaDevice, abstract, class_init = class_init)]
pub struct PicCommon {
    parent: IsaDevice,
    /// First of its two ports
    #[property(default = NO_PORT)]
    pub iobase: Property<u32>,
    /// Port of the edge/level control register
    #[property(default = NO_PORT, name = "elcr_addr")]
    pub elcr_addr: Property<u32>,
    /// Bits of the edge/level control register that can be set
    #[property(default = u8::MAX, name = "elcr_mask")]
    pub elcr_mask: Property<u8>,
    /// Whether this is the one next to the CPU
    #[property]
    pub master: Property<bool>,
}

/// An emulated 8259A: inputs 0–7, one output.
#[derive(Object)]
#[object(name = "isa-i8259", parent = PicCommon, interfaces(dyn InterruptStatsProvider),
    class_init = vmstate::register::<IsaI8259>)]
pub struct IsaI8259 {
    parent: PicCommon,
    chip: Mutex<I8259>,
    int: Arc<IrqPin>,
    slave: OnceLock<Weak<IsaI8259>>,
    statistics: IrqStatistics,
}
qom::type_init!(PicCommon, IsaI8259);

fn class_init(class: &mut Class) {
    // Its lines and the cascade are the board's to wire.
    class.get_mut::<DeviceClass>().board_only = true;
}

impl<T: DeviceImpl> ClassInit<T> for PicCommon {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
    }
}

impl IsaI8259 {
    /// Whether it asks for an interrupt (`pic_get_output`).
    pub fn output(&self) -> bool {
        self.chip.lock().int()
    }

    /// The CPU's interrupt acknowledge cycle, for the master: the vector to take, which is the spurious one
    /// when the request has gone (`pic_read_irq`).
    pub fn read_irq(&self) -> u8 {
        let answer = self.chip.lock().acknowledge();
        let vector = match (answer, self.slave.get().and_then(Weak::upgrade)) {
            (IntAck::Vector(vector), _) => vector,
            (IntAck::Slave, Some(slave)) => slave.read_cascaded_irq(),
            // Nothing drives the vector onto the bus.
            (IntAck::Slave, None) => u8::MAX,
        };
        self.sync(false);
        vector
    }

    /// The slave's part of the cycle. Its output falls meanwhile, so that its next request is a new edge.
    fn read_cascaded_irq(&self) -> u8 {
        let answer = self.chip.lock().acknowledge();
        self.sync(true);
        match answer {
            IntAck::Vector(vector) => vector,
            IntAck::Slave => u8::MAX,
        }
    }

    /// Has the output follow the chip; `fell` as in [`IrqPin::sync`].
    fn sync(&self, fell: bool) {
        match self.master.get() || fell {
            true => self.int.sync(fell, || self.output()),
            // The master's ICW1 has it forget what it knew of this line.
            false => self.int.repeat(|| self.output()),
        }
    }

    fn change<R>(&self, f: impl FnOnce(&mut I8259) -> R) -> R {
        let result = f(&mut self.chip.lock());
        self.sync(false);
        result
    }
}

impl DeviceImpl for IsaI8259 {
    fn realize(self: &Arc<Self>) -> Result<()> {
        *self.chip.lock() = I8259::new(self.master.get());
        self.init_gpio_out("", &self.int);
        let this = Arc::downgrade(self);
        let inputs = Arc::new(move |n: u32, level: bool| {
            if let (Some(this), Ok(n)) = (this.upgrade(), u8::try_from(n)) {
                this.statistics.note(n, level);
                this.change(|chip| chip.set_irq(n, level));
            }
        });
        self.init_gpio_in("", inputs, spec::INPUTS);
        self.register_ioport(self.clone(), "pic", self.iobase.get(), 2)?;
        if self.elcr_addr.get() != NO_PORT {
            self.register_ioport(Arc::new(Elcr(self.clone())), "elcr", self.elcr_addr.get(), 1)?;
        }
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
    }

    fn reset_enter(&self) {
        self.chip.lock().reset();
    }

    fn reset_hold(&self) {
        self.sync(false);
    }
}

impl VmState for IsaI8259 {
    type State = I8259;

    fn save(&self) -> Option<I8259> {
        Some(self.chip.lock().clone())
    }

    fn load(&self, state: I8259) -> Result<()> {
        self.change(|chip| *chip = state);
        Ok(())
    }
}

impl InterruptStatsProvider for IsaI8259 {
    fn statistics(&self) -> Option<Vec<u64>> {
        // The master tells of the slave's, too.
        let slave = self.slave.get().and_then(Weak::upgrade);
        let chips = self.master.get().then_some(self).into_iter().chain(slave.as_deref());
        Some(chips.flat_map(|chip| chip.statistics.counts(spec::INPUTS as usize)).collect())
    }

    fn info(&self) -> Option<String> {
        Some(self.chip.lock().info().text())
    }
}

impl RegionOps for IsaI8259 {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        let mut chip = self.chip.lock();
        let polls = chip.polls();
        let value = chip.read(offset != 0);
        drop(chip);
        if polls || self.master.get() {
            self.sync(false);
        }
        value.into()
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let follows = self.chip.lock().write(offset != 0, value as u8);
        if follows || self.master.get() {
            self.sync(false);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::bytes(4)
    }
}

/// The port of the edge/level control register.
struct Elcr(Arc<IsaI8259>);

impl RegionOps for Elcr {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.0.chip.lock().elcr().into()
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        // What is requested already stays so until its input changes.
        self.0.chip.lock().set_elcr(value as u8 & self.0.elcr_mask.get());
    }

    fn rules(&self) -> AccessRules {
        AccessRules::bytes(4)
    }
}

static ISA_PIC: ArcSwapOption<IsaI8259> = ArcSwapOption::const_empty();

/// The machine's master, once [`i8259_init`] made it: for the CPU's acknowledge cycle.
pub fn isa_pic() -> Option<Arc<IsaI8259>> {
    ISA_PIC.load_full()
}

/// Leaves the machine's PICs as firmware does: initialized, with these interrupt masks, and level-triggered for the ISA lines
/// that PCI uses (ELCR).
pub fn set_up_as_firmware(masks: [u8; 2], lines: u16) {
    let Some(master) = isa_pic() else { return };
    let [low, high] = lines.to_le_bytes();
    let slave = master.slave.get().and_then(Weak::upgrade);
    let words = spec::FIRMWARE_VECTORS.into_iter().zip(masks);
    for ((pic, lines, cascade), (vectors, mask)) in
        [(Some(master), low, 1 << spec::CASCADE), (slave, high, spec::CASCADE)].into_iter().zip(words)
    {
        let Some(pic) = pic else { continue };
        let elcr = lines & pic.elcr_mask.get();
        pic.change(|chip| {
            chip.write(false, spec::ICW1 | spec::ICW1_IC4);
            for word in [vectors, cascade, spec::ICW4_8086, mask] {
                chip.write(true, word);
            }
            chip.set_elcr(elcr);
        });
    }
}

/// Makes a PC's two PICs on the ISA bus `bus`, the slave wired to the master's input 2, the master's output to
/// `parent_irq`. Gives the sixteen inputs; number 2 is the slave's and nobody else's (`i8259_init`).
///
/// # Errors
/// When `bus` is no ISA bus.
pub fn i8259_init(bus: &Arc<dyn Object>, parent_irq: Irq) -> Result<Vec<Irq>> {
    let master = init_chip(bus, true)?;
    let slave = init_chip(bus, false)?;
    let mut irqs = master.gpio_in_all("");
    master.int.connect(parent_irq);
    if let Some(cascade) = irqs.get(usize::from(spec::CASCADE)) {
        slave.int.connect(cascade.clone());
    }
    let _ = master.slave.set(Arc::downgrade(&slave));
    irqs.extend(slave.gpio_in_all(""));
    ISA_PIC.store(Some(master));
    Ok(irqs)
}

fn init_chip(bus: &Arc<dyn Object>, master: bool) -> Result<Arc<IsaI8259>> {
    let (iobase, elcr_addr, elcr_mask) = match master {
        true => (spec::MASTER_PORT, spec::ELCR1_PORT, spec::ELCR1_MASK),
        false => (spec::SLAVE_PORT, spec::ELCR2_PORT, spec::ELCR2_MASK),
    };
    let properties = [
        ("iobase", iobase.into()),
        ("elcr_addr", elcr_addr.into()),
        ("elcr_mask", elcr_mask.into()),
        ("master", master.into()),
    ];
    match qom::downcast(qdev_create("isa-i8259", Some(bus), &properties)?) {
        Some(chip) => Ok(chip),
        None => bail!("'isa-i8259' is another type"),
    }
}
