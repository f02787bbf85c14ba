//! Bridges: bus numbers, what is forwarded, whose interrupts come where, reset of the bus below.

mod common;

use std::sync::Arc;

use common::{Inputs, Setup};
use hw_core::reset::cold_reset;
use hw_core::{qdev_create, qdev_unparent};
use hw_pci::spec::*;
use hw_pci::{BridgeWindows, PciBridge, PciBus, PciDevice};
use qom::Object;

const IO: u32 = 1;
const MEMORY: u32 = 2;

/// A bridge in slot 3 with a function in slot 2 behind it, whose addresses are set and enabled.
struct Bridged {
    setup: Setup,
    bridge: Arc<dyn Object>,
    behind: Arc<dyn Object>,
}

impl Bridged {
    fn new() -> Bridged {
        let setup = Setup::new();
        let place = |slot: i64| [("addr", (slot << 3).into())];
        let bridge = qdev_create("test-bridge", Some(&setup.bus), &place(3)).unwrap();
        let below: Arc<dyn Object> = bridge.cast::<PciBridge>().unwrap().secondary_bus().unwrap();
        let behind = qdev_create("test-pci", Some(&below), &place(2)).unwrap();
        let made = Bridged { setup, bridge, behind };
        made.write_behind(BASE_ADDRESS_0, 0xe010_0000, 4);
        made.write_behind(BASE_ADDRESS_0 + 4, 0xc100, 4);
        made.write_behind(BASE_ADDRESS_0 + 8, 0, 4);
        made.write_behind(BASE_ADDRESS_0 + 12, 0x12, 4);
        made.write_behind(COMMAND, IO | MEMORY, 2);
        made
    }

    fn device(&self) -> &PciDevice {
        self.bridge.cast().unwrap()
    }

    fn write(&self, at: usize, value: u32, size: u8) {
        self.device().config_write(at, value, size);
    }

    fn write_behind(&self, at: usize, value: u32, size: u8) {
        self.behind.cast::<PciDevice>().unwrap().config_write(at, value, size);
    }

    fn shown(&self) -> [bool; 3] {
        let memory = |at| self.setup.shown(at).is_some_and(|name| name.ends_with("10"));
        [memory(0xe010_0000), self.setup.shown_io(0xc100).is_some(), memory(0x12_0000_0000)]
    }
}

