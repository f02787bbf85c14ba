//! The HPET as a guest sees it: register sequences of the IA-PC HPET specification 1.0a.

use hw_timer::hpet::{Hpet, HpetAction, LegacyInput};
use proptest::prelude::*;

const ID: u64 = 0x000;
const CONF: u64 = 0x010;
const STATUS: u64 = 0x020;
const COUNTER: u64 = 0x0f0;
const fn timer_conf(n: u64) -> u64 {
    0x100 + 0x20 * n
}
const fn timer_cmp(n: u64) -> u64 {
    0x108 + 0x20 * n
}
const fn timer_fsb(n: u64) -> u64 {
    0x110 + 0x20 * n
}

const ENABLE: u64 = 1;
const LEGACY: u64 = 2;
const LEVEL: u64 = 1 << 1;
const INT_ENABLE: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const VAL_SET: u64 = 1 << 6;
const MODE32: u64 = 1 << 8;
const FSB: u64 = 1 << 14;
const fn route(line: u64) -> u64 {
    line << 9
}

/// The pc machine's: three timers that reach I/O APIC input 2.
fn pc() -> Hpet {
    Hpet::new(3, 0x4, false)
}

fn write(hpet: &mut Hpet, offset: u64, value: u64, now: u64) -> Vec<HpetAction> {
    hpet.write(offset, value, 8, now)
}

fn set(line: u8, level: bool) -> HpetAction {
    HpetAction::SetIrq { line, level }
}

#[test]
fn identifies_itself_as_qemus() {
    let hpet = pc();
    assert_eq!(hpet.read(ID, 8, 0), 0x0098_9680_8086_a201);
    assert_eq!(hpet.read(ID, 4, 0), 0x8086_a201);
    assert_eq!(hpet.read(ID + 4, 4, 0), 10_000_000, "femtoseconds a tick");
    assert_eq!(hpet.read(timer_conf(2), 8, 0), 0x4_0000_0030);
    assert_eq!(hpet.read(timer_cmp(2), 8, 0), u64::MAX);
    assert_eq!(hpet.read(timer_conf(3), 8, 0), 0, "there is no fourth timer");
}

#[test]
fn has_3_to_32_timers() {
    assert_eq!(Hpet::new(0, 4, false).capabilities() >> 8 & 0x1f, 2);
    assert_eq!(Hpet::new(8, 4, false).capabilities() >> 8 & 0x1f, 7);
    let full = Hpet::new(255, 4, true);
    assert_eq!(full.capabilities() >> 8 & 0x1f, 31);
    // Only 24 timers have registers in the 1 KiB block.
    assert_eq!(full.read(timer_conf(23), 8, 0), 0x4_0000_8030);
    assert_eq!(full.read(timer_conf(24), 8, 0), 0);
}

#[test]
fn counter_runs_only_while_enabled() {
    let mut hpet = pc();
    assert_eq!(hpet.read(COUNTER, 8, 1_000), 0);
    write(&mut hpet, COUNTER, 0xffff_fffe, 1_000);
    write(&mut hpet, CONF, ENABLE, 1_000);
    assert_eq!(hpet.read(COUNTER, 8, 1_019), 0xffff_ffff);
    assert_eq!(hpet.read(COUNTER, 8, 1_020), 0x1_0000_0000);
    assert_eq!(hpet.read(COUNTER, 4, 1_030), 1);
    assert_eq!(hpet.read(COUNTER + 4, 4, 1_030), 1);
    write(&mut hpet, COUNTER, 7, 1_030);
    assert_eq!(hpet.read(COUNTER, 8, 1_030), 0x1_0000_0001, "not writable while it runs");
    write(&mut hpet, CONF, 0, 1_040);
    assert_eq!(hpet.read(COUNTER, 8, 9_999), 0x1_0000_0002);
    assert!(hpet.write(COUNTER + 4, 0xabcd, 4, 9_999).is_empty());
    assert_eq!(hpet.read(COUNTER, 8, 9_999), 0xabcd_0000_0002);
}

#[test]
fn counter_wraps_at_64_bits() {
    let mut hpet = pc();
    write(&mut hpet, COUNTER, u64::MAX, 0);
    write(&mut hpet, CONF, ENABLE, 0);
    assert_eq!(hpet.read(COUNTER, 8, 10), 0);
}

