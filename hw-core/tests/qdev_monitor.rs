//! `-device`: where the device lands, what is said when it does not, and the help.

mod common;

use common::{Warden, bus, init};
use hw_core::qdev_monitor::{
    DeviceOptions, OptionValue, device_help, device_list, device_properties_help, find_device,
    qdev_device_add,
};
use hw_core::{Bus, Device};
use qom::{ErrorClass, object_resolve_path};

fn options(text: &str) -> DeviceOptions {
    init();
    let pairs = text.split(',').map(|part| {
        let (name, value) = part.split_once('=').unwrap();
        (name.to_owned(), OptionValue::Text(value.to_owned()))
    });
    DeviceOptions::from_list(pairs).unwrap()
}

fn error(text: &str) -> String {
    qdev_device_add(&options(text), false).err().expect(text).to_string()
}

#[test]
fn a_device_with_an_id_is_below_peripheral() {
    bus("Test-Bus", "ids");
    let device = qdev_device_add(&options("driver=node,bus=ids,id=my.dev-1,label=x"), false).unwrap();
    assert_eq!(device.canonical_path().unwrap(), "/machine/peripheral/my.dev-1");
    assert!(object_resolve_path("/machine/peripheral/my.dev-1").is_ok());
    assert_eq!(device.property_get("label").unwrap(), "x");
    assert_eq!(device.cast::<Device>().unwrap().id(), Some("my.dev-1"));
    assert_eq!(find_device("my.dev-1").unwrap().canonical_path(), device.canonical_path());
    assert_eq!(error("driver=node,bus=ids,id=my.dev-1"), "Duplicate device ID 'my.dev-1'");
}

#[test]
fn a_device_without_an_id_is_below_peripheral_anon() {
    bus("Test-Bus", "anon");
    let [first, second] = [0, 1].map(|_| qdev_device_add(&options("driver=node,bus=anon"), false).unwrap());
    let number = |path: String| -> u32 {
        path.strip_prefix("/machine/peripheral-anon/device[")
            .unwrap()
            .strip_suffix(']')
            .unwrap()
            .parse()
            .unwrap()
    };
    let [first, second] = [first, second].map(|device| number(device.canonical_path().unwrap()));
    assert!(first < second);
}

#[test]
fn what_is_wrong_is_named_as_qemu_names_it() {
    bus("Test-Bus", "errors");
    assert_eq!(error("driver=nosuch"), "'nosuch' is not a valid device model name");
    assert_eq!(error("driver=container"), "'container' is not a valid device model name");
    assert_eq!(error("driver=abstract-node"), "Parameter 'driver' expects a non-abstract device type");
    assert_eq!(error("driver=test-controller"), "Parameter 'driver' expects a pluggable device type");
    assert_eq!(error("driver=node,bus=nosuch"), "Bus 'nosuch' not found");
    assert_eq!(error("driver=node,bus=main-system-bus"), "Device 'node' can't go on System bus");
    assert_eq!(error("driver=node,bus=errors,id=1x"), "Parameter 'id' expects an identifier");
    assert_eq!(error("driver=node,bus=errors,nosuch=1"), "Property 'node.nosuch' not found");
    assert_eq!(error("driver=node,bus=errors,volume=loud"), "Parameter 'volume' expects integer");
    assert_eq!(error("driver=node,bus=errors,fails=on,label=x"), "x does not want to");
}

#[test]
fn a_device_that_failed_gives_its_id_back() {
    bus("Test-Bus", "again");
    error("driver=node,bus=again,id=again,fails=on");
    qdev_device_add(&options("driver=node,bus=again,id=again"), false).unwrap();
}

