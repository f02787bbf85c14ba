//! `pvpanic` and `pvpanic-pci`: a byte in which a guest's kernel says that it panicked.
//!
//! Sources: QEMU `docs/specs/pvpanic.txt`, `hw/misc/pvpanic.c`, `pvpanic-isa.c`, `pvpanic-pci.c`.

use std::sync::Arc;

use hw_core::runstate::{guest_crashloaded, guest_panicked};
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl};
use hw_isa::IsaDevice;
use hw_nvram::fw_cfg_find;
use hw_pci::spec::{CLASS_SYSTEM_OTHER, VENDOR_ID_REDHAT};
use hw_pci::{BarKind, PciDevice, PciDeviceClass, PciDeviceImpl};
use memory::{AccessRules, MemoryRegion, RegionOps};
use qom::{Class, Error, Object, Property, Result};
use util::log::{Mask, log_mask};

/// The guest panicked.
const PANICKED: u8 = 1 << 0;
/// The guest panicked, and has a kernel for crashes that takes over.
const CRASH_LOADED: u8 = 1 << 1;
/// The file in which firmware finds the port.
const PORT_FILE: &str = "etc/pvpanic-port";
/// Device id of the PCI function.
const DEVICE_ID: u16 = 0x0011;

/// The byte: reads say which events there are, a write is one.
struct PvPanic {
    events: u8,
}

impl RegionOps for PvPanic {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        self.events.into()
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        let event = value as u8;
        if event & !(PANICKED | CRASH_LOADED) != 0 {
            log_mask(Mask::GUEST_ERROR, || format!("pvpanic: unknown event {event:#x}."));
        }
        if event & PANICKED != 0 {
            guest_panicked();
        } else if event & CRASH_LOADED != 0 {
            guest_crashloaded();
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::bytes(4)
    }
}

/// The device on the ISA bus.
#[derive(Object)]
#[object(name = "pvpanic", parent = IsaDevice, class_init = isa_class_init)]
pub struct PvPanicIsa {
    parent: IsaDevice,
    /// The port
    #[property(default = 0x505)]
    pub ioport: Property<u16>,
    /// Which events there are: 1 panic, 2 a crash kernel takes over
    #[property(default = PANICKED | CRASH_LOADED)]
    events: Property<u8>,
}

/// The PCI function.
#[derive(Object)]
#[object(name = "pvpanic-pci", parent = PciDevice, class_init = pci_class_init)]
pub struct PvPanicPci {
    parent: PciDevice,
    /// Which events there are: 1 panic, 2 a crash kernel takes over
    #[property(default = PANICKED | CRASH_LOADED)]
    events: Property<u8>,
}
qom::type_init!(PvPanicIsa, PvPanicPci);

fn isa_class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
}

fn pci_class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.device_id) = (VENDOR_ID_REDHAT, DEVICE_ID);
    (pci.revision, pci.class_id) = (1, CLASS_SYSTEM_OTHER);
}

impl DeviceImpl for PvPanicIsa {
    fn realize(self: &Arc<Self>) -> Result<()> {
        // Without fw_cfg nobody would find the port: as in QEMU it is not there then.
        let Some(fw_cfg) = fw_cfg_find() else { return Ok(()) };
        let port = self.ioport.get();
        fw_cfg.add_file(PORT_FILE, port.to_le_bytes()).map_err(|e| Error::new(e.to_string()))?;
        self.register_ioport(Arc::new(PvPanic { events: self.events.get() }), "pvpanic", port.into(), 1)?;
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
    }
}

impl DeviceImpl for PvPanicPci {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let region = MemoryRegion::io("pvpanic", 2, Arc::new(PvPanic { events: self.events.get() }));
        self.register_bar(0, BarKind::Memory32, &region);
        Ok(())
    }
}

impl PciDeviceImpl for PvPanicPci {}
