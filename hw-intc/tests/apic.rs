//! The local APIC's registers (Intel SDM volume 3, chapter 11).

use hw_intc::apic::{Apic, ApicEvent, CpuInterrupt, Message, Pending, Targets};
use hw_intc::ioapic::DeliveryMode;
use proptest::prelude::*;

const ID: u64 = 0x20;
const TPR: u64 = 0x80;
const PPR: u64 = 0xa0;
const EOI: u64 = 0xb0;
const LDR: u64 = 0xd0;
const DFR: u64 = 0xe0;
const SVR: u64 = 0xf0;
const ESR: u64 = 0x280;
const ICR_LOW: u64 = 0x300;
const ICR_HIGH: u64 = 0x310;
const LVT_TIMER: u64 = 0x320;
const LINT0: u64 = 0x350;
const LINT1: u64 = 0x360;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;

const MASKED: u32 = 1 << 16;
const NMI: u32 = 4 << 8;
const EXTINT: u32 = 7 << 8;

/// Switched on by software.
fn apic() -> Apic {
    let mut apic = Apic::new(3, 0x14);
    write(&mut apic, SVR, 0x1ef);
    apic
}

fn write(apic: &mut Apic, offset: u64, value: u32) {
    assert_eq!(apic.write(offset, value, false, 0), None, "{offset:#x}");
}

fn read(apic: &mut Apic, offset: u64) -> u32 {
    apic.read(offset, 0)
}

fn fixed(vector: u8, level_triggered: bool) -> Message {
    Message { mode: DeliveryMode::Fixed, vector, level_triggered }
}

fn interrupt(apic: &mut Apic, vector: u8) {
    assert_eq!(apic.accept(fixed(vector, false)), None);
}

#[test]
fn registers_after_reset() {
    let mut apic = Apic::new(3, 0x14);
    let expected = [
        (ID, 0x0300_0000),
        (0x30, 0x0005_0014),
        (TPR, 0),
        (PPR, 0),
        (LDR, 0),
        (DFR, u32::MAX),
        (SVR, 0xff),
        (ICR_LOW, 0),
        (LVT_TIMER, MASKED),
        (LINT0, MASKED),
        (LINT1, MASKED),
        (INITIAL_COUNT, 0),
        (CURRENT_COUNT, 0),
        (DIVIDE, 0),
    ];
    for (offset, value) in expected {
        assert_eq!(read(&mut apic, offset), value, "{offset:#x}");
    }
    assert_eq!(apic.base(), 0xfee0_0800);
    assert_eq!(read(&mut apic, ESR), 0);
    assert_eq!(read(&mut apic, 0x40), 0, "there is no such register");
    assert_eq!(read(&mut apic, ESR), 0x80);
    apic.reset();
    assert_eq!(read(&mut apic, ESR), 0);
}

#[test]
fn the_highest_vector_goes_first_and_nests() {
    let mut apic = apic();
    assert_eq!(apic.take_interrupt(false), None);
    interrupt(&mut apic, 0x41);
    interrupt(&mut apic, 0x61);
    assert_eq!(read(&mut apic, 0x220), 0x2, "0x41 is in the third word");
    assert_eq!(read(&mut apic, 0x230), 0x2);
    assert!(apic.intr(false));
    assert_eq!(apic.take_interrupt(false), Some(0x61));
    assert_eq!((read(&mut apic, 0x230), read(&mut apic, 0x130)), (0, 2));
    assert_eq!(read(&mut apic, PPR), 0x60);
    assert_eq!(apic.pending(), Pending::TooLow);
    assert!(!apic.intr(false));
    interrupt(&mut apic, 0x6f);
    assert!(!apic.intr(false), "of the same class");
    interrupt(&mut apic, 0x70);
    assert_eq!(apic.take_interrupt(false), Some(0x70));
    write(&mut apic, EOI, 0);
    write(&mut apic, EOI, 0);
    assert_eq!(apic.take_interrupt(false), Some(0x6f));
    write(&mut apic, EOI, 0);
    assert_eq!(apic.take_interrupt(false), Some(0x41));
    write(&mut apic, EOI, 0);
    write(&mut apic, EOI, 0);
    assert_eq!(read(&mut apic, PPR), 0);
}

#[test]
fn task_priority_holds_back() {
    let mut apic = apic();
    write(&mut apic, TPR, 0x45);
    assert_eq!((apic.cr8(), read(&mut apic, PPR)), (4, 0x45));
    interrupt(&mut apic, 0x4f);
    assert!(!apic.intr(false));
    assert_eq!(apic.take_interrupt(false), Some(0xef), "spurious");
    apic.set_cr8(3);
    assert_eq!(read(&mut apic, TPR), 0x30);
    assert!(apic.intr(false));
}

#[test]
fn switched_off_by_software_nothing_is_taken() {
    let mut apic = apic();
    interrupt(&mut apic, 0x41);
    write(&mut apic, SVR, 0xff);
    assert!(!apic.intr(false));
    assert_eq!(apic.take_interrupt(false), None);
    write(&mut apic, SVR, 0x1ff);
    assert!(apic.intr(false));
}

