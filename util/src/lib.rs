//! Event loop, clocks and timers, trace events, option parsing helpers (util/).
#![forbid(unsafe_code)]
pub mod clock;
pub mod cutils;
pub mod event_loop;
pub mod log;
pub mod option;
pub mod timer;
pub mod trace;
