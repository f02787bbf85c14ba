//! Option ROMs that firmware finds as files of fw_cfg, not in a device's base address register.
//!
//! Source: QEMU `hw/core/loader.c` (`rom_add_file`).

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use qom::{Error, Result};
use util::log::OsError;

use crate::boot_order::add_boot_device_path;
use crate::datadir;

/// What a ROM is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RomKind {
    /// A display adapter, which firmware initializes first.
    Vga,
    /// Anything else.
    Option,
}

impl RomKind {
    /// The folder that firmware looks into.
    pub fn folder(self) -> &'static str {
        match self {
            RomKind::Vga => "vgaroms",
            RomKind::Option => "genroms",
        }
    }
}

/// A ROM, read from its file.
pub struct OptionRom {
    /// What it is for.
    pub kind: RomKind,
    /// The file, as it was named.
    pub file: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl OptionRom {
    /// Its name in fw_cfg.
    pub fn fw_name(&self) -> String {
        let base = self.file.rsplit('/').next().unwrap_or_default();
        format!("{}/{base}", self.kind.folder())
    }
}

static ROMS: Mutex<Vec<Arc<OptionRom>>> = Mutex::new(Vec::new());

/// Reads a ROM, which the board puts into its fw_cfg when all devices are there. With a `bootindex` that is not
/// negative, firmware may boot from it (`rom_add_vga`, `rom_add_option`).
///
/// # Errors
/// A file that cannot be read, or a `bootindex` that something else has.
pub fn add(kind: RomKind, file: &str, bootindex: i32) -> Result<()> {
    let path = datadir::find_file(file).unwrap_or_else(|| PathBuf::from(file));
    let bytes = std::fs::read(&path).map_err(|error| {
        Error::new(format!("Could not open option rom '{}': {}", path.display(), OsError(error)))
    })?;
    let rom = OptionRom { kind, file: file.to_owned(), bytes };
    add_boot_device_path(bootindex, format!("/rom@{}", rom.fw_name()))?;
    ROMS.lock().push(Arc::new(rom));
    Ok(())
}

/// All of them, in the order in which they were added.
pub fn all() -> Vec<Arc<OptionRom>> {
    ROMS.lock().clone()
}
