//! `-fw_cfg`, `-smbios`, `-acpitable`: what firmware and guest are told beside what the machine says itself.

use std::fs;

use hw_acpi::tables::{HeaderField, UserTable};
use hw_smbios::{OnboardDevice, PortConnector, SmbiosOptions};
use util::cutils::strtou64;
use util::log::OsError;
use util::option::{OptDesc, OptType, Opts, OptsDesc};

use super::identity::parse_uuid;
use super::{CliError, CommandLine, Location, Occurrence, OptionId, parse_opts};

const fn text(name: &'static str) -> OptDesc {
    OptDesc { name, kind: OptType::String }
}

const fn number(name: &'static str) -> OptDesc {
    OptDesc { name, kind: OptType::Number }
}

static FW_CFG: OptsDesc = OptsDesc {
    name: "fw_cfg",
    implied: Some("name"),
    merge: false,
    descs: &[text("name"), text("file"), text("string"), text("gen_id")],
};

/// A file of fw_cfg's that the user gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FwCfgOptions {
    /// Its name.
    pub name: String,
    /// What is in it, or the id of an object that makes it.
    pub content: FwCfgContent,
    /// The option.
    pub location: Location,
}

/// What is in a file of fw_cfg's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FwCfgContent {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What an object makes.
    Generated(String),
}

static OPTION_ROM: OptsDesc = OptsDesc {
    name: "option-rom",
    implied: Some("romfile"),
    merge: false,
    descs: &[number("bootindex"), text("romfile")],
};
/// How many there can be.
const MAX_OPTION_ROMS: usize = 16;

/// An option ROM that the user gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionRomOptions {
    /// Its file.
    pub file: String,
    /// Its place among what firmware boots from, -1 for none.
    pub bootindex: i32,
    /// The option.
    pub location: Location,
}

/// Longest name of a file, and its terminating zero.
const MAX_FILE_PATH: usize = 56;

static ANY: OptsDesc = OptsDesc { name: "smbios", implied: None, merge: false, descs: &[] };
/// Fields by type.
static SMBIOS_FIELDS: [(u8, &[OptDesc]); 9] = [
    (
        0,
        &[
            text("vendor"),
            text("version"),
            text("date"),
            text("release"),
            OptDesc { name: "uefi", kind: OptType::Bool },
        ],
    ),
    (
        1,
        &[
            text("manufacturer"),
            text("product"),
            text("version"),
            text("serial"),
            text("uuid"),
            text("sku"),
            text("family"),
        ],
    ),
    (
        2,
        &[
            text("manufacturer"),
            text("product"),
            text("version"),
            text("serial"),
            text("asset"),
            text("location"),
        ],
    ),
    (3, &[text("manufacturer"), text("version"), text("serial"), text("asset"), text("sku")]),
    (
        4,
        &[
            text("sock_pfx"),
            text("manufacturer"),
            text("version"),
            number("max-speed"),
            number("current-speed"),
            text("serial"),
            text("asset"),
            text("part"),
            number("processor-id"),
        ],
    ),
    (
        8,
        &[
            text("internal_reference"),
            text("external_reference"),
            number("connector_type"),
            number("port_type"),
        ],
    ),
    (11, &[text("value"), text("path")]),
    (
        17,
        &[
            text("loc_pfx"),
            text("bank"),
            text("manufacturer"),
            text("serial"),
            text("asset"),
            text("part"),
            number("speed"),
        ],
    ),
    (41, &[text("designation"), text("kind"), number("instance"), text("pcidev")]),
];
/// Types there can be.
const SMBIOS_MAX_TYPE: u64 = 127;
/// Bytes of a structure's header.
const SMBIOS_HEADER: usize = 4;
/// Kinds of devices on the board, from 1.
const ONBOARD_KINDS: [&str; 10] =
    ["other", "unknown", "video", "scsi", "ethernet", "tokenring", "sound", "pata", "sata", "sas"];

static ACPI: OptsDesc = OptsDesc { name: "acpi", implied: Some("data"), merge: false, descs: &[] };

impl CommandLine {
    /// `-fw_cfg`, in order.
    ///
    /// # Errors
    /// A name that is missing or too long, none or several contents, a file that cannot be read.
    pub fn fw_cfg(&mut self) -> Result<Vec<FwCfgOptions>, CliError> {
        let mut warnings = Vec::new();
        let mut files = Vec::new();
        for occurrence in self.all(OptionId::FwCfg) {
            let opts = parse_opts(&FW_CFG, occurrence, &mut warnings)?;
            files.push(fw_cfg_file(&opts, occurrence, &mut warnings)?);
        }
        self.warnings.append(&mut warnings);
        Ok(files)
    }

