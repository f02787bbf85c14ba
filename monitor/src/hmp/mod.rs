//! The human monitor (HMP): a terminal for looking at the machine and steering it.
//!
//! [`monitor_init_hmp`] puts one on a chardev, which it has to itself or, on a multiplexer, shares with a
//! serial port. [`human_monitor_command`] carries out a line for somebody else. The commands are two tables
//! (`table.rs`, `info_table.rs`) in QEMU's form; each gets its checked arguments and an output of bounded size, and
//! where QMP has a command for the same thing, calls that. Everything runs on the main loop's thread and nothing
//! waits for the terminal: what a slow one does not take stays in the buffer, and no more input is read until it
//! is gone.
//!
//! Sources followed: QEMU `monitor/hmp.c`, `monitor/hmp-cmds.c`, `monitor/misc.c`, `util/readline.c`,
//! `hmp-commands.hx`, `hmp-commands-info.hx`, `target/i386/monitor.c`.

mod absent;
mod args;
mod block;
mod chardevs;
mod command;
mod completion;
mod cpus;
mod dump;
mod expression;
mod info;
mod info_table;
mod input;
mod interrupts;
mod machine;
mod mce;
mod memory_commands;
mod migration;
mod monitor;
mod mtree;
mod networks;
mod objects;
pub(crate) mod page_tables;
mod pci;
mod qemu_io;
mod qmp;
mod qtree;
mod readline;
mod session;
mod stats;
mod table;
mod virtio;
pub(crate) mod x86;

pub use machine::{GdbServer, set_gdb_server};
pub use monitor::monitor_init_hmp;

use session::Session;

/// Carries out a line as a monitor would whose CPU is `cpu_index`, the first without one, and gives what it prints
/// (`human-monitor-command`, gdb's `monitor`).
///
/// # Errors
/// When there is no such CPU.
pub fn human_monitor_command(line: &str, cpu_index: Option<i64>) -> qom::Result<String> {
    let cpu_index = match cpu_index {
        None => None,
        Some(wanted) => {
            let mut cpus = hw_core::cpu::cpu_list().into_iter().map(|cpu| cpus::index(&cpu));
            match cpus.find(|&index| i64::from(index) == wanted) {
                Some(index) => Some(index),
                None => qom::bail!("Parameter 'cpu-index' expects a CPU number"),
            }
        }
    };
    let mut mon = Session::new(cpu_index, Vec::new());
    command::run(&mut mon, line);
    Ok(mon.into_text())
}

/// Carries out a line as if somebody typed it, and gives what it prints.
pub fn run(line: &str) -> String {
    let mut mon = Session::default();
    command::run(&mut mon, line);
    mon.into_text()
}
