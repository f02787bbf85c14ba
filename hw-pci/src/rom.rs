//! A function's expansion ROM, read from a file.
//!
//! Source: QEMU `hw/pci/pci.c` (`pci_add_option_rom`).

use std::fs::File;

use hw_core::datadir::find_file;
use hw_core::option_rom::{self, RomKind};
use memory::{AddressSpace, MemoryRegion, RamBlock};
use qom::{Error, Result, bail};

use crate::bar::{BarKind, ROM_SLOT};
use crate::device::PciDevice;
use crate::spec::CLASS_DEVICE;

/// The class of a display adapter that firmware initializes (`PCI_CLASS_DISPLAY_VGA`).
const CLASS_DISPLAY_VGA: u16 = 0x0300;
const MAX_SIZE: u64 = 2 << 30;

/// Gives `device` the ROM that its properties name, if they name one.
pub(crate) fn add_option_rom(device: &PciDevice) -> Result<()> {
    let (Some(name), wanted, has_bar) = device.rom_options() else { return Ok(()) };
    if !has_bar {
        return add_to_fw_cfg(device, &name);
    }
    let path = find_file(&name).unwrap_or_else(|| name.clone().into());
    let file = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let Ok((len, mut file)) = file else { bail!("failed to find romfile \"{name}\"") };
    let size = match (len, wanted) {
        (0, _) => bail!("romfile \"{name}\" is empty"),
        (MAX_SIZE.., _) => bail!("romfile \"{name}\" too large (size cannot exceed 2 GiB)"),
        (_, u32::MAX) => len.next_power_of_two(),
        (_, wanted) if len > wanted.into() => {
            bail!("romfile \"{name}\" ({len} bytes) is too large for ROM size {wanted}")
        }
        (_, wanted) => wanted.into(),
    };
    let failed = |error: std::io::Error| Error::new(format!("failed to load romfile \"{name}\": {error}"));
    // Less than the ROM register can say: its address has no bits below 2 KiB.
    let size = size.max(2048);
    let rom = MemoryRegion::rom("rom", RamBlock::anonymous("rom", size).map_err(failed)?);
    AddressSpace::new("rom", &rom).view().load_file(0, &mut file, 0, len).map_err(failed)?;
    device.register_bar(ROM_SLOT, BarKind::Rom, &rom);
    Ok(())
}

/// Has firmware find the ROM as a file: what is plugged later comes too late for it.
fn add_to_fw_cfg(device: &PciDevice, name: &str) -> Result<()> {
    if device.is_hotplugged() {
        bail!("Hot-plugged device without ROM bar can't have an option ROM");
    }
    let class = device.with_config(|config| config.u16(CLASS_DEVICE));
    option_rom::add(if class == CLASS_DISPLAY_VGA { RomKind::Vga } else { RomKind::Option }, name, -1)
}
