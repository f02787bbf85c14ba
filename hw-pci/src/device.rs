//! A PCI function.

use std::sync::Arc;

use hw_core::device::{RealizeFn, UnrealizeFn, call_realize, call_unrealize};
use hw_core::reset::Phases;
use hw_core::{Device, DeviceClass, DeviceImpl, VmState, vmstate};
use memory::MemoryRegion;
use parking_lot::Mutex;
use qom::property::PropertyInput;
use qom::{Class, ClassInit, Object, Property, PropertyType, Result, Value, bail};
use serde::{Deserialize, Serialize};

use crate::bus::PciBus;
use crate::config::ConfigSpace;
use crate::spec::*;

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
    /// The device's own realize, called once it has its place on the bus.
    realize: Option<RealizeFn>,
    unrealize: Option<UnrealizeFn>,
    phases: Phases,
    config_written: Option<fn(&Arc<dyn Object>, usize, u8)>,
    config_loaded: Option<fn(&Arc<dyn Object>)>,
}

/// What a PCI function implements beside [`DeviceImpl`].
pub trait PciDeviceImpl: DeviceImpl {
    /// A guest wrote `size` bytes of configuration space at `at`; called after the write, without locks.
    fn config_written(&self, _at: usize, _size: u8) {}
    /// All of configuration space was restored: what it decides is to follow.
    fn config_loaded(&self) {}
}

impl<T: PciDeviceImpl> ClassInit<T> for PciDevice {
    fn class_init(class: &mut Class) {
        let class = class.get_mut::<PciDeviceClass>();
        class.realize = Some(call_realize::<T>);
        class.unrealize = Some(call_unrealize::<T>);
        class.phases = Phases::of::<T>();
        class.config_written = Some(|object, at, size| {
            if let Some(device) = object.cast::<T>() {
                device.config_written(at, size);
            }
        });
        class.config_loaded = Some(|object| {
            if let Some(device) = object.cast::<T>() {
                device.config_loaded();
            }
        });
    }
}

/// What a base address register decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// Ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere, prefetchable; takes two registers.
    Memory64Prefetch,
}

struct Bar {
    number: usize,
    kind: BarKind,
    region: MemoryRegion,
    /// Where it shows now.
    mapped: Option<u64>,
}

/// A base address register as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarInfo {
    /// Its number.
    pub number: usize,
    /// What it decodes.
    pub kind: BarKind,
    /// How much, in bytes.
    pub size: u64,
    /// Where it shows now.
    pub address: Option<u64>,
}

/// The root part of every PCI function.
#[derive(Object)]
#[object(name = "pci-device", parent = Device, abstract, class_init = class_init)]
pub struct PciDevice {
    parent: Device,
    /// Slot and optional function number, example: 06.0 or 06
    #[property]
    addr: Property<PciAddress>,
    /// on/off
    #[property]
    multifunction: Property<bool>,
    config: Mutex<ConfigSpace>,
    bars: Mutex<Vec<Bar>>,
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
    device.init_header(&class);
    let place = bus.claim(object, device.addr.get().0)?;
    device.addr.set(PciAddress(Some(place)));
    let result = class.realize.map_or(Ok(()), |f| f(object));
    if result.is_err() {
        device.unmap_bars();
        bus.release(place);
    }
    result
}

fn unrealize(object: &Arc<dyn Object>) {
    let Some(device) = object.cast::<PciDevice>() else { return };
    if let Some(f) = pci_class(&**object).unrealize {
        f(object);
    }
    device.unmap_bars();
    if let (Some(bus), Some(place)) = (device.bus::<PciBus>(), device.addr.get().0) {
        bus.release(place);
    }
}

/// What every function saves.
#[derive(Debug, Serialize, Deserialize)]
pub struct PciDeviceState {
    config: Vec<u8>,
    /// Level of INTA# to INTD#, a bit each.
    irq_state: u8,
}

impl VmState for PciDevice {
    type State = PciDeviceState;

    fn save(&self) -> Option<PciDeviceState> {
        let config = self.config.lock().bytes().to_vec();
        Some(PciDeviceState { config, irq_state: *self.irq_state.lock() })
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
        let (vendor, device) = class.subsystem.unwrap_or((SUBVENDOR_ID_QUMRANET, SUBDEVICE_ID_QEMU));
        config.set_u16(SUBSYSTEM_VENDOR_ID, vendor);
        config.set_u16(SUBSYSTEM_ID, device);
        if self.multifunction.get() {
            config.set_u8(HEADER_TYPE, HEADER_MULTI_FUNCTION);
        }
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
        let size = u64::try_from(region.size()).unwrap_or_default();
        let at = BASE_ADDRESS_0 + 4 * number;
        let mask = !(size.wrapping_sub(1));
        let mut config = self.config.lock();
        match kind {
            BarKind::Io => config.set_u32(at, BAR_IO),
            BarKind::Memory32 => config.set_u32(at, 0),
            BarKind::Memory64Prefetch => {
                config.set_u32(at, BAR_MEM_64 | BAR_PREFETCH);
                config.set_writable_u32(at + 4, (mask >> 32) as u32);
            }
        }
        let fixed = if kind == BarKind::Io { 0x3 } else { 0xf };
        config.set_writable_u32(at, mask as u32 & !fixed);
        drop(config);
        self.bars.lock().push(Bar { number, kind, region: region.clone(), mapped: None });
    }

