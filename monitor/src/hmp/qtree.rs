//! `info qtree`: buses, the devices on them, and their properties (softmmu/qdev-monitor.c).

use std::sync::Arc;

use hw_char::virtio_console::VirtSerialPort;
use hw_core::qdev_monitor::INTERNAL;
use hw_core::sysbus::sysbus_get_default;
use hw_core::{Bus, Device, SysBusDevice};
use hw_pci::PciDevice;
use memory::get_system_memory;
use qom::{Class, Object, PropertyInfo, Value};

use super::args::Args;
use super::pci;
use super::session::{Session, out};

pub(crate) fn info_qtree(mon: &mut Session, _: &Args) -> Result<(), String> {
    print_bus(mon, &sysbus_get_default(), 0);
    Ok(())
}

fn print_bus(mon: &mut Session, object: &Arc<dyn Object>, indent: usize) {
    let Some(bus) = object.cast::<Bus>() else { return };
    out!(mon, "{:indent$}bus: {}\n", "", bus.name());
    out!(mon, "{:indent$}  type {}\n", "", object.type_name());
    // The latest first, as QEMU has them.
    for device in bus.children().iter().rev() {
        print_device(mon, device, indent + 2);
    }
}

fn print_device(mon: &mut Session, object: &Arc<dyn Object>, indent: usize) {
    let Some(device) = object.cast::<Device>() else { return };
    let id = device.id().unwrap_or_default();
    out!(mon, "{:indent$}dev: {}, id \"{id}\"\n", "", object.type_name());
    let indent = indent + 2;
    let unnamed = device.gpio_in_all("").len();
    if unnamed > 0 {
        out!(mon, "{:indent$}gpio-in \"\" {unnamed}\n", "");
    }
    for (name, pins) in device.gpio_outs() {
        out!(mon, "{:indent$}gpio-out \"{name}\" {}\n", "", pins.len());
    }
    // What a virtio device shows, its function on the PCI bus only passes on.
    let behind = object.child("virtio-backend");
    let passed_on =
        |name: &str| behind.as_ref().is_some_and(|behind| behind.class().property(name).is_some());
    for property in object.class().ancestry().flat_map(Class::own_properties) {
        if is_setting(property) && !passed_on(&property.name) {
            let value = value_of(object, property);
            out!(mon, "{:indent$}{} = {value}\n", "", property.name);
        }
    }
    if let Some(device) = object.cast::<SysBusDevice>() {
        let in_memory = get_system_memory().subregions();
        for region in device.regions().iter().filter(|region| in_memory.contains(region)) {
            out!(mon, "{:indent$}mmio {:016x}/{:016x}\n", "", region.address(), region.size());
        }
    }
    for line in pci::qtree_lines(object).into_iter().flatten() {
        out!(mon, "{:indent$}{line}\n", "");
    }
    if let Some(port) = object.cast::<VirtSerialPort>() {
        out!(mon, "{:indent$}{}\n", "", port.state_line());
    }
    for bus in device.child_buses().iter().rev() {
        print_bus(mon, bus, indent);
    }
}

/// Whether it is one of those that a device's type declares and that do not lead to another object
/// (`qdev_print_props`); what can be set at any time is the object model's.
fn is_setting(property: &PropertyInfo) -> bool {
    let declared = property.default.is_some() || !property.live && !property.type_name.starts_with("link<");
    declared && property.set.is_some() && !INTERNAL.contains(&property.name.as_str())
}

fn value_of(object: &Arc<dyn Object>, property: &PropertyInfo) -> String {
    if property.name == "addr"
        && let Some(function) = object.cast::<PciDevice>()
    {
        return format!("{:02x}.{:x}", function.devfn() >> 3, function.devfn() & 7);
    }
    object.property_get(&property.name).map_or_else(|_| "<null>".to_owned(), |value| show(property, &value))
}

fn show(property: &PropertyInfo, value: &Value) -> String {
    match (value, value.as_u64(), value.as_i64()) {
        (_, Some(number), _) if property.type_name == "size" => format!("{number} ({})", size(number)),
        (_, Some(number), _) => format!("{number} ({number:#x})"),
        (_, _, Some(number)) => format!("{number} ({number:#x})"),
        (Value::String(text), ..) => format!("\"{text}\""),
        (Value::Null, ..) => "<null>".to_owned(),
        (value, ..) => value.to_string(),
    }
}

/// A size in the largest unit of which it has at least one, to three digits.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = bytes.checked_ilog2().unwrap_or(0) / 10;
    let value = bytes as f64 / (1_u64 << (10 * power)) as f64;
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {}", UNITS.get(power as usize).unwrap_or(&"B"))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_in_binary_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1000, "1000 B"),
            (1 << 31, "2 GiB"),
            (1536, "1.5 KiB"),
            (0x7fff_ffff_ffff_ffff, "8 EiB"),
            (100 << 20, "100 MiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
