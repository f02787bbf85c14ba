//! Commands of the human monitor, run for a client, and its texts.
//!
//! Source: QEMU `monitor/qmp-cmds.c`, `qapi/misc.json`.

use qom::Result;

use super::cpu_of;

/// Runs a command of the human monitor and gives what it prints.
#[qapi::command("human-monitor-command", features("savevm-monitor-nodes"))]
fn human_monitor_command(
    command_line: String,
    /// The CPU that commands are about.
    cpu_index: Option<i64>,
) -> Result<String> {
    if cpu_index.is_some() {
        cpu_of(cpu_index)?;
    }
    // As on a terminal.
    Ok(crate::hmp::run(&command_line).replace('\n', "\r\n"))
}
