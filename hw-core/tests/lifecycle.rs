//! Devices come to life and leave it in order, and reset runs phase by phase over the tree.

mod common;

use std::sync::Arc;

use common::{Warden, bus, bus_of, init, node, take_log};
use hw_core::reset::{
    ResetHandler, cold_reset, qemu_devices_reset, qemu_register_reset, qemu_unregister_reset,
};
use hw_core::{Bus, Device, qdev_create, qdev_new, qdev_realize, qdev_unparent};
use qom::Object;

fn is_realized(object: &Arc<dyn Object>) -> bool {
    object.property_get("realized").unwrap() == true
}

fn children(bus: &Arc<dyn Object>) -> usize {
    bus.cast::<Bus>().unwrap().children().len()
}

#[test]
fn realize_asks_before_and_tells_after() {
    let bus = bus("Test-Bus", "asked");
    bus.cast::<Bus>().unwrap().set_hotplug_handler(Arc::new(Warden));
    take_log();
    let device = node("a", &bus, Some("inner"));
    assert_eq!(take_log(), ["pre_plug a", "realize a", "plug a"]);
    assert!(is_realized(&device));
    assert_eq!(bus_of(&device).property_get("realized").unwrap(), true);
    // A second time is nothing.
    qdev_realize(&device, None).unwrap();
    assert_eq!(take_log(), [""; 0]);
}

#[test]
fn a_device_that_is_refused_before_is_not_realized() {
    let bus = bus("Test-Bus", "refusing");
    bus.cast::<Bus>().unwrap().set_hotplug_handler(Arc::new(Warden));
    let device = qdev_new("node").unwrap();
    device.property_set_str("label", "no pre_plug").unwrap();
    take_log();
    let error = qdev_realize(&device, Some(&bus)).unwrap_err();
    assert_eq!(error.to_string(), "pre_plug refused");
    assert_eq!(take_log(), ["pre_plug no pre_plug"]);
    assert!(!is_realized(&device));
}

#[test]
fn a_device_that_is_refused_after_is_unrealized() {
    let bus = bus("Test-Bus", "regretting");
    bus.cast::<Bus>().unwrap().set_hotplug_handler(Arc::new(Warden));
    let device = qdev_new("node").unwrap();
    device.property_set_str("label", "no plug").unwrap();
    take_log();
    assert_eq!(qdev_realize(&device, Some(&bus)).unwrap_err().to_string(), "plug refused");
    assert_eq!(take_log(), ["pre_plug no plug", "realize no plug", "plug no plug", "unrealize no plug"]);
    assert!(!is_realized(&device));
}

#[test]
fn a_device_that_cannot_leaves_no_trace_in_the_tree() {
    init();
    let device = qdev_new("node").unwrap();
    device.property_set_str("label", "b").unwrap();
    device.property_set_str("fails", "on").unwrap();
    assert_eq!(qdev_realize(&device, None).unwrap_err().to_string(), "b does not want to");
    assert!(!is_realized(&device));
    assert_eq!(device.canonical_path(), None);
    // What was wrong can be put right.
    device.property_set_str("fails", "off").unwrap();
    qdev_realize(&device, None).unwrap();
    assert!(device.canonical_path().unwrap().starts_with("/machine/unattached/device["));
}

#[test]
fn children_leave_before_their_parents() {
    let bus = bus("Test-Bus", "leaving");
    let parent = node("parent", &bus, Some("leaving.1"));
    let child = node("child", &bus_of(&parent), Some("leaving.2"));
    node("grandchild", &bus_of(&child), None);
    drop(child);
    take_log();
    let inner = bus_of(&parent);
    qdev_unparent(&parent);
    assert_eq!(take_log(), ["unrealize grandchild", "unrealize child", "unrealize parent"]);
    assert_eq!((children(&bus), children(&inner)), (0, 0));
    assert!(!is_realized(&parent));
    assert_eq!(parent.canonical_path(), None);
    assert!(parent.cast::<Device>().unwrap().parent_bus().is_none());
}

