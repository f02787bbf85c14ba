//! `pci-bridge`: a PCI-to-PCI bridge of QEMU's own.
//!
//! Devices come and go behind it by the board's ACPI where that takes care of it, and by its standard hot-plug controller
//! otherwise.
//!
//! Sources: QEMU `hw/pci-bridge/pci_bridge_dev.c`, `hw/pci/slotid_cap.c`, `hw/pci/pci_bridge.c`
//! (`pci_bridge_qemu_reserve_cap_init`); PCI-to-PCI Bridge Architecture Specification 1.1, section 13.

use std::sync::{Arc, OnceLock};

use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_pci::spec::{CAP_ID_SLOTID, CAP_ID_VENDOR, INTERRUPT_PIN, VENDOR_ID_REDHAT};
use hw_pci::{BarKind, PciBridge, PciDeviceClass, PciDeviceImpl, ShpcController};
use qom::property::OnOffAuto;
use qom::{Class, Object, Property, Result, Size, bail};

/// Registers and ids.
mod spec {
    /// Device id.
    pub const DEVICE_ID: u16 = 0x0001;
    /// Device id of the one for a seat.
    pub const DEVICE_ID_SEAT: u16 = 0x000a;
    /// Slot numbering: expansion slots, from the start of the capability.
    pub const SID_ESR: usize = 2;
    /// Expansion slots: the bridge is the first of its chassis; the number of slots, 0, below it.
    pub const SID_ESR_FIC: u8 = 1 << 5;
    /// Slot numbering: chassis number.
    pub const SID_CHASSIS_NR: usize = 3;
    /// Size of that capability in bytes.
    pub const SID_SIZE: usize = 4;
    /// Resource reservation: bytes of the capability.
    pub const RESERVE_SIZE: usize = 32;
    /// Resource reservation: the type of the vendor's capability.
    pub const RESERVE_TYPE: u8 = 1;
}
use spec::*;

/// What a `-reserve` property is where the firmware may choose.
const UNSET: u64 = u64::MAX;
const FOUR_GIB: u64 = 1 << 32;

/// The bridge.
#[derive(Object)]
#[object(name = "pci-bridge", parent = PciBridge, class_init = class_init)]
pub struct PciBridgeDev {
    parent: PciBridge,
    /// Number of the chassis that its slots are, at least 1
    #[property(name = "chassis_nr")]
    chassis_nr: Property<u8>,
    /// on/off/auto
    #[property(default = OnOffAuto::Auto)]
    msi: Property<OnOffAuto>,
    /// on/off
    #[property(default = true)]
    shpc: Property<bool>,
    #[property(name = "bus-reserve", default = u32::MAX)]
    bus_reserve: Property<u32>,
    #[property(name = "io-reserve", default = Size(UNSET))]
    io_reserve: Property<Size>,
    #[property(name = "mem-reserve", default = Size(UNSET))]
    mem_reserve: Property<Size>,
    #[property(name = "pref32-reserve", default = Size(UNSET))]
    pref32_reserve: Property<Size>,
    #[property(name = "pref64-reserve", default = Size(UNSET))]
    pref64_reserve: Property<Size>,
    controller: OnceLock<Arc<ShpcController>>,
}

qom::type_init!(PciBridgeDev);
qom::type_init!(fn register);

/// The same as a type of its own, which guests know to belong to another seat.
fn register() {
    qom::type_register(qom::TypeInfo::new("pci-bridge-seat", "pci-bridge", |class| {
        class.get_mut::<DeviceClass>().desc = "Standard PCI Bridge (multiseat)";
        class.get_mut::<PciDeviceClass>().device_id = DEVICE_ID_SEAT;
    }));
}

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.desc = "Standard PCI Bridge";
    device.category = Some(DeviceCategory::Bridge);
    vmstate::register::<PciBridgeDev>(class);
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.device_id) = (VENDOR_ID_REDHAT, DEVICE_ID);
}

