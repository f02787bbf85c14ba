//! What is shared, by the options that say so (fsdev/qemu-fsdev.c).

use std::path::PathBuf;

use block::throttle::{Config, Kind, Limit};
use parking_lot::Mutex;
use qom::{Error, Result, bail};
use util::option::Opts;

use crate::local::{LocalOptions, SecurityModel};
pub use crate::qid::MultiDevs;

/// Permissions of files and directories on the host, where those the guest sets are kept elsewhere.
const FILE_MODE: u64 = 0o600;
const DIRECTORY_MODE: u64 = 0o700;
const PERMISSIONS: u64 = 0o777;
/// Options of every driver.
const COMMON: [&str; 2] = ["fsdriver", "readonly"];
/// Those of a folder of the host, but for its limits.
const LOCAL: [&str; 6] = ["security_model", "path", "writeout", "fmode", "dmode", "multidevs"];

/// What kind of file system it is.
#[derive(Clone, Debug)]
pub enum FsKind {
    /// A folder of the host.
    Local(PathBuf, LocalOptions),
    /// One that is made up.
    Synth,
}

/// What is shared.
#[derive(Clone, Debug)]
pub struct Fsdev {
    /// Its name.
    pub id: String,
    /// What it is.
    pub kind: FsKind,
    /// Nothing may change.
    pub read_only: bool,
    /// What is done about several devices.
    pub multidevs: MultiDevs,
    /// Limits.
    pub throttle: Config,
}

static FSDEVS: Mutex<Vec<Fsdev>> = Mutex::new(Vec::new());

/// What is shared under a name (`get_fsdev_fsentry`).
pub fn find(id: &str) -> Option<Fsdev> {
    FSDEVS.lock().iter().find(|fsdev| fsdev.id == id).cloned()
}

/// Shares what the options of a `-fsdev` say (`qemu_fsdev_add`).
///
/// # Errors
/// When they make no sense.
pub fn add(opts: &Opts) -> Result<()> {
    let Some(id) = &opts.id else { bail!("fsdev: No id specified") };
    let Some(driver) = opts.get("fsdriver") else { bail!("fsdev: No fsdriver specified") };
    if !["local", "synth"].contains(&driver) {
        bail!("fsdev: fsdriver {driver} not found");
    }
    for (name, _) in &opts.values {
        let of_local = LOCAL.contains(&&name[..]) || name.starts_with("throttling.");
        let known = COMMON.contains(&&name[..]) || driver == "local" && of_local;
        if !known {
            bail!("'{name}' is invalid for fsdriver '{driver}'");
        }
    }
    let mut fsdev = Fsdev {
        id: id.clone(),
        kind: FsKind::Synth,
        read_only: opts.get_bool("readonly").unwrap_or_default(),
        multidevs: MultiDevs::default(),
        throttle: Config::default(),
    };
    if driver == "local" {
        add_local(&mut fsdev, opts)?;
    }
    FSDEVS.lock().push(fsdev);
    Ok(())
}

