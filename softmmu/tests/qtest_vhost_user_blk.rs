//! `vhost-user-blk-pci` over qtest, with Debian's `qemu-storage-daemon` as the program that serves it.

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/relay.rs"]
mod relay;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use daemon::{Daemon, wait_for_listener};
use disk::*;
use libqtest::QTest;
use serde_json::json;
use tempfile::TempDir;

/// Serves an image of 1 MiB at a socket.
fn daemon(folder: &TempDir, queues: u32) -> (Daemon, String) {
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (image, socket) = (path("image"), path("socket"));
    if !Path::new(&image).exists() {
        std::fs::write(&image, vec![0; 1 << 20]).expect("the image");
    }
    // One that is gone may have left it.
    let _ = std::fs::remove_file(&socket);
    let node = format!("driver=file,node-name=f,filename={image},discard=unmap");
    let export = "type=vhost-user-blk,id=e,node-name=f,writable=on,addr.type=unix";
    let export = format!("{export},addr.path={socket},num-queues={queues}");
    let mut command = Command::new("qemu-storage-daemon");
    command.args(["--blockdev", &node, "--export", &export]);
    (Daemon::start(&mut command, "qemu-system-common", Path::new(&socket)), socket)
}

const SHARED: [&str; 4] =
    ["-object", "memory-backend-memfd,id=m,size=128M,share=on", "-machine", "memory-backend=m"];

fn machine(socket: &str, device: &str, memory: &[&str]) -> Disk {
    machine_with(&format!("path={socket},reconnect=1"), device, memory)
}

fn machine_with(socket: &str, device: &str, memory: &[&str]) -> Disk {
    let chardev = format!("socket,id=c,{socket}");
    let device = format!("vhost-user-blk-pci,addr=4,chardev=c{device}");
    let vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-m", "128M", "-chardev", &chardev, "-device", &device])
        .args(memory)
        .with_qmp()
        .start();
    Disk::driven(vm)
}

#[test]
fn what_is_written_is_in_the_programs_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_daemon, socket) = daemon(&folder, 1);
    let mut disk = machine(&socket, "", &SHARED);
    assert_eq!(disk.vm.readq(disk.device.device), 2048, "sectors");
    let data: Vec<u8> = (0..8192u32).map(|n| (n / 3) as u8).collect();
    assert_eq!(disk.write(100, &data), 0);
    assert_eq!(disk.read(100, 8192), (0, data.clone()));
    assert_eq!(disk.read(99, 512), (0, vec![0; 512]));
    assert_ne!(disk.read(2048, 512).0, 0, "that is beyond the end");
    assert_eq!(disk.range(WRITE_ZEROES, 101, 1, 0), 0);
    assert_eq!(disk.flush(), 0);
    let image = std::fs::read(folder.path().join("image")).expect("the image");
    assert_eq!(image[51200..51712], data[..512]);
    assert_eq!((&image[51712..52224], &image[52224..59392]), (&[0; 512][..], &data[1024..]));
}

#[test]
fn it_stops_with_the_machine_and_begins_anew_with_its_driver() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_daemon, socket) = daemon(&folder, 2);
    let mut disk = machine(&socket, ",num-queues=2,id=d", &SHARED);
    assert_eq!(disk.write(0, &[1; 512]), 0);
    let place = json!({ "path": "/machine/peripheral/d/virtio-backend", "queue": 0 });
    let ring = disk.qmp("x-query-virtio-vhost-queue-status", place.clone());
    let ours = disk.qmp("x-query-virtio-queue-status", place);
    assert_eq!(ring["name"], "vhost-user-blk");
    for (theirs, member) in [("desc-phys", "vring-desc"), ("avail-phys", "vring-avail"), ("num", "vring-num")]
    {
        assert_eq!(ring[theirs], ours[member], "{ring}");
    }
    assert_eq!(ring["desc-size"].as_u64(), ring["num"].as_u64().map(|entries| entries * 16));
    let other = json!({ "path": "/machine/peripheral/d/virtio-backend", "queue": 9 });
    let request = json!({ "execute": "x-query-virtio-vhost-queue-status", "arguments": other });
    let answer = disk.vm.qmp_raw(&request.to_string());
    assert_eq!(answer["error"]["desc"], "Invalid vhost virtqueue number 9");
    disk.qmp("stop", json!({}));
    disk.begin(IN, 0, &[], &[(DATA, 512, true)]);
    assert_eq!(disk.queue.used(&mut disk.vm), None);
    disk.qmp("cont", json!({}));
    assert_eq!((disk.end(), disk.vm.memread(DATA, 512)), (0, vec![1; 512]));
    assert_eq!(disk.write(1, &[2; 512]), 0);
    disk.device.set_status(&mut disk.vm, 0);
    let mut again = Disk::driven(disk.vm);
    assert_eq!(again.read(1, 512), (0, vec![2; 512]));
}

