//! A PCI bus: who sits where, and where interrupt pins lead.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use hw_core::{Bus, BusClass, Device, qbus_new};
use memory::{MemoryRegion, get_system_io};
use parking_lot::Mutex;
use qom::{Class, Object, PropertyInfo, Result, bail};

use crate::bridge::{BridgeWires, PciBridge};
use crate::class::class_fw_name;
use crate::device::{PciDevice, devfn};
use crate::spec::{
    BRIDGE_CONTROL, BRIDGE_CTL_BUS_RESET, CLASS_DEVICE, DEVICE_ID, SECONDARY_BUS, SUBORDINATE_BUS, VENDOR_ID,
};

/// The chip that PCI interrupt pins lead to.
pub trait PciIrqController: Send + Sync {
    /// The controller's input that a pin of a device leads to.
    fn map_irq(&self, devfn: u8, pin: u8) -> usize;
    /// An input changed its level.
    fn set_irq(&self, input: usize, level: bool);
}

/// How many inputs a controller can have.
const MAX_INPUTS: usize = 16;
/// Set in a pin's number: the bridge hands on the wire of the bus below it, and does not mean its own pin.
pub(crate) const FORWARDED: u8 = 1 << 2;
/// How many buses ACPI hotplug can tell apart (`ACPI_PCIHP_MAX_HOTPLUG_BUS`).
const MAX_HOTPLUG_BUSES: u32 = 256;

#[derive(Default)]
struct Lines {
    /// Pins of devices that are raised now: device, function and pin, or the wire of the bus below a bridge as
    /// [`FORWARDED`] says.
    raised: Vec<(u8, u8)>,
    /// How many of them lead to each input.
    count: [u32; MAX_INPUTS],
}

/// The bus.
#[derive(Object)]
#[object(name = "PCI", parent = Bus, class_init = class_init)]
pub struct PciBus {
    parent: Bus,
    devices: Mutex<BTreeMap<u8, Arc<dyn Object>>>,
    memory: OnceLock<MemoryRegion>,
    io: OnceLock<MemoryRegion>,
    irq: OnceLock<Arc<dyn PciIrqController>>,
    lines: Mutex<Lines>,
    /// The number that ACPI hotplug knows the bus by.
    hotplug_number: OnceLock<u32>,
}
qom::type_init!(PciBus);

fn class_init(class: &mut Class) {
    class.get_mut::<BusClass>().fw_dev_path = Some(fw_dev_path);
}

/// The class's name, or the ids of a device whose class has none, and the place (`pcibus_get_fw_dev_path`).
fn fw_dev_path(object: &Arc<dyn Object>) -> String {
    let Some(device) = object.cast::<PciDevice>() else { return String::new() };
    let (class, vendor, id) =
        device.with_config(|config| (config.u16(CLASS_DEVICE), config.u16(VENDOR_ID), config.u16(DEVICE_ID)));
    let name = class_fw_name(class).map_or_else(|| format!("pci{vendor:04x},{id:04x}"), str::to_owned);
    match (device.devfn() >> 3, device.devfn() & 7) {
        (slot, 0) => format!("{name}@{slot:x}"),
        (slot, function) => format!("{name}@{slot:x},{function:x}"),
    }
}

/// A root bus whose devices show in `memory` and `io`.
///
/// # Errors
/// When its name is taken.
pub fn pci_bus_new(
    owner: &Arc<dyn Object>,
    name: &str,
    memory: &MemoryRegion,
    io: &MemoryRegion,
) -> Result<Arc<dyn Object>> {
    let object = qbus_new("PCI", Some(owner), Some(name))?;
    if let Some(bus) = object.cast::<PciBus>() {
        let _ = bus.memory.set(memory.clone());
        let _ = bus.io.set(io.clone());
    }
    Ok(object)
}

