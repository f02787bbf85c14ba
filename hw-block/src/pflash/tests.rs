use memory::vm_memory::VolatileSlice;
use proptest::prelude::*;

use super::cfi::Bank;
use super::chip::Pflash;
use super::spec::{command, status};

const SECTOR: u64 = 4096;

/// Four blocks behind 8 bits, as PCs have it.
fn pc_bank() -> Bank {
    Bank {
        blocks: 4,
        sector_len: SECTOR,
        width: 1,
        device_width: 0,
        max_device_width: 0,
        big_endian: false,
        ident: [0; 4],
        old_multiple_chip_handling: false,
    }
}

struct Test {
    chip: Pflash,
    bytes: Vec<u8>,
}

impl Test {
    fn new(bank: Bank, read_only: bool) -> Self {
        let bytes = (0..bank.size()).map(|n| n as u8).collect();
        Test { chip: Pflash::new(bank, read_only), bytes }
    }

    fn write(&mut self, offset: u64, value: u32) -> Option<std::ops::Range<u64>> {
        self.chip.write(&VolatileSlice::from(&mut self.bytes[..]), offset, value, 1)
    }

    fn read(&mut self, offset: u64, size: u8) -> u32 {
        self.chip.read(&VolatileSlice::from(&mut self.bytes[..]), offset, size)
    }
}

#[test]
fn a_byte_is_programmed_and_the_status_says_so() {
    let mut test = Test::new(pc_bank(), false);
    assert!(test.chip.shows_array());
    assert_eq!(test.read(0x1234, 4), 0x3736_3534);
    assert_eq!(test.write(0, command::PROGRAM_ALT.into()), None);
    assert!(!test.chip.shows_array());
    assert_eq!(test.write(0x1234, 0xa5), Some(0x1234..0x1235));
    assert_eq!(test.read(0, 1), u32::from(status::READY));
    test.write(0, command::READ_ARRAY.into());
    assert!(test.chip.shows_array());
    assert_eq!(test.read(0x1234, 2), 0x35a5);
}

#[test]
fn a_block_is_erased() {
    let mut test = Test::new(pc_bank(), false);
    assert_eq!(test.write(SECTOR + 5, command::BLOCK_ERASE.into()), Some(SECTOR..2 * SECTOR));
    test.write(SECTOR + 5, command::CONFIRM.into());
    assert_eq!(test.read(0, 1), u32::from(status::READY));
    test.write(0, command::READ_ARRAY.into());
    assert_eq!(test.read(SECTOR - 1, 1), 0xff);
    assert_eq!(test.read(2 * SECTOR - 4, 4), u32::MAX);
    assert_eq!(test.read(2 * SECTOR, 1), 0);
}

#[test]
fn a_buffer_is_programmed_at_once_when_it_is_confirmed() {
    let mut test = Test::new(pc_bank(), false);
    for end in [command::READ_ARRAY, command::CONFIRM] {
        test.write(0x300, command::WRITE_BUFFER.into());
        test.write(0x300, 1);
        assert_eq!(test.write(0x310, 0xaa), None);
        assert_eq!(test.write(0x311, 0xbb), None);
        let confirmed = end == command::CONFIRM;
        assert_eq!(test.write(0x300, end.into()), confirmed.then_some(0x300..0x400));
        assert_eq!(test.bytes[0x310..0x312] == [0xaa, 0xbb], confirmed);
        test.write(0, command::READ_ARRAY.into());
    }
    // Beside the buffer nothing is stored, and the whole of it is lost.
    test.write(0x300, command::WRITE_BUFFER.into());
    test.write(0x300, 0);
    test.write(0x400, 0xcc);
    assert_eq!(test.write(0x300, command::CONFIRM.into()), None);
    test.write(0, command::READ_STATUS.into());
    assert_eq!(test.read(0, 1), u32::from(status::READY | status::PROGRAM_ERROR));
    test.write(0, command::CLEAR_STATUS.into());
    test.write(0, command::READ_STATUS.into());
    assert_eq!(test.read(0, 1), 0);
}

