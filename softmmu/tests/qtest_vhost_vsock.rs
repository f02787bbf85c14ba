//! `vhost-vsock-pci` as a user sees it; what it does for a guest shows the nested scenario `vsock`.

use std::path::Path;

use libqtest::QTest;
use serde_json::{Value, json};

fn pc() -> QTest {
    QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(["-nodefaults"]).with_qmp().start()
}

fn command(vm: &mut QTest, name: &str, arguments: Value) -> Value {
    vm.qmp_raw(&json!({"execute": name, "arguments": arguments}).to_string())
}

/// What the user is told who plugs the device with these properties.
fn refused(vm: &mut QTest, driver: &str, properties: Value) -> String {
    let mut arguments = json!({"driver": driver});
    arguments.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    command(vm, "device_add", arguments)["error"]["desc"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_guest_needs_an_address_and_the_host_the_kernels_part() {
    let mut vm = pc();
    let driver = "vhost-vsock-pci";
    for cid in [0, 2] {
        let text = refused(&mut vm, driver, json!({"guest-cid": cid}));
        assert_eq!(text, "guest-cid property must be greater than 2");
    }
    let text = refused(&mut vm, driver, json!({"guest-cid": 1u64 << 32}));
    assert_eq!(text, "guest-cid property must be a 32-bit number");
    let text = refused(&mut vm, driver, json!({"guest-cid": 3, "vhostfd": "nothing"}));
    assert_eq!(
        text,
        "vhost-vsock: unable to parse vhostfd: File descriptor named 'nothing' has not been found"
    );
    // The program's standard input is no such device.
    let text = refused(&mut vm, driver, json!({"guest-cid": 3, "vhostfd": "0"}));
    assert_eq!(text, "vhost_set_owner failed: Inappropriate ioctl for device");
    if !Path::new("/dev/vhost-vsock").exists() {
        let text = refused(&mut vm, "vhost-vsock-pci-non-transitional", json!({"guest-cid": 3}));
        assert_eq!(text, "vhost-vsock: failed to open vhost device: No such file or directory");
    }
}

#[test]
fn its_types_and_properties_are_there() {
    let mut vm = pc();
    let text = refused(&mut vm, "vhost-vsock-pci-transitional", json!({"guest-cid": 3}));
    assert_eq!(text, "'vhost-vsock-pci-transitional' is not a valid device model name");
    let found = command(&mut vm, "device-list-properties", json!({"typename": "vhost-vsock-pci"}));
    let default = |name: &str| {
        let all = found["return"].as_array().unwrap();
        let property = all.iter().find(|property| property["name"] == name);
        property.unwrap_or_else(|| panic!("no {name}")).get("default-value").cloned().unwrap_or_default()
    };
    assert_eq!((default("vectors"), default("guest-cid")), (json!(3), json!(0)));
    assert_eq!((default("seqpacket"), default("vhostfd")), (json!("auto"), Value::Null));
    assert!(found["return"].as_array().unwrap().iter().all(|property| property["name"] != "ioeventfd"));
}
