//! Event loop, clocks and timers, trace events, option parsing helpers (util/).
