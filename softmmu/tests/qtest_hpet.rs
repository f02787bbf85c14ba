//! The HPET over qtest: the main counter follows virtual time, comparators fire when it gets there.

use libqtest::QTest;

const BASE: u64 = 0xfed0_0000;
const CONFIG: u64 = BASE + 0x10;
const STATUS: u64 = BASE + 0x20;
const COUNTER: u64 = BASE + 0xf0;
const TIMER0: u64 = BASE + 0x100;
/// The counter's period in ns.
const PERIOD: u64 = 10;

fn hpet() -> QTest {
    QTest::start(env!("CARGO_BIN_EXE_softmmu"), ["-nodefaults"])
}

#[test]
fn capabilities() {
    let mut vm = hpet();
    // 3 timers, 64 bits, legacy routing, Intel; 10 ns in femtoseconds.
    assert_eq!(vm.readl(BASE), 0x8086_a201);
    assert_eq!(u64::from(vm.readl(BASE + 4)), PERIOD * 1_000_000);
    assert_eq!(vm.readl(TIMER0 + 4), 0x4, "the I/O APIC input that timers reach");
}

#[test]
fn the_counter_counts_while_it_is_enabled() {
    let mut vm = hpet();
    vm.clock_step(1000);
    assert_eq!(vm.readq(COUNTER), 0);
    vm.writel(CONFIG, 1);
    vm.clock_step(1000);
    assert_eq!(vm.readq(COUNTER), 100);
    vm.writel(CONFIG, 0);
    vm.clock_step(1000);
    assert_eq!(vm.readq(COUNTER), 100);
    vm.writeq(COUNTER, 0xffff_ffff);
    vm.writel(CONFIG, 1);
    vm.clock_step(20);
    assert_eq!(vm.readq(COUNTER), 0x1_0000_0001);
}

#[test]
fn a_level_triggered_timer_raises_its_status_once_it_is_due() {
    let mut vm = hpet();
    // Level-triggered, enabled, input 2.
    vm.writel(TIMER0, 2 << 9 | 1 << 2 | 1 << 1);
    vm.writeq(TIMER0 + 8, 100);
    vm.writel(CONFIG, 1);
    vm.clock_step(99 * PERIOD);
    assert_eq!(vm.readl(STATUS), 0);
    vm.clock_step(PERIOD);
    assert_eq!(vm.readl(STATUS), 1);
    vm.writel(STATUS, 1);
    assert_eq!(vm.readl(STATUS), 0);
}

#[test]
fn a_periodic_timers_comparator_moves_on() {
    let mut vm = hpet();
    // Periodic, its comparator to be set, enabled.
    for (offset, value) in [(8, 20_000), (12, 0)] {
        // For each half again, as in QEMU.
        vm.writel(TIMER0, 1 << 6 | 1 << 3 | 1 << 2);
        vm.writel(TIMER0 + offset, value);
    }
    vm.writel(CONFIG, 1);
    vm.clock_step(50_000 * PERIOD);
    assert_eq!(vm.readq(TIMER0 + 8), 60_000);
}
