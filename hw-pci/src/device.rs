//! A PCI function.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use hw_core::accel::{MsiMessage, accel_irqchip};
use hw_core::device::{RealizeFn, UnrealizeFn, call_realize, call_unrealize};
use hw_core::reset::Phases;
use hw_core::{Device, DeviceClass, DeviceImpl, VmState, vmstate};
use memory::{FlatView, MemoryRegion, address_space_memory};
use parking_lot::Mutex;
use qom::property::PropertyInput;
use qom::{Class, ClassInit, Object, Property, PropertyType, Result, Value, bail};
use serde::{Deserialize, Serialize};

use crate::bar::{Bar, BarInfo, BarKind};
use crate::bus::PciBus;
use crate::config::ConfigSpace;
use crate::interface::{ConventionalPciDevice, add_bus_interface};
use crate::msi::Msi;
use crate::msix::{Entry as MsiXEntry, MsiX};
use crate::rom;
use crate::spec::*;

/// Where local APICs take messages (Intel SDM, volume 3, section 11.11.1).
const APIC_MESSAGES: std::ops::Range<u64> = 0xfee0_0000..0xff00_0000;

/// Device and function number as one byte.
pub const fn devfn(device: u8, function: u8) -> u8 {
    device << 3 | (function & 7)
}

/// A place on a bus, or none yet (`addr=`): written `device.function`, read as the number that a [`devfn`] is or
/// -1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PciAddress(pub Option<u8>);

impl PropertyType for PciAddress {
    fn type_name() -> String {
        "int32".to_owned()
    }

    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        let text = match input {
            PropertyInput::Text(text) => text.to_owned(),
            PropertyInput::Json(Value::String(text)) => text.clone(),
            PropertyInput::Json(Value::Number(n)) => match n.as_i64() {
                Some(-1) => return Ok(PciAddress(None)),
                Some(n @ 0..=255) => return Ok(PciAddress(Some(n as u8))),
                _ => bail!("Parameter '{name}' expects a PCI address"),
            },
            PropertyInput::Json(_) => bail!("Invalid parameter type for '{name}', expected: string"),
        };
        let (slot, function) = text.split_once('.').unwrap_or((&text, "0"));
        match (u8::from_str_radix(slot.trim_start_matches("0x"), 16), u8::from_str_radix(function, 16)) {
            (Ok(slot @ 0..32), Ok(function @ 0..8)) => Ok(PciAddress(Some(devfn(slot, function)))),
            _ => bail!("Property '{name}' doesn't take value '{text}'"),
        }
    }

    fn to_value(&self) -> Value {
        self.0.map_or(-1, i32::from).into()
    }
}

/// What all functions of a type share.
#[derive(Clone, Default)]
pub struct PciDeviceClass {
    /// Vendor id.
    pub vendor_id: u16,
    /// Device id.
    pub device_id: u16,
    /// Revision.
    pub revision: u8,
    /// Base class and sub-class.
    pub class_id: u16,
    /// Subsystem vendor and device; QEMU's own where `None`, zero where the chip has none.
    pub subsystem: Option<(u16, u16)>,
    /// It has the header of a bridge, and a bus below it.
    pub is_bridge: bool,
    /// The device's own realize, called once it has its place on the bus.
    realize: Option<RealizeFn>,
    unrealize: Option<UnrealizeFn>,
    phases: Phases,
    config_reading: Option<ConfigHook>,
    config_written: Option<ConfigHook>,
    config_loaded: Option<fn(&Arc<dyn Object>)>,
    config_read_own: Option<fn(&dyn Object, usize, u8) -> Option<u32>>,
    config_write_own: Option<fn(&dyn Object, usize, u32, u8) -> bool>,
}

type ConfigHook = fn(&Arc<dyn Object>, usize, u8);

/// What a PCI function implements beside [`DeviceImpl`].
pub trait PciDeviceImpl: DeviceImpl {
    /// Whether all types of this struct are for conventional PCI; else each says for which buses it is.
    const CONVENTIONAL: bool = true;

