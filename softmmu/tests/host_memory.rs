//! What users say of the host's memory, and of messages, as libvirt does.

mod common;

use common::{run, softmmu};
use libqtest::QTest;
use serde_json::json;
use tempfile::TempDir;

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

/// A file of so many bytes of one value.
fn backing(folder: &TempDir, name: &str, value: u8, size: usize) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, vec![value; size]).expect("a file");
    path.display().to_string()
}

#[test]
fn a_files_properties_are_checked_in_qemus_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = backing(&folder, "f", 1, 4096);
    for (size, more, why) in [
        ("4K", "align=1000", "alignment 0x3e8 must be multiples of page size 0x1000"),
        ("4K", "align=12K", "alignment 0x3000 must be a power of two"),
        ("1M", "share=on", "backing store size 0x1000 does not match 'size' option 0x100000"),
    ] {
        let object = format!("memory-backend-file,id=m,size={size},mem-path={path},{more}");
        let ended = run(softmmu(["-machine", "none", "-display", "none"]).args(["-object", &object]));
        assert_eq!((ended.status, ended.stderr.trim_end()), (Some(1), format!("softmmu: {why}").as_str()));
    }
    let object = format!("memory-backend-file,id=m,size=4K,mem-path={path},readonly=on");
    let machine = ["-accel", "qtest", "-display", "none", "-m", "4K", "-machine", "pc,memory-backend=m"];
    let ended = run(softmmu(machine).args(["-object", &object]));
    let why = "softmmu: memory backend 'm' is read-only, which a machine's memory cannot be";
    assert_eq!((ended.status, ended.stderr.trim_end()), (Some(1), why));
}

#[test]
fn the_guest_does_not_write_a_file_that_is_read_only() {
    const DEVICE_MEMORY: u64 = 1 << 32;
    let folder = tempfile::tempdir().expect("a folder");
    let path = backing(&folder, "f", 0x5a, 128 << 20);
    let backend = |readonly: &str| {
        format!("memory-backend-file,id=m,size=128M,align=1G,share=on,mem-path={path},readonly={readonly}")
    };
    for (readonly, then) in [("on", 0x5a), ("off", 1)] {
        let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
            .args(["-nodefaults", "-m", "128M,slots=1,maxmem=1G", "-object", &backend(readonly)])
            .args(["-device", "pc-dimm,memdev=m"])
            .start();
        assert_eq!(vm.readb(DEVICE_MEMORY + 4096), 0x5a);
        vm.writeb(DEVICE_MEMORY + 4096, 1);
        assert_eq!(vm.readb(DEVICE_MEMORY + 4096), then);
        assert_eq!(std::fs::read(&path).expect("the file")[4096], then);
    }
}

#[test]
fn what_nobody_needs_afterwards_is_thrown_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let [kept, at_end, deleted] = ["a", "b", "c"].map(|name| backing(&folder, name, 7, 8192));
    let object = |id: &str, path: &str, more: &str| {
        format!("memory-backend-file,id={id},size=8K,mem-path={path},share=on{more}")
    };
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-object", &object("a", &kept, "")])
        .args(["-object", &object("b", &at_end, ",discard-data=on")])
        .args(["-object", &object("c", &deleted, ",discard-data=on")])
        .with_qmp()
        .start();
    let _ = vm.qmp(r#"{"execute": "object-del", "arguments": {"id": "c"}}"#);
    let first = |path: &str| std::fs::read(path).expect("the file")[..2].to_vec();
    assert_eq!([first(&kept), first(&at_end), first(&deleted)], [[7, 7], [7, 7], [0, 0]]);
    assert!(vm.quit().success());
    assert_eq!([first(&kept), first(&at_end)], [[7, 7], [0, 0]]);
}

#[test]
fn a_thread_context_gives_its_threads_their_cpus() {
    let memory = "memory-backend-ram,id=m,size=4M,prealloc=on,prealloc-threads=2,prealloc-context=t";
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-object", "thread-context,id=t,cpu-affinity=0", "-object", memory])
        .with_qmp()
        .start();
    let mut get = |name: &str| {
        let arguments = json!({"path": "/objects/t", "property": name});
        vm.qmp(&json!({"execute": "qom-get", "arguments": arguments}).to_string())
    };
    assert_eq!(get("cpu-affinity"), json!([0]));
    let thread = get("thread-id").as_u64().expect("a number");
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).expect("the thread's status");
    assert!(status.contains("Name:\tTC t\n") && status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    for (options, why) in [
        ("cpu-affinity=0,node-affinity=0", "Mixing CPU and node affinity not supported"),
        ("cpu-affinity=1023", "Setting CPU affinity failed: Invalid argument"),
        ("node-affinity=100", "The nodes select no CPUs"),
    ] {
        let object = format!("thread-context,id=t,{options}");
        let ended = run(softmmu(["-machine", "none", "-display", "none"]).args(["-object", &object]));
        assert_eq!(ended.status, Some(1), "{options}");
        assert!(ended.stderr.trim_end().ends_with(why), "{options}: {}", ended.stderr);
    }
}
