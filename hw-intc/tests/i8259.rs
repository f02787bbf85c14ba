//! The pair of 8259As as a PC programs it (Intel 8259A data sheet).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hw_core::reset::cold_reset;
use hw_core::{Irq, qdev_create};
use hw_intc::IsaI8259;
use hw_intc::i8259::I8259;
use memory::{AddressSpace, MemTxResult};
use proptest::prelude::*;
use qom::Object;

/// Reads a port.
fn inb(io: &AddressSpace, port: u64) -> u8 {
    let mut byte = [0];
    assert_eq!(io.read(port, &mut byte), MemTxResult::Ok);
    byte[0]
}

/// A line to look at.
fn probe() -> (Irq, Arc<AtomicBool>) {
    let level = Arc::new(AtomicBool::new(false));
    let set = level.clone();
    (Irq::new(Arc::new(move |_: u32, level: bool| set.store(level, Ordering::SeqCst)), 0), level)
}

/// One controller of the pair.
#[derive(Clone, Copy)]
enum Chip {
    Master,
    Slave,
}

/// Both devices, by their ports and lines.
struct Pics {
    bus: Arc<dyn Object>,
    io: Arc<AddressSpace>,
    master: Arc<IsaI8259>,
    irqs: Vec<Irq>,
    intr: Arc<AtomicBool>,
}

impl Pics {
    fn new() -> Self {
        let (bus, io) = common::isa_bus();
        let (parent, intr) = probe();
        let (master, irqs) = common::pics(&bus, parent);
        Pics { bus, io, master, irqs, intr }
    }

    fn intr(&self) -> bool {
        let level = self.intr.load(Ordering::SeqCst);
        assert_eq!(level, self.master.output());
        level
    }

    fn acknowledge(&self) -> u8 {
        self.master.read_irq()
    }

    fn set_irq(&self, n: usize, level: bool) {
        self.irqs[n].set(level);
    }

    fn port(chip: Chip, a0: bool) -> u64 {
        u64::from(a0)
            + match chip {
                Chip::Master => 0x20,
                Chip::Slave => 0xa0,
            }
    }

    fn elcr(chip: Chip) -> u64 {
        match chip {
            Chip::Master => 0x4d0,
            Chip::Slave => 0x4d1,
        }
    }

    fn read(&self, chip: Chip, a0: bool) -> u8 {
        inb(&self.io, Self::port(chip, a0))
    }

    fn write(&self, chip: Chip, a0: bool, value: u8) {
        common::outb(&self.io, Self::port(chip, a0), value);
    }

    fn read_elcr(&self, chip: Chip) -> u8 {
        inb(&self.io, Self::elcr(chip))
    }

    fn write_elcr(&self, chip: Chip, value: u8) {
        common::outb(&self.io, Self::elcr(chip), value);
    }

    fn reset(&self) {
        cold_reset(&self.bus);
    }
}

const EOI: u8 = 0x20;

fn init(pic: &Pics, chip: Chip, words: [u8; 4]) {
    pic.write(chip, false, words[0]);
    for word in &words[1..] {
        pic.write(chip, true, *word);
    }
}

/// Both initialised as firmware and Linux do: vectors from 0x30 and 0x38, nothing masked.
fn pc() -> Pics {
    with_icw4(0x01)
}

fn with_icw4(icw4: u8) -> Pics {
    let pic = Pics::new();
    init(&pic, Chip::Master, [0x11, 0x30, 0x04, icw4]);
    init(&pic, Chip::Slave, [0x11, 0x38, 0x02, icw4]);
    pic
}

fn pulse(pic: &Pics, irq: usize) {
    pic.set_irq(irq, true);
    pic.set_irq(irq, false);
}

fn irr(pic: &Pics, chip: Chip) -> u8 {
    pic.write(chip, false, 0x0a);
    pic.read(chip, false)
}

fn isr(pic: &Pics, chip: Chip) -> u8 {
    pic.write(chip, false, 0x0b);
    pic.read(chip, false)
}

