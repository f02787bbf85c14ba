//! Sleep: S3 with its wake-ups, S4.

use libqtest::QTest;
use serde_json::Value;

const PM: u16 = 0x600;
const PM1_STS: u16 = PM;
const PM1_EN: u16 = PM + 2;
const PM1_CNT: u16 = PM + 4;
const SLP_EN: u16 = 1 << 13;
const WAK_STS: u16 = 1 << 15;

fn start(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    let mut vm = QTest::builder(program).args(["-nodefaults"]).args(more).with_qmp().start();
    open_ports(&mut vm);
    vm
}

/// What firmware does before the registers show.
fn open_ports(vm: &mut QTest) {
    for (register, value) in [(0x8000_0b40_u32, u32::from(PM) | 1), (0x8000_0b80, 1)] {
        vm.outl(0xcf8, register);
        vm.outl(0xcfc, value);
    }
}

fn status(vm: &mut QTest) -> String {
    vm.qmp(r#"{"execute": "query-status"}"#)["status"].as_str().unwrap_or_default().to_owned()
}

fn await_status(vm: &mut QTest, wanted: &str) {
    while status(vm) != wanted {}
}

fn events(vm: &mut QTest) -> Vec<String> {
    vm.take_events().iter().filter_map(|event| event["event"].as_str().map(str::to_owned)).collect()
}

fn sleep(vm: &mut QTest, kind: u16) {
    vm.outw(PM1_CNT, kind << 10 | SLP_EN);
}

#[test]
fn a_user_wakes_the_guest_up() {
    let mut vm = start(&[]);
    assert_eq!(
        vm.qmp(r#"{"execute": "query-current-machine"}"#),
        serde_json::json!({"wakeup-suspend-support": true})
    );
    let wake = r#"{"execute": "system_wakeup"}"#;
    let refusal: Value = vm.qmp_raw(wake);
    assert_eq!(refusal["error"]["desc"], "Unable to wake up: guest is not in suspended state");
    vm.memwrite(0x10_0000, b"kept");
    sleep(&mut vm, 1);
    await_status(&mut vm, "suspended");
    // Firmware's mark in the CMOS.
    vm.outb(0x70, 0x0f);
    assert_eq!(vm.inb(0x71), 0xfe);
    vm.qmp(wake);
    await_status(&mut vm, "running");
    let seen = events(&mut vm);
    assert!(
        seen.iter().any(|event| event == "SUSPEND") && !seen.iter().any(|event| event == "RESET"),
        "{seen:?}"
    );
    // The chips were reset, memory was not.
    open_ports(&mut vm);
    while vm.inw(PM1_STS) & WAK_STS == 0 {}
    assert_eq!(vm.memread(0x10_0000, 4), b"kept");
}

#[test]
fn the_clocks_alarm_wakes_the_guest_only_if_it_wants_that() {
    for (enabled, wanted) in [(true, "running"), (false, "suspended")] {
        let mut vm = start(&["-rtc", "clock=vm"]);
        if enabled {
            vm.outw(PM1_EN, 1 << 10);
        }
        // Every second is an alarm's.
        for (register, value) in [(1, 0xff), (3, 0xff), (5, 0xff), (0x0b, 0x22)] {
            vm.outb(0x70, register);
            vm.outb(0x71, value);
        }
        sleep(&mut vm, 1);
        await_status(&mut vm, "suspended");
        vm.clock_step(3_000_000_000);
        await_status(&mut vm, wanted);
        assert_eq!(status(&mut vm), wanted);
    }
}

#[test]
fn suspend_to_disk_is_told_and_ends_the_program() {
    let mut vm = start(&["-no-shutdown"]);
    sleep(&mut vm, 2);
    await_status(&mut vm, "shutdown");
    let seen = events(&mut vm);
    assert!(seen.iter().any(|event| event == "SUSPEND_DISK"), "{seen:?}");
}
