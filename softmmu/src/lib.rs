//! What of the program others may use: its command line, for the fuzzers.
#![forbid(unsafe_code)]

pub mod cli;
