//! The real-time clock, MC146818, over qtest.

use libqtest::QTest;
use serde_json::json;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const SECONDS: u8 = 0;
const REG_A: u8 = 0x0a;
const REG_B: u8 = 0x0b;
const REG_C: u8 = 0x0c;
const REG_D: u8 = 0x0d;
const NS: u64 = 1_000_000_000;

fn rtc(base: &str) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::start(program, ["-nodefaults", "-rtc", &format!("base={base},clock=vm")])
}

fn read(vm: &mut QTest, register: u8) -> u8 {
    vm.outb(INDEX, register);
    vm.inb(DATA)
}

fn write(vm: &mut QTest, register: u8, value: u8) {
    vm.outb(INDEX, register);
    vm.outb(DATA, value);
}

/// Seconds, minutes, hours, day of the week, day, month, year, century.
fn time(vm: &mut QTest) -> [u8; 8] {
    [0, 2, 4, 6, 7, 8, 9, 0x32].map(|register| read(vm, register))
}

#[test]
fn it_starts_where_it_is_told_to_and_counts_virtual_time() {
    let mut vm = rtc("1999-12-31T23:59:58");
    assert_eq!(time(&mut vm), [0x58, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x19]);
    vm.clock_step(NS);
    assert_eq!(read(&mut vm, SECONDS), 0x59);
    vm.clock_step(NS);
    assert_eq!(time(&mut vm), [0, 0, 0, 7, 1, 1, 0, 0x20]);
    let mut vm = rtc("2000-02-28T23:59:59");
    vm.clock_step(NS);
    assert_eq!(time(&mut vm), [0, 0, 0, 3, 0x29, 2, 0, 0x20]);
}

#[test]
fn its_time_is_a_property_of_the_machines() {
    let builder = QTest::builder(env!("CARGO_BIN_EXE_softmmu"));
    let rtc = ["-nodefaults", "-rtc", "base=1999-12-31T23:59:58,clock=vm"];
    let mut vm = builder.args(rtc).with_qmp().start();
    let get = |vm: &mut QTest, path: &str, property: &str| {
        let get = json!({"execute": "qom-get", "arguments": {"path": path, "property": property}});
        vm.qmp(&get.to_string())
    };
    let date = json!({"tm_year": 99, "tm_mon": 11, "tm_mday": 31, "tm_hour": 23, "tm_min": 59, "tm_sec": 58});
    assert_eq!(get(&mut vm, "/machine", "rtc-time"), date);
    vm.clock_step(2 * NS);
    let date = json!({"tm_year": 100, "tm_mon": 0, "tm_mday": 1, "tm_hour": 0, "tm_min": 0, "tm_sec": 0});
    let path = get(&mut vm, "/machine", "rtc_state");
    assert_eq!(get(&mut vm, path.as_str().unwrap(), "date"), date);
}

#[test]
fn binary_and_twelve_hour_modes() {
    let mut vm = rtc("2010-06-15T13:45:30");
    write(&mut vm, REG_B, 0x06);
    assert_eq!(time(&mut vm)[..3], [30, 45, 13]);
    // SET, then data mode and hours before the time is written.
    write(&mut vm, REG_B, 0x80);
    for (register, value) in [(0, 0x59), (2, 0x59), (4, 0x92)] {
        write(&mut vm, register, value);
    }
    write(&mut vm, REG_B, 0x00);
    vm.clock_step(2 * NS);
    // Half past noon and one: 1 PM.
    assert_eq!(time(&mut vm)[1..3], [0, 0x81]);
}

#[test]
fn nothing_moves_while_set_is_on() {
    let mut vm = rtc("2010-06-15T13:45:30");
    write(&mut vm, REG_B, 0x82);
    vm.clock_step(10 * NS);
    assert_eq!(read(&mut vm, SECONDS), 0x30);
    assert_eq!(read(&mut vm, REG_A) & 0x80, 0);
    write(&mut vm, REG_B, 0x02);
    vm.clock_step(2 * NS);
    assert_ne!(read(&mut vm, SECONDS), 0x30);
}

#[test]
fn flags_tell_of_periods_and_updates_and_are_cleared_by_reading() {
    let mut vm = rtc("2010-06-15T13:45:30");
    assert_eq!(read(&mut vm, REG_D), 0x80);
    write(&mut vm, REG_A, 0x26);
    read(&mut vm, REG_C);
    // The periodic and the update-ended interrupt.
    write(&mut vm, REG_B, 0x52);
    vm.clock_step(NS / 512);
    assert_eq!(read(&mut vm, REG_C), 0xc0);
    vm.clock_step(2 * NS);
    assert_eq!(read(&mut vm, REG_C), 0xd0);
    assert_eq!(read(&mut vm, REG_C), 0);
}

#[test]
fn the_alarm_comes_when_it_is_set_for() {
    let mut vm = rtc("2010-06-15T13:45:30");
    for (register, value) in [(1, 0x33), (3, 0xff), (5, 0xff)] {
        write(&mut vm, register, value);
    }
    write(&mut vm, REG_B, 0x22);
    vm.clock_step(2 * NS);
    assert_eq!(read(&mut vm, REG_C) & 0x20, 0);
    vm.clock_step(2 * NS);
    assert_eq!(read(&mut vm, REG_C) & 0xa0, 0xa0);
}

#[test]
fn cmos_holds_what_firmware_asks_for_and_what_is_written() {
    let program = env!("CARGO_BIN_EXE_softmmu");
    let mut vm = QTest::start(program, ["-nodefaults", "-m", "64", "-smp", "3"]);
    let word = |vm: &mut QTest, at: u8| u16::from(read(vm, at)) | u16::from(read(vm, at + 1)) << 8;
    assert_eq!(word(&mut vm, 0x15), 640);
    assert_eq!(word(&mut vm, 0x17), 63 << 10);
    assert_eq!(word(&mut vm, 0x34), 48 << 4);
    assert_eq!(read(&mut vm, 0x5f), 2);
    write(&mut vm, 0x40, 0xa5);
    // The top bit of the index is the NMI's.
    assert_eq!(read(&mut vm, 0xc0), 0xa5);
}

#[test]
fn interrupts_to_make_up_for_can_be_forgotten() {
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-rtc", "clock=vm,driftfix=slew"])
        .with_qmp()
        .start();
    let devices = vm.qmp("{'execute': 'qom-list', 'arguments': {'path': '/machine/unattached'}}");
    let devices = devices.as_array().expect("a list");
    let rtc = devices.iter().find(|device| device["type"] == "child<mc146818rtc>").expect("a clock");
    let path = format!("/machine/unattached/{}", rtc["name"].as_str().expect("a name"));
    let lost = |vm: &mut QTest| {
        // The clock counts when it is looked at.
        vm.inb(DATA);
        let arguments = format!("{{'path': '{path}', 'property': 'state'}}");
        let state = vm.qmp(&format!("{{'execute': 'qom-get', 'arguments': {arguments}}}"));
        state["mc146818rtc"]["state"]["lost_ticks"].as_u64().expect("a number")
    };
    // Interrupts 1024 times a second that nobody takes.
    for (register, value) in [(REG_A, 0x26), (REG_B, 0x42)] {
        vm.outb(INDEX, register);
        vm.outb(DATA, value);
    }
    for _ in 0..10 {
        vm.clock_step(1_000_000);
    }
    assert!(lost(&mut vm) > 5, "{}", lost(&mut vm));
    vm.qmp("{'execute': 'rtc-reset-reinjection'}");
    assert_eq!(lost(&mut vm), 0);
}
