//! `-name`, `-uuid` and `-msg`.

use util::option::{OptDesc, OptType, OptsDesc};
use util::report::MessageOptions;

use super::{CliError, CommandLine, OptionId};

static NAME: OptsDesc = OptsDesc {
    name: "name",
    implied: Some("guest"),
    merge: true,
    descs: &[
        OptDesc { name: "guest", kind: OptType::String },
        OptDesc { name: "process", kind: OptType::String },
        OptDesc { name: "debug-threads", kind: OptType::Bool },
    ],
};

static MSG: OptsDesc = OptsDesc {
    name: "msg",
    implied: None,
    merge: true,
    descs: &[
        OptDesc { name: "timestamp", kind: OptType::Bool },
        OptDesc { name: "guest-name", kind: OptType::Bool },
    ],
};

/// What `-name` gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameOptions {
    /// The guest's name.
    pub guest: Option<String>,
    /// The process's name.
    pub process: Option<String>,
    /// Whether threads get names.
    pub debug_threads: bool,
}

impl CommandLine {
    /// `-name`.
    ///
    /// # Errors
    /// Text that does not parse.
    pub fn name(&mut self) -> Result<NameOptions, CliError> {
        let opts = self.merged_opts(OptionId::Name, &NAME)?;
        Ok(NameOptions {
            guest: opts.get("guest").map(str::to_owned),
            process: opts.get("process").map(str::to_owned),
            debug_threads: opts.get_bool("debug-threads").unwrap_or(false),
        })
    }

    /// `-msg`, with the guest's name from `-name`.
    ///
    /// # Errors
    /// Text that does not parse.
    pub fn messages(&mut self) -> Result<MessageOptions, CliError> {
        let opts = self.merged_opts(OptionId::Msg, &MSG)?;
        let guest_name = match opts.get_bool("guest-name") {
            Some(true) => self.name()?.guest,
            _ => None,
        };
        Ok(MessageOptions { timestamp: opts.get_bool("timestamp").unwrap_or(false), guest_name })
    }

    /// `-uuid`, its bytes in the order written.
    ///
    /// # Errors
    /// Text that is not 8-4-4-4-12 hexadecimal digits.
    pub fn uuid(&self) -> Result<Option<[u8; 16]>, CliError> {
        let mut uuid = None;
        for occurrence in self.all(OptionId::Uuid) {
            let parsed = parse_uuid(occurrence.text());
            uuid = Some(parsed.ok_or_else(|| occurrence.error("failed to parse UUID string: wrong format"))?);
        }
        Ok(uuid)
    }
}

/// The bytes of a UUID, in the order written.
pub(super) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let lengths = text.split('-').map(str::len);
    if !lengths.eq([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(uuid)
}
