//! The objects of a machine that have a `state`, by QMP.

use libqtest::QTest;
use serde_json::{Value, json};

/// Carries out a QMP command and gives what it returns.
pub fn command(vm: &mut QTest, name: &str, arguments: Value) -> Value {
    vm.qmp(&json!({"execute": name, "arguments": arguments}).to_string())
}

/// Every path below `path` at which there is an object with a state.
pub fn objects(vm: &mut QTest, path: &str, found: &mut Vec<String>) {
    let list = command(vm, "qom-list", json!({"path": path}));
    for member in list.as_array().expect("a list") {
        let name = member["name"].as_str().unwrap_or_default();
        match member["type"].as_str() {
            Some("DeviceState") => found.push(path.to_owned()),
            Some(kind) if kind.starts_with("child<") => objects(vm, &format!("{path}/{name}"), found),
            _ => {}
        }
    }
}
