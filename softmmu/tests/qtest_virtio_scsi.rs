//! `virtio-scsi-pci` over qtest: commands of disks and CD-ROM drives, task management, devices and media that come and
//! go, errors that stop the machine.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;
use serde_json::{Value, json};

const SCSI: PciFunction = PciFunction(4 << 3);
const CONTROL_RING: u64 = 0x10_0000;
const EVENT_RING: u64 = 0x12_0000;
const RING: u64 = 0x14_0000;
const REQUEST: u64 = 0x30_0000;
const RESPONSE: u64 = 0x30_1000;
const EVENTS: u64 = 0x30_2000;
const DATA: u64 = 0x31_0000;

/// An event that takes longer does not come.
const TIMEOUT: Duration = Duration::from_secs(60);

const F_HOTPLUG: u64 = 1 << 1;
const F_CHANGE: u64 = 1 << 2;

const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;
const BAD_TARGET: u8 = 3;

/// What answers a command.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    response: u8,
    status: u8,
    residual: u32,
    /// Sense key, additional sense code, its qualifier.
    sense: (u8, u8, u8),
}

/// A host adapter, driven, with one queue for requests.
struct Adapter {
    vm: QTest,
    device: VirtioPci,
    control: VirtQueue,
    events: VirtQueue,
    queue: VirtQueue,
    /// Events that nobody has waited for yet.
    pending: Vec<Value>,
}

impl Adapter {
    fn new(arguments: &[&str]) -> Adapter {
        Self::with("", arguments)
    }

    fn with(more: &str, arguments: &[&str]) -> Adapter {
        let adapter = format!("virtio-scsi-pci,id=vs0,addr=4{more}");
        let all = [&["-nodefaults", "-object", "iothread,id=io0", "-device", &adapter], arguments].concat();
        let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(all).with_qmp().start();
        let device = VirtioPci::open(&mut vm, SCSI);
        let features = device.features(&mut vm) & (VERSION_1 | F_HOTPLUG | F_CHANGE);
        assert_eq!(features, VERSION_1 | F_HOTPLUG | F_CHANGE);
        assert!(device.negotiate(&mut vm, features));
        let control = device.queue(&mut vm, 0, CONTROL_RING);
        let events = device.queue(&mut vm, 1, EVENT_RING);
        let queue = device.queue(&mut vm, 2, RING);
        device.driver_ok(&mut vm);
        Adapter { vm, device, control, events, queue, pending: Vec::new() }
    }

    fn begin(&mut self, target: u8, cdb: &[u8], buffers: (&[Buffer], &[Buffer])) {
        let mut request = [0; 51];
        (request[0], request[1], request[8]) = (1, target, 0x77);
        request[19..19 + cdb.len()].copy_from_slice(cdb);
        self.vm.memwrite(REQUEST, &request);
        self.vm.memset(RESPONSE, 0xff, 108);
        let (output, input) = buffers;
        let chain = [&[(REQUEST, 51, false)], output, &[(RESPONSE, 108, true)], input].concat();
        self.queue.add(&mut self.vm, &chain);
        self.queue.kick(&mut self.vm);
    }

    fn end(&mut self) -> Answer {
        self.queue.wait_used(&mut self.vm);
        let bytes = self.vm.memread(RESPONSE, 108);
        let has_sense = bytes[0] > 0;
        Answer {
            response: bytes[11],
            status: bytes[10],
            residual: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            sense: if has_sense { (bytes[14], bytes[24], bytes[25]) } else { (0, 0, 0) },
        }
    }

    /// A command that moves no data.
    fn command(&mut self, target: u8, cdb: &[u8]) -> Answer {
        self.begin(target, cdb, (&[], &[]));
        self.end()
    }

    /// A command that gives `len` bytes.
    fn read(&mut self, target: u8, cdb: &[u8], len: u32) -> (Answer, Vec<u8>) {
        self.begin(target, cdb, (&[], &[(DATA, len, true)]));
        (self.end(), self.vm.memread(DATA, len as usize))
    }

    /// A command that takes data.
    fn write(&mut self, target: u8, cdb: &[u8], data: &[u8]) -> Answer {
        self.vm.memwrite(DATA, data);
        self.begin(target, cdb, (&[(DATA, data.len() as u32, false)], &[]));
        self.end()
    }

