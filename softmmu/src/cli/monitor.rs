//! `-monitor`, `-qmp`, `-qmp-pretty` and `-mon` (softmmu/vl.c, monitor/monitor.c).

use util::option::{OptDesc, OptType, OptsDesc};

use super::{CliError, CommandLine, Location, Occurrence, OptionId, parse_opts};

static MON: OptsDesc = OptsDesc {
    name: "mon",
    implied: Some("chardev"),
    merge: false,
    descs: &[
        OptDesc { name: "mode", kind: OptType::String },
        OptDesc { name: "chardev", kind: OptType::String },
        OptDesc { name: "pretty", kind: OptType::Bool },
    ],
};

/// What is spoken at a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorMode {
    /// What people type (HMP).
    Readline,
    /// What programs send (QMP).
    Control {
        /// Output is indented.
        pretty: bool,
    },
}

/// Where a monitor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorPlace {
    /// On a chardev of its own, described as for `-serial`.
    Device(String),
    /// On the chardev of that id.
    Chardev(String),
}

/// A monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorOptions {
    /// What is spoken.
    pub mode: MonitorMode,
    /// Where it is.
    pub place: MonitorPlace,
    /// For messages.
    pub location: Location,
}

impl CommandLine {
    /// The monitors, in order; `None` for a `-monitor none`, which stands for the one there would be without it.
    ///
    /// # Errors
    /// A mode that does not exist, or text that does not parse.
    pub fn monitors(&mut self) -> Result<Vec<Option<MonitorOptions>>, CliError> {
        let mut monitors = Vec::new();
        let mut warnings = Vec::new();
        for occurrence in &self.occurrences {
            let mode = match occurrence.id {
                OptionId::Monitor if occurrence.text() == "none" => {
                    monitors.push(None);
                    continue;
                }
                OptionId::Mon => {
                    monitors.push(Some(mon(occurrence, &mut warnings)?));
                    continue;
                }
                OptionId::Monitor => MonitorMode::Readline,
                OptionId::Qmp => MonitorMode::Control { pretty: false },
                OptionId::QmpPretty => MonitorMode::Control { pretty: true },
                _ => continue,
            };
            let place = MonitorPlace::Device(occurrence.text().to_owned());
            monitors.push(Some(MonitorOptions { mode, place, location: occurrence.location.clone() }));
        }
        self.warnings.append(&mut warnings);
        Ok(monitors)
    }
}

/// `-mon`.
fn mon(occurrence: &Occurrence, warnings: &mut Vec<String>) -> Result<MonitorOptions, CliError> {
    let opts = parse_opts(&MON, occurrence, warnings)?;
    let pretty = opts.get_bool("pretty").unwrap_or(false);
    let Some(chardev) = opts.get("chardev") else {
        return Err(occurrence.error("Parameter 'chardev' is missing"));
    };
    let mode = match opts.get("mode") {
        None | Some("readline") if pretty => {
            return Err(occurrence.error("'pretty' is not compatible with HMP monitors"));
        }
        None | Some("readline") => MonitorMode::Readline,
        Some("control") => MonitorMode::Control { pretty },
        Some(other) => {
            return Err(occurrence.error(format_args!("Parameter 'mode' does not accept value '{other}'")));
        }
    };
    let place = MonitorPlace::Chardev(chardev.to_owned());
    Ok(MonitorOptions { mode, place, location: occurrence.location.clone() })
}
