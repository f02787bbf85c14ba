//! `virtio-9p`: a folder of the host, or one that is made up, as a file system of the guest, by the protocols 9P2000.u
//! and 9P2000.L.
//!
//! [`fsdev`] is what the user shares, [`fs`] what a file system must be able to do, [`local`] and [`synth`] are the two
//! there are. [`server::Server`] answers messages and knows nothing of virtio, [`virtio`] is the device.
//!
//! Sources followed: QEMU `hw/9pfs/` and `fsdev/`; the manual pages of 9P2000; the Linux client's notes on 9P2000.L and
//! 9P2000.u for the layout of messages.
#![forbid(unsafe_code)]

pub mod fs;
pub mod fsdev;
pub mod local;
mod qid;
pub mod server;
pub mod spec;
pub mod synth;
pub mod virtio;
pub mod wire;
