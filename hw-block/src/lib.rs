//! Disks: so far `virtio-blk`, and flash memory.
//!
//! Source followed: QEMU `hw/block/`.
#![forbid(unsafe_code)]

pub mod conf;
pub mod pflash;
pub mod virtio_blk;