#[test]
fn an_edge_interrupts_once() {
    let pic = pc();
    assert!(!pic.intr());
    pic.set_irq(4, true);
    assert!(pic.intr());
    assert_eq!(irr(&pic, Chip::Master), 0x10);
    assert_eq!(pic.acknowledge(), 0x34);
    assert_eq!(isr(&pic, Chip::Master), 0x10);
    assert_eq!(irr(&pic, Chip::Master), 0);
    pic.write(Chip::Master, false, EOI);
    assert!(!pic.intr(), "the input is still high, but there is no new edge");
    pic.set_irq(4, false);
    pic.set_irq(4, true);
    assert!(pic.intr());
}

#[test]
fn mask_register_holds_back() {
    let pic = pc();
    pic.write(Chip::Master, true, 0x10);
    assert_eq!(pic.read(Chip::Master, true), 0x10);
    pulse(&pic, 4);
    assert!(!pic.intr());
    pic.write(Chip::Master, true, 0);
    assert!(pic.intr(), "the edge was remembered");
}

#[test]
fn fully_nested_priorities() {
    let pic = pc();
    pulse(&pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&pic, 6);
    assert!(!pic.intr(), "lower than what is in service");
    pulse(&pic, 1);
    assert_eq!(pic.acknowledge(), 0x31);
    assert_eq!(isr(&pic, Chip::Master), 0x12);
    pic.write(Chip::Master, false, EOI);
    assert_eq!(isr(&pic, Chip::Master), 0x10, "the highest in service is ended");
    assert!(!pic.intr());
    pic.write(Chip::Master, false, EOI);
    assert_eq!(pic.acknowledge(), 0x36);
}

#[test]
fn acknowledging_nothing_is_spurious_7() {
    let pic = pc();
    assert_eq!(pic.acknowledge(), 0x37);
    assert_eq!(isr(&pic, Chip::Master), 0);
}

#[test]
fn slave_interrupts_through_input_2() {
    let pic = pc();
    pulse(&pic, 12);
    assert!(pic.intr());
    assert_eq!(irr(&pic, Chip::Master), 0x04);
    assert_eq!(pic.acknowledge(), 0x3c);
    assert_eq!(isr(&pic, Chip::Master), 0x04);
    assert_eq!(isr(&pic, Chip::Slave), 0x10);
    pulse(&pic, 3);
    assert!(!pic.intr(), "IRQ 3 is below the slave");
    pic.write(Chip::Slave, false, EOI);
    pic.write(Chip::Master, false, EOI);
    assert_eq!(pic.acknowledge(), 0x33);
}

#[test]
fn a_second_slave_interrupt_is_not_lost() {
    let pic = pc();
    pulse(&pic, 14);
    pulse(&pic, 8);
    assert_eq!(pic.acknowledge(), 0x38);
    assert!(!pic.intr());
    pic.write(Chip::Slave, false, EOI);
    pic.write(Chip::Master, false, EOI);
    assert_eq!(pic.acknowledge(), 0x3e);

    // Under automatic EOI the slave's request does not even go away.
    let pic = with_icw4(0x03);
    pulse(&pic, 14);
    pulse(&pic, 8);
    assert_eq!(pic.acknowledge(), 0x38);
    assert_eq!(pic.acknowledge(), 0x3e);
    assert!(!pic.intr());
}

#[test]
fn masking_the_slave_leaves_its_request_with_the_master() {
    let pic = pc();
    pulse(&pic, 12);
    pic.write(Chip::Slave, true, 0xff);
    assert!(pic.intr());
    assert_eq!(irr(&pic, Chip::Master), 0x04);
    assert_eq!(pic.acknowledge(), 0x3f, "a spurious one of the slave's");
    pic.write(Chip::Master, false, EOI);
    pic.write(Chip::Slave, true, 0);
    assert_eq!(pic.acknowledge(), 0x3c);
}

