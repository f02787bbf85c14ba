//! The commands that steer the monitor itself. Source: QEMU `monitor/qmp-cmds-control.c`, `qapi/control.json`.

use hw_core::runstate::{self, ShutdownCause};
use qapi::QapiType;
use qom::Result;

use super::session;

/// What a client can ask for when it negotiates.
#[derive(QapiType, Clone, Copy, PartialEq, Eq)]
#[qapi(name = "QMPCapability")]
enum QmpCapability {
    /// Commands can be executed out of band, with `exec-oob`.
    Oob,
}

/// A version in three parts.
#[derive(QapiType, Clone, Copy)]
pub(super) struct VersionTriple {
    /// The first.
    major: i64,
    /// The second.
    minor: i64,
    /// The third.
    micro: i64,
}

/// The version of QEMU that is spoken here.
#[derive(QapiType, Clone)]
pub(super) struct VersionInfo {
    /// The version.
    qemu: VersionTriple,
    /// What a distributor adds to it.
    package: String,
}

/// A command by name.
#[derive(QapiType)]
struct CommandInfo {
    /// Its name.
    name: String,
}

pub(super) fn version() -> VersionInfo {
    VersionInfo { qemu: VersionTriple { major: 7, minor: 2, micro: 0 }, package: String::new() }
}

/// Ends the negotiation: from now on all commands can be executed.
#[qapi::command("qmp_capabilities", preconfig)]
fn qmp_capabilities(
    /// What is asked for of the capabilities in the greeting.
    enable: Option<Vec<QmpCapability>>,
) -> Result<()> {
    let oob = enable.is_some_and(|list| list.contains(&QmpCapability::Oob));
    session::current().map_or(Ok(()), |monitor| monitor.negotiate(oob))
}

/// The version of QEMU that is spoken here.
#[qapi::command("query-version", preconfig)]
fn query_version() -> Result<VersionInfo> {
    Ok(version())
}

/// The commands there are.
#[qapi::command("query-commands", preconfig)]
fn query_commands() -> Result<Vec<CommandInfo>> {
    Ok(qapi::commands().map(|command| CommandInfo { name: command.name.to_owned() }).collect())
}

/// Ends the program.
#[qapi::command("quit", preconfig)]
fn quit() -> Result<()> {
    runstate::set_action(None, Some(runstate::ShutdownAction::Poweroff));
    runstate::shutdown_request(ShutdownCause::HostQmpQuit);
    Ok(())
}