    /// The first command of all is told of the reset.
    fn clear_attention(&mut self, target: u8) {
        assert_eq!(self.command(target, &TEST_UNIT_READY), check(6, 0x29, 0));
    }

    fn qmp(&mut self, command: &str, arguments: Value) -> Value {
        self.vm.qmp_raw(&json!({ "execute": command, "arguments": arguments }).to_string())
    }

    /// Waits for an event.
    fn event(&mut self, name: &str) -> Value {
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            let found = self.pending.iter().position(|event| event["event"] == name);
            if let Some(at) = found {
                return self.pending.remove(at);
            }
            self.qmp("query-status", json!({}));
            self.pending.extend(self.vm.take_events());
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("no event {name}");
    }

    /// A task management function; its answer.
    fn manage(&mut self, kind: u32, target: u8, tag: u64) -> u8 {
        let mut request = [0; 24];
        request[4..8].copy_from_slice(&kind.to_le_bytes());
        (request[8], request[9]) = (1, target);
        request[16..].copy_from_slice(&tag.to_le_bytes());
        self.vm.memwrite(REQUEST + 0x800, &request);
        self.control.add(&mut self.vm, &[(REQUEST + 0x800, 24, false), (RESPONSE + 0x800, 1, true)]);
        self.control.kick(&mut self.vm);
        self.control.wait_used(&mut self.vm);
        self.vm.memread(RESPONSE + 0x800, 1)[0]
    }
}

const TEST_UNIT_READY: [u8; 6] = [0; 6];

const fn good() -> Answer {
    Answer { response: 0, status: GOOD, residual: 0, sense: (0, 0, 0) }
}

const fn check(key: u8, asc: u8, ascq: u8) -> Answer {
    Answer { response: 0, status: CHECK_CONDITION, residual: 0, sense: (key, asc, ascq) }
}

/// READ (10) or WRITE (10).
fn cdb10(opcode: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let ([a, b, c, d], [e, f]) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [opcode, 0, a, b, c, d, 0, e, f, 0]
}

const READ: u8 = 0x28;
const WRITE: u8 = 0x2a;

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 512) as u8 ^ seed).collect()
}

/// An image of `qemu-img`'s in a folder of its own.
fn image(format: &str, size: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("image").to_str().expect("a path in UTF-8").to_owned();
    let made = Command::new("qemu-img").args(["create", "-q", "-f", format, &path, size]).status();
    assert!(made.expect("qemu-img can be run").success());
    (folder, path)
}

#[test]
fn what_is_written_is_read_and_is_in_the_image() {
    for thread in ["", ",iothread=io0"] {
        let (_folder, path) = image("raw", "8M");
        let drive = format!("file={path},format=raw,if=none,id=d0");
        let mut vm = Adapter::with(thread, &["-drive", &drive, "-device", "scsi-hd,drive=d0,scsi-id=3"]);
        vm.clear_attention(3);
        let (answer, capacity) = vm.read(3, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8);
        assert_eq!((answer, &capacity[..]), (good(), &[0, 0, 0x3f, 0xff, 0, 0, 2, 0][..]));
        let data = pattern(0x5a, 8192);
        assert_eq!(vm.write(3, &cdb10(WRITE, 1000, 16), &data), good());
        assert_eq!(vm.read(3, &cdb10(READ, 1000, 16), 8192), (good(), data.clone()));
        assert_eq!(vm.command(3, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]), good());
        assert_eq!(vm.read(3, &cdb10(READ, 0x4000, 1), 512).0, check(5, 0x21, 0), "beyond the end");
        assert_eq!(vm.command(4, &TEST_UNIT_READY).response, BAD_TARGET);
        assert!(vm.vm.quit().success());
        assert_eq!(std::fs::read(Path::new(&path)).expect("the image")[512_000..520_192], data);
    }
}

#[test]
fn what_is_unmapped_reads_as_zeroes() {
    let (_folder, path) = image("qcow2", "64M");
    let drive = format!("file={path},if=none,id=d0,discard=unmap");
    let mut vm = Adapter::new(&["-drive", &drive, "-device", "scsi-hd,drive=d0,scsi-id=0"]);
    vm.clear_attention(0);
    for lba in [0, 200, 131_056] {
        assert_eq!(vm.write(0, &cdb10(WRITE, lba, 16), &pattern(0x5a, 8192)), good());
    }
    let mut unmap = vec![0, 22, 0, 16, 0, 0, 0, 0];
    unmap.extend(0u64.to_be_bytes());
    unmap.extend([131_072u32.to_be_bytes(), [0; 4]].concat());
    assert_eq!(vm.write(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap), good());
    for lba in [0, 200, 131_056] {
        assert_eq!(vm.read(0, &cdb10(READ, lba, 16), 8192), (good(), vec![0; 8192]), "block {lba}");
    }
}

