//! The 8254 as a guest programs it (Intel 8254 data sheet).

use hw_timer::i8254::I8254;
use proptest::prelude::*;

const CONTROL: u64 = 3;
/// The interrupt line does not change.
const NONE: [bool; 0] = [];

/// A virtual time within tick `tick` of the 1.193182 MHz clock.
fn at(tick: u64) -> u64 {
    (tick * 1_000_000_000).div_ceil(1_193_182)
}

/// Programs counter `number` with `mode` and a 16-bit count at `tick`.
fn program(pit: &mut I8254, number: u8, mode: u8, count: u16, tick: u64) {
    let _ = pit.write(CONTROL, number << 6 | 0x30 | mode << 1, at(tick));
    let [lsb, msb] = count.to_le_bytes();
    let _ = pit.write(number.into(), lsb, at(tick));
    let _ = pit.write(number.into(), msb, at(tick));
}

fn read_word(pit: &mut I8254, number: u64, tick: u64) -> u16 {
    u16::from_le_bytes([pit.read(number, at(tick)), pit.read(number, at(tick))])
}

/// The ticks from `from` on at which OUT of counter 0 is high, as a string.
fn wave(pit: &I8254, from: u64, len: u64) -> String {
    (from..from + len).map(|tick| if pit.out(0, at(tick)) { 'H' } else { 'L' }).collect()
}

fn counts(pit: &mut I8254, from: u64, len: u64) -> Vec<u16> {
    (from..from + len).map(|tick| read_word(pit, 0, tick)).collect()
}

#[test]
fn mode_0_interrupts_at_the_terminal_count() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 0, 4, 100);
    assert_eq!(wave(&pit, 100, 8), "LLLLHHHH");
    assert_eq!(counts(&mut pit, 100, 6), [4, 3, 2, 1, 0, 0xffff]);
    assert_eq!(pit.next_deadline(), Some(at(104)));
    assert_eq!(pit.expire(at(103)), NONE);
    assert_eq!(pit.expire(at(104)), [true]);
    assert_eq!(pit.next_deadline(), None);
    // The first byte of a new count takes OUT low and stops the counter, the second starts it.
    assert_eq!(pit.write(0, 2, at(200)), [false]);
    assert_eq!(pit.next_deadline(), None);
    assert_eq!(pit.write(0, 0, at(210)), NONE);
    assert_eq!(pit.next_deadline(), Some(at(212)));
}

#[test]
fn mode_0_counts_only_while_the_gate_is_high() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 0, 10, 0);
    assert_eq!(pit.set_gate(0, false, at(4)), NONE);
    assert_eq!(read_word(&mut pit, 0, 50), 6);
    assert_eq!(pit.next_deadline(), None);
    assert_eq!(pit.set_gate(0, true, at(60)), NONE);
    assert_eq!(pit.next_deadline(), Some(at(66)));
}

#[test]
fn mode_1_is_triggered_by_the_gate() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 1, 3, 0);
    assert_eq!(wave(&pit, 0, 4), "HHHH", "not yet triggered");
    assert_eq!(pit.set_gate(0, false, at(10)), NONE);
    assert_eq!(pit.set_gate(0, true, at(20)), [false]);
    assert_eq!(wave(&pit, 20, 5), "LLLHH");
    assert_eq!(pit.next_deadline(), Some(at(23)));
    // Triggering again starts the pulse again; the gate's level does not matter.
    assert_eq!(pit.set_gate(0, false, at(21)), NONE);
    assert_eq!(pit.set_gate(0, true, at(22)), NONE);
    assert_eq!(wave(&pit, 22, 5), "LLLHH");
}

#[test]
fn mode_2_is_low_for_one_tick_a_period() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 2, 4, 0);
    assert_eq!(wave(&pit, 0, 9), "HHHLHHHLH");
    assert_eq!(counts(&mut pit, 0, 6), [4, 3, 2, 1, 4, 3]);
    assert_eq!(pit.next_deadline(), Some(at(4)));
    assert_eq!(pit.expire(at(4)), [false, true]);
}

#[test]
fn mode_3_is_a_square_wave() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 3, 4, 0);
    assert_eq!(wave(&pit, 0, 9), "HHLLHHLLH");
    assert_eq!(counts(&mut pit, 0, 5), [4, 2, 4, 2, 4]);
    program(&mut pit, 0, 3, 5, 100);
    assert_eq!(wave(&pit, 100, 10), "HHHLLHHHLL");
    assert_eq!(counts(&mut pit, 100, 6), [4, 2, 0, 4, 2, 4]);
}

