//! The I/O APIC as a guest programs it (Intel 82093AA data sheet).

use hw_intc::ioapic::{DeliveryMode, IoApic, IoApicMessage};
use proptest::prelude::*;

const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const REMOTE_IRR: u32 = 1 << 14;
const LOGICAL: u32 = 1 << 11;

fn ioapic() -> IoApic {
    IoApic::new(0x20).unwrap()
}

fn read(ioapic: &mut IoApic, index: u8) -> u32 {
    assert!(ioapic.write(0x00, index.into(), 4).is_empty());
    ioapic.read(0x10, 4)
}

fn write(ioapic: &mut IoApic, index: u8, value: u32) -> Vec<IoApicMessage> {
    assert!(ioapic.write(0x00, index.into(), 4).is_empty());
    ioapic.write(0x10, value, 4)
}

/// Programs `pin` for APIC `destination`.
fn program(ioapic: &mut IoApic, pin: u8, destination: u8, low: u32) -> Vec<IoApicMessage> {
    let mut messages = write(ioapic, 0x11 + 2 * pin, u32::from(destination) << 24);
    messages.extend(write(ioapic, 0x10 + 2 * pin, low));
    messages
}

fn vectors(messages: impl IntoIterator<Item = IoApicMessage>) -> Vec<u8> {
    messages.into_iter().map(|message| message.vector).collect()
}

#[test]
fn identification_and_version() {
    let mut ioapic = ioapic();
    assert_eq!(read(&mut ioapic, 0), 0);
    assert_eq!(read(&mut ioapic, 1), 0x0017_0020);
    write(&mut ioapic, 0, u32::MAX);
    assert_eq!(read(&mut ioapic, 0), 0x0f00_0000);
    assert_eq!(read(&mut ioapic, 2), 0x0f00_0000);
    write(&mut ioapic, 1, 0);
    assert_eq!(read(&mut ioapic, 1), 0x0017_0020);
    assert_eq!(read(&mut IoApic::new(0x11).unwrap(), 1), 0x0017_0011);
    assert_eq!(
        IoApic::new(0x12).unwrap_err().to_string(),
        "IOAPIC only supports version 0x11 or 0x20 (default: 0x20)."
    );
}

#[test]
fn entries_are_masked_at_first() {
    let mut ioapic = ioapic();
    for pin in 0..24 {
        assert_eq!(read(&mut ioapic, 0x10 + 2 * pin), MASKED);
        assert_eq!(read(&mut ioapic, 0x11 + 2 * pin), 0);
        assert_eq!(ioapic.set_irq(pin, true), None);
    }
    for index in [0x03, 0x0f, 0x40, 0xff] {
        assert!(write(&mut ioapic, index, u32::MAX).is_empty());
        assert_eq!(read(&mut ioapic, index), 0, "{index:#x}");
    }
}

#[test]
fn window_takes_double_words_only() {
    let mut ioapic = ioapic();
    assert!(ioapic.write(0x00, 0x10, 1).is_empty());
    assert!(ioapic.write(0x10, 0, 2).is_empty());
    assert_eq!(ioapic.read(0x10, 4), MASKED);
    assert_eq!(ioapic.read(0x10, 2), 0);
    assert_eq!(ioapic.read(0x00, 1), 0x10);
    assert_eq!(ioapic.read(0x20, 4), 0);
}

#[test]
fn an_edge_sends_one_message() {
    let mut ioapic = ioapic();
    program(&mut ioapic, 4, 3, 0x34);
    let message = IoApicMessage {
        destination: 0x0300,
        logical: false,
        delivery_mode: DeliveryMode::Fixed,
        level_triggered: false,
        vector: 0x34,
    };
    assert_eq!(ioapic.set_irq(4, true), Some(message));
    assert_eq!(message.to_msi(), (0xfee0_3000, 0x34));
    assert_eq!(ioapic.set_irq(4, true), Some(message), "whoever drives it tells of edges only");
    assert_eq!(ioapic.set_irq(4, false), None);
    assert_eq!(ioapic.set_irq(4, true), Some(message));
    assert_eq!(ioapic.eoi(0x34), [], "edges need no EOI");
    assert_eq!(ioapic.set_irq(24, true), None);
}

#[test]
fn an_edge_on_a_masked_input_is_lost() {
    let mut ioapic = ioapic();
    program(&mut ioapic, 4, 0, 0x34 | MASKED);
    assert_eq!(ioapic.set_irq(4, true), None);
    assert_eq!(program(&mut ioapic, 4, 0, 0x34), []);
}

#[test]
fn messages_carry_every_field() {
    let mut ioapic = ioapic();
    for (bits, mode) in [
        (0, DeliveryMode::Fixed),
        (1, DeliveryMode::LowestPriority),
        (2, DeliveryMode::Smi),
        (3, DeliveryMode::Reserved3),
        (4, DeliveryMode::Nmi),
        (5, DeliveryMode::Init),
        (6, DeliveryMode::StartUp),
        (7, DeliveryMode::ExtInt),
    ] {
        program(&mut ioapic, 9, 0xff, 0x61 | bits << 8 | LOGICAL);
        let message = ioapic.set_irq(9, true).unwrap();
        assert_eq!((message.delivery_mode, message.logical), (mode, true));
        assert_eq!(message.to_msi(), (0xfeef_f004, 0x61 | bits << 8));
        assert_eq!(ioapic.set_irq(9, false), None);
    }
    program(&mut ioapic, 9, 1, 0x61 | LEVEL);
    assert_eq!(ioapic.set_irq(9, true).unwrap().to_msi(), (0xfee0_1000, 0x8061));
}

