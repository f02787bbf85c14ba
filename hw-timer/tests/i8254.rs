//! The 8254 as a guest programs it, with QEMU's answers (QEMU hw/timer/i8254.c; KVM's are the same).

use hw_timer::i8254::I8254;
use proptest::prelude::*;

const CONTROL: u64 = 3;
/// The interrupt line does not change.
const NONE: [bool; 0] = [];

/// The first virtual time at which so many clocks of 1.193182 MHz have passed.
fn at(tick: u64) -> u64 {
    (tick * 1_000_000_000).div_ceil(1_193_182)
}

/// Programs counter `number` with `mode` and a 16-bit count at `ns`.
fn program(pit: &mut I8254, number: u8, mode: u8, count: u16, ns: u64) -> Vec<bool> {
    let mut levels = pit.write(CONTROL, number << 6 | 0x30 | mode << 1, ns);
    let [lsb, msb] = count.to_le_bytes();
    levels.extend(pit.write(number.into(), lsb, ns));
    levels.extend(pit.write(number.into(), msb, ns));
    levels
}

fn read_word(pit: &mut I8254, number: u64, ns: u64) -> u16 {
    u16::from_le_bytes([pit.read(number, ns), pit.read(number, ns)])
}

/// OUT of counter 0 in the clocks from 0 on, as a string.
fn wave(pit: &I8254, len: u64) -> String {
    (0..len).map(|tick| if pit.out(0, at(tick)) { 'H' } else { 'L' }).collect()
}

fn counts(pit: &mut I8254, len: u64) -> Vec<u16> {
    (0..len).map(|tick| read_word(pit, 0, at(tick))).collect()
}

#[test]
fn each_mode_has_its_wave_and_its_counts() {
    let cases: [(u8, u16, &str, [u16; 6]); 11] = [
        (0, 4, "LLLLHHHHH", [4, 3, 2, 1, 0, 0xffff]),
        (1, 4, "HHHHLLLLL", [4, 3, 2, 1, 0, 0xffff]),
        (2, 4, "LLLLHLLLH", [4, 3, 2, 1, 4, 3]),
        (3, 4, "HHLLHHLLH", [4, 2, 4, 2, 4, 2]),
        (3, 5, "HHHLLHHHL", [5, 3, 1, 4, 2, 5]),
        (4, 4, "LLLLHLLLL", [4, 3, 2, 1, 0, 0xffff]),
        (5, 4, "LLLLHLLLL", [4, 3, 2, 1, 0, 0xffff]),
        // Their outputs are those of mode 0, their counts those of mode 2.
        (6, 4, "LLLLHHHHH", [4, 3, 2, 1, 4, 3]),
        (7, 4, "LLLLHHHHH", [4, 3, 2, 1, 4, 3]),
        (2, 1, "LHHHHHHHH", [1, 1, 1, 1, 1, 1]),
        (3, 1, "HHHHHHHHH", [1, 1, 1, 1, 1, 1]),
    ];
    for (mode, count, out, values) in cases {
        let mut pit = I8254::new(0);
        let _ = program(&mut pit, 0, mode, count, 0);
        assert_eq!(wave(&pit, 9), out, "mode {mode}, {count}");
        assert_eq!(counts(&mut pit, 6), values, "mode {mode}, {count}");
    }
}

#[test]
fn mode_0_interrupts_at_the_terminal_count() {
    let mut pit = I8254::new(0);
    assert_eq!(program(&mut pit, 0, 0, 4, 0), NONE);
    assert_eq!(pit.next_deadline(), Some(at(4)));
    assert_eq!(pit.expire(at(3)), NONE);
    assert_eq!(pit.expire(at(4)), [true]);
    assert_eq!(pit.next_deadline(), None);
    // A control word and the first byte of a count change nothing.
    assert_eq!(pit.write(CONTROL, 0x30, at(200)), NONE);
    assert_eq!(pit.write(0, 2, at(200)), NONE);
    assert_eq!(read_word(&mut pit, 0, at(204)), (4u16).wrapping_sub(204));
    assert_eq!(pit.write(0, 0, at(210)), [false]);
    assert_eq!(pit.next_deadline(), Some(at(210) + at(2)));
}

