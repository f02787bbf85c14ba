//! `virtio-keyboard-pci`, `-mouse-pci` and `-tablet-pci` over qtest and QMP: what they say of themselves, and events.

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;

const INPUT: PciFunction = PciFunction(4 << 3);
const QUEUE: u64 = 0x10_0000;
const EVENTS: u64 = 0x30_0000;

fn machine(device: &str) -> QTest {
    let device = format!("{device},addr=4");
    let program = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).with_qmp();
    program.args(["-nodefaults", "-device", &device]).start()
}

fn driven(vm: &mut QTest, buffers: u64) -> (VirtioPci, VirtQueue) {
    let device = VirtioPci::open(vm, INPUT);
    assert!(device.negotiate(vm, VERSION_1));
    let mut queue = device.queue(vm, 0, QUEUE);
    device.driver_ok(vm);
    for n in 0..buffers {
        queue.add(vm, &[(EVENTS + 8 * n, 8, true)]);
    }
    queue.kick(vm);
    (device, queue)
}

/// What the configuration has where something is selected.
fn selected(vm: &mut QTest, device: &VirtioPci, select: u8, part: u8) -> Vec<u8> {
    vm.writeb(device.device, select);
    vm.writeb(device.device + 1, part);
    let len = vm.readb(device.device + 2);
    (0..u64::from(len)).map(|n| vm.readb(device.device + 8 + n)).collect()
}

/// The events that came: kind, code and value.
fn events(vm: &mut QTest, queue: &mut VirtQueue) -> Vec<(u16, u16, i32)> {
    let mut events = Vec::new();
    while let Some((id, len)) = queue.used(vm) {
        assert_eq!(len, 8);
        let at = EVENTS + 8 * u64::from(id);
        events.push((vm.readw(at), vm.readw(at + 2), vm.readl(at + 4) as i32));
    }
    events
}

#[test]
fn they_say_what_they_are() {
    let cases = [
        ("virtio-keyboard-pci", 0x0900_0001u32, "QEMU Virtio Keyboard\0", 1u8),
        ("virtio-mouse-pci", 0x0902_0001, "QEMU Virtio Mouse\0", 2),
        ("virtio-tablet-pci", 0x0980_0001, "QEMU Virtio Tablet\0", 3),
    ];
    for (name, class, text, product) in cases {
        let mut vm = machine(&format!("{name},serial=abc"));
        assert_eq!(INPUT.readl(&mut vm, 0), 0x1052_1af4, "{name}");
        assert_eq!(INPUT.readl(&mut vm, 8), class);
        let device = VirtioPci::open(&mut vm, INPUT);
        assert_eq!(selected(&mut vm, &device, 1, 0), text.as_bytes());
        assert_eq!(selected(&mut vm, &device, 2, 0), b"abc");
        let version = if product == 1 { 1 } else { 2 };
        assert_eq!(selected(&mut vm, &device, 3, 0), [6, 0, 0x27, 6, product, 0, version, 0]);
        assert!(selected(&mut vm, &device, 0x55, 0).is_empty());
    }
    let mut vm = machine("virtio-tablet-pci");
    let device = VirtioPci::open(&mut vm, INPUT);
    let axis = selected(&mut vm, &device, 0x12, 1);
    assert_eq!(axis[..8], [0, 0, 0, 0, 0xff, 0x7f, 0, 0]);
    assert_eq!(selected(&mut vm, &device, 0x11, 2), [0, 1], "the wheel");
}

#[test]
fn keys_come_when_the_driver_is_there() {
    let mut vm = machine("virtio-keyboard-pci");
    let (_, mut queue) = driven(&mut vm, 8);
    vm.qmp(
        "{'execute': 'input-send-event', 'arguments': {'events': [
        {'type': 'key', 'data': {'down': true, 'key': {'type': 'qcode', 'data': 'shift_r'}}},
        {'type': 'key', 'data': {'down': true, 'key': {'type': 'qcode', 'data': 'up'}}}]}}",
    );
    assert_eq!(events(&mut vm, &mut queue), [(1, 54, 1), (1, 103, 1), (0, 0, 0)]);
    vm.qmp("{'execute': 'send-key', 'arguments': {'keys': [{'type': 'qcode', 'data': 'kp_enter'}]}}");
    vm.clock_step(1_000_000_000);
    assert_eq!(events(&mut vm, &mut queue), [(1, 96, 1), (0, 0, 0), (1, 96, 0), (0, 0, 0)]);
}

#[test]
fn what_has_no_room_together_is_lost_together() {
    let mut vm = machine("virtio-tablet-pci");
    let (_, mut queue) = driven(&mut vm, 3);
    let place = "{'type': 'abs', 'data': {'axis': 'x', 'value': 100}}";
    let send = |vm: &mut QTest, events: &[&str]| {
        let events = events.join(", ");
        vm.qmp(&format!("{{'execute': 'input-send-event', 'arguments': {{'events': [{events}]}}}}"));
    };
    send(&mut vm, &[place, place, place]);
    assert!(events(&mut vm, &mut queue).is_empty());
    let wheel = "{'type': 'btn', 'data': {'down': true, 'button': 'wheel-down'}}";
    send(&mut vm, &[place, wheel]);
    assert_eq!(events(&mut vm, &mut queue), [(3, 0, 100), (2, 8, -1), (0, 0, 0)]);
    let mice = vm.qmp("{'execute': 'query-mice'}");
    let mice = mice.as_array().expect("a list");
    let current = mice.iter().find(|mouse| mouse["current"] == true).expect("one has the events");
    assert_eq!((&current["name"], &current["absolute"]), (&"QEMU Virtio Tablet".into(), &true.into()));
}