    /// `-option-rom`, in order.
    ///
    /// # Errors
    /// One without a file, or too many.
    pub fn option_roms(&mut self) -> Result<Vec<OptionRomOptions>, CliError> {
        let mut warnings = Vec::new();
        let mut roms = Vec::new();
        for occurrence in self.all(OptionId::OptionRom) {
            if roms.len() == MAX_OPTION_ROMS {
                return Err(occurrence.error("too many option ROMs"));
            }
            let opts = parse_opts(&OPTION_ROM, occurrence, &mut warnings)?;
            let Some(file) = opts.get("romfile") else {
                return Err(occurrence.error("Option ROM file is not specified"));
            };
            let bootindex = opts
                .get("bootindex")
                .and_then(|text| strtou64(text, 0).ok())
                .map_or(-1, |index| index as i32);
            let location = occurrence.location.clone();
            roms.push(OptionRomOptions { file: file.to_owned(), bootindex, location });
        }
        self.warnings.append(&mut warnings);
        Ok(roms)
    }

    /// `-smbios`, all of them together, and the machine's UUID where type 1 gives one.
    ///
    /// # Errors
    /// Types and fields that do not exist, values that do not fit, files that cannot be read.
    pub fn smbios(&mut self) -> Result<(SmbiosOptions, Option<[u8; 16]>), CliError> {
        let mut warnings = Vec::new();
        let (mut smbios, mut uuid) = (SmbiosOptions::default(), None);
        for occurrence in self.all(OptionId::Smbios) {
            let opts = parse_opts(&ANY, occurrence, &mut warnings)?;
            let result = match (opts.get("file"), opts.get("type")) {
                (Some(file), _) => add_smbios_file(&mut smbios, &opts, file),
                (None, Some(kind)) => add_smbios_fields(&mut smbios, &mut uuid, &opts, kind),
                (None, None) => Err("Must specify type= or file=".to_owned()),
            };
            result.map_err(|error| occurrence.error(error))?;
        }
        self.warnings.append(&mut warnings);
        Ok((smbios, uuid))
    }

    /// `-acpitable`, in order.
    ///
    /// # Errors
    /// Fields that do not exist or do not fit, files that cannot be read, tables that are too short or too large.
    pub fn acpi_tables(&mut self) -> Result<Vec<UserTable>, CliError> {
        let mut warnings = Vec::new();
        let mut tables = Vec::new();
        for occurrence in self.all(OptionId::Acpitable) {
            let opts = parse_opts(&ACPI, occurrence, &mut warnings)?;
            let table = acpi_table(&opts).map_err(|error| occurrence.error(error))?;
            let told =
                table.warnings().iter().map(|warning| format!("{}: warning: {warning}", occurrence.location));
            warnings.extend(told);
            tables.push(table);
        }
        self.warnings.append(&mut warnings);
        Ok(tables)
    }
}

fn fw_cfg_file(
    opts: &Opts,
    occurrence: &Occurrence,
    warnings: &mut Vec<String>,
) -> Result<FwCfgOptions, CliError> {
    let get = |name: &str| opts.get(name).filter(|value| !value.is_empty());
    let (name, content) = match (get("name"), get("file"), get("string"), get("gen_id")) {
        (Some(name), Some(file), None, None) => {
            let bytes = fs::read(file).map_err(|error| {
                let why = format!("Failed to open file “{file}”: {}", OsError(error));
                occurrence.error(format_args!("can't load {file}: {why}"))
            })?;
            (name, FwCfgContent::Bytes(bytes))
        }
        (Some(name), None, Some(string), None) => (name, FwCfgContent::Bytes(string.as_bytes().to_vec())),
        (Some(name), None, None, Some(id)) => (name, FwCfgContent::Generated(id.to_owned())),
        _ => {
            return Err(occurrence.error("name, plus exactly one of file, string and gen_id, are needed"));
        }
    };
    if name.len() >= MAX_FILE_PATH {
        return Err(occurrence.error(format_args!("name too long (max. {} char)", MAX_FILE_PATH - 1)));
    }
    if !name.starts_with("opt/") && matches!(content, FwCfgContent::Bytes(_)) {
        warnings.push(format!(
            "{}: warning: externally provided fw_cfg item names should be prefixed with \"opt/\"",
            occurrence.location
        ));
    }
    Ok(FwCfgOptions { name: name.to_owned(), content, location: occurrence.location.clone() })
}

