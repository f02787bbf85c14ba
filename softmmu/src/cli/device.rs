//! `-device`, `-object`, `-chardev` and `-global`: what is made, with which properties.

use serde_json::{Map, Value};
use util::keyval;
use util::option::{OptDesc, OptType, OptsDesc, id_wellformed};

use super::fsdev::virtfs_device;
use super::{CliError, CommandLine, Location, Occurrence, OptionId, parse_opts};

static DEVICE: OptsDesc = OptsDesc { name: "device", implied: Some("driver"), merge: false, descs: &[] };
static CHARDEV: OptsDesc = OptsDesc { name: "chardev", implied: Some("backend"), merge: false, descs: &[] };
static GLOBAL: OptsDesc = OptsDesc {
    name: "global",
    implied: None,
    merge: false,
    descs: &[
        OptDesc { name: "driver", kind: OptType::String },
        OptDesc { name: "property", kind: OptType::String },
        OptDesc { name: "value", kind: OptType::String },
    ],
};

/// A device to make.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceOptions {
    /// Its type; `help` for a list.
    pub driver: String,
    /// Its id.
    pub id: Option<String>,
    /// Its properties, in order; strings but for those from JSON.
    pub properties: Vec<(String, Value)>,
    /// It was given as JSON.
    pub json: bool,
    /// Whether its properties are to be listed instead.
    pub help: bool,
    /// The option.
    pub location: Location,
}

/// An object to make.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectOptions {
    /// Its type; `help` for a list.
    pub qom_type: String,
    /// Its id, empty only where help is asked for.
    pub id: String,
    /// Its properties, sorted; strings but for those from JSON.
    pub properties: Map<String, Value>,
    /// It was given as JSON.
    pub json: bool,
    /// Whether its properties are to be listed instead.
    pub help: bool,
    /// The option.
    pub location: Location,
}

/// Options of `-chardev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedOptions {
    /// The id, where there is one.
    pub id: Option<String>,
    /// Names and values, the backend's as `backend`.
    pub values: Vec<(String, String)>,
    /// The option.
    pub location: Location,
}

/// A new default for a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalProperty {
    /// The type.
    pub driver: String,
    /// The property.
    pub property: String,
    /// Its default.
    pub value: String,
    /// The option.
    pub location: Location,
}

impl CommandLine {
    /// `-device`, and what `-virtfs` stands for, in order.
    ///
    /// # Errors
    /// Text that does not parse, a device without a type, an id twice.
    pub fn devices(&mut self) -> Result<Vec<DeviceOptions>, CliError> {
        let mut warnings = Vec::new();
        let mut devices: Vec<DeviceOptions> = Vec::new();
        for occurrence in &self.occurrences {
            let device = match occurrence.id {
                OptionId::Device => device(occurrence, &mut warnings)?,
                OptionId::Virtfs => virtfs_device(occurrence)?,
                _ => continue,
            };
            if let Some(id) =
                device.id.as_ref().filter(|id| devices.iter().any(|other| other.id.as_ref() == Some(*id)))
            {
                return Err(occurrence.error(format_args!("Duplicate ID '{id}' for device")));
            }
            devices.push(device);
        }
        self.warnings.append(&mut warnings);
        Ok(devices)
    }

    /// `-object`, in order.
    ///
    /// # Errors
    /// Text that does not parse, an object without type or id.
    pub fn objects(&self) -> Result<Vec<ObjectOptions>, CliError> {
        self.all(OptionId::Object).map(object).collect()
    }

    /// `-chardev`, in order.
    ///
    /// # Errors
    /// Text that does not parse, an id twice.
    pub fn chardevs(&mut self) -> Result<Vec<NamedOptions>, CliError> {
        let mut warnings = Vec::new();
        let mut chardevs: Vec<NamedOptions> = Vec::new();
        for occurrence in self.all(OptionId::Chardev) {
            let opts = parse_opts(&CHARDEV, occurrence, &mut warnings)?;
            if let Some(id) =
                opts.id.as_ref().filter(|id| chardevs.iter().any(|other| other.id.as_ref() == Some(*id)))
            {
                return Err(occurrence.error(format_args!("Duplicate ID '{id}' for chardev")));
            }
            chardevs.push(NamedOptions {
                id: opts.id,
                values: opts.values,
                location: occurrence.location.clone(),
            });
        }
        self.warnings.append(&mut warnings);
        Ok(chardevs)
    }

