//! `virtio-blk-pci` over qtest: requests of every kind, bad ones, errors that stop the machine, sizes that change.

use std::path::Path;
use std::process::Command;

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;
use serde_json::{Value, json};

const BLK: PciFunction = PciFunction(4 << 3);
const QUEUE: u64 = 0x10_0000;
const HEADER: u64 = 0x30_0000;
const DATA: u64 = 0x31_0000;
const STATUS: u64 = 0x32_0000;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const F_RO: u64 = 1 << 5;
const F_FLUSH: u64 = 1 << 9;
const F_CONFIG_WCE: u64 = 1 << 11;

struct Disk {
    vm: QTest,
    device: VirtioPci,
    queue: VirtQueue,
}

impl Disk {
    /// A machine with the disk that `drive` describes, driven.
    fn new(drive: &str, device: &str, more: &[&str]) -> Disk {
        let drive = format!("{drive},if=none,id=d0");
        let device = format!("virtio-blk-pci,addr=4,drive=d0{device}");
        let arguments = [&["-nodefaults", "-drive", &drive, "-device", &device], more].concat();
        let vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(arguments).with_qmp().start();
        Self::driven(vm)
    }

    fn driven(mut vm: QTest) -> Disk {
        let device = VirtioPci::open(&mut vm, BLK);
        let features = device.features(&mut vm) & (VERSION_1 | F_FLUSH | F_CONFIG_WCE);
        assert!(device.negotiate(&mut vm, features));
        let queue = device.queue(&mut vm, 0, QUEUE);
        device.driver_ok(&mut vm);
        Disk { vm, device, queue }
    }

    fn begin(&mut self, kind: u32, sector: u64, data: &[u8], buffers: &[Buffer]) {
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

    fn end(&mut self) -> u8 {
        self.queue.wait_used(&mut self.vm);
        self.vm.memread(STATUS, 1)[0]
    }

    fn read(&mut self, sector: u64, bytes: u32) -> (u8, Vec<u8>) {
        self.begin(IN, sector, &[], &[(DATA, bytes, true)]);
        (self.end(), self.vm.memread(DATA, bytes as usize))
    }

    fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.begin(OUT, sector, data, &[(DATA, data.len() as u32, false)]);
        self.end()
    }

    fn flush(&mut self) -> u8 {
        self.begin(FLUSH, 0, &[], &[]);
        self.end()
    }

    fn range(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) -> u8 {
        let range = [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat();
        self.begin(kind, 0, &range, &[(DATA, 16, false)]);
        self.end()
    }

    fn qmp(&mut self, command: &str, arguments: Value) -> Value {
        self.vm.qmp(&json!({ "execute": command, "arguments": arguments }).to_string())
    }
}

/// An image of `qemu-img`'s in a folder of its own.
fn image(format: &str, size: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("image").to_str().expect("a path in UTF-8").to_owned();
    let made = Command::new("qemu-img").args(["create", "-q", "-f", format, &path, size]).status();
    assert!(made.expect("qemu-img can be run").success());
    (folder, path)
}

fn check(path: &str) {
    let output = Command::new("qemu-img").args(["check", path]).output().expect("qemu-img can be run");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("No errors were found"), "{text}");
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 512) as u8 ^ seed).collect()
}

#[test]
fn what_is_written_is_read_and_is_in_the_image() {
    for (format, thread) in [("raw", ""), ("qcow2", ""), ("qcow2", ",iothread=io0")] {
        let (_folder, path) = image(format, "8M");
        let drive = format!("file={path},format={format}");
        let mut disk = Disk::new(&drive, thread, &["-object", "iothread,id=io0"]);
        let data = pattern(0x5a, 8192);
        assert_eq!(disk.write(1000, &data), 0);
        assert_eq!(disk.read(1000, 8192), (0, data.clone()));
        assert_eq!(disk.read(999, 512), (0, vec![0; 512]));
        assert_eq!(disk.flush(), 0);
        assert!(disk.vm.quit().success());
        if format == "qcow2" {
            check(&path);
            let raw = format!("{path}.raw");
            let arguments = ["convert", "-O", "raw", path.as_str(), raw.as_str()];
            assert!(Command::new("qemu-img").args(arguments).status().expect("qemu-img").success());
            assert_eq!(std::fs::read(&raw).expect("the copy")[512_000..520_192], data);
        } else {
            assert_eq!(std::fs::read(&path).expect("the image")[512_000..520_192], data);
        }
    }
}

