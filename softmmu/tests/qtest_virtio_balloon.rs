//! `virtio-balloon-pci` over qtest and QMP: targets, pages that go, statistics, reports.

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;
use serde_json::json;

const BALLOON: PciFunction = PciFunction(4 << 3);
const STATS_VQ: u64 = 1 << 1;
const FREE_PAGE_HINT: u64 = 1 << 3;
const PAGE_POISON: u64 = 1 << 4;
const QUEUES: u64 = 0x10_0000;
const BUFFER: u64 = 0x30_0000;
const PAGES: u64 = 0x100_0000;

fn machine(more: &str) -> QTest {
    let device = format!("virtio-balloon-pci,addr=4,id=b0{more}");
    let program = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).with_qmp();
    program.args(["-nodefaults", "-m", "128M", "-device", &device]).start()
}

fn driven(vm: &mut QTest, features: u64, queues: u16) -> (VirtioPci, Vec<VirtQueue>) {
    let device = VirtioPci::open(vm, BALLOON);
    assert!(device.negotiate(vm, VERSION_1 | features));
    let queues = (0..queues).map(|n| device.queue(vm, n, QUEUES + 0x10000 * u64::from(n))).collect();
    device.driver_ok(vm);
    (device, queues)
}

/// Gives pages on a queue, by their numbers.
fn give(vm: &mut QTest, queue: &mut VirtQueue, pages: &[u64]) {
    let numbers: Vec<u8> = pages.iter().flat_map(|at| ((at >> 12) as u32).to_le_bytes()).collect();
    vm.memwrite(BUFFER, &numbers);
    queue.add(vm, &[(BUFFER, numbers.len() as u32, false)]);
    queue.kick(vm);
    queue.wait_used(vm);
}

#[test]
fn a_target_reaches_the_guest_and_its_answer_the_user() {
    let mut vm = machine("");
    let (device, _) = driven(&mut vm, 0, 2);
    assert_eq!(vm.qmp("{'execute': 'query-balloon'}"), json!({"actual": 128 << 20}));
    let generation = vm.readb(device.common + common::CONFIG_GENERATION);
    vm.qmp("{'execute': 'balloon', 'arguments': {'value': 104857600}}");
    assert_eq!(vm.readl(device.device), (28 << 20) / 4096);
    assert_ne!(vm.readb(device.common + common::CONFIG_GENERATION), generation);
    assert_eq!(device.read_isr(&mut vm), 3);
    vm.writel(device.device + 4, 1024);
    assert_eq!(vm.qmp("{'execute': 'query-balloon'}"), json!({"actual": 124 << 20}));
    let events = vm.take_events();
    assert!(
        events.iter().any(|e| e["event"] == "BALLOON_CHANGE" && e["data"]["actual"] == 124 << 20),
        "{events:?}"
    );
    let wrong = vm.qmp_raw("{'execute': 'balloon', 'arguments': {'value': 0}}");
    assert_eq!(wrong["error"]["desc"], "Parameter 'target' expects a size");
}

#[test]
fn memory_that_was_plugged_counts() {
    let program = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).with_qmp();
    let mut vm = program
        .args(["-nodefaults", "-m", "128M,slots=1,maxmem=1G", "-device", "virtio-balloon-pci,addr=4"])
        .args(["-object", "memory-backend-ram,id=m,size=128M", "-device", "pc-dimm,memdev=m"])
        .start();
    let (device, _) = driven(&mut vm, 0, 2);
    assert_eq!(vm.qmp("{'execute': 'query-balloon'}"), json!({"actual": 256 << 20}));
    vm.qmp("{'execute': 'balloon', 'arguments': {'value': 134217728}}");
    assert_eq!(vm.readl(device.device), (128 << 20) / 4096);
}

#[test]
fn pages_that_are_given_are_empty_when_they_come_back() {
    let mut vm = machine("");
    let (device, mut queues) = driven(&mut vm, 0, 2);
    vm.memset(PAGES, 0x55, 5 * 4096);
    give(&mut vm, &mut queues[0], &[PAGES + 3 * 4096, PAGES, PAGES + 4096]);
    for (page, expected) in [(0, 0), (1, 0), (2, 0x55), (3, 0), (4, 0x55)] {
        assert_eq!(vm.memread(PAGES + page * 4096, 4096), [expected; 4096], "page {page}");
    }
    give(&mut vm, &mut queues[1], &[PAGES]);
    // Where no memory is, there is nothing to give.
    give(&mut vm, &mut queues[0], &[128 << 20, 0xfec0_0000, 0xf_0000, 0xffff_ffff << 12]);
    assert_eq!(device.status(&mut vm), 0xf);
}