#[test]
fn modes_2_and_3_stop_high_and_restart_with_the_gate() {
    for mode in [2, 3, 6, 7] {
        let mut pit = I8254::new(0);
        program(&mut pit, 0, mode, 10, 0);
        let _ = pit.set_gate(0, false, at(9));
        assert_eq!(wave(&pit, 9, 20), "H".repeat(20), "mode {mode}");
        assert_eq!(pit.next_deadline(), None);
        let _ = pit.set_gate(0, true, at(50));
        assert_eq!(read_word(&mut pit, 0, 50), 10);
        assert_eq!(pit.next_deadline(), Some(at(60)));
    }
}

#[test]
fn modes_4_and_5_strobe_once() {
    for mode in [4, 5] {
        let mut pit = I8254::new(0);
        let _ = pit.set_gate(0, mode == 4, 0);
        program(&mut pit, 0, mode, 3, 0);
        let _ = pit.set_gate(0, true, 0);
        assert_eq!(wave(&pit, 0, 7), "HHHLHHH", "mode {mode}");
        assert_eq!(pit.expire(at(4)), [false, true]);
        assert_eq!(pit.next_deadline(), None);
    }
}

#[test]
fn late_and_missed_edges_are_one() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 2, 1193, 0);
    assert_eq!(pit.expire(at(10 * 1193 + 5)), [false, true]);
    assert_eq!(pit.next_deadline(), Some(at(11 * 1193)));
    // In the low half of a square wave the line ends low.
    program(&mut pit, 0, 3, 1000, 20_000);
    assert_eq!(pit.expire(at(21_600)), [false, true, false]);
    assert_eq!(pit.expire(at(22_000)), [true]);
}

#[test]
fn a_guest_cannot_ask_for_a_storm() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 2, 2, 0);
    let first = pit.next_deadline().unwrap();
    assert!(!pit.expire(first).is_empty());
    assert_eq!(pit.next_deadline(), Some(first + 50_000));
    program(&mut pit, 0, 2, 1, 1000);
    assert_eq!(pit.next_deadline(), None, "a count of 1 is not legal");
}

#[test]
fn a_count_of_0_is_the_largest() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 2, 0, 0);
    assert_eq!(read_word(&mut pit, 0, 0), 0);
    assert_eq!(pit.next_deadline(), Some(at(65_536)));
    let _ = pit.write(CONTROL, 0x35, 0);
    let _ = pit.write(0, 0, 0);
    let _ = pit.write(0, 0, 0);
    assert_eq!(pit.next_deadline(), Some(at(10_000)), "in BCD");
}

#[test]
fn bcd_counts_in_decimal() {
    let mut pit = I8254::new(0);
    let _ = pit.write(CONTROL, 0x31, 0);
    let _ = pit.write(0, 0x00, 0);
    let _ = pit.write(0, 0x12, 0);
    assert_eq!(read_word(&mut pit, 0, 1), 0x1199);
    assert_eq!(read_word(&mut pit, 0, 1201), 0x9999, "it wraps at 10000");
    assert_eq!(pit.next_deadline(), Some(at(1200)));
}

#[test]
fn single_byte_access() {
    let mut pit = I8254::new(0);
    let _ = pit.write(CONTROL, 0x14, 0);
    let _ = pit.write(0, 0x80, 0);
    assert_eq!((pit.read(0, at(1)), pit.read(0, at(2))), (0x7f, 0x7e));
    let _ = pit.write(CONTROL, 0x24, 0);
    let _ = pit.write(0, 0x80, 0);
    assert_eq!((pit.read(0, at(1)), pit.read(0, at(0x101))), (0x7f, 0x7e));
    assert_eq!(pit.next_deadline(), Some(at(0x8000)));
}

#[test]
fn latched_count_stays_until_it_is_read() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 2, 0x1234, 0);
    let _ = pit.write(CONTROL, 0x00, at(4));
    let _ = pit.write(CONTROL, 0x00, at(100));
    assert_eq!(read_word(&mut pit, 0, 200), 0x1230, "the first latch command counts");
    assert_eq!(read_word(&mut pit, 0, 4), 0x1230, "counting again");
    assert_eq!(read_word(&mut pit, 0, 5), 0x122f);
    // Reprogramming drops the latch.
    let _ = pit.write(CONTROL, 0x00, at(4));
    program(&mut pit, 0, 2, 0x100, 300);
    assert_eq!(read_word(&mut pit, 0, 300), 0x100);
}

