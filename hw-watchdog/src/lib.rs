//! Watchdogs: timers that a guest has to feed, and what is done when it does not.
#![forbid(unsafe_code)]

mod action;
pub mod i6300esb;
mod i6300esb_device;
pub mod ib700;

pub use action::watchdog_perform_action;
