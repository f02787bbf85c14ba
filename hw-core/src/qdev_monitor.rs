//! `-device`, `device_add` and their help: from a user's words to a device in the machine.
//!
//! Source: QEMU `softmmu/qdev-monitor.c`.

use std::fmt::Write;
use std::sync::Arc;

use qapi::{QapiEvent, QapiType};
use qom::property::PropertyInput;
use qom::{Class, ErrorClass, Object, PropertyInfo, Result, Value, bail};

use util::option::id_wellformed;

use crate::bus::{Bus, walk_buses};
use crate::device::{Device, DeviceCategory, DeviceClass, qdev_new, qdev_unparent};
use crate::sysbus::sysbus_get_default;

/// A device as a user asked for it.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// The type's name or alias.
    pub driver: String,
    /// The id, if it has one.
    pub id: Option<String>,
    /// The bus, if one was named.
    pub bus: Option<String>,
    /// Everything else, in order.
    pub properties: Vec<(String, OptionValue)>,
}

/// A property's value in either dialect.
#[derive(Clone, Debug)]
pub enum OptionValue {
    /// `name=text`.
    Text(String),
    /// JSON.
    Json(Value),
}

impl OptionValue {
    /// As the object model takes it.
    pub fn as_input(&self) -> PropertyInput<'_> {
        match self {
            OptionValue::Text(text) => PropertyInput::Text(text),
            OptionValue::Json(value) => PropertyInput::Json(value),
        }
    }

    fn as_str(&self) -> Option<&str> {
        match self {
            OptionValue::Text(text) => Some(text),
            OptionValue::Json(value) => value.as_str(),
        }
    }
}

impl DeviceOptions {
    /// Sorts a list of names and values; `driver`, `id` and `bus` are the framework's.
    ///
    /// # Errors
    /// When no driver is named, or one of the three is no string.
    pub fn from_list(list: impl IntoIterator<Item = (String, OptionValue)>) -> Result<DeviceOptions> {
        let mut options = DeviceOptions::default();
        for (name, value) in list {
            let field = match name.as_str() {
                "driver" => Some(&mut options.driver),
                "id" => Some(options.id.insert(String::new())),
                "bus" => Some(options.bus.insert(String::new())),
                _ => None,
            };
            match (field, value.as_str()) {
                (Some(field), Some(text)) => *field = text.to_owned(),
                (Some(_), None) => bail!("Invalid parameter type for '{name}', expected: string"),
                (None, _) => options.properties.push((name, value)),
            }
        }
        if options.driver.is_empty() {
            bail!("Parameter 'driver' is missing");
        }
        Ok(options)
    }
}

/// Types that users may call by a second name (`qdev_alias_table`).
const ALIASES: [(&str, &str); 10] = [
    ("virtio-9p", "virtio-9p-pci"),
    ("virtio-balloon", "virtio-balloon-pci"),
    ("virtio-blk", "virtio-blk-pci"),
    ("virtio-keyboard", "virtio-keyboard-pci"),
    ("virtio-mouse", "virtio-mouse-pci"),
    ("virtio-net", "virtio-net-pci"),
    ("virtio-rng", "virtio-rng-pci"),
    ("virtio-scsi", "virtio-scsi-pci"),
    ("virtio-serial", "virtio-serial-pci"),
    ("virtio-tablet", "virtio-tablet-pci"),
];

/// The type that users mean by `driver`.
fn type_of(driver: &str) -> &str {
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == driver).map(|(_, name)| *name);
    qom::class_by_name(driver).map_or_else(|| alias().unwrap_or(driver), |_| driver)
}

/// The class of a device that users may make.
fn device_class(driver: &str) -> Result<DeviceClass> {
    let class = qom::class_by_name(driver).filter(|c| c.is_a("device"));
    let Some(class) = class else { bail!("'{driver}' is not a valid device model name") };
    if class.is_abstract() {
        bail!("Parameter 'driver' expects a non-abstract device type");
    }
    let device = class.get::<DeviceClass>().cloned().unwrap_or_default();
    if device.board_only {
        bail!("Parameter 'driver' expects a pluggable device type");
    }
    Ok(device)
}

