//! Event loop, clocks and timers, trace events, option parsing helpers (util/).
#![forbid(unsafe_code)]
pub mod clock;
pub mod event_loop;
pub mod log;
pub mod timer;
pub mod trace;
