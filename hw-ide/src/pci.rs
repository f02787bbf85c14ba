//! `piix3-ide` and `piix4-ide`: two channels at the places that PCs always had them, with bus masters.
//!
//! Sources: Intel 82371SB (PIIX3) data sheet, 290550, section 2.6; QEMU `hw/ide/pci.c`, `hw/ide/piix.c`.

use std::sync::{Arc, OnceLock};

use block::drive::{Interface, drive_get, drives};
use hw_core::bus::walk_buses;
use hw_core::sysbus::sysbus_get_default;
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_isa::IsaBus;
use hw_pci::spec::{CLASS_PROG, STATUS, STATUS_DEVSEL_MEDIUM, STATUS_FAST_BACK, VENDOR_ID_INTEL};
use hw_pci::{BarKind, PciBus, PciDevice, PciDeviceClass, PciDeviceImpl};
use memory::MemoryRegion;
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object, Result, TypeInfo, bail};

use crate::bus::{IdeBus, MAX_UNITS};
use crate::channel::ChannelState;
use crate::device::create_drive;
use crate::ports::{bus_master_region, channel_regions};

/// Base class and sub-class.
const CLASS_STORAGE_IDE: u16 = 0x0101;
/// Programming interface: a bus master, channels at the old places.
const PROG_IF: u8 = 0x80;
/// The base address register of the bus masters.
const BUS_MASTER_BAR: usize = 4;
/// Device ids.
const PIIX3_IDE: u16 = 0x7010;
const PIIX4_IDE: u16 = 0x7111;
/// Command block, control block and interrupt of each channel.
pub const CHANNELS: [[u32; 3]; 2] = [[0x1f0, 0x3f6, 14], [0x170, 0x376, 15]];

/// A controller.
#[derive(Object)]
#[object(name = "pci-ide", parent = PciDevice, abstract, class_init = class_init)]
pub struct PciIde {
    parent: PciDevice,
    buses: OnceLock<[Arc<IdeBus>; 2]>,
    regions: Mutex<Vec<MemoryRegion>>,
}
qom::type_init!(PciIde);
qom::type_init!(fn register);

fn class_init(class: &mut Class) {
    <PciDevice as ClassInit<PciIde>>::class_init(class);
    vmstate::register::<PciIde>(class);
    let device = class.get_mut::<DeviceClass>();
    device.category = Some(DeviceCategory::Storage);
    device.hotpluggable = false;
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.class_id) = (VENDOR_ID_INTEL, CLASS_STORAGE_IDE);
}

fn register() {
    for (name, id) in [("piix3-ide", PIIX3_IDE), ("piix4-ide", PIIX4_IDE)] {
        qom::type_register(TypeInfo::new(name, "pci-ide", move |class| {
            class.get_mut::<PciDeviceClass>().device_id = id;
        }));
    }
}

/// Gives a controller the drives of the options (`pci_ide_create_devs`).
///
/// # Errors
/// For the user.
pub fn pci_ide_create_devs(controller: &Arc<dyn Object>) -> Result<()> {
    check_bus_count()?;
    let Some(ide) = controller.cast::<PciIde>() else { bail!("no IDE controller") };
    for bus in ide.buses() {
        for unit in 0..MAX_UNITS {
            if let Some(drive) = drive_get(Interface::Ide, bus.number(), unit) {
                create_drive(bus, unit, &drive)?;
            }
        }
    }
    Ok(())
}

/// A PC has two channels (`ide_drive_get`).
///
/// # Errors
/// There is a drive for another.
pub fn check_bus_count() -> Result<()> {
    let buses = drives().into_iter().filter(|drive| drive.interface == Interface::Ide);
    let (count, most) = (buses.map(|drive| drive.bus + 1).max().unwrap_or(0), CHANNELS.len());
    if count as usize > most {
        bail!("Too many IDE buses defined ({count} > {most})");
    }
    Ok(())
}

/// The line that an interrupt of the ISA bus leads to (`isa_get_irq`).
fn isa_irq(n: u32) -> Option<hw_core::Irq> {
    let mut line = None;
    walk_buses(&sysbus_get_default(), &mut |bus| {
        line = line.take().or_else(|| bus.cast::<IsaBus>()?.irq(n));
    });
    line
}

impl PciIde {
    /// Its channels.
    pub fn buses(&self) -> &[Arc<IdeBus>] {
        self.buses.get().map_or(&[], |buses| buses)
    }

    fn show_ports(&self, bus: &PciBus, channel: &Arc<IdeBus>, ports: [u32; 2]) {
        for (region, port) in channel_regions(channel).into_iter().zip(ports) {
            bus.io().add_subregion(port.into(), &region);
            self.regions.lock().push(region);
        }
    }
}

impl DeviceImpl for PciIde {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let Some(bus) = self.bus::<PciBus>() else { bail!("an IDE controller needs a PCI bus") };
        self.with_config(|c| c.set_u8(CLASS_PROG, PROG_IF));
        let this: Arc<dyn Object> = self.clone();
        let buses = [IdeBus::create(&this, 0)?, IdeBus::create(&this, 1)?];
        self.register_bar(BUS_MASTER_BAR, BarKind::Io, &bus_master_region(&buses));
        for (channel, [command, control, irq]) in buses.iter().zip(CHANNELS) {
            self.show_ports(&bus, channel, [command, control]);
            if let Some(line) = isa_irq(irq) {
                channel.connect(line);
            }
        }
        let _ = self.buses.set(buses);
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.regions.lock().drain(..).for_each(|region| region.unmap());
        self.buses().iter().for_each(|bus| bus.close());
    }

    fn reset_hold(&self) {
        self.buses().iter().for_each(IdeBus::reset);
        self.with_config(|c| c.set_u16(STATUS, STATUS_FAST_BACK | STATUS_DEVSEL_MEDIUM));
    }
}

impl PciDeviceImpl for PciIde {}

impl VmState for PciIde {
    type State = Vec<ChannelState>;

    fn save(&self) -> Option<Vec<ChannelState>> {
        Some(self.buses.get()?.iter().map(|bus| bus.look(|channel| channel.save())).collect())
    }

    fn load(&self, state: Vec<ChannelState>) -> Result<()> {
        if state.len() != self.buses().len() {
            bail!("the state is of a controller with {} channels", state.len());
        }
        self.buses().iter().zip(state).try_for_each(|(bus, state)| bus.load(state))
    }
}
