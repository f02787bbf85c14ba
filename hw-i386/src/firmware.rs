//! Firmware: its image at the top of 4 GiB, and what fw_cfg tells it.
//!
//! Source: QEMU `hw/i386/x86.c` (`x86_bios_rom_init`), `hw/i386/fw_cfg.c`.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, OnceLock};

use hw_acpi::piix4::Piix4Pm;
use hw_acpi::tables::{UserTable, user_tables_item};
use hw_acpi::vmgenid::{VmGenId, find_vmgenid_dev};
use hw_core::boot_order::{boot_devices_lchs_list, boot_devices_list};
use hw_core::datadir::find_file;
use hw_core::machine::BootConfig;
use hw_core::option_rom::{self, RomKind};
use hw_core::reset::qemu_register_reset;
use hw_nvram::fw_cfg::{FwCfg, FwCfgError, spec};
use hw_nvram::fw_cfg_init_io_dma;
use hw_pci::PciDevice;
use hw_smbios::SmbiosOptions;
use memory::{FlatView, MemoryRegion, RamBlock};
use qom::{Error, Object, Result, bail};

use crate::loader::E820Entry;
use crate::pc::{FOUR_GIB, PcMachine};

/// The firmware of a machine for which none is named.
const BIOS_FILENAME: &str = "bios-256k.bin";
/// An image is a multiple of this.
const BIOS_ALIGN: u64 = 64 << 10;
/// How much of its end also shows below 1 MiB.
const ISA_BIOS_MAX: u64 = 128 << 10;
/// Largest image: what fits between the APICs and 4 GiB.
const BIOS_MAX: u64 = 16 << 20;

static SMBIOS: OnceLock<SmbiosOptions> = OnceLock::new();
static USER_TABLES: OnceLock<Vec<UserTable>> = OnceLock::new();

/// Sets what `-smbios` said; the first call counts.
pub fn set_smbios_options(options: SmbiosOptions) {
    let _ = SMBIOS.set(options);
}

/// Sets the tables of `-acpitable`; the first call counts.
pub fn set_user_tables(tables: Vec<UserTable>) {
    let _ = USER_TABLES.set(tables);
}

/// What `-smbios` said, its PCI devices found.
pub(crate) fn smbios_options() -> Result<SmbiosOptions> {
    let mut options = SMBIOS.get().cloned().unwrap_or_default();
    for onboard in &mut options.onboard {
        let Some(id) = &onboard.pcidev else { continue };
        let device = hw_core::qdev_monitor::find_device(id).ok();
        let Some(device) = device.as_ref().and_then(|device| device.cast::<PciDevice>()) else {
            bail!("No PCI device {id} for SMBIOS type 41 entry {}", onboard.designation)
        };
        onboard.devfn = device.devfn();
    }
    Ok(options)
}

/// The tables of `-acpitable`.
pub(crate) fn user_tables() -> &'static [UserTable] {
    USER_TABLES.get().map_or(&[], Vec::as_slice)
}

/// Adds a file of the user's to the fw_cfg of `machine` (`-fw_cfg`).
///
/// # Errors
/// When the machine has no fw_cfg, or a file of that name.
pub fn add_user_file(machine: &Arc<dyn Object>, name: &str, bytes: Vec<u8>) -> Result<()> {
    match machine.cast::<PcMachine>().and_then(|pc| pc.fw_cfg.get()) {
        Some(fw_cfg) => fw_cfg.add_file(name, bytes).map_err(wrong),
        None => bail!("fw_cfg device not available"),
    }
}

/// Adds an option ROM of the user's, which firmware may boot from if `bootindex` is not negative (`-option-rom`).
///
/// # Errors
/// When the machine has no fw_cfg, or as [`option_rom::add`].
pub fn add_option_rom(machine: &Arc<dyn Object>, file: &str, bootindex: i32) -> Result<()> {
    match machine.cast::<PcMachine>().and_then(|pc| pc.fw_cfg.get()) {
        Some(_) => option_rom::add(RomKind::Option, file, bootindex),
        None => bail!("fw_cfg device not available"),
    }
}

/// Has firmware find the option ROMs that all devices and the user brought.
pub(crate) fn add_option_roms(fw_cfg: &FwCfg) -> Result<()> {
    option_rom::all()
        .iter()
        .try_for_each(|rom| fw_cfg.add_file(&rom.fw_name(), rom.bytes.clone()).map_err(wrong))
}

