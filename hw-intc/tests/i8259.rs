//! The pair of 8259As as a PC programs it (Intel 8259A data sheet).

use hw_intc::i8259::{Chip, I8259};
use proptest::prelude::*;

const EOI: u8 = 0x20;

fn init(pic: &mut I8259, chip: Chip, words: [u8; 4]) {
    pic.write(chip, false, words[0]);
    for word in &words[1..] {
        pic.write(chip, true, *word);
    }
}

/// Both initialised as firmware and Linux do: vectors from 0x30 and 0x38, nothing masked.
fn pc() -> I8259 {
    with_icw4(0x01)
}

fn with_icw4(icw4: u8) -> I8259 {
    let mut pic = I8259::new();
    init(&mut pic, Chip::Master, [0x11, 0x30, 0x04, icw4]);
    init(&mut pic, Chip::Slave, [0x11, 0x38, 0x02, icw4]);
    pic
}

fn pulse(pic: &mut I8259, irq: u8) {
    pic.set_irq(irq, true);
    pic.set_irq(irq, false);
}

fn irr(pic: &mut I8259, chip: Chip) -> u8 {
    pic.write(chip, false, 0x0a);
    pic.read(chip, false)
}

fn isr(pic: &mut I8259, chip: Chip) -> u8 {
    pic.write(chip, false, 0x0b);
    pic.read(chip, false)
}

#[test]
fn an_edge_interrupts_once() {
    let mut pic = pc();
    assert!(!pic.intr());
    pic.set_irq(4, true);
    assert!(pic.intr());
    assert_eq!(irr(&mut pic, Chip::Master), 0x10);
    assert_eq!(pic.acknowledge(), 0x34);
    assert_eq!(isr(&mut pic, Chip::Master), 0x10);
    assert_eq!(irr(&mut pic, Chip::Master), 0);
    pic.write(Chip::Master, false, EOI);
    assert!(!pic.intr(), "the input is still high, but there is no new edge");
    pic.set_irq(4, false);
    pic.set_irq(4, true);
    assert!(pic.intr());
}

#[test]
fn mask_register_holds_back() {
    let mut pic = pc();
    pic.write(Chip::Master, true, 0x10);
    assert_eq!(pic.read(Chip::Master, true), 0x10);
    pulse(&mut pic, 4);
    assert!(!pic.intr());
    pic.write(Chip::Master, true, 0);
    assert!(pic.intr(), "the edge was remembered");
}

#[test]
fn fully_nested_priorities() {
    let mut pic = pc();
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&mut pic, 6);
    assert!(!pic.intr(), "lower than what is in service");
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    assert_eq!(isr(&mut pic, Chip::Master), 0x12);
    pic.write(Chip::Master, false, EOI);
    assert_eq!(isr(&mut pic, Chip::Master), 0x10, "the highest in service is ended");
    assert!(!pic.intr());
    pic.write(Chip::Master, false, EOI);
    assert_eq!(pic.acknowledge(), 0x36);
}

#[test]
fn acknowledging_nothing_is_spurious_7() {
    let mut pic = pc();
    assert_eq!(pic.acknowledge(), 0x37);
    assert_eq!(isr(&mut pic, Chip::Master), 0);
}

#[test]
fn slave_interrupts_through_input_2() {
    let mut pic = pc();
    pulse(&mut pic, 12);
    assert!(pic.intr());
    assert_eq!(irr(&mut pic, Chip::Master), 0x04);
    assert_eq!(pic.acknowledge(), 0x3c);
    assert_eq!(isr(&mut pic, Chip::Master), 0x04);
    assert_eq!(isr(&mut pic, Chip::Slave), 0x10);
    pulse(&mut pic, 3);
    assert!(!pic.intr(), "IRQ 3 is below the slave");
    pic.write(Chip::Slave, false, EOI);
    pic.write(Chip::Master, false, EOI);
    assert_eq!(pic.acknowledge(), 0x33);
}

