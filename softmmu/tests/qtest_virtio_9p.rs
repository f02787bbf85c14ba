//! `virtio-9p-pci` over qtest: its configuration, requests in the ring, requests that are called off, drivers that do
//! what they must not, and what users get wrong. What is in the messages is tested in the crate `hw-9pfs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;
use tempfile::TempDir;

const P9: PciFunction = PciFunction(4 << 3);
const QUEUE: u64 = 0x10_0000;
const REQUESTS: u64 = 0x30_0000;
/// Bytes of a request, and of the room for its answer behind it.
const ROOM: u64 = 0x4000;
const SLOT: u64 = 2 * ROOM;
const MOUNT_TAG: u64 = 1;

const VERSION: u8 = 100;
const ATTACH: u8 = 104;
const FLUSH: u8 = 108;
const WALK: u8 = 110;
const LOPEN: u8 = 12;
const LERROR: u8 = 7;
const MKDIR: u8 = 72;
const WRITE: u8 = 118;

struct Driver {
    vm: QTest,
    device: VirtioPci,
    queue: VirtQueue,
    next: u64,
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_le_bytes(), text].concat()
}

fn number(value: u32) -> Vec<u8> {
    value.to_le_bytes().into()
}

impl Driver {
    fn start(fsdev: &str) -> Driver {
        let device = "virtio-9p-pci,addr=4,fsdev=fs0,mount_tag=share";
        let arguments = ["-nodefaults", "-fsdev", &format!("{fsdev},id=fs0"), "-device", device];
        let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(arguments).start();
        let (device, queue) = Self::drive(&mut vm);
        Driver { vm, device, queue, next: 0 }
    }

    fn drive(vm: &mut QTest) -> (VirtioPci, VirtQueue) {
        let device = VirtioPci::open(vm, P9);
        assert_eq!(device.features(vm) & MOUNT_TAG, MOUNT_TAG);
        assert!(device.negotiate(vm, VERSION_1 | MOUNT_TAG));
        let queue = device.queue(vm, 0, QUEUE);
        device.driver_ok(vm);
        (device, queue)
    }

    fn local(folder: &TempDir) -> Driver {
        Driver::start(&format!("local,security_model=none,path={}", folder.path().display()))
    }

    fn again(mut self) -> Driver {
        self.device.set_status(&mut self.vm, 0);
        (self.device, self.queue) = Self::drive(&mut self.vm);
        self
    }

    /// Puts a request in the ring; gives its head and where its answer will be.
    fn submit(&mut self, kind: u8, tag: u16, parts: &[Vec<u8>]) -> (u32, u64) {
        let body = parts.concat();
        let size = number(body.len() as u32 + 7);
        let message = [&size[..], &[kind], &tag.to_le_bytes(), &body].concat();
        let at = REQUESTS + self.next % 16 * SLOT;
        self.next += 1;
        self.vm.memwrite(at, &message);
        let buffers = [(at, message.len() as u32, false), (at + ROOM, ROOM as u32, true)];
        let head = self.queue.add(&mut self.vm, &buffers);
        self.queue.kick(&mut self.vm);
        (head.into(), at + ROOM)
    }

    /// The type of the answer, and what follows its header.
    fn call(&mut self, kind: u8, parts: &[Vec<u8>]) -> (u8, Vec<u8>) {
        let (head, at) = self.submit(kind, 1, parts);
        let (used, len) = self.queue.wait_used(&mut self.vm);
        assert_eq!(used, head);
        let answer = self.vm.memread(at, len as usize);
        (answer[4], answer[7..].to_vec())
    }

    fn attach(&mut self) {
        assert_eq!(self.call(VERSION, &[number(8192), string(b"9P2000.L")]).0, VERSION + 1);
        let attach = [number(0), number(u32::MAX), string(b""), string(b""), number(0)];
        assert_eq!(self.call(ATTACH, &attach).0, ATTACH + 1);
    }

    fn walk(&mut self, new: u32, names: &[&[u8]]) -> (u8, Vec<u8>) {
        let mut parts = vec![number(0), number(new), (names.len() as u16).to_le_bytes().into()];
        parts.extend(names.iter().map(|name| string(name)));
        self.call(WALK, &parts)
    }

    fn write(data: &[u8]) -> [Vec<u8>; 4] {
        [number(1), vec![0; 8], number(data.len() as u32), data.to_vec()]
    }

