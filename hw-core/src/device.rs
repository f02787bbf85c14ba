//! Devices: what is realized, reset, plugged into buses and wired with interrupt lines.
//!
//! Source: QEMU `hw/core/qdev.c`, `hw/core/gpio.c`, `include/hw/qdev-core.h`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use qom::property::PropertyInput;
use qom::{
    Class, ClassInit, Object, ObjectBase, ObjectType, PropertyInfo, PropertyType, Result, Value, bail,
};

use crate::bus::Bus;
use crate::hotplug::HotplugHandler;
use crate::irq::{Irq, IrqHandler, IrqPin};
use crate::reset::{self, Phases};

/// Groups of `-device help` (`DeviceCategory`), in its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DeviceCategory {
    Bridge,
    Usb,
    Storage,
    Network,
    Input,
    Display,
    Sound,
    #[default]
    Misc,
    Cpu,
    Watchdog,
}

impl DeviceCategory {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            DeviceCategory::Bridge => "Controller/Bridge/Hub",
            DeviceCategory::Usb => "USB",
            DeviceCategory::Storage => "Storage",
            DeviceCategory::Network => "Network",
            DeviceCategory::Input => "Input",
            DeviceCategory::Display => "Display",
            DeviceCategory::Sound => "Sound",
            DeviceCategory::Misc => "Misc",
            DeviceCategory::Cpu => "CPU",
            DeviceCategory::Watchdog => "Watchdog",
        }
    }
}

/// Brings a device to life, or takes it out of it.
pub type RealizeFn = fn(&Arc<dyn Object>) -> Result<()>;
/// The counterpart of [`RealizeFn`], which cannot fail.
pub type UnrealizeFn = fn(&Arc<dyn Object>);

/// What all devices of a type share.
#[derive(Clone, Default)]
pub struct DeviceClass {
    /// One line for `-device help`.
    pub desc: &'static str,
    /// Where `-device help` lists it.
    pub category: Option<DeviceCategory>,
    /// Not for `-device`: only the board can make it.
    pub board_only: bool,
    /// Whether it may come and go while the machine runs.
    pub hotpluggable: bool,
    /// What OpenFirmware calls it, where that is not its type's name.
    pub fw_name: Option<&'static str>,
    /// The type of bus it sits on.
    pub bus_type: Option<&'static str>,
    /// Called by realize; a bus's device type calls the device's own from its own.
    pub realize: Option<RealizeFn>,
    /// Called by unrealize.
    pub unrealize: Option<UnrealizeFn>,
    /// What reset does.
    pub phases: Phases,
}

/// What a device implements.
pub trait DeviceImpl: ObjectType {
    /// Checks the properties, makes regions and lines, takes the backends.
    ///
    /// # Errors
    /// For the user: a property that does not fit, a place that is taken.
    fn realize(self: &Arc<Self>) -> Result<()> {
        Ok(())
    }
    /// Gives back what `realize` took.
    fn unrealize(self: &Arc<Self>) {}
    /// First phase of reset: own state only, no lines touched.
    fn reset_enter(&self) {}
    /// Second phase: lines are set to what the new state says.
    fn reset_hold(&self) {}
    /// Third phase: reset is over.
    fn reset_exit(&self) {}
}

impl<T: DeviceImpl> ClassInit<T> for Device {
    fn class_init(class: &mut Class) {
        let class = class.get_mut::<DeviceClass>();
        class.realize = Some(call_realize::<T>);
        class.unrealize = Some(call_unrealize::<T>);
        class.phases.set::<T>();
    }
}

/// [`DeviceImpl::realize`] of `T`, for base types that call it from their own realize.
pub fn call_realize<T: DeviceImpl>(object: &Arc<dyn Object>) -> Result<()> {
    match qom::downcast::<T>(object.clone()) {
        Some(device) => device.realize(),
        None => bail!("type '{}' cannot be realized as {}", object.type_name(), T::TYPE_NAME),
    }
}

