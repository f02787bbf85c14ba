//! `-netdev vhost-user` over qtest, with a program that sends the guest back what it sends. QEMU's `qos-test` has more
//! of programs that come, go and fail.

#[path = "common/vhost_user_net.rs"]
mod program;

use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;
use program::Program;
use tempfile::TempDir;

const NET: PciFunction = PciFunction(4 << 3);
const RX: u64 = 0x10_0000;
const TX: u64 = 0x11_0000;
const RX_BUFFER: u64 = 0x20_0000;
const TX_BUFFER: u64 = 0x21_0000;
const CSUM: u64 = 1;
const STATUS: u64 = 1 << 16;
const LINK_UP: u16 = 1;
const SHARED: [&str; 4] =
    ["-object", "memory-backend-memfd,id=m,size=128M,share=on", "-machine", "memory-backend=m"];

/// The machine, its program, and the connection between them.
fn machine(folder: &TempDir) -> (QTest, JoinHandle<()>, UnixStream) {
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let (sender, receiver) = channel();
    let program = thread::spawn(move || {
        let stream = listener.accept().expect("the machine").0;
        sender.send(stream.try_clone().expect("a descriptor")).expect("somebody waits");
        Program::serve(stream);
    });
    let chardev = format!("socket,id=c,path={}", path.display());
    let vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-m", "128M", "-chardev", &chardev, "-netdev", "vhost-user,id=n,chardev=c"])
        .args(["-device", "virtio-net-pci,netdev=n,addr=4"])
        .args(SHARED)
        .with_qmp()
        .start();
    (vm, program, receiver.recv().expect("the connection"))
}

#[test]
fn what_the_guest_sends_the_program_gets_and_sends_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut vm, program, _connection) = machine(&folder);
    let device = VirtioPci::open(&mut vm, NET);
    assert_eq!(device.features(&mut vm) & (CSUM | STATUS), STATUS, "the program does not know checksums");
    assert!(device.negotiate(&mut vm, VERSION_1 | STATUS));
    let mut rx = device.queue(&mut vm, 0, RX);
    let mut tx = device.queue(&mut vm, 1, TX);
    device.driver_ok(&mut vm);
    for round in 0..20u8 {
        let packet: Vec<u8> = (0..100).map(|n| if n < 12 { 0 } else { n ^ round }).collect();
        vm.memwrite(TX_BUFFER, &packet);
        rx.add(&mut vm, &[(RX_BUFFER, 2000, true)]);
        tx.add(&mut vm, &[(TX_BUFFER, 100, false)]);
        tx.kick(&mut vm);
        tx.wait_used(&mut vm);
        assert_eq!(rx.wait_used(&mut vm).1, 100);
        assert_eq!(vm.memread(RX_BUFFER + 12, 88), packet[12..]);
        if round == 10 {
            // The program gives the queues back, and goes on where it was.
            let _ = vm.qmp(r#"{"execute": "stop"}"#);
            let _ = vm.qmp(r#"{"execute": "cont"}"#);
        }
    }
    let network = r#"{"execute": "human-monitor-command", "arguments": {"command-line": "info network"}}"#;
    let told = vm.qmp(network);
    assert!(
        told.as_str().expect("text").contains("n: index=0,type=vhost-user,vhost-user0 to c\r\n"),
        "{told}"
    );
    assert!(vm.quit().success());
    program.join().expect("the program saw nothing wrong");
}

#[test]
fn the_link_is_down_when_the_program_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut vm, _program, connection) = machine(&folder);
    let device = VirtioPci::open(&mut vm, NET);
    assert!(device.negotiate(&mut vm, VERSION_1 | STATUS));
    let _queues = [(0, RX), (1, TX)].map(|(n, memory)| device.queue(&mut vm, n, memory));
    device.driver_ok(&mut vm);
    assert_eq!(vm.readw(device.device + 6) & LINK_UP, LINK_UP);
    connection.shutdown(Shutdown::Both).expect("it is there");
    while vm.readw(device.device + 6) & LINK_UP != 0 {
        let _ = vm.qmp(r#"{"execute": "query-status"}"#);
    }
    assert!(vm.quit().success());
}

#[test]
fn mistakes_are_told_in_qemus_words() {
    let refused = |chardev: &str, more: &str, what: &str| {
        let netdev = format!("vhost-user,id=n,{more}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmmu"));
        command.args(["-nodefaults", "-display", "none", "-accel", "qtest", "-chardev", chardev]);
        let output = command.args(["-netdev", &netdev]).stdin(Stdio::null()).output().expect("the program");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = format!("softmmu: -netdev {netdev}: {what}");
        assert_eq!((output.status.code(), told.trim_end()), (Some(1), expected.as_str()));
    };
    let tcp = "socket,id=c,host=127.0.0.1,port=0,server=on,wait=off";
    let folder = tempfile::tempdir().expect("a folder");
    let unix = format!("socket,id=c,server=on,wait=off,path={}", folder.path().join("s").display());
    refused("null,id=c", "chardev=d", "chardev \"d\" not found");
    refused("null,id=c", "chardev=c", "chardev \"c\" is not reconnectable");
    refused(tcp, "chardev=c", "chardev \"c\" does not support FD passing");
    for queues in ["0", "1025"] {
        let what = "vhost-user number of queues must be in range [1, 1024]";
        refused(&unix, &format!("chardev=c,queues={queues}"), what);
    }
}