#[test]
fn a_second_slave_interrupt_is_not_lost() {
    let mut pic = pc();
    pulse(&mut pic, 14);
    pulse(&mut pic, 8);
    assert_eq!(pic.acknowledge(), 0x38);
    assert!(!pic.intr());
    pic.write(Chip::Slave, false, EOI);
    pic.write(Chip::Master, false, EOI);
    assert_eq!(pic.acknowledge(), 0x3e);

    // Under automatic EOI the slave's request does not even go away.
    let mut pic = with_icw4(0x03);
    pulse(&mut pic, 14);
    pulse(&mut pic, 8);
    assert_eq!(pic.acknowledge(), 0x38);
    assert_eq!(pic.acknowledge(), 0x3e);
    assert!(!pic.intr());
}

#[test]
fn masking_the_slave_takes_its_request_back() {
    let mut pic = pc();
    pulse(&mut pic, 12);
    pic.write(Chip::Slave, true, 0xff);
    assert!(!pic.intr());
    assert_eq!(irr(&mut pic, Chip::Master), 0);
    pic.write(Chip::Slave, true, 0);
    assert_eq!(pic.acknowledge(), 0x3c);
}

#[test]
fn input_2_is_not_connected() {
    let mut pic = pc();
    pulse(&mut pic, 2);
    pulse(&mut pic, 16);
    assert!(!pic.intr());
}

#[test]
fn special_fully_nested_mode_lets_the_slave_nest() {
    for (icw4, nests) in [(0x01, false), (0x11, true)] {
        let mut pic = with_icw4(icw4);
        pulse(&mut pic, 12);
        assert_eq!(pic.acknowledge(), 0x3c);
        pulse(&mut pic, 8);
        assert_eq!(pic.intr(), nests, "ICW4 {icw4:#x}");
    }
}

#[test]
fn level_triggered_by_elcr() {
    let mut pic = pc();
    pic.write_elcr(Chip::Master, 0xff);
    pic.write_elcr(Chip::Slave, 0xff);
    assert_eq!((pic.read_elcr(Chip::Master), pic.read_elcr(Chip::Slave)), (0xf8, 0xde));
    pic.set_irq(11, true);
    assert_eq!(pic.acknowledge(), 0x3b);
    pic.write(Chip::Slave, false, EOI);
    pic.write(Chip::Master, false, EOI);
    assert_eq!(pic.acknowledge(), 0x3b, "still asserted");
    pic.set_irq(11, false);
    pic.write(Chip::Slave, false, EOI);
    pic.write(Chip::Master, false, EOI);
    assert!(!pic.intr());
}

#[test]
fn level_triggered_by_icw1() {
    let mut pic = pc();
    init(&mut pic, Chip::Master, [0x19, 0x30, 0x04, 0x03]);
    pic.set_irq(1, true);
    assert_eq!(pic.acknowledge(), 0x31);
    assert!(pic.intr());
    pic.set_irq(1, false);
    assert!(!pic.intr());
}

#[test]
fn automatic_eoi_leaves_nothing_in_service() {
    let mut pic = with_icw4(0x03);
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
    assert_eq!(isr(&mut pic, Chip::Master), 0);
    // With rotation each one served goes to the end of the queue.
    pic.write(Chip::Master, false, 0x80);
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&mut pic, 4);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x36);
    pic.write(Chip::Master, false, 0x00);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x34, "no rotation any more");
}

#[test]
fn eoi_commands() {
    // Specific EOI ends the level it names, not the highest.
    let mut pic = pc();
    for irq in [4, 1] {
        pulse(&mut pic, irq);
        pic.acknowledge();
    }
    pic.write(Chip::Master, false, 0x60 | 4);
    assert_eq!(isr(&mut pic, Chip::Master), 0x02);
    // Rotating on a non-specific EOI makes that level the lowest.
    pic.write(Chip::Master, false, 0xa0);
    assert_eq!(isr(&mut pic, Chip::Master), 0);
    for irq in [0, 1, 2, 3] {
        pulse(&mut pic, irq);
    }
    assert_eq!(pic.acknowledge(), 0x33);
    // Rotating on a specific EOI: 5 is lowest, 6 the highest.
    pic.write(Chip::Master, false, 0xe0 | 3);
    pic.write(Chip::Master, false, 0xe0 | 5);
    pulse(&mut pic, 6);
    pulse(&mut pic, 7);
    assert_eq!(pic.acknowledge(), 0x36);
    pic.write(Chip::Master, false, EOI);
    // Set priority: 6 becomes the lowest, 7 the highest.
    pic.write(Chip::Master, false, 0xc0 | 6);
    assert_eq!(pic.acknowledge(), 0x37);
    assert_eq!(isr(&mut pic, Chip::Master), 0x80);
    // No operation.
    pic.write(Chip::Master, false, 0x40);
    assert_eq!(isr(&mut pic, Chip::Master), 0x80);
}