    fn open(&mut self, name: &[u8]) {
        assert_eq!(self.walk(1, &[name]).0, WALK + 1);
        assert_eq!(self.call(LOPEN, &[number(1), number(1)]).0, LOPEN + 1);
    }
}

#[test]
fn the_tag_is_in_the_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut driver = Driver::local(&folder);
    let config = driver.device.device;
    assert_eq!(driver.vm.readw(config), 5);
    let tag: Vec<u8> = (0..5).map(|n| driver.vm.readb(config + 2 + n)).collect();
    assert_eq!(tag, b"share");
}

#[test]
fn what_the_driver_does_shows_on_the_host_and_nothing_outside() {
    let outside = tempfile::tempdir().expect("a temporary folder");
    let folder = tempfile::tempdir_in(&outside).expect("a temporary folder");
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    symlink(outside.path(), folder.path().join("link")).unwrap();
    let mut driver = Driver::local(&folder);
    driver.attach();
    let made = [number(0), string(b"made"), number(0o700), number(u32::MAX)];
    assert_eq!(driver.call(MKDIR, &made).0, MKDIR + 1);
    assert!(folder.path().join("made").is_dir());
    assert_eq!(driver.walk(1, &[b"..", b"..", b"made"]).1[..2], [3, 0], "up is here");
    for names in [&[&b"../secret"[..]][..], &[b"/etc"], &[b"none"], &[b"..", b"secret"]] {
        let (kind, body) = driver.walk(2, names);
        let stopped = kind == LERROR && body == number(2) || kind == WALK + 1 && body[0] < names.len() as u8;
        assert!(stopped, "{names:?}: {kind} {body:?}");
    }
    assert_eq!(driver.walk(3, &[b"link", b"secret"]).1[0], 1, "as far as the link");
    let made = [number(0), string(b"link/made"), number(0o700), number(u32::MAX)];
    assert_eq!(driver.call(MKDIR, &made), (LERROR, number(2)));
}

#[test]
fn a_request_that_is_called_off_ends_without_an_answer() {
    let mut driver = Driver::start("synth");
    driver.attach();
    driver.open(b"FLUSH");
    let (blocked, _) = driver.submit(WRITE, 7, &Driver::write(&[1]));
    let (flush, at) = driver.submit(FLUSH, 8, &[vec![7, 0]]);
    let (second, _) = driver.submit(FLUSH, 9, &[vec![8, 0]]);
    let used = [0; 3].map(|_| driver.queue.wait_used(&mut driver.vm));
    assert_eq!(used[0], (blocked, 0));
    let mut flushes = [used[1], used[2]];
    flushes.sort_unstable();
    let mut expected = [(flush, 7), (second, 7)];
    expected.sort_unstable();
    assert_eq!(flushes, expected);
    assert_eq!(driver.vm.memread(at, 7), [7, 0, 0, 0, 109, 8, 0]);
    // Nothing is under way.
    let (head, _) = driver.submit(FLUSH, 9, &[vec![7, 0]]);
    assert_eq!(driver.queue.wait_used(&mut driver.vm), (head, 7));
}

#[test]
fn a_reset_ends_what_would_not_end() {
    let mut driver = Driver::start("synth");
    driver.attach();
    driver.open(b"FLUSH");
    for tag in 0..100 {
        driver.submit(WRITE, tag, &Driver::write(&[1]));
    }
    let mut driver = driver.again();
    // Its fids are gone, too.
    driver.attach();
    driver.open(b"FLUSH");
    assert_eq!(driver.call(WRITE, &Driver::write(&[0])), (WRITE + 1, number(1)));
}

#[test]
fn writes_wait_for_their_turn() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("file"), b"").unwrap();
    let path = folder.path().display();
    let limits = "throttling.bps-write=1000";
    let mut driver = Driver::start(&format!("local,security_model=none,path={path},{limits}"));
    driver.attach();
    driver.open(b"file");
    assert_eq!(driver.call(WRITE, &Driver::write(&[b'x'; 2000])).0, WRITE + 1);
    let (head, _) = driver.submit(WRITE, 1, &Driver::write(b"y"));
    // A read in between has no limit, and comes back while the write waits.
    assert_eq!(driver.walk(2, &[]).0, WALK + 1);
    assert_eq!(driver.queue.used(&mut driver.vm), None);
    assert_eq!(fs::read(folder.path().join("file")).unwrap()[0], b'x');
    driver.vm.clock_step(3_000_000_000);
    assert_eq!(driver.queue.wait_used(&mut driver.vm), (head, 11));
    // A reset does not wait.
    driver.call(WRITE, &Driver::write(&[b'x'; 2000]));
    driver.submit(WRITE, 1, &Driver::write(b"y"));
    let mut driver = driver.again();
    driver.attach();
}

