//! `-sandbox`: the program works on without the system calls that are taken from it.

use std::fs;

use libqtest::QTest;

#[test]
fn everything_can_be_denied() {
    let folder = tempfile::tempdir().unwrap();
    let pidfile = folder.path().join("pid");
    let sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    let program = env!("CARGO_BIN_EXE_softmmu");
    let pid_option = pidfile.display().to_string();
    let arguments =
        ["-nodefaults", "-sandbox", sandbox, "-pidfile", &pid_option, "-smp", "1,maxcpus=2,sockets=2"];
    let mut vm = QTest::builder(program).args(arguments).with_qmp().start();
    let pid = fs::read_to_string(&pidfile).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    // A filter is at work.
    assert!(status.contains("Seccomp:\t2"), "{status}");
    // Threads can be made.
    vm.qmp(
        r#"{"execute": "device_add", "arguments":
            {"driver": "qemu64-x86_64-cpu", "socket-id": 1, "core-id": 0, "thread-id": 0}}"#,
    );
    assert_eq!(vm.qmp(r#"{"execute": "query-cpus-fast"}"#).as_array().unwrap().len(), 2);
}