#[test]
fn special_mask_mode_lets_lower_levels_through() {
    let mut pic = pc();
    pulse(&mut pic, 1);
    pic.acknowledge();
    pulse(&mut pic, 4);
    pic.write(Chip::Master, true, 0x02);
    assert!(!pic.intr());
    pic.write(Chip::Master, false, 0x68);
    assert_eq!(pic.acknowledge(), 0x34);
    pic.write(Chip::Master, false, EOI);
    assert_eq!(isr(&mut pic, Chip::Master), 0x02, "the masked one is left alone");
    pic.write(Chip::Master, false, 0x48);
    pulse(&mut pic, 4);
    assert!(!pic.intr());
}

#[test]
fn polling_acknowledges() {
    let mut pic = pc();
    pic.write(Chip::Master, false, 0x0c);
    assert_eq!(pic.read(Chip::Master, false), 0);
    pulse(&mut pic, 5);
    pic.write(Chip::Master, false, 0x0c);
    assert_eq!(pic.read(Chip::Master, true), 0x85);
    assert_eq!(isr(&mut pic, Chip::Master), 0x20);
    assert_eq!(pic.read(Chip::Master, true), 0, "the next read is the mask again");
    pulse(&mut pic, 9);
    pic.write(Chip::Slave, false, 0x0c);
    assert_eq!(pic.read(Chip::Slave, false), 0x81);
    assert!(!pic.intr(), "the master's request went with the slave's");
}

#[test]
fn initialising_forgets_all_but_elcr() {
    let mut pic = pc();
    pic.write_elcr(Chip::Master, 0x20);
    pic.set_irq(5, true);
    pulse(&mut pic, 1);
    pulse(&mut pic, 12);
    pic.acknowledge();
    pic.write(Chip::Master, true, 0xff);
    init(&mut pic, Chip::Master, [0x11, 0x50, 0x04, 0x01]);
    assert_eq!(pic.read(Chip::Master, true), 0);
    assert_eq!(isr(&mut pic, Chip::Master), 0);
    assert_eq!(pic.read_elcr(Chip::Master), 0x20);
    assert_eq!(irr(&mut pic, Chip::Master), 0x24, "the level-triggered input and the slave still ask");
    pic.reset();
    assert_eq!(pic.read_elcr(Chip::Master), 0);
    assert!(!pic.intr());
}

#[test]
fn initialisation_words_are_as_many_as_icw1_says() {
    // Single and no ICW4: the second word after ICW1 is already the mask.
    let mut pic = pc();
    for (icw1, words) in [(0x12, 1), (0x13, 2), (0x10, 2), (0x11, 3)] {
        pic.write(Chip::Master, false, icw1);
        for _ in 0..words {
            pic.write(Chip::Master, true, 0x40);
        }
        assert_eq!(pic.read(Chip::Master, true), 0, "ICW1 {icw1:#x}");
        pic.write(Chip::Master, true, 0x55);
        assert_eq!(pic.read(Chip::Master, true), 0x55, "ICW1 {icw1:#x}");
    }
}

proptest! {
    #[test]
    fn random_accesses_never_panic_and_survive_saving(
        steps in prop::collection::vec((any::<bool>(), any::<bool>(), any::<u8>(), 0u8..20, 0u8..6), 0..300),
    ) {
        let mut pic = I8259::new();
        for (slave, a0, value, irq, what) in steps {
            let chip = if slave { Chip::Slave } else { Chip::Master };
            match what {
                0 | 1 => pic.write(chip, a0, value),
                2 => pic.write_elcr(chip, value),
                3 => pic.set_irq(irq, a0),
                4 => { pic.read(chip, a0); }
                _ => { pic.acknowledge(); }
            }
        }
        let saved = serde_json::to_string(&pic).unwrap();
        let mut restored: I8259 = serde_json::from_str(&saved).unwrap();
        prop_assert_eq!(pic.intr(), restored.intr());
        prop_assert_eq!(pic.acknowledge(), restored.acknowledge());
    }
}