#[test]
fn input_2_is_the_slaves() {
    let pic = pc();
    pulse(&pic, 2);
    assert_eq!(pic.acknowledge(), 0x3f);
    assert_eq!(pic.irqs.len(), 16);
}

#[test]
fn special_fully_nested_mode_lets_the_slave_nest() {
    for (icw4, nests) in [(0x01, false), (0x11, true)] {
        let pic = with_icw4(icw4);
        pulse(&pic, 12);
        assert_eq!(pic.acknowledge(), 0x3c);
        pulse(&pic, 8);
        assert_eq!(pic.intr(), nests, "ICW4 {icw4:#x}");
    }
}

#[test]
fn level_triggered_by_elcr() {
    let pic = pc();
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
fn automatic_eoi_leaves_nothing_in_service() {
    let pic = with_icw4(0x03);
    pulse(&pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
    assert_eq!(isr(&pic, Chip::Master), 0);
    // With rotation each one served goes to the end of the queue.
    pic.write(Chip::Master, false, 0x80);
    pulse(&pic, 4);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&pic, 4);
    pulse(&pic, 6);
    assert_eq!(pic.acknowledge(), 0x36);
    pic.write(Chip::Master, false, 0x00);
    pulse(&pic, 6);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&pic, 4);
    assert_eq!(pic.acknowledge(), 0x34, "no rotation any more");
}

#[test]
fn eoi_commands() {
    // Specific EOI ends the level it names, not the highest.
    let pic = pc();
    for irq in [4, 1] {
        pulse(&pic, irq);
        pic.acknowledge();
    }
    pic.write(Chip::Master, false, 0x60 | 4);
    assert_eq!(isr(&pic, Chip::Master), 0x02);
    // Rotating on a non-specific EOI makes that level the lowest.
    pic.write(Chip::Master, false, 0xa0);
    assert_eq!(isr(&pic, Chip::Master), 0);
    for irq in [0, 1, 3] {
        pulse(&pic, irq);
    }
    assert_eq!(pic.acknowledge(), 0x33);
    // Rotating on a specific EOI: 5 is lowest, 6 the highest.
    pic.write(Chip::Master, false, 0xe0 | 3);
    pic.write(Chip::Master, false, 0xe0 | 5);
    pulse(&pic, 6);
    pulse(&pic, 7);
    assert_eq!(pic.acknowledge(), 0x36);
    pic.write(Chip::Master, false, EOI);
    // Set priority: 6 becomes the lowest, 7 the highest.
    pic.write(Chip::Master, false, 0xc0 | 6);
    assert_eq!(pic.acknowledge(), 0x37);
    assert_eq!(isr(&pic, Chip::Master), 0x80);
    // No operation.
    pic.write(Chip::Master, false, 0x40);
    assert_eq!(isr(&pic, Chip::Master), 0x80);
}

#[test]
fn special_mask_mode_lets_lower_levels_through() {
    let pic = pc();
    pulse(&pic, 1);
    pic.acknowledge();
    pulse(&pic, 4);
    pic.write(Chip::Master, true, 0x02);
    assert!(!pic.intr());
    pic.write(Chip::Master, false, 0x68);
    assert_eq!(pic.acknowledge(), 0x34);
    pic.write(Chip::Master, false, EOI);
    assert_eq!(isr(&pic, Chip::Master), 0x10, "the one with the highest priority ends, masked or not");
    pic.write(Chip::Master, false, 0x48);
    pulse(&pic, 4);
    assert!(!pic.intr());
}

#[test]
fn polling_acknowledges() {
    let pic = pc();
    pic.write(Chip::Master, false, 0x0c);
    assert_eq!(pic.read(Chip::Master, false), 0);
    pulse(&pic, 5);
    pic.write(Chip::Master, false, 0x0c);
    assert_eq!(pic.read(Chip::Master, true), 0x85);
    assert_eq!(isr(&pic, Chip::Master), 0x20);
    assert_eq!(pic.read(Chip::Master, true), 0, "the next read is the mask again");
    pulse(&pic, 9);
    pic.write(Chip::Slave, false, 0x0c);
    assert_eq!(pic.read(Chip::Slave, false), 0x81);
    assert!(pic.intr(), "the master still has the request that was polled away");
}

