//! Devices that come and go.
//!
//! Source: QEMU `softmmu/qdev-monitor.c`, `qapi/qdev.json`.

use hw_core::qdev_monitor::{DeviceOptions, OptionValue, find_device, qdev_device_add, qdev_unplug};
use qom::{Result, Value};
use serde_json::Map;

/// Makes a device and puts it into the machine.
#[qapi::command("device_add")]
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
    let properties = properties.into_iter().map(|(name, value)| (name, OptionValue::Json(value))).collect();
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
