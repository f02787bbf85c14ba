//! From a file's name to a node: protocols, formats told by their first bytes (block.c, `bdrv_open`).

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use qapi::{At, QapiType};
use qom::{Error, Result, bail};
use serde_json::{Value, json};

use crate::node::{self, BlockNode, Inherited};
use crate::options::{BlockdevDriver, BlockdevOptions};

/// Longest chain of backing files; a file that is its own would make one without end.
const MAX_DEPTH: u32 = 200;
/// Protocols without a name of a file.
const NULLS: [&str; 2] = ["null-co", "null-aio"];

/// The protocol of `name`, when it begins with one: letters before a colon that comes before any slash.
fn protocol(name: &str) -> Option<(&str, &str)> {
    let (protocol, rest) = name.split_once(':')?;
    (!protocol.contains('/')).then_some((protocol, rest))
}

/// The protocol's node of a file's name, as options.
///
/// # Errors
/// For the user: a protocol that is not there.
pub fn protocol_options(name: &str) -> Result<Value> {
    match protocol(name) {
        Some(("file", path)) => Ok(file_options(path)),
        Some(("blkdebug", rest)) => {
            let Some((config, image)) = rest.split_once(':') else {
                bail!("blkdebug requires both config file and image path");
            };
            let mut options = json!({ "driver": "blkdebug", "image": protocol_options(image)? });
            if !config.is_empty() {
                options["config"] = config.into();
            }
            Ok(options)
        }
        Some((name, "//")) if NULLS.contains(&name) => Ok(json!({ "driver": name })),
        Some((unknown, _)) => bail!("Unknown protocol '{unknown}'"),
        None => Ok(file_options(name)),
    }
}

/// The same of a path, which may have a colon anywhere.
pub(crate) fn file_options(path: &str) -> Value {
    let kind = std::fs::metadata(path).map(|m| m.file_type());
    let device = kind.is_ok_and(|kind| kind.is_block_device() || kind.is_char_device());
    json!({ "driver": if device { "host_device" } else { "file" }, "filename": path })
}

/// `name` as it is from the folder of `from`, when it is relative.
pub fn relative_to(from: &str, name: &str) -> String {
    if name.starts_with('/') || protocol(name).is_some() {
        return name.to_owned();
    }
    let from = from.strip_prefix("file:").unwrap_or(from);
    match Path::new(from).parent() {
        Some(folder) => folder.join(name).to_string_lossy().into_owned(),
        None => name.to_owned(),
    }
}

/// The options of JSON in a name: `json:{…}`.
fn pseudo_json(text: &str) -> Result<BlockdevOptions> {
    let value: Value = serde_json::from_str(text)
        .map_err(|e| Error::new(format!("Could not parse the JSON options: {e}")))?;
    if !value.is_object() {
        bail!("Invalid JSON object given");
    }
    BlockdevOptions::from_json(value, At::Top)
}

/// Opens the image called `name` in `format`, or in what its first bytes say.
///
/// # Errors
/// For the user.
pub fn open(name: &str, format: Option<&str>, mode: Inherited) -> Result<Arc<BlockNode>> {
    if mode.depth > MAX_DEPTH {
        bail!("Could not open '{name}': the chain of backing files is too long");
    }
    let mode = Inherited { depth: mode.depth + 1, ..mode };
    if let Some(json) = name.strip_prefix("json:") {
        return node::open(&pseudo_json(json)?, mode);
    }
    let below = protocol_options(name)?;
    let format = match format {
        Some(format) => format.to_owned(),
        None => probe(&below, mode)?.to_owned(),
    };
    if below["driver"] == format.as_str() {
        return node::open(&BlockdevOptions::from_json(below, At::Top)?, mode);
    }
    let options = json!({ "driver": format, "file": below });
    let options = BlockdevOptions::from_json(options, At::Top)
        .map_err(|_| Error::new(format!("Unknown driver '{format}'")))?;
    node::open(&options, mode)
}

/// Tells a format by the first bytes of what `below` opens.
///
/// # Errors
/// For the user: when it cannot be opened.
pub fn probe(below: &Value, mode: Inherited) -> Result<&'static str> {
    let options = BlockdevOptions::from_json(below.clone(), At::Top)?;
    // Only looked at: others may have it.
    let looking = Inherited { read_only: true, force_share: true, ..mode };
    let node = node::open(&options, looking)?;
    probe_node(&node)
}

/// Tells a format by the first bytes of a node.
///
/// # Errors
/// For the user: when it cannot be read.
pub fn probe_node(node: &BlockNode) -> Result<&'static str> {
    let mut first = [0; 512];
    let there = node.length().unwrap_or(0).min(first.len() as u64) as usize;
    node.pread(0, &mut first[..there]).map_err(|e| {
        Error::new(format!("Could not read image for determining its format: {}", util::log::OsError(e)))
    })?;
    Ok(format_of(&first))
}

/// The format that begins with these bytes.
pub fn format_of(first: &[u8]) -> &'static str {
    if first.starts_with(b"QFI\xfb") { "qcow2" } else { "raw" }
}

/// Whether a driver is an image format, which has a file below.
pub fn is_format(driver: &BlockdevDriver) -> bool {
    matches!(driver, BlockdevDriver::Qcow2(_) | BlockdevDriver::Raw(_))
}
