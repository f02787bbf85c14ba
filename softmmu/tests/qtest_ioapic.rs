//! The I/O APIC over qtest: its registers, and lines that lead to it.

use libqtest::QTest;

const SELECT: u64 = 0xfec0_0000;
const WINDOW: u64 = 0xfec0_0010;
const NS: u64 = 1_000_000_000;

fn pc() -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::start(program, ["-nodefaults", "-machine", "pit=off", "-rtc", "clock=vm"])
}

fn read(vm: &mut QTest, register: u32) -> u32 {
    vm.writel(SELECT, register);
    vm.readl(WINDOW)
}

#[test]
fn registers_after_reset() {
    let mut vm = pc();
    // 24 inputs, version 0x20.
    assert_eq!(read(&mut vm, 1), 0x0017_0020);
    for input in 0..24 {
        assert_eq!(read(&mut vm, 0x10 + 2 * input), 1 << 16, "masked: {input}");
    }
    vm.writel(SELECT, 0x10);
    vm.writel(WINDOW, u32::MAX);
    // Delivery status and remote IRR are the chip's.
    assert_eq!(read(&mut vm, 0x10) & 0x5000, 0);
}

#[test]
fn the_rtcs_line_leads_to_input_8_and_falls_when_its_flags_are_read() {
    let mut vm = pc();
    vm.irq_intercept_in("ioapic");
    assert!(!vm.get_irq(8));
    vm.outb(0x70, 0x0b);
    vm.outb(0x71, 0x12);
    vm.clock_step(2 * NS);
    assert!(vm.get_irq(8));
    vm.outb(0x70, 0x0c);
    assert_eq!(vm.inb(0x71) & 0x90, 0x90);
    assert!(!vm.get_irq(8));
}

#[test]
fn lines_come_before_the_answer_to_what_moved_them() {
    let mut vm = pc();
    vm.irq_intercept_in("ioapic");
    vm.send(b"set_irq_in ioapic unnamed-gpio-in 5 1\nset_irq_in ioapic unnamed-gpio-in 5 1\n");
    vm.send(b"set_irq_in ioapic unnamed-gpio-in 5 0\nset_irq_in ioapic unnamed-gpio-in 24 0\n");
    let expected = ["IRQ raise 5", "OK", "OK", "IRQ lower 5", "OK", "FAIL Unknown input"];
    assert_eq!(expected.map(|_| vm.receive()), expected);
}