#[test]
fn only_the_end_of_a_level_is_told() {
    let mut apic = apic();
    assert_eq!(apic.accept(fixed(0x51, true)), None);
    assert_eq!(read(&mut apic, 0x1a0), 1 << 17);
    assert_eq!(apic.take_interrupt(false), Some(0x51));
    assert_eq!(apic.write(EOI, 0, false, 0), Some(ApicEvent::Eoi(0x51)));
    interrupt(&mut apic, 0x51);
    assert_eq!(read(&mut apic, 0x1a0), 0);
    assert_eq!(apic.take_interrupt(false), Some(0x51));
    write(&mut apic, EOI, 0);
}

#[test]
fn destinations() {
    let mut apic = apic();
    assert!(apic.matches(3, false) && apic.matches(0xff, false) && !apic.matches(2, false));
    assert!(!apic.matches(0xff, true), "LDR is 0");
    write(&mut apic, LDR, 0x2500_0000);
    assert_eq!(read(&mut apic, LDR), 0x2500_0000);
    assert!(apic.matches(0x01, true) && apic.matches(0x24, true) && !apic.matches(0x1a, true));
    write(&mut apic, DFR, 0x0fff_ffff);
    assert_eq!(read(&mut apic, DFR), 0x0fff_ffff);
    assert!(apic.matches(0x21, true) && apic.matches(0x2f, true));
    assert!(!apic.matches(0x22, true) && !apic.matches(0x11, true));
    write(&mut apic, DFR, 0x5fff_ffff);
    assert!(!apic.matches(0x21, true), "no such model");
    write(&mut apic, ID, 0x0900_0000);
    assert!(apic.matches(9, false) && !apic.matches(3, false));
}

#[test]
fn the_icr_sends() {
    let mut apic = apic();
    write(&mut apic, ICR_HIGH, 0x0700_0000);
    let mut send = |low| apic.write(ICR_LOW, low, false, 0).unwrap();
    let to_7 = |logical| Targets::Destination { destination: 7, logical };
    assert_eq!(send(0x4051), ApicEvent::Send(to_7(false), fixed(0x51, false)));
    assert_eq!(send(0x4851), ApicEvent::Send(to_7(true), fixed(0x51, false)));
    assert_eq!(send(0xc4051), ApicEvent::Send(Targets::Others, fixed(0x51, false)));
    assert_eq!(send(0x84051), ApicEvent::Send(Targets::All, fixed(0x51, false)));
    assert_eq!(send(0x44051), ApicEvent::Send(Targets::This, fixed(0x51, false)));
    let init = Message { mode: DeliveryMode::Init, vector: 0, level_triggered: true };
    assert_eq!(send(0xc500), ApicEvent::Send(to_7(false), init));
    assert_eq!(send(0x8500), ApicEvent::SynchronizeArbitration(to_7(false)));
    let startup = Message { mode: DeliveryMode::StartUp, vector: 0x9f, level_triggered: false };
    assert_eq!(send(0x469f), ApicEvent::Send(to_7(false), startup));
    assert_eq!(read(&mut apic, ICR_LOW), 0x469f);
    assert_eq!(read(&mut apic, ICR_HIGH), 0x0700_0000);
}

#[test]
fn a_cpu_that_waits_starts_once() {
    let startup = Message { mode: DeliveryMode::StartUp, vector: 0x9f, level_triggered: false };
    let mut apic = apic();
    assert_eq!(apic.accept(startup), None, "no message from outside is one");
    assert_eq!(apic.accept_ipi(startup), Some(ApicEvent::Cpu(CpuInterrupt::Sipi)));
    assert_eq!(apic.sipi(), Some(0x9f));
    assert_eq!(apic.sipi(), None);
    apic.init_reset();
    assert_eq!(apic.sipi(), Some(0x9f));
    // The bootstrap processor never waits.
    apic.designate_bsp(true);
    apic.init_reset();
    assert_eq!(apic.sipi(), None);
    assert_eq!(apic.base(), 0xfee0_0900);
}

#[test]
fn messages_for_the_cpu_itself() {
    let mut apic = apic();
    for (mode, kind) in [
        (DeliveryMode::Smi, CpuInterrupt::Smi),
        (DeliveryMode::Nmi, CpuInterrupt::Nmi),
        (DeliveryMode::Init, CpuInterrupt::Init),
    ] {
        let message = Message { mode, vector: 0x51, level_triggered: false };
        assert_eq!(apic.accept(message), Some(ApicEvent::Cpu(kind)));
    }
    assert_eq!(apic.pending(), Pending::None);
    assert_eq!(apic.external_nmi(), None, "LINT1 is masked");
    write(&mut apic, LINT1, NMI);
    assert_eq!(apic.external_nmi(), Some(ApicEvent::Cpu(CpuInterrupt::Nmi)));
}