impl PciBridgeDev {
    fn check(&self) -> Result<()> {
        if self.chassis_nr.get() == 0 {
            bail!(
                "Bridge chassis not specified. Each bridge is required to be assigned a unique chassis id > 0."
            );
        }
        let (memory, pref32) = (self.mem_reserve.get().0, self.pref32_reserve.get().0);
        if pref32 != UNSET && self.pref64_reserve.get().0 != UNSET {
            bail!("PCI resource reserve cap: PREF32 and PREF64 conflict");
        }
        if memory != UNSET && memory >= FOUR_GIB {
            bail!("PCI resource reserve cap: mem-reserve must be less than 4G");
        }
        if pref32 != UNSET && pref32 >= FOUR_GIB {
            bail!("PCI resource reserve cap: pref32-reserve  must be less than 4G");
        }
        Ok(())
    }

    /// The controller of the slots behind the bridge, with its base address register and interrupt.
    fn add_hotplug_controller(&self) -> Result<()> {
        let (controller, bar) = ShpcController::new(self)?;
        self.with_config(|config| config.set_u8(INTERRUPT_PIN, 1));
        self.register_bar(0, BarKind::Memory64, &bar);
        let _ = self.controller.set(controller);
        Ok(())
    }

    /// The chassis and the first slot of what is behind the bridge (`slotid_cap_init`).
    fn add_slot_numbering(&self) -> Result<()> {
        self.with_config(|config| {
            let at = config.add_capability(CAP_ID_SLOTID, None, SID_SIZE)?;
            config.set_u8(at + SID_ESR, SID_ESR_FIC);
            config.set_u8(at + SID_CHASSIS_NR, self.chassis_nr.get());
            config.set_writable_u8(at + SID_CHASSIS_NR, 0xff);
            Ok(())
        })
    }

    /// What firmware is to keep free behind the bridge (`pci_bridge_qemu_reserve_cap_init`).
    fn add_reservations(&self) -> Result<()> {
        let bus = self.bus_reserve.get();
        let sizes = [&self.io_reserve, &self.mem_reserve, &self.pref32_reserve, &self.pref64_reserve];
        let [io, memory, pref32, pref64] = sizes.map(|size| size.get().0);
        if bus == u32::MAX && [io, memory, pref32, pref64] == [UNSET; 4] {
            return Ok(());
        }
        let mut body = vec![RESERVE_SIZE as u8, RESERVE_TYPE];
        body.extend(bus.to_le_bytes());
        body.extend(io.to_le_bytes());
        body.extend((memory as u32).to_le_bytes());
        body.extend((pref32 as u32).to_le_bytes());
        body.extend(pref64.to_le_bytes());
        self.with_config(|config| {
            let at = config.add_capability(CAP_ID_VENDOR, None, RESERVE_SIZE)?;
            config.set(at + 2, &body);
            Ok(())
        })
    }
}

impl DeviceImpl for PciBridgeDev {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.check()?;
        self.init()?;
        if self.shpc.get() {
            self.add_hotplug_controller()?;
        } else {
            // It is the controller's only.
            self.msi.set(OnOffAuto::Off);
        }
        self.add_slot_numbering()?;
        if self.msi.get() != OnOffAuto::Off {
            self.msi_init(1, true, true)?;
        }
        self.add_reservations()
    }

    fn unrealize(self: &Arc<Self>) {
        self.exit();
    }

    fn reset_hold(&self) {
        PciBridge::reset_hold(self);
        if let Some(controller) = self.controller.get() {
            controller.reset();
        }
    }
}

impl PciDeviceImpl for PciBridgeDev {
    fn config_reading(&self, at: usize, size: u8) {
        if let Some(controller) = self.controller.get() {
            controller.config_reading(at, size);
        }
    }

    fn config_written(&self, at: usize, size: u8) {
        PciBridge::config_written(self, at, size);
        if let Some(controller) = self.controller.get() {
            controller.config_written(at, size);
        }
    }

    fn config_loaded(&self) {
        PciBridge::config_loaded(self);
    }
}

impl VmState for PciBridgeDev {
    /// The hot-plug controller's registers, if there is one.
    type State = Option<Vec<u8>>;

    fn save(&self) -> Option<Self::State> {
        Some(self.controller.get().map(|controller| controller.save()))
    }

    fn load(&self, registers: Self::State) -> Result<()> {
        match (self.controller.get(), registers) {
            (Some(controller), Some(registers)) => controller.load(&registers),
            (None, None) => Ok(()),
            _ => bail!("the state is of a bridge with another hot-plug controller"),
        }
    }
}