fn add_smbios_file(smbios: &mut SmbiosOptions, opts: &Opts, file: &str) -> Result<(), String> {
    if let Some((name, _)) = opts.values.iter().find(|(name, _)| name != "file") {
        return Err(format!("Invalid parameter '{name}'"));
    }
    let structure = fs::read(file).map_err(|_| format!("Cannot read SMBIOS file {file}"))?;
    let Some(kind) = structure.first().copied().filter(|_| structure.len() >= SMBIOS_HEADER) else {
        return Err(format!("Cannot read SMBIOS file {file}"));
    };
    if smbios.kinds.contains(&kind) {
        return Err(format!("can't load type {kind} struct, fields already specified!"));
    }
    smbios.files.push(structure);
    Ok(())
}

fn add_smbios_fields(
    smbios: &mut SmbiosOptions,
    uuid: &mut Option<[u8; 16]>,
    opts: &Opts,
    kind: &str,
) -> Result<(), String> {
    let kind = strtou64(kind, 0).unwrap_or_default();
    let kind = u8::try_from(kind).ok().filter(|_| kind <= SMBIOS_MAX_TYPE).ok_or("out of range!")?;
    if smbios.has_file(kind) {
        return Err("can't add fields, binary file already loaded!".to_owned());
    }
    smbios.kinds.insert(kind);
    let Some((_, descs)) = SMBIOS_FIELDS.iter().find(|(known, _)| *known == kind) else {
        return Err(format!("Don't know how to build fields for SMBIOS type {kind}"));
    };
    let desc = OptsDesc { name: "smbios", implied: None, merge: false, descs };
    let mut checked = Opts::default();
    for (name, value) in opts.values.iter().filter(|(name, _)| name != "type") {
        checked.set(&desc, name.clone(), value.clone()).map_err(|error| error.to_string())?;
    }
    let get = |name: &str| checked.get(name).unwrap_or_default().to_owned();
    match kind {
        8 => smbios.ports.push(PortConnector {
            internal_reference: get("internal_reference"),
            external_reference: get("external_reference"),
            connector_type: checked.get_number("connector_type").unwrap_or_default() as u8,
            port_type: checked.get_number("port_type").unwrap_or_default() as u8,
        }),
        11 => {
            for (name, value) in &checked.values {
                smbios.oem_strings.push(oem_string(name, value)?);
            }
        }
        41 => smbios.onboard.push(onboard_device(&checked)?),
        _ => keep_fields(smbios, uuid, kind, &checked)?,
    }
    Ok(())
}

fn keep_fields(
    smbios: &mut SmbiosOptions,
    uuid: &mut Option<[u8; 16]>,
    kind: u8,
    opts: &Opts,
) -> Result<(), String> {
    for speed in ["max-speed", "current-speed"] {
        if opts.get_number(speed).is_some_and(|speed| speed > u16::MAX.into()) {
            return Err(format!("SMBIOS CPU speed is too large (> {})", u16::MAX));
        }
    }
    if let Some(text) = opts.get("uuid") {
        *uuid = Some(parse_uuid(text).ok_or("Invalid UUID")?);
    }
    if let Some(text) = opts.get("release") {
        let part = |text: &str| text.parse::<u8>().ok();
        let parts = text.split_once('.').and_then(|(major, minor)| Some((part(major)?, part(minor)?)));
        smbios.release = Some(parts.ok_or("Invalid release")?);
    }
    if kind == 0 {
        smbios.uefi = opts.get_bool("uefi").unwrap_or(false);
    }
    for (name, value) in &opts.values {
        // Numbers are kept as decimals.
        let number = ["max-speed", "current-speed", "processor-id", "speed"].contains(&name.as_str());
        let value = match opts.get_number(name) {
            Some(value) if number => value.to_string(),
            _ => value.clone(),
        };
        smbios.fields.insert((kind, name.clone()), value);
    }
    Ok(())
}

fn oem_string(name: &str, value: &str) -> Result<String, String> {
    if name == "value" {
        return Ok(value.to_owned());
    }
    let bytes = fs::read(value).map_err(|error| format!("Could not open '{value}': {}", OsError(error)))?;
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(format!("NUL in OEM strings value in {value}")),
    }
}