/// [`DeviceImpl::unrealize`] of `T`.
pub fn call_unrealize<T: DeviceImpl>(object: &Arc<dyn Object>) {
    if let Some(device) = qom::downcast::<T>(object.clone()) {
        device.unrealize();
    }
}

/// The root part of every device.
#[derive(Object)]
#[object(name = "device", parent = ObjectBase, abstract, class_init = device_class_init,
    instance_post_init = Device::apply_globals)]
pub struct Device {
    parent: ObjectBase,
    id: OnceLock<String>,
    realized: AtomicBool,
    hotplugged: AtomicBool,
    /// A user asked for it to go, and the guest has not let go yet.
    unplug_pending: AtomicBool,
    bus: Mutex<Option<Arc<dyn Object>>>,
    child_buses: Mutex<Vec<Arc<dyn Object>>>,
    gpio_in: Mutex<BTreeMap<String, Vec<Irq>>>,
    gpio_out: Mutex<BTreeMap<String, Vec<Arc<IrqPin>>>>,
}
qom::type_init!(Device);

fn device_class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().hotpluggable = true;
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|o| Ok(o.cast::<Device>().is_some_and(Device::is_realized).into()))),
        set: Some(Arc::new(|o, input| set_realized(&o.base().this(), bool::parse("realized", input)?))),
        live: true,
        ..PropertyInfo::new("realized", "bool")
    });
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|o| Ok(o.cast::<Device>().is_some_and(Device::is_hotplugged).into()))),
        ..PropertyInfo::new("hotplugged", "bool")
    });
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|o| {
            let class = o.class().get::<DeviceClass>();
            Ok(class.is_some_and(|c| c.hotpluggable).into())
        })),
        ..PropertyInfo::new("hotpluggable", "bool")
    });
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|o| {
            let bus = o.cast::<Device>().and_then(Device::parent_bus);
            Ok(bus.and_then(|b| b.canonical_path()).unwrap_or_default().into())
        })),
        ..PropertyInfo::new("parent_bus", "link<bus>")
    });
}

impl Device {
    fn apply_globals(&self) {
        crate::global::apply(&*self.this());
    }

    /// The id the user gave.
    pub fn id(&self) -> Option<&str> {
        self.id.get().map(String::as_str)
    }

    /// A name for messages: the id, or the type.
    pub fn label(&self) -> String {
        self.id().unwrap_or(self.class().name()).to_owned()
    }

    /// Gives it its id and its place below `/machine/peripheral`, or without an id below
    /// `/machine/peripheral-anon` (`qdev_set_id`).
    ///
    /// # Errors
    /// When the id is taken.
    pub fn set_id(&self, id: Option<&str>) -> Result<()> {
        let this = self.this();
        let root = qom::object_get_root();
        match id {
            Some(id) => {
                let place = qom::container_get(&root, "/machine/peripheral");
                if place.property_add_child(id, &this).is_err() {
                    bail!("Duplicate device ID '{id}'");
                }
                let _ = self.id.set(id.to_owned());
            }
            None => {
                let place = qom::container_get(&root, "/machine/peripheral-anon");
                place.property_add_child("device[*]", &this)?;
            }
        }
        Ok(())
    }

    /// Whether it is alive.
    pub fn is_realized(&self) -> bool {
        self.realized.load(Ordering::Acquire)
    }

    /// Whether it came while the machine ran.
    pub fn is_hotplugged(&self) -> bool {
        self.hotplugged.load(Ordering::Relaxed)
    }

    /// Notes that it comes while the machine runs.
    pub fn set_hotplugged(&self) {
        self.hotplugged.store(true, Ordering::Relaxed);
    }

    /// Notes that it is to go; gives whether that was known. A handler whose guest may miss the request takes it back,
    /// so that a user can ask again.
    pub fn set_unplug_pending(&self, pending: bool) -> bool {
        self.unplug_pending.swap(pending, Ordering::Relaxed)
    }

