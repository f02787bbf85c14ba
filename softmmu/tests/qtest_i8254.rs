//! The interval timer, 8254, and the speaker's port over qtest.

use libqtest::QTest;

const COUNTER0: u16 = 0x40;
const COUNTER2: u16 = 0x42;
const CONTROL: u16 = 0x43;
const SPEAKER: u16 = 0x61;
/// Nanoseconds of that many clocks at 1.193182 MHz, rounded up.
fn clocks(count: u64) -> u64 {
    (count * 1_000_000_000).div_ceil(1_193_182)
}

fn pit() -> QTest {
    QTest::start(env!("CARGO_BIN_EXE_softmmu"), ["-nodefaults"])
}

fn load(vm: &mut QTest, counter: u16, control: u8, count: u16) {
    let [low, high] = count.to_le_bytes();
    vm.outb(CONTROL, control);
    vm.outb(counter, low);
    vm.outb(counter, high);
}

fn latched(vm: &mut QTest, counter: u16) -> u16 {
    vm.outb(CONTROL, ((counter - COUNTER0) << 6) as u8);
    u16::from_le_bytes([vm.inb(counter), vm.inb(counter)])
}

#[test]
fn a_counter_counts_down_with_virtual_time() {
    let mut vm = pit();
    load(&mut vm, COUNTER0, 0x34, 10_000);
    assert_eq!(latched(&mut vm, COUNTER0), 10_000);
    vm.clock_step(clocks(2500));
    assert_eq!(latched(&mut vm, COUNTER0), 7500);
    vm.clock_step(clocks(10_000));
    assert_eq!(latched(&mut vm, COUNTER0), 7500, "it starts again");
}

#[test]
fn a_latched_count_stands_until_it_is_read() {
    let mut vm = pit();
    load(&mut vm, COUNTER0, 0x34, 50_000);
    vm.outb(CONTROL, 0x00);
    vm.clock_step(clocks(1000));
    assert_eq!(u16::from_le_bytes([vm.inb(COUNTER0), vm.inb(COUNTER0)]), 50_000);
    assert_eq!(latched(&mut vm, COUNTER0), 49_000);
    // Read-back of the status: OUT, mode 2, two bytes.
    vm.outb(CONTROL, 0xe2);
    assert_eq!(vm.inb(COUNTER0), 0x34);
}

#[test]
fn the_speakers_port_gates_and_shows_counter_2() {
    let mut vm = pit();
    // The gate is low, which stops no count in QEMU.
    vm.outb(SPEAKER, 0);
    load(&mut vm, COUNTER2, 0xb0, 1000);
    assert_eq!(vm.inb(SPEAKER) & 0x23, 0);
    vm.clock_step(clocks(2000));
    assert_eq!(vm.inb(SPEAKER) & 0x23, 0x20);
    vm.outb(SPEAKER, 1);
    load(&mut vm, COUNTER2, 0xb0, 1000);
    vm.clock_step(clocks(900));
    assert_eq!(vm.inb(SPEAKER) & 0x23, 0x01);
    vm.clock_step(clocks(200));
    assert_eq!(vm.inb(SPEAKER) & 0x23, 0x21);
}

#[test]
fn the_hpet_takes_the_timers_line_and_gives_it_back() {
    let mut vm = pit();
    vm.outb(0x20, 0x11);
    [0x08, 0x04, 0x01, 0x00].iter().for_each(|word| vm.outb(0x21, *word));
    let requests = |vm: &mut QTest| {
        load(vm, COUNTER0, 0x30, 100);
        vm.clock_step(clocks(200));
        vm.outb(0x20, 0x0c);
        let answer = vm.inb(0x20);
        vm.outb(0x20, 0x20);
        answer
    };
    assert_eq!(requests(&mut vm), 0x80);
    // Legacy replacement.
    vm.writel(0xfed0_0010, 2);
    assert_eq!(requests(&mut vm), 0);
    vm.writel(0xfed0_0010, 0);
    assert_eq!(requests(&mut vm), 0x80);
}