#[test]
fn lint0_is_the_pics() {
    let mut apic = apic();
    assert!(!apic.accepts_pic() && !apic.intr(true));
    write(&mut apic, LINT0, EXTINT);
    assert!(apic.accepts_pic() && apic.intr(true) && !apic.intr(false));
    assert_eq!(apic.set_lint0(true), None);
    interrupt(&mut apic, 0x51);
    assert_eq!(apic.take_interrupt(true), None, "the PIC goes first");
    assert_eq!(apic.take_interrupt(false), Some(0x51));
    write(&mut apic, EOI, 0);
    // As an interrupt of its own: an edge stays, a level goes.
    for (level, stays) in [(0, true), (1 << 15, false)] {
        write(&mut apic, LINT0, 0x61 | level);
        assert_eq!(apic.set_lint0(true), None);
        assert!(apic.intr(true));
        assert_eq!(apic.set_lint0(false), None);
        assert_eq!(apic.take_interrupt(false).is_some(), stays);
        write(&mut apic, EOI, 0);
    }
    write(&mut apic, LINT0, MASKED | NMI);
    assert_eq!(apic.set_lint0(true), None);
    assert_eq!(apic.write(LINT0, NMI, true, 0), Some(ApicEvent::Cpu(CpuInterrupt::Nmi)));
}

#[test]
fn switched_off_for_good_it_lets_the_pic_through() {
    let mut apic = apic();
    assert!(!apic.set_base(0xfee0_0800));
    assert!(apic.set_base(0xfee0_0000));
    assert!(apic.intr(true));
    assert_eq!(read(&mut apic, SVR), 0xef);
    assert!(!apic.set_base(0xfee0_0900));
    assert_eq!(apic.base(), 0xfee0_0000, "neither on again nor another's role");
    apic.reset();
    assert_eq!(apic.base(), 0xfee0_0800);
}

#[test]
fn one_shot_timer() {
    let mut apic = apic();
    write(&mut apic, LVT_TIMER, 0x31);
    write(&mut apic, DIVIDE, 0xb);
    assert_eq!(apic.write(INITIAL_COUNT, 100_000, false, 1_000), None);
    assert_eq!(apic.next_deadline(), Some(101_001));
    assert_eq!(apic.read(CURRENT_COUNT, 31_000), 70_000);
    assert_eq!(apic.expire(101_000), None);
    assert_eq!(apic.pending(), Pending::None);
    assert_eq!(apic.expire(101_001), None);
    assert_eq!(apic.pending(), Pending::Vector(0x31));
    assert_eq!(apic.next_deadline(), None);
    assert_eq!(apic.read(CURRENT_COUNT, 200_000), 0);
}

#[test]
fn periodic_timer_and_its_divider() {
    let mut apic = apic();
    for (divide, by) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (0xa, 128), (0xb, 1)] {
        write(&mut apic, LVT_TIMER, 1 << 17 | 0x31);
        write(&mut apic, DIVIDE, divide);
        write(&mut apic, INITIAL_COUNT, 99_999);
        assert_eq!(read(&mut apic, DIVIDE), divide);
        assert_eq!(apic.next_deadline(), Some(100_000 * by));
        assert_eq!(apic.expire(100_000 * by), None);
        assert_eq!(apic.next_deadline(), Some(200_000 * by));
        assert_eq!(apic.read(CURRENT_COUNT, 250_000 * by), 49_999);
    }
    write(&mut apic, LVT_TIMER, MASKED | 1 << 17 | 0x31);
    assert_eq!(apic.next_deadline(), None);
    write(&mut apic, LVT_TIMER, 1 << 17 | 0x31);
    write(&mut apic, INITIAL_COUNT, 0);
    assert_eq!(apic.next_deadline(), None);
}

#[test]
fn the_fastest_timer_leaves_time_for_others() {
    let mut apic = apic();
    write(&mut apic, LVT_TIMER, 1 << 17 | 0x31);
    write(&mut apic, DIVIDE, 0xb);
    write(&mut apic, INITIAL_COUNT, 1);
    assert_eq!(apic.expire(1_000_000), None);
    assert!(apic.next_deadline().unwrap() >= 1_049_000);
}

proptest! {
    #[test]
    fn random_accesses_never_panic_and_survive_saving(
        steps in prop::collection::vec((0u8..8, any::<u64>(), any::<u32>(), any::<bool>(), any::<u64>()), 0..200),
    ) {
        let mut apic = Apic::new(3, 0x14);
        for (what, offset, value, pic, now) in steps {
            match what {
                0..=2 => { let _ = apic.write(offset, value, pic, now); }
                3 => { apic.read(offset, now); }
                4 => { let _ = apic.accept_ipi(Message::from_msi(offset, value).1); }
                5 => { apic.take_interrupt(pic); }
                6 => { apic.set_base(offset); }
                _ => { let _ = (apic.expire(now), apic.set_lint0(pic), apic.external_nmi()); }
            }
        }
        let saved = serde_json::to_string(&apic).unwrap();
        let mut restored: Apic = serde_json::from_str(&saved).unwrap();
        for offset in (0..0x1000).step_by(16) {
            prop_assert_eq!(apic.read(offset, 5), restored.read(offset, 5));
        }
        prop_assert_eq!(apic.take_interrupt(false), restored.take_interrupt(false));
    }
}