#[test]
fn logical_units_are_found_and_answer_for_their_target() {
    let null = |n| format!("driver=null-co,read-zeroes=on,size=1M,node-name=n{n}");
    let nodes: Vec<String> = (0..3).map(null).collect();
    let mut arguments: Vec<&str> = nodes.iter().flat_map(|node| ["-blockdev", node]).collect();
    arguments.extend(["-device", "scsi-hd,drive=n0,scsi-id=1,lun=2,serial=abc,product=Thing"]);
    arguments.extend(["-device", "scsi-hd,drive=n1,scsi-id=1,lun=300", "-device", "scsi-hd,drive=n2"]);
    let mut vm = Adapter::new(&arguments);
    let report_luns = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    let (answer, luns) = vm.read(1, &report_luns, 64);
    assert_eq!((answer.status, answer.residual, luns[3]), (GOOD, 64 - 32, 24), "a unit attention waits on");
    assert_eq!([luns[9], luns[16], luns[17], luns[24], luns[25]], [0, 0, 2, 0x41, 44]);
    // Logical unit 0 is the target's own.
    let (answer, inquiry) = vm.read(1, &[0x12, 0, 0, 0, 36, 0], 36);
    assert_eq!((answer, inquiry[0], &inquiry[8..27]), (good(), 0x3f, &b"QEMU    QEMU TARGET"[..]));
    let (answer, inquiry) = vm.read(0, &[0x12, 0, 0, 0, 96, 0], 96);
    assert_eq!((answer, inquiry[0], &inquiry[8..36]), (good(), 0, &b"QEMU    QEMU HARDDISK   2.5+"[..]));
    vm.clear_attention(0);
    assert_eq!(vm.read(0, &[0x12, 1, 0xb1, 0, 64, 0], 4).0.response, 1, "there is no room for the data");
    assert_eq!(vm.command(0, &[0x77]), check(5, 0x20, 0));
    let (answer, sense) = vm.read(0, &[3, 0, 0, 0, 18, 0], 18);
    assert_eq!((answer, sense[0], sense[2], sense[12]), (good(), 0x70, 5, 0x20), "what went wrong last");
}

