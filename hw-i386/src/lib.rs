//! The PC boards (hw/i386/): `pc` (i440FX and PIIX), `isapc`, and how a kernel is started without firmware.
#![forbid(unsafe_code)]

pub mod acpi_build;
mod bios_handlers;
mod boot;
mod boot_pci;
mod boot_set;
mod cmos_disks;
mod compat;
mod firmware;
mod hotplug;
mod intc;
mod kvm;
pub mod linker;
pub mod loader;
pub mod mptable;
mod pc;
mod pc_piix;
pub mod pci_setup;
pub mod pirtable;
mod ports;
mod sysfw;
mod vmport;
mod x86;

// The board makes these crates' devices by name; without a mention they would not be linked.
use {hw_input as _, hw_timer as _};

pub use firmware::{add_option_rom, add_user_file, set_smbios_options, set_user_tables};
pub use pc::PcMachine;
pub use pc_piix::{IsaPcMachine, PcI440fxMachine};
pub use x86::{RamSplit, X86Machine};
