//! Devices that come and go.
//!
//! Source: QEMU `softmmu/qdev-monitor.c`, `qapi/qdev.json`.

use hw_core::qdev_monitor::{DeviceOptions, OptionValue, find_device, qdev_device_add, qdev_unplug};
use qom::{Result, Value};
use serde_json::Map;

/// The value as an option of the command line has it, which is how QEMU takes it; lists, objects and null are none
/// (`qemu_opts_from_qdict`).
fn as_option(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(if on { "on" } else { "off" }.to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Makes a device and puts it into the machine.
#[qapi::command("device_add", features("json-cli", "json-cli-hotplug"))]
fn device_add(
    /// Its type.
    driver: String,
    /// The bus to put it on; one that fits without.
    bus: Option<String>,
    /// Its name.
    id: Option<String>,
    /// Its properties.
    #[qapi(rest)]
    properties: Map<String, Value>,
) -> Result<()> {
    let text = |(name, value)| Some((name, OptionValue::Text(as_option(value)?)));
    let properties = properties.into_iter().filter_map(text).collect();
    qdev_device_add(&DeviceOptions { driver, id, bus, properties }, true).map(drop)
}

/// Asks for a device to go; `DEVICE_DELETED` tells when it went.
#[qapi::command("device_del")]
fn device_del(
    /// Its name or its path in the composition tree.
    id: String,
) -> Result<()> {
    qdev_unplug(&find_device(&id)?)
}