#[test]
fn level_waits_for_the_end_of_interrupt() {
    let mut ioapic = ioapic();
    program(&mut ioapic, 10, 0, 0x5a | LEVEL);
    assert!(ioapic.set_irq(10, true).is_some());
    assert_eq!(read(&mut ioapic, 0x24), 0x5a | LEVEL | REMOTE_IRR);
    assert_eq!(ioapic.set_irq(10, true), None);
    assert_eq!(ioapic.eoi(0x5b), [], "another vector");
    assert_eq!(vectors(ioapic.eoi(0x5a)), [0x5a], "still asserted");
    assert_eq!(ioapic.set_irq(10, false), None);
    assert_eq!(ioapic.eoi(0x5a), []);
    assert_eq!(read(&mut ioapic, 0x24), 0x5a | LEVEL);
    assert!(ioapic.set_irq(10, true).is_some());
}

#[test]
fn a_level_that_comes_and_goes_while_masked() {
    let mut ioapic = ioapic();
    program(&mut ioapic, 10, 0, 0x5a | LEVEL | MASKED);
    assert_eq!(ioapic.set_irq(10, true), None);
    assert_eq!(vectors(program(&mut ioapic, 10, 0, 0x5a | LEVEL)), [0x5a]);
    program(&mut ioapic, 10, 0, 0x5a | LEVEL | MASKED);
    assert_eq!(ioapic.eoi(0x5a), []);
    assert_eq!(ioapic.set_irq(10, false), None);
    assert_eq!(program(&mut ioapic, 10, 0, 0x5a | LEVEL), []);
}

#[test]
fn read_only_bits_and_the_change_to_edge() {
    let mut ioapic = ioapic();
    program(&mut ioapic, 10, 0, 0x5a | LEVEL | REMOTE_IRR | 1 << 12);
    assert_eq!(read(&mut ioapic, 0x24), 0x5a | LEVEL);
    assert!(ioapic.set_irq(10, true).is_some());
    write(&mut ioapic, 0x24, 0x5a | LEVEL | MASKED);
    assert_eq!(read(&mut ioapic, 0x24) & REMOTE_IRR, REMOTE_IRR);
    write(&mut ioapic, 0x24, 0x5a | MASKED);
    assert_eq!(read(&mut ioapic, 0x24) & REMOTE_IRR, 0);
    assert_eq!(vectors(write(&mut ioapic, 0x24, 0x5a | LEVEL)), [0x5a]);
}

#[test]
fn eoi_register_is_there_in_version_20_only() {
    for (version, again) in [(0x20, vec![0x5a]), (0x11, vec![])] {
        let mut ioapic = IoApic::new(version).unwrap();
        program(&mut ioapic, 10, 0, 0x5a | LEVEL);
        assert!(ioapic.set_irq(10, true).is_some());
        assert_eq!(ioapic.write(0x40, 0x5a, 1), [], "not by bytes");
        assert_eq!(vectors(ioapic.write(0x40, 0x5a, 4)), again);
    }
}

#[test]
fn one_vector_on_two_inputs_ends_on_both() {
    let mut ioapic = ioapic();
    for pin in [16, 17] {
        program(&mut ioapic, pin, 0, 0x70 | LEVEL);
        assert!(ioapic.set_irq(pin, true).is_some());
    }
    assert_eq!(ioapic.set_irq(16, false), None);
    assert_eq!(vectors(ioapic.eoi(0x70)), [0x70]);
    assert_eq!(read(&mut ioapic, 0x30) & REMOTE_IRR, 0);
    assert_eq!(read(&mut ioapic, 0x32) & REMOTE_IRR, REMOTE_IRR);
}

#[test]
fn reset_masks_everything() {
    let mut ioapic = ioapic();
    write(&mut ioapic, 0, 0x0200_0000);
    program(&mut ioapic, 10, 5, 0x5a | LEVEL);
    assert!(ioapic.set_irq(10, true).is_some());
    ioapic.reset();
    assert_eq!(ioapic.read(0x00, 4), 0);
    assert_eq!(read(&mut ioapic, 0), 0);
    assert_eq!(read(&mut ioapic, 0x24), MASKED);
    assert_eq!(program(&mut ioapic, 10, 5, 0x5a | LEVEL), []);
}

proptest! {
    #[test]
    fn random_accesses_never_panic_and_survive_saving(
        steps in prop::collection::vec((any::<u64>(), any::<u32>(), 0u32..9, any::<u8>(), any::<bool>()), 0..200),
    ) {
        let mut ioapic = ioapic();
        for (offset, value, size, number, level) in steps {
            let _ = ioapic.write(offset, value, size);
            let _ = write(&mut ioapic, number % 0x44, value);
            ioapic.read(offset, size);
            let _ = ioapic.set_irq(number % 30, level);
            let _ = ioapic.eoi(number);
        }
        let saved = serde_json::to_string(&ioapic).unwrap();
        let mut restored: IoApic = serde_json::from_str(&saved).unwrap();
        for index in 0..0x40 {
            prop_assert_eq!(read(&mut ioapic, index), read(&mut restored, index));
        }
    }
}