    /// The bus it sits on.
    pub fn parent_bus(&self) -> Option<Arc<dyn Object>> {
        self.bus.lock().clone()
    }

    /// The bus it sits on, as the struct `B`.
    pub fn bus<B: ObjectType>(&self) -> Option<Arc<B>> {
        self.parent_bus().and_then(qom::downcast)
    }

    pub(crate) fn set_parent_bus(&self, bus: Option<Arc<dyn Object>>) {
        *self.bus.lock() = bus;
    }

    /// The buses it provides.
    pub fn child_buses(&self) -> Vec<Arc<dyn Object>> {
        self.child_buses.lock().clone()
    }

    pub(crate) fn add_child_bus(&self, bus: &Arc<dyn Object>) {
        self.child_buses.lock().push(bus.clone());
    }

    /// Adds `n` inputs called `name` (empty for the unnamed ones), handled by `handler`.
    pub fn init_gpio_in(&self, name: &str, handler: Arc<dyn IrqHandler>, n: u32) {
        let mut gpio = self.gpio_in.lock();
        let lines = gpio.entry(name.to_owned()).or_default();
        let first = lines.len() as u32;
        lines.extend((first..first + n).map(|n| Irq::new(handler.clone(), n)));
    }

    /// Input `n` called `name`.
    pub fn gpio_in(&self, name: &str, n: u32) -> Option<Irq> {
        self.gpio_in.lock().get(name)?.get(n as usize).cloned()
    }

    /// All inputs called `name`.
    pub fn gpio_in_all(&self, name: &str) -> Vec<Irq> {
        self.gpio_in.lock().get(name).cloned().unwrap_or_default()
    }

    /// All inputs, with their names.
    pub fn gpio_ins(&self) -> Vec<(String, Vec<Irq>)> {
        self.gpio_in.lock().iter().map(|(name, lines)| (name.clone(), lines.clone())).collect()
    }

    /// Makes `pin` known as the next output called `name`.
    pub fn init_gpio_out(&self, name: &str, pin: &Arc<IrqPin>) {
        self.gpio_out.lock().entry(name.to_owned()).or_default().push(pin.clone());
    }

    /// Output `n` called `name`.
    pub fn gpio_out(&self, name: &str, n: u32) -> Option<Arc<IrqPin>> {
        self.gpio_out.lock().get(name)?.get(n as usize).cloned()
    }

    /// All outputs, with their names.
    pub fn gpio_outs(&self) -> Vec<(String, Vec<Arc<IrqPin>>)> {
        self.gpio_out.lock().iter().map(|(name, pins)| (name.clone(), pins.clone())).collect()
    }

    /// Output `n` called `name` drives `irq` from now on.
    ///
    /// # Errors
    /// When there is no such output.
    pub fn connect_gpio_out(&self, name: &str, n: u32, irq: Irq) -> Result<()> {
        match self.gpio_out(name, n) {
            Some(pin) => pin.connect(irq),
            None => bail!("{} has no output '{name}' {n}", self.label()),
        }
        Ok(())
    }
}

/// A device of `type_name`, not yet on a bus nor alive (`qdev_new`).
///
/// # Errors
/// When there is no such type, or it is no device.
pub fn qdev_new(type_name: &str) -> Result<Arc<dyn Object>> {
    let object = qom::object_new(type_name)?;
    if object.cast::<Device>().is_none() {
        bail!("'{type_name}' is not a device");
    }
    Ok(object)
}

/// Puts `device` on `bus`, if one is given, and brings it to life (`qdev_realize`).
///
/// # Errors
/// When the bus is full or of another type, or the device refuses.
pub fn qdev_realize(device: &Arc<dyn Object>, bus: Option<&Arc<dyn Object>>) -> Result<()> {
    if let Some(bus) = bus {
        crate::bus::set_parent_bus(device, bus)?;
    }
    set_realized(device, true)
}

