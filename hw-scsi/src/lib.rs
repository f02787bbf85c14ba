//! SCSI: the bus, `scsi-hd` and `scsi-cd`, and the host adapter `virtio-scsi`.
//!
//! The disk's command set is a plain struct ([`disk::Disk`]) that is told what medium there is and says what to do;
//! [`device::ScsiDisk`] is the device around it, and reads and writes. A host adapter provides a [`ScsiBus`], turns what
//! its driver asks for into commands ([`device::ScsiDisk::command`]), and is called back when they are done.
//!
//! Sources followed: SPC-4, SBC-3, MMC-6; QEMU `hw/scsi/`, `scsi/utils.c`.
#![forbid(unsafe_code)]

mod bus;
pub mod cdb;
pub mod device;
pub mod disc;
pub mod disk;
mod plan;
pub mod sense;
pub mod spec;
mod target;
mod task;
pub mod virtio_scsi;

pub use bus::{ScsiBus, ScsiBusLimits, ScsiDevice, ScsiHost};