/// Maps the firmware's image. A machine that is given a kernel and no firmware starts the kernel itself and
/// has none.
pub(crate) fn load(pc: &PcMachine, rom_memory: &MemoryRegion) -> Result<()> {
    let name = match (pc.firmware.get(), pc.kernel.get()) {
        (Some(name), _) => name,
        (None, Some(_)) => return Ok(()),
        (None, None) => BIOS_FILENAME.to_owned(),
    };
    let refuse = |why: &dyn std::fmt::Display| Error::new(format!("could not load PC BIOS '{name}': {why}"));
    let path = find_file(&name).ok_or_else(|| refuse(&"No such file or directory"))?;
    let mut file = File::open(&path).map_err(|e| refuse(&e))?;
    let size = file.metadata().map_err(|e| refuse(&e))?.len();
    if size == 0 || !size.is_multiple_of(BIOS_ALIGN) || size > BIOS_MAX {
        return Err(refuse(&format!("its size, {size}, is not a multiple of 64 KiB up to 16 MiB")));
    }
    let block = RamBlock::anonymous("pc.bios", size).map_err(|e| refuse(&e))?;
    let bios = MemoryRegion::rom("pc.bios", block);
    FlatView::render(&bios).load_file(0, &mut file, 0, size).map_err(|e| refuse(&e))?;
    let isa_size = size.min(ISA_BIOS_MAX);
    let isa_bios = MemoryRegion::alias("isa-bios", &bios, size - isa_size, isa_size);
    isa_bios.set_readonly(true);
    rom_memory.add_subregion_overlap((1 << 20) - isa_size, &isa_bios, 1);
    rom_memory.add_subregion(FOUR_GIB - size, &bios);
    Ok(())
}

fn wrong(error: FwCfgError) -> Error {
    Error::new(error.to_string())
}

/// The memory map in the layout of `etc/e820`: address, length, type, 20 bytes an entry.
fn e820_file(map: &[E820Entry]) -> Vec<u8> {
    let entry =
        |e: &E820Entry| [&e.addr.to_le_bytes()[..], &e.size.to_le_bytes(), &e.kind.to_le_bytes()].concat();
    map.iter().flat_map(entry).collect()
}

/// Makes fw_cfg and fills in what is known before the devices are (`fw_cfg_arch_create`).
pub(crate) fn fw_cfg_arch_create(pc: &PcMachine) -> Result<Arc<FwCfg>> {
    let fw_cfg = fw_cfg_init_io_dma()?;
    let config = pc.config();
    let apic_id_limit = pc.possible_apic_ids().last().copied().unwrap_or_default() + 1;
    fw_cfg.add_bytes(spec::UUID, config.uuid.unwrap_or_default()).map_err(wrong)?;
    fw_cfg.add_i16(spec::NOGRAPHIC, (!pc.graphics.get()).into()).map_err(wrong)?;
    fw_cfg.add_i16(spec::BOOT_MENU, config.boot.menu.unwrap_or(false).into()).map_err(wrong)?;
    fw_cfg.add_i16(spec::NB_CPUS, pc.apic_ids().len() as u16).map_err(wrong)?;
    fw_cfg.add_i16(spec::MAX_CPUS, apic_id_limit as u16).map_err(wrong)?;
    fw_cfg.add_i64(spec::RAM_SIZE, config.ram_size).map_err(wrong)?;
    fw_cfg.add_i32(spec::IRQ0_OVERRIDE, 1).map_err(wrong)?;
    let tables = user_tables();
    let item = if tables.is_empty() { Vec::new() } else { user_tables_item(tables) };
    fw_cfg.add_bytes(spec::ACPI_TABLES, item).map_err(wrong)?;
    fw_cfg.add_bytes(spec::NUMA, numa_item(pc, apic_id_limit)).map_err(wrong)?;
    fw_cfg.add_file("etc/e820", e820_file(&pc.e820())).map_err(wrong)?;
    if pc.device_memory().is_some() {
        let end = pc.memory_end().next_multiple_of(1 << 30);
        fw_cfg.add_file("etc/reserved-memory-end", end.to_le_bytes()).map_err(wrong)?;
    }
    fw_cfg.add_file("bootorder", Vec::new()).map_err(wrong)?;
    fw_cfg.add_file("bios-geometry", Vec::new()).map_err(wrong)?;
    // All ones: a failed boot is not tried again.
    let timeout = config.boot.reboot_timeout.unwrap_or(-1);
    fw_cfg.add_file("etc/boot-fail-wait", timeout.to_le_bytes()).map_err(wrong)?;
    add_splash(&fw_cfg, &config.boot)?;
    Ok(fw_cfg)
}