fn onboard_device(opts: &Opts) -> Result<OnboardDevice, String> {
    let kind = opts.get("kind").unwrap_or("other");
    let Some(at) = ONBOARD_KINDS.iter().position(|known| *known == kind) else {
        return Err(format!("invalid parameter value: {kind}"));
    };
    Ok(OnboardDevice {
        designation: opts.get("designation").unwrap_or_default().to_owned(),
        kind: at as u8 + 1,
        instance: opts.get_number("instance").unwrap_or(1) as u8,
        pcidev: opts.get("pcidev").map(str::to_owned),
        devfn: 0,
    })
}

/// Fields of an ACPI table's header that can be said.
const ACPI_FIELDS: [&str; 9] = [
    "sig",
    "rev",
    "oem_id",
    "oem_table_id",
    "oem_rev",
    "asl_compiler_id",
    "asl_compiler_rev",
    "file",
    "data",
];

fn acpi_table(opts: &Opts) -> Result<UserTable, String> {
    if let Some((name, _)) = opts.values.iter().find(|(name, _)| !ACPI_FIELDS.contains(&name.as_str())) {
        return Err(format!("Invalid parameter '{name}'"));
    }
    let number = |name: &str, bits: u32| match opts.get(name) {
        None => Ok(None),
        Some(text) => {
            let value =
                strtou64(text, 0).map_err(|_| format!("Parameter '{name}' expects a uint64 value"))?;
            match value >> bits {
                0 => Ok(Some(value as u32)),
                _ => Err(format!("Parameter '{name}' expects uint{bits}_t")),
            }
        }
    };
    let (names, has_header) = match (opts.get("file"), opts.get("data")) {
        (Some(file), None) => (file, true),
        (None, Some(data)) => (data, false),
        _ => return Err("'-acpitable' requires one of 'data' or 'file'".to_owned()),
    };
    if names.is_empty() {
        return Err("'-acpitable' requires at least one pathname".to_owned());
    }
    let mut blob = Vec::new();
    for name in names.split(':') {
        let bytes = fs::read(name).map_err(|error| format!("can't open file {name}: {}", OsError(error)))?;
        blob.extend(bytes);
    }
    let mut fields = Vec::new();
    for (name, at, size) in
        [("sig", 0, 4), ("oem_id", 10, 6), ("oem_table_id", 16, 8), ("asl_compiler_id", 28, 4)]
    {
        fields.extend(opts.get(name).map(|text| HeaderField { at, size, value: text.as_bytes().to_vec() }));
    }
    for (name, at, size) in [("rev", 8, 1), ("oem_rev", 24, 4), ("asl_compiler_rev", 32, 4)] {
        let value = number(name, 8 * size as u32)?;
        fields.extend(value.map(|value| HeaderField { at, size, value: value.to_le_bytes().to_vec() }));
    }
    UserTable::new(&blob, has_header, &fields).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smbios(text: &str) -> Result<SmbiosOptions, String> {
        let opts = Opts::parse(&ANY, text, &mut Vec::new()).unwrap();
        let (mut smbios, mut uuid) = (SmbiosOptions::default(), None);
        let kind = opts.get("type").unwrap().to_owned();
        add_smbios_fields(&mut smbios, &mut uuid, &opts, &kind).map(|()| smbios)
    }

    #[test]
    fn smbios_fields_are_checked() {
        assert_eq!(smbios("type=1,serial=5").unwrap().text(1, "serial"), Some("5"));
        assert_eq!(smbios("type=4,max-speed=0x10").unwrap().number(4, "max-speed", 0), 16);
        assert_eq!(smbios("type=0,release=1.2").unwrap().release, Some((1, 2)));
        assert_eq!(smbios("type=11,value=a,value=b").unwrap().oem_strings, ["a", "b"]);
        assert_eq!(smbios("type=1,foo=5").unwrap_err(), "Invalid parameter 'foo'");
        assert_eq!(smbios("type=200").unwrap_err(), "out of range!");
        assert_eq!(smbios("type=9").unwrap_err(), "Don't know how to build fields for SMBIOS type 9");
        assert_eq!(smbios("type=4,max-speed=65536").unwrap_err(), "SMBIOS CPU speed is too large (> 65535)");
        assert_eq!(smbios("type=1,uuid=x").unwrap_err(), "Invalid UUID");
    }
}