#[test]
fn zeroes_discards_and_the_name() {
    let (_folder, path) = image("qcow2", "8M");
    let mut disk = Disk::new(&format!("file={path},discard=unmap"), ",serial=a-name", &[]);
    assert_eq!(disk.write(0, &pattern(1, 65536)), 0);
    assert_eq!(disk.range(WRITE_ZEROES, 8, 8, 0), 0);
    let (status, data) = disk.read(0, 65536);
    assert_eq!(
        (status, &data[..4096], &data[8192..]),
        (0, &pattern(1, 4096)[..], &pattern(1, 65536)[8192..])
    );
    assert!(data[4096..8192].iter().all(|byte| *byte == 0));
    assert_eq!(disk.range(DISCARD, 0, 128, 0), 0);
    assert_eq!(disk.read(0, 512), (0, vec![0; 512]));
    assert_eq!(disk.range(DISCARD, 0, 1, 1), 2, "a discard has no flags");
    assert_eq!(disk.range(WRITE_ZEROES, 0, 1, 4), 2, "nor are there others");
    assert_eq!(disk.range(DISCARD, 16384, 1, 0), 1, "that is beyond the end");
    disk.begin(GET_ID, 0, &[0xee; 20], &[(DATA, 20, true)]);
    assert_eq!(disk.end(), 0);
    assert_eq!(&disk.vm.memread(DATA, 8), b"a-name\0\xee");
    disk.begin(99, 0, &[], &[]);
    assert_eq!(disk.end(), 2, "there is no such request");
    assert!(disk.vm.quit().success());
    check(&path);
}

#[test]
fn requests_beyond_the_end_fail_and_chains_without_headers_break_it() {
    let mut disk = Disk::new("file=null-co://,format=raw,file.size=1M,file.read-zeroes=on", "", &[]);
    assert_eq!(disk.read(2047, 512), (0, vec![0; 512]));
    assert_eq!(disk.read(2048, 512).0, 1);
    assert_eq!(disk.read(u64::MAX, 512).0, 1);
    assert_eq!(disk.read(2047, 1024).0, 1);
    assert_eq!(disk.read(0, 100).0, 1, "that is no sector");
    disk.queue.add(&mut disk.vm, &[(HEADER, 16, false)]);
    disk.queue.kick(&mut disk.vm);
    while disk.device.status(&mut disk.vm) & NEEDS_RESET == 0 {
        std::thread::yield_now();
    }
    let mut again = Disk::driven(disk.vm);
    assert_eq!(again.read(0, 512), (0, vec![0; 512]));
}

#[test]
fn a_disk_that_cannot_be_written_says_so() {
    let (_folder, path) = image("raw", "1M");
    let mut disk = Disk::new(&format!("file={path},format=raw,readonly=on"), "", &[]);
    assert_ne!(disk.device.features(&mut disk.vm) & F_RO, 0);
    assert_eq!(disk.write(0, &[1; 512]), 1);
    assert_eq!(std::fs::read(&path).expect("the image")[0], 0);
}

#[test]
fn another_size_is_told() {
    let (_folder, path) = image("qcow2", "1M");
    let mut disk = Disk::new(&format!("file={path}"), "", &[]);
    assert_eq!(disk.vm.readq(disk.device.device), 2048);
    disk.device.read_isr(&mut disk.vm);
    disk.qmp("block_resize", json!({ "device": "d0", "size": 4 << 20 }));
    assert_eq!(disk.vm.readq(disk.device.device), 8192);
    assert_eq!(disk.device.read_isr(&mut disk.vm) & 2, 2, "the driver is interrupted");
    assert_eq!(disk.write(8191, &[7; 512]), 0);
    assert!(disk.vm.quit().success());
    check(&path);
}

/// The host's disk is full: the machine stops, and goes on where it was when there is room.
#[test]
fn a_full_disk_stops_the_machine_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let config = folder.path().join("rules");
    std::fs::write(&config, "[inject-error]\nevent = \"none\"\nerrno = \"28\"\nonce = \"on\"\n")
        .expect("a file");
    let (_folder, path) = image("raw", "1M");
    let drive = format!("file=blkdebug:{}:{path},format=raw", config.display());
    let mut disk = Disk::new(&drive, ",rerror=ignore", &[]);
    disk.vm.qmp(r#"{"execute":"cont"}"#);
    assert_eq!(disk.read(0, 512).0, 0, "its error is hidden");
    drop(disk);
    let mut disk = Disk::new(&drive, "", &[]);
    let data = pattern(9, 4096);
    disk.begin(OUT, 8, &data, &[(DATA, 4096, false)]);
    let status = loop {
        let status = disk.qmp("query-status", json!({}));
        if status["running"] == false {
            break status;
        }
    };
    assert_eq!(status["status"], "io-error");
    let events = disk.vm.take_events();
    let event = events.iter().find(|event| event["event"] == "BLOCK_IO_ERROR").expect("the event");
    assert_eq!(event["data"]["action"], "stop");
    assert_eq!(event["data"]["nospace"], true);
    assert_eq!(event["data"]["reason"], "No space left on device");
    assert_eq!(disk.qmp("query-block", json!({}))[0]["io-status"], "nospace");
    assert_eq!(disk.queue.used(&mut disk.vm), None);
    disk.qmp("cont", json!({}));
    assert_eq!(disk.end(), 0);
    assert_eq!(disk.qmp("query-block", json!({}))[0]["io-status"], "ok");
    assert_eq!(disk.flush(), 0);
    assert_eq!(std::fs::read(&path).expect("the image")[4096..8192], data);
}

