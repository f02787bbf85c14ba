//! The 6300ESB's watchdog, by register sequences.

use hw_watchdog::i6300esb::{I6300esb, spec::*};
use proptest::prelude::*;

const MS: u64 = 1_000_000;

fn unlock(chip: &mut I6300esb, now: u64) {
    for value in UNLOCK {
        chip.write(RELOAD, value, 1, now);
    }
}

fn set_timer(chip: &mut I6300esb, register: u64, value: u32) {
    unlock(chip, 0);
    chip.write(register, value, 4, 0);
}

/// 30 ns by 2^15 is a unit of about a millisecond.
fn unit(units: u64) -> u64 {
    (units * 30) << 15
}

#[test]
fn it_fires_after_both_stages_and_says_so_after_the_reset() {
    let mut chip = I6300esb::default();
    set_timer(&mut chip, TIMER1, 100);
    set_timer(&mut chip, TIMER2, 50);
    assert_eq!(chip.next_deadline(), None);
    assert!(chip.config_write(LOCK, WDT_ENABLE.into(), 1, 0));
    assert_eq!(chip.next_deadline(), Some(unit(100)));
    assert!(!chip.expire(unit(100) - 1));
    assert!(!chip.expire(unit(100)));
    assert_eq!(chip.next_deadline(), Some(unit(150)));
    assert!(chip.expire(unit(150)));
    assert_eq!((chip.next_deadline(), chip.read(RELOAD, 2)), (None, 0x1200));
    assert_eq!(chip.config_read(LOCK, 1), Some(0), "it is as after a reset");
    chip.reset();
    assert_eq!(chip.read(RELOAD, 2), 0x1200);
    unlock(&mut chip, 0);
    chip.write(RELOAD, 0x200, 2, 0);
    assert_eq!(chip.read(RELOAD, 2), 0);
}

#[test]
fn feeding_it_starts_the_first_stage_again() {
    let mut chip = I6300esb::default();
    set_timer(&mut chip, TIMER1, 100);
    chip.config_write(LOCK, WDT_ENABLE.into(), 1, 0);
    let _ = chip.expire(unit(100));
    unlock(&mut chip, unit(101));
    chip.write(RELOAD, WDT_RELOAD, 2, unit(101));
    assert_eq!(chip.next_deadline(), Some(unit(201)));
    // Without the two writes before nothing happens.
    chip.write(RELOAD, WDT_RELOAD, 2, unit(150));
    assert_eq!(chip.next_deadline(), Some(unit(201)));
}

#[test]
fn a_lock_lasts_until_reset() {
    let mut chip = I6300esb::default();
    chip.config_write(LOCK, (WDT_ENABLE | WDT_LOCK).into(), 1, 0);
    chip.config_write(LOCK, 0, 1, 0);
    assert_eq!(chip.config_read(LOCK, 1), Some(0x3));
    assert!(chip.next_deadline().is_some());
    chip.reset();
    assert_eq!((chip.config_read(LOCK, 1), chip.next_deadline()), (Some(0), None));
}

#[test]
fn it_may_count_microseconds_and_not_reboot() {
    let mut chip = I6300esb::default();
    assert!(chip.config_write(CONFIG, (WDT_FREQ | WDT_REBOOT).into(), 2, 0));
    assert_eq!(chip.config_read(CONFIG, 2), Some(0x24));
    set_timer(&mut chip, TIMER1, 1000);
    set_timer(&mut chip, TIMER2, 1000);
    chip.config_write(LOCK, (WDT_ENABLE | WDT_FUNC).into(), 1, 0);
    assert_eq!(chip.next_deadline(), Some(960_000));
    assert!(!chip.expire(MS));
    assert!(!chip.expire(2 * MS), "the second stage does not reboot");
    assert_eq!(chip.next_deadline(), Some(2 * MS + 960_000), "it runs freely");
}

#[test]
fn registers_answer_in_their_own_width() {
    let mut chip = I6300esb::default();
    assert!(!chip.config_write(CONFIG, 0x20, 1, 0));
    assert!(!chip.config_write(LOCK, 2, 2, 0));
    assert_eq!(
        (chip.config_read(CONFIG, 1), chip.config_read(LOCK, 4), chip.config_read(0x10, 4)),
        (None, None, None)
    );
    assert_eq!((chip.read(TIMER1, 4), chip.read(RELOAD, 4)), (0, 0));
}

proptest! {
    #[test]
    fn no_sequence_makes_it_panic(ops in prop::collection::vec(
        (0_u8..5, 0_u64..0x80, any::<u32>(), prop::sample::select(vec![1_u8, 2, 4]), 0_u64..u64::MAX / 1000), 1..200))
    {
        let mut chip = I6300esb::default();
        let mut now: u64 = 0;
        for (kind, at, value, size, step) in ops {
            now = now.saturating_add(step);
            match kind {
                0 => drop(chip.config_read(at as usize, size)),
                1 => drop(chip.config_write(at as usize, value, size, now)),
                2 => drop(chip.read(at & 0xf, size)),
                // The writes that unlock are among few.
                3 => chip.write(RELOAD, [0x80, 0x86, 0x100, value][(value & 3) as usize], size, now),
                _ => drop(chip.expire(now)),
            }
            if step % 7 == 0 {
                chip.write(at & 0xf, value, size, now);
            }
        }
    }
}
