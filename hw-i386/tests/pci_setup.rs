//! Addresses of PCI functions where no firmware gives them: as QEMU's `info pci` shows them after SeaBIOS.

use std::sync::{Arc, Once};

use hw_core::sysbus::sysbus_get_default;
use hw_core::{DeviceImpl, SysBusDevice, qdev_create, qdev_new, qdev_realize};
use hw_i386::pci_setup::{Windows, assign_addresses, number_buses};
use hw_i386::pirtable::pir_table;
use hw_pci::{BarKind, PciBridge, PciBus, PciDevice, PciDeviceImpl, pci_bus_new};
use memory::{MemoryRegion, RegionOps};
use qom::{Object, Property, Result};

#[derive(Object)]
#[object(name = "test-pcihost", parent = SysBusDevice)]
struct TestHost {
    parent: SysBusDevice,
}
impl DeviceImpl for TestHost {}

/// A function with the registers that `bars` lists: number, kind, and the logarithm of the size.
#[derive(Object)]
#[object(name = "test-bars", parent = PciDevice)]
struct TestBars {
    parent: PciDevice,
    /// Such as `0m12:1i8`
    #[property]
    bars: Property<String>,
}

struct Nothing;

impl RegionOps for Nothing {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0
    }
    fn write(&self, _offset: u64, _value: u64, _size: u8) {}
}

impl DeviceImpl for TestBars {
    fn realize(self: &Arc<Self>) -> Result<()> {
        for bar in self.bars.get().split(':') {
            let number = bar[..1].parse().unwrap();
            let kind = match &bar[1..2] {
                "m" => BarKind::Memory32,
                "i" => BarKind::Io,
                _ => BarKind::Memory64Prefetch,
            };
            let size = 1 << bar[2..].parse::<u32>().unwrap();
            self.register_bar(number, kind, &MemoryRegion::io(bar, size, Arc::new(Nothing)));
        }
        Ok(())
    }
}
impl PciDeviceImpl for TestBars {}

/// A bridge to another bus.
#[derive(Object)]
#[object(name = "test-bridge", parent = PciBridge)]
struct TestBridge {
    parent: PciBridge,
}

impl DeviceImpl for TestBridge {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.init()
    }
    fn reset_hold(&self) {
        PciBridge::reset_hold(self);
    }
}
impl PciDeviceImpl for TestBridge {}

qom::type_init!(TestHost, TestBars, TestBridge);

const WINDOWS: Windows =
    Windows { memory: 0x8000_0000..0xfec0_0000, memory64: 0x1_4000_0000..0x10_0000_0000 };

fn root_bus() -> Arc<dyn Object> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        qom::module_call_init(qom::ModuleInitType::Qom);
    });
    let host = qdev_create("test-pcihost", Some(&sysbus_get_default()), &[]).unwrap();
    let memory = MemoryRegion::container("pci memory", 1 << 64);
    pci_bus_new(&host, "pci", &memory, &MemoryRegion::container("pci io", 1 << 16)).unwrap()
}

fn add(bus: &Arc<dyn Object>, bars: &str) -> Arc<dyn Object> {
    let device = qdev_new("test-bars").unwrap();
    device.property_set_str("bars", bars).unwrap();
    qdev_realize(&device, Some(bus)).unwrap();
    device
}

/// Where the registers of a function show, once it answers.
fn shown(object: &Arc<dyn Object>) -> Vec<Option<u64>> {
    let function = object.cast::<PciDevice>().unwrap();
    function.config_write(hw_pci::spec::COMMAND, 3, 2);
    function.bars().iter().map(|bar| bar.address).collect()
}

/// Puts functions with these registers on a bus, gives them addresses, and lists those by function and register.
fn addresses(functions: &[&str]) -> Vec<Vec<Option<u64>>> {
    let bus = root_bus();
    functions.iter().for_each(|bars| drop(add(&bus, bars)));
    let bus = bus.cast::<PciBus>().unwrap();
    let functions = bus.devices();
    // A second reset finds the registers as the first left them.
    for _ in 0..2 {
        assign_addresses(bus, &WINDOWS);
    }
    functions.iter().map(shown).collect()
}

#[test]
fn functions_lie_where_seabios_puts_them() {
    // An IDE controller, pci-testdev, e1000.
    let expected: [&[u64]; 3] = [&[0xc140], &[0xfebe_0000, 0xc000], &[0xfebc_0000, 0xc100]];
    let expected = expected.map(|bars| bars.iter().copied().map(Some).collect::<Vec<_>>());
    assert_eq!(addresses(&["4i4", "0m12:1i8", "0m17:1i6"]), expected);
}

