//! `-m`, and the members of `-machine memory`, which it stands for.

use serde_json::{Map, Value};
use util::cutils::{SizeUnit, is_hex_with_suffix, strtosz};
use util::option::{OptDesc, OptType, OptsDesc};

use super::{CliError, CommandLine, OptionId};

static DESC: OptsDesc = OptsDesc {
    name: "memory",
    implied: Some("size"),
    merge: true,
    descs: &[
        OptDesc { name: "size", kind: OptType::Size },
        OptDesc { name: "slots", kind: OptType::Number },
        OptDesc { name: "maxmem", kind: OptType::Size },
    ],
};

/// QEMU rounds the size up to this.
const GRANULE: u64 = 8192;

/// The guest's memory. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryOptions {
    /// RAM at the start.
    pub size: u64,
    /// Slots for memory modules to be plugged in.
    pub slots: u64,
    /// RAM with all modules.
    pub maxmem: u64,
}

impl CommandLine {
    /// `-m`. Without a size, and for 0, it is the machine's `default_size`.
    ///
    /// # Errors
    /// Sizes that are none, that are too large, or that contradict each other.
    pub fn memory(&mut self, default_size: u64) -> Result<MemoryOptions, CliError> {
        let opts = self.merged_opts(OptionId::Memory, &DESC)?;
        if let Some(text) = opts.get("size").filter(|text| is_hex_with_suffix(text)) {
            self.warnings
                .push(format!("warning: Using a multiplier suffix on hex numbers is deprecated: {text}"));
        }
        let members = self.machine_members("memory")?;
        if let Some(key) = members.keys().find(|key| !["size", "max-size", "slots"].contains(&key.as_str())) {
            return Err(CliError::message(format_args!("Parameter 'memory.{key}' is unexpected")));
        }
        // Plain numbers are MiB.
        let is_plain = opts.get("size").is_some_and(|text| text.ends_with(|c: char| c.is_ascii_digit()));
        let unit = if is_plain { 1 << 20 } else { 1 };
        let expects_size = || CliError::message("Parameter 'memory.size' expects size");
        let size = match opts.get_size("size").filter(|size| *size != 0) {
            Some(size) => Some(size.checked_mul(unit).ok_or_else(expects_size)?),
            None => member_size(&members, "size")?,
        };
        let size = size.unwrap_or(default_size).checked_next_multiple_of(GRANULE).ok_or_else(expects_size)?;
        let slots = match opts.get_number("slots") {
            None => member_slots(&members)?,
            given => given,
        };
        let maxmem = match opts.get_size("maxmem") {
            None => member_size(&members, "max-size")?,
            given => given,
        };
        let Some(maxmem) = maxmem else {
            return match slots {
                Some(_) => Err(CliError::message("slots specified but no max-size")),
                None => Ok(MemoryOptions { size, slots: 0, maxmem: size }),
            };
        };
        let slots = slots.unwrap_or(0);
        if maxmem < size {
            return Err(CliError::message(format_args!(
                "invalid value of maxmem: maximum memory size ({maxmem:#x}) must be at least the initial memory \
                 size ({size:#x})"
            )));
        }
        if slots > 0 && maxmem == size {
            return Err(CliError::message(format_args!(
                "invalid value of maxmem: memory slots were specified but maximum memory size ({maxmem:#x}) is \
                 equal to the initial memory size ({size:#x})"
            )));
        }
        Ok(MemoryOptions { size, slots, maxmem })
    }
}

/// A size among the members of `-machine memory`.
fn member_size(members: &Map<String, Value>, key: &str) -> Result<Option<u64>, CliError> {
    let Some(value) = members.get(key) else { return Ok(None) };
    match value.as_str().map(|text| strtosz(text, SizeUnit::Bytes)) {
        Some(Ok(size)) => Ok(Some(size)),
        _ => Err(CliError::message(format_args!("Parameter 'memory.{key}' expects size"))),
    }
}

/// The number of slots among them.
fn member_slots(members: &Map<String, Value>) -> Result<Option<u64>, CliError> {
    let Some(value) = members.get("slots") else { return Ok(None) };
    match value.as_str().and_then(|text| text.parse().ok()) {
        Some(slots) => Ok(Some(slots)),
        None => Err(CliError::message("Parameter 'memory.slots' expects integer")),
    }
}
