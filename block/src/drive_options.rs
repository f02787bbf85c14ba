//! The options of a drive's nodes, as `-drive` has them: names with dots, sizes with suffixes, and drivers that are told
//! by names and first bytes where none is said (block.c, `bdrv_fill_options`).

use qapi::from_keyval;
use qom::{Error, Result, bail};
use serde_json::{Map, Value};
use util::cutils::{SizeUnit, strtosz};
use util::keyval;

use crate::filename;
use crate::node::{self, Inherited};
use crate::options::BlockdevOptions;

/// Drivers that have another node as their file.
const WITH_FILE: [&str; 4] = ["copy-on-read", "qcow2", "raw", "throttle"];
/// Drivers that open what is no node.
const PROTOCOLS: [&str; 5] = ["blkdebug", "file", "host_device", "null-aio", "null-co"];
/// Options that are numbers of bytes.
const SIZES: [&str; 3] = ["l2-cache-size", "offset", "size"];

/// Options with dots in their names as a tree.
pub(crate) fn crumpled(values: &[(String, String)]) -> Result<Map<String, Value>> {
    let text: Vec<_> =
        values.iter().map(|(name, value)| format!("{name}={}", util::option::escape_value(value))).collect();
    Ok(keyval::parse(&text.join(","), None).map_err(|e| Error::new(e.to_string()))?.map)
}

/// The options of `file=NAME` together with those given as `file.…=`: where they name a driver that is no protocol, the
/// name is that of the file below.
pub(crate) fn options_below(name: Option<&str>, given: Option<Value>) -> Result<Value> {
    let mut given = match given {
        Some(Value::Object(given)) => given,
        _ => Map::new(),
    };
    let Some(name) = name else { return Ok(Value::Object(given)) };
    if given.get("driver").and_then(Value::as_str).is_some_and(|driver| WITH_FILE.contains(&driver)) {
        let lower = options_below(Some(name), given.remove("file"))?;
        given.insert("file".to_owned(), lower);
        return Ok(Value::Object(given));
    }
    if given.contains_key("filename") {
        bail!("Can't specify 'file' and 'filename' options at the same time");
    }
    let mut options = filename::protocol_options(name)?;
    if let Some(options) = options.as_object_mut() {
        keyval::merge(options, given).map_err(|error| Error::new(error.to_string()))?;
    }
    Ok(options)
}

/// The host's file at the end of nested options.
pub(crate) fn innermost_file(options: &mut Value) -> Option<&mut Value> {
    match options["driver"].as_str() {
        Some("file" | "host_device") => Some(options),
        Some("blkdebug") => innermost_file(options.get_mut("image")?),
        _ => innermost_file(options.get_mut("file")?),
    }
}

/// Says what the options of a node and of those below leave to be found out: protocols by names, a backing file by what
/// the image says, its format by that or its first bytes; `mode` is how it would be looked at. Sizes become numbers.
///
/// # Errors
/// For the user: what cannot be opened to be looked at.
pub(crate) fn complete(options: &mut Map<String, Value>, mode: Inherited) -> Result<()> {
    for (name, value) in options.iter_mut().filter(|(name, _)| SIZES.contains(&name.as_str())) {
        match value.as_str().map(|text| strtosz(text, SizeUnit::Bytes)) {
            None => {}
            Some(Ok(size)) => *value = size.to_string().into(),
            Some(Err(_)) => bail!("Parameter '{name}' expects a non-negative number below 2^64"),
        }
    }
    for name in ["file", "image"] {
        let Some(Value::Object(below)) = options.get_mut(name) else { continue };
        let path = below.get("filename").and_then(Value::as_str).map(str::to_owned);
        if let Some(path) = path.filter(|_| !below.contains_key("driver")) {
            let driver = filename::file_options(&path)["driver"].clone();
            below.insert("driver".to_owned(), driver);
        }
        complete(below, mode)?;
    }
    let image = options.get("file").cloned();
    match options.get_mut("backing") {
        Some(Value::Object(backing)) => complete_backing(backing, image, mode),
        _ => Ok(()),
    }
}

fn complete_backing(backing: &mut Map<String, Value>, image: Option<Value>, mode: Inherited) -> Result<()> {
    let driver = backing.get("driver").and_then(Value::as_str);
    let needs_file = driver.is_none_or(|driver| WITH_FILE.contains(&driver));
    let mode = Inherited { read_only: true, copy_on_read: false, ..mode };
    let has_file = match backing.get("file") {
        Some(Value::Object(file)) => file.contains_key("filename") || file.contains_key("driver"),
        other => other.is_some(),
    };
    if let Some(image @ Value::Object(_)) = image.filter(|_| needs_file && !has_file) {
        let node = node::open(&from_keyval(image)?, Inherited { force_share: true, ..mode })?;
        if let (Some(name), format) = crate::drivers::qcow2_backing(&node)? {
            let name = filename::relative_to(&node.filename(), &name);
            // What else is said of the file holds, too.
            let file = options_below(Some(&name), backing.remove("file"))?;
            backing.insert("file".to_owned(), file);
            if let Some(format) = format {
                backing.entry("driver").or_insert(format.into());
            }
        }
    }
    complete(backing, mode)?;
    let file = backing.get("file").filter(|file| file.is_object());
    if let Some(file) = file.filter(|_| !backing.contains_key("driver")) {
        let looking = Inherited { force_share: true, ..mode };
        let options: BlockdevOptions = from_keyval(file.clone())?;
        let format = filename::probe_node(&*node::open(&options, looking)?)?;
        backing.insert("driver".to_owned(), format.into());
        // What the format has may be about files, too.
        complete(backing, mode)?;
    }
    Ok(())
}

/// An error in reading `options`, told as QEMU's block layer does: it names the driver that an option is of.
pub(crate) fn in_qemus_words(error: Error, options: &Value) -> Error {
    let told = error.message.strip_prefix("Parameter '").and_then(|text| text.split_once("' "));
    let Some((path, what)) = told else { return error };
    let (mut at, mut option) = (options, path);
    while let Some((name, rest)) = option.split_once('.')
        && let Some(below) = at.get(name)
        && below.get("driver").is_some()
    {
        (at, option) = (below, rest);
    }
    let driver = at["driver"].as_str().unwrap_or_default();
    let is_protocol = PROTOCOLS.contains(&driver);
    Error::new(match (what, option) {
        ("is unexpected", option) if option.split('.').next() == Some("backing") => {
            "Driver doesn't support backing files".to_owned()
        }
        ("is unexpected", _) if is_protocol => {
            format!("Block protocol '{driver}' doesn't support the option '{option}'")
        }
        ("is unexpected", _) => format!("Block format '{driver}' does not support the option '{option}'"),
        ("is missing", "filename") => format!("The '{driver}' block driver requires a file name"),
        ("is missing", "file") => "A block device must be specified for \"file\"".to_owned(),
        (_, option) if what.starts_with("does not accept") && option.rsplit('.').next() == Some("driver") => {
            format!("Unknown driver {}", what.trim_start_matches("does not accept value "))
        }
        _ => return error,
    })
}
