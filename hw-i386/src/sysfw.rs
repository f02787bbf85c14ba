//! Firmware in flash memory, and where else it may be.
//!
//! Source: QEMU `hw/i386/pc_sysfw.c`.

use std::sync::Arc;

use block::drive::{Interface, drive_get};
use hw_block::pflash::PflashCfi01;
use hw_core::{SysBusDevice, qdev_new, qdev_realize, sysbus};
use memory::{MemoryRegion, RamBlock};
use qom::property::PropertyInput;
use qom::{Error, Object, PropertyInfo, PropertyType, Result, Size, Value, bail};

use crate::firmware;
use crate::pc::{FOUR_GIB, PcMachine};

/// What flash is erased by, and so a multiple of.
const FLASH_SECTOR_SIZE: u64 = 4096;
/// How much of the end of the first flash also shows below 1 MiB.
const ISA_BIOS_MAX: u64 = 128 << 10;
/// All firmware together, where nothing else is said.
const MAX_FW_SIZE: u64 = 8 << 20;
/// More would reach down to the I/O APIC.
const MAX_FW_SIZE_LIMIT: u64 = 16 << 20;
/// The flash devices of a PC: their names, which are also those of their memory, and the machine's properties that are
/// their drives.
const FLASHES: [(&str, &str); 2] = [("system.flash0", "pflash0"), ("system.flash1", "pflash1")];

/// `max-fw-size=`: bytes that all firmware together may have.
#[derive(Clone, Copy, Debug)]
pub struct FirmwareSize(Size);

impl Default for FirmwareSize {
    fn default() -> Self {
        FirmwareSize(Size(MAX_FW_SIZE))
    }
}

impl PropertyType for FirmwareSize {
    fn type_name() -> String {
        Size::type_name()
    }

    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        let size = Size::parse(name, input)?;
        if size.0 > MAX_FW_SIZE_LIMIT {
            bail!(
                "User specified max allowed firmware size {} is greater than 16MiB. If combined firmware size exceeds \
                 16MiB the system may not boot, or experience intermittent stability issues.",
                size.0
            );
        }
        Ok(FirmwareSize(size))
    }

    fn to_value(&self) -> Value {
        self.0.to_value()
    }
}

/// Makes the flash devices of a machine, for its properties to give drives to (`pc_system_flash_create`).
pub(crate) fn create(pc: &PcMachine) {
    let machine = pc.this();
    for (name, property) in FLASHES {
        create_flash(&machine, name, property).expect("a new machine takes its flash devices");
    }
}

fn create_flash(machine: &Arc<dyn Object>, name: &'static str, property: &'static str) -> Result<()> {
    let flash = qdev_new("cfi.pflash01")?;
    flash.property_set_value("sector-length", FLASH_SECTOR_SIZE)?;
    flash.property_set_value("width", 1)?;
    flash.property_set_value("name", name)?;
    machine.property_add_child(name, &flash)?;
    let of = move |machine: &dyn Object| match machine.child(name) {
        Some(flash) => Ok(flash),
        None => bail!("Property '{}.{property}' not found", machine.type_name()),
    };
    machine.property_add(PropertyInfo {
        description: "Node name or ID of a block device to use as a backend".to_owned(),
        get: Some(Arc::new(move |machine| of(machine)?.property_get("drive"))),
        set: Some(Arc::new(move |machine, input| of(machine)?.property_set("drive", input))),
        live: true,
        ..PropertyInfo::new(property, String::type_name())
    })
}