/// Makes a device and puts it into the machine (`qdev_device_add`).
///
/// # Errors
/// Names what is wrong with the driver, the bus, the id or a property.
pub fn qdev_device_add(options: &DeviceOptions, hotplugged: bool) -> Result<Arc<dyn Object>> {
    if options.id.as_deref().is_some_and(|id| !id_wellformed(id)) {
        let hint = "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.";
        return Err(qom::Error::new("Parameter 'id' expects an identifier").with_hint(hint));
    }
    let driver = type_of(&options.driver);
    let class = device_class(driver)?;
    let bus = find_bus(options, &class)?;
    if hotplugged {
        check_hotplug(driver, &class, bus.as_ref())?;
    }
    let object = qdev_new(driver)?;
    if let Some(error) = crate::global::take_error() {
        return Err(error);
    }
    let Some(device) = object.cast::<Device>() else { bail!("'{driver}' is not a device") };
    if hotplugged {
        device.set_hotplugged();
    }
    device.set_id(options.id.as_deref())?;
    let result = options
        .properties
        .iter()
        .try_for_each(|(name, value)| object.property_set(name, value.as_input()))
        .and_then(|()| crate::qdev_realize(&object, bus.as_ref()));
    match result {
        Ok(()) => Ok(object),
        Err(error) => {
            qdev_unparent(&object);
            Err(error)
        }
    }
}

fn check_hotplug(driver: &str, class: &DeviceClass, bus: Option<&Arc<dyn Object>>) -> Result<()> {
    if !class.hotpluggable {
        bail!("Device '{driver}' does not support hotplugging");
    }
    if let Some(bus) = bus.and_then(|b| b.cast::<Bus>())
        && bus.hotplug_handler().is_none()
    {
        bail!("Bus '{}' does not support hotplugging", bus.name());
    }
    Ok(())
}

fn all_buses() -> Vec<Arc<dyn Object>> {
    let mut buses = Vec::new();
    walk_buses(&sysbus_get_default(), &mut |bus| buses.push(bus.clone()));
    buses
}

fn find_bus(options: &DeviceOptions, class: &DeviceClass) -> Result<Option<Arc<dyn Object>>> {
    let name_of = |object: &Arc<dyn Object>| object.cast::<Bus>().map(|b| b.name().to_owned());
    let full = |object: &Arc<dyn Object>| object.cast::<Bus>().is_some_and(Bus::is_full);
    if let Some(wanted) = &options.bus {
        // A path's last part names the bus.
        let name = wanted.rsplit('/').next().unwrap_or(wanted);
        let Some(bus) = all_buses().into_iter().find(|b| name_of(b).as_deref() == Some(name)) else {
            return Err(
                qom::Error::new(format!("Bus '{wanted}' not found")).with_class(ErrorClass::GenericError)
            );
        };
        if let Some(bus_type) = class.bus_type
            && !bus.is_a(bus_type)
        {
            bail!("Device '{}' can't go on {} bus", type_of(&options.driver), bus.type_name());
        }
        if full(&bus) {
            bail!("Bus '{wanted}' is full");
        }
        return Ok(Some(bus));
    }
    let Some(bus_type) = class.bus_type else { return Ok(None) };
    match all_buses().into_iter().find(|b| b.is_a(bus_type) && !full(b)) {
        Some(bus) => Ok(Some(bus)),
        None => bail!("No '{bus_type}' bus found for device '{}'", type_of(&options.driver)),
    }
}

/// The event that a device went for good.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_DEVICE_DELETED-arg", event = "DEVICE_DELETED")]
struct DeviceDeleted {
    /// Its id, if it had one.
    device: Option<String>,
    /// Where it was in the composition tree.
    path: String,
}

/// Asks for a device to go (`qdev_unplug`).
///
/// # Errors
/// When it cannot, is going already, or its bus's controller refuses.
pub fn qdev_unplug(object: &Arc<dyn Object>) -> Result<()> {
    let Some(device) = object.cast::<Device>() else { bail!("'{}' is not a device", object.type_name()) };
    let bus = device.parent_bus();
    let handler = crate::device::hotplug_handler(object, device);
    if let (Some(bus), None) = (bus.as_ref().and_then(|bus| bus.cast::<Bus>()), &handler) {
        bail!("Bus '{}' does not support hotplugging", bus.name());
    }
    if !object.class().get::<DeviceClass>().is_some_and(|class| class.hotpluggable) {
        bail!("Device '{}' does not support hotplugging", object.type_name());
    }
    let Some(handler) = handler else {
        bail!("Hotplugging of '{}' needs a bus with a hotplug handler", object.type_name())
    };
    if device.set_unplug_pending(true) {
        bail!("Device {} is already in the process of unplug", device.id().unwrap_or(object.type_name()));
    }
    handler.unplug_request(object).inspect_err(|_| {
        device.set_unplug_pending(false);
    })
}

