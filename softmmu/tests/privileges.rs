//! `-runas` and `-chroot`: what the program gives up once its machine is made.

mod common;

use common::{run, softmmu};
use libqtest::QTest;

const BASE: [&str; 5] = ["-nodefaults", "-display", "none", "-accel", "qtest"];

fn refused(arguments: &[&str], why: &str) {
    let ended = run(softmmu(BASE).args(arguments));
    assert_eq!((ended.status, ended.complaints()), (Some(1), vec![why]), "{arguments:?}");
}

#[test]
fn users_and_folders_that_there_are_not_are_refused() {
    let whom = "no-such-user";
    refused(
        &["-runas", whom],
        &format!("softmmu: -runas {whom}: User \"{whom}\" doesn't exist (and is not <uid>:<gid>)"),
    );
    refused(&["-chroot", "/no/such/folder"], "softmmu: chroot failed");
}

/// The test is worth something as root only: who else has nothing to give up is told so.
#[test]
fn the_machine_runs_without_what_it_needed_to_start() {
    if !rustix::process::getuid().is_root() {
        return refused(&["-runas", "4000:4001"], "softmmu: Failed to setgid(4001)");
    }
    refused(&["-runas", "0:0"], "softmmu: Dropping privileges failed");
    let folder = tempfile::tempdir().expect("a folder");
    let (pid, root) = (folder.path().join("pid"), folder.path().join("root"));
    std::fs::create_dir(&root).expect("a folder");
    let (pid, root) = (pid.display().to_string(), root.display().to_string());
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-chroot", &root, "-runas", "4000:4001", "-pidfile", &pid])
        // All threads are that user's.
        .args(["-object", "iothread,id=t"])
        .with_qmp()
        .start();
    let _ = vm.qmp(r#"{"execute": "query-status"}"#);
    let number = std::fs::read_to_string(&pid).expect("the pid file");
    let process = format!("/proc/{}", number.trim());
    assert_eq!(std::fs::read_link(format!("{process}/root")).expect("its root"), std::path::Path::new(&root));
    let mut checked = 0;
    for thread in std::fs::read_dir(format!("{process}/task")).expect("threads") {
        // One that ends meanwhile has none.
        let Ok(status) = std::fs::read_to_string(thread.expect("a thread").path().join("status")) else {
            continue;
        };
        checked += 1;
        for line in ["Uid:\t4000\t4000\t4000\t4000", "Gid:\t4001\t4001\t4001\t4001", "Groups:\t4001 "] {
            assert!(status.lines().any(|other| other == line), "{line}: {status}");
        }
    }
    assert!(checked > 2, "the threads of CPU, I/O and main loop");
    assert!(vm.quit().success());
}

#[test]
fn a_daemon_gives_them_up_before_it_says_that_it_is_ready() {
    let ended = run(softmmu(BASE).args(["-daemonize", "-chroot", "/no/such/folder"]));
    assert_eq!((ended.status, ended.complaints()), (Some(1), vec!["softmmu: chroot failed"]));
}
