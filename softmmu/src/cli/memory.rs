//! `-m`.

use util::cutils::is_hex_with_suffix;
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
            self.warnings.push(format!("Using a multiplier suffix on hex numbers is deprecated: {text}"));
        }
        // Plain numbers are MiB.
        let is_plain = opts.get("size").is_some_and(|text| text.ends_with(|c: char| c.is_ascii_digit()));
        let unit = if is_plain { 1 << 20 } else { 1 };
        let size = opts.get_size("size").unwrap_or(0).checked_mul(unit);
        let size = size.and_then(|size| size.checked_next_multiple_of(GRANULE));
        let size = match size.ok_or_else(|| CliError::message("Parameter 'memory.size' expects size"))? {
            0 => default_size,
            size => size,
        };
        let slots = opts.get_number("slots").unwrap_or(0);
        let Some(maxmem) = opts.get_size("maxmem") else {
            return match opts.get("slots") {
                Some(_) => Err(CliError::message("slots specified but no max-size")),
                None => Ok(MemoryOptions { size, slots: 0, maxmem: size }),
            };
        };
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
