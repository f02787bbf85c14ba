//! The PCI transport of virtio devices over qtest, with `virtio-rng-pci` behind it: what a driver finds, both
//! interfaces, interrupts, and what bad drivers get.

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;
use serde_json::json;

const RNG: PciFunction = PciFunction(4 << 3);
/// Guest memory of the driver: its queue, a place for messages, buffers.
const QUEUE: u64 = 0x10_0000;
const MESSAGES: u64 = 0x20_0000;
const BUFFER: u64 = 0x30_0000;
const ALL: u64 = VERSION_1 | EVENT_IDX | INDIRECT_DESC | RING_RESET;

fn rng(more: &str) -> QTest {
    let device = format!("virtio-rng-pci{more},addr=4");
    QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(["-nodefaults", "-device", &device]).start()
}

/// A driver that drives it, with a queue.
fn driven(vm: &mut QTest, features: u64) -> (VirtioPci, VirtQueue) {
    let device = VirtioPci::open(vm, RNG);
    assert!(device.negotiate(vm, features));
    let queue = device.queue(vm, 0, QUEUE);
    device.driver_ok(vm);
    (device, queue)
}

/// Whether the buffer was filled with something.
fn is_random(vm: &mut QTest, len: usize) -> bool {
    vm.memread(BUFFER, len).iter().any(|byte| *byte != 0)
}

/// Has the device fill a buffer.
fn works(vm: &mut QTest, queue: &mut VirtQueue) -> bool {
    vm.memset(BUFFER, 0, 64);
    let head = queue.add(vm, &[(BUFFER, 64, true)]);
    queue.kick(vm);
    queue.wait_used(vm) == (head.into(), 64) && is_random(vm, 64)
}

#[test]
fn a_transitional_function_has_both_interfaces() {
    let mut vm = rng("");
    assert_eq!(RNG.readl(&mut vm, 0), 0x1005_1af4);
    assert_eq!(RNG.readl(&mut vm, 8), 0x00ff_0000);
    assert_eq!(RNG.readl(&mut vm, 0x2c), 0x0004_1af4);
    assert_eq!(RNG.readb(&mut vm, 0x3d), 1, "INTA#");
    let sizes = [(0x10, 0xffff_ffe1), (0x14, 0xffff_f000), (0x20, 0xffff_c00c), (0x24, 0xffff_ffff)];
    for (register, mask) in sizes {
        RNG.writel(&mut vm, register, u32::MAX);
        assert_eq!(RNG.readl(&mut vm, register), mask, "{register:#x}");
    }
    // In the order of QEMU's: MSI-X, then the window, notification, the device, interrupt status, common.
    assert_eq!(RNG.readb(&mut vm, 0x34), 0x98);
    assert_eq!(RNG.capabilities(&mut vm, 0x11), [0x98]);
    assert_eq!(RNG.capabilities(&mut vm, 0x09), [0x84, 0x70, 0x60, 0x50, 0x40]);
    assert_eq!(RNG.readl(&mut vm, 0x98), 0x0001_8411, "two vectors");
    assert_eq!(RNG.readl(&mut vm, 0x9c), 1, "the table");
    assert_eq!(RNG.readl(&mut vm, 0xa0), 0x801, "the pending bits");
}

