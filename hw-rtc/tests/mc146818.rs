//! The real-time clock as a guest programs it (MC146818A data sheet, through a PC's ports 0x70 and 0x71).

use hw_rtc::mc146818::{Date, LostTickPolicy, Mc146818};
use proptest::prelude::*;

const INDEX: u64 = 0;
const DATA: u64 = 1;
const SECOND: u64 = 1_000_000_000;

const A: u8 = 0x0a;
const B: u8 = 0x0b;
const C: u8 = 0x0c;
const D: u8 = 0x0d;
const HOURS_24: u8 = 0x02;
const BINARY: u8 = 0x04;
const UIE: u8 = 0x10;
const AIE: u8 = 0x20;
const PIE: u8 = 0x40;
const SET: u8 = 0x80;

/// 2024-02-28 23:59:58, a Wednesday.
const LEAP_EVE: i64 = 1_709_164_798;

fn pc(seconds: i64) -> Mc146818 {
    Mc146818::new(seconds, 2000, LostTickPolicy::Discard, 0)
}

fn read(rtc: &mut Mc146818, index: u8, now: u64) -> u8 {
    assert_eq!(rtc.write(INDEX, index, now), None);
    rtc.read(DATA, now)
}

fn write(rtc: &mut Mc146818, index: u8, value: u8, now: u64) -> Option<i64> {
    assert_eq!(rtc.write(INDEX, index, now), None);
    rtc.write(DATA, value, now)
}

/// Century, year, month, day, hour, minute, second as the guest reads them.
fn time(rtc: &mut Mc146818, now: u64) -> [u8; 7] {
    [0x32, 9, 8, 7, 4, 2, 0].map(|index| read(rtc, index, now))
}

#[test]
fn registers_after_power_on() {
    let mut rtc = pc(LEAP_EVE);
    assert_eq!([A, B, C, D].map(|index| read(&mut rtc, index, 0)), [0x26, 0x02, 0x00, 0x80]);
    assert_eq!(time(&mut rtc, 0), [0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x58]);
    assert_eq!(read(&mut rtc, 6, 0), 4, "Wednesday");
    assert_eq!(rtc.read(INDEX, 0), 0xff, "the index cannot be read");
    assert!(!rtc.irq_level());
    assert_eq!(rtc.next_deadline(), None);
}

#[test]
fn the_clock_goes() {
    let mut rtc = pc(LEAP_EVE);
    assert_eq!(time(&mut rtc, SECOND - 1), [0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x58]);
    assert_eq!(time(&mut rtc, SECOND), [0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59]);
    assert_eq!(time(&mut rtc, 2 * SECOND), [0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00]);
    assert_eq!(read(&mut rtc, 6, 2 * SECOND), 5, "Thursday");
    assert_eq!(time(&mut rtc, (2 + 86_400) * SECOND), [0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00]);
    assert_eq!(rtc.seconds(3 * 86_400 * SECOND), LEAP_EVE + 3 * 86_400);
}

#[test]
fn hours_and_numbers_have_formats() {
    let mut rtc = pc(LEAP_EVE);
    write(&mut rtc, B, HOURS_24 | BINARY, 0);
    assert_eq!(time(&mut rtc, 0), [20, 24, 2, 28, 23, 59, 58]);
    write(&mut rtc, B, 0, 0);
    assert_eq!(read(&mut rtc, 4, 0), 0x91, "11 pm");
    assert_eq!(read(&mut rtc, 4, 2 * SECOND), 0x12, "midnight is 12 am");
    assert_eq!(read(&mut rtc, 4, (2 + 12 * 3600) * SECOND), 0x92, "noon is 12 pm");
    write(&mut rtc, B, BINARY, 0);
    assert_eq!(read(&mut rtc, 4, (2 + 13 * 3600) * SECOND), 0x81);
    // Set in 12-hour BCD, read in 24-hour BCD.
    let mut rtc = pc(LEAP_EVE);
    write(&mut rtc, B, SET, 0);
    write(&mut rtc, 4, 0x92, 0);
    write(&mut rtc, B, 0, 0);
    write(&mut rtc, B, HOURS_24, 0);
    assert_eq!(read(&mut rtc, 4, 0), 0x12);
}

#[test]
fn the_base_year_is_that_of_the_year_register() {
    let mut rtc = Mc146818::new(LEAP_EVE, 1980, LostTickPolicy::Discard, 0);
    assert_eq!(time(&mut rtc, 0)[..2], [0x00, 0x44]);
    write(&mut rtc, 9, 0x45, 0);
    assert_eq!(Date::from_seconds(rtc.seconds(0)).year, 2025);
}

