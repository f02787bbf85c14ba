//! `-add-fd`: descriptors that the program was started with, for `/dev/fdset/N`.

use util::option::{OptDesc, OptType, OptsDesc};

use super::{CliError, CommandLine, Location, OptionId, parse_opts};

static DESC: OptsDesc = OptsDesc {
    name: "add-fd",
    implied: None,
    merge: false,
    descs: &[
        OptDesc { name: "fd", kind: OptType::Number },
        OptDesc { name: "set", kind: OptType::Number },
        OptDesc { name: "opaque", kind: OptType::String },
    ],
};

/// The last of stdin, stdout and stderr.
const STDERR: i32 = 2;

/// A descriptor for a set.
#[derive(Debug, Clone)]
pub struct AddFdOptions {
    /// Its number.
    pub fd: i32,
    /// The set.
    pub set: i64,
    /// A text for whoever asks about the set.
    pub opaque: Option<String>,
    /// For messages.
    pub location: Location,
}

impl CommandLine {
    /// `-add-fd`, in order.
    ///
    /// # Errors
    /// Numbers that are missing, or of standard input and output.
    pub fn add_fds(&mut self) -> Result<Vec<AddFdOptions>, CliError> {
        let mut warnings = Vec::new();
        let mut all = Vec::new();
        for occurrence in self.all(OptionId::AddFd) {
            let opts = parse_opts(&DESC, occurrence, &mut warnings)?;
            let required = |name| format!("{name} option is required and must be non-negative");
            let fd = opts.get_number("fd").and_then(|fd| i32::try_from(fd).ok());
            let fd = fd.ok_or_else(|| occurrence.error(required("fd")))?;
            if fd <= STDERR {
                return Err(occurrence.error("fd cannot be a standard I/O stream"));
            }
            let set = opts.get_number("set").and_then(|set| i64::try_from(set).ok());
            let set = set.ok_or_else(|| occurrence.error(required("set")))?;
            let opaque = opts.get("opaque").map(str::to_owned);
            all.push(AddFdOptions { fd, set, opaque, location: occurrence.location.clone() });
        }
        self.warnings.append(&mut warnings);
        Ok(all)
    }
}