/// The bus below `bridge`, whose devices show where the bridge forwards to. It is called as the bridge is.
pub(crate) fn secondary_bus_new(
    bridge: &PciDevice,
    memory: &MemoryRegion,
    io: &MemoryRegion,
) -> Result<Arc<dyn Object>> {
    let owner = bridge.this();
    let object = qbus_new("PCI", Some(&owner), Device::id(bridge))?;
    if let Some(bus) = object.cast::<PciBus>() {
        let _ = bus.memory.set(memory.clone());
        let _ = bus.io.set(io.clone());
        bus.set_irq_controller(Arc::new(BridgeWires(Arc::downgrade(&owner))));
    }
    Ok(object)
}

fn is_multifunction(device: &Arc<dyn Object>) -> bool {
    device.cast::<PciDevice>().is_some_and(PciDevice::is_multifunction)
}

/// Function 0 says whether there are others: nobody looks for them otherwise (`pci_init_multifunction`).
fn check_functions(devices: &BTreeMap<u8, Arc<dyn Object>>, place: u8, multifunction: bool) -> Result<()> {
    let (slot, function) = (place >> 3, place & 7);
    if function != 0 {
        return match devices.get(&devfn(slot, 0)) {
            Some(first) if !is_multifunction(first) => {
                bail!("PCI: single function device can't be populated in function {slot:x}.{function:x}")
            }
            _ => Ok(()),
        };
    }
    match (1..8).find(|other| devices.contains_key(&devfn(slot, *other))) {
        Some(other) if !multifunction => {
            bail!("PCI: {slot:x}.0 indicates single function, but {slot:x}.{other:x} is already populated.")
        }
        _ => Ok(()),
    }
}

impl PciBus {
    /// Where devices' memory shows.
    pub fn memory(&self) -> MemoryRegion {
        self.memory.get().cloned().unwrap_or_else(memory::get_system_memory)
    }

    /// Where devices' ports show.
    pub fn io(&self) -> MemoryRegion {
        self.io.get().cloned().unwrap_or_else(get_system_io)
    }

    /// Says where interrupt pins lead, once.
    pub fn set_irq_controller(&self, controller: Arc<dyn PciIrqController>) {
        let _ = self.irq.set(controller);
    }

    /// The bridge above it; the root bus has none.
    pub fn bridge(&self) -> Option<Arc<dyn Object>> {
        self.owner().filter(|owner| owner.cast::<PciBridge>().is_some())
    }

    /// Its number: 0 for the root bus, what the bridge above it says for others.
    pub fn number(&self) -> u8 {
        let bridge = self.bridge();
        let device = bridge.as_ref().and_then(|bridge| bridge.cast::<PciDevice>());
        device.map_or(0, |device| device.with_config(|config| config.u8(SECONDARY_BUS)))
    }

    /// The buses of the bridges on it, that of the bridge plugged last first, as QEMU lists them.
    pub fn buses_below(&self) -> Vec<Arc<PciBus>> {
        let devices = self.children();
        let bridges = devices.iter().rev().filter_map(|device| device.cast::<PciBridge>());
        bridges.filter_map(PciBridge::secondary_bus).collect()
    }

    /// Calls `f` with this bus and all below it, a bus before those below it.
    pub fn walk(self: &Arc<Self>, f: &mut dyn FnMut(&Arc<PciBus>)) {
        f(self);
        self.buses_below().iter().for_each(|bus| bus.walk(f));
    }

    /// Whether the bridge above it leads to bus `number`.
    fn leads_to(&self, number: u8) -> bool {
        let bridge = self.bridge();
        bridge.as_ref().and_then(|bridge| bridge.cast::<PciDevice>()).is_some_and(|device| {
            device.with_config(|config| {
                let range = config.u8(SECONDARY_BUS)..=config.u8(SUBORDINATE_BUS);
                config.u16(BRIDGE_CONTROL) & BRIDGE_CTL_BUS_RESET == 0 && range.contains(&number)
            })
        })
    }

    /// The bus with this number at or below it, as bridges are set up now (`pci_find_bus_nr`).
    pub fn find_bus(self: Arc<Self>, number: u8) -> Option<Arc<PciBus>> {
        let mut bus = self;
        if bus.number() == number {
            return Some(bus);
        }
        loop {
            // As QEMU has it: a bus of that number counts although its bridge's range leaves it out.
            let below = bus.buses_below();
            bus = below.into_iter().find(|bus| bus.number() == number || bus.leads_to(number))?;
            if bus.number() == number {
                return Some(bus);
            }
        }
    }