#[test]
fn set_holds_the_time_while_the_guest_sets_it() {
    let mut rtc = pc(LEAP_EVE);
    let now = SECOND / 4;
    assert_eq!(write(&mut rtc, B, SET | UIE | HOURS_24, now), None);
    assert_eq!(read(&mut rtc, B, now), SET | HOURS_24, "SET clears UIE");
    for (index, value) in [(0x32, 0x19), (9, 0x99), (8, 0x12), (7, 0x31), (4, 0x23), (2, 0x59), (0, 0x59)] {
        assert_eq!(write(&mut rtc, index, value, now), None);
    }
    assert_eq!(time(&mut rtc, 10 * SECOND), [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59]);
    assert_eq!(read(&mut rtc, A, 11 * SECOND - 1), 0x26, "no update is in progress");
    let now = 20 * SECOND + SECOND / 4;
    assert_eq!(write(&mut rtc, B, HOURS_24, now), Some(946_684_799));
    // The divider chain kept its phase.
    assert_eq!(time(&mut rtc, 21 * SECOND - 1), [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59]);
    assert_eq!(time(&mut rtc, 21 * SECOND), [0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00]);
}

#[test]
fn a_running_clock_can_be_set_byte_by_byte() {
    let mut rtc = pc(LEAP_EVE);
    let day = 86_400 * SECOND;
    assert_eq!(write(&mut rtc, 4, 0x12, day), Some(LEAP_EVE + 86_400 - 11 * 3600));
    assert_eq!(time(&mut rtc, day + SECOND), [0x20, 0x24, 0x02, 0x29, 0x12, 0x59, 0x59]);
}

#[test]
fn the_divider_starts_half_a_second_before_an_update() {
    let mut rtc = pc(LEAP_EVE);
    write(&mut rtc, A, 0x76, SECOND);
    write(&mut rtc, B, HOURS_24 | UIE, SECOND);
    let _ = read(&mut rtc, C, SECOND);
    assert_eq!(read(&mut rtc, 0, 5 * SECOND), 0x59, "stopped");
    assert_eq!((read(&mut rtc, C, 5 * SECOND), rtc.next_deadline()), (0, None));
    assert_eq!(write(&mut rtc, A, 0x26, 6 * SECOND), Some(LEAP_EVE + 1));
    assert_eq!(rtc.next_deadline(), Some(6 * SECOND + SECOND / 2));
    assert_eq!(read(&mut rtc, 0, 6 * SECOND + SECOND / 2 - 1), 0x59);
    assert_eq!(read(&mut rtc, 0, 6 * SECOND + SECOND / 2), 0x00);
}

#[test]
fn an_update_is_in_progress_for_the_last_244_us_of_a_second() {
    let mut rtc = pc(LEAP_EVE);
    let hold = 8 * SECOND / 32_768;
    for (now, uip) in [(0, 0), (SECOND - hold - 1, 0), (SECOND - hold, 0x80), (SECOND - 1, 0x80), (SECOND, 0)]
    {
        assert_eq!(read(&mut rtc, A, now), 0x26 | uip, "at {now}");
    }
    write(&mut rtc, A, 0xff, SECOND);
    assert_eq!(read(&mut rtc, A, SECOND), 0x7f, "UIP is read-only");
}

#[test]
fn update_ended_interrupts_once_a_second() {
    let mut rtc = pc(LEAP_EVE);
    write(&mut rtc, B, HOURS_24 | UIE, 0);
    assert_eq!(rtc.next_deadline(), Some(SECOND));
    rtc.expire(SECOND - 1);
    assert!(!rtc.irq_level());
    rtc.expire(SECOND);
    assert!(rtc.irq_level());
    assert_eq!(rtc.next_deadline(), None, "nothing more can happen before register C is read");
    assert_eq!(read(&mut rtc, C, SECOND) & 0x90, 0x90);
    assert!(!rtc.irq_level());
    assert_eq!(read(&mut rtc, C, SECOND), 0, "a read clears it");
    assert_eq!(rtc.next_deadline(), Some(2 * SECOND));
}

#[test]
fn flags_show_without_being_enabled_and_interrupt_when_enabled_later() {
    let mut rtc = pc(LEAP_EVE);
    write(&mut rtc, A, 0x20, 0);
    assert_eq!(read(&mut rtc, C, SECOND), 0x10);
    rtc.expire(2 * SECOND);
    assert!(!rtc.irq_level());
    write(&mut rtc, B, HOURS_24 | UIE, 2 * SECOND);
    assert!(rtc.irq_level());
    write(&mut rtc, B, HOURS_24, 2 * SECOND);
    assert!(!rtc.irq_level());
}