    /// `-global`, in order: a later one overrides an earlier one.
    ///
    /// # Errors
    /// Text that does not parse, or that lacks one of the three.
    pub fn globals(&mut self) -> Result<Vec<GlobalProperty>, CliError> {
        let mut warnings = Vec::new();
        let globals = self.all(OptionId::Global).map(|occurrence| global(occurrence, &mut warnings));
        let globals = globals.collect::<Result<_, _>>()?;
        self.warnings.append(&mut warnings);
        Ok(globals)
    }
}

fn device(occurrence: &Occurrence, warnings: &mut Vec<String>) -> Result<DeviceOptions, CliError> {
    let missing = || occurrence.error("Parameter 'driver' is missing");
    let location = occurrence.location.clone();
    if occurrence.text().starts_with('{') {
        let mut map = tree(occurrence, "driver")?.map;
        let driver = take_string(&mut map, "driver", occurrence)?.ok_or_else(missing)?;
        let id = take_string(&mut map, "id", occurrence)?;
        check_id(id.as_deref(), occurrence)?;
        return Ok(DeviceOptions {
            driver,
            id,
            properties: map.into_iter().collect(),
            json: true,
            help: false,
            location,
        });
    }
    let opts = parse_opts(&DEVICE, occurrence, warnings)?;
    let driver = opts.get("driver").ok_or_else(missing)?.to_owned();
    let is_help = |name: &str| matches!(name, "help" | "?");
    let help = opts.values.iter().any(|(name, _)| is_help(name));
    let properties = opts.values.into_iter().filter(|(name, _)| name != "driver" && !is_help(name));
    let properties = properties.map(|(name, value)| (name, Value::String(value))).collect();
    Ok(DeviceOptions { driver, id: opts.id, properties, json: false, help, location })
}

fn object(occurrence: &Occurrence) -> Result<ObjectOptions, CliError> {
    let missing = |name: &str| occurrence.error(format_args!("Parameter '{name}' is missing"));
    let keyval = tree(occurrence, "qom-type")?;
    let mut properties = keyval.map;
    let qom_type = match take_string(&mut properties, "qom-type", occurrence)? {
        None if keyval.help => "help".to_owned(),
        qom_type => qom_type.ok_or_else(|| missing("qom-type"))?,
    };
    let id = match take_string(&mut properties, "id", occurrence)? {
        None if keyval.help => String::new(),
        id => id.ok_or_else(|| missing("id"))?,
    };
    check_id(Some(id.as_str()).filter(|_| !keyval.help), occurrence)?;
    let (json, location) = (occurrence.text().starts_with('{'), occurrence.location.clone());
    Ok(ObjectOptions { qom_type, id, properties, json, help: keyval.help, location })
}

fn global(occurrence: &Occurrence, warnings: &mut Vec<String>) -> Result<GlobalProperty, CliError> {
    let location = occurrence.location.clone();
    if let Some((driver, property, value)) = short_global(occurrence.text()) {
        let [driver, property, value] = [driver, property, value].map(str::to_owned);
        return Ok(GlobalProperty { driver, property, value, location });
    }
    let opts = parse_opts(&GLOBAL, occurrence, warnings)?;
    let required = || occurrence.error("options 'driver', 'property', and 'value' are required");
    let get = |name| opts.get(name).map(str::to_owned).ok_or_else(required);
    Ok(GlobalProperty { driver: get("driver")?, property: get("property")?, value: get("value")?, location })
}

/// `driver.property=value`. Only the first dot and the first `=` behind it count.
fn short_global(text: &str) -> Option<(&str, &str, &str)> {
    let (driver, rest) = text.split_once('.')?;
    let (property, value) = rest.split_once('=')?;
    let given = !driver.is_empty() && !driver.contains('=') && !property.is_empty();
    given.then_some((driver, property, value))
}

fn tree(occurrence: &Occurrence, implied_key: &str) -> Result<keyval::Keyval, CliError> {
    keyval::parse_or_json(occurrence.text(), Some(implied_key)).map_err(|error| occurrence.error(error))
}

fn take_string(
    map: &mut Map<String, Value>,
    name: &str,
    occurrence: &Occurrence,
) -> Result<Option<String>, CliError> {
    match map.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => {
            Err(occurrence.error(format_args!("Invalid parameter type for '{name}', expected: string")))
        }
    }
}

fn check_id(id: Option<&str>, occurrence: &Occurrence) -> Result<(), CliError> {
    match id {
        Some(id) if !id_wellformed(id) => Err(occurrence.error(
            "Parameter 'id' expects an identifier\n\
             Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
        )),
        _ => Ok(()),
    }
}
