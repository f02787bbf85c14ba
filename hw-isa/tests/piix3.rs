//! What a guest sees of PIIX3: PIRQ routing and the reset control register; and of ISA devices.
//!
//! The ISA bus of a program is one: the tests take turns.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use hw_core::reset::cold_reset;
use hw_core::runstate::{ShutdownCause, take_requests};
use hw_core::sysbus::sysbus_get_default;
use hw_core::{Bus, DeviceImpl, Irq, IrqPin, SysBusDevice, qdev_create, qdev_unparent};
use hw_isa::piix3::Piix3;
use hw_isa::piix3::spec::PIRQRC;
use hw_isa::{IsaBus, IsaDevice};
use hw_pci::{PciBus, PciDevice, PciDeviceClass, PciDeviceImpl, devfn, pci_bus_new};
use memory::{AddressSpace, MemTxResult, MemoryRegion, RegionOps};
use proptest::prelude::*;
use qom::{Class, Object, Property, Result};

/// A bridge for the bus.
#[derive(Object)]
#[object(name = "test-pcihost", parent = SysBusDevice)]
struct TestHost {
    parent: SysBusDevice,
}
impl DeviceImpl for TestHost {}

/// A function with an interrupt pin.
#[derive(Object)]
#[object(name = "test-pci", parent = PciDevice, class_init = class_init)]
struct TestPci {
    parent: PciDevice,
}

fn class_init(class: &mut Class) {
    class.get_mut::<PciDeviceClass>().vendor_id = 0x1234;
}

impl DeviceImpl for TestPci {}
impl PciDeviceImpl for TestPci {}

/// A device with two ports and a line.
#[derive(Object)]
#[object(name = "test-isa", parent = IsaDevice)]
struct TestIsa {
    parent: IsaDevice,
    /// First port
    #[property(default = 0x300)]
    iobase: Property<u32>,
    /// Interrupt line
    #[property(default = 5)]
    irq: Property<u32>,
    pin: Arc<IrqPin>,
}

struct Constant;

impl RegionOps for Constant {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0x5a
    }
    fn write(&self, _offset: u64, _value: u64, _size: u8) {}
}

impl DeviceImpl for TestIsa {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.connect_irq(&self.pin, self.irq.get())?;
        self.register_ioport(Arc::new(Constant), "test-isa", self.iobase.get(), 2).map(drop)
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
    }
}

qom::type_init!(TestHost, TestPci, TestIsa);

struct Board {
    bridge: Arc<dyn Object>,
    bus: Arc<dyn Object>,
    io: Arc<AddressSpace>,
    lines: Arc<Mutex<Vec<(u32, bool)>>>,
}

fn board() -> MutexGuard<'static, Board> {
    static BOARD: OnceLock<Mutex<Board>> = OnceLock::new();
    let board = BOARD.get_or_init(|| {
        qom::module_call_init(qom::ModuleInitType::Qom);
        let host = qdev_create("test-pcihost", Some(&sysbus_get_default()), &[]).unwrap();
        let io = MemoryRegion::container("io", 1 << 16);
        let bus = pci_bus_new(&host, "pci.0", &MemoryRegion::container("memory", 1 << 32), &io).unwrap();
        let properties = [("addr", "1".into()), ("multifunction", true.into())];
        let bridge = qdev_create("PIIX3", Some(&bus), &properties).unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let handler = Arc::new(move |n: u32, level: bool| sink.lock().unwrap().push((n, level)));
        let irqs: Vec<Irq> = (0..16).map(|n| Irq::new(handler.clone(), n)).collect();
        let piix3 = bridge.cast::<Piix3>().unwrap();
        piix3.set_lines(irqs.clone());
        piix3.isa_bus().unwrap().cast::<IsaBus>().unwrap().set_irqs(irqs);
        Mutex::new(Board { bridge, bus, io: AddressSpace::new("io", &io), lines })
    });
    let board = board.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for device in board.bus.cast::<Bus>().unwrap().children() {
        if device.type_name() == "test-pci" {
            qdev_unparent(&device);
        }
    }
    cold_reset(&board.bridge);
    board.take_lines();
    let _ = take_requests();
    board
}

impl Board {
    fn take_lines(&self) -> Vec<(u32, bool)> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    fn read(&self, at: usize, size: u8) -> u32 {
        self.bus.cast::<PciBus>().unwrap().config_read(devfn(1, 0), at, size)
    }

    fn write(&self, at: usize, value: u32, size: u8) {
        self.bus.cast::<PciBus>().unwrap().config_write(devfn(1, 0), at, value, size);
    }

    /// A function in `slot`.
    fn card(&self, slot: u8) -> Arc<dyn Object> {
        qdev_create("test-pci", Some(&self.bus), &[("addr", i64::from(devfn(slot, 0)).into())]).unwrap()
    }

    fn isa(&self) -> Arc<dyn Object> {
        self.bridge.cast::<Piix3>().unwrap().isa_bus().unwrap()
    }

    fn inb(&self, port: u64) -> (MemTxResult, u8) {
        let mut byte = [0];
        (self.io.read(port, &mut byte), byte[0])
    }

    fn outb(&self, port: u64, value: u8) {
        assert_eq!(self.io.write(port, &[value]), MemTxResult::Ok);
    }
}

fn set(card: &Arc<dyn Object>, pin: u8, level: bool) {
    card.cast::<PciDevice>().unwrap().set_irq(pin, level);
}