#[test]
fn alarms_match_time_or_any() {
    // 12:34:56, the alarm bytes, seconds to the alarm.
    let cases = [
        ([0x12, 0x34, 0x57], Some(1)),
        ([0x12, 0x34, 0x56], Some(86_400)),
        ([0x12, 0x34, 0x55], Some(86_399)),
        ([0x12, 0x33, 0x00], Some(86_400 - 116)),
        ([0x13, 0x00, 0x00], Some(25 * 60 + 4)),
        ([0x00, 0x00, 0x00], Some(41_104)),
        ([0xff, 0xff, 0xff], Some(1)),
        ([0xff, 0xff, 0x56], Some(60)),
        ([0xff, 0xc0, 0x55], Some(59)),
        ([0xff, 0x34, 0x00], Some(3600 - 56)),
        ([0xff, 0x34, 0xff], Some(1)),
        ([0x12, 0xff, 0x00], Some(4)),
        ([0x11, 0xff, 0xff], Some(22 * 3600 + 25 * 60 + 4)),
        ([0x12, 0x34, 0x60], None),
        ([0x24, 0xff, 0xff], None),
        ([0x12, 0x60, 0xff], None),
    ];
    for (alarm, expected) in cases {
        let mut rtc = pc(45_296);
        for (index, byte) in [5, 3, 1].into_iter().zip(alarm) {
            write(&mut rtc, index, byte, 0);
        }
        write(&mut rtc, B, HOURS_24 | AIE, 0);
        assert_eq!(rtc.next_deadline(), expected.map(|seconds: u64| seconds * SECOND), "{alarm:02x?}");
        if let Some(seconds) = expected {
            rtc.expire(seconds * SECOND - 1);
            assert!(!rtc.irq_level(), "{alarm:02x?}");
            rtc.expire(seconds * SECOND);
            assert_eq!(read(&mut rtc, C, seconds * SECOND) & 0xa0, 0xa0, "{alarm:02x?}");
        } else {
            rtc.expire(100_000 * SECOND);
            assert!(!rtc.irq_level(), "{alarm:02x?}");
        }
    }
}

#[test]
fn alarms_in_the_afternoon() {
    let mut rtc = pc(0);
    write(&mut rtc, B, AIE, 0);
    for (index, byte) in [(5, 0x81), (3, 0x00), (1, 0x00)] {
        write(&mut rtc, index, byte, 0);
    }
    assert_eq!(rtc.next_deadline(), Some(13 * 3600 * SECOND));
}

#[test]
fn periodic_interrupts_come_at_the_rate_of_register_a() {
    for (rate, hertz) in [(1, 256), (2, 128), (3, 8192), (6, 1024), (15, 2)] {
        let mut rtc = pc(LEAP_EVE);
        write(&mut rtc, A, 0x20 | rate, 0);
        write(&mut rtc, B, HOURS_24 | PIE, 0);
        let mut interrupts = 0;
        while let Some(now) = rtc.next_deadline().filter(|&now| now <= SECOND + 1) {
            rtc.expire(now - 1);
            assert!(!rtc.irq_level());
            rtc.expire(now);
            assert_eq!(read(&mut rtc, C, now) & 0xc0, 0xc0);
            interrupts += 1;
        }
        assert_eq!(interrupts, hertz, "rate {rate}");
    }
    let mut rtc = pc(LEAP_EVE);
    write(&mut rtc, A, 0x20, 0);
    write(&mut rtc, B, HOURS_24 | PIE, 0);
    assert_eq!(rtc.next_deadline(), None, "rate 0 is off");
}

#[test]
fn a_new_rate_counts_from_the_last_periodic_interrupt() {
    let mut rtc = pc(LEAP_EVE);
    // Their phase is not that of the seconds: the interrupt is enabled 10 ms into one.
    let mut now = SECOND / 100;
    write(&mut rtc, A, 0x2d, now);
    write(&mut rtc, B, HOURS_24 | PIE, now);
    let start = now;
    for round in 0..20 {
        now = rtc.next_deadline().expect("periodic interrupts are enabled");
        rtc.expire(now);
        assert_eq!(read(&mut rtc, C, now) & 0xc0, 0xc0);
        // 125 ms and 500 ms in turn; the new rate is set a while after.
        write(&mut rtc, A, if round % 2 == 0 { 0x2f } else { 0x2d }, now + SECOND / 50);
    }
    let expected = start + 10 * (SECOND / 8 + SECOND / 2);
    assert!(now.abs_diff(expected) < SECOND / 1000, "{now} instead of {expected}");
    // Without the divider they come all the same.
    write(&mut rtc, A, 0x7d, now);
    rtc.expire(now + SECOND);
    assert_eq!(read(&mut rtc, C, now + SECOND) & 0xd0, 0xc0);
}

