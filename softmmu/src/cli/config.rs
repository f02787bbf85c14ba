//! `-readconfig` and `-set`: groups of a file become the options they stand for.

use std::fs;

use util::config::{self, Group};
use util::log::OsError;
use util::option::{Opts, OptsDesc, escape_value};

use super::{CliError, CommandLine, Location, Occurrence, OptionId, check_support};

/// Groups whose name is not the option's (`vm_config_groups` in QEMU).
const OTHER_NAMES: &[(&str, OptionId)] = &[
    ("smp-opts", OptionId::Smp),
    ("boot-opts", OptionId::Boot),
    ("memory", OptionId::Memory),
    ("acpi", OptionId::Acpitable),
];

/// Groups that are named as their options.
const SAME_NAMES: &[OptionId] = &[
    OptionId::Accel,
    OptionId::Action,
    OptionId::AddFd,
    OptionId::Chardev,
    OptionId::Device,
    OptionId::Drive,
    OptionId::Fsdev,
    OptionId::FwCfg,
    OptionId::Global,
    OptionId::Icount,
    OptionId::Iscsi,
    OptionId::Machine,
    OptionId::Mon,
    OptionId::Msg,
    OptionId::Name,
    OptionId::Net,
    OptionId::Netdev,
    OptionId::Nic,
    OptionId::Numa,
    OptionId::Object,
    OptionId::OptionRom,
    OptionId::Overcommit,
    OptionId::Plugin,
    OptionId::Rtc,
    OptionId::Sandbox,
    OptionId::Smbios,
    OptionId::Spice,
    OptionId::Tpmdev,
    OptionId::Trace,
    OptionId::Virtfs,
    OptionId::Vnc,
];

/// Options that are parsed as trees: QEMU keeps no list of them that `-set` could change.
const TREES: &[OptionId] = &[OptionId::Machine, OptionId::Object, OptionId::Smp, OptionId::Boot];

fn find_group(name: &str) -> Result<OptionId, String> {
    let other = OTHER_NAMES.iter().find(|(group, _)| *group == name).map(|(_, id)| *id);
    let found = other.or_else(|| SAME_NAMES.iter().copied().find(|id| id.name() == name));
    found.ok_or_else(|| format!("There is no option group '{name}'"))
}

impl CommandLine {
    /// Adds the options of a file.
    pub(super) fn read_config(&mut self, occurrence: &Occurrence) -> Result<(), CliError> {
        let file = occurrence.text();
        if fs::metadata(file).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(occurrence.error("Cannot read config file: Is a directory"));
        }
        let could_not_open =
            |error| occurrence.error(format_args!("Could not open '{file}': {}", OsError(error)));
        let bytes = fs::read(file).map_err(could_not_open)?;
        let text =
            String::from_utf8(bytes).map_err(|_| occurrence.error("Cannot read config file: not UTF-8"))?;
        let groups = config::parse(file, &text).map_err(|error| CliError::InFile(error.to_string()))?;
        for group in groups {
            let option = group_option(file, &group)?;
            check_support(&option)?;
            self.occurrences.push(option);
        }
        Ok(())
    }

    /// Changes an option that has an id.
    pub(super) fn set(&mut self, occurrence: &Occurrence) -> Result<(), CliError> {
        const ANY: OptsDesc = OptsDesc { name: "", implied: None, merge: false, descs: &[] };
        let set = config::parse_set(occurrence.text()).map_err(|error| occurrence.error(error))?;
        let option = find_group(set.group).map_err(|error| occurrence.error(error))?;
        if TREES.contains(&option) {
            return Err(occurrence.error(format_args!("-set is not supported with {}", set.group)));
        }
        let has_id = |candidate: &&mut Occurrence| {
            let text = candidate.text();
            let opts = Opts::parse(&ANY, text, &mut Vec::new());
            // Devices in JSON are in no list.
            candidate.id == option
                && !text.starts_with('{')
                && opts.is_ok_and(|opts| opts.id.as_deref() == Some(set.id))
        };
        let found = self.occurrences.iter_mut().find(has_id);
        let undefined = || occurrence.error(format_args!("there is no {} \"{}\" defined", set.group, set.id));
        let arg = found.and_then(|found| found.arg.as_mut()).ok_or_else(undefined)?;
        arg.push_str(&format!(",{}={}", set.arg, escape_value(set.value)));
        Ok(())
    }
}

/// The option that a group stands for.
fn group_option(file: &str, group: &Group) -> Result<Occurrence, CliError> {
    let location = Location::File { name: file.to_owned(), line: group.line };
    let id = find_group(&group.name).map_err(|error| location.error(error))?;
    let own_id = group.id.iter().map(|id| ("id", id.as_str()));
    let values = group.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let words: Vec<String> =
        own_id.chain(values).map(|(name, value)| format!("{name}={}", escape_value(value))).collect();
    Ok(Occurrence { id, arg: Some(words.join(",")), location })
}
