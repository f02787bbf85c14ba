//! Disks: so far `virtio-blk`.
//!
//! Source followed: QEMU `hw/block/`.
#![forbid(unsafe_code)]

mod conf;
pub mod virtio_blk;