#[test]
fn read_only_bits_stay() {
    let mut hpet = pc();
    write(&mut hpet, ID, 0, 0);
    assert_eq!(hpet.read(ID, 8, 0), 0x0098_9680_8086_a201);
    write(&mut hpet, CONF, u64::MAX, 0);
    assert_eq!(hpet.read(CONF, 8, 0), ENABLE | LEGACY);
    write(&mut hpet, timer_conf(0), u64::MAX, 0);
    assert_eq!(hpet.read(timer_conf(0), 8, 0), 0x4_0000_7f7e, "FSB enable without the capability, too");
}

#[test]
fn misaligned_and_odd_sized_accesses_do_nothing() {
    let mut hpet = pc();
    for (offset, size) in [(CONF, 1), (CONF, 2), (CONF + 2, 4), (CONF + 4, 8)] {
        assert!(hpet.write(offset, 3, size, 0).is_empty());
        assert_eq!(hpet.read(CONF, 8, 0), 0, "{offset:#x} size {size}");
    }
    assert_eq!(hpet.read(ID + 1, 4, 0), 0);
}

#[test]
fn one_shot_pulses_its_line_once() {
    let mut hpet = pc();
    write(&mut hpet, CONF, ENABLE, 0);
    write(&mut hpet, timer_conf(1), INT_ENABLE | route(2), 0);
    write(&mut hpet, timer_cmp(1), 100, 5);
    assert_eq!(hpet.next_deadline(), Some(1_005), "whole ticks from now on");
    assert_eq!(hpet.expire(1_004), []);
    assert_eq!(hpet.expire(1_005), [HpetAction::PulseIrq { line: 2 }]);
    assert_eq!(hpet.next_deadline(), None);
    assert_eq!(hpet.read(timer_cmp(1), 8, 1_005), 100);
    assert_eq!(hpet.read(STATUS, 8, 1_005), 0, "edge-triggered timers have no status");
}

#[test]
fn a_comparator_just_missed_fires_at_once() {
    let mut hpet = pc();
    write(&mut hpet, CONF, ENABLE, 0);
    write(&mut hpet, timer_conf(0), INT_ENABLE | MODE32 | route(2), 0);
    write(&mut hpet, timer_cmp(0), 100, 5_000);
    assert_eq!(hpet.next_deadline(), Some(5_010));
}

#[test]
fn level_triggered_line_stays_until_status_is_written() {
    let mut hpet = pc();
    write(&mut hpet, CONF, ENABLE, 0);
    write(&mut hpet, timer_conf(2), INT_ENABLE | LEVEL | route(2), 0);
    write(&mut hpet, timer_cmp(2), 100, 0);
    assert_eq!(hpet.expire(1_000), [set(2, true)]);
    assert_eq!(hpet.read(STATUS, 4, 1_000), 0b100);
    assert_eq!(write(&mut hpet, STATUS, 0b011, 1_000), [], "other bits");
    assert_eq!(write(&mut hpet, STATUS, 0b100, 1_000), [set(2, false)]);
    assert_eq!(hpet.read(STATUS, 4, 1_000), 0);
}

#[test]
fn a_level_line_shared_by_two_timers_falls_with_the_first() {
    let mut hpet = pc();
    write(&mut hpet, CONF, ENABLE, 0);
    for n in [0, 1] {
        write(&mut hpet, timer_conf(n), INT_ENABLE | LEVEL | route(2), 0);
        write(&mut hpet, timer_cmp(n), 100, 0);
    }
    assert_eq!(hpet.expire(1_000), [set(2, true)]);
    assert_eq!(write(&mut hpet, STATUS, 1, 1_000), [set(2, false)]);
    assert_eq!(hpet.read(STATUS, 4, 1_000), 0b10);
    // Disabling the timer takes its interrupt back, too.
    assert_eq!(write(&mut hpet, timer_conf(1), LEVEL | route(2), 1_000), []);
    assert_eq!(hpet.read(STATUS, 4, 1_000), 0);
}

