//! `isa-ide`: a channel without a bus master. Source: QEMU `hw/ide/isa.c`.

use std::sync::{Arc, OnceLock};

use block::drive::{DriveInfo, Interface, drive_get};
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, qdev_create, vmstate};
use hw_isa::IsaDevice;
use qom::{Class, Object, Property, Result, bail};

use crate::bus::IdeBus;
use crate::channel::ChannelState;
use crate::device::create_drive;
use crate::pci::{CHANNELS, check_bus_count};
use crate::ports::channel_regions;

/// The controller.
#[derive(Object)]
#[object(name = "isa-ide", parent = IsaDevice, class_init = class_init)]
pub struct IsaIde {
    parent: IsaDevice,
    #[property(default = 0x1f0)]
    iobase: Property<u32>,
    #[property(default = 0x3f6)]
    iobase2: Property<u32>,
    #[property(default = 14)]
    irq: Property<u32>,
    bus: OnceLock<Arc<IdeBus>>,
}
qom::type_init!(IsaIde);

fn class_init(class: &mut Class) {
    vmstate::register::<IsaIde>(class);
    let device = class.get_mut::<DeviceClass>();
    device.category = Some(DeviceCategory::Storage);
    device.fw_name = Some("ide");
}

/// Makes a controller for each channel of a PC without PCI, with the drives of the options; gives their buses
/// (`pc_init1`).
///
/// # Errors
/// For the user.
pub fn isa_ide_create_devs(isa: &Arc<dyn Object>) -> Result<Vec<Arc<IdeBus>>> {
    check_bus_count()?;
    let drive = |bus, unit| drive_get(Interface::Ide, bus, unit);
    let controllers = CHANNELS.into_iter().zip(0..);
    controllers.map(|(place, bus)| isa_ide_init(isa, place, [drive(bus, 0), drive(bus, 1)])).collect()
}

/// Makes a controller with its drives.
fn isa_ide_init(
    isa: &Arc<dyn Object>,
    [iobase, iobase2, irq]: [u32; 3],
    drives: [Option<DriveInfo>; 2],
) -> Result<Arc<IdeBus>> {
    let properties = [("iobase", iobase.into()), ("iobase2", iobase2.into()), ("irq", irq.into())];
    let controller = qdev_create("isa-ide", Some(isa), &properties)?;
    let Some(bus) = controller.cast::<IsaIde>().and_then(|ide| ide.bus.get()) else {
        bail!("isa-ide provides no bus")
    };
    for (drive, unit) in drives.into_iter().zip(0..) {
        drive.map_or(Ok(()), |drive| create_drive(bus, unit, &drive))?;
    }
    Ok(bus.clone())
}

impl DeviceImpl for IsaIde {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let this: Arc<dyn Object> = self.clone();
        let bus = IdeBus::create(&this, 0)?;
        for (region, port) in channel_regions(&bus).iter().zip([&self.iobase, &self.iobase2]) {
            let Ok(port) = u16::try_from(port.get()) else { bail!("ports end at 0xffff") };
            if port != 0 {
                self.register_region(region, port)?;
            }
        }
        match self.isa_bus()?.irq(self.irq.get()) {
            Some(line) => bus.connect(line),
            None => bail!("isa-ide: irq {} is not between 0 and 15", self.irq.get()),
        }
        let _ = self.bus.set(bus);
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
        if let Some(bus) = self.bus.get() {
            bus.close();
        }
    }

    fn reset_hold(&self) {
        if let Some(bus) = self.bus.get() {
            bus.reset();
        }
    }
}

impl VmState for IsaIde {
    type State = ChannelState;

    fn save(&self) -> Option<ChannelState> {
        Some(self.bus.get()?.look(|channel| channel.save()))
    }

    fn load(&self, state: ChannelState) -> Result<()> {
        self.bus.get().map_or(Ok(()), |bus| bus.load(state))
    }
}