#[test]
fn the_property_realized_is_the_same_as_the_functions() {
    init();
    take_log();
    let device = qdev_new("node").unwrap();
    device.property_set_str("label", "c").unwrap();
    device.property_set_str("realized", "on").unwrap();
    device.property_set_value("realized", false).unwrap();
    assert_eq!(take_log(), ["realize c", "unrealize c"]);
}

#[test]
fn a_live_device_changes_only_what_may_change() {
    init();
    let device = qdev_create("node", None, &[("label", "d".into())]).unwrap();
    device.property_set_str("volume", "11").unwrap();
    let error = device.property_set_str("label", "e").unwrap_err();
    let expected = "Attempt to set property 'label' on anonymous device (type 'node') after it was realized";
    assert_eq!(error.to_string(), expected);

    let named = qdev_new("node").unwrap();
    named.cast::<Device>().unwrap().set_id(Some("named")).unwrap();
    qdev_realize(&named, None).unwrap();
    let error = named.property_set_str("label", "e").unwrap_err();
    let expected = "Attempt to set property 'label' on device 'named' (type 'node') after it was realized";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_device_that_comes_while_the_machine_runs_is_reset_at_once() {
    let bus = bus("Test-Bus", "running");
    bus.cast::<Bus>().unwrap().set_hotplug_handler(Arc::new(Warden));
    let device = qdev_new("node").unwrap();
    device.property_set_str("label", "f").unwrap();
    device.cast::<Device>().unwrap().set_hotplugged();
    take_log();
    qdev_realize(&device, Some(&bus)).unwrap();
    assert_eq!(take_log(), ["pre_plug f", "realize f", "enter f", "hold f", "exit f", "plug f"]);
    assert_eq!(device.property_get("hotplugged").unwrap(), true);
}

#[test]
fn a_device_that_cannot_come_while_the_machine_runs_says_so() {
    let bus = bus("small-bus", "fixed");
    let device = qdev_new("small-node").unwrap();
    assert_eq!(device.property_get("hotpluggable").unwrap(), false);
    device.cast::<Device>().unwrap().set_hotplugged();
    let error = qdev_realize(&device, Some(&bus)).unwrap_err();
    assert_eq!(error.to_string(), "Device 'small-node' does not support hotplugging");
}

#[test]
fn each_phase_of_reset_is_over_everywhere_before_the_next() {
    let bus = bus("Test-Bus", "top");
    let root = node("root", &bus, Some("outer"));
    let outer = bus_of(&root);
    let first = node("first", &outer, Some("inner"));
    node("leaf", &bus_of(&first), None);
    node("second", &outer, None);
    take_log();
    cold_reset(&root);
    let order = ["leaf", "inner", "first", "second", "outer", "root"];
    let expected: Vec<String> = ["enter", "hold", "exit"]
        .iter()
        .flat_map(|phase| order.map(|name| format!("{phase} {name}")))
        .collect();
    assert_eq!(take_log(), expected);
    cold_reset(&first);
    let (enter, rest) =
        (take_log(), ["hold leaf", "hold inner", "hold first", "exit leaf", "exit inner", "exit first"]);
    assert_eq!(enter[..3], ["enter leaf", "enter inner", "enter first"]);
    assert_eq!(enter[3..], rest);
}

#[test]
fn a_machine_reset_calls_in_order_of_registration() {
    let handlers: Vec<ResetHandler> =
        (0..3).map(|n| Arc::new(move || common::log(format!("handler {n}"))) as ResetHandler).collect();
    handlers.iter().for_each(|handler| qemu_register_reset(handler.clone()));
    take_log();
    qemu_devices_reset();
    assert_eq!(take_log(), ["handler 0", "handler 1", "handler 2"]);
    qemu_unregister_reset(&handlers[1]);
    qemu_devices_reset();
    assert_eq!(take_log(), ["handler 0", "handler 2"]);
}
