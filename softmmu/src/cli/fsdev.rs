//! `-fsdev` and `-virtfs`: folders that are shared, and devices for them.

use serde_json::Value;
use util::option::{OptDesc, OptType, Opts, OptsDesc, id_wellformed};

use super::device::DeviceOptions;
use super::{CliError, CommandLine, Location, Occurrence, OptionId, parse_opts};

const fn number(name: &'static str) -> OptDesc {
    OptDesc { name, kind: OptType::Number }
}

const fn text(name: &'static str) -> OptDesc {
    OptDesc { name, kind: OptType::String }
}

const READONLY: OptDesc = OptDesc { name: "readonly", kind: OptType::Bool };

pub(super) static FSDEV: OptsDesc = OptsDesc {
    name: "fsdev",
    implied: Some("fsdriver"),
    merge: false,
    descs: &[
        text("fsdriver"),
        text("path"),
        text("security_model"),
        text("writeout"),
        READONLY,
        text("multidevs"),
        text("socket"),
        number("sock_fd"),
        number("fmode"),
        number("dmode"),
        number("throttling.iops-total"),
        number("throttling.iops-read"),
        number("throttling.iops-write"),
        number("throttling.bps-total"),
        number("throttling.bps-read"),
        number("throttling.bps-write"),
        number("throttling.iops-total-max"),
        number("throttling.iops-read-max"),
        number("throttling.iops-write-max"),
        number("throttling.bps-total-max"),
        number("throttling.bps-read-max"),
        number("throttling.bps-write-max"),
        number("throttling.iops-total-max-length"),
        number("throttling.iops-read-max-length"),
        number("throttling.iops-write-max-length"),
        number("throttling.bps-total-max-length"),
        number("throttling.bps-read-max-length"),
        number("throttling.bps-write-max-length"),
        number("throttling.iops-size"),
    ],
};

pub(super) static VIRTFS: OptsDesc = OptsDesc {
    name: "virtfs",
    implied: Some("fsdriver"),
    merge: false,
    descs: &[
        text("fsdriver"),
        text("path"),
        text("mount_tag"),
        text("security_model"),
        text("writeout"),
        READONLY,
        text("multidevs"),
        text("socket"),
        number("sock_fd"),
        number("fmode"),
        number("dmode"),
    ],
};

/// The id of what `-virtfs` shares, and its tag.
fn names(occurrence: &Occurrence, opts: &Opts) -> Result<(String, String), CliError> {
    let (Some(_), Some(tag)) = (opts.get("fsdriver"), opts.get("mount_tag")) else {
        return Err(occurrence.error("Usage: -virtfs fsdriver,mount_tag=tag"));
    };
    Ok((opts.id.clone().unwrap_or_else(|| tag.to_owned()), tag.to_owned()))
}

/// The device that `-virtfs` stands for beside what is shared.
pub(super) fn virtfs_device(occurrence: &Occurrence) -> Result<DeviceOptions, CliError> {
    // What is to be warned of is told where the other part is read.
    let opts = parse_opts(&VIRTFS, occurrence, &mut Vec::new())?;
    let (id, tag) = names(occurrence, &opts)?;
    let properties = [("fsdev", id), ("mount_tag", tag)];
    Ok(DeviceOptions {
        driver: "virtio-9p-pci".to_owned(),
        id: None,
        properties: properties.map(|(name, value)| (name.to_owned(), Value::String(value))).into(),
        json: false,
        help: false,
        location: occurrence.location.clone(),
    })
}

impl CommandLine {
    /// What `-fsdev` and `-virtfs` share, in order.
    ///
    /// # Errors
    /// Text that does not parse, an id twice.
    pub fn fsdevs(&mut self) -> Result<Vec<(Opts, Location)>, CliError> {
        let mut warnings = Vec::new();
        let mut fsdevs: Vec<(Opts, Location)> = Vec::new();
        for occurrence in &self.occurrences {
            let has = |id: &str| fsdevs.iter().any(|(other, _)| other.id.as_deref() == Some(id));
            let opts = match occurrence.id {
                OptionId::Fsdev => {
                    let opts = parse_opts(&FSDEV, occurrence, &mut warnings)?;
                    if let Some(id) = opts.id.as_deref().filter(|id| has(id)) {
                        return Err(occurrence.error(format_args!("Duplicate ID '{id}' for fsdev")));
                    }
                    opts
                }
                OptionId::Virtfs => {
                    let mut opts = parse_opts(&VIRTFS, occurrence, &mut warnings)?;
                    let (id, tag) = names(occurrence, &opts)?;
                    if has(&id) || !id_wellformed(&id) {
                        return Err(occurrence.error(format_args!("duplicate or invalid fsdev id: {tag}")));
                    }
                    opts.id = Some(id);
                    opts.values.retain(|(name, _)| name != "mount_tag");
                    opts
                }
                _ => continue,
            };
            fsdevs.push((opts, occurrence.location.clone()));
        }
        self.warnings.append(&mut warnings);
        Ok(fsdevs)
    }
}