#[test]
fn what_is_read_only_stays() {
    let mut test = Test::new(pc_bank(), true);
    let before = test.bytes.clone();
    assert_eq!(test.write(0, command::BLOCK_ERASE.into()), None);
    test.write(0, command::CONFIRM.into());
    assert_eq!(test.read(0, 1), u32::from(status::READY | status::ERASE_ERROR));
    test.write(0, command::PROGRAM.into());
    assert_eq!(test.write(0, 0), None);
    test.write(0, command::WRITE_BUFFER.into());
    test.write(0, 0);
    test.write(0, 0);
    assert_eq!(test.write(0, command::CONFIRM.into()), None);
    assert_eq!(test.bytes, before);
}

#[test]
fn the_query_table_tells_size_and_blocks() {
    let mut test = Test::new(pc_bank(), false);
    test.write(0x55, command::CFI_QUERY.into());
    let text: Vec<u8> = (0x10..0x13).map(|at| test.read(at, 1) as u8).collect();
    assert_eq!(text, b"QRY");
    assert_eq!((test.read(0x27, 1), test.read(0x2a, 1)), (14, 8));
    let region: Vec<u32> = (0x2d..0x31).map(|at| test.read(at, 1)).collect();
    assert_eq!(region, [3, 0, 0x10, 0]);
    // Only the command for the array ends it.
    test.write(0, command::READ_STATUS.into());
    assert_eq!(test.read(0x10, 1), u32::from(b'Q'));
    test.write(0, command::READ_ARRAY.into());
    assert!(test.chip.shows_array());
}

#[test]
fn chips_side_by_side_answer_each_for_itself() {
    let bank =
        Bank { width: 4, device_width: 2, max_device_width: 2, ident: [0x89, 0x18, 0, 0], ..pc_bank() };
    let mut test = Test::new(bank.clone(), false);
    test.write(0, command::CFI_QUERY.into());
    assert_eq!(test.read(0x10 * 4, 4), 0x0051_0051);
    // Two chips, each with half of a block.
    assert_eq!(test.read(0x27 * 4, 4), 0x000d_000d);
    test.write(0, command::READ_ARRAY.into());
    test.write(0, command::READ_ID.into());
    assert_eq!((test.read(0, 4), test.read(4, 4)), (0x0089_0089, 0x0018_0018));
    test.write(0, command::READ_STATUS.into());
    assert_eq!(test.read(0, 4), 0x0080_0080);
    // Wide chips with 8 bits in use.
    let mut test = Test::new(Bank { device_width: 1, ..bank }, false);
    test.write(0, command::CFI_QUERY.into());
    assert_eq!(test.read(0x10 * 8, 4), 0x5151_5151);
}

proptest! {
    /// Whatever is written, nothing panics, all stays inside, and the state goes to and fro.
    #[test]
    fn any_sequence_is_survived(
        writes in proptest::collection::vec((0..4 * SECTOR, prop_oneof![
            prop_oneof![Just(0x10u32), Just(0x20), Just(0xe8), Just(0x98), Just(0xd0), Just(0x60), Just(0x90)],
            any::<u32>(),
        ], 0..3u8), 0..200),
        widths in (0..3u8, 0..4u8, 0..4u8),
        big_endian: bool,
        read_only: bool,
    ) {
        let width_of = |n: u8| if n == 0 { 0 } else { 1 << (n - 1) };
        let bank = Bank {
            width: 1 << widths.0,
            device_width: width_of(widths.1),
            max_device_width: width_of(widths.2).max(width_of(widths.1)),
            big_endian,
            ..pc_bank()
        };
        let mut test = Test::new(bank.clone(), read_only);
        let before = test.bytes.clone();
        for (offset, value, size) in writes {
            let size = 1 << size;
            let at = offset / u64::from(size) * u64::from(size);
            let array = VolatileSlice::from(&mut test.bytes[..]);
            if let Some(changed) = test.chip.write(&array, at, value, size) {
                prop_assert!(changed.end <= bank.size());
            }
            test.chip.read(&array, at, size);
            let state = test.chip.state().clone();
            let mut copy = Pflash::new(bank.clone(), read_only);
            copy.set_state(state.clone());
            prop_assert_eq!(copy.state(), &state);
        }
        prop_assert!(!read_only || test.bytes == before);
    }
}
