//! Disks: what devices read and write through ([`BlockBackend`]), the graph of nodes below ([`BlockNode`]), and the
//! drivers that nodes are instances of ([`BlockDriver`]).
//!
//! A driver's functions wait; several threads may be in them at once. [`BlockBackend::submit`] gives requests to
//! threads, so that a device has as many under way as its guest likes. Nothing is started before it is used.
//!
//! Source: QEMU `block.c`, `blockdev.c`, `block/`, `qapi/block-core.json`.
#![deny(unsafe_code)]

mod aio;
pub mod backend;
pub mod breakpoints;
pub mod drive;
mod drive_options;
pub mod driver;
mod drivers;
pub mod filename;
mod gate;
mod info;
mod lock;
mod meeting;
pub mod node;
pub mod options;
pub mod pool;
mod qmp;
mod sharing;
mod stats;
mod sys;
pub mod throttle;
pub mod throttle_group;
mod throttle_object;
mod timed_average;
pub mod tray;

pub use backend::BlockBackend;
pub use driver::{BlockDriver, IoVec};
pub use drivers::NAMES as DRIVER_NAMES;
pub use node::BlockNode;