fn set_realized(object: &Arc<dyn Object>, value: bool) -> Result<()> {
    let Some(device) = object.cast::<Device>() else { bail!("'{}' is not a device", object.type_name()) };
    match (device.is_realized(), value) {
        (false, true) => realize(object, device),
        (true, false) => {
            unrealize(object, device);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn device_class(object: &dyn Object) -> DeviceClass {
    object.class().get::<DeviceClass>().cloned().unwrap_or_default()
}

fn realize(object: &Arc<dyn Object>, device: &Device) -> Result<()> {
    let class = device_class(&**object);
    if device.is_hotplugged() && !class.hotpluggable {
        bail!("Device '{}' does not support hotplugging", object.type_name());
    }
    let unattached = object.base().parent().is_none();
    if unattached {
        let place = qom::container_get(&qom::object_get_root(), "/machine/unattached");
        place.property_add_child("device[*]", object)?;
    }
    let result = realize_in_place(object, device, &class);
    match result {
        Ok(()) => device.base().freeze(too_late),
        Err(_) if unattached => object.unparent(),
        Err(_) => {}
    }
    result
}

/// What a live device says of a property that it has read already (`qdev_prop_set_after_realize`).
fn too_late(object: &dyn Object, name: &str) -> String {
    let device = match object.cast::<Device>().and_then(Device::id) {
        Some(id) => format!("device '{id}'"),
        None => "anonymous device".to_owned(),
    };
    format!(
        "Attempt to set property '{name}' on {device} (type '{}') after it was realized",
        object.type_name()
    )
}

fn realize_in_place(object: &Arc<dyn Object>, device: &Device, class: &DeviceClass) -> Result<()> {
    let hotplug = hotplug_handler(object, device);
    if let Some(handler) = &hotplug {
        handler.pre_plug(object)?;
    }
    if let Some(realize) = class.realize {
        realize(object)?;
    }
    for bus in device.child_buses() {
        if let Err(error) = crate::bus::realize(&bus) {
            unrealize(object, device);
            return Err(error);
        }
    }
    if device.is_hotplugged() {
        reset::cold_reset(object);
    }
    device.realized.store(true, Ordering::Release);
    if let Some(handler) = &hotplug
        && let Err(error) = handler.plug(object)
    {
        unrealize(object, device);
        return Err(error);
    }
    Ok(())
}

pub(crate) fn hotplug_handler(object: &Arc<dyn Object>, device: &Device) -> Option<Arc<dyn HotplugHandler>> {
    if let Some(handler) = crate::machine::hotplug_handler_for(object) {
        return Some(handler);
    }
    device.parent_bus()?.cast::<Bus>()?.hotplug_handler()
}

fn unrealize(object: &Arc<dyn Object>, device: &Device) {
    for bus in device.child_buses() {
        crate::bus::unrealize(&bus);
    }
    if let Some(unrealize) = device_class(&**object).unrealize {
        unrealize(object);
    }
    device.realized.store(false, Ordering::Release);
    device.base().thaw();
    device.gpio_in.lock().clear();
}

/// Takes a device off its bus and out of the machine (`qdev_unplug`'s last step).
pub fn qdev_unparent(object: &Arc<dyn Object>) {
    if let Some(device) = object.cast::<Device>() {
        if device.is_realized() {
            unrealize(object, device);
        }
        crate::bus::leave_bus(object, device);
    }
    object.unparent();
}

/// Makes, configures and realizes a device in one go, for boards: `properties` are name and value.
///
/// # Errors
/// As [`qdev_new`], [`qdev_realize`] and the properties.
pub fn qdev_create(
    type_name: &str,
    bus: Option<&Arc<dyn Object>>,
    properties: &[(&str, Value)],
) -> Result<Arc<dyn Object>> {
    let device = qdev_new(type_name)?;
    for (name, value) in properties {
        device.property_set(name, PropertyInput::Json(value))?;
    }
    qdev_realize(&device, bus)?;
    Ok(device)
}