#[test]
fn a_cd_is_ejected_and_another_put_in() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str, size: usize| {
        let path = folder.path().join(name).to_str().expect("a path in UTF-8").to_owned();
        std::fs::write(&path, pattern(size as u8, size)).expect("a disc");
        path
    };
    let (one, other) = (path("one.iso", 8192), path("other.iso", 16384));
    let drive = format!("file={one},format=raw,if=none,id=cd,media=cdrom");
    let mut vm = Adapter::new(&["-drive", &drive, "-device", "scsi-cd,drive=cd,id=cd0"]);
    vm.clear_attention(0);
    let capacity = |vm: &mut Adapter| vm.read(0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8);
    assert_eq!(capacity(&mut vm), (good(), vec![0, 0, 0, 3, 0, 0, 8, 0]));
    assert_eq!(vm.read(0, &cdb10(READ, 1, 1), 2048), (good(), pattern(0, 8192)[2048..4096].to_vec()));
    assert_eq!(vm.write(0, &cdb10(WRITE, 0, 1), &[0; 2048]), check(7, 0x27, 0));
    // The guest holds it.
    assert_eq!(vm.command(0, &[0x1e, 0, 0, 0, 1, 0]), good());
    let refused = vm.qmp("eject", json!({ "device": "cd" }));
    assert!(refused["error"]["desc"].as_str().is_some_and(|why| why.contains("is locked")), "{refused}");
    let event = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0];
    assert_eq!(vm.read(0, &event, 8).1[4..6], [1, 2], "the user wants it out");
    assert_eq!(vm.command(0, &[0x1b, 0, 0, 0, 2, 0]), check(5, 0x53, 2), "not while it is locked");
    assert_eq!(vm.command(0, &[0x1e, 0, 0, 0, 0, 0]), good());
    assert_eq!(vm.command(0, &[0x1b, 0, 0, 0, 2, 0]), good());
    let moved = vm.event("DEVICE_TRAY_MOVED");
    assert_eq!(moved["data"], json!({ "device": "cd", "id": "cd0", "tray-open": true }));
    assert_eq!(vm.command(0, &TEST_UNIT_READY), check(2, 0x3a, 0));
    let block = vm.qmp("query-block", json!({}))["return"][0].clone();
    assert_eq!(
        (&block["tray_open"], &block["removable"], &block["qdev"]),
        (&json!(true), &json!(true), &json!("cd0"))
    );
    // Another one comes: the guest is told that one went and one came.
    assert_eq!(
        vm.qmp("blockdev-change-medium", json!({ "id": "cd0", "filename": other, "format": "raw" }))["return"],
        json!({})
    );
    assert_eq!(vm.event("DEVICE_TRAY_MOVED")["data"]["tray-open"], json!(false));
    assert_eq!(vm.command(0, &TEST_UNIT_READY), check(6, 0x3a, 0));
    assert_eq!(vm.command(0, &TEST_UNIT_READY), check(6, 0x28, 0));
    assert_eq!(capacity(&mut vm), (good(), vec![0, 0, 0, 7, 0, 0, 8, 0]));
    assert_eq!(vm.read(0, &event, 8).1[4..6], [2, 2], "a new medium");
    // Step by step.
    assert_eq!(
        vm.qmp("blockdev-remove-medium", json!({ "id": "cd0" }))["error"]["desc"],
        "Tray of device 'cd0' is not open"
    );
    for (command, arguments) in [
        ("blockdev-open-tray", json!({ "id": "cd0" })),
        ("blockdev-remove-medium", json!({ "id": "cd0" })),
        (
            "blockdev-add",
            json!({ "driver": "null-co", "node-name": "disc", "size": 4096, "read-only": true }),
        ),
        ("blockdev-insert-medium", json!({ "id": "cd0", "node-name": "disc" })),
        ("blockdev-close-tray", json!({ "id": "cd0" })),
    ] {
        assert_eq!(vm.qmp(command, arguments)["return"], json!({}), "{command}");
    }
    assert_eq!(vm.command(0, &TEST_UNIT_READY), check(6, 0x3a, 0));
    assert_eq!(vm.command(0, &TEST_UNIT_READY), check(6, 0x28, 0));
    assert_eq!(capacity(&mut vm).1[3], 1);
}

