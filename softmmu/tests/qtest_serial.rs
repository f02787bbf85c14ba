//! A serial port, 16550A, over qtest: what it sends reaches the chardev, what comes can be read.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use libqtest::QTest;

const COM1: u16 = 0x3f8;
const IER: u16 = COM1 + 1;
const IIR: u16 = COM1 + 2;
const LCR: u16 = COM1 + 3;
const MCR: u16 = COM1 + 4;
const LSR: u16 = COM1 + 5;
const MSR: u16 = COM1 + 6;
const SCR: u16 = COM1 + 7;

/// A machine whose first port is the other end of the stream.
fn port() -> (QTest, UnixStream, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("serial");
    let listener = UnixListener::bind(&path).expect("a socket in a temporary directory");
    let serial = format!("unix:{}", path.display());
    let vm = QTest::start(env!("CARGO_BIN_EXE_softmmu"), ["-nodefaults", "-serial", &serial]);
    let (stream, _) = listener.accept().expect("the program connects");
    (vm, stream, folder)
}

#[test]
fn registers_after_reset_and_the_scratch_register() {
    let (mut vm, _stream, _folder) = port();
    assert_eq!([IER, IIR, LCR, MCR, LSR].map(|at| vm.inb(at)), [0, 1, 0, 0x08, 0x60]);
    vm.outb(SCR, 0x5a);
    assert_eq!(vm.inb(SCR), 0x5a);
    // The divisor latch is behind the first two registers.
    vm.outb(LCR, 0x83);
    vm.outb(COM1, 0x0c);
    vm.outb(IER, 0x00);
    assert_eq!([vm.inb(COM1), vm.inb(IER)], [0x0c, 0]);
    vm.outb(LCR, 0x03);
    assert_eq!(vm.inb(IER), 0);
}

#[test]
fn bytes_go_out_and_come_in() {
    let (mut vm, mut stream, _folder) = port();
    vm.outb(LCR, 0x03);
    for byte in *b"hello" {
        vm.outb(COM1, byte);
        vm.clock_step(1_000_000);
    }
    let mut sent = [0; 5];
    stream.read_exact(&mut sent).expect("what was sent");
    assert_eq!(&sent, b"hello");
    stream.write_all(b"x").expect("the program reads");
    // Until the main loop has it.
    while vm.inb(LSR) & 1 == 0 {
        vm.clock_step(1_000_000);
    }
    assert_eq!(vm.inb(COM1), b'x');
    assert_eq!(vm.inb(LSR) & 1, 0);
}

#[test]
fn loopback_brings_back_what_is_sent() {
    let (mut vm, _stream, _folder) = port();
    vm.outb(MCR, 0x1a);
    assert_eq!(vm.inb(MSR) & 0xf0, 0x90);
    vm.outb(COM1, 0x77);
    vm.clock_step(1_000_000);
    assert_eq!(vm.inb(LSR) & 1, 1);
    assert_eq!(vm.inb(COM1), 0x77);
}

#[test]
fn a_fifth_port_has_its_character_device_only() {
    let five = ["-serial", "null"].repeat(5);
    let mut vm =
        QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(["-nodefaults"]).args(&five).with_qmp().start();
    let labels = vm.qmp(r#"{"execute": "query-chardev"}"#);
    assert!(labels.to_string().contains("\"serial4\""), "{labels}");
    assert_eq!([0x3f8, 0x2f8, 0x3e8, 0x2e8].map(|base| vm.inb(base + 5)), [0x60; 4]);
}
