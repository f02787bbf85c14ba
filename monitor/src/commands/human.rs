//! Commands of the human monitor, run for a client, and its texts.
//!
//! Source: QEMU `monitor/qmp-cmds.c`, `qapi/misc.json`.

use qom::Result;

/// Runs a command of the human monitor and gives what it prints.
#[qapi::command("human-monitor-command", features("savevm-monitor-nodes"))]
fn human_monitor_command(
    command_line: String,
    /// The CPU that commands are about.
    cpu_index: Option<i64>,
) -> Result<String> {
    // As on a terminal.
    Ok(crate::hmp::human_monitor_command(&command_line, cpu_index)?.replace('\n', "\r\n"))
}
