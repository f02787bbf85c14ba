//! `pvpanic` and `pvpanic-pci` over qtest.

use libqtest::QTest;

fn machine(args: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(args).with_qmp().start()
}

/// The event `name` when it comes, with its action.
fn wait_for(vm: &mut QTest, name: &str) -> String {
    loop {
        vm.qmp(r#"{"execute": "query-status"}"#);
        if let Some(event) = vm.take_events().iter().find(|event| event["event"] == name) {
            return event["data"]["action"].as_str().unwrap_or_default().to_owned();
        }
    }
}

#[test]
fn a_panic_is_told_of_and_does_what_was_said() {
    let mut vm = machine(&["-device", "pvpanic", "-action", "panic=none"]);
    assert_eq!(vm.inb(0x505), 3);
    vm.outb(0x505, 1);
    assert_eq!(wait_for(&mut vm, "GUEST_PANICKED"), "run");
    vm.outb(0x505, 2);
    assert_eq!(wait_for(&mut vm, "GUEST_CRASHLOADED"), "run");

    let mut vm = machine(&["-device", "pvpanic,ioport=0x510,events=1", "-action", "panic=pause"]);
    assert_eq!(vm.inb(0x510), 1);
    vm.outb(0x510, 1);
    assert_eq!(wait_for(&mut vm, "GUEST_PANICKED"), "pause");
    while vm.qmp(r#"{"execute": "query-status"}"#)["status"] != "guest-panicked" {}

    let mut vm = machine(&["-device", "pvpanic", "-action", "panic=exit-failure"]);
    vm.send(b"outb 0x505 0x1\n");
    assert_eq!(vm.wait().code(), Some(1));
}

#[test]
fn the_pci_function_has_the_byte_in_memory() {
    let mut vm = machine(&["-device", "pvpanic-pci,addr=4", "-action", "panic=none"]);
    let config = |vm: &mut QTest, register: u32| vm.outl(0xcf8, 1 << 31 | 4 << 11 | register);
    config(&mut vm, 0);
    assert_eq!(vm.inl(0xcfc), 0x0011_1b36);
    config(&mut vm, 8);
    assert_eq!(vm.inl(0xcfc), 0x0880_0001);
    config(&mut vm, 0x10);
    vm.outl(0xcfc, 0xe000_0000);
    config(&mut vm, 4);
    vm.outw(0xcfc, 2);
    assert_eq!(vm.readb(0xe000_0000), 3);
    vm.writeb(0xe000_0000, 1);
    assert_eq!(wait_for(&mut vm, "GUEST_PANICKED"), "run");
}