    /// A guest is about to read `size` bytes of configuration space at `at`; called without locks.
    fn config_reading(&self, _at: usize, _size: u8) {}
    /// A guest wrote `size` bytes of configuration space at `at`; called after the write, without locks.
    fn config_written(&self, _at: usize, _size: u8) {}
    /// A read of a register that the device answers itself, not from configuration space.
    fn config_read_own(&self, _at: usize, _size: u8) -> Option<u32> {
        None
    }
    /// A write that the device takes itself, past configuration space; says whether it does.
    fn config_write_own(&self, _at: usize, _value: u32, _size: u8) -> bool {
        false
    }
    /// All of configuration space was restored: what it decides is to follow.
    fn config_loaded(&self) {}
}

impl<T: PciDeviceImpl> ClassInit<T> for PciDevice {
    fn class_init(class: &mut Class) {
        if T::CONVENTIONAL {
            add_bus_interface::<ConventionalPciDevice>(class);
        }
        let class = class.get_mut::<PciDeviceClass>();
        class.realize = Some(call_realize::<T>);
        class.unrealize = Some(call_unrealize::<T>);
        class.phases = Phases::of::<T>();
        class.config_reading = Some(|object, at, size| {
            if let Some(device) = object.cast::<T>() {
                device.config_reading(at, size);
            }
        });
        class.config_written = Some(|object, at, size| {
            if let Some(device) = object.cast::<T>() {
                device.config_written(at, size);
            }
        });
        class.config_read_own = Some(|object, at, size| object.cast::<T>()?.config_read_own(at, size));
        class.config_write_own = Some(|object, at, value, size| {
            object.cast::<T>().is_some_and(|device| device.config_write_own(at, value, size))
        });
        class.config_loaded = Some(|object| {
            if let Some(device) = object.cast::<T>() {
                device.config_loaded();
            }
        });
    }
}

/// The root part of every PCI function.
#[derive(Object)]
#[object(name = "pci-device", parent = Device, abstract, class_init = class_init)]
pub struct PciDevice {
    parent: Device,
    /// Slot and optional function number, example: 06.0 or 06
    #[property]
    addr: Property<PciAddress>,
    // File with the contents of the expansion ROM.
    #[property]
    romfile: Property<Option<String>>,
    // Size of the expansion ROM in bytes, a power of two.
    #[property(default = u32::MAX)]
    romsize: Property<u32>,
    // Whether the expansion ROM has a base address register.
    #[property(default = 1)]
    rombar: Property<u32>,
    /// on/off
    #[property]
    multifunction: Property<bool>,
    /// on/off
    #[property(name = "x-pcie-lnksta-dllla", default = true)]
    x_pcie_lnksta_dllla: Property<bool>,
    /// on/off
    #[property(name = "x-pcie-extcap-init", default = true)]
    x_pcie_extcap_init: Property<bool>,
    #[property(name = "failover_pair_id")]
    failover_pair_id: Property<Option<String>>,
    #[property(name = "acpi-index")]
    acpi_index: Property<u32>,
    config: Mutex<ConfigSpace>,
    bars: Mutex<Vec<Bar>>,
    /// What the command register says, for those who look without a lock.
    bus_master: AtomicBool,
    pub(crate) msi: OnceLock<Msi>,
    msix: OnceLock<Arc<MsiX>>,
    /// Level of INTA# to INTD#, a bit each.
    irq_state: Mutex<u8>,
}
qom::type_init!(PciDevice);

fn class_init(class: &mut Class) {
    vmstate::register::<PciDevice>(class);
    let device = class.get_mut::<DeviceClass>();
    device.bus_type = Some("PCI");
    device.realize = Some(realize);
    device.unrealize = Some(unrealize);
    device.phases = Phases {
        enter: Some(|o| own_phase(o, |p| p.enter)),
        hold: Some(|o| {
            if let Some(device) = o.cast::<PciDevice>() {
                device.reset_header();
            }
            own_phase(o, |p| p.hold);
        }),
        exit: Some(|o| own_phase(o, |p| p.exit)),
    };
}

fn pci_class(object: &dyn Object) -> PciDeviceClass {
    object.class().get::<PciDeviceClass>().cloned().unwrap_or_default()
}

