//! The command line: QEMU 7.2's options, what was given of them, and what it means (softmmu/vl.c).
//!
//! [`CommandLine::parse`] turns `argv` into [`Occurrence`]s, in order, with `-readconfig` files read and
//! `-set` applied. The methods in the modules below read single options out of it with QEMU's checks:
//! [`CommandLine::smp`], [`CommandLine::memory`], [`CommandLine::machine`] and so on.

mod action;
mod add_fd;
mod boot;
mod config;
mod device;
mod drive;
mod firmware;
mod fsdev;
mod icount;
mod identity;
mod introspect;
mod machine;
mod memory;
mod monitor;
mod numa;
pub mod options;
mod rtc;
mod sandbox;
mod smp;
#[cfg(test)]
mod tests;
mod tree;

pub use action::{OvercommitOptions, PanicAction, RebootAction, ShutdownAction, WatchdogAction};
pub use add_fd::AddFdOptions;
pub use device::GlobalProperty;
pub use firmware::{FwCfgContent, FwCfgOptions, OptionRomOptions};
pub use introspect::option_parameters;
pub use machine::AcceleratorOptions;
pub use monitor::{MonitorMode, MonitorOptions, MonitorPlace};
pub use options::{OptionId, Support};
pub use rtc::{RtcBase, RtcClock};
pub use sandbox::SandboxOptions;
pub use smp::{CpuTopology, SmpLimits};
pub use tree::TreeOption;

use std::ffi::OsString;
use std::fmt;

use serde_json::Value;
use thiserror::Error;
use util::keyval::{self, Keyval};
use util::option::{OptError, Opts, OptsDesc};

/// Where an option came from: messages about it begin with this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// The command line: the option as typed, with its argument.
    CommandLine(String),
    /// A file of `-readconfig`.
    File {
        /// Its name.
        name: String,
        /// The line, from 1.
        line: usize,
    },
}

impl Location {
    /// A message about what was given here.
    pub fn error(&self, message: impl fmt::Display) -> CliError {
        let text = format!("{self}: {message}");
        match self {
            Self::CommandLine(_) => CliError::Message(text),
            Self::File { .. } => CliError::InFile(text),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine(text) => f.write_str(text),
            Self::File { name, line } => write!(f, "{name}:{line}"),
        }
    }
}

/// An option as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// Which option.
    pub id: OptionId,
    /// Its argument, for options that have one.
    pub arg: Option<String>,
    /// Where it was given.
    pub location: Location,
}

impl Occurrence {
    /// The argument, empty for options without one.
    pub fn text(&self) -> &str {
        self.arg.as_deref().unwrap_or_default()
    }

    /// A message about this option.
    pub fn error(&self, message: impl fmt::Display) -> CliError {
        self.location.error(message)
    }
}

/// How reading options ends other than well.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CliError {
    /// A mistake: for stderr, behind the program's name. Exit status 1.
    #[error("{0}")]
    Message(String),
    /// The same in a file: the message begins with its name and the line.
    #[error("{0}")]
    InFile(String),
    /// Help was asked for: for stdout. Exit status 0.
    #[error("{0}")]
    Help(String),
}

impl CliError {
    fn message(message: impl fmt::Display) -> Self {
        Self::Message(message.to_string())
    }

    /// The line for the user. A file's name follows the program's without a blank, as QEMU writes it.
    pub fn report(&self, program: &str) -> String {
        match self {
            Self::Message(text) => format!("{program}: {text}"),
            Self::InFile(text) => format!("{program}:{text}"),
            Self::Help(text) => text.clone(),
        }
    }
}

/// What was given on the command line and in the files it names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The options, in order.
    pub occurrences: Vec<Occurrence>,
    /// Warnings, to be printed after the program's name.
    pub warnings: Vec<String>,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A machine.
    Run(CommandLine),
    /// `-h`: the text of [`options::help`].
    Help,
    /// `-version`.
    Version,
}

