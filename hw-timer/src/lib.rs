//! Timers: HPET, i8254 (hw/timer/).
//!
//! The chips alone: plain structs that are told the virtual time and answer with the levels, messages and
//! deadlines that follow. They hold no lock, start no timer and raise no interrupt line themselves.

#![forbid(unsafe_code)]

pub mod hpet;
mod hpet_device;
pub mod i8254;

pub use hpet_device::{HPET_BASE, HpetDevice};