#[test]
fn read_back_latches_status_and_counts() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 2, 0x1000, 0);
    let _ = pit.write(CONTROL, 0x94 | 0x20, 0);
    program(&mut pit, 1, 0, 0x2000, 0);
    // Both, of counters 0 and 1: the status comes first.
    let _ = pit.write(CONTROL, 0xc0 | 0x02 | 0x04, at(1));
    assert_eq!(pit.read(0, at(9)), 0xb4, "OUT high, word access, mode 2");
    assert_eq!(read_word(&mut pit, 0, 9), 0x0fff);
    assert_eq!(pit.read(1, at(9)), 0x30, "OUT low, word access, mode 0");
    assert_eq!(read_word(&mut pit, 1, 9), 0x1fff);
    // Status alone; nothing was written since the control word: null count.
    let _ = pit.write(CONTROL, 0x19, at(9));
    let _ = pit.write(CONTROL, 0xe0 | 0x02, at(9));
    assert_eq!(pit.read(0, at(9)), 0xd9, "OUT high, null count, LSB, mode 4, BCD");
    let _ = pit.write(0, 0x55, at(9));
    let _ = pit.write(CONTROL, 0xe0 | 0x02, at(9));
    assert_eq!(pit.read(0, at(9)), 0x99);
    // Counts alone.
    let _ = pit.write(CONTROL, 0xd0 | 0x02, at(10));
    assert_eq!(pit.read(0, at(20)), 0x54);
    assert_eq!(pit.read(CONTROL, 0), 0, "the control word cannot be read");
}

#[test]
fn counter_2_as_port_61_uses_it() {
    let mut pit = I8254::new(0);
    assert!(!pit.gate(2));
    program(&mut pit, 2, 0, 1000, 0);
    assert!(!pit.out(2, at(5000)), "the gate is low");
    assert_eq!(pit.set_gate(2, true, at(5000)), NONE);
    assert!(pit.gate(2));
    assert!(!pit.out(2, at(5999)));
    assert!(pit.out(2, at(6000)));
}

#[test]
fn interrupts_can_be_cut_off() {
    let mut pit = I8254::new(0);
    program(&mut pit, 0, 2, 1193, 0);
    assert_eq!(pit.set_irq_enabled(false, at(10)), NONE);
    assert_eq!(pit.next_deadline(), None);
    assert_eq!(pit.expire(at(5000)), NONE);
    assert_eq!(pit.set_irq_enabled(true, at(5000)), NONE, "what was missed is not made up for");
    assert_eq!(pit.next_deadline(), Some(at(5 * 1193)));
}

#[test]
fn power_on_is_a_square_wave_of_18_hz() {
    let mut pit = I8254::new(at(7));
    program(&mut pit, 0, 0, 1, 10);
    let _ = pit.set_gate(2, true, at(10));
    pit.reset(at(100));
    assert_eq!(pit.next_deadline(), Some(at(100 + 65_536)));
    assert_eq!(pit.expire(at(100 + 65_536)), [false, true]);
    assert!(pit.gate(0) && pit.gate(1) && !pit.gate(2));
}

proptest! {
    #[test]
    fn random_accesses_never_panic_and_survive_saving(
        steps in prop::collection::vec((0u64..6, any::<u8>(), 0u64..1 << 33, 0u8..6), 0..300),
    ) {
        let mut pit = I8254::new(0);
        let mut now = 0u64;
        for (offset, value, wait, what) in steps {
            now = now.saturating_add(if wait % 16 == 0 { wait.saturating_mul(wait) } else { wait % 100_000 });
            let levels = match what {
                0..=2 => pit.write(offset, value, now),
                3 => pit.set_gate(offset as usize, value % 2 == 0, now),
                4 => pit.set_irq_enabled(value % 4 != 0, now),
                _ => pit.expire(pit.next_deadline().unwrap_or(now)),
            };
            prop_assert!(levels.windows(2).all(|pair| pair[0] != pair[1]), "each level is a change");
            pit.read(offset, now);
            let _ = pit.out(offset as usize, now);
        }
        let saved = serde_json::to_string(&pit).unwrap();
        let mut restored: I8254 = serde_json::from_str(&saved).unwrap();
        prop_assert_eq!(pit.next_deadline(), restored.next_deadline());
        for offset in [0, 0, 1, 1, 2, 2] {
            prop_assert_eq!(pit.read(offset, now), restored.read(offset, now));
        }
    }
}