#[test]
fn halting_lowers_lines_and_stops_timers() {
    let mut hpet = pc();
    write(&mut hpet, CONF, ENABLE, 0);
    write(&mut hpet, timer_conf(0), INT_ENABLE | LEVEL | route(2), 0);
    write(&mut hpet, timer_cmp(0), 100, 0);
    assert_eq!(hpet.expire(1_000), [set(2, true)]);
    write(&mut hpet, timer_cmp(0), 300, 1_000);
    assert_eq!(write(&mut hpet, CONF, 0, 1_500), [set(2, false)]);
    assert_eq!(hpet.next_deadline(), None);
    // 150 of the 300 ticks have gone by when it goes on.
    write(&mut hpet, CONF, ENABLE, 10_000);
    assert_eq!(hpet.next_deadline(), Some(11_500));
}

#[test]
fn periodic_timer_as_linux_programs_it() {
    let mut hpet = pc();
    write(&mut hpet, CONF, ENABLE | LEGACY, 0);
    let _ = hpet.write(timer_conf(0), INT_ENABLE | PERIODIC | VAL_SET | MODE32, 4, 0);
    // With VAL_SET the write goes to accumulator and period; without, to the period.
    let _ = hpet.write(timer_cmp(0), 50_000, 4, 0);
    let _ = hpet.write(timer_cmp(0), 25_000, 4, 1_000);
    assert_eq!(hpet.next_deadline(), Some(500_000));
    // In the very tick of the match the counter has not passed it, and it matches again, as in QEMU: one tick later.
    assert_eq!(hpet.expire(500_010), [HpetAction::PulseIrq { line: 0 }]);
    assert_eq!(hpet.next_deadline(), Some(750_000));
    assert_eq!(hpet.read(timer_cmp(0), 4, 500_010), 75_000);
    // A late run keeps the grid and does not make up for missed periods.
    assert_eq!(hpet.expire(1_600_000), [HpetAction::PulseIrq { line: 0 }]);
    assert_eq!(hpet.next_deadline(), Some(1_750_000));
    assert_eq!(hpet.read(timer_conf(0), 4, 0) & VAL_SET, 0, "cleared by the comparator write");
}

#[test]
fn periodic_accumulator_in_two_halves() {
    let mut hpet = pc();
    let conf = INT_ENABLE | PERIODIC | VAL_SET;
    write(&mut hpet, timer_conf(0), conf, 0);
    let _ = hpet.write(timer_cmp(0), 0x1000, 4, 0);
    write(&mut hpet, timer_conf(0), conf, 0);
    let _ = hpet.write(timer_cmp(0) + 4, 2, 4, 0);
    assert_eq!(hpet.read(timer_cmp(0), 8, 0), 0x2_0000_1000);
    assert_eq!(hpet.read(timer_cmp(0) + 4, 4, 0), 2);
}

#[test]
fn a_guest_cannot_ask_for_a_storm() {
    let mut hpet = pc();
    write(&mut hpet, CONF, ENABLE, 0);
    write(&mut hpet, timer_conf(0), INT_ENABLE | PERIODIC | VAL_SET | route(2), 0);
    write(&mut hpet, timer_cmp(0), 1, 0);
    assert_eq!(hpet.next_deadline(), Some(10));
    assert_eq!(hpet.expire(1_000_000_000_000).len(), 1);
    assert!(hpet.next_deadline() >= Some(100_010));
}

#[test]
fn thirty_two_bit_one_shot_interrupts_on_wrap_and_on_match() {
    let mut hpet = pc();
    write(&mut hpet, COUNTER, 0x5_ffff_fff0, 0);
    write(&mut hpet, CONF, ENABLE, 0);
    write(&mut hpet, timer_conf(0), INT_ENABLE | MODE32 | route(2), 0);
    write(&mut hpet, timer_cmp(0), 0x10, 0);
    assert_eq!(hpet.next_deadline(), Some(150));
    assert_eq!(hpet.expire(150).len(), 1);
    assert_eq!(hpet.next_deadline(), Some(320));
    assert_eq!(hpet.expire(320).len(), 1);
    assert_eq!(hpet.next_deadline(), None);
}

