//! What a guest sees of a PCI function: configuration space, base address registers, interrupt pins.

mod common;

use std::sync::{Arc, Barrier};

use common::{Inputs, Setup, TestPci};
use hw_core::qdev_unparent;
use hw_core::reset::cold_reset;
use hw_pci::spec::*;

const BAR0: usize = BASE_ADDRESS_0;
const BAR1: usize = BASE_ADDRESS_0 + 4;
const BAR2: usize = BASE_ADDRESS_0 + 8;
const BAR3: usize = BASE_ADDRESS_0 + 12;
const IO: u32 = COMMAND_IO as u32;
const MEMORY: u32 = COMMAND_MEMORY as u32;
const INTX_DISABLE: u32 = COMMAND_INTX_DISABLE as u32;

#[test]
fn ids_are_there_at_every_size_and_cannot_be_written() {
    let setup = Setup::new();
    let slot = setup.at(3);
    assert_eq!(slot.read(VENDOR_ID, 4), 0x5678_1234);
    assert_eq!((slot.read(DEVICE_ID, 2), slot.read(DEVICE_ID + 1, 1)), (0x5678, 0x56));
    assert_eq!(slot.read(REVISION_ID, 4), 0x0200_009a);
    assert_eq!(slot.read(SUBSYSTEM_VENDOR_ID, 4), 0x1100_1af4);
    slot.write(VENDOR_ID, u32::MAX, 4);
    slot.write(REVISION_ID, 0, 4);
    assert_eq!((slot.read(VENDOR_ID, 4), slot.read(REVISION_ID, 4)), (0x5678_1234, 0x0200_009a));
}

#[test]
fn only_the_commands_bits_can_be_set() {
    let setup = Setup::new();
    let slot = setup.at(3);
    slot.write(COMMAND, 0xffff, 2);
    assert_eq!(slot.read(COMMAND, 2), 0x0507);
    slot.write(INTERRUPT_LINE, 0xab, 1);
    slot.write(INTERRUPT_PIN, 0xab, 1);
    assert_eq!(slot.read(INTERRUPT_LINE, 2), 0x00ab);
}

#[test]
fn a_one_clears_a_bit_of_status() {
    let setup = Setup::new();
    let slot = setup.at(3);
    slot.pci().with_config(|config| config.set_u16(STATUS, 0xf900 | STATUS_DEVSEL_MEDIUM));
    slot.write(STATUS, 0x8000, 2);
    assert_eq!(slot.read(STATUS, 2), 0x7b00);
    slot.write(STATUS, 0xffff, 2);
    assert_eq!(slot.read(STATUS, 2), u32::from(STATUS_DEVSEL_MEDIUM));
}

#[test]
fn the_end_of_configuration_space_is_no_place_to_fall() {
    let setup = Setup::new();
    let slot = setup.at(3);
    slot.write(0xff, 0xaabb_ccdd, 4);
    assert_eq!(slot.read(0xff, 4), 0xdd);
    assert_eq!(slot.read(0x1000, 4), 0);
    assert_eq!(setup.pci().config_read(0xff, 0, 4), u32::MAX);
    setup.pci().config_write(0xff, 0, 0, 4);
}

#[test]
fn all_ones_tell_the_size_and_kind_of_a_bar() {
    let setup = Setup::new();
    let slot = setup.at(3);
    [BAR0, BAR1, BAR2, BAR3, BAR3 + 4].iter().for_each(|bar| slot.write(*bar, u32::MAX, 4));
    assert_eq!(slot.read(BAR0, 4), 0xffff_f000);
    assert_eq!(slot.read(BAR1, 4), 0xffff_ffe1);
    assert_eq!((slot.read(BAR2, 4), slot.read(BAR3, 4)), (0xffff_000c, u32::MAX));
    assert_eq!(slot.read(BAR3 + 4, 4), 0);
    // Firmware sizes with the decoders on, too: nothing may show meanwhile.
    slot.write(COMMAND, IO | MEMORY, 2);
    assert!(setup.memory.view().ranges().is_empty() && setup.io.view().ranges().is_empty());
}

