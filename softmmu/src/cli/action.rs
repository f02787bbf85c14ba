//! `-action`, `-no-reboot`, `-no-shutdown` and `-overcommit` (softmmu/runstate-action.c).

use util::option::{OptDesc, OptType, OptsDesc};

use super::{CliError, CommandLine, OptionId, parse_opts};

static ACTION: OptsDesc = OptsDesc {
    name: "action",
    implied: None,
    merge: true,
    descs: &[
        OptDesc { name: "reboot", kind: OptType::String },
        OptDesc { name: "shutdown", kind: OptType::String },
        OptDesc { name: "panic", kind: OptType::String },
        OptDesc { name: "watchdog", kind: OptType::String },
    ],
};

static OVERCOMMIT: OptsDesc = OptsDesc {
    name: "overcommit",
    implied: None,
    merge: true,
    descs: &[
        OptDesc { name: "mem-lock", kind: OptType::Bool },
        OptDesc { name: "cpu-pm", kind: OptType::Bool },
    ],
};

/// When the guest reboots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RebootAction {
    /// Reset the machine.
    #[default]
    Reset,
    /// As at a power-off.
    Shutdown,
}

/// When the guest powers off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShutdownAction {
    /// Exit.
    #[default]
    Poweroff,
    /// Stop the processors.
    Pause,
}

/// When the guest panics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PanicAction {
    /// Stop the processors.
    Pause,
    /// As at a power-off.
    #[default]
    Shutdown,
    /// Exit with a status that says so.
    ExitFailure,
    /// Nothing.
    None,
}

/// When the watchdog fires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WatchdogAction {
    /// Reset the machine.
    #[default]
    Reset,
    /// Ask the guest to power off.
    Shutdown,
    /// Exit.
    Poweroff,
    /// Stop the processors.
    Pause,
    /// Print a message.
    Debug,
    /// Nothing.
    None,
    /// Send the guest an NMI.
    InjectNmi,
}

/// What happens when the guest does these things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Action {
    /// Reboot.
    pub reboot: RebootAction,
    /// Power-off.
    pub shutdown: ShutdownAction,
    /// Panic.
    pub panic: PanicAction,
    /// The watchdog fires.
    pub watchdog: WatchdogAction,
}

/// What `-overcommit` gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OvercommitOptions {
    /// Whether all memory is locked into RAM.
    pub mem_lock: bool,
    /// Whether the guest's idle instructions idle the host's processors.
    pub cpu_pm: bool,
}

impl Action {
    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "reboot" => {
                self.reboot = match value {
                    "reset" => RebootAction::Reset,
                    "shutdown" => RebootAction::Shutdown,
                    _ => return None,
                }
            }
            "shutdown" => {
                self.shutdown = match value {
                    "poweroff" => ShutdownAction::Poweroff,
                    "pause" => ShutdownAction::Pause,
                    _ => return None,
                }
            }
            "panic" => {
                self.panic = match value {
                    "pause" => PanicAction::Pause,
                    "shutdown" => PanicAction::Shutdown,
                    "exit-failure" => PanicAction::ExitFailure,
                    "none" => PanicAction::None,
                    _ => return None,
                }
            }
            _ => self.watchdog = watchdog_action(value)?,
        }
        Some(())
    }
}

fn watchdog_action(value: &str) -> Option<WatchdogAction> {
    Some(match value {
        "reset" => WatchdogAction::Reset,
        "shutdown" => WatchdogAction::Shutdown,
        "poweroff" => WatchdogAction::Poweroff,
        "pause" => WatchdogAction::Pause,
        "debug" => WatchdogAction::Debug,
        "none" => WatchdogAction::None,
        "inject-nmi" => WatchdogAction::InjectNmi,
        _ => return None,
    })
}

impl CommandLine {
    /// `-action`, `-no-reboot` and `-no-shutdown`, in their order.
    ///
    /// # Errors
    /// An event or an action that does not exist.
    pub fn action(&mut self) -> Result<Action, CliError> {
        let mut action = Action::default();
        let mut warnings = Vec::new();
        for occurrence in &self.occurrences {
            match occurrence.id {
                OptionId::WatchdogAction => {
                    let value = occurrence.text();
                    let refused = format!("Parameter 'watchdog' does not accept value '{value}'");
                    action.watchdog = watchdog_action(value).ok_or_else(|| occurrence.error(refused))?;
                }
                OptionId::NoReboot => action.reboot = RebootAction::Shutdown,
                OptionId::NoShutdown => action.shutdown = ShutdownAction::Pause,
                OptionId::Action => {
                    for (name, value) in parse_opts(&ACTION, occurrence, &mut warnings)?.values {
                        let refused = format!("Parameter '{name}' does not accept value '{value}'");
                        action.set(&name, &value).ok_or_else(|| occurrence.error(refused))?;
                    }
                }
                _ => (),
            }
        }
        self.warnings.append(&mut warnings);
        Ok(action)
    }

    /// `-overcommit`.
    ///
    /// # Errors
    /// Text that does not parse.
    pub fn overcommit(&mut self) -> Result<OvercommitOptions, CliError> {
        let opts = self.merged_opts(OptionId::Overcommit, &OVERCOMMIT)?;
        let get = |name| opts.get_bool(name).unwrap_or(false);
        Ok(OvercommitOptions { mem_lock: get("mem-lock"), cpu_pm: get("cpu-pm") })
    }
}