    /// The base address registers that decode something, in order of number.
    pub fn bars(&self) -> Vec<BarInfo> {
        let info = |bar: &Bar| BarInfo {
            number: bar.number,
            kind: bar.kind,
            size: u64::try_from(bar.region.size()).unwrap_or_default(),
            address: bar.mapped,
        };
        let mut bars: Vec<_> = self.bars.lock().iter().map(info).collect();
        bars.sort_by_key(|bar| bar.number);
        bars
    }

    /// A guest's read of configuration space.
    pub fn config_read(&self, at: usize, size: u8) -> u32 {
        self.config.lock().read(at, size)
    }

    /// A guest's write of configuration space.
    pub fn config_write(&self, at: usize, value: u32, size: u8) {
        self.config.lock().write(at, value, size);
        let bars = ConfigSpace::touches(at, size, BASE_ADDRESS_0, 4 * NUM_BARS);
        if bars || ConfigSpace::touches(at, size, COMMAND, 2) {
            self.update_mappings();
        }
        if ConfigSpace::touches(at, size, COMMAND, 2) {
            self.update_irq_disabled();
        }
        let object = self.this();
        if let Some(f) = pci_class(&*object).config_written {
            f(&object, at, size);
        }
    }

    /// Where a BAR shows by what its registers say; nowhere while its decoder is off or it is all ones.
    fn bar_address(config: &ConfigSpace, bar: &Bar) -> Option<u64> {
        let at = BASE_ADDRESS_0 + 4 * bar.number;
        let size = u64::try_from(bar.region.size()).ok()?;
        let command = config.u16(COMMAND);
        let low = u64::from(config.u32(at));
        let (enabled, address, limit) = match bar.kind {
            BarKind::Io => (command & COMMAND_IO != 0, low & !0x3, 0xffff),
            BarKind::Memory32 => (command & COMMAND_MEMORY != 0, low & !0xf, u64::from(u32::MAX)),
            BarKind::Memory64Prefetch => {
                let high = u64::from(config.u32(at + 4)) << 32;
                (command & COMMAND_MEMORY != 0, high | (low & !0xf), u64::MAX)
            }
        };
        let last = address.checked_add(size.checked_sub(1)?)?;
        (enabled && address != 0 && last < limit).then_some(address)
    }

    fn update_mappings(&self) {
        let Some(bus) = self.bus::<PciBus>() else { return };
        let config = self.config.lock().clone();
        let _transaction = memory::transaction();
        for bar in self.bars.lock().iter_mut() {
            let address = Self::bar_address(&config, bar);
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

    fn unmap_bars(&self) {
        for bar in self.bars.lock().drain(..) {
            bar.region.unmap();
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
            for bar in self.bars.lock().iter() {
                config.write(BASE_ADDRESS_0 + 4 * bar.number, 0, 4);
                if bar.kind == BarKind::Memory64Prefetch {
                    config.write(BASE_ADDRESS_0 + 4 * bar.number + 4, 0, 4);
                }
            }
        }
        self.update_mappings();
    }

    /// Sets the level of an interrupt pin (0 for INTA#).
    pub fn set_irq(&self, pin: u8, level: bool) {
        let bit = 1u8 << (pin & 3);
        let disabled = {
            let mut state = self.irq_state.lock();
            if (*state & bit != 0) == level {
                return;
            }
            *state ^= bit;
            let mut config = self.config.lock();
            let status = config.u16(STATUS) & !STATUS_INTERRUPT;
            config.set_u16(STATUS, if *state != 0 { status | STATUS_INTERRUPT } else { status });
            config.u16(COMMAND) & COMMAND_INTX_DISABLE != 0
        };
        if !disabled && let Some(bus) = self.bus::<PciBus>() {
            bus.change_irq(self.devfn(), pin, level);
        }
    }

    /// Levels as the bus shall see them after INTx was enabled or disabled.
    fn update_irq_disabled(&self) {
        let Some(bus) = self.bus::<PciBus>() else { return };
        let disabled = self.config.lock().u16(COMMAND) & COMMAND_INTX_DISABLE != 0;
        let state = *self.irq_state.lock();
        for pin in (0..4).filter(|pin| state & 1 << pin != 0) {
            bus.change_irq(self.devfn(), pin, !disabled);
        }
    }
}
