//! Disks: `virtio-blk`, `vhost-user-blk`, and flash memory.
//!
//! Source followed: QEMU `hw/block/`.
#![forbid(unsafe_code)]

pub mod conf;
pub mod geometry;
pub mod pflash;
pub mod vhost_user_blk;
pub mod virtio_blk;