fn own_phase(object: &Arc<dyn Object>, phase: fn(Phases) -> Option<hw_core::reset::PhaseFn>) {
    if let Some(f) = phase(pci_class(&**object).phases) {
        f(object);
    }
}

fn realize(object: &Arc<dyn Object>) -> Result<()> {
    let Some(device) = object.cast::<PciDevice>() else { bail!("not a PCI device") };
    let Some(bus) = device.bus::<PciBus>() else { bail!("'{}' needs a PCI bus", object.type_name()) };
    let class = pci_class(&**object);
    let romsize = device.romsize.get();
    if romsize != u32::MAX && !romsize.is_power_of_two() {
        bail!("ROM size {romsize} is not a power of two");
    }
    device.init_header(&class);
    let wanted = device.addr.get();
    let place = bus.claim(object, wanted.0)?;
    device.addr.set(PciAddress(Some(place)));
    let result = class.realize.map_or(Ok(()), |f| f(object));
    if let Err(error) = result {
        device.leave(&bus, place);
        device.addr.set(wanted);
        return Err(error);
    }
    let result = device.check_realized().and_then(|()| rom::add_option_rom(device));
    if result.is_err() {
        unrealize(object);
    }
    result
}

fn unrealize(object: &Arc<dyn Object>) {
    let Some(device) = object.cast::<PciDevice>() else { return };
    if let Some(f) = pci_class(&**object).unrealize {
        f(object);
    }
    if let (Some(bus), Some(place)) = (device.bus::<PciBus>(), device.addr.get().0) {
        device.leave(&bus, place);
    }
}

/// What every function saves.
#[derive(Debug, Serialize, Deserialize)]
pub struct PciDeviceState {
    config: Vec<u8>,
    /// Level of INTA# to INTD#, a bit each.
    irq_state: u8,
    /// The table of MSI-X, where the function has it.
    msix: Option<Vec<MsiXEntry>>,
}

impl VmState for PciDevice {
    type State = PciDeviceState;

    fn save(&self) -> Option<PciDeviceState> {
        let config = self.config.lock().bytes().to_vec();
        let msix = self.msix().map(|msix| msix.save());
        Some(PciDeviceState { config, irq_state: *self.irq_state.lock(), msix })
    }

    fn load(&self, state: PciDeviceState) -> Result<()> {
        {
            let mut config = self.config.lock();
            let ids = config.bytes().get(..4);
            if state.config.len() != CONFIG_SPACE_SIZE || state.config.get(..4) != ids {
                bail!("the state is of another PCI device");
            }
            config.set(0, &state.config);
        }
        self.update_mappings();
        match (self.msix(), state.msix) {
            (Some(msix), Some(entries)) => msix.load(self, entries)?,
            (None, None) => {}
            _ => bail!("the state is of a device with other interrupts"),
        }
        for pin in 0..4 {
            self.set_irq(pin, state.irq_state & 1 << pin != 0);
        }
        let object = self.this();
        if let Some(f) = pci_class(&*object).config_loaded {
            f(&object);
        }
        Ok(())
    }
}

impl PciDevice {
    fn init_header(&self, class: &PciDeviceClass) {
        let mut config = self.config.lock();
        config.set_u16(VENDOR_ID, class.vendor_id);
        config.set_u16(DEVICE_ID, class.device_id);
        config.set_u8(REVISION_ID, class.revision);
        config.set_u16(CLASS_DEVICE, class.class_id);
        if class.is_bridge {
            config.make_bridge();
        } else {
            let (vendor, device) = class.subsystem.unwrap_or((SUBVENDOR_ID_QUMRANET, SUBDEVICE_ID_QEMU));
            config.set_u16(SUBSYSTEM_VENDOR_ID, vendor);
            config.set_u16(SUBSYSTEM_ID, device);
        }
        if self.multifunction.get() {
            let header = config.u8(HEADER_TYPE) | HEADER_MULTI_FUNCTION;
            config.set_u8(HEADER_TYPE, header);
        }
    }

    /// What only shows once the device is there.
    fn check_realized(&self) -> Result<()> {
        if self.failover_pair_id.get().is_some() {
            bail!("failover primary device must be on PCIExpress bus");
        }
        Ok(())
    }

