//! `-machine`, `-accel` and `-enable-kvm`.

use serde_json::{Map, Value};
use util::option::OptsDesc;

use super::{CliError, CommandLine, Location, OptionId, parse_opts};

static ACCEL: OptsDesc = OptsDesc { name: "accel", implied: Some("accel"), merge: false, descs: &[] };

/// Options that stand for a property of the machine with members, and which.
pub(super) const SUGAR: [(OptionId, &str); 3] =
    [(OptionId::Smp, "smp"), (OptionId::Boot, "boot"), (OptionId::Memory, "memory")];

/// What `-machine` gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineOptions {
    /// The machine, or the default one.
    pub name: Option<String>,
    /// Properties, of the machine and of the accelerator (`kernel-irqchip`), without `accel`.
    pub properties: Map<String, Value>,
    /// Whether the properties are to be listed.
    pub help: bool,
}

/// An accelerator to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratorOptions {
    /// Its name; `help` for a list.
    pub name: String,
    /// Its properties.
    pub properties: Vec<(String, String)>,
    /// The option, where it is one of its own.
    pub location: Option<Location>,
}

impl CommandLine {
    /// `-machine` and `-M`, all of them together.
    ///
    /// # Errors
    /// Text that does not parse.
    pub fn machine(&self) -> Result<MachineOptions, CliError> {
        let keyval = self.merged_keyval(OptionId::Machine, "type")?;
        let mut properties = keyval.map;
        properties.remove("accel");
        for (_, property) in SUGAR {
            if properties.get(property).is_some_and(Value::is_object) {
                properties.remove(property);
            }
        }
        let name = match properties.remove("type") {
            Some(Value::String(name)) => Some(name),
            Some(_) => return Err(CliError::message("Invalid parameter type for 'type', expected: string")),
            None => None,
        };
        // `help` for a name lists the machines.
        let lists = name.is_none() && keyval.help;
        Ok(MachineOptions {
            name: if lists { Some("help".to_owned()) } else { name },
            properties,
            help: keyval.help,
        })
    }

    /// The members of a property of all of `-machine` together.
    pub(super) fn machine_members(&self, property: &str) -> Result<Map<String, Value>, CliError> {
        match self.merged_keyval(OptionId::Machine, "type")?.map.remove(property) {
            Some(Value::Object(members)) => Ok(members),
            _ => Ok(Map::new()),
        }
    }

    /// The accelerators to try, in order; none: what is the default.
    ///
    /// # Errors
    /// Text that does not parse, `-accel` together with `-machine accel=`, an empty list.
    pub fn accelerators(&mut self) -> Result<Vec<AcceleratorOptions>, CliError> {
        let mut warnings = Vec::new();
        let mut accelerators = Vec::new();
        for occurrence in self.all(OptionId::Accel) {
            let mut opts = parse_opts(&ACCEL, occurrence, &mut warnings)?;
            // Of several, the last counts.
            let name = opts.get("accel").filter(|name| !name.is_empty()).unwrap_or("help").to_owned();
            opts.values.retain(|(key, _)| key != "accel");
            let location = Some(occurrence.location.clone());
            accelerators.push(AcceleratorOptions { name, properties: opts.values, location });
        }
        self.warnings.append(&mut warnings);
        match self.machine_accel()? {
            Some(_) if !accelerators.is_empty() => {
                Err(CliError::message("The -accel and \"-machine accel=\" options are incompatible"))
            }
            Some(list) => {
                let names = list.split(':').filter(|name| !name.is_empty());
                let from_name = |name: &str| AcceleratorOptions {
                    name: name.to_owned(),
                    properties: Vec::new(),
                    location: None,
                };
                accelerators.extend(names.map(from_name));
                if accelerators.is_empty() {
                    return Err(CliError::message("no accelerator found"));
                }
                Ok(accelerators)
            }
            None => Ok(accelerators),
        }
    }

    /// `-machine accel=` and `-enable-kvm`, which stands for it: the last one counts.
    fn machine_accel(&self) -> Result<Option<String>, CliError> {
        let mut accel = None;
        for occurrence in &self.occurrences {
            match occurrence.id {
                OptionId::EnableKvm => accel = Some("kvm".to_owned()),
                OptionId::Machine => {
                    let parsed = util::keyval::parse(occurrence.text(), Some("type"));
                    match parsed.map_err(|error| occurrence.error(error))?.map.remove("accel") {
                        Some(Value::String(list)) => accel = Some(list),
                        Some(_) => {
                            return Err(
                                occurrence.error("Invalid parameter type for 'accel', expected: string")
                            );
                        }
                        None => (),
                    }
                }
                _ => (),
            }
        }
        Ok(accel)
    }
}
