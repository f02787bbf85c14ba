//! The PIT and the speaker port as devices, on a virtual clock that is moved by hand.

use std::sync::Arc;

use hw_core::reset::cold_reset;
use hw_core::sysbus::sysbus_get_default;
use hw_core::{Device, Irq, qdev_create};
use hw_isa::isa_bus_new;
use hw_timer::{IsaPit, i8254_pit_init, pcspk_init};
use memory::{AddressSpace, MemTxResult, MemoryRegion};
use parking_lot::{Mutex, MutexGuard};
use proptest::prelude::*;
use qom::Object;
use util::clock;

/// A period of counter 0 with the count 1193, rounded up, in ns.
const MILLISECOND: u64 = 999_848;

/// The line does not change.
const NONE: [bool; 0] = [];

struct Board {
    bus: Arc<dyn Object>,
    io: Arc<AddressSpace>,
    pit: Arc<IsaPit>,
    levels: Arc<Mutex<Vec<bool>>>,
    /// The clock is the program's.
    _turn: MutexGuard<'static, ()>,
}

impl Board {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock();
        qom::module_call_init(qom::ModuleInitType::Qom);
        clock::set_manual();
        let bridge = qdev_create("isabus-bridge", Some(&sysbus_get_default()), &[]).unwrap();
        let io = MemoryRegion::container("isa-io", 1 << 16);
        let bus = isa_bus_new(&bridge, &MemoryRegion::container("isa-memory", 1 << 24), &io).unwrap();
        let levels = Arc::new(Mutex::new(Vec::new()));
        let log = levels.clone();
        let irq = Irq::new(Arc::new(move |_: u32, level: bool| log.lock().push(level)), 0);
        let pit = i8254_pit_init(&bus, irq).unwrap();
        pcspk_init(&bus, &(pit.clone() as Arc<dyn Object>)).unwrap();
        Board { bus, io: AddressSpace::new("isa-io", &io), pit, levels, _turn: turn }
    }

    fn outb(&self, port: u64, value: u8) {
        assert_eq!(self.io.write(port, &[value]), MemTxResult::Ok);
    }

    fn inb(&self, port: u64) -> u8 {
        let mut byte = [0];
        assert_eq!(self.io.read(port, &mut byte), MemTxResult::Ok);
        byte[0]
    }

    /// Programs counter `number` with `mode` and a 16-bit count.
    fn program(&self, number: u8, mode: u8, count: u16) {
        self.outb(0x43, number << 6 | 0x30 | mode << 1);
        let [lsb, msb] = count.to_le_bytes();
        self.outb(0x40 + u64::from(number), lsb);
        self.outb(0x40 + u64::from(number), msb);
    }

    fn take(&self) -> Vec<bool> {
        std::mem::take(&mut self.levels.lock())
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // No timer of this board's runs in the next one's time.
        hw_core::qdev_unparent(&(self.pit.clone() as Arc<dyn Object>));
    }
}

#[test]
fn counter_0_interrupts_once_a_period() {
    let board = Board::new();
    board.program(0, 2, 1193);
    assert_eq!(board.take(), NONE);
    clock::step(MILLISECOND);
    assert_eq!(board.take(), [true]);
    clock::step(MILLISECOND);
    assert_eq!(board.take(), [false, true]);
    clock::step(10 * MILLISECOND);
    assert_eq!(board.take(), [false, true].repeat(10));
    // One shot.
    board.program(0, 0, 1193);
    assert_eq!(board.take(), [false]);
    clock::step(10 * MILLISECOND);
    assert_eq!(board.take(), [true]);
}

#[test]
fn the_hpet_can_take_the_line() {
    let board = Board::new();
    let enable = board.pit.gpio_in("", 0).unwrap();
    board.program(0, 2, 1193);
    let _ = board.take();
    enable.set(false);
    clock::step(10 * MILLISECOND);
    assert_eq!(board.take(), NONE);
    enable.set(true);
    clock::step(MILLISECOND);
    assert_eq!(board.take().last(), Some(&true));
}

#[test]
fn the_fastest_rate_does_not_stop_the_program() {
    let board = Board::new();
    board.program(0, 2, 2);
    clock::step(1_000_000_000);
    let edges = board.take().into_iter().filter(|level| *level).count();
    assert!((10_000..=20_001).contains(&edges), "{edges}");
}

#[test]
fn reset_returns_to_the_longest_period() {
    let board = Board::new();
    board.program(0, 2, 1193);
    cold_reset(&board.bus);
    clock::step(50 * MILLISECOND);
    assert_eq!(board.take(), NONE);
    clock::step(5 * MILLISECOND);
    assert_eq!(board.take(), [true]);
    assert_eq!(board.inb(0x61) & 1, 0);
}

#[test]
fn speaker_port_has_gate_and_output_of_counter_2() {
    let board = Board::new();
    board.program(2, 0, 1193);
    assert_eq!(board.inb(0x61) & 0x2f, 0x00);
    clock::step(2 * MILLISECOND);
    assert_eq!(board.inb(0x61) & 0x2f, 0x20, "a low gate stops nothing");
    board.outb(0x61, 0x03);
    assert_eq!(board.inb(0x61) & 0x2f, 0x23);
    board.program(2, 0, 1193);
    assert_eq!(board.inb(0x61) & 0x2f, 0x03);
    clock::step(2 * MILLISECOND);
    assert_eq!(board.inb(0x61) & 0x2f, 0x23);
    assert_ne!(board.inb(0x61) & 0x10, board.inb(0x61) & 0x10, "memory is refreshed");
    board.outb(0x61, 0xfc);
    assert_eq!(board.inb(0x61) & 0xcf, 0x00, "the rest cannot be written");
}

#[test]
fn types_and_properties_are_qemus() {
    let board = Board::new();
    let pit: Arc<dyn Object> = board.pit.clone();
    assert_eq!(pit.property_get("iobase").unwrap(), 0x40);
    let error = qdev_create("isa-pcspk", Some(&board.bus), &[]).err().unwrap();
    assert_eq!(error.to_string(), "isa-pcspk: property 'pit' must be set");
    let path = pit.canonical_path().unwrap();
    let properties = [("pit", path.as_str().into()), ("iobase", 0x161.into())];
    let speaker = qdev_create("isa-pcspk", Some(&board.bus), &properties).unwrap();
    assert_eq!(speaker.property_get("pit").unwrap(), path.as_str());
    board.outb(0x161, 1);
    assert_eq!(board.inb(0x61) & 1, 1);
    let odd: Arc<dyn Object> = qom::object_new("isa-pit").unwrap();
    assert!(odd.is_a("pit-common") && odd.cast::<Device>().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn random_accesses_never_panic_nor_hang(
        steps in prop::collection::vec((0u8..8, 0u64..4, any::<u8>(), 0u64..100_000_000), 0..40),
    ) {
        let board = Board::new();
        for (what, port, value, ns) in steps {
            match what {
                0..=2 => board.outb(0x40 + port, value),
                3 => { board.inb(0x40 + port); }
                4 => board.outb(0x61, value),
                5 => { board.inb(0x61); }
                6 => board.pit.gpio_in("", 0).unwrap().set(value & 1 != 0),
                _ => { clock::step(ns); }
            }
        }
    }
}