#[test]
fn lost_ticks_are_made_up_for_under_slew() {
    for (policy, interrupts) in [(LostTickPolicy::Discard, 1), (LostTickPolicy::Slew, 8)] {
        let mut rtc = Mc146818::new(LEAP_EVE, 2000, policy, 0);
        write(&mut rtc, A, 0x26, 0);
        write(&mut rtc, B, HOURS_24 | PIE, 0);
        // The guest comes 7 periods late.
        let now = 8 * SECOND / 1024 + 1;
        rtc.expire(now);
        let mut acknowledged = 0;
        while rtc.irq_level() {
            assert_eq!(read(&mut rtc, C, now) & 0xc0, 0xc0);
            assert!(rtc.take_irq_fall(), "the next one is an edge");
            acknowledged += 1;
        }
        assert_eq!(acknowledged, interrupts);
    }
}

#[test]
fn a_guest_that_sleeps_long_is_not_flooded_at_once() {
    let mut rtc = Mc146818::new(LEAP_EVE, 2000, LostTickPolicy::Slew, 0);
    write(&mut rtc, B, HOURS_24 | PIE, 0);
    rtc.expire(SECOND);
    let mut acknowledged = 0;
    while rtc.irq_level() {
        let _ = read(&mut rtc, C, SECOND);
        acknowledged += 1;
    }
    assert_eq!(acknowledged, 21);
    assert!(rtc.next_deadline().is_some(), "the rest follows with the next one");
}

#[test]
fn ram_keeps_what_is_written() {
    let mut rtc = pc(LEAP_EVE);
    for index in 0x0e..0x80 {
        write(&mut rtc, index, index ^ 0x55, 0);
    }
    for index in (0x0e..0x80).filter(|index| ![0x32, 0x37].contains(index)) {
        assert_eq!(read(&mut rtc, index, 0), index ^ 0x55);
        assert_eq!(read(&mut rtc, index | 0x80, 0), index ^ 0x55, "bit 7 is the NMI mask");
    }
    rtc.set_cmos(0x34, 0x12);
    assert_eq!(read(&mut rtc, 0x34, 0), 0x12);
    assert_eq!(rtc.cmos(0x35), 0x35 ^ 0x55);
    for index in [C, D] {
        let before = read(&mut rtc, index, 0);
        write(&mut rtc, index, !before, 0);
        assert_eq!(read(&mut rtc, index, 0), before, "registers C and D are read-only");
    }
}

#[test]
fn the_century_has_two_addresses() {
    let mut rtc = pc(LEAP_EVE);
    assert_eq!(read(&mut rtc, 0x37, 0), 0x20);
    write(&mut rtc, 0x37, 0x19, 0);
    assert_eq!(read(&mut rtc, 0x32, 0), 0x19);
    assert_eq!(Date::from_seconds(rtc.seconds(0)).year, 1924);
}

#[test]
fn reset_stops_interrupts_and_keeps_the_time() {
    let mut rtc = pc(LEAP_EVE);
    write(&mut rtc, B, HOURS_24 | PIE | AIE | UIE, 0);
    write(&mut rtc, 0x0f, 0x05, 0);
    write(&mut rtc, 0x10, 0x40, 0);
    rtc.expire(SECOND);
    rtc.reset(SECOND);
    assert!(!rtc.irq_level());
    // As in QEMU the end of an update goes on to interrupt.
    assert_eq!([B, C, 0x0f, 0x10].map(|index| read(&mut rtc, index, SECOND)), [0x12, 0x00, 0x00, 0x40]);
    assert_eq!(time(&mut rtc, SECOND), [0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59]);
    rtc.set_cmos(0x0f, 0xfe);
    rtc.reset(SECOND);
    assert_eq!(rtc.cmos(0x0f), 0xfe, "the firmware is to resume");
}