#[test]
fn a_device_finds_a_bus_with_room() {
    assert_eq!(error("driver=small-node"), "No 'small-bus' bus found for device 'small-node'");
    bus("small-bus", "room 0");
    bus("small-bus", "room 1");
    for expected in ["room 0", "room 1"] {
        let device = qdev_device_add(&options("driver=small-node"), false).unwrap();
        let bus = device.cast::<Device>().unwrap().parent_bus().unwrap();
        assert_eq!(bus.cast::<Bus>().unwrap().name(), expected);
    }
    assert_eq!(error("driver=small-node"), "No 'small-bus' bus found for device 'small-node'");
    assert_eq!(error("driver=small-node,bus=room 0"), "Bus 'room 0' is full");
}

#[test]
fn a_running_machine_takes_devices_only_on_buses_that_can() {
    let bus = bus("Test-Bus", "hot");
    let add = || qdev_device_add(&options("driver=node,bus=hot,label=x"), true);
    assert_eq!(add().err().unwrap().to_string(), "Bus 'hot' does not support hotplugging");
    bus.cast::<Bus>().unwrap().set_hotplug_handler(std::sync::Arc::new(Warden));
    assert!(add().unwrap().cast::<Device>().unwrap().is_hotplugged());
}

#[test]
fn options_are_sorted_and_checked() {
    let list = |pairs: &[(&str, OptionValue)]| {
        DeviceOptions::from_list(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())))
    };
    let json = |value: i32| OptionValue::Json(value.into());
    let text = |text: &str| OptionValue::Text(text.to_owned());
    assert_eq!(list(&[("id", text("x"))]).unwrap_err().to_string(), "Parameter 'driver' is missing");
    let wrong = list(&[("driver", text("x")), ("bus", json(3))]).unwrap_err().to_string();
    assert_eq!(wrong, "Invalid parameter type for 'bus', expected: string");
    let sorted = list(&[("b", json(1)), ("driver", text("d")), ("a", text("2")), ("id", text("i"))]).unwrap();
    assert_eq!((sorted.driver.as_str(), sorted.id.as_deref(), sorted.bus), ("d", Some("i"), None));
    assert_eq!(sorted.properties.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn a_device_that_is_not_there_is_not_found() {
    init();
    let error = find_device("nobody").err().unwrap();
    assert_eq!(
        (error.to_string().as_str(), error.class),
        ("Device 'nobody' not found", ErrorClass::DeviceNotFound)
    );
    assert_eq!(
        find_device("/machine/peripheral").err().unwrap().to_string(),
        "/machine/peripheral is not a hotpluggable device"
    );
}

#[test]
fn the_list_of_devices_is_by_category_and_leaves_out_what_only_boards_make() {
    init();
    let help = device_help();
    let input = "Input devices:\nname \"node\", bus Test-Bus, desc \"Node of a tree\"\n\n";
    assert!(help.starts_with(input), "{help}");
    assert!(help.contains("\nUncategorized devices:\nname \"small-node\", bus small-bus\n"), "{help}");
    assert!(!help.contains("test-controller") && !help.contains("abstract-node"), "{help}");
    let list = device_list(true);
    let controller = list.lines().find(|line| line.starts_with("name \"test-controller\""));
    assert!(controller.is_some_and(|line| line.ends_with(", no-user")), "{list}");
}

#[test]
fn the_help_of_one_device_lists_what_can_be_set() {
    init();
    let expected = "node options:\n  \
        fails=<bool>           - Whether realize fails (default: false)\n  \
        label=<str>            - What the log calls it\n  \
        provides=<str>         - The name of a bus of its own\n  \
        volume=<uint8>         - Can be changed at any time (default: 5)\n";
    assert_eq!(device_properties_help("node").unwrap(), expected);
    // Also of what only boards make.
    let help = device_properties_help("test-controller").unwrap();
    assert_eq!(help, "test-controller options:\n  iobase=<uint32>        - Base port (default: 1016)\n");
    let error = |driver| device_properties_help(driver).unwrap_err().to_string();
    assert_eq!(error("nosuch"), "Device 'nosuch' not found");
    assert_eq!(error("abstract-node"), "Parameter 'typename' expects a non-abstract device type");
}
