//! The program as a library: its command line, and the way from there to a machine, for the fuzzers.
#![forbid(unsafe_code)]

mod accel;
mod audiodev;
mod chardevs;
pub mod cli;
mod daemon;
mod drives;
mod help;
pub mod main_loop;
mod networks;
mod options;
mod preconfig;
mod privileges;
mod qtest;
mod sandbox;
mod signals;
pub mod vl;

/// Tells the user what is wrong.
pub fn report(error: &qom::Error) {
    if !error.message.is_empty() {
        util::error_report!("{error}");
    }
    if let Some(hint) = &error.hint {
        util::report::print_line(format_args!("{hint}"));
    }
}