#[test]
fn a_bar_shows_where_it_is_put_while_its_decoder_is_on() {
    let setup = Setup::new();
    let slot = setup.at(3);
    slot.write(BAR0, 0xe000_0000, 4);
    slot.write(BAR1, 0xc000, 4);
    assert_eq!((setup.shown(0xe000_0000), setup.shown_io(0xc000)), (None, None));
    slot.write(COMMAND, MEMORY, 2);
    assert_eq!((setup.shown(0xe000_0fff).as_deref(), setup.shown_io(0xc000)), (Some("memory 18"), None));
    assert_eq!(setup.shown(0xe000_1000), None);
    slot.write(COMMAND, IO, 2);
    assert_eq!((setup.shown(0xe000_0000), setup.shown_io(0xc01f).as_deref()), (None, Some("io 18")));
    slot.write(COMMAND, 0, 1);
    assert_eq!(setup.shown_io(0xc000), None);
}

#[test]
fn a_bar_moves_while_it_shows() {
    let setup = Setup::new();
    let slot = setup.at(3);
    slot.write(COMMAND, MEMORY, 2);
    slot.write(BAR0, 0xe000_0000, 4);
    slot.write(BAR0, 0xe100_0000, 4);
    assert_eq!((setup.shown(0xe000_0000), setup.shown(0xe100_0000).as_deref()), (None, Some("memory 18")));
    // By halves and bytes, too.
    slot.write(BAR0 + 2, 0xe200, 2);
    assert!(setup.shown(0xe200_0000).is_some());
    slot.write(BAR0 + 3, 0xe3, 1);
    assert_eq!((setup.shown(0xe200_0000), setup.shown(0xe300_0000).is_some()), (None, true));
    // Address 0 means nowhere.
    slot.write(BAR0, 0, 4);
    assert!(setup.memory.view().ranges().is_empty());
}

#[test]
fn a_wide_bar_goes_beyond_4_gib() {
    let setup = Setup::new();
    let slot = setup.at(3);
    slot.write(BAR2, 0x1234_0000, 4);
    slot.write(BAR3, 0x12, 4);
    slot.write(COMMAND, MEMORY, 2);
    assert_eq!(setup.shown(0x12_1234_ffff).as_deref(), Some("wide 18"));
    assert_eq!(setup.shown(0x1234_0000), None);
    // At the very top its last byte would be the last of all.
    slot.write(BAR2, u32::MAX, 4);
    slot.write(BAR3, u32::MAX, 4);
    assert!(setup.memory.view().ranges().is_empty());
}

#[test]
fn ports_end_at_64_kib() {
    let setup = Setup::new();
    let slot = setup.at(3);
    slot.write(COMMAND, IO, 2);
    slot.write(BAR1, 0xffe0, 4);
    assert!(setup.shown_io(0xffff).is_some());
    slot.write(BAR1, 0x1_c000, 4);
    assert!(setup.io.view().ranges().is_empty());
}

#[test]
fn of_two_bars_in_one_place_one_shows_and_the_other_when_it_goes() {
    let setup = Setup::new();
    let (first, second) = (setup.at(3), setup.at(4));
    for slot in [&first, &second] {
        slot.write(BAR0, 0xe000_0000, 4);
        slot.write(COMMAND, MEMORY, 2);
    }
    assert_eq!(setup.shown(0xe000_0000).as_deref(), Some("memory 20"));
    second.write(BAR0, 0xe000_1000, 4);
    assert_eq!(setup.shown(0xe000_0000).as_deref(), Some("memory 18"));
    assert_eq!(setup.shown(0xe000_1000).as_deref(), Some("memory 20"));
}

#[test]
fn the_device_is_told_of_every_write_once_it_is_done() {
    let setup = Setup::new();
    let slot = setup.at(3);
    slot.write(0x40, 1, 1);
    slot.write(BAR0, 1, 4);
    assert_eq!(*slot.object.cast::<TestPci>().unwrap().written.lock().unwrap(), [(0x40, 1), (BAR0, 4)]);
    assert_eq!(slot.read(0x40, 1), 1);
}

