//! The monitors (monitor/): `hmp`, for people, and the `commands` of QMP.
#![forbid(unsafe_code)]

mod commands;
pub mod hmp;

pub use hmp::monitor_init_hmp;
