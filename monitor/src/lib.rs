//! The monitors (monitor/): `hmp`, for people; `qmp`, for programs; and the `commands` of QMP.
#![forbid(unsafe_code)]

mod commands;
mod dump;
pub mod hmp;
pub mod qmp;
mod regions;

pub use hmp::monitor_init_hmp;
pub use qmp::monitor_init_qmp;