/// `local_parse_opts`.
fn add_local(fsdev: &mut Fsdev, opts: &Opts) -> Result<()> {
    let hint = "Valid options are: security_model=[passthrough|mapped-xattr|mapped-file|none]";
    let model = match opts.get("security_model") {
        None => return Err(Error::new("security_model property not set").with_hint(hint)),
        Some("passthrough") => SecurityModel::Passthrough,
        Some("mapped" | "mapped-xattr") => SecurityModel::MappedXattr,
        Some("none") => SecurityModel::None,
        Some("mapped-file") => SecurityModel::MappedFile,
        Some(other) => {
            return Err(Error::new(format!("invalid security_model property '{other}'")).with_hint(hint));
        }
    };
    fsdev.multidevs = match opts.get("multidevs") {
        None | Some("warn") => MultiDevs::Warn,
        Some("remap") => MultiDevs::Remap,
        Some("forbid") => MultiDevs::Forbid,
        Some(other) => {
            let error = Error::new(format!("invalid multidevs property '{other}'"));
            return Err(error.with_hint("Valid options are: multidevs=[remap|forbid|warn]"));
        }
    };
    let Some(path) = opts.get("path") else { bail!("path property not set") };
    fsdev.throttle = limits(opts);
    fsdev.throttle.check().map_err(|error| error.prepend("invalid throttle configuration: "))?;
    for name in ["fmode", "dmode"] {
        if !model.is_mapped() && opts.get(name).is_some() {
            bail!("{name} is only valid for mapped security modes");
        }
    }
    let mode = |name, default| (opts.get_number(name).unwrap_or(default) & PERMISSIONS) as u32;
    let options = LocalOptions {
        model,
        fmode: mode("fmode", FILE_MODE),
        dmode: mode("dmode", DIRECTORY_MODE),
        writeout: opts.get("writeout") == Some("immediate"),
    };
    fsdev.kind = FsKind::Local(path.into(), options);
    Ok(())
}

/// `fsdev_throttle_parse_opts`.
fn limits(opts: &Opts) -> Config {
    let number = |name: String| opts.get_number(&name);
    let limit = |(_, name): (Kind, &str)| Limit {
        average: number(format!("throttling.{name}")).unwrap_or(0),
        max: number(format!("throttling.{name}-max")).unwrap_or(0),
        length: number(format!("throttling.{name}-max-length")).unwrap_or(1),
    };
    Config { limits: Kind::ALL.map(limit), op_size: number("throttling.iops-size".to_owned()).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(id: Option<&str>, values: &[(&str, &str)]) -> String {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        add(&Opts { id: id.map(str::to_owned), values }).unwrap_err().to_string()
    }

    #[test]
    fn what_makes_no_sense_is_refused_as_qemu_does() {
        assert_eq!(error(None, &[("fsdriver", "local")]), "fsdev: No id specified");
        let error = |values: &[(&str, &str)]| error(Some("x"), values);
        assert_eq!(error(&[]), "fsdev: No fsdriver specified");
        assert_eq!(error(&[("fsdriver", "proxy")]), "fsdev: fsdriver proxy not found");
        assert_eq!(error(&[("fsdriver", "synth"), ("path", "/")]), "'path' is invalid for fsdriver 'synth'");
        assert_eq!(
            error(&[("fsdriver", "local"), ("socket", "/")]),
            "'socket' is invalid for fsdriver 'local'"
        );
        let local = |more: &[(&str, &str)]| error(&[&[("fsdriver", "local")], more].concat());
        assert_eq!(local(&[]), "security_model property not set");
        assert_eq!(local(&[("security_model", "x")]), "invalid security_model property 'x'");
        let none = |more: &[(&str, &str)]| local(&[&[("security_model", "none")], more].concat());
        assert_eq!(none(&[]), "path property not set");
        assert_eq!(none(&[("multidevs", "x")]), "invalid multidevs property 'x'");
        let mode = none(&[("path", "/"), ("fmode", "0644")]);
        assert_eq!(mode, "fmode is only valid for mapped security modes");
        let limits = none(&[("path", "/"), ("throttling.bps-total-max", "1")]);
        assert!(limits.starts_with("invalid throttle configuration: "), "{limits}");
    }

    #[test]
    fn what_is_shared_is_found_by_its_name() {
        let values = [("fsdriver", "local"), ("security_model", "mapped"), ("path", "/x"), ("dmode", "0755")];
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        add(&Opts { id: Some("found".to_owned()), values }).unwrap();
        let FsKind::Local(path, options) = find("found").unwrap().kind else { panic!("it is a folder") };
        assert_eq!(path, PathBuf::from("/x"));
        assert_eq!((options.model, options.fmode, options.dmode), (SecurityModel::MappedXattr, 0o600, 0o755));
        assert!(find("other").is_none());
    }
}
