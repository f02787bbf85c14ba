//! The ISA bus: sixteen interrupt lines, ports, memory below 16 MiB.

use std::sync::{Arc, OnceLock};

use hw_core::{Bus, Device, DeviceClass, DeviceImpl, Irq, IrqPin, SysBusDevice, qbus_new};
use memory::{MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object, Result, bail};

/// Number of interrupt lines.
pub const ISA_NUM_IRQS: u32 = 16;

/// The bus.
#[derive(Object)]
#[object(name = "ISA", parent = Bus)]
pub struct IsaBus {
    parent: Bus,
    irqs: OnceLock<Vec<Irq>>,
    memory: OnceLock<MemoryRegion>,
    io: OnceLock<MemoryRegion>,
    dma: OnceLock<[Arc<dyn Object>; 2]>,
}

/// A device on the ISA bus.
#[derive(Object)]
#[object(name = "isa-device", parent = Device, abstract, class_init = class_init)]
pub struct IsaDevice {
    parent: Device,
    regions: Mutex<Vec<MemoryRegion>>,
}
/// Provides the ISA bus of a machine that has no PCI.
#[derive(Object)]
#[object(name = "isabus-bridge", parent = SysBusDevice)]
pub struct IsaBusBridge {
    parent: SysBusDevice,
}
impl DeviceImpl for IsaBusBridge {}

qom::type_init!(IsaBus, IsaDevice, IsaBusBridge);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().bus_type = Some("ISA");
}

impl<T: DeviceImpl> ClassInit<T> for IsaDevice {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
    }
}

/// An ISA bus provided by `owner`, showing its devices in `memory` and `io` (`isa_bus_new`).
///
/// # Errors
/// When its name is taken.
pub fn isa_bus_new(
    owner: &Arc<dyn Object>,
    memory: &MemoryRegion,
    io: &MemoryRegion,
) -> Result<Arc<dyn Object>> {
    let object = qbus_new("ISA", Some(owner), Some("isa.0"))?;
    if let Some(bus) = object.cast::<IsaBus>() {
        let _ = bus.memory.set(memory.clone());
        let _ = bus.io.set(io.clone());
    }
    Ok(object)
}

impl IsaBus {
    /// Says where the interrupt lines lead, once (`isa_bus_irqs`).
    pub fn set_irqs(&self, irqs: Vec<Irq>) {
        let _ = self.irqs.set(irqs);
    }

    /// Interrupt line `n`.
    pub fn irq(&self, n: u32) -> Option<Irq> {
        self.irqs.get()?.get(n as usize).cloned()
    }

    /// Says which DMA controllers it has, that of channels 0 to 3 first, once (`isa_bus_dma`).
    pub fn set_dma(&self, controllers: [Arc<dyn Object>; 2]) {
        let _ = self.dma.set(controllers);
    }

    /// DMA controller `n`.
    pub fn dma(&self, n: usize) -> Option<Arc<dyn Object>> {
        self.dma.get()?.get(n).cloned()
    }

    /// Where ports show.
    pub fn io(&self) -> MemoryRegion {
        self.io.get().cloned().unwrap_or_else(memory::get_system_io)
    }

    /// Where memory shows.
    pub fn memory(&self) -> MemoryRegion {
        self.memory.get().cloned().unwrap_or_else(memory::get_system_memory)
    }
}

impl IsaDevice {
    /// The bus.
    ///
    /// # Errors
    /// When the device was not put on one.
    pub fn isa_bus(&self) -> Result<Arc<IsaBus>> {
        match self.bus::<IsaBus>() {
            Some(bus) => Ok(bus),
            None => bail!("'{}' needs an ISA bus", self.class().name()),
        }
    }

    /// Shows `len` ports from `port`, answered by `ops`.
    ///
    /// # Errors
    /// When the ports do not fit below 64 KiB, or there is no bus.
    pub fn register_ioport(
        &self,
        ops: Arc<dyn RegionOps>,
        name: &str,
        port: u32,
        len: u32,
    ) -> Result<MemoryRegion> {
        let end = u64::from(port) + u64::from(len);
        if end > 1 << 16 {
            bail!("{}: ports {port:#x} to {:#x} are beyond 0xffff", self.class().name(), end - 1);
        }
        let region = MemoryRegion::io(name, len.into(), ops);
        self.register_region(&region, port as u16)?;
        Ok(region)
    }

    /// The regions that it shows.
    pub fn regions(&self) -> Vec<MemoryRegion> {
        self.regions.lock().clone()
    }

    /// Shows `region` at `port` until the device is unrealized.
    ///
    /// # Errors
    /// When there is no bus.
    pub fn register_region(&self, region: &MemoryRegion, port: u16) -> Result<()> {
        self.isa_bus()?.io().add_subregion(port.into(), region);
        self.regions.lock().push(region.clone());
        Ok(())
    }

    /// Takes back every port; for unrealize.
    pub fn unregister_regions(&self) {
        for region in self.regions.lock().drain(..) {
            region.unmap();
        }
    }

    /// Has `pin` drive interrupt line `n` (`isa_init_irq`).
    ///
    /// # Errors
    /// When there is no such line.
    pub fn connect_irq(&self, pin: &IrqPin, n: u32) -> Result<()> {
        match self.isa_bus()?.irq(n) {
            Some(irq) => pin.connect(irq),
            None => bail!("{}: irq {n} is not between 0 and {}", self.class().name(), ISA_NUM_IRQS - 1),
        }
        Ok(())
    }
}