    /// Takes it off its bus, with all that it shows.
    fn leave(&self, bus: &PciBus, place: u8) {
        (0..4).for_each(|pin| self.set_irq(pin, false));
        self.bars.lock().drain(..).for_each(|bar| bar.region.unmap());
        bus.release(place);
    }

    /// The file of the expansion ROM, if it is to have one, its size (`u32::MAX` for the file's) and whether it has a
    /// base address register.
    pub(crate) fn rom_options(&self) -> (Option<String>, u32, bool) {
        let file = self.romfile.get().filter(|file| !file.is_empty());
        (file, self.romsize.get(), self.rombar.get() != 0)
    }

    /// Whether its slot may hold other functions beside it.
    pub(crate) fn is_multifunction(&self) -> bool {
        self.multifunction.get()
    }

    /// Device and function number.
    pub fn devfn(&self) -> u8 {
        self.addr.get().0.unwrap_or_default()
    }

    /// Calls `f` with the configuration space.
    pub fn with_config<R>(&self, f: impl FnOnce(&mut ConfigSpace) -> R) -> R {
        f(&mut self.config.lock())
    }

    /// Has base address register `number` decode `region`, whose size must be a power of two.
    pub fn register_bar(&self, number: usize, kind: BarKind, region: &MemoryRegion) {
        let bar = Bar { number, kind, region: region.clone(), mapped: None };
        bar.init(&mut self.config.lock());
        self.bars.lock().push(bar);
    }

    /// The regions behind its base address registers.
    pub fn bar_regions(&self) -> Vec<MemoryRegion> {
        self.bars.lock().iter().map(|bar| bar.region.clone()).collect()
    }

    /// The base address registers that decode something, in order of number.
    pub fn bars(&self) -> Vec<BarInfo> {
        let mut bars: Vec<_> = self.bars.lock().iter().map(Bar::info).collect();
        bars.sort_by_key(|bar| bar.number);
        bars
    }

    /// Whether the guest lets it master the bus: read and write memory, and send messages.
    pub fn is_bus_master(&self) -> bool {
        self.bus_master.load(Ordering::Acquire)
    }

    /// Memory as the device sees it now; `None` while it may not master the bus.
    pub fn dma_view(&self) -> Option<Arc<FlatView>> {
        self.is_bus_master().then(|| address_space_memory().view())
    }

    /// Sends a message-signalled interrupt, if the guest lets the device master the bus. Without a controller in the
    /// accelerator it is the write that it is on the bus, to memory or to the local APICs (`pci_msi_trigger`).
    pub fn send_msi(&self, message: MsiMessage) {
        if !self.is_bus_master() {
            return;
        }
        match accel_irqchip() {
            Some(irqchip) => irqchip.send_msi(message),
            None => write_message(message),
        }
    }

    /// Gives the function MSI-X with `vectors` vectors, in base address register `bar`, which holds nothing else.
    ///
    /// # Errors
    /// When there are none or more than 2048, or no room for the capability.
    pub fn msix_init_exclusive_bar(&self, vectors: usize, bar: usize) -> Result<Arc<MsiX>> {
        let msix = MsiX::new(self, vectors, bar)?;
        let _ = self.msix.set(msix.clone());
        Ok(msix)
    }

    /// The function's MSI-X, if it has it.
    pub fn msix(&self) -> Option<&Arc<MsiX>> {
        self.msix.get()
    }

    /// A guest's read of configuration space.
    pub fn config_read(&self, at: usize, size: u8) -> u32 {
        let object = self.this();
        if let Some(f) = pci_class(&*object).config_reading {
            f(&object, at, size);
        }
        let own = pci_class(&*object).config_read_own.and_then(|f| f(&*object, at, size));
        own.unwrap_or_else(|| self.config.lock().read(at, size))
    }

