//! The device around [`FwCfg`] on a PC: ports 0x510, 0x511 and the DMA address at 0x514.
//!
//! Source: QEMU `hw/nvram/fw_cfg.c` (`fw_cfg_init_io_dma`).

use std::sync::{Arc, OnceLock};

use hw_core::sysbus::sysbus_get_default;
use hw_core::{DeviceClass, DeviceImpl, SysBusDevice, VmState, qdev_new, qdev_realize, vmstate};
use memory::{AccessRules, MemTxResult, MemoryRegion, RegionOps, address_space_memory};
use qom::{Class, Error, Object, Property, Result, bail};

use crate::fw_cfg::spec::{CTL_SIZE, DMA_SIZE, PORT_DMA, PORT_SELECTOR};
use crate::fw_cfg::{DmaError, DmaMemory, FwCfg, FwCfgState};

/// The device.
#[derive(Object)]
#[object(name = "fw_cfg_io", parent = SysBusDevice, class_init = class_init)]
pub struct FwCfgIo {
    parent: SysBusDevice,
    /// Whether the DMA interface is there
    #[property(default = true, name = "dma_enabled")]
    dma_enabled: Property<bool>,
    /// Number of files there is room for
    #[property(default = 0x20, name = "x-file-slots")]
    file_slots: Property<u16>,
    fw_cfg: OnceLock<Arc<FwCfg>>,
}
qom::type_init!(FwCfgIo);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().desc = "Firmware configuration";
    vmstate::register::<FwCfgIo>(class);
}

/// Makes the device of a PC, `/machine/fw_cfg`, and gives its items (`fw_cfg_init_io_dma`).
///
/// # Errors
/// When the machine has one already.
pub fn fw_cfg_init_io_dma() -> Result<Arc<FwCfg>> {
    let object = qdev_new("fw_cfg_io")?;
    if let Some(machine) = hw_core::machine::current_machine() {
        machine.property_add_child("fw_cfg", &object)?;
    }
    qdev_realize(&object, Some(&sysbus_get_default()))?;
    match object.cast::<FwCfgIo>().and_then(|d| d.fw_cfg.get()) {
        Some(fw_cfg) => Ok(fw_cfg.clone()),
        None => bail!("fw_cfg_io is not realized"),
    }
}

/// The machine's items, if it has the device (`fw_cfg_find`).
pub fn fw_cfg_find() -> Option<Arc<FwCfg>> {
    let object = qom::object_resolve_path("/machine/fw_cfg").ok()?;
    object.cast::<FwCfgIo>()?.fw_cfg.get().cloned()
}

impl DeviceImpl for FwCfgIo {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let dma = self.dma_enabled.get();
        let fw_cfg = FwCfg::new(self.file_slots.get(), dma).map_err(|e| Error::new(e.to_string()))?;
        let fw_cfg = self.fw_cfg.get_or_init(|| Arc::new(fw_cfg));
        let ports = MemoryRegion::io("fwcfg", CTL_SIZE, Arc::new(Ports(fw_cfg.clone())));
        self.map_io(PORT_SELECTOR, &ports);
        if dma {
            let region = MemoryRegion::io("fwcfg.dma", DMA_SIZE, Arc::new(Dma(fw_cfg.clone())));
            self.map_io(PORT_DMA, &region);
        }
        Ok(())
    }

    fn reset_hold(&self) {
        if let Some(fw_cfg) = self.fw_cfg.get() {
            fw_cfg.reset();
        }
    }
}

impl VmState for FwCfgIo {
    type State = FwCfgState;

    fn save(&self) -> Option<FwCfgState> {
        Some(self.fw_cfg.get()?.state())
    }

    fn load(&self, state: FwCfgState) -> Result<()> {
        if let Some(fw_cfg) = self.fw_cfg.get() {
            fw_cfg.set_state(state);
        }
        Ok(())
    }
}

struct Ports(Arc<FwCfg>);

impl RegionOps for Ports {
    fn read(&self, _offset: u64, size: u8) -> u64 {
        self.0.read_port(size.into())
    }

    fn write(&self, _offset: u64, value: u64, size: u8) {
        self.0.write_port(value, size.into());
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 4).asking()
    }

    fn accepts(&self, _offset: u64, size: u8, is_write: bool) -> bool {
        size == 1 || (is_write && size == 2)
    }
}

struct Dma(Arc<FwCfg>);

impl RegionOps for Dma {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.0.read_dma(offset, size.into())
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        self.0.write_dma(offset, value, size.into(), &GuestMemory);
    }

    fn rules(&self) -> AccessRules {
        // The register's bytes are swapped by the chip.
        AccessRules::sizes(1, 8)
    }
}

/// Guest memory as the DMA engine reaches it.
struct GuestMemory;

fn check(address: u64, result: MemTxResult) -> Result<(), DmaError> {
    match result {
        MemTxResult::Ok => Ok(()),
        _ => Err(DmaError(address)),
    }
}

impl DmaMemory for GuestMemory {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        check(address, address_space_memory().read(address, data))
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        check(address, address_space_memory().write(address, data))
    }
}
