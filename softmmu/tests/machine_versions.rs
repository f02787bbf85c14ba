//! Older versions of the machine: what their devices differ in is there, and the user's word counts more.

use std::process::Command;

use hw_core::machine::MachineClass;
use libqtest::QTest;
use serde_json::{Value, json};
// Its types.
use softmmu as _;

const OLDEST: &str = "pc-i440fx-2.5";

fn start(machine: &str, more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    let builder = QTest::builder(program).args(["-M", machine, "-nodefaults"]).args(more);
    builder.with_qmp().start()
}

fn get(vm: &mut QTest, path: &str, property: &str) -> Value {
    vm.qmp(&format!(
        r#"{{"execute": "qom-get", "arguments": {{"path": "{path}", "property": "{property}"}}}}"#
    ))
}

#[test]
fn each_property_that_a_machine_sets_is_there() {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let mut vm = start("none", &[]);
    let oldest = qom::class_by_name(&format!("{OLDEST}-machine")).unwrap();
    let differences = &oldest.get::<MachineClass>().unwrap().compat_props;
    assert!(differences.iter().copied().flatten().count() > 0);
    for (driver, property, _) in differences.iter().copied().flatten() {
        // An abstract type's may be of some of the types below it only.
        let types = format!(
            r#"{{"execute": "qom-list-types", "arguments": {{"implements": "{driver}", "abstract": true}}}}"#
        );
        let types = vm.qmp(&types);
        let there = types.as_array().unwrap().iter().any(|info| {
            let name = &info["name"];
            let list =
                format!(r#"{{"execute": "qom-list-properties", "arguments": {{"typename": {name}}}}}"#);
            vm.qmp(&list).as_array().unwrap().iter().any(|info| info["name"] == *property)
        });
        assert!(there, "{driver}.{property}");
    }
}

#[test]
fn each_machine_starts_with_the_devices_that_differ() {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let versions = qom::class_list("machine", false).into_iter().map(|class| class.name());
    let versions = versions.filter_map(|name| name.strip_suffix("-machine"));
    let versions: Vec<_> = versions.filter(|name| name.starts_with("pc-")).collect();
    assert_eq!(versions.len(), 22);
    let devices = "virtio-blk-pci,drive=d0 virtio-scsi-pci virtio-net-pci virtio-rng-pci virtio-balloon-pci \
                   virtio-serial-pci virtio-mouse-pci virtio-tablet-pci pci-bridge,chassis_nr=1 pvpanic";
    let devices: Vec<_> = devices.split(' ').flat_map(|device| ["-device", device]).collect();
    for version in versions {
        let more = [&["-blockdev", "null-co,node-name=d0"], &devices[..]].concat();
        let mut vm = start(version, &more);
        assert_eq!(get(&mut vm, "/machine", "type"), format!("{version}-machine"));
        assert_eq!(vm.qmp(r#"{"execute": "query-status"}"#)["status"], "running");
        assert!(vm.quit().success(), "{version}");
    }
}

#[test]
fn an_older_machines_devices_are_older() {
    let disk = ["-blockdev", "null-co,node-name=d0", "-device", "virtio-blk-pci,drive=d0,id=d"];
    let mut new = start("pc", &disk);
    let mut old = start(OLDEST, &disk);
    for (property, new_value, old_value) in [
        ("queue-size", json!(256), json!(128)),
        ("report-discard-granularity", json!(true), json!(false)),
        ("discard", json!(true), json!(false)),
        ("page-per-vq", json!(false), json!(true)),
    ] {
        assert_eq!(get(&mut new, "/machine/peripheral/d", property), new_value, "{property}");
        assert_eq!(get(&mut old, "/machine/peripheral/d", property), old_value, "{property}");
    }
}

#[test]
fn the_users_word_counts_more() {
    let disk = ["-blockdev", "null-co,node-name=d0", "-device"];
    let mut vm = start(OLDEST, &[&disk[..], &["virtio-blk-pci,drive=d0,id=d,queue-size=64"]].concat());
    assert_eq!(get(&mut vm, "/machine/peripheral/d", "queue-size"), 64);
    let global = ["-global", "virtio-blk-device.queue-size=32"];
    let mut vm = start(OLDEST, &[&global, &disk[..], &["virtio-blk-pci,drive=d0,id=d"]].concat());
    assert_eq!(get(&mut vm, "/machine/peripheral/d", "queue-size"), 32);
}

#[test]
fn cpus_were_sockets_before_6_2() {
    for (machine, sockets) in [("pc-i440fx-6.2", 1), ("pc-i440fx-6.1", 4), (OLDEST, 4)] {
        let mut vm = start(machine, &["-smp", "4"]);
        let cpus = vm.qmp(r#"{"execute": "query-hotpluggable-cpus"}"#);
        let of = |cpu: &Value| cpu["props"]["socket-id"].as_i64().unwrap();
        let last = cpus.as_array().unwrap().iter().map(of).max().unwrap();
        assert_eq!(last + 1, sockets, "{machine}");
    }
}

#[test]
fn a_nodes_memory_may_be_said_in_bytes_before_5_1() {
    let node = ["-m", "64", "-numa", "node,mem=64"];
    assert!(start("pc-i440fx-5.0", &node).quit().success());
    let program = env!("CARGO_BIN_EXE_softmmu");
    let output = Command::new(program).args(["-accel", "qtest"]).args(node).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("-numa node,mem=64: Parameter -numa node,mem is not supported by this machine type"),
        "{text}"
    );
}

#[test]
fn names_of_cpus_are_aliases_from_4_1() {
    for (machine, is_alias) in [("pc-i440fx-4.1", true), ("pc-i440fx-4.0", false)] {
        let models = start(machine, &[]).qmp(r#"{"execute": "query-cpu-definitions"}"#);
        let aliases = models.as_array().unwrap().iter().filter(|model| model["alias-of"].is_string());
        assert_eq!(aliases.count() > 0, is_alias, "{machine}");
    }
}