#[test]
fn disks_come_and_go_and_the_driver_hears_of_it() {
    let node = ["-blockdev", "driver=null-co,read-zeroes=on,size=1M,node-name=n0"];
    let mut vm = Adapter::new(&node);
    for n in 0..4 {
        vm.events.add(&mut vm.vm, &[(EVENTS + 16 * n, 16, true)]);
    }
    let add = json!({ "driver": "scsi-hd", "drive": "n0", "id": "d0", "scsi-id": 5, "lun": 258 });
    assert_eq!(vm.qmp("device_add", add)["return"], json!({}));
    vm.events.wait_used(&mut vm.vm);
    assert_eq!(vm.vm.memread(EVENTS, 16), [1, 0, 0, 0, 1, 5, 0x41, 2, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(vm.qmp("device_del", json!({ "id": "d0" }))["return"], json!({}));
    assert_eq!(vm.event("DEVICE_DELETED")["data"]["device"], "d0");
    vm.events.wait_used(&mut vm.vm);
    assert_eq!(vm.vm.memread(EVENTS + 16, 16), [1, 0, 0, 0, 1, 5, 0x41, 2, 0, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(vm.command(5, &TEST_UNIT_READY).response, BAD_TARGET);
}

#[test]
fn an_error_stops_the_machine_and_the_command_is_tried_again_or_called_off() {
    let drive = "driver=blkdebug,node-name=n0,image.driver=null-co,image.size=1M,image.read-zeroes=on,\
                 inject-error.0.event=none,inject-error.0.sector=8,inject-error.0.once=on,\
                 inject-error.1.event=none,inject-error.1.sector=8,inject-error.1.once=on,\
                 inject-error.2.event=none,inject-error.2.sector=8,inject-error.2.once=on";
    let mut vm = Adapter::new(&["-blockdev", drive, "-device", "scsi-hd,drive=n0,id=d0,rerror=stop"]);
    vm.clear_attention(0);
    vm.vm.memset(DATA, 0xee, 512);
    vm.begin(0, &cdb10(READ, 8, 1), (&[], &[(DATA, 512, true)]));
    assert_eq!(vm.event("BLOCK_IO_ERROR")["data"]["action"], "stop");
    vm.event("STOP");
    assert_eq!(vm.qmp("cont", json!({}))["return"], json!({}));
    // The second time stops it again, the third is called off.
    assert_eq!(vm.event("BLOCK_IO_ERROR")["data"]["action"], "stop");
    vm.event("STOP");
    assert!(vm.queue.used(&mut vm.vm).is_none());
    vm.qmp("cont", json!({}));
    vm.event("BLOCK_IO_ERROR");
    vm.event("STOP");
    vm.qmp("cont", json!({}));
    assert_eq!(vm.end(), good());
    assert_eq!(vm.vm.memread(DATA, 512), vec![0; 512]);
}

#[test]
fn tasks_are_managed() {
    let drive = "driver=null-co,read-zeroes=on,size=1M,latency-ns=100000000,node-name=n0";
    let mut vm = Adapter::new(&["-blockdev", drive, "-device", "scsi-hd,drive=n0,scsi-id=2"]);
    vm.clear_attention(2);
    const ABORT_TASK: u32 = 0;
    const LOGICAL_UNIT_RESET: u32 = 5;
    const QUERY_TASK: u32 = 6;
    assert_eq!(vm.manage(QUERY_TASK, 2, 0x77), 0, "there is none");
    assert_eq!(vm.manage(QUERY_TASK, 3, 0x77), BAD_TARGET);
    assert_eq!(vm.manage(2, 2, 0x77), 11, "there is no auto contingent allegiance");
    vm.begin(2, &cdb10(READ, 0, 1), (&[], &[(DATA, 512, true)]));
    assert_eq!(vm.manage(QUERY_TASK, 2, 0x77), 10, "one is under way");
    assert_eq!(vm.manage(ABORT_TASK, 2, 0x77), 0);
    assert_eq!(vm.end().response, 2, "it was called off");
    vm.begin(2, &cdb10(READ, 0, 1), (&[], &[(DATA, 512, true)]));
    assert_eq!(vm.manage(LOGICAL_UNIT_RESET, 2, 0), 0);
    assert_eq!(vm.end().response, 4, "by a reset");
    vm.clear_attention(2);
}

#[test]
fn headers_that_are_cut_short_break_it_and_a_reset_mends_it() {
    let node =
        ["-blockdev", "driver=null-co,read-zeroes=on,size=1M,node-name=n0", "-device", "scsi-hd,drive=n0"];
    let mut vm = Adapter::new(&node);
    vm.queue.add(&mut vm.vm, &[(REQUEST, 50, false), (RESPONSE, 108, true)]);
    vm.queue.kick(&mut vm.vm);
    vm.device.wait_broken(&mut vm.vm);
    vm.device.set_status(&mut vm.vm, 0);
    assert!(vm.device.negotiate(&mut vm.vm, VERSION_1));
    vm.queue = vm.device.queue(&mut vm.vm, 2, RING);
    vm.device.driver_ok(&mut vm.vm);
    vm.clear_attention(0);
    assert_eq!(vm.command(0, &TEST_UNIT_READY), good());
}

#[test]
fn the_state_goes_to_another_machine() {
    let arguments = [
        "-blockdev",
        "driver=null-co,read-zeroes=on,size=1M,node-name=n0",
        "-device",
        "scsi-cd,drive=n0,id=d0",
        "-S",
    ];
    let mut vm = Adapter::new(&arguments);
    assert_eq!(vm.qmp("blockdev-open-tray", json!({ "id": "d0" }))["return"], json!({}));
    let path = "/machine/peripheral/d0";
    let state = vm.qmp("qom-get", json!({ "path": path, "property": "state" }))["return"].clone();
    assert_eq!(state["scsi-disk-base"]["state"]["tray_open"], true);
    let mut other = Adapter::new(&arguments);
    let set = json!({ "path": path, "property": "state", "value": state });
    assert_eq!(other.qmp("qom-set", set)["return"], json!({}));
    assert_eq!(other.qmp("query-block", json!({}))["return"][0]["tray_open"], true);
}
