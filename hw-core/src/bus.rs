//! Buses: what devices sit on.
//!
//! Source: QEMU `hw/core/bus.c`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use qom::{Class, Object, ObjectBase, PropertyInfo, Result, bail};

use crate::device::{Device, DeviceClass};
use crate::hotplug::HotplugHandler;
use crate::reset::Phases;

/// What all buses of a type share.
#[derive(Clone, Default)]
pub struct BusClass {
    /// How many devices fit; no limit where `None`.
    pub max_dev: Option<usize>,
    /// The device's name and place on the bus, as OpenFirmware writes them.
    pub fw_dev_path: Option<fn(&Arc<dyn Object>) -> String>,
    /// What reset does.
    pub phases: Phases,
}

/// The root part of every bus.
#[derive(Object)]
#[object(name = "bus", parent = ObjectBase, abstract, class_init = bus_class_init)]
pub struct Bus {
    parent: ObjectBase,
    name: OnceLock<String>,
    owner: OnceLock<Weak<dyn Object>>,
    children: Mutex<Vec<Arc<dyn Object>>>,
    realized: AtomicBool,
    hotplug_handler: Mutex<Option<Arc<dyn HotplugHandler>>>,
}
qom::type_init!(Bus);

fn bus_class_init(class: &mut Class) {
    class.get_mut::<BusClass>();
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|o| {
            Ok(o.cast::<Bus>().is_some_and(|b| b.realized.load(Ordering::Acquire)).into())
        })),
        ..PropertyInfo::new("realized", "bool")
    });
}

impl Bus {
    /// Its name, unique in the machine: `isa.0`.
    pub fn name(&self) -> &str {
        self.name.get().map_or("", String::as_str)
    }

    /// The device that provides it.
    pub fn owner(&self) -> Option<Arc<dyn Object>> {
        self.owner.get().and_then(Weak::upgrade)
    }

    /// The devices on it, in order of plugging.
    pub fn children(&self) -> Vec<Arc<dyn Object>> {
        self.children.lock().clone()
    }

    /// Who is asked when a device is plugged.
    pub fn hotplug_handler(&self) -> Option<Arc<dyn HotplugHandler>> {
        self.hotplug_handler.lock().clone()
    }

    /// Names who is asked when a device is plugged; with a handler the bus takes devices while the machine
    /// runs.
    pub fn set_hotplug_handler(&self, handler: Arc<dyn HotplugHandler>) {
        *self.hotplug_handler.lock() = Some(handler);
    }

    /// Nobody is asked any more: the bus takes no devices while the machine runs.
    pub fn clear_hotplug_handler(&self) {
        let handler = self.hotplug_handler.lock().take();
        drop(handler);
    }

    /// Whether `max_dev` devices sit on it.
    pub fn is_full(&self) -> bool {
        let max = self.class().get::<BusClass>().and_then(|c| c.max_dev);
        max.is_some_and(|max| self.children.lock().len() >= max)
    }
}

/// Makes a bus of `type_name`, provided by `owner` (`qbus_new`). Without a name it is the owner's id, or the
/// bus's type in lower case, and a number.
///
/// # Errors
/// When there is no such type.
pub fn qbus_new(
    type_name: &str,
    owner: Option<&Arc<dyn Object>>,
    name: Option<&str>,
) -> Result<Arc<dyn Object>> {
    let object = qom::object_new(type_name)?;
    let Some(bus) = object.cast::<Bus>() else { bail!("'{type_name}' is not a bus") };
    let device = owner.and_then(|o| o.cast::<Device>());
    let name = match (name, device.and_then(Device::id)) {
        (Some(name), _) => {
            // A board may name a bus as it would be called by itself: the next one follows it.
            let stem = type_name.to_ascii_lowercase();
            if name.strip_prefix(stem.as_str()).is_some_and(|rest| rest.starts_with('.')) {
                TAKEN.lock().push(stem);
            }
            name.to_owned()
        }
        (None, Some(id)) => format!("{id}.{}", device.map_or(0, |d| d.child_buses().len())),
        (None, None) => {
            let stem = type_name.to_ascii_lowercase();
            let mut taken = TAKEN.lock();
            let count = taken.iter().filter(|t| **t == stem).count();
            taken.push(stem.clone());
            format!("{stem}.{count}")
        }
    };
    let _ = bus.name.set(name.clone());
    if let (Some(owner), Some(device)) = (owner, device) {
        let _ = bus.owner.set(Arc::downgrade(owner));
        owner.property_add_child(&name, &object)?;
        device.add_child_bus(&object);
    }
    Ok(object)
}

/// Stems of the automatic names given so far.
static TAKEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Puts `device` on `bus` without realizing it.
pub(crate) fn set_parent_bus(device: &Arc<dyn Object>, bus: &Arc<dyn Object>) -> Result<()> {
    let (Some(dev), Some(to)) = (device.cast::<Device>(), bus.cast::<Bus>()) else {
        bail!("'{}' is not a bus", bus.type_name())
    };
    let wanted = device.class().get::<DeviceClass>().and_then(|c| c.bus_type);
    if let Some(wanted) = wanted
        && !bus.is_a(wanted)
    {
        bail!("Device '{}' can't go on {} bus", device.type_name(), bus.type_name());
    }
    if to.is_full() {
        bail!("Bus '{}' is full", to.name());
    }
    leave_bus(device, dev);
    to.children.lock().push(device.clone());
    dev.set_parent_bus(Some(bus.clone()));
    Ok(())
}

pub(crate) fn leave_bus(device: &Arc<dyn Object>, dev: &Device) {
    if let Some(old) = dev.parent_bus()
        && let Some(old) = old.cast::<Bus>()
    {
        old.children.lock().retain(|c| !Arc::ptr_eq(c, device));
    }
    dev.set_parent_bus(None);
}

/// Realizes the devices on `bus` that are not yet, as happens when their controller is realized.
pub(crate) fn realize(bus: &Arc<dyn Object>) -> Result<()> {
    let Some(state) = bus.cast::<Bus>() else { return Ok(()) };
    state.realized.store(true, Ordering::Release);
    state.children().iter().try_for_each(|child| crate::qdev_realize(child, None))
}

pub(crate) fn unrealize(bus: &Arc<dyn Object>) {
    let Some(state) = bus.cast::<Bus>() else { return };
    for child in state.children() {
        crate::qdev_unparent(&child);
    }
    state.realized.store(false, Ordering::Release);
}

/// Every bus reachable from `from`, parents first.
pub fn walk_buses(from: &Arc<dyn Object>, visit: &mut dyn FnMut(&Arc<dyn Object>)) {
    visit(from);
    let Some(bus) = from.cast::<Bus>() else { return };
    for child in bus.children() {
        for below in child.cast::<Device>().map(Device::child_buses).unwrap_or_default() {
            walk_buses(&below, visit);
        }
    }
}