#[test]
fn reset_takes_addresses_and_commands_away() {
    let setup = Setup::new();
    let slot = setup.at(3);
    for (at, value) in [(BAR0, 0xe000_0000), (BAR2, 0xe001_0000), (BAR3, 1)] {
        slot.write(at, value, 4);
    }
    slot.write(COMMAND, MEMORY | IO, 2);
    slot.write(INTERRUPT_LINE, 11, 1);
    assert_eq!(setup.memory.view().ranges().len(), 2);
    cold_reset(&slot.object);
    assert!(setup.memory.view().ranges().is_empty());
    assert_eq!((slot.read(COMMAND, 2), slot.read(INTERRUPT_LINE, 1)), (0, 0));
    assert_eq!((slot.read(BAR0, 4), slot.read(BAR2, 4), slot.read(BAR3, 4)), (0, 0xc, 0));
}

#[test]
fn an_input_is_high_while_any_device_on_it_is() {
    let setup = Setup::new();
    let inputs = Arc::new(Inputs::default());
    setup.pci().set_irq_controller(inputs.clone());
    let (first, second, other) = (setup.at(1), setup.at(5), setup.at(2));
    first.pci().set_irq(0, true);
    second.pci().set_irq(0, true);
    other.pci().set_irq(0, true);
    // Again is nothing new.
    first.pci().set_irq(0, true);
    assert_eq!(inputs.take(), [(1, true), (2, true)]);
    first.pci().set_irq(0, false);
    assert_eq!(inputs.take(), []);
    second.pci().set_irq(0, false);
    assert_eq!(inputs.take(), [(1, false)]);
    // Two pins of one device that lead to one input count, too.
    other.pci().set_irq(3, true);
    assert_eq!(inputs.take(), [(1, true)]);
}

#[test]
fn the_last_level_is_right_however_threads_interleave() {
    let setup = Setup::new();
    let inputs = Arc::new(Inputs::default());
    setup.pci().set_irq_controller(inputs.clone());
    let (slot, other) = (setup.at(1), setup.at(5));
    let mut at_input = false;
    for _ in 0..2000 {
        let start = Barrier::new(3);
        std::thread::scope(|scope| {
            for (slot, level) in [(&slot, true), (&slot, false), (&other, false)] {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    slot.pci().set_irq(0, level);
                });
            }
        });
        at_input = inputs.take().last().map_or(at_input, |(_, level)| *level);
        assert_eq!(at_input, slot.read(STATUS, 2) & u32::from(STATUS_INTERRUPT) != 0);
        other.pci().set_irq(0, true);
        at_input = inputs.take().last().map_or(at_input, |(_, level)| *level);
    }
}

#[test]
fn status_says_that_an_interrupt_is_pending_also_while_it_is_disabled() {
    let setup = Setup::new();
    let inputs = Arc::new(Inputs::default());
    setup.pci().set_irq_controller(inputs.clone());
    let slot = setup.at(1);
    slot.pci().set_irq(0, true);
    slot.write(COMMAND, INTX_DISABLE, 2);
    assert_eq!(inputs.take(), [(1, true), (1, false)]);
    assert_eq!(slot.read(STATUS, 2), u32::from(STATUS_INTERRUPT));
    slot.pci().set_irq(0, false);
    assert_eq!(slot.read(STATUS, 2), 0);
    slot.pci().set_irq(0, true);
    assert_eq!(inputs.take(), []);
    slot.write(COMMAND, 0, 2);
    assert_eq!(inputs.take(), [(1, true)]);
    cold_reset(&slot.object);
    assert_eq!((inputs.take(), slot.read(STATUS, 2)), (vec![(1, false)], 0));
}

#[test]
fn a_device_that_leaves_takes_its_bars_and_its_place() {
    let setup = Setup::new();
    let slot = setup.at(3);
    slot.write(BAR0, 0xe000_0000, 4);
    slot.write(COMMAND, MEMORY, 2);
    qdev_unparent(&slot.object);
    assert!(setup.memory.view().ranges().is_empty());
    assert!(setup.pci().device(slot.devfn).is_none());
    setup.at(3);
}
