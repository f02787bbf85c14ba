//! A PCI function with one BAR of each kind, and buses of their own for each test.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once};

use hw_core::sysbus::sysbus_get_default;
use hw_core::{DeviceClass, DeviceImpl, SysBusDevice, qdev_create, qdev_new, qdev_realize};
use hw_pci::{
    BarKind, PciBridge, PciBus, PciDevice, PciDeviceClass, PciDeviceImpl, PciIrqController, devfn,
    pci_bus_new,
};
use memory::{AddressSpace, MemoryRegion, RegionOps};
use qom::{Class, Object, Property, Result, bail};

/// A bridge that a bus can belong to.
#[derive(Object)]
#[object(name = "test-pcihost", parent = SysBusDevice)]
pub struct TestHost {
    parent: SysBusDevice,
}
impl DeviceImpl for TestHost {}

/// The function.
#[derive(Object)]
#[object(name = "test-pci", parent = PciDevice, class_init = class_init)]
pub struct TestPci {
    parent: PciDevice,
    /// Whether realize fails
    #[property]
    fails: Property<bool>,
    /// What was told of writes: offset and size.
    pub written: Mutex<Vec<(usize, u8)>>,
}

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().desc = "Test function";
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.device_id, pci.class_id, pci.revision) = (0x1234, 0x5678, 0x0200, 0x9a);
}

struct Nothing;

impl RegionOps for Nothing {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0
    }
    fn write(&self, _offset: u64, _value: u64, _size: u8) {}
}

pub const MEMORY_SIZE: u64 = 0x1000;
pub const IO_SIZE: u64 = 0x20;
pub const WIDE_SIZE: u64 = 0x10000;

impl DeviceImpl for TestPci {
    fn realize(self: &Arc<Self>) -> Result<()> {
        for (number, kind, name, size) in [
            (0, BarKind::Memory32, "memory", MEMORY_SIZE),
            (1, BarKind::Io, "io", IO_SIZE),
            (2, BarKind::Memory64Prefetch, "wide", WIDE_SIZE),
        ] {
            let name = format!("{name} {:x}", self.devfn());
            self.register_bar(number, kind, &MemoryRegion::io(&name, size, Arc::new(Nothing)));
        }
        if self.fails.get() {
            bail!("does not want to");
        }
        Ok(())
    }
}

/// A bridge to another bus.
#[derive(Object)]
#[object(name = "test-bridge", parent = PciBridge)]
pub struct TestBridge {
    parent: PciBridge,
}

impl DeviceImpl for TestBridge {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.init()
    }
    fn unrealize(self: &Arc<Self>) {
        self.exit();
    }
    fn reset_hold(&self) {
        PciBridge::reset_hold(self);
    }
}

impl PciDeviceImpl for TestBridge {
    fn config_written(&self, at: usize, size: u8) {
        PciBridge::config_written(self, at, size);
    }
}

impl PciDeviceImpl for TestPci {
    fn config_written(&self, at: usize, size: u8) {
        self.written.lock().unwrap().push((at, size));
    }
}

qom::type_init!(TestHost, TestPci, TestBridge);

/// A bus with the address spaces it shows in.
pub struct Setup {
    pub bus: Arc<dyn Object>,
    pub memory: Arc<AddressSpace>,
    pub io: Arc<AddressSpace>,
}

impl Setup {
    pub fn new() -> Setup {
        static ONCE: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ONCE.call_once(|| {
            qom::module_call_init(qom::ModuleInitType::Qom);
        });
        let host = qdev_create("test-pcihost", Some(&sysbus_get_default()), &[]).unwrap();
        let memory = MemoryRegion::container("pci memory", 1 << 64);
        let io = MemoryRegion::container("pci io", 1 << 16);
        let name = format!("pci.{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let bus = pci_bus_new(&host, &name, &memory, &io).unwrap();
        Setup { bus, memory: AddressSpace::new("memory", &memory), io: AddressSpace::new("io", &io) }
    }

    pub fn pci(&self) -> &PciBus {
        self.bus.cast().unwrap()
    }

    /// A function with these properties, not yet realized.
    pub fn prepare(&self, properties: &[(&str, &str)]) -> Arc<dyn Object> {
        let device = qdev_new("test-pci").unwrap();
        device.property_set_all(properties.iter().copied()).unwrap();
        device
    }

    pub fn add(&self, properties: &[(&str, &str)]) -> Result<Arc<dyn Object>> {
        let device = self.prepare(properties);
        qdev_realize(&device, Some(&self.bus)).map(|()| device)
    }

    /// A function in `slot`.
    pub fn at(&self, slot: u8) -> Slot<'_> {
        let object = self.add(&[("addr", &format!("{slot:x}"))]).unwrap();
        Slot { setup: self, object, devfn: devfn(slot, 0) }
    }

    /// What shows at an address of memory.
    pub fn shown(&self, address: u64) -> Option<String> {
        Some(self.memory.view().lookup(address)?.region.name().to_owned())
    }

    /// What shows at a port.
    pub fn shown_io(&self, port: u64) -> Option<String> {
        Some(self.io.view().lookup(port)?.region.name().to_owned())
    }
}

/// A function as a guest sees it.
pub struct Slot<'a> {
    setup: &'a Setup,
    pub object: Arc<dyn Object>,
    pub devfn: u8,
}

impl Slot<'_> {
    pub fn pci(&self) -> &PciDevice {
        self.object.cast().unwrap()
    }

    pub fn read(&self, at: usize, size: u8) -> u32 {
        self.setup.pci().config_read(self.devfn, at, size)
    }

    pub fn write(&self, at: usize, value: u32, size: u8) {
        self.setup.pci().config_write(self.devfn, at, value, size);
    }
}

/// Wires a device's INTA# to the input of its slot's number, modulo 4, and notes levels.
#[derive(Default)]
pub struct Inputs(pub Mutex<Vec<(usize, bool)>>);

impl PciIrqController for Inputs {
    fn map_irq(&self, devfn: u8, pin: u8) -> usize {
        usize::from((devfn >> 3) + pin) % 4
    }

    fn set_irq(&self, input: usize, level: bool) {
        self.0.lock().unwrap().push((input, level));
    }
}

impl Inputs {
    pub fn take(&self) -> Vec<(usize, bool)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}