#[test]
fn initialising_forgets_all_but_elcr() {
    let pic = pc();
    pic.write_elcr(Chip::Master, 0x20);
    pic.set_irq(5, true);
    pulse(&pic, 1);
    pulse(&pic, 12);
    pic.acknowledge();
    pic.write(Chip::Master, true, 0xff);
    init(&pic, Chip::Master, [0x11, 0x50, 0x04, 0x01]);
    assert_eq!(pic.read(Chip::Master, true), 0);
    assert_eq!(isr(&pic, Chip::Master), 0);
    assert_eq!(pic.read_elcr(Chip::Master), 0x20);
    assert_eq!(irr(&pic, Chip::Master), 0x20, "the level-triggered input still asks");
    pic.write(Chip::Slave, true, 0);
    assert_eq!(irr(&pic, Chip::Master), 0x24, "and the slave does so when it has changed");
    pic.reset();
    assert_eq!(pic.read_elcr(Chip::Master), 0);
    assert!(!pic.intr());
}

#[test]
fn initialisation_words_are_as_many_as_icw1_says() {
    // Single and no ICW4: the second word after ICW1 is already the mask.
    let pic = pc();
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

#[test]
fn resetting_lowers_the_output() {
    let pic = pc();
    pic.set_irq(12, true);
    assert!(pic.intr());
    pic.reset();
    assert!(!pic.intr());
    assert_eq!(irr(&pic, Chip::Slave), 0);
}

#[test]
fn types_and_properties_are_qemus() {
    let (bus, io) = common::isa_bus();
    assert!(qdev_create("pic-common", Some(&bus), &[]).is_err(), "abstract");
    let chip = qdev_create("isa-i8259", Some(&bus), &[("iobase", 0x300.into())]).unwrap();
    assert_eq!(chip.property_get("elcr_addr").unwrap(), u32::MAX);
    assert_eq!(chip.property_get("elcr_mask").unwrap(), 0xff);
    assert_eq!(chip.property_get("master").unwrap(), false);
    common::outb(&io, 0x301, 0x5a);
    assert_eq!(inb(&io, 0x301), 0x5a);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_accesses_never_panic(
        steps in prop::collection::vec((any::<bool>(), any::<bool>(), any::<u8>(), 0usize..16, 0u8..6), 0..300),
    ) {
        let pic = Pics::new();
        for (slave, a0, value, irq, what) in steps {
            let chip = if slave { Chip::Slave } else { Chip::Master };
            match what {
                0 | 1 => pic.write(chip, a0, value),
                2 => pic.write_elcr(chip, value),
                3 => pic.set_irq(irq, a0),
                4 => { pic.read(chip, a0); }
                _ => { pic.acknowledge(); }
            }
            pic.intr();
        }
    }

    #[test]
    fn a_chip_survives_saving(
        master: bool,
        steps in prop::collection::vec((any::<bool>(), any::<u8>(), 0u8..10, 0u8..6), 0..300),
    ) {
        let mut chip = I8259::new(master);
        for (a0, value, irq, what) in steps {
            match what {
                0 | 1 => {
 let _ = chip.write(a0, value);
}
                2 => chip.set_elcr(value),
                3 => chip.set_irq(irq, a0),
                4 => { chip.read(a0); }
                _ => { chip.acknowledge(); }
            }
        }
        let saved = serde_json::to_string(&chip).unwrap();
        let mut restored: I8259 = serde_json::from_str(&saved).unwrap();
        prop_assert_eq!(chip.int(), restored.int());
        prop_assert_eq!(chip.acknowledge(), restored.acknowledge());
    }
}