/// QEMU leaves the timer of the periodic interrupt alone until it has come once.
#[test]
fn after_a_reset_the_periodic_flag_comes_once_more() {
    let tick = SECOND / 1024 + 1;
    let enabled = |rate: Option<u8>| {
        let mut rtc = pc(LEAP_EVE);
        write(&mut rtc, B, HOURS_24 | PIE, 0);
        rtc.reset(1);
        if let Some(rate) = rate {
            write(&mut rtc, A, rate, 1);
        }
        rtc
    };
    let mut rtc = enabled(None);
    assert_eq!(rtc.next_deadline(), Some(tick));
    assert_eq!(read(&mut rtc, C, tick - 1), 0);
    assert_eq!(read(&mut rtc, C, tick), 0x40);
    assert_eq!((read(&mut rtc, C, 9 * tick), rtc.next_deadline()), (0, None));
    // Not with another rate.
    assert_eq!(read(&mut enabled(Some(0x27)), C, 9 * tick), 0);
}

#[test]
fn the_host_sets_the_clock() {
    let mut rtc = pc(LEAP_EVE);
    rtc.set_seconds(0, SECOND / 2);
    assert_eq!(time(&mut rtc, SECOND), [0x19, 0x70, 0x01, 0x01, 0x00, 0x00, 0x00]);
    assert_eq!(time(&mut rtc, SECOND + SECOND / 2), [0x19, 0x70, 0x01, 0x01, 0x00, 0x00, 0x01]);
}

#[test]
fn interrupts_go_on_when_the_hosts_clock_is_set_back() {
    let mut rtc = Mc146818::new(LEAP_EVE, 2000, LostTickPolicy::Discard, 5000 * SECOND);
    write(&mut rtc, B, HOURS_24 | UIE, 9000 * SECOND);
    let _ = read(&mut rtc, C, 9000 * SECOND);
    let now = 6000 * SECOND;
    assert_eq!(read(&mut rtc, C, now), 0);
    assert_eq!(rtc.next_deadline(), Some(now + SECOND));
    assert_eq!(rtc.seconds(now), LEAP_EVE + 1000);
}

#[derive(Clone, Debug)]
enum Step {
    Read(u8),
    Write(u8, u8),
    Wait(u64),
    ToDeadline,
    SaveAndLoad,
}

fn step() -> impl Strategy<Value = Step> {
    let index = || prop_oneof![4 => 0..14u8, 1 => any::<u8>()];
    prop_oneof![
        3 => index().prop_map(Step::Read),
        4 => (index(), any::<u8>()).prop_map(|(index, value)| Step::Write(index, value)),
        2 => prop_oneof![0..3 * SECOND, 0..100_000 * SECOND].prop_map(Step::Wait),
        2 => Just(Step::ToDeadline),
        1 => Just(Step::SaveAndLoad),
    ]
}

proptest! {
    #[test]
    fn holds_together_whatever_the_guest_does(
        steps in prop::collection::vec(step(), 1..100),
        start in any::<i64>(),
        base_year in any::<i32>(),
        slew in any::<bool>(),
    ) {
        let policy = if slew { LostTickPolicy::Slew } else { LostTickPolicy::Discard };
        let mut now = 12_345u64;
        let mut rtc = Mc146818::new(start, base_year, policy, now);
        for step in steps {
            match step {
                Step::Read(index) => { read(&mut rtc, index, now); }
                Step::Write(index, value) => { write(&mut rtc, index, value, now); }
                Step::Wait(ns) => now += ns,
                Step::ToDeadline => {
                    if let Some(deadline) = rtc.next_deadline() {
                        now = now.max(deadline);
                        rtc.expire(now);
                        prop_assert!(rtc.irq_level(), "a deadline is an interrupt");
                    }
                }
                Step::SaveAndLoad => {
                    rtc = serde_json::from_str(&serde_json::to_string(&rtc).unwrap()).unwrap();
                }
            }
            rtc.expire(now);
            rtc.take_irq_fall();
            prop_assert!(rtc.next_deadline().is_none_or(|deadline| deadline > now));
        }
        for absurd in [u64::MAX / 2, u64::MAX] {
            rtc.expire(absurd);
            let _ = (rtc.next_deadline(), rtc.seconds(absurd), time(&mut rtc, absurd));
        }
    }

    #[test]
    fn dates_and_seconds_agree(seconds in -100_000_000_000i64..1_000_000_000_000) {
        let date = Date::from_seconds(seconds);
        prop_assert_eq!(date.to_seconds(), seconds);
        prop_assert!((1..=12).contains(&date.month) && (1..=31).contains(&date.day));
        let tomorrow = Date::from_seconds(seconds + 86_400);
        prop_assert!(tomorrow.day == date.day + 1 || tomorrow.day == 1 && date.day >= 28);
    }
}
