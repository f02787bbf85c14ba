//! Which slot and function a device gets, and why it does not.

mod common;

use common::Setup;
use hw_core::{Device, qdev_realize};
use hw_pci::spec::{HEADER_MULTI_FUNCTION, HEADER_TYPE};

fn error(setup: &Setup, properties: &[(&str, &str)]) -> String {
    setup.add(properties).err().expect("refused").to_string()
}

#[test]
fn a_device_without_a_place_gets_the_first_free_slot() {
    let setup = Setup::new();
    setup.at(0);
    setup.at(2);
    let place = || setup.add(&[]).unwrap().property_get("addr").unwrap();
    assert_eq!((place(), place()), (0x08.into(), 0x18.into()));
}

#[test]
fn a_place_is_written_as_slot_and_function() {
    let setup = Setup::new();
    let device = setup.prepare(&[]);
    assert_eq!(device.property_get("addr").unwrap(), -1);
    for (text, place) in [("6", 0x30), ("06.0", 0x30), ("0x1f.7", 0xff), ("a.2", 0x52)] {
        device.property_set_str("addr", text).unwrap();
        assert_eq!(device.property_get("addr").unwrap(), place, "{text}");
    }
    device.property_set_value("addr", 0x52).unwrap();
    assert_eq!(device.property_get("addr").unwrap(), 0x52);
    for text in ["3.8", "20", "x", "", "1.2.3"] {
        assert!(device.property_set_str("addr", text).is_err(), "{text}");
    }
    assert!(device.property_set_value("addr", 256).is_err());
}

#[test]
fn a_place_is_taken_once() {
    let setup = Setup::new();
    let named = setup.prepare(&[("addr", "3")]);
    named.cast::<Device>().unwrap().set_id(Some("net0")).unwrap();
    qdev_realize(&named, Some(&setup.bus)).unwrap();
    setup.at(4);
    let text = "function 0 not available for test-pci, in use by test-pci";
    assert_eq!(error(&setup, &[("addr", "3")]), format!("PCI: slot 3 {text},id=net0"));
    assert_eq!(error(&setup, &[("addr", "4")]), format!("PCI: slot 4 {text},id=(null)"));
}

#[test]
fn there_are_32_slots() {
    let setup = Setup::new();
    (0..32).for_each(|slot| drop(setup.at(slot)));
    let expected = "PCI: no slot/function available for test-pci, all in use or reserved";
    assert_eq!(error(&setup, &[]), expected);
}

#[test]
fn function_0_says_whether_there_are_others() {
    let setup = Setup::new();
    let first = setup.add(&[("addr", "3"), ("multifunction", "on")]).unwrap();
    setup.add(&[("addr", "3.1")]).unwrap();
    assert_eq!(setup.pci().config_read(0x18, HEADER_TYPE, 1), u32::from(HEADER_MULTI_FUNCTION));
    assert_eq!(first.property_get("multifunction").unwrap(), true);
    setup.at(4);
    let expected = "PCI: single function device can't be populated in function 4.1";
    assert_eq!(error(&setup, &[("addr", "4.1")]), expected);
    setup.add(&[("addr", "5.2")]).unwrap();
    let expected = "PCI: 5.0 indicates single function, but 5.2 is already populated.";
    assert_eq!(error(&setup, &[("addr", "5")]), expected);
    setup.add(&[("addr", "5"), ("multifunction", "on")]).unwrap();
}

#[test]
fn a_device_that_fails_gives_its_place_back() {
    let setup = Setup::new();
    assert_eq!(error(&setup, &[("addr", "3"), ("fails", "on")]), "does not want to");
    setup.at(3);
}