impl CommandLine {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// An option that does not exist, that lacks its argument, or that is not supported.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, CliError> {
        let mut command_line = Self::default();
        for occurrence in lookup_all(args)? {
            check_support(&occurrence)?;
            match occurrence.id {
                OptionId::Help => return Ok(Request::Help),
                OptionId::Version => return Ok(Request::Version),
                OptionId::Readconfig => command_line.read_config(&occurrence)?,
                OptionId::Set => command_line.set(&occurrence)?,
                _ => command_line.occurrences.push(occurrence),
            }
        }
        Ok(Request::Run(command_line))
    }

    /// Every occurrence of an option.
    pub fn all(&self, id: OptionId) -> impl DoubleEndedIterator<Item = &Occurrence> {
        self.occurrences.iter().filter(move |occurrence| occurrence.id == id)
    }

    /// Whether an option was given.
    pub fn has(&self, id: OptionId) -> bool {
        self.all(id).next().is_some()
    }

    /// The argument of an option's last occurrence, which overrides the earlier ones.
    pub fn last(&self, id: OptionId) -> Option<&str> {
        self.all(id).next_back().map(Occurrence::text)
    }

    /// All occurrences of an option as one set of `name=value` options.
    fn merged_opts(&mut self, id: OptionId, desc: &OptsDesc) -> Result<Opts, CliError> {
        let mut merged = Opts::default();
        let mut warnings = Vec::new();
        for occurrence in self.all(id) {
            let opts = parse_opts(desc, occurrence, &mut warnings)?;
            merged.values.extend(opts.values);
        }
        self.warnings.append(&mut warnings);
        Ok(merged)
    }

    /// All occurrences of an option as one tree. What some options say is a property of the machine, too, and can be
    /// said as `-machine smp.cpus=4`.
    fn merged_keyval(&self, id: OptionId, implied_key: &str) -> Result<Keyval, CliError> {
        let mut merged = Keyval::default();
        let property = machine::SUGAR.iter().find(|(option, _)| *option == id).map(|(_, property)| *property);
        for occurrence in self.occurrences.iter() {
            let tree = match property {
                _ if occurrence.id == id => parse_keyval(occurrence, implied_key)?,
                Some(property) if occurrence.id == OptionId::Machine => {
                    let mut tree = parse_keyval(occurrence, "type")?;
                    let Some(Value::Object(map)) = tree.map.remove(property) else { continue };
                    Keyval { map, help: false }
                }
                _ => continue,
            };
            merged.help |= tree.help;
            keyval::merge(&mut merged.map, tree.map).map_err(CliError::message)?;
        }
        Ok(merged)
    }
}

fn parse_keyval(occurrence: &Occurrence, implied_key: &str) -> Result<Keyval, CliError> {
    keyval::parse(occurrence.text(), Some(implied_key)).map_err(|error| occurrence.error(error))
}

/// Parses one occurrence; errors and warnings are told with its place.
fn parse_opts(
    desc: &OptsDesc,
    occurrence: &Occurrence,
    warnings: &mut Vec<String>,
) -> Result<Opts, CliError> {
    let mut found = Vec::new();
    let opts = Opts::parse(desc, occurrence.text(), &mut found);
    warnings.extend(found.into_iter().map(|warning| format!("{}: warning: {warning}", occurrence.location)));
    opts.map_err(|error| match error {
        OptError::Help(text) => CliError::Help(text),
        error => occurrence.error(error),
    })
}

/// Looks up every option before any is acted on, as QEMU does. A word that is none is the first hard disk's image.
fn lookup_all(args: impl IntoIterator<Item = OsString>) -> Result<Vec<Occurrence>, CliError> {
    let mut occurrences = Vec::new();
    let mut args = args.into_iter();
    while let Some(word) = args.next() {
        let word = utf8(word)?;
        let Some(name) = word.strip_prefix('-') else {
            let location = Location::CommandLine(word.clone());
            occurrences.push(Occurrence { id: OptionId::Hda, arg: Some(word), location });
            continue;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        let Some(option) = options::lookup(name) else {
            return Err(CliError::message(format_args!("{word}: invalid option")));
        };
        let arg = if option.has_arg {
            let missing = || CliError::message(format_args!("{word}: requires an argument"));
            Some(utf8(args.next().ok_or_else(missing)?)?)
        } else {
            None
        };
        let text = arg.as_ref().map_or_else(|| word.clone(), |arg| format!("{word} {arg}"));
        occurrences.push(Occurrence { id: option.id, arg, location: Location::CommandLine(text) });
    }
    Ok(occurrences)
}

fn utf8(word: OsString) -> Result<String, CliError> {
    word.into_string().map_err(|word| CliError::message(format_args!("{}: not UTF-8", word.display())))
}

/// Refuses options, and arguments of options, that are not there yet.
fn check_support(occurrence: &Occurrence) -> Result<(), CliError> {
    let name = occurrence.id.name();
    match occurrence.id.def().support {
        Support::Full => Ok(()),
        Support::NoneOnly if occurrence.text() == "none" => Ok(()),
        Support::NoneOnly => Err(occurrence.error(format_args!("-{name}: only 'none' is supported yet"))),
        Support::OtherTarget => Err(occurrence.error("Option not supported for this target")),
        Support::Later => Err(occurrence.error(format_args!("-{name}: not supported yet"))),
    }
}