/// The device goes, and listeners hear of it.
pub fn qdev_unplugged(object: &Arc<dyn Object>) {
    let path = object.canonical_path().unwrap_or_default();
    let id = object.cast::<Device>().and_then(Device::id).map(str::to_owned);
    if let Some(device) = object.cast::<Device>()
        && let Some(handler) = crate::device::hotplug_handler(object, device)
    {
        handler.unplug(object);
    }
    qdev_unparent(object);
    qapi::emit(&DeviceDeleted { device: id, path });
}

/// The device that `id` names: an id, or a path in the composition tree (`find_device_state`).
///
/// # Errors
/// When there is none.
pub fn find_device(id: &str) -> Result<Arc<dyn Object>> {
    let place = qom::container_get(&qom::object_get_root(), "/machine/peripheral");
    let object = match place.child(id) {
        Some(object) => Some(object),
        None => qom::object_resolve_path(id).ok(),
    };
    match object {
        Some(object) if object.cast::<Device>().is_some() => Ok(object),
        Some(_) => bail!("{id} is not a hotpluggable device"),
        None => Err(qom::object::device_not_found(id)),
    }
}

/// The text of `-device help`: every device by category.
pub fn device_help() -> String {
    device_list(false)
}

/// The same with devices that only boards make, which are marked, on demand (`qdev_print_devinfos`).
pub fn device_list(board_only: bool) -> String {
    let mut text = String::new();
    let mut devices: Vec<(Option<DeviceCategory>, &'static Class, DeviceClass)> =
        qom::class_list("device", false)
            .into_iter()
            .filter_map(|class| class.get::<DeviceClass>().map(|d| (d.category, class, d.clone())))
            .filter(|(_, _, device)| board_only || !device.board_only)
            .collect();
    devices.sort_by_key(|(category, class, _)| (category.is_none(), *category, class.name()));
    let mut heading = None;
    for (category, class, device) in devices {
        if heading != Some(category) {
            let gap = if heading.is_some() { "\n" } else { "" };
            let title = category.map_or("Uncategorized", DeviceCategory::title);
            let _ = writeln!(text, "{gap}{title} devices:");
            heading = Some(category);
        }
        let _ = write!(text, "name \"{}\"", class.name());
        if let Some(bus) = device.bus_type {
            let _ = write!(text, ", bus {bus}");
        }
        if let Some((alias, _)) = ALIASES.iter().find(|(_, name)| *name == class.name()) {
            let _ = write!(text, ", alias \"{alias}\"");
        }
        if !device.desc.is_empty() {
            let _ = write!(text, ", desc \"{}\"", device.desc);
        }
        if device.board_only {
            text.push_str(", no-user");
        }
        text.push('\n');
    }
    text
}

/// The properties that every device has and nobody sets.
pub const INTERNAL: [&str; 6] = ["realized", "hotplugged", "hotpluggable", "parent_bus", "state", "type"];

/// The text of `-device NAME,help`.
///
/// # Errors
/// When there is no such device.
pub fn device_properties_help(driver: &str) -> Result<String> {
    let driver = type_of(driver);
    let class = qom::class_by_name(driver).filter(|c| c.is_a("device"));
    let Some(class) = class else { return Err(qom::object::device_not_found(driver)) };
    if class.is_abstract() {
        bail!("Parameter 'typename' expects a non-abstract device type");
    }
    let properties = properties_help(class);
    match properties.is_empty() {
        true => Ok(format!("There are no options for {driver}.\n")),
        false => Ok(format!("{driver} options:\n{properties}")),
    }
}

/// A line for each property of `class` that a user may set, sorted.
pub fn properties_help(class: &Class) -> String {
    let mut properties = class.properties();
    properties.retain(|p| p.set.is_some() && !INTERNAL.contains(&p.name.as_str()));
    // Other objects than devices do not tell their defaults.
    let with_default = class.is_a("device");
    let mut lines: Vec<_> = properties.into_iter().map(|p| property_help(p, with_default)).collect();
    lines.sort_unstable();
    lines.concat()
}

/// The line for a property (`object_property_help`).
fn property_help(property: &PropertyInfo, with_default: bool) -> String {
    let mut line = format!("  {}=<{}>", property.name, property.type_name);
    let is_told = |default: &&Value| with_default && !matches!(default, Value::String(s) if s.is_empty());
    let default = property.default.as_ref().filter(is_told);
    if !property.description.is_empty() || default.is_some() {
        line = format!("{line:<24} - {}", property.description);
    }
    if let Some(value) = default {
        let _ = write!(line, " (default: {value})");
    }
    line.push('\n');
    line
}
