//! `virtio-serial-pci` and its ports over qtest, with a socket at the other end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;

const SERIAL: PciFunction = PciFunction(4 << 3);
const MULTIPORT: u64 = 1 << 1;
const QUEUES: u64 = 0x10_0000;
const BUFFERS: u64 = 0x30_0000;
const CONTROL_BUFFERS: u64 = 0x40_0000;
const OUTPUT: u64 = 0x50_0000;
/// Control events.
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_REMOVE: u16 = 2;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// A driver of the device, with the queues of ports 0 and 1 and of control.
struct Driver {
    queues: Vec<VirtQueue>,
    device: VirtioPci,
}

impl Driver {
    fn new(vm: &mut QTest) -> Driver {
        let device = VirtioPci::open(vm, SERIAL);
        assert!(device.negotiate(vm, VERSION_1 | MULTIPORT));
        let queues = (0..6).map(|n| device.queue(vm, n, QUEUES + 0x10000 * u64::from(n))).collect();
        device.driver_ok(vm);
        let mut driver = Driver { queues, device };
        for n in 0..32 {
            driver.queues[2].add(vm, &[(CONTROL_BUFFERS + 0x100 * n, 0x100, true)]);
        }
        driver.queues[2].kick(vm);
        driver
    }

    /// The next control message: port, event, value, and what follows.
    fn control(&mut self, vm: &mut QTest) -> (u32, u16, u16, Vec<u8>) {
        let (id, len) = self.queues[2].wait_used(vm);
        let message = vm.memread(CONTROL_BUFFERS + 0x100 * u64::from(id), len as usize);
        let word = |at: usize| u16::from_le_bytes([message[at], message[at + 1]]);
        (u32::from(word(0)), word(4), word(6), message[8..].to_vec())
    }

