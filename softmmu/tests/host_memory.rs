//! What users say of the host's memory, and of messages, as libvirt does.

mod common;

use common::{run, softmmu};
use libqtest::QTest;
use serde_json::json;

#[test]
fn a_backend_tells_what_it_was_asked_for() {
    let object = r#"{"qom-type": "memory-backend-memfd", "id": "m", "size": 4194304, "merge": false, "dump": false,
        "prealloc": true, "prealloc-threads": 2, "policy": "bind", "host-nodes": [0],
        "x-use-canonical-path-for-ramblock-id": false}"#;
    let program = env!("CARGO_BIN_EXE_softmmu");
    let arguments =
        ["-machine", "pc,usb=off,dump-guest-core=off,mem-merge=off", "-m", "8M", "-object", object];
    let mut vm = QTest::builder(program).args(["-nodefaults"]).args(arguments).with_qmp().start();
    let told = vm.qmp(r#"{"execute": "query-memdev"}"#);
    let of = |id: &str| told.as_array().unwrap().iter().find(|memdev| memdev["id"] == id).unwrap().clone();
    assert_eq!(
        of("m"),
        json!({"id": "m", "size": 4194304, "merge": false, "dump": false, "prealloc": true, "share": true,
            "reserve": true, "host-nodes": [0], "policy": "bind"})
    );
    // The machine's own has what the machine says.
    let own = of("pc.ram");
    assert_eq!(
        (&own["merge"], &own["dump"], &own["policy"]),
        (&json!(false), &json!(false), &json!("default"))
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let objects = [
        ("policy=bind", "host-nodes must be set for policy bind"),
        (
            "host-nodes=0",
            "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default",
        ),
        ("host-nodes=128,policy=bind", "Invalid host-nodes value: 128"),
        ("policy=some", "Parameter 'policy' does not accept value 'some'"),
        ("prealloc=on,reserve=off", "'prealloc=on' and 'reserve=off' are incompatible"),
        ("prealloc-threads=0", "property 'prealloc-threads' of memory-backend-ram doesn't take value '0'"),
    ];
    for (what, why) in objects {
        let object = format!("memory-backend-ram,id=m,size=1M,{what}");
        let ended = run(softmmu(["-machine", "none", "-display", "none"]).args(["-object", &object]));
        assert_eq!(ended.status, Some(1), "{what}");
        assert!(ended.stderr.contains(why), "{what}: {}", ended.stderr);
    }
    for (machine, why) in [
        ("pc,usb=on", "usb=on is not supported yet"),
        ("pc,max-ram-below-4g=5G", "expects size less than or equal to 4G"),
    ] {
        let ended = run(softmmu(["-accel", "qtest", "-display", "none"]).args(["-machine", machine]));
        assert_eq!(ended.status, Some(1), "{machine}");
        assert!(ended.stderr.contains(why), "{machine}: {}", ended.stderr);
    }
}

#[test]
fn messages_begin_with_the_time_and_the_guests_name() {
    let options = ["-msg", "timestamp=on,guest-name=on", "-name", "guest=one", "-device", "nothing"];
    let ended = run(softmmu(["-accel", "qtest", "-display", "none"]).args(options));
    let line = ended.stderr.lines().next_back().unwrap_or_default();
    let (time, text) = line.split_once(' ').unwrap_or_default();
    assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{line}");
    assert_eq!(text, "one softmmu: -device nothing: 'nothing' is not a valid device model name");
}
