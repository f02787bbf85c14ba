//! The human monitor (HMP): a terminal for looking at the machine and steering it.
//!
//! [`monitor_init_hmp`] puts one on a chardev, which it has to itself or, on a multiplexer, shares with a
//! serial port. Its commands are a table (`command.rs`); each gets its checked arguments and an
//! output of bounded size. Everything runs on the main loop's thread and nothing waits: what a slow terminal
//! does not take stays in the buffer, and no more input is read until it is gone.
//!
//! Sources followed: QEMU `monitor/hmp.c`, `monitor/monitor.c`, `util/readline.c`, `hmp-commands.hx`.

mod args;
mod command;
mod dump;
mod expression;
mod info;
mod machine;
mod monitor;
mod mtree;
mod objects;
mod output;
mod pci;
mod qtree;
mod readline;

pub use monitor::monitor_init_hmp;

/// Carries out a line as if somebody typed it, and gives what it prints (`human-monitor-command`).
pub(crate) fn run(line: &str) -> String {
    command::run(line).into_text()
}
