//! Where a board's devices are in the composition tree. A program of its own: places are numbered.

mod common;

use hw_core::machine::set_current_machine;
use hw_core::{qdev_create, qdev_unparent};

#[test]
fn a_boards_devices_are_numbered_below_unattached() {
    common::init();
    let machine = qom::object_new("none-machine").unwrap();
    set_current_machine(&machine).unwrap();
    assert_eq!(machine.canonical_path().unwrap(), "/machine");
    let path = |device: &std::sync::Arc<dyn qom::Object>| device.canonical_path().unwrap();
    let first = qdev_create("node", None, &[]).unwrap();
    let second = qdev_create("node", None, &[("label", "x".into())]).unwrap();
    assert_eq!(path(&first), "/machine/unattached/device[0]");
    assert_eq!(path(&second), "/machine/unattached/device[1]");
    qdev_unparent(&first);
    assert_eq!(path(&qdev_create("node", None, &[]).unwrap()), "/machine/unattached/device[0]");
    assert!(set_current_machine(&machine).is_err());
}
