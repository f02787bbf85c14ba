//! A function's expansion ROM, read from a file.
//!
//! Source: QEMU `hw/pci/pci.c` (`pci_add_option_rom`).

use std::fs::File;
use std::path::{Path, PathBuf};

use memory::{AddressSpace, MemoryRegion, RamBlock};
use qom::{Error, Result, bail};

use crate::bar::{BarKind, ROM_SLOT};
use crate::device::PciDevice;

/// Where ROMs are looked for that are given without a folder.
const ROM_PATH: [&str; 2] = ["/usr/share/qemu", "/usr/lib/ipxe/qemu"];
const MAX_SIZE: u64 = 2 << 30;

fn find(name: &str) -> PathBuf {
    let there = ROM_PATH.iter().map(|folder| Path::new(folder).join(name));
    there.into_iter().find(|path| path.is_file()).unwrap_or_else(|| name.into())
}

/// Gives `device` the ROM that its properties name, if they name one.
pub(crate) fn add_option_rom(device: &PciDevice) -> Result<()> {
    let (Some(name), wanted, has_bar) = device.rom_options() else { return Ok(()) };
    if !has_bar {
        bail!("romfile without a ROM BAR (rombar=0) is not supported yet");
    }
    let path = find(&name);
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