#[test]
fn messages_need_the_capability() {
    let mut hpet = Hpet::new(3, 0x4, true);
    assert_eq!(hpet.read(timer_conf(0), 4, 0) & (1 << 15), 1 << 15);
    write(&mut hpet, CONF, ENABLE, 0);
    write(&mut hpet, timer_fsb(0), 0xfee0_1000_0000_4041, 0);
    write(&mut hpet, timer_conf(0), INT_ENABLE | FSB, 0);
    write(&mut hpet, timer_cmp(0), 100, 0);
    assert_eq!(hpet.expire(1_000), [HpetAction::Msi { address: 0xfee0_1000, data: 0x4041 }]);
    assert_eq!(hpet.read(timer_fsb(0) + 4, 4, 0), 0xfee0_1000);
}

#[test]
fn legacy_replacement_takes_the_lines_of_pit_and_rtc() {
    let mut hpet = pc();
    assert_eq!(hpet.set_legacy_input(LegacyInput::Pit, true), [set(0, true)]);
    assert_eq!(hpet.set_legacy_input(LegacyInput::Rtc, true), [set(8, true)]);
    assert_eq!(
        write(&mut hpet, CONF, ENABLE | LEGACY, 0),
        [HpetAction::PitEnabled(false), set(0, false), set(8, false)]
    );
    assert_eq!(hpet.set_legacy_input(LegacyInput::Pit, false), []);
    write(&mut hpet, timer_conf(0), INT_ENABLE | route(2), 0);
    write(&mut hpet, timer_conf(1), INT_ENABLE | route(2), 0);
    write(&mut hpet, timer_cmp(0), 100, 0);
    write(&mut hpet, timer_cmp(1), 100, 0);
    assert_eq!(hpet.expire(1_000), [HpetAction::PulseIrq { line: 0 }, HpetAction::PulseIrq { line: 8 }]);
    assert_eq!(write(&mut hpet, CONF, ENABLE, 0), [HpetAction::PitEnabled(true), set(8, true)]);
}

#[test]
fn reset_returns_to_power_on() {
    let mut hpet = pc();
    write(&mut hpet, CONF, ENABLE | LEGACY, 0);
    write(&mut hpet, timer_conf(2), INT_ENABLE | LEVEL | route(2), 0);
    write(&mut hpet, timer_cmp(2), 100, 0);
    assert_eq!(hpet.expire(1_000), [set(2, true)]);
    assert_eq!(hpet.reset(), [set(2, false), HpetAction::PitEnabled(true)]);
    assert_eq!(hpet.next_deadline(), None);
    assert_eq!(hpet.read(CONF, 8, 5_000), 0);
    assert_eq!(hpet.read(COUNTER, 8, 5_000), 0);
    assert_eq!(hpet.read(timer_cmp(2), 8, 5_000), u64::MAX);
    assert_eq!(hpet.read(timer_conf(2), 8, 5_000), 0x4_0000_0030);
}

proptest! {
    #[test]
    fn random_accesses_never_panic_and_survive_saving(
        timers in any::<u8>(),
        steps in prop::collection::vec((0u64..0x480, any::<u64>(), 0u32..9, 0u64..1 << 40, any::<bool>()), 0..200),
    ) {
        let mut hpet = Hpet::new(timers, 0x4, true);
        let mut now = 0u64;
        let mut levels = 0u32;
        for (offset, value, size, wait, expire) in steps {
            now = now.saturating_add(wait.saturating_mul(wait));
            let offset = if value & 1 == 0 { offset & !3 } else { offset };
            let mut actions = hpet.write(offset, value, size, now);
            if expire {
                actions.extend(hpet.expire(now));
                if let Some(next) = hpet.next_deadline() {
                    actions.extend(hpet.expire(next));
                }
            }
            for action in actions {
                if let HpetAction::SetIrq { line, level } = action {
                    prop_assert_ne!(levels & 1 << line != 0, level, "only changes are told");
                    levels ^= 1 << line;
                }
            }
        }
        let saved = serde_json::to_string(&hpet).unwrap();
        let restored: Hpet = serde_json::from_str(&saved).unwrap();
        for offset in (0..0x400).step_by(8) {
            prop_assert_eq!(hpet.read(offset, 8, now), restored.read(offset, 8, now));
        }
        prop_assert_eq!(hpet.next_deadline(), restored.next_deadline());
    }
}