#[test]
fn small_memory_gets_a_page_of_its_own_and_prefetchable_memory_a_part_of_its_own() {
    // 16 bytes and 4 KiB of memory lie above 16 MiB of prefetchable memory.
    let found = addresses(&["0m4", "0m12:2p24"]);
    assert_eq!(found, [vec![Some(0xfebf_e000)], vec![Some(0xfebf_f000), Some(0xfd00_0000)]]);
}

#[test]
fn what_is_too_large_for_the_low_window_goes_above_memory_if_it_can() {
    let found = addresses(&["0p33", "0m31", "0m12"]);
    // 2 GiB of 32-bit memory has no room beside the I/O APIC; the page has.
    assert_eq!(found[0], [Some(0x2_0000_0000)]);
    assert_eq!(found[1], [None]);
    assert!(found[2][0].is_some_and(|at| (0x8000_0000..0xfec0_0000).contains(&at)));
}

#[test]
fn ports_that_do_not_fit_the_usual_place_begin_lower() {
    let many = ["0i13:1i13:2i13"];
    assert_eq!(addresses(&many), [[Some(0x2000), Some(0x4000), Some(0x6000)]]);
}

#[test]
fn bridges_get_numbers_and_windows_as_seabios_gives_them() {
    let bus = root_bus();
    let bridge = |bus: &Arc<dyn Object>, slot: i64| -> (Arc<dyn Object>, Arc<dyn Object>) {
        let bridge = qdev_create("test-bridge", Some(bus), &[("addr", (slot << 3).into())]).unwrap();
        let below = bridge.cast::<PciBridge>().unwrap().secondary_bus().unwrap();
        (bridge, below)
    };
    let (outer, outer_bus) = bridge(&bus, 2);
    let (inner, inner_bus) = bridge(&outer_bus, 1);
    // virtio-rng-pci, pci-testdev.
    let [near, far] = [&outer_bus, &inner_bus].map(|bus| add(bus, "0i5:1m12:4p14"));
    let testdev = add(&inner_bus, "0m12:1i8");
    let (last, _) = bridge(&bus, 3);
    let root: Arc<PciBus> = qom::downcast(bus).unwrap();
    for _ in 0..2 {
        number_buses(&root);
        assign_addresses(&root, &WINDOWS);
    }
    let numbers = |bridge: &Arc<dyn Object>| {
        let device = bridge.cast::<PciDevice>().unwrap();
        device.with_config(|c| [c.u8(0x18), c.u8(0x19), c.u8(0x1a)])
    };
    assert_eq!([&outer, &inner, &last].map(numbers), [[0, 1, 2], [1, 2, 2], [0, 3, 3]]);
    let windows = |bridge: &Arc<dyn Object>| bridge.cast::<PciBridge>().unwrap().windows();
    // As QEMU's `info pci` has them, but for the third bridge's, which leaves room for what comes later.
    assert_eq!(windows(&outer).io, (0xc000, 0xdfff));
    assert_eq!(windows(&outer).memory, (0xfe00_0000, 0xfe3f_ffff));
    assert_eq!(windows(&outer).prefetch, (0xfe60_0000, 0xfe9f_ffff));
    assert_eq!(windows(&inner).io, (0xc000, 0xcfff));
    assert_eq!(windows(&inner).memory, (0xfe00_0000, 0xfe1f_ffff));
    assert_eq!(windows(&inner).prefetch, (0xfe60_0000, 0xfe7f_ffff));
    let third = windows(&last);
    assert_eq!(third.io, (0xe000, 0xefff));
    assert_eq!(
        (third.memory.1 - third.memory.0, third.prefetch.1 - third.prefetch.0),
        (0x1f_ffff, 0x1f_ffff)
    );
    assert_eq!(shown(&far), [0xc100, 0xfe00_0000, 0xfe60_0000].map(Some));
    assert_eq!(shown(&testdev), [0xfe00_1000, 0xc000].map(Some));
    assert_eq!(shown(&near), [0xd000, 0xfe20_0000, 0xfe80_0000].map(Some));
}

#[test]
fn the_routing_table_is_seabioss() {
    let expected = "24504952000180000008000086802e1200000000000000000000000000000037\
        000860f8de61f8de62f8de63f8de0000001061f8de62f8de63f8de60f8de0100\
        001862f8de63f8de60f8de61f8de0200002063f8de60f8de61f8de62f8de0300\
        002860f8de61f8de62f8de63f8de0400003061f8de62f8de63f8de60f8de0500";
    let text: String = pir_table().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text, expected);
}