#[test]
fn types_say_for_which_buses_they_are() {
    let builder = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(["-machine", "none"]);
    let mut vm = builder.with_qmp().start();
    let mut types = |interface| {
        let list = json!({"execute": "qom-list-types", "arguments": {"implements": interface}});
        let list = vm.qmp(&list.to_string());
        let names = list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let (conventional, express) = (types("conventional-pci-device"), types("pci-express-device"));
    let is = |name: &str| (conventional.iter().any(|n| n == name), express.iter().any(|n| n == name));
    for name in ["virtio-rng-pci", "virtio-rng-pci-non-transitional", "virtio-keyboard-pci"] {
        assert_eq!(is(name), (true, true), "{name}");
    }
    for name in ["virtio-rng-pci-transitional", "i440FX", "piix3-ide", "pci-bridge"] {
        assert_eq!(is(name), (true, false), "{name}");
    }
    assert_eq!(is("isa-serial"), (false, false));
}

#[test]
fn the_user_chooses_the_interfaces() {
    let mut vm = rng("-non-transitional");
    assert_eq!(RNG.readl(&mut vm, 0), 0x1044_1af4);
    assert_eq!(RNG.readb(&mut vm, 8), 1);
    assert_eq!(RNG.readl(&mut vm, 0x2c), 0x1100_1af4);
    assert_eq!(RNG.map_bar(&mut vm, 0), 0);
    let mut vm = rng(",disable-modern=on,vectors=0");
    assert_eq!(RNG.readl(&mut vm, 0), 0x1005_1af4);
    assert_eq!(RNG.readb(&mut vm, 0x34), 0, "no capabilities");
    assert_eq!(RNG.map_bar(&mut vm, 4), 0);
    let mut vm = rng(",modern-pio-notify=on,page-per-vq=on");
    assert_eq!(RNG.capabilities(&mut vm, 0x09).len(), 6);
    RNG.writel(&mut vm, 0x20, u32::MAX);
    assert_eq!(RNG.readl(&mut vm, 0x20), 0xff80_000c, "a page for each of 1024 queues");
}

#[test]
fn a_modern_driver_gets_what_it_asks_for() {
    for options in ["", "-non-transitional", ",modern-pio-notify=on,page-per-vq=on", ",event_idx=off"] {
        let mut vm = rng(options);
        let device = VirtioPci::open(&mut vm, RNG);
        let offered = device.features(&mut vm);
        assert_eq!(offered & VERSION_1, VERSION_1);
        let (device, mut queue) = driven(&mut vm, offered & ALL);
        assert_eq!(queue.size, 8);
        for _ in 0..20 {
            assert!(works(&mut vm, &mut queue), "{options}");
        }
        assert_eq!(device.read_isr(&mut vm), 1);
        assert_eq!(device.read_isr(&mut vm), 0, "reading clears");
    }
}

#[test]
fn a_legacy_driver_gets_what_it_asks_for() {
    let mut vm = rng(",disable-modern=on");
    let ports = RNG.map_bar(&mut vm, 0) as u16;
    assert_eq!(vm.inl(ports) & 1 << 29, 1 << 29, "event_idx");
    vm.outb(ports + 18, 1);
    vm.outb(ports + 18, 3);
    vm.outl(ports + 4, 0);
    vm.outw(ports + 14, 0);
    assert_eq!(vm.inw(ports + 12), 8, "entries");
    vm.outl(ports + 8, (QUEUE >> 12) as u32);
    assert_eq!(vm.inl(ports + 8), (QUEUE >> 12) as u32);
    vm.outb(ports + 18, 7);
    let (available, used) = (QUEUE + 8 * 16, QUEUE + 0x1000);
    let mut descriptor = BUFFER.to_le_bytes().to_vec();
    descriptor.extend([32, 0, 0, 0, 2, 0, 0, 0]);
    vm.memwrite(QUEUE, &descriptor);
    vm.writew(available + 2, 1);
    vm.outw(ports + 16, 0);
    while vm.readw(used + 2) != 1 {}
    assert_eq!((vm.readl(used + 4), vm.readl(used + 8)), (0, 32));
    assert!(is_random(&mut vm, 32));
    assert_eq!(RNG.readw(&mut vm, 6) & 8, 8, "INTA# is asserted");
    assert_eq!(vm.inb(ports + 19), 1);
    assert_eq!(RNG.readw(&mut vm, 6) & 8, 0);
    // A ring at no address resets the device.
    vm.outl(ports + 8, 0);
    assert_eq!(vm.inb(ports + 18), 0);
}

#[test]
fn what_was_not_offered_is_not_agreed_on() {
    let mut vm = rng("");
    let device = VirtioPci::open(&mut vm, RNG);
    assert!(!device.negotiate(&mut vm, VERSION_1 | 1 << 34), "packed rings");
    assert_eq!(device.status(&mut vm), ACKNOWLEDGE | DRIVER);
    assert!(device.negotiate(&mut vm, VERSION_1));
    // Too late.
    vm.writel(device.common + common::DRIVER_FEATURE_SELECT, 0);
    vm.writel(device.common + common::DRIVER_FEATURE, EVENT_IDX as u32);
    let mut queue = device.queue(&mut vm, 0, QUEUE);
    device.driver_ok(&mut vm);
    // With event indices the device would ask for no more notifications here.
    for _ in 0..4 {
        assert!(works(&mut vm, &mut queue));
    }
    assert_eq!(vm.readw(queue.used + 4 + 8 * 8), 0, "no event index is written");
}

#[test]
fn vectors_are_masked_one_by_one_and_all_together() {
    let mut vm = rng("");
    let device = VirtioPci::open(&mut vm, RNG);
    assert!(device.negotiate(&mut vm, VERSION_1));
    let table = device.enable_msix(&mut vm, MESSAGES);
    let mut queue = device.queue(&mut vm, 0, QUEUE);
    let vector = device.common + common::QUEUE_MSIX_VECTOR;
    vm.writew(vector, 2);
    assert_eq!(vm.readw(vector), 0xffff, "there is no such vector");
    vm.writew(vector, 1);
    assert_eq!(vm.readw(vector), 1);
    device.driver_ok(&mut vm);
    let message = MESSAGES + 4;
    assert!(works(&mut vm, &mut queue));
    assert_eq!(vm.readl(message), 2);
    assert_eq!(RNG.readw(&mut vm, 6) & 8, 0, "INTA# is not used");
    let (pending, mask) = (table + 0x800, table + 16 + 12);
    // The vector's own mask, then the function's.
    for function_mask in [false, true] {
        vm.writel(message, 0);
        match function_mask {
            false => vm.writel(mask, 1),
            true => RNG.writew(&mut vm, 0x9a, 0xc001),
        }
        assert!(works(&mut vm, &mut queue));
        assert_eq!((vm.readl(message), vm.readl(pending)), (0, 2));
        match function_mask {
            false => vm.writel(mask, 0),
            true => RNG.writew(&mut vm, 0x9a, 0x8001),
        }
        assert_eq!((vm.readl(message), vm.readl(pending)), (2, 0));
    }
    // A message to the device's own registers goes nowhere.
    vm.writeq(table + 16, device.common + common::STATUS);
    vm.writel(table + 24, 0);
    assert!(works(&mut vm, &mut queue));
    assert!(device.status(&mut vm) & DRIVER_OK != 0);
}

#[test]
fn the_driver_hears_of_what_it_wants_to_hear_of() {
    let mut vm = rng("");
    let (device, mut queue) = driven(&mut vm, VERSION_1);
    vm.writew(queue.available, 1);
    assert!(works(&mut vm, &mut queue));
    assert_eq!(device.read_isr(&mut vm), 0, "no interrupts");
    vm.writew(queue.available, 0);
    assert!(works(&mut vm, &mut queue));
    assert_eq!(device.read_isr(&mut vm), 1);

    let (device, mut queue) = driven(&mut vm, VERSION_1 | EVENT_IDX);
    let event = queue.available + 4 + 8 * 2;
    vm.writew(event, 2);
    let mut heard = Vec::new();
    for _ in 0..5 {
        assert!(works(&mut vm, &mut queue));
        heard.push(device.read_isr(&mut vm));
    }
    // The first time always; then of the third.
    assert_eq!(heard, [1, 0, 1, 0, 0]);
}

#[test]
fn without_bus_mastering_nothing_is_touched() {
    let mut vm = rng("");
    let (device, mut queue) = driven(&mut vm, VERSION_1);
    assert!(works(&mut vm, &mut queue));
    let command = RNG.readw(&mut vm, 4);
    RNG.writew(&mut vm, 4, command & !4);
    assert_eq!(device.status(&mut vm) & DRIVER_OK, 0);
    vm.memset(BUFFER, 0, 64);
    queue.add(&mut vm, &[(BUFFER, 64, true)]);
    queue.kick(&mut vm);
    assert_eq!(queue.used(&mut vm), None);
    assert!(!is_random(&mut vm, 64));
}

#[test]
fn registers_are_reached_through_configuration_space() {
    let mut vm = rng("");
    let device = VirtioPci::open(&mut vm, RNG);
    let window = RNG.capabilities(&mut vm, 0x09)[0];
    let at = |vm: &mut QTest, offset: u32, len: u32| {
        RNG.writeb(vm, window + 4, 4);
        RNG.writel(vm, window + 8, offset);
        RNG.writel(vm, window + 12, len);
    };
    at(&mut vm, common::STATUS as u32, 1);
    RNG.writeb(&mut vm, window + 16, ACKNOWLEDGE);
    assert_eq!(device.status(&mut vm), ACKNOWLEDGE);
    assert_eq!(RNG.readb(&mut vm, window + 16), ACKNOWLEDGE);
    at(&mut vm, common::NUM_QUEUES as u32, 2);
    assert_eq!(RNG.readw(&mut vm, window + 16), 1);
    // Nonsense is no access at all.
    for (offset, len) in [(0x14, 3), (0x14, 0), (u32::MAX, 4), (0x4000, 4)] {
        at(&mut vm, offset, len);
        RNG.writel(&mut vm, window + 16, 0xff);
        let _ = RNG.readl(&mut vm, window + 16);
    }
    assert_eq!(device.status(&mut vm), ACKNOWLEDGE);
}

#[test]
fn one_queue_is_reset_and_set_up_again() {
    let mut vm = rng("");
    let (device, mut queue) = driven(&mut vm, VERSION_1 | RING_RESET);
    assert!(works(&mut vm, &mut queue));
    vm.writew(device.common + common::QUEUE_RESET, 1);
    assert_eq!(vm.readw(device.common + common::QUEUE_RESET), 0, "done");
    assert_eq!(vm.readw(device.common + common::QUEUE_ENABLE), 0);
    queue.kick(&mut vm);
    let mut queue = device.queue(&mut vm, 0, QUEUE + 0x10000);
    assert!(works(&mut vm, &mut queue));
}

#[test]
fn the_machine_and_the_driver_reset_it() {
    let mut vm = rng("");
    let (device, mut queue) = driven(&mut vm, VERSION_1);
    assert!(works(&mut vm, &mut queue));
    device.set_status(&mut vm, 0);
    assert_eq!(device.status(&mut vm), 0);
    assert_eq!(device.read_isr(&mut vm), 0);
    assert_eq!(vm.readw(device.common + common::QUEUE_ENABLE), 0);
    assert_eq!(vm.readq(device.common + common::QUEUE_DESC), 0);
    let (_, mut queue) = driven(&mut vm, VERSION_1);
    assert!(works(&mut vm, &mut queue));
}

/// What a bad driver does with its queue.
type Crime = fn(&mut QTest, &mut VirtQueue);

/// What breaks a device, each with its name.
const CRIMES: [(&str, Crime); 14] = [
    ("a chain that loops", |vm, queue| {
        queue.set_descriptor(vm, 0, (BUFFER, 4), DESC_NEXT | DESC_WRITE, 1);
        queue.set_descriptor(vm, 1, (BUFFER, 4), DESC_NEXT | DESC_WRITE, 0);
        queue.make_available(vm, 0);
    }),
    ("a chain that leaves the table", |vm, queue| {
        queue.set_descriptor(vm, 0, (BUFFER, 4), DESC_NEXT | DESC_WRITE, 8);
        queue.make_available(vm, 0);
    }),
    ("a head that is no descriptor", |vm, queue| queue.make_available(vm, 8)),
    ("a buffer of no length", |vm, queue| {
        queue.add(vm, &[(BUFFER, 0, true)]);
    }),
    ("a buffer beyond memory", |vm, queue| {
        queue.add(vm, &[(1 << 40, 4, true)]);
    }),
    ("a buffer across the end of memory", |vm, queue| {
        queue.add(vm, &[((128 << 20) - 2, 4, true)]);
    }),
    ("a buffer across the end of all addresses", |vm, queue| {
        queue.add(vm, &[(u64::MAX - 1, 4, true)]);
    }),
    ("a buffer that is longer than memory", |vm, queue| {
        queue.add(vm, &[(BUFFER, u32::MAX, true)]);
    }),
    ("a buffer in registers", |vm, queue| {
        queue.add(vm, &[(0xfec0_0000, 4, true)]);
    }),
    ("a readable buffer behind a writable one", |vm, queue| {
        queue.add(vm, &[(BUFFER, 4, true), (BUFFER, 4, false)]);
    }),
    ("more chains than entries", |vm, queue| {
        queue.set_descriptor(vm, 0, (BUFFER, 4), DESC_WRITE, 0);
        vm.writew(queue.available + 2, 10);
    }),
    ("an indirect table of odd length", |vm, queue| {
        queue.set_descriptor(vm, 0, (BUFFER, 17), DESC_INDIRECT, 0);
        queue.make_available(vm, 0);
    }),
    ("an indirect table beyond memory", |vm, queue| {
        queue.set_descriptor(vm, 0, (1 << 40, 32), DESC_INDIRECT, 0);
        queue.make_available(vm, 0);
    }),
    ("an indirect table in an indirect table", |vm, queue| {
        queue.set_descriptor(vm, 0, (queue.descriptors, 16), DESC_INDIRECT, 0);
        queue.make_available(vm, 0);
    }),
];

#[test]
fn a_bad_driver_breaks_its_device_until_it_resets_it() {
    let mut vm = rng("");
    for (name, crime) in CRIMES {
        let (device, mut queue) = driven(&mut vm, VERSION_1 | INDIRECT_DESC);
        assert!(works(&mut vm, &mut queue), "before {name}");
        let _ = device.read_isr(&mut vm);
        crime(&mut vm, &mut queue);
        queue.kick(&mut vm);
        assert_eq!(device.status(&mut vm), 0xf | NEEDS_RESET, "{name}");
        assert_eq!(device.read_isr(&mut vm), 3, "{name}");
        assert_eq!(queue.used(&mut vm), None, "{name}");
        // Only a reset takes it back.
        device.driver_ok(&mut vm);
        queue.kick(&mut vm);
        assert_eq!(device.status(&mut vm), 0xf | NEEDS_RESET, "{name}");
    }
}

#[test]
fn rings_outside_memory_break_the_device() {
    for at in [1 << 40, (128 << 20) - 16, 0xfec0_0000, u64::MAX - 15] {
        for register in [common::QUEUE_DESC, common::QUEUE_DRIVER, common::QUEUE_DEVICE] {
            let mut vm = rng("");
            let device = VirtioPci::open(&mut vm, RNG);
            assert!(device.negotiate(&mut vm, VERSION_1 | EVENT_IDX));
            let mut queue = device.queue(&mut vm, 0, QUEUE);
            vm.writew(device.common + common::QUEUE_RESET, 1);
            vm.writeq(device.common + common::QUEUE_DESC, queue.descriptors);
            vm.writeq(device.common + common::QUEUE_DRIVER, queue.available);
            vm.writeq(device.common + common::QUEUE_DEVICE, queue.used);
            vm.writeq(device.common + register, at);
            vm.writew(device.common + common::QUEUE_ENABLE, 1);
            device.driver_ok(&mut vm);
            for _ in 0..8 {
                queue.add(&mut vm, &[(BUFFER, 64, true)]);
                queue.kick(&mut vm);
            }
            // The main loop has been round when it answers this.
            vm.clock_step(1);
            let broken = device.status(&mut vm) & NEEDS_RESET != 0;
            // Where some of the ring is memory, what it holds may be a ring with nothing in it.
            assert!(broken || at == (128 << 20) - 16, "{register:#x} at {at:#x}");
        }
    }
}

#[test]
fn misplaced_rings_and_wrong_values_break_the_device() {
    let mut vm = rng("");
    for (register, at) in [(common::QUEUE_DESC, 8), (common::QUEUE_DRIVER, 1), (common::QUEUE_DEVICE, 2)] {
        let device = VirtioPci::open(&mut vm, RNG);
        assert!(device.negotiate(&mut vm, VERSION_1));
        vm.writeq(device.common + register, QUEUE + at);
        vm.writew(device.common + common::QUEUE_ENABLE, 1);
        assert!(device.status(&mut vm) & NEEDS_RESET != 0, "{register:#x}");
    }
    let device = VirtioPci::open(&mut vm, RNG);
    assert!(device.negotiate(&mut vm, VERSION_1));
    vm.writew(device.common + common::QUEUE_ENABLE, 2);
    assert!(device.status(&mut vm) & NEEDS_RESET != 0);
    // Sizes that no ring has are not taken.
    let device = VirtioPci::open(&mut vm, RNG);
    for size in [0, 3, 16, 0xffff] {
        vm.writew(device.common + common::QUEUE_SIZE, size);
        assert_eq!(vm.readw(device.common + common::QUEUE_SIZE), 8);
    }
    vm.writew(device.common + common::QUEUE_SIZE, 4);
    assert_eq!(vm.readw(device.common + common::QUEUE_SIZE), 4);
    // Queues that are not there.
    for queue in [1, 1023, 1024, 0xffff] {
        vm.writew(device.common + common::QUEUE_SELECT, queue);
        if queue < 1024 {
            assert_eq!(vm.readw(device.common + common::QUEUE_SIZE), 0);
        }
        vm.writew(device.common + common::QUEUE_ENABLE, 1);
        vm.writew(device.notify + 4 * u64::from(queue % 1024), queue);
    }
}

#[test]
fn indirect_descriptors_are_followed() {
    let mut vm = rng("");
    let (_, mut queue) = driven(&mut vm, VERSION_1 | INDIRECT_DESC);
    let table = QUEUE + 0x20000;
    let saved = queue.descriptors;
    // The same layout as the queue's own table.
    queue.descriptors = table;
    queue.set_descriptor(&mut vm, 0, (BUFFER, 16), DESC_WRITE | DESC_NEXT, 1);
    queue.set_descriptor(&mut vm, 1, (BUFFER + 16, 16), DESC_WRITE, 0);
    queue.descriptors = saved;
    queue.set_descriptor(&mut vm, 0, (table, 32), DESC_INDIRECT, 0);
    vm.memset(BUFFER, 0, 64);
    queue.make_available(&mut vm, 0);
    queue.kick(&mut vm);
    assert_eq!(queue.wait_used(&mut vm), (0, 32));
    assert!(is_random(&mut vm, 16));
    assert!(vm.memread(BUFFER + 16, 16).iter().any(|byte| *byte != 0));
}

#[test]
fn monitors_list_the_devices() {
    let program = env!("CARGO_BIN_EXE_softmmu");
    let devices = ["-device", "virtio-rng-pci,id=r", "-device", "virtio-keyboard-pci,id=k"];
    let mut vm = QTest::builder(program).args(["-nodefaults"]).args(devices).with_qmp().start();
    let text =
        vm.qmp(r#"{"execute": "human-monitor-command", "arguments": {"command-line": "info virtio"}}"#);
    let lines: Vec<&str> = text.as_str().unwrap_or_default().lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "/machine/peripheral/k/virtio-backend [virtio-input]",
            "/machine/peripheral/r/virtio-backend [virtio-rng]"
        ]
    );
}
