//! `-sandbox`.

use util::option::{OptDesc, OptType, OptsDesc};

use super::{CliError, CommandLine, OptionId};

static SANDBOX: OptsDesc = OptsDesc {
    name: "sandbox",
    implied: Some("enable"),
    merge: false,
    descs: &[
        OptDesc { name: "enable", kind: OptType::Bool },
        OptDesc { name: "obsolete", kind: OptType::String },
        OptDesc { name: "elevateprivileges", kind: OptType::String },
        OptDesc { name: "spawn", kind: OptType::String },
        OptDesc { name: "resourcecontrol", kind: OptType::String },
    ],
};

/// Which system calls are taken from the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxOptions {
    /// Those that nobody uses any more.
    pub deny_obsolete: bool,
    /// Those that change who the process is.
    pub deny_privileges: bool,
    /// Those that start other processes.
    pub deny_spawn: bool,
    /// Those that say how much of the host's processors it gets.
    pub deny_resource_control: bool,
}

impl CommandLine {
    /// `-sandbox`; nothing where it is off.
    ///
    /// # Errors
    /// Text that does not parse, values that an option does not have.
    pub fn sandbox(&mut self) -> Result<Option<SandboxOptions>, CliError> {
        let Some(occurrence) = self.all(OptionId::Sandbox).next_back().cloned() else { return Ok(None) };
        let mut warnings = Vec::new();
        let opts = super::parse_opts(&SANDBOX, &occurrence, &mut warnings)?;
        self.warnings.append(&mut warnings);
        if !opts.get_bool("enable").unwrap_or(false) {
            return Ok(None);
        }
        let denied = |name: &str, default: bool, deny: &[&str]| match opts.get(name) {
            None => Ok(default),
            Some("allow") => Ok(false),
            Some(value) if deny.contains(&value) => Ok(true),
            Some(_) => Err(occurrence.error(format_args!("invalid argument for {name}"))),
        };
        Ok(Some(SandboxOptions {
            deny_obsolete: denied("obsolete", true, &["deny"])?,
            deny_privileges: denied("elevateprivileges", false, &["deny", "children"])?,
            deny_spawn: denied("spawn", false, &["deny"])?,
            deny_resource_control: denied("resourcecontrol", false, &["deny"])?,
        }))
    }
}