/// Has firmware find at each reset what it is to boot from (`fw_cfg_machine_reset`); called when the machine is whole, so
/// that what a reset takes out is gone by then.
pub(crate) fn register_boot_order(fw_cfg: &Arc<FwCfg>, strict: bool) {
    let fw_cfg = fw_cfg.clone();
    qemu_register_reset(Arc::new(move || {
        let files = [("bootorder", boot_devices_list(strict)), ("bios-geometry", boot_devices_lchs_list())];
        for (name, contents) in files {
            if let Err(error) = fw_cfg.modify_file(name, contents) {
                util::error_report!("{name}: {error}");
            }
        }
    }));
}

/// 64-bit words: the number of nodes, the node of each CPU by APIC id, and the memory of each node.
fn numa_item(pc: &PcMachine, apic_id_limit: u32) -> Vec<u8> {
    let numa = pc.numa().lock();
    let mut words = vec![0u64; 1 + apic_id_limit as usize];
    words[0] = numa.num_nodes() as u64;
    for (index, apic_id) in pc.possible_apic_ids().into_iter().enumerate() {
        words[apic_id as usize + 1] = numa.cpu_node(index).unwrap_or_default() as u64;
    }
    words.extend(numa.nodes().map(|node| node.mem));
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The picture that firmware shows, and for how long (`fw_cfg_bootsplash`). Without a picture the machine starts
/// all the same.
fn add_splash(fw_cfg: &FwCfg, boot: &BootConfig) -> Result<()> {
    if let Some(time) = boot.splash_time {
        fw_cfg.add_file("etc/boot-menu-wait", time.to_le_bytes()).map_err(wrong)?;
    }
    let Some(name) = &boot.splash else { return Ok(()) };
    match read_splash(name) {
        Ok((file, picture)) => fw_cfg.add_file(file, picture).map_err(wrong),
        Err(why) => {
            util::error_report!("{why}");
            Ok(())
        }
    }
}

/// Largest picture that is read.
const SPLASH_MAX: u64 = 64 << 20;

/// The picture, and the name of the fw_cfg file for its format.
fn read_splash(name: &str) -> Result<(&'static str, Vec<u8>), String> {
    let path = find_file(name).ok_or_else(|| format!("failed to find file '{name}'"))?;
    let path = path.display();
    let mut picture = Vec::new();
    File::open(path.to_string())
        .and_then(|file| file.take(SPLASH_MAX).read_to_end(&mut picture))
        .map_err(|_| format!("failed to read splash file '{path}'"))?;
    // A BMP header has its kind first and the bits of a pixel at 28.
    let word = |at: usize| picture.get(at..at + 2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    match (word(0), word(28)) {
        (Some(0xd8ff), Some(_)) => Ok(("bootsplash.jpg", picture)),
        (Some(0x4d42), Some(24)) => Ok(("bootsplash.bmp", picture)),
        _ => Err(format!("splash file '{path}' format not recognized; must be JPEG or 24 bit BMP")),
    }
}

/// Tells firmware which sleep states there are (bit 7), S0 to S5, and the number that S3 and S4 go by
/// (`acpi_pm1_cnt_init`).
pub(crate) fn add_system_states(fw_cfg: &FwCfg, pm: &Piix4Pm) -> Result<()> {
    const OFFERED: u8 = 128;
    let s3 = if pm.offers_s3() { OFFERED } else { 0 };
    let s4 = if pm.s4_type().is_some() { OFFERED } else { 0 };
    fw_cfg.add_file("etc/system-states", [OFFERED, 0, 0, 1 | s3, pm.s4_number() | s4, OFFERED]).map_err(wrong)
}

/// Gives firmware the tables it is to place (`acpi_setup`, `fw_cfg_build_smbios`).
pub(crate) fn add_tables(
    fw_cfg: &FwCfg,
    acpi: Option<crate::acpi_build::AcpiTables>,
    smbios: &hw_smbios::SmbiosTables,
) -> Result<()> {
    if let Some(acpi) = acpi {
        fw_cfg.add_file("etc/acpi/rsdp", acpi.rsdp).map_err(wrong)?;
        fw_cfg.add_file("etc/acpi/tables", acpi.tables).map_err(wrong)?;
        fw_cfg.add_file("etc/table-loader", acpi.linker).map_err(wrong)?;
        if let Some(device) = find_vmgenid_dev().as_ref().and_then(|device| device.cast::<VmGenId>()) {
            device.add_files(fw_cfg)?;
        }
    }
    fw_cfg.add_file(hw_smbios::TABLES_FILE, smbios.tables_file().to_vec()).map_err(wrong)?;
    fw_cfg.add_file(hw_smbios::ANCHOR_FILE, smbios.anchor_file()).map_err(wrong)?;
    Ok(())
}