/// Maps the firmware: flash where there are drives for it, or else a file's contents as ROM
/// (`pc_system_firmware_init`).
///
/// # Errors
/// Drives that do not suit flash, or what [`firmware::load`] says.
pub(crate) fn init(pc: &PcMachine, rom_memory: &MemoryRegion) -> Result<()> {
    let machine = pc.this();
    let flashes: Vec<_> = FLASHES.iter().filter_map(|(name, _)| machine.child(name)).collect();
    for (unit, flash) in (0..).zip(&flashes) {
        let Some(drive) = drive_get(Interface::Pflash, 0, unit) else { continue };
        if pflash(flash).drive().is_some() {
            bail!("{}: clashes with -machine", drive.location);
        }
        flash.property_set_value("drive", drive.backend.name())?;
    }
    let has_drive: Vec<bool> = flashes.iter().map(|flash| pflash(flash).drive().is_some()).collect();
    match has_drive[..] {
        [false, true] => bail!("pflash1 requires pflash0"),
        [true, ..] => map(pc, &flashes, rom_memory)?,
        _ => firmware::load(pc, rom_memory)?,
    }
    // Those that are not used were never there.
    for ((flash, has_drive), (_, property)) in flashes.iter().zip(has_drive).zip(FLASHES) {
        if !has_drive {
            machine.property_del(property);
            flash.unparent();
        }
    }
    Ok(())
}

/// From 4 GiB down, each as large as its drive (`pc_system_flash_map`).
fn map(pc: &PcMachine, flashes: &[Arc<dyn Object>], rom_memory: &MemoryRegion) -> Result<()> {
    if accel_kvm::kvm_state().is_some_and(|kvm| !kvm.has_readonly_mem()) {
        bail!("pflash with kvm requires KVM readonly memory support");
    }
    let mut total = 0;
    for (index, flash) in flashes.iter().enumerate() {
        let Some(backend) = pflash(flash).drive() else { break };
        let name = backend.name();
        let size = backend.node().ok_or_else(|| std::io::Error::from_raw_os_error(NO_MEDIUM));
        let size = size.and_then(|node| node.length()).map_err(|error| {
            Error::new(format!("can't get size of block device {name}: {}", util::log::OsError(error)))
        })?;
        if size == 0 || !size.is_multiple_of(FLASH_SECTOR_SIZE) {
            return Err(Error::new(format!("system firmware block device {name} has invalid size {size}"))
                .with_hint(format!("its size must be a non-zero multiple of {FLASH_SECTOR_SIZE:#x}")));
        }
        let most = pc.max_fw_size.get().0.0;
        total = match size.checked_add(total) {
            Some(total) if total <= most => total,
            _ => bail!("combined size of system firmware exceeds {most} bytes"),
        };
        flash.property_set_value("num-blocks", size / FLASH_SECTOR_SIZE)?;
        qdev_realize(flash, Some(&sysbus::sysbus_get_default()))?;
        let Some(region) = pflash(flash).region() else { bail!("flash without memory") };
        if let Some(device) = flash.cast::<SysBusDevice>() {
            device.map_memory(FOUR_GIB - total, region);
        }
        if index == 0 {
            map_isa_bios(rom_memory, region, size)?;
        }
    }
    Ok(())
}

/// `ENOMEDIUM`, which the standard library has no name for.
const NO_MEDIUM: i32 = 123;

/// A copy of the end of the first flash below 1 MiB (`pc_isa_bios_init`).
fn map_isa_bios(rom_memory: &MemoryRegion, flash: &MemoryRegion, flash_size: u64) -> Result<()> {
    let size = flash_size.min(ISA_BIOS_MAX);
    let copy = RamBlock::anonymous("isa-bios", size)
        .map_err(|error| Error::new(format!("cannot set up guest memory 'isa-bios': {error}")))?;
    let from = flash.ram_block().and_then(|array| array.slice(flash_size - size, size));
    if let (Some(from), Some(to)) = (from, copy.slice(0, size)) {
        from.copy_to_volatile_slice(to);
    }
    let bios = MemoryRegion::rom("isa-bios", copy);
    rom_memory.add_subregion_overlap((1 << 20) - size, &bios, 1);
    Ok(())
}

fn pflash(device: &Arc<dyn Object>) -> &PflashCfi01 {
    device.cast().expect("the board's flash devices are of this type")
}
