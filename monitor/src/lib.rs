//! The monitors (monitor/): `hmp`, for people.
#![forbid(unsafe_code)]

pub mod hmp;

pub use hmp::monitor_init_hmp;