#[test]
fn statistics_come_when_they_are_asked_for() {
    let mut vm = machine(",guest-stats-polling-interval=2");
    let (_, mut queues) = driven(&mut vm, STATS_VQ, 3);
    let get =
        "{'execute': 'qom-get', 'arguments': {'path': '/machine/peripheral/b0', 'property': 'guest-stats'}}";
    let stats = vm.qmp(get);
    assert_eq!((&stats["last-update"], &stats["stats"]["stat-free-memory"]), (&json!(0), &json!(u64::MAX)));
    // A driver offers its buffer and gets it back when the next are wanted.
    let mut entries = Vec::new();
    for (tag, value) in [(4u16, 1000u64), (5, 2000), (99, 3000)] {
        entries.extend(tag.to_le_bytes());
        entries.extend(value.to_le_bytes());
    }
    vm.memwrite(BUFFER, &entries);
    queues[2].add(&mut vm, &[(BUFFER, entries.len() as u32, false)]);
    queues[2].kick(&mut vm);
    let stats = vm.qmp(get);
    assert_ne!(stats["last-update"], 0);
    assert_eq!(stats["stats"]["stat-free-memory"], 1000);
    assert_eq!(stats["stats"]["stat-total-memory"], 2000);
    assert_eq!(stats["stats"]["stat-swap-in"], json!(u64::MAX));
    assert_eq!(queues[2].used(&mut vm), None);
    vm.clock_step(2_000_000_000);
    assert_eq!(queues[2].used(&mut vm), Some((0, 0)));
    let set = "{'execute': 'qom-set', 'arguments': {'path': '/machine/peripheral/b0', \
               'property': 'guest-stats-polling-interval', 'value': -1}}";
    assert_eq!(vm.qmp_raw(set)["error"]["desc"], "timer value must be greater than zero");
}

#[test]
fn free_pages_go_unless_the_guest_needs_what_they_hold() {
    for poison in [0, 0xaa] {
        let mut vm = machine(",free-page-reporting=on");
        let (device, mut queues) = driven(&mut vm, PAGE_POISON, 4);
        vm.writel(device.device + 12, poison);
        assert_eq!(vm.readl(device.device + 12), poison);
        vm.memset(PAGES, 0xaa, 2 * 4096);
        queues[3].add(&mut vm, &[(PAGES, 4096, true)]);
        queues[3].kick(&mut vm);
        queues[3].wait_used(&mut vm);
        let expected = if poison == 0 { 0 } else { 0xaa };
        assert_eq!(vm.memread(PAGES, 4096), [expected; 4096]);
        assert_eq!(vm.memread(PAGES + 4096, 4096), [0xaa; 4096]);
    }
}

#[test]
fn a_guest_may_tell_of_free_pages_and_is_not_asked_to() {
    let program = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).with_qmp();
    let device = "virtio-balloon-pci,addr=4,free-page-hint=on,free-page-reporting=on,iothread=io0";
    let mut vm =
        program.args(["-nodefaults", "-m", "128M", "-object", "iothread,id=io0", "-device", device]).start();
    let (device, mut queues) = driven(&mut vm, FREE_PAGE_HINT, 5);
    // The request's number: the guest is to stop.
    assert_eq!(vm.readl(device.device + 8), 0);
    vm.memset(PAGES, 0xaa, 4096);
    vm.writel(BUFFER, 0x8000_0000);
    queues[3].add(&mut vm, &[(BUFFER, 4, false)]);
    queues[3].add(&mut vm, &[(PAGES, 4096, true)]);
    queues[3].kick(&mut vm);
    for _ in 0..2 {
        queues[3].wait_used(&mut vm);
    }
    assert_eq!(vm.memread(PAGES, 4096), [0xaa; 4096], "they are the guest's");
    queues[4].add(&mut vm, &[(PAGES, 4096, true)]);
    queues[4].kick(&mut vm);
    queues[4].wait_used(&mut vm);
    assert_eq!(vm.memread(PAGES, 4096), [0; 4096], "the next queue is for reports");
    queues[3].add(&mut vm, &[(BUFFER, 3, false)]);
    queues[3].kick(&mut vm);
    device.wait_broken(&mut vm);
    let refused =
        "{'execute': 'device_add', 'arguments': {'driver': 'virtio-balloon-pci', 'free-page-hint': true}}";
    assert_eq!(vm.qmp_raw(refused)["error"]["desc"], "Only one balloon device is supported");
}

#[test]
fn hints_need_a_thread() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-accel", "qtest", "-display", "none", "-nodefaults"])
        .args(["-device", "virtio-balloon-pci,free-page-hint=on"])
        .output()
        .expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("'free-page-hint' requires 'iothread' to be set"), "{error}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_machine_has_one() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-accel", "qtest", "-display", "none", "-nodefaults"])
        .args(["-device", "virtio-balloon-pci", "-device", "virtio-balloon-pci"])
        .output()
        .expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("Only one balloon device is supported"), "{error}");
    assert_eq!(output.status.code(), Some(1));
}
