//! Event loop, clocks and timers, trace events, option parsing helpers (util/).
#![forbid(unsafe_code)]
pub mod clock;
pub mod config;
pub mod cutils;
pub mod event_loop;
pub mod fdset;
pub mod json;
pub mod keyval;
pub mod log;
pub mod option;
pub mod report;
pub mod sockets;
pub mod termination;
pub mod timer;
pub mod trace;
