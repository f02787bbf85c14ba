//! Which virtio devices there are. Source: QEMU `hw/virtio/virtio-qmp.c`, `qapi/virtio.json`.

use std::sync::Arc;

use hw_core::machine::current_machine;
use qapi::QapiType;
use qom::{Object, Result};

#[derive(QapiType)]
struct VirtioInfo {
    path: String,
    name: String,
}

/// What QEMU calls the kind of device (`virtio_device_names`).
fn kind(device: &dyn Object) -> String {
    match device.is_a("virtio-input-hid-device") {
        true => "virtio-input".to_owned(),
        false => device.type_name().trim_end_matches("-device").to_owned(),
    }
}

fn collect(object: &Arc<dyn Object>, found: &mut Vec<VirtioInfo>) {
    if object.is_a("virtio-device") {
        let path = object.canonical_path().unwrap_or_default();
        found.push(VirtioInfo { path, name: kind(&**object) });
    }
    for (_, child) in object.children() {
        collect(&child, found);
    }
}

/// Lists the virtio devices, in the order of their paths.
#[qapi::command("x-query-virtio", features("unstable"))]
fn x_query_virtio() -> Result<Vec<VirtioInfo>> {
    let mut found = Vec::new();
    if let Some(machine) = current_machine() {
        collect(&machine, &mut found);
    }
    Ok(found)
}
