//! Without `/dev/kvm` the user is told what is missing and what to do.

use std::process::Command;

use accel_kvm::KvmState;

/// Set for this program when it runs itself where there is no `/dev/kvm`.
const INSIDE: &str = "TEST_WITHOUT_DEV_KVM";

#[test]
fn the_message_is_qemus_and_the_hint_says_what_to_do() {
    if std::env::var_os(INSIDE).is_none() {
        return run_without_dev_kvm();
    }
    let error = KvmState::open().err().expect("there is no /dev/kvm");
    assert_eq!(error.to_string(), "Could not access KVM kernel module: No such file or directory");
    let hint = error.hint.expect("there is something to do");
    assert!(hint.starts_with("/dev/kvm is missing: load the kernel module"), "{hint}");
}

/// Runs this very test in a mount namespace whose `/dev` is empty.
fn run_without_dev_kvm() {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs none /dev && exec \"$0\" --nocapture")
        .arg(std::env::current_exe().expect("a test knows its own file"))
        .env(INSIDE, "1")
        .output()
        .expect("unshare is part of util-linux");
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