    /// A guest's write of configuration space.
    pub fn config_write(&self, at: usize, value: u32, size: u8) {
        let object = self.this();
        let class = pci_class(&*object);
        if class.config_write_own.is_some_and(|f| f(&*object, at, value, size)) {
            return;
        }
        self.config.lock().write(at, value, size);
        let bars = ConfigSpace::touches(at, size, BASE_ADDRESS_0, 4 * NUM_BARS)
            || ConfigSpace::touches(at, size, ROM_ADDRESS, 4)
            || ConfigSpace::touches(at, size, ROM_ADDRESS_BRIDGE, 4);
        if bars || ConfigSpace::touches(at, size, COMMAND, 2) {
            self.update_mappings();
        }
        if ConfigSpace::touches(at, size, COMMAND, 2) {
            self.update_irq_disabled();
        }
        self.msi_config_written(at, size);
        if let Some(msix) = self.msix() {
            msix.config_written(self, at, size);
        }
        if let Some(f) = class.config_written {
            f(&object, at, size);
        }
    }

    fn update_mappings(&self) {
        let Some(bus) = self.bus::<PciBus>() else { return };
        let _transaction = memory::transaction();
        // Under the lock on the topology, so that of two writers the last is right.
        let config = self.config.lock().clone();
        self.bus_master.store(config.u16(COMMAND) & COMMAND_MASTER != 0, Ordering::Release);
        for bar in self.bars.lock().iter_mut() {
            let address = bar.address(&config);
            if address == bar.mapped {
                continue;
            }
            bar.region.unmap();
            if let Some(address) = address {
                let space = if bar.kind == BarKind::Io { bus.io() } else { bus.memory() };
                space.add_subregion_overlap(address, &bar.region, 1);
            }
            bar.mapped = address;
        }
    }

    /// The header as after power-on: decoders off, no addresses, no interrupt.
    fn reset_header(&self) {
        for pin in 0..4 {
            self.set_irq(pin, false);
        }
        {
            let mut config = self.config.lock();
            config.write(COMMAND, 0, 2);
            config.write(STATUS, u32::from(STATUS_W1C), 2);
            config.write(INTERRUPT_LINE, 0, 1);
            config.write(CACHE_LINE_SIZE, 0, 1);
            self.bars.lock().iter().for_each(|bar| bar.reset(&mut config));
            if let Some(msi) = self.msi.get() {
                msi.reset(&mut config);
            }
        }
        if let Some(msix) = self.msix() {
            msix.reset(self);
        }
        self.update_mappings();
    }

    /// Sets the level of an interrupt pin (0 for INTA#).
    pub fn set_irq(&self, pin: u8, level: bool) {
        let bit = 1u8 << (pin & 3);
        {
            let mut state = self.irq_state.lock();
            if (*state & bit != 0) == level {
                return;
            }
            *state ^= bit;
            let mut config = self.config.lock();
            let status = config.u16(STATUS) & !STATUS_INTERRUPT;
            config.set_u16(STATUS, if *state != 0 { status | STATUS_INTERRUPT } else { status });
        }
        self.drive_pin(pin);
    }

    /// Levels as the bus shall see them after INTx was enabled or disabled.
    fn update_irq_disabled(&self) {
        (0..4).for_each(|pin| self.drive_pin(pin));
    }

    /// Tells the bus the pin's level, until that is the last one: another thread may have changed it meanwhile, and
    /// its word may have come first.
    fn drive_pin(&self, pin: u8) {
        let Some(bus) = self.bus::<PciBus>() else { return };
        loop {
            let level = self.drives(pin);
            bus.change_irq(self.devfn(), pin, level);
            if self.drives(pin) == level {
                return;
            }
        }
    }

    /// Whether the pin is raised and INTx is not disabled.
    fn drives(&self, pin: u8) -> bool {
        let raised = *self.irq_state.lock() & 1 << (pin & 3) != 0;
        raised && self.config.lock().u16(COMMAND) & COMMAND_INTX_DISABLE == 0
    }
}

/// The write that a message is. Of what answers on the bus only memory and the interrupt controllers take it: a guest
/// cannot have one device write another's registers, or its own.
fn write_message(message: MsiMessage) {
    let space = address_space_memory();
    let is_memory = space.view().lookup(message.address).is_some_and(|range| range.writable_ram().is_some());
    if is_memory || APIC_MESSAGES.contains(&message.address) {
        // What nothing takes is lost, as on the bus.
        let _ = space.write(message.address, &message.data.to_le_bytes());
    }
}
