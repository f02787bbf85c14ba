//! The watchdogs `ib700` and `i6300esb` over qtest, with what is done when they fire.

use libqtest::QTest;

const SECOND: u64 = 1_000_000_000;

fn machine(args: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(args).with_qmp().start()
}

/// The names of the events so far, with what the watchdog's said.
fn events(vm: &mut QTest) -> Vec<String> {
    vm.qmp(r#"{"execute": "query-status"}"#);
    let name = |event: &serde_json::Value| match event["data"]["action"].as_str() {
        Some(action) => format!("{} {action}", event["event"].as_str().unwrap_or_default()),
        None => event["event"].as_str().unwrap_or_default().to_owned(),
    };
    vm.take_events().iter().map(name).collect()
}

fn wait_for(vm: &mut QTest, wanted: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while !seen.iter().any(|event| event == wanted) {
        seen.extend(events(vm));
    }
    seen
}

#[test]
fn ib700_fires_when_it_is_not_fed() {
    let mut vm = machine(&["-device", "ib700", "-action", "watchdog=none"]);
    vm.clock_step(40 * SECOND);
    vm.outb(0x443, 14);
    vm.clock_step(SECOND);
    vm.outb(0x443, 14);
    vm.clock_step(SECOND);
    vm.outb(0x441, 0);
    vm.clock_step(100 * SECOND);
    assert!(events(&mut vm).is_empty());
    vm.outb(0x444, 0);
    vm.clock_step(29 * SECOND);
    assert!(events(&mut vm).is_empty());
    vm.clock_step(SECOND);
    assert_eq!(wait_for(&mut vm, "WATCHDOG none"), ["WATCHDOG none"]);
}

#[test]
fn what_is_done_is_what_was_said() {
    for (action, event) in [("pause", "STOP"), ("reset", "RESET"), ("shutdown", "POWERDOWN")] {
        let mut vm = machine(&["-device", "ib700", "-watchdog-action", action]);
        vm.outb(0x443, 15);
        vm.clock_step(SECOND);
        let seen = wait_for(&mut vm, event);
        assert_eq!(seen[0], format!("WATCHDOG {action}"));
        let status = vm.qmp(r#"{"execute": "query-status"}"#);
        assert_eq!(status["status"], if action == "pause" { "watchdog" } else { "running" });
    }
}

#[test]
fn it_can_be_said_later_and_end_the_program() {
    let mut vm = machine(&["-device", "ib700"]);
    vm.qmp(r#"{"execute": "watchdog-set-action", "arguments": {"action": "poweroff"}}"#);
    vm.outb(0x443, 15);
    vm.send(b"clock_step 1000000000\n");
    assert_eq!(vm.wait().code(), Some(0));
}

#[test]
fn i6300esb_fires_after_its_two_stages() {
    let mut vm = machine(&["-device", "i6300esb,addr=5", "-action", "watchdog=none"]);
    let config = |vm: &mut QTest, register: u32| vm.outl(0xcf8, 1 << 31 | 5 << 11 | register);
    config(&mut vm, 0);
    assert_eq!(vm.inl(0xcfc), 0x25ab_8086);
    config(&mut vm, 0x10);
    vm.outl(0xcfc, 0xe000_0000);
    config(&mut vm, 4);
    vm.outw(0xcfc, 2);
    // Both timers: 1024 units of 32768 ticks of 30 ns.
    for register in [0, 4] {
        vm.writeb(0xe000_000c, 0x80);
        vm.writeb(0xe000_000c, 0x86);
        vm.writel(0xe000_0000 + register, 0x400);
    }
    config(&mut vm, 0x68);
    vm.outb(0xcfc, 2);
    assert_eq!(vm.inb(0xcfc), 2);
    let stage = 1024 * 32768 * 30;
    vm.clock_step(2 * stage - 1);
    assert!(events(&mut vm).is_empty());
    vm.clock_step(1);
    assert_eq!(wait_for(&mut vm, "WATCHDOG none"), ["WATCHDOG none"]);
    assert_eq!(vm.readw(0xe000_000c), 0x1200);
}