#[test]
fn what_is_no_request_breaks_the_device() {
    let mut driver = Driver::start("synth");
    driver.attach();
    let cases: [&[Buffer]; 4] = [
        &[(REQUESTS, 7, false), (REQUESTS + ROOM, 6, true)],
        &[(REQUESTS, 6, false), (REQUESTS + ROOM, 100, true)],
        // Too short for what it says it is.
        &[(REQUESTS, 8, false), (REQUESTS + ROOM, 100, true)],
        &[(REQUESTS, 11, false), (REQUESTS + ROOM, 8, true)],
    ];
    for buffers in cases {
        driver = driver.again();
        driver.vm.memwrite(REQUESTS, &[11, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0]);
        driver.queue.add(&mut driver.vm, buffers);
        driver.queue.kick(&mut driver.vm);
        driver.device.wait_broken(&mut driver.vm);
    }
    let mut driver = driver.again();
    driver.attach();
}

#[test]
fn virtfs_is_both() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let virtfs =
        format!("local,mount_tag=share,security_model=mapped-xattr,path={}", folder.path().display());
    let vm =
        QTest::builder(env!("CARGO_BIN_EXE_softmmu")).with_qmp().args(["-nodefaults", "-virtfs", &virtfs]);
    let mut vm = vm.start();
    let get = |name: &str| {
        format!(
            "{{'execute': 'qom-get', 'arguments': {{'path': '/machine/peripheral-anon/device[0]', 'property': '{name}'}}}}"
        )
    };
    assert_eq!(vm.qmp(&get("fsdev")), "share");
    assert_eq!(vm.qmp(&get("mount_tag")), "share");
    assert_eq!(vm.qmp(&get("type")), "virtio-9p-pci");
}

#[test]
fn users_mistakes_are_named() {
    let long = format!("virtio-9p-pci,fsdev=x,mount_tag={}", "t".repeat(32));
    let cases: [(&[&str], &str); 13] = [
        (&["-device", "virtio-9p-pci"], "9pfs device couldn't find fsdev with the id = NULL"),
        (&["-device", "virtio-9p-pci,fsdev=y"], "9pfs device couldn't find fsdev with the id = y"),
        (
            &["-fsdev", "synth,id=x", "-device", "virtio-9p-pci,fsdev=x"],
            "fsdev with id x needs mount_tag arguments",
        ),
        (&["-fsdev", "synth,id=x", "-device", &long], "(32 bytes) is longer than maximum (31 bytes)"),
        (
            &["-virtfs", "local,path=/none,security_model=none,mount_tag=x"],
            "cannot initialize fsdev 'x': failed to open '/none': No such file or directory",
        ),
        (&["-fsdev", "local,id=x"], "-fsdev local,id=x: security_model property not set"),
        (
            &["-fsdev", "local,id=x"],
            "Valid options are: security_model=[passthrough|mapped-xattr|mapped-file|none]",
        ),
        (&["-fsdev", "proxy,id=x"], "-fsdev proxy,id=x: fsdev: fsdriver proxy not found"),
        (&["-fsdev", "synth"], "-fsdev synth: fsdev: No id specified"),
        (&["-fsdev", "synth,id=x", "-fsdev", "synth,id=x"], "Duplicate ID 'x' for fsdev"),
        (&["-virtfs", "synth"], "-virtfs synth: Usage: -virtfs fsdriver,mount_tag=tag"),
        (&["-fsdev", "synth,id=x", "-virtfs", "synth,mount_tag=x"], "duplicate or invalid fsdev id: x"),
        (&["-fsdev", "local,id=x,foo=1"], "-fsdev local,id=x,foo=1: Invalid parameter 'foo'"),
    ];
    for (arguments, text) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_softmmu"))
            .args(["-accel", "qtest", "-display", "none", "-nodefaults"])
            .args(arguments)
            .output()
            .expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(text), "{error}");
    }
}