#[test]
fn the_gate_stops_nothing_and_restarts_all_modes_but_0_and_4() {
    for mode in 0..6 {
        let mut pit = I8254::new(0);
        let _ = program(&mut pit, 0, mode, 10, 0);
        let _ = pit.set_gate(0, false, at(2));
        let before = read_word(&mut pit, 0, at(2));
        assert_ne!(read_word(&mut pit, 0, at(4)), before, "mode {mode} counts on");
        let _ = pit.set_gate(0, true, at(50));
        let restarted = pit.next_deadline() == Some(at(50) + at(10));
        // In mode 1 the line rises with the gate.
        assert_eq!(restarted, ![0, 1, 4].contains(&mode), "mode {mode}");
        let _ = pit.set_gate(0, true, at(52));
        assert_ne!(pit.next_deadline(), Some(at(52) + at(10)), "it is up already");
    }
}

#[test]
fn the_line_rises_once_a_period_in_modes_2_and_3_and_once_in_the_others() {
    let mut pit = I8254::new(0);
    assert_eq!(program(&mut pit, 0, 1, 1193, 0), [true], "in mode 1 as the count is loaded, as in QEMU");
    assert_eq!((pit.next_deadline(), pit.expire(at(1193))), (None, vec![false]));
    for mode in [0, 2, 3, 4, 5] {
        let mut pit = I8254::new(0);
        let _ = program(&mut pit, 0, mode, 1193, 0);
        assert_eq!(pit.next_deadline(), Some(at(1193)), "mode {mode}");
        assert_eq!(pit.expire(at(1193)).last(), Some(&true), "mode {mode}");
        let again = [2, 3].contains(&mode).then_some(at(2 * 1193));
        assert_eq!(pit.next_deadline(), again, "mode {mode}");
    }
}

#[test]
fn late_and_missed_edges_are_one() {
    let mut pit = I8254::new(0);
    let _ = program(&mut pit, 0, 2, 1193, 0);
    assert_eq!(pit.expire(at(10 * 1193 + 5)), [true]);
    assert_eq!(pit.expire(at(20 * 1193 + 5)), [false, true]);
    assert_eq!(pit.next_deadline(), Some(at(21 * 1193)));
    // In the low half of a square wave the line ends low.
    let _ = program(&mut pit, 0, 3, 1000, at(30_000));
    assert_eq!(pit.expire(at(30_000) + at(1600)), [false, true, false]);
    assert_eq!(pit.expire(at(30_000) + at(2000)), [true]);
}

#[test]
fn a_guest_cannot_ask_for_a_storm() {
    let mut pit = I8254::new(0);
    let _ = program(&mut pit, 0, 2, 2, 0);
    let first = pit.next_deadline().unwrap();
    assert!(!pit.expire(first).is_empty());
    assert_eq!(pit.next_deadline(), Some(first + 50_000));
    let _ = program(&mut pit, 0, 2, 1, 1000);
    assert_eq!(pit.next_deadline(), None, "a count of 1 is not legal");
}

