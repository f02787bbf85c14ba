//! i440FX: the PCI host bridge with the registers that decide what shows between 640 KiB and 1 MiB (PAM) and
//! who sees SMRAM.
//!
//! Sources: Intel 82441FX (PMC) data sheet, 290549, section 3.2; QEMU `hw/pci-host/i440fx.c`, `pam.c`.

use std::sync::{Arc, OnceLock};

use hw_core::sysbus::sysbus_get_default;
use hw_core::{DeviceClass, DeviceImpl, SysBusDevice, VmState, qdev_new, qdev_realize, vmstate};
use hw_pci::spec::{CLASS_BRIDGE_HOST, VENDOR_ID_INTEL};
use hw_pci::{ConfigSpace, PciDevice, PciDeviceClass, PciDeviceImpl, PciHost, devfn, pci_bus_new};
use memory::{MemoryRegion, get_system_io, get_system_memory};
use qom::property::Size;
use qom::{Class, Object, Property, Result, bail};

/// Registers of the PMC (82441FX, section 3.2).
pub mod spec {
    /// Where QEMU tells coreboot the size of memory below 4 GiB, in units of 8 MiB up to 255.
    pub const COREBOOT_RAM_SIZE: usize = 0x57;
    /// Programmable attribute map: seven bytes, the first with one segment, the rest with two.
    pub const PAM: usize = 0x59;
    /// Number of PAM registers.
    pub const NUM_PAM: usize = 7;
    /// System management RAM control.
    pub const SMRAM: usize = 0x72;
    /// PAM: reads come from DRAM.
    pub const PAM_READ: u8 = 1 << 0;
    /// PAM: writes go to DRAM.
    pub const PAM_WRITE: u8 = 1 << 1;
    /// SMRAM: shows to everybody.
    pub const SMRAM_D_OPEN: u8 = 1 << 6;
    /// SMRAM: system management RAM exists.
    pub const SMRAM_G_SMRAME: u8 = 1 << 3;
    /// SMRAM: where it is; the chip knows one place, 0xa0000.
    pub const SMRAM_C_BASE_SEG: u8 = 0b010;
    /// Device id.
    pub const DEVICE_ID: u16 = 0x1237;
    /// Revision that QEMU's has.
    pub const REVISION: u8 = 0x02;
    /// Configuration address port.
    pub const CONFADD_PORT: u16 = 0xcf8;
    /// Configuration data port.
    pub const CONFDATA_PORT: u16 = 0xcfc;
    /// First byte of the PAM segments of 16 KiB.
    pub const EXPANSION_BASE: u64 = 0xc0000;
    /// Size of an expansion segment.
    pub const EXPANSION_SIZE: u64 = 0x4000;
    /// First byte of the BIOS segment.
    pub const BIOS_BASE: u64 = 0xf0000;
    /// Size of the BIOS segment.
    pub const BIOS_SIZE: u64 = 0x10000;
    /// Where SMRAM and video memory are.
    pub const SMRAM_BASE: u64 = 0xa0000;
    /// Size of SMRAM.
    pub const SMRAM_SIZE: u64 = 0x20000;
}
use spec::*;

/// Addresses above all memory that the bus is given where nothing is said, bytes.
const HOLE64_SIZE: u64 = 2 << 30;

/// The bridge as a device of the system bus: configuration ports and the PCI bus.
#[derive(Object)]
#[object(name = "i440FX-pcihost", parent = SysBusDevice, class_init = host_class_init)]
pub struct I440fxPciHost {
    parent: SysBusDevice,
    // Addresses above all memory for the bus.
    #[property(name = "pci-hole64-size", default = Size(HOLE64_SIZE))]
    pci_hole64_size: Property<Size>,
    host: OnceLock<Arc<PciHost>>,
}

/// The bridge as function 0 of its own bus: PAM and SMRAM.
#[derive(Object)]
#[object(name = "i440FX", parent = PciDevice, class_init = class_init)]
pub struct I440fx {
    parent: PciDevice,
    pam: OnceLock<Vec<PamSegment>>,
    /// PCI memory in place of RAM where video memory is, which SMRAM covers when open.
    smram_region: OnceLock<MemoryRegion>,
    /// What CPUs in system management mode see before the rest of memory.
    smram: OnceLock<MemoryRegion>,
}
qom::type_init!(I440fxPciHost, I440fx);

fn host_class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    (device.desc, device.fw_name) = ("i440FX host bridge", Some("pci"));
    vmstate::register::<I440fxPciHost>(class);
}

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.desc = "Host bridge";
    device.board_only = true;
    device.hotpluggable = false;
    let pci = class.get_mut::<PciDeviceClass>();
    (pci.vendor_id, pci.device_id) = (VENDOR_ID_INTEL, DEVICE_ID);
    (pci.revision, pci.class_id) = (REVISION, CLASS_BRIDGE_HOST);
}

/// A segment below 1 MiB, in the four ways it can show; one of them is enabled.
struct PamSegment {
    /// By the two bits of its PAM field.
    modes: [MemoryRegion; 4],
}

impl PamSegment {
    fn new(ram: &MemoryRegion, pci: &MemoryRegion, start: u64, size: u64) -> PamSegment {
        let rom = MemoryRegion::alias("pam-rom", ram, start, size);
        rom.set_readonly(true);
        let modes = [
            MemoryRegion::alias("pam-pci", pci, start, size),
            rom,
            // Reads from the bus, writes to DRAM: shown as DRAM, as QEMU does.
            MemoryRegion::alias("pam-pci", ram, start, size),
            MemoryRegion::alias("pam-ram", ram, start, size),
        ];
        for (n, mode) in modes.iter().enumerate() {
            mode.set_enabled(n == 0);
            get_system_memory().add_subregion_overlap(start, mode, 1);
        }
        PamSegment { modes }
    }

