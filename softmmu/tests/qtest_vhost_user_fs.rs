//! `vhost-user-fs-pci` over qtest, with Debian's `virtiofsd` as the program that shares the folder.

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/relay.rs"]
mod relay;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use daemon::Daemon;
use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::{VERSION_1, VirtQueue, VirtioPci};
use tempfile::TempDir;

const FS: PciFunction = PciFunction(4 << 3);
const HIGH_QUEUE: u64 = 0x10_0000;
const QUEUE: u64 = 0x11_0000;
const REQUEST: u64 = 0x20_0000;
const REPLY: u64 = 0x21_0000;

/// FUSE's requests and the length of their headers (Linux `linux/fuse.h`).
const LOOKUP: u32 = 1;
const INIT: u32 = 26;
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
/// Where a reply to a look-up has the file's size.
const SIZE_AT: usize = OUT_HEADER + 48;

/// The host's number.
const ENOENT: i32 = 2;

fn message(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0; IN_HEADER];
    message[..4].copy_from_slice(&((IN_HEADER + body.len()) as u32).to_le_bytes());
    message[4..8].copy_from_slice(&opcode.to_le_bytes());
    message[8..16].copy_from_slice(&u64::from(opcode).to_le_bytes());
    message[16..24].copy_from_slice(&node.to_le_bytes());
    message.extend(body);
    message
}

/// Sends a message; the error and the whole reply.
fn ask(vm: &mut QTest, queue: &mut VirtQueue, message: &[u8]) -> (i32, Vec<u8>) {
    vm.memwrite(REQUEST, message);
    queue.add(vm, &[(REQUEST, message.len() as u32, false), (REPLY, 4096, true)]);
    queue.kick(vm);
    queue.wait_used(vm);
    let reply = vm.memread(REPLY, 4096);
    let error: [u8; 4] = reply[4..8].try_into().expect("4 bytes");
    (i32::from_le_bytes(error), reply)
}

/// A folder with `a-file` in it, and the program that shares it at `socket`.
fn shared(folder: &TempDir) -> (Daemon, PathBuf) {
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).expect("a folder");
    std::fs::write(shared.join("a-file"), "12345").expect("a file");
    let socket = folder.path().join("socket");
    let mut command = Command::new("/usr/lib/qemu/virtiofsd");
    command
        .arg(format!("--socket-path={}", socket.display()))
        .args(["-o", &format!("source={}", shared.display()), "-o", "sandbox=chroot"])
        .stderr(Stdio::null());
    (Daemon::start(&mut command, "qemu-system-common", &socket), socket)
}

fn machine(socket: &str) -> QTest {
    QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-m", "128M", "-chardev", &format!("socket,id=c,path={socket}")])
        .args(["-device", "vhost-user-fs-pci,addr=4,chardev=c,tag=the-tag"])
        .args(["-object", "memory-backend-memfd,id=m,size=128M,share=on", "-machine", "memory-backend=m"])
        .start()
}

#[test]
fn a_file_of_the_folder_is_found_and_another_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_daemon, socket) = shared(&folder);
    let mut vm = machine(&socket.display().to_string());
    let device = VirtioPci::open(&mut vm, FS);
    let config = vm.memread(device.device, 40);
    assert_eq!((&config[..8], &config[36..]), (&b"the-tag\0"[..], &[1, 0, 0, 0][..]));
    assert!(device.negotiate(&mut vm, VERSION_1));
    device.queue(&mut vm, 0, HIGH_QUEUE);
    let mut queue = device.queue(&mut vm, 1, QUEUE);
    device.driver_ok(&mut vm);
    // Version 7.31, no read-ahead, no wishes.
    let init = [7u32, 31, 0, 0].map(u32::to_le_bytes).concat();
    assert_eq!(ask(&mut vm, &mut queue, &message(INIT, 0, &init)).0, 0);
    let (error, reply) = ask(&mut vm, &mut queue, &message(LOOKUP, 1, b"a-file\0"));
    assert_eq!((error, &reply[SIZE_AT..SIZE_AT + 8]), (0, &5u64.to_le_bytes()[..]));
    assert_eq!(ask(&mut vm, &mut queue, &message(LOOKUP, 1, b"no-file\0")).0, -ENOENT);
}

#[test]
fn a_program_that_connects_before_the_machine_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_daemon, socket) = shared(&folder);
    let ours = folder.path().join("ours");
    relay::relay(ours.clone(), socket);
    let mut vm = machine(&format!("{},server=on", ours.display()));
    let device = VirtioPci::open(&mut vm, FS);
    assert_eq!(vm.memread(device.device, 8), b"the-tag\0");
}

#[test]
fn mistakes_are_told_in_qemus_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = format!("socket,id=s,server=on,wait=off,path={}", folder.path().join("s").display());
    let refused = |more: &str, what: &str| {
        let device = format!("vhost-user-fs-pci{more}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmmu"));
        command.args(["-nodefaults", "-display", "none", "-accel", "qtest", "-chardev", "null,id=c"]);
        command.args(["-chardev", &server]);
        command.args(["-device", &device]);
        let output = command.stdin(Stdio::null()).output().expect("the program");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = format!("softmmu: -device {device}: {what}");
        assert_eq!((output.status.code(), told.trim_end()), (Some(1), expected.as_str()));
    };
    refused("", "missing chardev");
    refused(",chardev=c", "missing tag property");
    refused(",chardev=c,tag=", "tag property cannot be empty");
    refused(&format!(",chardev=c,tag={}", "x".repeat(37)), "tag property must be 36 bytes or less");
    let none = "num-request-queues property must be larger than 0";
    refused(",chardev=c,tag=t,num-request-queues=0", none);
    refused(",chardev=c,tag=t,queue-size=100", "queue-size property must be a power of 2");
    refused(",chardev=c,tag=t,queue-size=2048", "queue-size property must be 1024 or smaller");
    refused(",chardev=c,tag=t", "chardev 'c' is not a unix socket");
    // Nor does QEMU wait for this device's program.
    refused(",chardev=s,tag=t", "chardev 's' is not connected");
}
