//! The 8237A DMA controller, by register sequences.

use hw_dma::i8257::{I8257, Transfer, spec::*};
use proptest::prelude::*;

const ADDRESS_2: u64 = 4;
const COUNT_2: u64 = 5;

fn program(chip: &mut I8257, mode: u8, address: u16, count: u16) {
    chip.write_control(CLEAR_FLIP_FLOP, 0);
    chip.write_control(MODE, mode);
    for (register, value) in [(ADDRESS_2, address), (COUNT_2, count)] {
        value.to_le_bytes().into_iter().for_each(|byte| chip.write_channel(register, byte));
    }
    chip.write_page(0x81, false, 0x12);
    chip.write_control(SINGLE_MASK, 2);
}

fn word(chip: &mut I8257, register: u64) -> u16 {
    u16::from_le_bytes([chip.read_channel(register), chip.read_channel(register)])
}

#[test]
fn address_and_count_are_read_as_written_and_move_on() {
    let mut chip = I8257::new(false);
    program(&mut chip, 0x46, 0x3400, 511);
    assert_eq!((word(&mut chip, ADDRESS_2), word(&mut chip, COUNT_2)), (0x3400, 511));
    assert_eq!(chip.ready().count(), 0, "nobody asks");
    chip.set_request(2, true);
    assert_eq!(chip.ready().collect::<Vec<_>>(), [2]);
    assert_eq!(chip.transfer(2), Some(Transfer { channel: 2, position: 0, length: 512 }));
    chip.moved(2, 100);
    assert_eq!((word(&mut chip, ADDRESS_2), word(&mut chip, COUNT_2)), (0x3464, 411));
    assert_eq!(chip.read_control(COMMAND), 0x40, "the request, not yet the end");
    chip.moved(2, 512);
    assert_eq!(chip.read_control(COMMAND), 0x44);
    assert_eq!(chip.read_control(COMMAND), 0x40, "the end is told once");
}

#[test]
fn a_place_is_the_page_and_the_address() {
    let mut chip = I8257::new(false);
    program(&mut chip, 0x46, 0x3400, 511);
    assert_eq!(chip.place(2, 0x10, 0x20), Some((0x12_3410, false)));
    chip.write_page(0x481, true, 0xff);
    assert_eq!(chip.place(2, 0, 1), Some((0x7f12_3400, false)));
    program(&mut chip, 0x66, 0x3400, 511);
    assert_eq!(chip.place(2, 0x10, 0x20), Some((0x7f12_33d0, true)));
    program(&mut chip, 0x42, 0x3400, 511);
    assert_eq!(chip.place(2, 0, 1), None, "verify moves nothing");
    assert!(!chip.has_autoinitialization(2));
    program(&mut chip, 0x56, 0x3400, 511);
    assert!(chip.has_autoinitialization(2));
}

#[test]
fn the_second_controller_counts_words() {
    let mut chip = I8257::new(true);
    program(&mut chip, 0x46, 0x3400, 255);
    assert_eq!(chip.transfer(2).map(|t| t.length), Some(512));
    assert_eq!(chip.place(2, 0, 1), Some((0x12_6800, false)));
    chip.moved(2, 2);
    assert_eq!((word(&mut chip, ADDRESS_2), word(&mut chip, COUNT_2)), (0x3401, 254));
}

#[test]
fn masks_and_requests() {
    let mut chip = I8257::new(false);
    assert_eq!(chip.read_control(REQUEST), 0xff, "all are masked");
    chip.write_control(CLEAR_MASK, 0);
    chip.write_control(SINGLE_MASK, 4 | 1);
    assert_eq!(chip.read_control(REQUEST), 0x02);
    chip.write_control(WRITE_MASK, 0x0c);
    assert_eq!(chip.read_control(REQUEST), 0x0c);
    chip.write_control(REQUEST, 4 | 1);
    assert_eq!(chip.ready().collect::<Vec<_>>(), [1], "the guest asks for it");
    chip.write_control(REQUEST, 1);
    assert_eq!(chip.ready().count(), 0);
    chip.write_control(COMMAND, 0x01);
    chip.write_control(MASTER_CLEAR, 0);
    assert_eq!((chip.read_control(COMMAND), chip.read_control(REQUEST)), (0, 0xff));
}

#[test]
fn only_four_ports_are_page_registers() {
    let mut chip = I8257::new(false);
    for port in 0x80..0x88 {
        chip.write_page(port, false, port as u8);
    }
    let pages: Vec<u8> = (0x80..0x88).map(|port| chip.read_page(port, false)).collect();
    assert_eq!(pages, [0, 0x81, 0x82, 0x83, 0, 0, 0, 0x87]);
}

proptest! {
    #[test]
    fn no_sequence_makes_it_panic(
        words: bool, ops in prop::collection::vec((0_u8..8, any::<u64>(), any::<u8>(), any::<u32>()), 1..300)
    ) {
        let mut chip = I8257::new(words);
        for (kind, at, value, wide) in ops {
            match kind {
                0 => drop(chip.read_channel(at & 0xf)),
                1 => chip.write_channel(at & 0xf, value),
                2 => drop(chip.read_control(at & 7)),
                3 => chip.write_control(at & 7, value),
                4 => chip.write_page(at, value & 1 != 0, value),
                5 => chip.set_request(usize::from(value), wide & 1 != 0),
                6 => chip.moved(usize::from(value & 3), wide),
                _ => drop(chip.place(usize::from(value & 3), wide, wide.rotate_left(7))),
            }
            for channel in chip.ready() {
                let transfer = chip.transfer(channel).unwrap();
                prop_assert!(transfer.position <= transfer.length && transfer.length <= 2 << 16);
            }
        }
    }
}