#[test]
fn a_count_of_0_is_the_largest_and_there_is_no_bcd() {
    for control in [0x34, 0x35] {
        let mut pit = I8254::new(0);
        let _ = pit.write(CONTROL, control, 0);
        let _ = pit.write(0, 0, 0);
        let _ = pit.write(0, 0, 0);
        assert_eq!(read_word(&mut pit, 0, 0), 0);
        assert_eq!(pit.next_deadline(), Some(at(65_536)));
        let _ = pit.write(CONTROL, 0xe2, 0);
        assert_eq!(pit.read(0, 0), control, "but the status has its bit");
    }
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
fn before_the_first_control_word_there_is_the_lower_byte_alone() {
    let mut pit = I8254::new(0);
    let _ = pit.write(CONTROL, 0xe2, 0);
    assert_eq!(pit.read(0, 0), 0x86, "OUT high, no access mode, mode 3");
    let _ = pit.write(0, 0x80, 0);
    assert_eq!((pit.read(0, 0), pit.read(0, 0)), (0x80, 0x80));
    let _ = pit.write(CONTROL, 0x00, 0);
    assert_eq!(pit.read(0, at(1)), 0x7e, "nothing is latched");
}

#[test]
fn latched_count_stays_until_it_is_read() {
    let mut pit = I8254::new(0);
    let _ = program(&mut pit, 0, 2, 0x1234, 0);
    let _ = pit.write(CONTROL, 0x00, at(4));
    let _ = pit.write(CONTROL, 0x00, at(100));
    assert_eq!(read_word(&mut pit, 0, at(200)), 0x1230, "the first latch command counts");
    assert_eq!(read_word(&mut pit, 0, at(4)), 0x1230, "counting again");
    assert_eq!(read_word(&mut pit, 0, at(5)), 0x122f);
    // A new count leaves the latch, and so does a reset.
    let _ = pit.write(CONTROL, 0x00, at(4));
    let _ = program(&mut pit, 0, 2, 0x100, at(300));
    pit.reset(at(300));
    assert_eq!(read_word(&mut pit, 0, at(300)), 0x1230);
}

#[test]
fn read_back_latches_status_and_counts() {
    let mut pit = I8254::new(0);
    let _ = program(&mut pit, 0, 2, 0x1000, 0);
    let _ = program(&mut pit, 1, 0, 0x2000, 0);
    // Both, of counters 0 and 1: the status comes first.
    let _ = pit.write(CONTROL, 0xc0 | 0x02 | 0x04, at(1));
    assert_eq!(pit.read(0, at(9)), 0x34, "OUT low, word access, mode 2");
    assert_eq!(read_word(&mut pit, 0, at(9)), 0x0fff);
    assert_eq!(pit.read(1, at(9)), 0x30, "OUT low, word access, mode 0");
    assert_eq!(read_word(&mut pit, 1, at(9)), 0x1fff);
    // Status alone; there is no null count.
    let _ = pit.write(CONTROL, 0x19, at(9));
    let _ = pit.write(CONTROL, 0xe0 | 0x02, at(9));
    assert_eq!(pit.read(0, at(9)), 0x19, "OUT low, LSB, mode 4, BCD");
    // Counts alone.
    let _ = pit.write(0, 0x55, at(9));
    let _ = pit.write(CONTROL, 0xd0 | 0x02, at(9) + at(1));
    assert_eq!(pit.read(0, at(20)), 0x54);
    assert_eq!(pit.read(CONTROL, 0), 0, "the control word cannot be read");
}

#[test]
fn interrupts_can_be_cut_off() {
    let mut pit = I8254::new(0);
    let _ = program(&mut pit, 0, 2, 1193, 0);
    assert_eq!(pit.set_irq_enabled(false, at(10)), NONE);
    assert_eq!(pit.next_deadline(), None);
    assert_eq!(pit.expire(at(5000)), NONE);
    assert_eq!(pit.set_irq_enabled(true, at(5000)), [true], "what was missed is not made up for");
    assert_eq!(pit.next_deadline(), Some(at(5 * 1193)));
}

#[test]
fn power_on_is_a_square_wave_of_18_hz() {
    let mut pit = I8254::new(at(7));
    let _ = program(&mut pit, 0, 0, 1, at(10));
    let _ = pit.set_gate(2, true, at(10));
    pit.reset(at(100));
    assert_eq!(pit.next_deadline(), Some(at(100) + at(65_536)));
    assert_eq!(pit.expire(at(100) + at(65_536)), [true]);
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