    /// The number that ACPI hotplug knows the bus by, if devices can come and go there.
    pub fn hotplug_number(&self) -> Option<u32> {
        self.hotplug_number.get().copied()
    }

    /// Gives the bus the number that ACPI hotplug knows it by, once; it shows as `acpi-pcihp-bsel`.
    ///
    /// # Errors
    /// When it has a property of that name.
    pub fn set_hotplug_number(&self, number: u32) -> Result<()> {
        if number < MAX_HOTPLUG_BUSES && self.hotplug_number.set(number).is_ok() {
            self.this().property_add(PropertyInfo {
                get: Some(Arc::new(move |_| Ok(number.into()))),
                ..PropertyInfo::new("acpi-pcihp-bsel", "uint32")
            })?;
        }
        Ok(())
    }

    /// The function at `devfn`.
    pub fn device(&self, devfn: u8) -> Option<Arc<dyn Object>> {
        self.devices.lock().get(&devfn).cloned()
    }

    /// All functions in order of address.
    pub fn devices(&self) -> Vec<Arc<dyn Object>> {
        self.devices.lock().values().cloned().collect()
    }

    /// Gives `device` the place it wants, or the first free slot.
    pub(crate) fn claim(&self, device: &Arc<dyn Object>, wanted: Option<u8>) -> Result<u8> {
        let mut devices = self.devices.lock();
        let name = device.type_name();
        let place = match wanted {
            Some(place) => match devices.get(&place) {
                Some(other) => bail!(
                    "PCI: slot {} function {} not available for {name}, in use by {},id={}",
                    place >> 3,
                    place & 7,
                    other.type_name(),
                    other.cast::<Device>().and_then(Device::id).unwrap_or("(null)")
                ),
                None => place,
            },
            None => match (0..32).map(|slot| devfn(slot, 0)).find(|place| !devices.contains_key(place)) {
                Some(place) => place,
                None => bail!("PCI: no slot/function available for {name}, all in use or reserved"),
            },
        };
        check_functions(&devices, place, is_multifunction(device))?;
        devices.insert(place, device.clone());
        Ok(place)
    }

    pub(crate) fn release(&self, place: u8) {
        // Dropped outside the lock.
        let device = self.devices.lock().remove(&place);
        drop(device);
    }

    /// A device's pin changed its level.
    pub(crate) fn change_irq(&self, devfn: u8, pin: u8, level: bool) {
        let Some(controller) = self.irq.get() else { return };
        let input = controller.map_irq(devfn, pin & !FORWARDED);
        let changed = {
            let mut lines = self.lines.lock();
            let at = lines.raised.iter().position(|l| *l == (devfn, pin));
            match (at, level) {
                (None, true) => lines.raised.push((devfn, pin)),
                (Some(at), false) => drop(lines.raised.swap_remove(at)),
                _ => return,
            }
            let Some(count) = lines.count.get_mut(input) else { return };
            *count = if level { *count + 1 } else { count.saturating_sub(1) };
            *count == u32::from(level)
        };
        // Another thread may change the input meanwhile, and its word may come first: the last one counts.
        let mut told = !level;
        while changed && told != self.is_raised(input) {
            told = !told;
            controller.set_irq(input, told);
        }
    }

    fn is_raised(&self, input: usize) -> bool {
        self.lines.lock().count.get(input).is_some_and(|count| *count != 0)
    }

    /// A guest's read of configuration space; all ones where nothing sits.
    pub fn config_read(&self, devfn: u8, at: usize, size: u8) -> u32 {
        match self.device(devfn) {
            Some(object) => object.cast::<PciDevice>().map_or(u32::MAX, |d| d.config_read(at, size)),
            None => u32::MAX,
        }
    }

    /// A guest's write of configuration space.
    pub fn config_write(&self, devfn: u8, at: usize, value: u32, size: u8) {
        if let Some(object) = self.device(devfn)
            && let Some(device) = object.cast::<PciDevice>()
        {
            device.config_write(at, value, size);
        }
    }
}
