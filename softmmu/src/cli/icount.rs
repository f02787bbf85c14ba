//! `-icount` (softmmu/icount.c, replay/replay.c): instructions counted as time, which only an emulator can do.

use util::option::{OptDesc, OptType, OptsDesc};

use super::{CliError, CommandLine, OptionId, parse_opts};

static ICOUNT: OptsDesc = OptsDesc {
    name: "icount",
    implied: Some("shift"),
    merge: true,
    descs: &[
        OptDesc { name: "shift", kind: OptType::String },
        OptDesc { name: "align", kind: OptType::Bool },
        OptDesc { name: "sleep", kind: OptType::Bool },
        OptDesc { name: "rr", kind: OptType::String },
        OptDesc { name: "rrfile", kind: OptType::String },
        OptDesc { name: "rrsnapshot", kind: OptType::String },
    ],
};

/// Largest binary logarithm of an instruction's nanoseconds.
const MAX_SHIFT: i128 = 10;

impl CommandLine {
    /// Whether `-icount` asks for instructions to be counted, which the accelerator must be able to do
    /// (`icount_configure`).
    ///
    /// # Errors
    /// Text that does not parse, settings that exclude each other, recording and replay.
    pub fn icount(&mut self) -> Result<bool, CliError> {
        let occurrences: Vec<_> = self.all(OptionId::Icount).cloned().collect();
        let mut warnings = Vec::new();
        let mut values = Vec::new();
        for occurrence in &occurrences {
            values.extend(parse_opts(&ICOUNT, occurrence, &mut warnings)?.values);
        }
        self.warnings.append(&mut warnings);
        let Some(occurrence) = occurrences.last() else { return Ok(false) };
        let get = |name: &str| values.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let is_on = |name: &str, default: bool| get(name).map_or(default, |value| value == "on");
        match get("rr") {
            None => {}
            Some("record" | "replay") if get("rrfile").is_none() => {
                return Err(occurrence.error("File name not specified for replay"));
            }
            Some("record" | "replay") => return Err(occurrence.error("rr is not supported yet")),
            Some(other) => return Err(occurrence.error(format_args!("Invalid icount rr option: {other}"))),
        }
        let (align, sleep) = (is_on("align", false), is_on("sleep", true));
        let wrong = match get("shift") {
            None if get("align").is_some() => "Please specify shift option when using align",
            None => return Ok(false),
            Some(_) if align && !sleep => "align=on and sleep=off are incompatible",
            Some("auto") if align => "shift=auto and align=on are incompatible",
            Some("auto") if !sleep => "shift=auto and sleep=off are incompatible",
            Some("auto") => return Ok(true),
            Some(shift) => match qom::property::parse_int(shift) {
                Some(0..=MAX_SHIFT) => return Ok(true),
                _ => "icount: Invalid shift value",
            },
        };
        Err(occurrence.error(wrong))
    }
}
