//! IDE: the bus, `ide-hd` and `ide-cd`, and the controllers `piix3-ide`, `piix4-ide` and `isa-ide`.
//!
//! A channel with its two devices is a plain struct ([`channel::Channel`]): registers are read and written, and what
//! the disks are to do comes out as a [`channel::Job`]. [`bus::IdeBus`] is the bus around it, which has jobs done.
//!
//! Sources followed: ATA/ATAPI-6 (T13/1410D), ACS-2 (T13/2015-D), MMC-3, SFF-8038i; Intel 82371SB (PIIX3) data sheet,
//! 290550; QEMU `hw/ide/`.
#![forbid(unsafe_code)]

pub mod bmdma;
pub mod bus;
pub mod channel;
mod commands;
pub mod device;
mod dma;
pub mod drive;
mod identify;
pub mod isa;
mod jobs;
mod memory_parts;
mod packet;
pub mod pci;
mod ports;
mod smart;
pub mod spec;
#[cfg(test)]
mod tests;

pub use bus::IdeBus;
pub use pci::pci_ide_create_devs;