    fn set(&self, bits: u8) {
        for (n, mode) in self.modes.iter().enumerate() {
            mode.set_enabled(n == usize::from(bits & (PAM_READ | PAM_WRITE)));
        }
    }
}

/// Start and size of each segment, in the order of the fields: PAM0's high half is the BIOS, then two
/// segments a register.
fn segments() -> impl Iterator<Item = (u64, u64)> {
    let expansion = (0..12).map(|n| (EXPANSION_BASE + n * EXPANSION_SIZE, EXPANSION_SIZE));
    std::iter::once((BIOS_BASE, BIOS_SIZE)).chain(expansion)
}

/// Makes the bridge and its bus; RAM shows through `ram`, everything on the bus in `pci_memory`. Gives the
/// bus and the bridge's function 0 (`i440fx_init`).
///
/// # Errors
/// When a place is taken.
pub fn i440fx_init(
    ram: &MemoryRegion,
    pci_memory: &MemoryRegion,
) -> Result<(Arc<dyn Object>, Arc<dyn Object>)> {
    let host = qdev_new("i440FX-pcihost")?;
    if let Some(machine) = hw_core::machine::current_machine() {
        machine.property_add_child("i440fx", &host)?;
    }
    qdev_realize(&host, Some(&sysbus_get_default()))?;
    let bus = pci_bus_new(&host, "pci.0", pci_memory, &get_system_io())?;
    let Some(device) = host.cast::<I440fxPciHost>() else { bail!("i440FX-pcihost has another type") };
    device.attach(bus.clone());

    let bridge = qdev_new("i440FX")?;
    bridge.property_set_value("addr", i64::from(devfn(0, 0)))?;
    qdev_realize(&bridge, Some(&bus))?;
    if let Some(function) = bridge.cast::<I440fx>() {
        function.map(ram, pci_memory);
        let size = (ram.size() >> 23).min(255) as u8;
        function.with_config(|c| c.set_u8(COREBOOT_RAM_SIZE, size));
    }
    Ok((bus, bridge))
}

impl I440fxPciHost {
    /// How many addresses above all memory the bus is given, bytes.
    pub fn pci_hole64_size(&self) -> u64 {
        self.pci_hole64_size.get().0
    }

    fn attach(&self, bus: Arc<dyn Object>) {
        let host = PciHost::new(bus);
        self.map_io(CONFADD_PORT, &host.address_region());
        self.map_io(CONFDATA_PORT, &host.data_region());
        let _ = self.host.set(host);
    }
}

/// The configuration address outlives a reset, as in QEMU.
impl DeviceImpl for I440fxPciHost {}

impl VmState for I440fxPciHost {
    /// The configuration address.
    type State = u32;

    fn save(&self) -> Option<u32> {
        Some(self.host.get()?.address())
    }

    fn load(&self, address: u32) -> Result<()> {
        if let Some(host) = self.host.get() {
            host.set_address(address);
        }
        Ok(())
    }
}

impl I440fx {
    fn map(&self, ram: &MemoryRegion, pci_memory: &MemoryRegion) {
        let _ = self
            .pam
            .set(segments().map(|(start, size)| PamSegment::new(ram, pci_memory, start, size)).collect());
        let region = MemoryRegion::alias("smram-region", pci_memory, SMRAM_BASE, SMRAM_SIZE);
        get_system_memory().add_subregion_overlap(SMRAM_BASE, &region, 1);
        let _ = self.smram_region.set(region);
        let smram = MemoryRegion::container("smram", 1 << 32);
        smram.add_subregion(SMRAM_BASE, &MemoryRegion::alias("smram-low", ram, SMRAM_BASE, SMRAM_SIZE));
        let _ = self.smram.set(smram);
        self.update_memory_mappings();
    }

    /// What CPUs in system management mode see before the rest of memory, once the bridge is mapped.
    pub fn smram(&self) -> Option<&MemoryRegion> {
        self.smram.get()
    }

    fn update_memory_mappings(&self) {
        let (pam, smram) = self.with_config(|c| {
            let pam: [u8; NUM_PAM] = std::array::from_fn(|n| c.u8(PAM + n));
            (pam, c.u8(SMRAM))
        });
        let _transaction = memory::transaction();
        let fields = pam.iter().flat_map(|byte| [byte & 0xf, byte >> 4]).skip(1);
        for (segment, field) in self.pam.get().into_iter().flatten().zip(fields) {
            segment.set(field);
        }
        if let Some(region) = self.smram_region.get() {
            // The bus shows unless SMRAM is open to everybody.
            region.set_enabled(smram & SMRAM_D_OPEN == 0);
        }
        if let Some(region) = self.smram.get() {
            region.set_enabled(smram & SMRAM_G_SMRAME != 0);
        }
    }
}

/// What shows outlives a reset, as in QEMU: a firmware and the direct boot set it up again.
impl DeviceImpl for I440fx {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.with_config(|c| c.set_u8(SMRAM, SMRAM_C_BASE_SEG));
        Ok(())
    }
}

impl PciDeviceImpl for I440fx {
    fn config_written(&self, at: usize, size: u8) {
        if !ConfigSpace::touches(at, size, PAM, NUM_PAM) && !ConfigSpace::touches(at, size, SMRAM, 1) {
            return;
        }
        self.update_memory_mappings();
    }

    fn config_loaded(&self) {
        self.update_memory_mappings();
    }
}
