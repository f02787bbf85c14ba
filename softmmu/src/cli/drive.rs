//! `-drive`, `-hda` and its like: disks.

use util::option::{OptsDesc, escape_value};

use super::device::NamedOptions;
use super::{CliError, CommandLine, Occurrence, OptionId, parse_opts};

static DRIVE: OptsDesc = OptsDesc { name: "drive", implied: None, merge: false, descs: &[] };

impl CommandLine {
    /// `-drive` and the options that stand for one, in order.
    ///
    /// # Errors
    /// Text that does not parse, an id twice.
    pub fn drives(&mut self) -> Result<Vec<NamedOptions>, CliError> {
        let mut warnings = Vec::new();
        let mut drives: Vec<NamedOptions> = Vec::new();
        for occurrence in self.occurrences.iter().filter_map(as_drive) {
            let opts = parse_opts(&DRIVE, &occurrence, &mut warnings)?;
            let twice = |id: &&String| drives.iter().any(|other| other.id.as_ref() == Some(*id));
            if let Some(id) = opts.id.as_ref().filter(twice) {
                return Err(occurrence.error(format_args!("Duplicate ID '{id}' for drive")));
            }
            drives.push(NamedOptions { id: opts.id, values: opts.values, location: occurrence.location });
        }
        self.warnings.append(&mut warnings);
        Ok(drives)
    }
}

/// The `-drive` that an option stands for (`drive_add`).
fn as_drive(occurrence: &Occurrence) -> Option<Occurrence> {
    let place = match occurrence.id {
        OptionId::Drive => return Some(occurrence.clone()),
        OptionId::Hda => "index=0,media=disk",
        OptionId::Hdb => "index=1,media=disk",
        OptionId::Hdc => "index=2,media=disk",
        OptionId::Hdd => "index=3,media=disk",
        OptionId::Cdrom => "index=2,media=cdrom",
        OptionId::Fda => "index=0,if=floppy",
        OptionId::Fdb => "index=1,if=floppy",
        OptionId::Pflash => "if=pflash",
        _ => return None,
    };
    let arg = Some(format!("file={},{place}", escape_value(occurrence.text())));
    Some(Occurrence { arg, ..occurrence.clone() })
}
