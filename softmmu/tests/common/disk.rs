//! A driver of `virtio-blk-pci` over qtest, for the tests of disks.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::ffi::OsStr;
use std::process::Command;

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;
use serde_json::{Value, json};

pub const BLK: PciFunction = PciFunction(4 << 3);
pub const QUEUE: u64 = 0x10_0000;
pub const HEADER: u64 = 0x30_0000;
pub const DATA: u64 = 0x31_0000;
pub const STATUS: u64 = 0x32_0000;

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const WRITE_ZEROES: u32 = 13;

pub const F_RO: u64 = 1 << 5;
pub const F_FLUSH: u64 = 1 << 9;
pub const F_CONFIG_WCE: u64 = 1 << 11;

pub struct Disk {
    pub vm: QTest,
    pub device: VirtioPci,
    pub queue: VirtQueue,
}

impl Disk {
    /// A machine with the disk that `drive` describes, driven.
    pub fn new(drive: &str, device: &str, more: &[&str]) -> Disk {
        Self::of_program(env!("CARGO_BIN_EXE_softmmu"), drive, device, more)
    }

    /// The same, of a program that runs the program under test.
    pub fn of_program(program: impl AsRef<OsStr>, drive: &str, device: &str, more: &[&str]) -> Disk {
        let drive = format!("{drive},if=none,id=d0");
        let device = format!("virtio-blk-pci,addr=4,drive=d0{device}");
        let arguments = [&["-nodefaults", "-drive", &drive, "-device", &device], more].concat();
        let vm = QTest::builder(program).args(arguments).with_qmp().start();
        Self::driven(vm)
    }

    pub fn driven(mut vm: QTest) -> Disk {
        let device = VirtioPci::open(&mut vm, BLK);
        let features = device.features(&mut vm) & (VERSION_1 | F_FLUSH | F_CONFIG_WCE);
        assert!(device.negotiate(&mut vm, features));
        let queue = device.queue(&mut vm, 0, QUEUE);
        device.driver_ok(&mut vm);
        Disk { vm, device, queue }
    }

    pub fn begin(&mut self, kind: u32, sector: u64, data: &[u8], buffers: &[Buffer]) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.vm.memwrite(HEADER, &header);
        if !data.is_empty() {
            self.vm.memwrite(DATA, data);
        }
        self.vm.memwrite(STATUS, &[0xff]);
        let chain = [&[(HEADER, 16, false)], buffers, &[(STATUS, 1, true)]].concat();
        self.queue.add(&mut self.vm, &chain);
        self.queue.kick(&mut self.vm);
    }

    pub fn end(&mut self) -> u8 {
        self.queue.wait_used(&mut self.vm);
        self.vm.memread(STATUS, 1)[0]
    }

    pub fn read(&mut self, sector: u64, bytes: u32) -> (u8, Vec<u8>) {
        self.begin(IN, sector, &[], &[(DATA, bytes, true)]);
        (self.end(), self.vm.memread(DATA, bytes as usize))
    }

    pub fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.begin(OUT, sector, data, &[(DATA, data.len() as u32, false)]);
        self.end()
    }

    pub fn flush(&mut self) -> u8 {
        self.begin(FLUSH, 0, &[], &[]);
        self.end()
    }

    pub fn range(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) -> u8 {
        let range = [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat();
        self.begin(kind, 0, &range, &[(DATA, 16, false)]);
        self.end()
    }

    pub fn qmp(&mut self, command: &str, arguments: Value) -> Value {
        self.vm.qmp(&json!({ "execute": command, "arguments": arguments }).to_string())
    }
}

/// An image of `qemu-img`'s in a folder of its own.
pub fn image(format: &str, size: &str) -> (tempfile::TempDir, String) {
    image_with(&["-f", format], size)
}

/// The same, with options of `qemu-img create`.
pub fn image_with(options: &[&str], size: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("image").to_str().expect("a path in UTF-8").to_owned();
    let made = Command::new("qemu-img").args(["create", "-q"]).args(options).args([&path, size]).status();
    assert!(made.expect("qemu-img can be run").success());
    (folder, path)
}

pub fn check(path: &str) {
    let output = Command::new("qemu-img").args(["check", path]).output().expect("qemu-img can be run");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("No errors were found"), "{text}");
}

pub fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 512) as u8 ^ seed).collect()
}
