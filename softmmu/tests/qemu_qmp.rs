//! PyPI's `qemu.qmp`, the client of QEMU's own tools.

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::daemon::wait_for_listener;
use common::{Running, run, softmmu};

/// The Python that `cargo xtask test` put into its cache.
fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    let python = cache.unwrap_or_else(home).join("softmmu/python/bin/python");
    assert!(python.exists(), "{} is missing: cargo xtask test makes it", python.display());
    python
}

#[test]
fn a_session() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let socket = folder.path().join("qmp");
    let qmp = format!("unix:{},server=on,wait=off", socket.display());
    let mut command = softmmu(["-nodefaults", "-display", "none", "-S", "-m", "64", "-qmp", &qmp]);
    let program = Running::start(command.stdin(Stdio::null()));
    wait_for_listener(&socket);
    let mut client = Command::new(python());
    client.arg("-c").arg(include_str!("qemu_qmp.py")).arg(&socket);
    let client = run(&mut client);
    assert_eq!((client.status, client.stdout.as_str()), (Some(0), "done\n"), "{}", client.stderr);
    let ended = program.wait();
    assert_eq!((ended.status, ended.complaints()), (Some(0), vec![]));
}
