//! Debian's libvirt drives the program: it finds out what it can do, starts a domain, and changes it while it runs.
//!
//! The driver of QEMU runs within `virsh` (`qemu:///embed`), its state in the test's own folder.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Ended, guest, run};
use pack::Format;

/// Runs commands of virsh's with a driver whose files are in the folder. For root the driver wants a user of its
/// own, which the package of its daemon would make: it sees one.
const VIRSH: &str = r#"set -e
if [ "$(id -u)" = 0 ]; then
    for file in passwd group; do cp /etc/$file "$1/$file"; done
    echo 'libvirt-qemu:x:64055:64055::/:/bin/false' >> "$1/passwd"
    echo 'libvirt-qemu:x:64055:' >> "$1/group"
    for file in passwd group; do mount --bind "$1/$file" /etc/$file; done
fi
exec virsh -q -c "qemu:///embed?root=$1" "$2""#;

/// The driver's settings: the program runs as who runs the test, is not confined, and no daemon keeps its log.
const SETTINGS: &str = r#"user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
"#;

fn virsh(folder: &Path, commands: &str) -> Ended {
    let is_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if is_root { "unshare" } else { "sh" });
    if is_root {
        command.args(["-m", "sh"]);
    }
    run(command.args(["-c", VIRSH, "sh"]).arg(folder).arg(commands))
}

/// A folder with the domain's files.
fn domain() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_softmmu"), path("qemu-system-x86_64")).expect("a link");
    fs::copy(guest("debug", Format::Pvh), path("kernel")).expect("a kernel");
    fs::write(path("cd"), [0; 4096]).expect("a CD");
    fs::write(path("ide"), [0; 4096]).expect("a disk");
    fs::create_dir(path("etc")).expect("a folder");
    fs::write(path("etc/qemu.conf"), SETTINGS).expect("the settings");
    let image = path("disk");
    let created = run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(image).arg("1M"));
    assert_eq!(created.status, Some(0), "{}", created.stderr);
    let domain = include_str!("libvirt.xml").replace("FOLDER", &folder.path().display().to_string());
    fs::write(path("domain.xml"), domain).expect("the domain");
    let dimm = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>";
    fs::write(path("dimm.xml"), dimm).expect("a DIMM");
    let nic = "<interface type='user'><mac address='52:54:00:11:22:34'/><model type='virtio'/></interface>";
    fs::write(path("nic.xml"), nic).expect("a network card");
    folder
}

#[test]
fn a_domain_starts_is_changed_and_ends() {
    let folder = domain();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let commands = [
        format!("define {}", file("domain.xml")),
        "start test".to_owned(),
        "domstate test --reason".to_owned(),
        "suspend test".to_owned(),
        "domstate test --reason".to_owned(),
        "resume test".to_owned(),
        "blockresize test vda 2M".to_owned(),
        "domblkinfo test vda".to_owned(),
        "change-media test sda --eject".to_owned(),
        "setvcpus test 2 --live".to_owned(),
        format!("attach-device test {} --live", file("dimm.xml")),
        format!("attach-device test {} --live", file("nic.xml")),
        "domif-setlink test 52:54:00:11:22:34 down".to_owned(),
        "iothreadadd test 2".to_owned(),
        "send-key test KEY_A".to_owned(),
        "reset test".to_owned(),
        format!("dump test {} --memory-only", file("core")),
        "qemu-monitor-command test --hmp 'info memory-devices'".to_owned(),
        "qemu-monitor-command test --hmp 'info network'".to_owned(),
        "qemu-monitor-command test --hmp 'info iothreads'".to_owned(),
        "destroy test".to_owned(),
        "domstate test --reason".to_owned(),
    ];
    let ended = virsh(folder.path(), &commands.join("; "));
    let text = &ended.stdout;
    let errors: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((ended.status, errors), (Some(0), vec![]), "{text}");
    for part in [
        "running (booted)",
        "paused (user)",
        "Capacity:       2097152",
        "Successfully ejected media.",
        "memdev: /objects/memdimm0",
        "hostnet1: index=0,type=user,net=10.0.2.0,restrict=off",
        "iothread2:",
        "shut off (destroyed)",
    ] {
        assert!(text.contains(part), "{part:?} in {text}{}", ended.stderr);
    }
    assert_eq!(fs::read(file("core")).expect("a dump")[..4], *b"\x7fELF");
}
