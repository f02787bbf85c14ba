//! Buses take what fits, have names, and are found.

mod common;

use std::sync::Arc;

use common::{bus, bus_of, node};
use hw_core::bus::walk_buses;
use hw_core::sysbus::sysbus_get_default;
use hw_core::{Bus, Device, qbus_new, qdev_new, qdev_realize, qdev_unparent};
use qom::Object;

fn name(bus: &Arc<dyn Object>) -> String {
    bus.cast::<Bus>().unwrap().name().to_owned()
}

#[test]
fn a_full_bus_refuses_until_somebody_leaves() {
    let bus = bus("small-bus", "full");
    let first = qdev_new("small-node").unwrap();
    qdev_realize(&first, Some(&bus)).unwrap();
    let second = qdev_new("small-node").unwrap();
    assert_eq!(qdev_realize(&second, Some(&bus)).unwrap_err().to_string(), "Bus 'full' is full");
    assert!(second.cast::<Device>().unwrap().parent_bus().is_none());
    qdev_unparent(&first);
    qdev_realize(&second, Some(&bus)).unwrap();
}

#[test]
fn a_bus_of_another_type_refuses() {
    let bus = bus("small-bus", "wrong");
    let device = qdev_new("node").unwrap();
    let error = qdev_realize(&device, Some(&bus)).unwrap_err();
    assert_eq!(error.to_string(), "Device 'node' can't go on small-bus bus");
}

#[test]
fn a_device_knows_its_bus_and_the_bus_its_devices_in_order() {
    let bus = bus("Test-Bus", "known");
    let devices = [node("a", &bus, None), node("b", &bus, None)];
    let children = bus.cast::<Bus>().unwrap().children();
    assert_eq!(children.len(), 2);
    assert!(children.iter().zip(&devices).all(|(child, device)| Arc::ptr_eq(child, device)));
    assert_eq!(devices[0].property_get("parent_bus").unwrap(), bus.canonical_path().unwrap());
    assert!(Arc::ptr_eq(&bus.cast::<Bus>().unwrap().owner().unwrap().child("known").unwrap(), &bus));
}

#[test]
fn a_bus_without_a_name_is_called_after_its_owner_or_its_type() {
    common::init();
    let owner = qdev_new("test-controller").unwrap();
    owner.cast::<Device>().unwrap().set_id(Some("ctl")).unwrap();
    assert_eq!(name(&qbus_new("Test-Bus", Some(&owner), None).unwrap()), "ctl.0");
    assert_eq!(name(&qbus_new("Test-Bus", Some(&owner), None).unwrap()), "ctl.1");
    let anonymous = qdev_new("test-controller").unwrap();
    assert_eq!(name(&qbus_new("Test-Bus", Some(&anonymous), None).unwrap()), "test-bus.0");
    let another = qdev_new("test-controller").unwrap();
    assert_eq!(name(&qbus_new("Test-Bus", Some(&another), None).unwrap()), "test-bus.1");
    assert_eq!(name(&qbus_new("small-bus", Some(&another), None).unwrap()), "small-bus.0");
}

#[test]
fn all_buses_are_reached_from_the_system_bus_parents_first() {
    let outer = bus("Test-Bus", "walk");
    let device = node("a", &outer, Some("walk.inner"));
    node("b", &bus_of(&device), Some("walk.innermost"));
    node("c", &outer, Some("walk.second"));
    let mut names = Vec::new();
    walk_buses(&sysbus_get_default(), &mut |bus| names.push(name(bus)));
    assert_eq!(names[0], "main-system-bus");
    names.retain(|name| name.starts_with("walk"));
    assert_eq!(names, ["walk", "walk.inner", "walk.innermost", "walk.second"]);
}
