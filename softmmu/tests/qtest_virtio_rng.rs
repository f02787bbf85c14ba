//! `virtio-rng-pci` over qtest: its limits, its sources, and what users get wrong.

use std::process::Command;

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;

const RNG: PciFunction = PciFunction(4 << 3);
const QUEUE: u64 = 0x10_0000;
const BUFFER: u64 = 0x30_0000;

fn machine(arguments: &[&str]) -> QTest {
    QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(["-nodefaults"]).args(arguments).start()
}

fn driven(vm: &mut QTest) -> VirtQueue {
    let device = VirtioPci::open(vm, RNG);
    assert!(device.negotiate(vm, VERSION_1));
    let queue = device.queue(vm, 0, QUEUE);
    device.driver_ok(vm);
    queue
}

#[test]
fn a_period_has_so_many_bytes() {
    let mut vm = machine(&["-device", "virtio-rng-pci,addr=4,max-bytes=100,period=1000"]);
    let mut queue = driven(&mut vm);
    for _ in 0..3 {
        queue.add(&mut vm, &[(BUFFER, 60, true)]);
        queue.kick(&mut vm);
    }
    assert_eq!(queue.wait_used(&mut vm).1, 60);
    assert_eq!(queue.wait_used(&mut vm).1, 40, "what was left");
    vm.clock_step(900_000_000);
    assert_eq!(queue.used(&mut vm), None);
    vm.clock_step(200_000_000);
    assert_eq!(queue.wait_used(&mut vm).1, 60);
}

#[test]
fn bytes_come_from_a_file() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), b"0123456789abcdef").expect("a temporary file");
    let object = format!("rng-random,id=r0,filename={}", file.path().display());
    let mut vm = machine(&["-object", &object, "-device", "virtio-rng-pci,addr=4,rng=r0"]);
    let mut queue = driven(&mut vm);
    queue.add(&mut vm, &[(BUFFER, 10, true)]);
    queue.add(&mut vm, &[(BUFFER + 10, 10, true)]);
    queue.add(&mut vm, &[(BUFFER + 20, 10, true)]);
    queue.kick(&mut vm);
    assert_eq!([0; 3].map(|_| queue.wait_used(&mut vm).1), [10, 6, 0], "and then it is at its end");
    assert_eq!(vm.memread(BUFFER, 16), b"0123456789abcdef");
}

#[test]
fn a_buffer_that_is_only_read_gets_nothing() {
    let mut vm = machine(&["-device", "virtio-rng-pci,addr=4"]);
    let mut queue = driven(&mut vm);
    queue.add(&mut vm, &[(BUFFER, 10, false)]);
    queue.add(&mut vm, &[(BUFFER, 10, true)]);
    queue.kick(&mut vm);
    assert_eq!(queue.wait_used(&mut vm), (0, 0));
    queue.kick(&mut vm);
    assert_eq!(queue.wait_used(&mut vm), (1, 10));
}

#[test]
fn users_mistakes_are_named() {
    let cases: [(&[&str], &str); 7] = [
        (&["virtio-rng-pci,period=0"], "'period' parameter expects a positive integer"),
        (
            &["virtio-rng-pci,max-bytes=9223372036854775808"],
            "'max-bytes' parameter must be non-negative, and less than 2^63",
        ),
        (&["virtio-rng-pci,rng=nobody"], "Device 'nobody' not found"),
        (
            &["virtio-rng-pci,disable-modern=on,disable-legacy=on"],
            "device cannot work as neither modern nor legacy mode is enabled",
        ),
        (
            &["virtio-rng-pci,iommu_platform=on"],
            "VIRTIO_F_IOMMU_PLATFORM was supported by neither legacy nor transitional device",
        ),
        (&["virtio-rng-pci,packed=on"], "packed virtqueues (packed=on) are not supported yet"),
        (&["virtio-rng-device"], "No 'virtio-bus' bus found for device 'virtio-rng-device'"),
    ];
    for (devices, text) in cases {
        let devices = devices.iter().flat_map(|device| ["-device", device]);
        let output = Command::new(env!("CARGO_BIN_EXE_softmmu"))
            .args(["-accel", "qtest", "-display", "none", "-nodefaults"])
            .args(devices)
            .output()
            .expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn another_machine_goes_on_with_a_saved_state() {
    let arguments = ["-device", "virtio-rng-pci,addr=4,id=r0"];
    let start = |more: &[&str]| {
        let builder = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).with_qmp().args(["-nodefaults"]);
        builder.args(arguments).args(more).start()
    };
    let paths = ["/machine/peripheral/r0/virtio-backend", "/machine/peripheral/r0"];
    let mut old = start(&[]);
    let device = VirtioPci::open(&mut old, RNG);
    assert!(device.negotiate(&mut old, VERSION_1 | EVENT_IDX));
    device.enable_msix(&mut old, 0x20_0000);
    let mut queue = device.queue(&mut old, 0, QUEUE);
    old.writew(device.common + common::QUEUE_MSIX_VECTOR, 1);
    device.driver_ok(&mut old);
    for _ in 0..5 {
        queue.add(&mut old, &[(BUFFER, 16, true)]);
        queue.kick(&mut old);
        queue.wait_used(&mut old);
    }
    old.qmp("{'execute': 'stop'}");
    // Offered while the machine stands still: for the other one.
    let head = queue.add(&mut old, &[(BUFFER, 16, true)]);
    let mut new = start(&["-S"]);
    for path in paths {
        let get = serde_json::json!({"execute": "qom-get", "arguments": {"path": path, "property": "state"}});
        let state = old.qmp(&get.to_string());
        let arguments = serde_json::json!({"path": path, "property": "state", "value": state});
        new.qmp(&serde_json::json!({"execute": "qom-set", "arguments": arguments}).to_string());
    }
    let memory = old.bufread(QUEUE, 0x10000);
    new.bufwrite(QUEUE, &memory);
    // The driver wants to hear of the sixth.
    new.writew(queue.available + 4 + 2 * 8, 5);
    new.qmp("{'execute': 'cont'}");
    assert_eq!(queue.wait_used(&mut new), (head.into(), 16));
    assert_eq!(new.readl(0x20_0004), 2, "its message");
    assert_eq!(device.status(&mut new), 0xf);
    assert_eq!(new.readq(device.common + common::QUEUE_DRIVER), queue.available);
}