    fn tell(&mut self, vm: &mut QTest, port: u32, event: u16, value: u16) {
        let message = [&port.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat();
        vm.memwrite(OUTPUT + 0x1000, &message);
        self.queues[3].add(vm, &[(OUTPUT + 0x1000, 8, false)]);
        self.queues[3].kick(vm);
        self.queues[3].wait_used(vm);
    }

    /// Sets port 1 up and opens it; the host is there already.
    fn open_port(&mut self, vm: &mut QTest) {
        self.tell(vm, 0, DEVICE_READY, 1);
        assert_eq!(self.control(vm), (1, PORT_ADD, 1, vec![]));
        self.tell(vm, 1, PORT_READY, 1);
        assert_eq!(self.control(vm), (1, PORT_NAME, 1, b"org.test.0\0".to_vec()));
        assert_eq!(self.control(vm), (1, PORT_OPEN, 1, vec![]));
        self.tell(vm, 1, PORT_OPEN, 1);
    }
}

/// A machine with one port, whose other end is connected to.
fn connected() -> (QTest, UnixStream, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("port.sock");
    let chardev = format!("socket,id=c0,path={},server=on,wait=off", path.display());
    let arguments = ["-nodefaults", "-chardev", &chardev, "-device", "virtio-serial-pci,addr=4,id=vs"];
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .with_qmp()
        .args(arguments)
        .args(["-device", "virtserialport,bus=vs.0,chardev=c0,name=org.test.0,id=p0"])
        .start();
    let stream = UnixStream::connect(path).expect("the chardev listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    // The main loop has accepted when it answers this.
    while vm.qmp("{'execute': 'query-chardev'}").to_string().contains("disconnected") {}
    (vm, stream, folder)
}

#[test]
fn the_guest_learns_of_ports_and_opens_them() {
    let (mut vm, _stream, _folder) = connected();
    let mut driver = Driver::new(&mut vm);
    assert_eq!(vm.readl(driver.device.device + 4), 31, "ports at most");
    driver.open_port(&mut vm);
    vm.qmp("{'execute': 'query-name'}");
    let events = vm.take_events();
    let opened = |e: &serde_json::Value| e["data"] == serde_json::json!({"id": "p0", "open": true});
    assert!(events.iter().any(|e| e["event"] == "VSERPORT_CHANGE" && opened(e)), "{events:?}");
}

#[test]
fn bytes_go_both_ways() {
    let (mut vm, mut stream, _folder) = connected();
    let mut driver = Driver::new(&mut vm);
    driver.open_port(&mut vm);
    // Before the guest has a buffer, input waits; then it comes in pieces.
    stream.write_all(b"hello, guest").expect("a connection");
    let input = &mut driver.queues[4];
    input.add(&mut vm, &[(BUFFERS, 5, true)]);
    input.kick(&mut vm);
    assert_eq!(input.wait_used(&mut vm), (0, 5));
    input.add(&mut vm, &[(BUFFERS + 5, 100, true)]);
    input.kick(&mut vm);
    assert_eq!(input.wait_used(&mut vm), (1, 7));
    assert_eq!(vm.memread(BUFFERS, 12), b"hello, guest");
    vm.memwrite(OUTPUT, b"hello, host");
    let output = &mut driver.queues[5];
    output.add(&mut vm, &[(OUTPUT, 5, false), (OUTPUT + 5, 6, false)]);
    output.kick(&mut vm);
    assert_eq!(output.wait_used(&mut vm).1, 0);
    let mut received = [0; 11];
    stream.read_exact(&mut received).expect("a connection");
    assert_eq!(&received, b"hello, host");
    // The other end goes: what the guest writes then goes nowhere.
    drop(stream);
    assert_eq!(driver.control(&mut vm), (1, PORT_OPEN, 0, vec![]));
    let output = &mut driver.queues[5];
    output.add(&mut vm, &[(OUTPUT, 5, false)]);
    output.kick(&mut vm);
    output.wait_used(&mut vm);
}

#[test]
fn a_slow_reader_loses_nothing() {
    const LEN: usize = 64 << 10;
    const BUFFERS_SENT: usize = 60;
    let (mut vm, mut stream, _folder) = connected();
    let mut driver = Driver::new(&mut vm);
    driver.open_port(&mut vm);
    let data: Vec<u8> = (0..LEN).map(|n| (n * 7 + n / 256) as u8).collect();
    vm.bufwrite(OUTPUT + 0x10000, &data);
    let output = &mut driver.queues[5];
    for _ in 0..BUFFERS_SENT {
        output.add(&mut vm, &[(OUTPUT + 0x10000, LEN as u32, false)]);
    }
    output.kick(&mut vm);
    vm.clock_step(1);
    let mut before = 0;
    while output.used(&mut vm).is_some() {
        before += 1;
    }
    assert!(before < BUFFERS_SENT, "a socket does not hold as much");
    let mut received = vec![0; LEN * BUFFERS_SENT];
    stream.read_exact(&mut received).expect("a connection");
    assert!(received.chunks(LEN).all(|chunk| chunk == data));
    for _ in before..BUFFERS_SENT {
        output.wait_used(&mut vm);
    }
}

#[test]
fn a_console_is_told_to_be_one_and_ports_come_and_go() {
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .with_qmp()
        .args(["-nodefaults", "-chardev", "ringbuf,id=c0", "-chardev", "null,id=c1"])
        .args(["-device", "virtio-serial-pci,addr=4,id=vs", "-device", "virtconsole,chardev=c0"])
        .start();
    let mut driver = Driver::new(&mut vm);
    driver.tell(&mut vm, 0, DEVICE_READY, 1);
    assert_eq!(driver.control(&mut vm), (0, PORT_ADD, 1, vec![]));
    driver.tell(&mut vm, 0, PORT_READY, 1);
    assert_eq!(driver.control(&mut vm), (0, CONSOLE_PORT, 1, vec![]));
    assert_eq!(driver.control(&mut vm), (0, PORT_OPEN, 1, vec![]));
    vm.memwrite(OUTPUT, b"login: ");
    driver.queues[1].add(&mut vm, &[(OUTPUT, 7, false)]);
    driver.queues[1].kick(&mut vm);
    driver.queues[1].wait_used(&mut vm);
    // And a byte in an emergency.
    vm.writel(driver.device.device + 8, u32::from(b'!'));
    let read = "{'execute': 'ringbuf-read', 'arguments': {'device': 'c0', 'size': 100}}";
    assert_eq!(vm.qmp(read), "login: !");
    vm.qmp(
        "{'execute': 'device_add', 'arguments': {'driver': 'virtserialport', 'id': 'p1', 'chardev': 'c1'}}",
    );
    assert_eq!(driver.control(&mut vm), (1, PORT_ADD, 1, vec![]));
    vm.qmp("{'execute': 'device_del', 'arguments': {'id': 'p1'}}");
    assert_eq!(driver.control(&mut vm), (1, PORT_REMOVE, 1, vec![]));
    // Nonsense from the guest changes nothing.
    driver.tell(&mut vm, 77, PORT_OPEN, 1);
    driver.tell(&mut vm, 0, 99, 99);
    assert_eq!(driver.device.status(&mut vm), 0xf);
}

#[test]
fn users_mistakes_are_named() {
    let cases: [(&[&str], &str); 6] = [
        (&["virtserialport,nr=0"], "Port number 0 on virtio-serial devices reserved for virtconsole devices"),
        (&["virtserialport,nr=31"], "virtio-serial-bus: Out-of-range port id specified, max. allowed: 30"),
        (&["virtserialport,nr=2", "virtserialport,nr=2"], "virtio-serial-bus: A port already exists at id 2"),
        (
            &["virtserialport,name=a", "virtserialport,name=a"],
            "virtio-serial-bus: A port already exists by name a",
        ),
        (&["virtio-serial-pci,max_ports=0"], "Maximum number of serial ports not specified"),
        (&["virtio-serial-pci,max_ports=512"], "maximum ports supported: 511"),
    ];
    for (devices, text) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_softmmu"))
            .args(["-accel", "qtest", "-display", "none", "-nodefaults", "-device", "virtio-serial-pci"])
            .args(devices.iter().flat_map(|device| ["-device", device]))
            .output()
            .expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(text), "{error}");
        assert_eq!(output.status.code(), Some(1));
    }
}