/// What was flushed is in the image after the program was killed, in the middle of a flush perhaps, and the image is
/// whole.
#[test]
fn a_kill_loses_nothing_that_was_flushed() {
    let rounds = std::env::var("KILLS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8);
    for round in 0..rounds {
        let (_folder, path) = image("qcow2", "64M");
        let mut disk = Disk::new(&format!("file={path},discard=unmap"), "", &[]);
        let at = |block: u64| block * 37 % 1000 * 64;
        let mut flushed = 0;
        for block in 0..8 + round % 13 {
            assert_eq!(disk.write(at(block), &[block as u8 + 1; 4096]), 0);
            if block % 3 == round % 3 {
                assert_eq!(disk.flush(), 0);
                flushed = block + 1;
            }
        }
        disk.begin(FLUSH, 0, &[], &[]);
        std::thread::sleep(std::time::Duration::from_micros(round * 97 % 5000));
        disk.vm.kill();
        check(&path);
        let raw = format!("{path}.raw");
        let arguments = ["convert", "-O", "raw", path.as_str(), raw.as_str()];
        assert!(Command::new("qemu-img").args(arguments).status().expect("qemu-img").success());
        let bytes = std::fs::read(&raw).expect("the copy");
        for block in 0..flushed {
            let at = (at(block) * 512) as usize;
            let data = &bytes[at..at + 4096];
            assert!(data.iter().all(|byte| *byte == block as u8 + 1), "round {round}, block {block}");
        }
    }
}

#[test]
fn users_mistakes_are_named() {
    let (_folder, path) = image("raw", "1M");
    let null = "if=none,id=d0,format=raw,file=null-co://";
    let cases: [(&str, &str, &str); 8] = [
        (null, "virtio-blk-pci", "drive property not set"),
        (null, "virtio-blk-pci,drive=x", "Property 'virtio-blk-device.drive' can't find value 'x'"),
        ("if=none,id=d0", "virtio-blk-pci,drive=d0", "Device needs media, but drive is empty"),
        (null, "virtio-blk-pci,drive=d0,num-queues=0", "num-queues property must be larger than 0"),
        (null, "virtio-blk-pci,drive=d0,queue-size=2", "invalid queue-size property (2), must be > 2"),
        (
            null,
            "virtio-blk-pci,drive=d0,queue-size=100",
            "invalid queue-size property (100), must be a power of 2 (max 1024)",
        ),
        (
            null,
            "virtio-blk-pci,drive=d0,logical_block_size=4096,physical_block_size=512",
            "logical_block_size > physical_block_size not supported",
        ),
        (
            null,
            "virtio-blk-pci,drive=d0,min_io_size=100",
            "min_io_size must be a multiple of logical_block_size",
        ),
    ];
    for (drive, device, expected) in cases {
        refused(&["-drive", drive, "-device", device], &format!("softmmu: -device {device}: {expected}"));
    }
    let twice = ["-drive", null, "-device", "virtio-blk-pci,drive=d0", "-device", "virtio-blk-pci,drive=d0"];
    let expected =
        "softmmu: -device virtio-blk-pci,drive=d0: Drive 'd0' is already in use by another block device";
    refused(&twice, expected);
    assert!(Path::new(&path).exists());
}

#[track_caller]
fn refused(arguments: &[&str], expected: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-accel", "qtest", "-nodefaults", "-display", "none"])
        .args(arguments)
        .output()
        .expect("softmmu can be run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((text.trim_end(), output.status.code()), (expected, Some(1)));
}

#[test]
fn another_program_that_writes_is_refused() {
    let (_folder, path) = image("raw", "1M");
    let drive = format!("file={path},format=raw");
    let _disk = Disk::new(&drive, "", &[]);
    let drive = format!("{drive},if=none,id=d0");
    let output = Command::new(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-accel", "qtest", "-nodefaults", "-drive", &drive, "-device", "virtio-blk-pci,drive=d0"])
        .output()
        .expect("softmmu can be run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let hint = format!("Is another process using the image [{path}]?");
    assert!(text.contains("Failed to get \"write\" lock") && text.contains(&hint), "{text}");
}