#[test]
fn the_header_is_a_bridges() {
    let bridged = Bridged::new();
    let read = |at, size| bridged.device().config_read(at, size);
    assert_eq!((read(HEADER_TYPE, 1), read(CLASS_DEVICE, 2), read(STATUS, 2)), (1, 0x0604, 0xa0));
    for at in (PRIMARY_BUS..0x40).step_by(4) {
        bridged.write(at, u32::MAX, 4);
    }
    let words = (PRIMARY_BUS..0x40).step_by(4).map(|at| read(at, 4)).collect::<Vec<_>>();
    // Numbers; ports, secondary status; memory; prefetchable memory with 64 bits; nothing of type 0's registers.
    let windows = [0x00a0_f0f0, 0xfff0_fff0, 0xfff1_fff1, u32::MAX, u32::MAX];
    assert_eq!(words, [[u32::MAX].as_slice(), &windows, &[0, 0, 0, 0x0bff_00ff]].concat());
    cold_reset(&bridged.bridge);
    let words = (PRIMARY_BUS..0x40).step_by(4).map(|at| read(at, 4)).collect::<Vec<_>>();
    assert_eq!(words, [0, 0x00a0_0000, 0, 0x0001_0001, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn windows_show_what_is_behind() {
    let bridged = Bridged::new();
    assert_eq!(bridged.shown(), [false; 3]);
    let device = bridged.device();
    BridgeWindows::set(device, Some((0xc000, 0xcfff)), Some((0xe010_0000, 0xe01f_ffff)), None);
    assert_eq!(bridged.shown(), [false; 3], "nothing is forwarded yet");
    bridged.write(COMMAND, IO, 2);
    assert_eq!(bridged.shown(), [false, true, false]);
    bridged.write(COMMAND, IO | MEMORY, 2);
    assert_eq!(bridged.shown(), [true, true, false]);
    let window = (0x12_0000_0000, 0x12_000f_ffff);
    BridgeWindows::set(device, None, None, Some(window));
    assert_eq!(bridged.shown(), [false, false, true]);
    assert_eq!(bridged.bridge.cast::<PciBridge>().unwrap().windows().prefetch, window);
    // A window that ends before the register, one byte of the guest's at a time.
    bridged.write(IO_BASE, 0xc0, 1);
    bridged.write(IO_BASE + 1, 0xb0, 1);
    assert_eq!(bridged.shown(), [false, false, true]);
    bridged.write(IO_BASE + 1, 0xd0, 1);
    assert_eq!(bridged.shown(), [false, true, true]);
    qdev_unparent(&bridged.bridge);
    assert_eq!(bridged.shown(), [false; 3]);
}

#[test]
fn vga_is_forwarded_where_it_always_is() {
    let bridged = Bridged::new();
    bridged.write_behind(BASE_ADDRESS_0, 0xa_0000, 4);
    bridged.write_behind(BASE_ADDRESS_0 + 4, 0x3c0, 4);
    BridgeWindows::set(bridged.device(), None, None, None);
    bridged.write(COMMAND, IO | MEMORY, 2);
    let shown = || (bridged.setup.shown(0xa_0000).is_some(), bridged.setup.shown_io(0x3c0).is_some());
    assert_eq!(shown(), (false, false));
    bridged.write(BRIDGE_CONTROL, BRIDGE_CTL_VGA.into(), 2);
    assert_eq!(shown(), (true, true));
    bridged.write(COMMAND, MEMORY, 2);
    assert_eq!(shown(), (true, false));
}

#[test]
fn wires_behind_a_bridge_lead_to_its_pins_and_are_shared_with_them() {
    let bridged = Bridged::new();
    let inputs = Arc::new(Inputs::default());
    bridged.setup.pci().set_irq_controller(inputs.clone());
    let (bridge, behind) = (bridged.device(), bridged.behind.cast::<PciDevice>().unwrap());
    // INTB# of slot 2 is wire 3; wire 3 of the bridge in slot 3 is input 2.
    behind.set_irq(1, true);
    assert_eq!(inputs.take(), [(2, true)]);
    bridge.set_irq(3, true);
    behind.set_irq(1, false);
    assert_eq!(inputs.take(), [], "the bridge's own pin keeps it up");
    bridge.set_irq(3, false);
    assert_eq!(inputs.take(), [(2, false)]);
    behind.set_irq(0, true);
    qdev_unparent(&bridged.bridge);
    assert_eq!(inputs.take(), [(1, true), (1, false)]);
}

#[test]
fn buses_are_found_by_the_numbers_that_bridges_have() {
    let bridged = Bridged::new();
    let below: Arc<dyn Object> = bridged.bridge.cast::<PciBridge>().unwrap().secondary_bus().unwrap();
    let inner = qdev_create("test-bridge", Some(&below), &[("addr", 8.into())]).unwrap();
    let root: Arc<PciBus> = qom::downcast(bridged.setup.bus.clone()).unwrap();
    let found = |number| root.clone().find_bus(number).map(|bus| bus.devices().len());
    assert_eq!((found(0), found(5), found(6)), (Some(1), None, None));
    bridged.write(SECONDARY_BUS, 0x0605, 2);
    inner.cast::<PciDevice>().unwrap().config_write(SECONDARY_BUS, 0x0606, 2);
    assert_eq!((found(5), found(6), found(7)), (Some(2), Some(0), None));
    bridged.write(SUBORDINATE_BUS, 5, 1);
    assert_eq!(found(6), None, "the bridge above does not lead there");
    bridged.write(SUBORDINATE_BUS, 6, 1);
    bridged.write(BRIDGE_CONTROL, BRIDGE_CTL_BUS_RESET.into(), 2);
    assert_eq!(found(6), None, "nor while its bus is in reset");
}

#[test]
fn a_reset_of_the_bus_resets_what_is_on_it_once() {
    let bridged = Bridged::new();
    let command = || bridged.behind.cast::<PciDevice>().unwrap().config_read(COMMAND, 2);
    bridged.write(BRIDGE_CONTROL, BRIDGE_CTL_BUS_RESET.into(), 2);
    assert_eq!(command(), 0);
    bridged.write_behind(COMMAND, IO, 2);
    bridged.write(BRIDGE_CONTROL, BRIDGE_CTL_BUS_RESET.into(), 2);
    assert_eq!(command(), IO, "it was in reset already");
    bridged.write(BRIDGE_CONTROL, 0, 2);
    assert_eq!(command(), IO);
    bridged.write(BRIDGE_CONTROL, BRIDGE_CTL_BUS_RESET.into(), 2);
    assert_eq!(command(), 0);
    bridged.write(BRIDGE_CONTROL, 0, 2);
    bridged.write_behind(COMMAND, IO, 2);
    cold_reset(&bridged.setup.bus);
    assert_eq!((command(), bridged.device().config_read(COMMAND, 2)), (0, 0));
}
