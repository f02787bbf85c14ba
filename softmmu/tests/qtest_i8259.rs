//! The two 8259A interrupt controllers over qtest, with the PIT and the RTC as what asks for interrupts.

use libqtest::QTest;

const MASTER: u16 = 0x20;
const SLAVE: u16 = 0xa0;
const ELCR: u16 = 0x4d0;
const READ_IRR: u8 = 0x0a;
const READ_ISR: u8 = 0x0b;
/// OCW3: the next read is an acknowledge.
const POLL: u8 = 0x0c;
const NS: u64 = 1_000_000_000;

/// A machine with its PICs initialized as a PC's are, nothing masked.
fn pics() -> QTest {
    let mut vm = QTest::start(env!("CARGO_BIN_EXE_softmmu"), ["-nodefaults", "-rtc", "clock=vm"]);
    for (pic, base, cascade) in [(MASTER, 0x08, 0x04), (SLAVE, 0x70, 0x02)] {
        vm.outb(pic, 0x11);
        vm.outb(pic + 1, base);
        vm.outb(pic + 1, cascade);
        vm.outb(pic + 1, 0x01);
        vm.outb(pic + 1, 0);
    }
    vm
}

fn read(vm: &mut QTest, pic: u16, what: u8) -> u8 {
    vm.outb(pic, what);
    vm.inb(pic)
}

/// Counter 0 of the PIT interrupts after `count` clocks, once.
fn one_shot(vm: &mut QTest, count: u16) {
    let [low, high] = count.to_le_bytes();
    vm.outb(0x43, 0x30);
    vm.outb(0x40, low);
    vm.outb(0x40, high);
}

/// The RTC's update-ended interrupt, on line 8.
fn rtc_updates(vm: &mut QTest) {
    vm.outb(0x70, 0x0b);
    vm.outb(0x71, 0x12);
}

#[test]
fn the_timers_line_is_requested_served_and_ended() {
    let mut vm = pics();
    one_shot(&mut vm, 1000);
    assert_eq!(read(&mut vm, MASTER, READ_IRR), 0);
    vm.clock_step(NS / 1000);
    assert_eq!(read(&mut vm, MASTER, READ_IRR), 1);
    // The poll's answer: there is one, number 0.
    assert_eq!(read(&mut vm, MASTER, POLL), 0x80);
    assert_eq!(read(&mut vm, MASTER, READ_IRR), 0);
    assert_eq!(read(&mut vm, MASTER, READ_ISR), 1);
    vm.outb(MASTER, 0x20);
    assert_eq!(read(&mut vm, MASTER, READ_ISR), 0);
    assert_eq!(read(&mut vm, MASTER, POLL), 0, "nothing is left");
}

#[test]
fn the_slaves_requests_come_through_the_masters_input_2() {
    let mut vm = pics();
    rtc_updates(&mut vm);
    vm.clock_step(2 * NS);
    assert_eq!(read(&mut vm, SLAVE, READ_IRR), 1);
    // The PIT, which runs from reset on, asks for line 0.
    assert_eq!(read(&mut vm, MASTER, READ_IRR), 1 << 2 | 1);
    vm.outb(SLAVE + 1, 0x01);
    assert_eq!(read(&mut vm, MASTER, READ_IRR), 1 << 2 | 1, "masked at the slave, but latched");
    vm.outb(SLAVE + 1, 0x00);
    assert_eq!(read(&mut vm, SLAVE, POLL), 0x80);
    assert_eq!(read(&mut vm, SLAVE, READ_ISR), 1);
}

#[test]
fn masks_keep_requests_from_being_served_not_from_being_kept() {
    let mut vm = pics();
    vm.outb(MASTER + 1, 0xff);
    assert_eq!(vm.inb(MASTER + 1), 0xff);
    one_shot(&mut vm, 100);
    vm.clock_step(NS / 1000);
    assert_eq!(read(&mut vm, MASTER, READ_IRR), 1);
    assert_eq!(read(&mut vm, MASTER, POLL), 0);
    vm.outb(MASTER + 1, 0xfe);
    assert_eq!(read(&mut vm, MASTER, POLL), 0x80);
}

#[test]
fn level_triggering_is_for_the_lines_that_can_have_it() {
    let mut vm = pics();
    vm.outb(ELCR, 0xff);
    vm.outb(ELCR + 1, 0xff);
    assert_eq!([vm.inb(ELCR), vm.inb(ELCR + 1)], [0xf8, 0xde]);
}