#[test]
fn a_program_that_goes_away_takes_nobody_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let (daemon, socket) = daemon(&folder, 1);
    let mut disk = machine(&socket, "", &SHARED);
    assert_eq!(disk.write(0, &[1; 512]), 0);
    drop(daemon);
    disk.begin(IN, 0, &[], &[(DATA, 512, true)]);
    assert_eq!(disk.qmp("query-status", json!({}))["running"], true);
    disk.device.set_status(&mut disk.vm, 0);
    assert!(disk.vm.quit().success());
}

#[test]
fn a_program_that_comes_again_goes_on_with_what_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, socket) = daemon(&folder, 1);
    let mut disk = machine(&socket, "", &SHARED);
    assert_eq!(disk.write(0, &[1; 512]), 0);
    drop(first);
    disk.begin(IN, 0, &[], &[(DATA, 512, true)]);
    assert_eq!(disk.qmp("query-status", json!({}))["running"], true);
    let _second = daemon(&folder, 1);
    assert_eq!((disk.end(), disk.vm.memread(DATA, 512)), (0, vec![1; 512]));
    assert_eq!(disk.write(1, &[2; 512]), 0);
    assert_eq!(disk.read(1, 512), (0, vec![2; 512]));
    assert!(disk.vm.quit().success());
}

#[test]
fn a_program_that_comes_late_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_daemon, theirs) = daemon(&folder, 1);
    for (name, options) in [("a", ",wait=off"), ("b", ""), ("c", ",wait=on")] {
        let ours = folder.path().join(name);
        relay::relay(ours.clone(), theirs.clone().into());
        let mut disk = machine_with(&format!("path={},server=on{options}", ours.display()), "", &SHARED);
        assert_eq!(disk.write(0, &[1; 512]), 0);
        assert_eq!(disk.read(0, 512), (0, vec![1; 512]));
    }
}

#[test]
fn a_program_that_goes_at_once_is_followed_by_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_daemon, theirs) = daemon(&folder, 1);
    let ours = folder.path().join("ours");
    let to = ours.clone();
    thread::spawn(move || {
        wait_for_listener(&to);
        (0..3).for_each(|_| drop(UnixStream::connect(&to).expect("it listens")));
        relay::relay(to, theirs.into());
    });
    let mut disk = machine_with(&format!("path={},server=on,wait=off", ours.display()), "", &SHARED);
    assert_eq!(disk.write(0, &[1; 512]), 0);
}

#[test]
fn a_client_that_connects_again_does_so_until_there_is_a_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket").to_str().expect("UTF-8").to_owned();
    thread::scope(|scope| {
        // Whichever is first.
        let late = scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            daemon(&folder, 1)
        });
        let mut disk = machine(&socket, "", &SHARED);
        assert_eq!(disk.write(0, &[1; 512]), 0);
        drop(late.join());
    });
}

#[test]
fn mistakes_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_daemon, socket) = daemon(&folder, 1);
    let chardev = format!("socket,id=c,path={socket}");
    let refused = |arguments: &[&str], what: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmmu"));
        command.args(["-nodefaults", "-display", "none", "-accel", "qtest", "-chardev"]).args(arguments);
        let output = command.stdin(Stdio::null()).output().expect("the program");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let retries = told.lines().filter(|line| line.contains("Reconnecting after error: "));
        assert_eq!(retries.count(), if what.contains("maximum") { 3 } else { 0 });
        let last = told.lines().last().unwrap_or_default();
        assert_eq!((output.status.code(), last), (Some(1), format!("softmmu: {what}").as_str()));
    };
    let device = |more: &str| format!("vhost-user-blk-pci{more}");
    let none = device("");
    refused(&["null,id=c", "-device", &none], &format!("-device {none}: chardev is mandatory"));
    let null = device(",chardev=c");
    refused(&["null,id=c", "-device", &null], &format!("-device {null}: chardev 'c' is not a unix socket"));
    let telnet = "-device vhost-user-blk-pci,chardev=c: 'telnet' option is incompatible with waiting for connection completion";
    let socket =
        format!("socket,id=c,server=on,wait=off,telnet=on,path={}", folder.path().join("t").display());
    refused(&[&socket, "-device", &null], telnet);
    let many = device(",chardev=c,num-queues=2");
    let what = "vhost-user-blk: The maximum number of queues supported by the backend is 1";
    refused(&[&chardev, "-device", &many], &format!("-device {many}: {what}"));
}
