//! `-global`: who is set, in which order, and what is said about those that did nothing.

mod common;

use hw_core::global::{GlobalProperty, check, register, take_error};
use hw_core::qdev_new;

fn global(driver: &str, property: &str, value: &str, optional: bool) {
    let [driver, property, value] = [driver, property, value].map(str::to_owned);
    register(GlobalProperty { driver, property, value, optional });
}

/// One test: globals are the program's, and are never taken back.
#[test]
fn globals_are_applied_in_order_and_their_mistakes_are_named() {
    common::init();
    global("node", "label", "of the type", false);
    global("device", "volume", "7", true);
    global("test-controller", "iobase", "0x2f8", false);
    global("node", "volume", "8", false);
    global("small-node", "nosuch", "1", true);
    global("nosuch-type", "x", "1", false);
    global("container", "x", "1", false);
    assert_eq!(qdev_new("test-controller").unwrap().property_get("iobase").unwrap(), 0x2f8);
    // A type without an optional property is fine.
    assert!(take_error().is_none());

    let node = qdev_new("node").unwrap();
    assert_eq!(node.property_get("label").unwrap(), "of the type");
    assert_eq!(node.property_get("volume").unwrap(), 8);
    global("device", "volume", "9", true);
    assert_eq!(qdev_new("node").unwrap().property_get("volume").unwrap(), 9);

    global("node", "volume", "300", false);
    qdev_new("node").unwrap();
    let error = take_error().unwrap().to_string();
    assert_eq!(error, "can't apply global node.volume=300: Parameter 'volume' expects uint8_t");
    assert!(take_error().is_none());

    global("small-node", "one", "1", false);
    // Nothing is said of what a user may plug later.
    global("abstract-node", "three", "3", false);
    let expected = [
        "global nosuch-type.x has invalid class name",
        "global container.x has invalid class name",
        "global small-node.one=1 not used",
    ];
    assert_eq!(check(), expected);
    qdev_new("small-node").unwrap();
    let error = take_error().unwrap().to_string();
    assert_eq!(error, "can't apply global small-node.one=1: Property 'small-node.one' not found");
    assert!(!check().iter().any(|warning| warning.contains("small-node")));
}