#[test]
fn the_bridge_is_a_function_of_several() {
    let board = board();
    assert_eq!(board.read(0, 4), 0x7000_8086);
    assert_eq!(board.read(0x0a, 2), 0x0601);
    assert_eq!(board.read(0x0e, 1), 0x80);
    // Its command register takes what firmware writes, as QEMU's does.
    assert_eq!(board.read(4, 4), 0x200_0000);
    board.write(4, 0x103, 2);
    assert_eq!(board.read(4, 2), 0x103);
}

#[test]
fn after_reset_no_pirq_leads_anywhere() {
    let board = board();
    assert_eq!(board.read(PIRQRC, 4), 0x8080_8080);
    let card = board.card(3);
    set(&card, 0, true);
    assert_eq!(board.take_lines(), []);
}

#[test]
fn a_slots_pins_start_one_pirq_further_on_each_slot() {
    let board = board();
    board.write(PIRQRC, 0x0b0a_0905, 4);
    // Slot 1 is the bridge's own.
    let first_pins = [(2, 0, 9), (3, 0, 10), (4, 0, 11), (5, 0, 5)];
    for (slot, pin, line) in first_pins.into_iter().chain([(2, 1, 10), (2, 2, 11), (2, 3, 5)]) {
        let card = board.card(slot);
        set(&card, pin, true);
        set(&card, pin, false);
        assert_eq!(board.take_lines(), [(line, true), (line, false)], "slot {slot} pin {pin}");
        qdev_unparent(&card);
    }
}

#[test]
fn a_shared_line_falls_with_the_last() {
    let board = board();
    board.write(PIRQRC, 0x0a0a_0a0a, 4);
    let (first, second) = (board.card(2), board.card(3));
    set(&first, 0, true);
    set(&second, 0, true);
    assert_eq!(board.take_lines(), [(10, true)]);
    set(&first, 0, false);
    assert_eq!(board.take_lines(), []);
    set(&second, 0, false);
    assert_eq!(board.take_lines(), [(10, false)]);
}

#[test]
fn a_raised_pirq_follows_its_route() {
    let board = board();
    let card = board.card(2);
    set(&card, 0, true);
    board.write(PIRQRC + 1, 11, 1);
    assert_eq!(board.take_lines(), [(11, true)]);
    board.write(PIRQRC + 1, 9, 1);
    let mut moved = board.take_lines();
    moved.sort_unstable();
    assert_eq!(moved, [(9, true), (11, false)]);
    board.write(PIRQRC + 1, 0x80, 1);
    assert_eq!(board.take_lines(), [(9, false)]);
}

#[test]
fn the_reset_control_register_resets_at_bit_2() {
    let board = board();
    assert_eq!(board.inb(0xcf9), (MemTxResult::Ok, 0));
    board.outb(0xcf9, !0x04);
    assert_eq!(board.inb(0xcf9), (MemTxResult::Ok, 0x02));
    assert_eq!(take_requests().reset, None);
    board.outb(0xcf9, 0x06);
    assert_eq!(take_requests().reset, Some(ShutdownCause::GuestReset));
    cold_reset(&board.bridge);
    assert_eq!(board.inb(0xcf9), (MemTxResult::Ok, 0));
}

#[test]
fn an_isa_device_has_its_ports_and_its_line_until_it_goes() {
    let board = board();
    let isa = board.isa();
    assert_eq!(isa.cast::<Bus>().unwrap().name(), "isa.0");
    let device = qdev_create("test-isa", Some(&isa), &[]).unwrap();
    assert_eq!(board.inb(0x301), (MemTxResult::Ok, 0x5a));
    assert_eq!(board.inb(0x302).0, MemTxResult::DecodeError);
    device.cast::<TestIsa>().unwrap().pin.pulse();
    assert_eq!(board.take_lines(), [(5, true), (5, false)]);
    qdev_unparent(&device);
    assert_eq!(board.inb(0x301).0, MemTxResult::DecodeError);
}

#[test]
fn an_isa_device_says_which_port_or_line_does_not_exist() {
    let board = board();
    let error = |name, value: i32| {
        qdev_create("test-isa", Some(&board.isa()), &[(name, value.into())]).err().unwrap().to_string()
    };
    assert_eq!(error("irq", 16), "test-isa: irq 16 is not between 0 and 15");
    assert_eq!(error("iobase", 0xffff), "test-isa: ports 0xffff to 0x10000 are beyond 0xffff");
    assert_eq!(error("iobase", 0x7fff_ffff), "test-isa: ports 0x7fffffff to 0x80000000 are beyond 0xffff");
    qdev_unparent(&qdev_create("test-isa", Some(&board.isa()), &[("iobase", 0xfffe.into())]).unwrap());
}

proptest! {
    /// Whatever is written to the configuration while pins change, each ISA line ends low when all pins are.
    #[test]
    fn no_line_stays_behind(steps in prop::collection::vec((0x40..0x100_usize, any::<u8>(), 0..4u8, any::<bool>()), 0..40)) {
        let board = board();
        let card = board.card(3);
        let mut levels = [false; 16];
        for (at, value, pin, level) in steps {
            board.write(at, value.into(), 1);
            board.write(PIRQRC + usize::from(pin), (value & 0x8f).into(), 1);
            set(&card, pin, level);
        }
        (0..4).for_each(|pin| set(&card, pin, false));
        for (line, level) in board.take_lines() {
            levels[line as usize] = level;
        }
        prop_assert_eq!(levels, [false; 16]);
        prop_assert_eq!(board.read(0, 4), 0x7000_8086);
    }
}
