//! `-drive`, `drive_add` and `-hda`…: a backend and what it is for (blockdev.c).

use std::sync::Arc;

use parking_lot::Mutex;
use qapi::{QapiType, from_keyval};
use qom::{Error, Result, bail};
use serde_json::{Value, json};
use util::cutils::parse_bool;

use crate::backend::{self, BlockBackend, BlockdevOnError};
use crate::drive_options;
use crate::driver::Child;
use crate::filename;
use crate::node::{self, BlockNode, CacheMode, Inherited};
use crate::options::{BlockdevDriver, BlockdevOptions};
use crate::{throttle, throttle_group};

/// What a drive is for (`if=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Whatever `-device` takes it.
    None,
    /// The board's IDE controllers.
    Ide,
    /// The board's SCSI controllers.
    Scsi,
    /// The floppy controller.
    Floppy,
    /// Flash memory.
    Pflash,
    /// NAND flash.
    Mtd,
    /// An SD card.
    Sd,
    /// A device `virtio-blk` of its own.
    Virtio,
    /// Xen.
    Xen,
}

const INTERFACES: [(&str, Interface); 9] = [
    ("none", Interface::None),
    ("ide", Interface::Ide),
    ("scsi", Interface::Scsi),
    ("floppy", Interface::Floppy),
    ("pflash", Interface::Pflash),
    ("mtd", Interface::Mtd),
    ("sd", Interface::Sd),
    ("virtio", Interface::Virtio),
    ("xen", Interface::Xen),
];

impl Interface {
    /// The name in `if=`.
    pub fn name(self) -> &'static str {
        INTERFACES.iter().find(|(_, interface)| *interface == self).map_or("none", |(name, _)| name)
    }

    /// Drives on a bus; `None`: there are no buses.
    fn max_devices(self) -> Option<u32> {
        match self {
            Interface::Ide => Some(2),
            Interface::Scsi => Some(7),
            _ => None,
        }
    }
}

/// A drive as an option asked for it (`DriveInfo`).
#[derive(Clone, Debug)]
pub struct DriveInfo {
    /// The backend.
    pub backend: Arc<BlockBackend>,
    /// What it is for.
    pub interface: Interface,
    /// On which bus.
    pub bus: u32,
    /// Which one on the bus.
    pub unit: u32,
    /// A CD-ROM drive.
    pub is_cdrom: bool,
    /// What messages about it begin with.
    pub location: String,
    /// `addr=` of `if=virtio`'s device.
    pub address: Option<String>,
}

static DRIVES: Mutex<Vec<DriveInfo>> = Mutex::new(Vec::new());

/// All drives.
pub fn drives() -> Vec<DriveInfo> {
    DRIVES.lock().clone()
}

/// The drive at a place of an interface, for the board that has a device for it (`drive_get`).
pub fn drive_get(interface: Interface, bus: u32, unit: u32) -> Option<DriveInfo> {
    let at = |d: &&DriveInfo| d.interface == interface && d.bus == bus && d.unit == unit;
    DRIVES.lock().iter().find(at).cloned()
}

/// What a backend was asked for by a drive option (`blk_legacy_dinfo`).
pub fn drive_of(backend: &Arc<BlockBackend>) -> Option<DriveInfo> {
    DRIVES.lock().iter().find(|drive| Arc::ptr_eq(&drive.backend, backend)).cloned()
}

/// Drives that no device took: the machine has none for them (`drive_check_orphaned`).
///
/// # Errors
/// Names the first.
pub fn check_orphaned() -> Result<()> {
    let orphan = drives().into_iter().find(|drive| {
        let needs_board = !matches!(drive.interface, Interface::None | Interface::Virtio);
        needs_board && !drive.backend.is_attached() && drive.backend.node().is_some()
    });
    match orphan {
        Some(DriveInfo { interface, bus, unit, location, .. }) => {
            bail!("{location}: machine type does not support if={},bus={bus},unit={unit}", interface.name())
        }
        None => Ok(()),
    }
}

/// Takes away a drive, with its medium: by its device's end, or `drive_del`.
pub fn drive_forget(backend: &Arc<BlockBackend>) {
    DRIVES.lock().retain(|drive| !Arc::ptr_eq(&drive.backend, backend));
    backend::forget(backend);
}

/// Takes away a drive or a node (`hmp_drive_del`): the medium goes at once; a device that has the drive keeps it empty.
///
/// # Errors
/// For the user.
pub fn drive_del(id: &str) -> Result<()> {
    if node::find_node(id).is_some() {
        return node::blockdev_del(id);
    }
    let Some(backend) = backend::find(id) else { bail!("Device '{id}' not found") };
    if drive_of(&backend).is_none() {
        bail!("Deleting device added with blockdev-add is not supported");
    }
    backend.remove();
    backend.set_on_error(BlockdevOnError::Report, BlockdevOnError::Report);
    drive_forget(&backend);
    Ok(())
}

/// What options of a drive stand for, names and values in order.
pub struct DriveOptions<'a> {
    /// `id=`.
    pub id: Option<&'a str>,
    /// All others.
    pub values: &'a [(String, String)],
    /// `-snapshot`.
    pub snapshot: bool,
    /// What `if=` is where nothing is said.
    pub default_interface: Interface,
    /// What messages about it begin with.
    pub location: String,
}

/// Takes options out of a list.
struct Taken(Vec<(String, String)>);

impl Taken {
    /// The value of `name`, the last one.
    fn take(&mut self, name: &str) -> Option<String> {
        let last = self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        self.0.retain(|(known, _)| known != name);
        last
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        let Some(text) = self.take(name) else { return Ok(None) };
        match parse_bool(&text) {
            Some(value) => Ok(Some(value)),
            None => bail!("Parameter '{name}' expects 'on' or 'off'"),
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<u32>> {
        let Some(text) = self.take(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("Parameter '{name}' expects a number"),
        }
    }
}

/// Where a drive is.
struct Place {
    interface: Interface,
    bus: u32,
    unit: u32,
    is_cdrom: bool,
}

/// Makes a drive: a backend with a name, and a medium if one is named (`drive_new`). `None`: a text was asked for, and
/// was printed.
///
/// # Errors
/// For the user.
pub fn drive_new(options: &DriveOptions<'_>) -> Result<Option<DriveInfo>> {
    let mut taken = Taken(options.values.to_vec());
    if ["readonly", "read-only"].iter().all(|name| taken.0.iter().any(|(given, _)| given == name)) {
        bail!("'read-only' and its alias 'readonly' can't be used at the same time");
    }
    let old_name = taken.0.iter_mut().filter(|(name, _)| name == "readonly");
    old_name.for_each(|(name, _)| *name = "read-only".to_owned());
    let place = take_place(&mut taken, options.default_interface)?;
    let id = match options.id {
        Some(id) => id.to_owned(),
        None => made_up_id(&place),
    };
    let read_only = taken.flag("read-only")?.unwrap_or(place.is_cdrom);
    if place.is_cdrom && !read_only {
        bail!("read-only=off is not possible for media=cdrom");
    }
    let snapshot = taken.flag("snapshot")?.unwrap_or(options.snapshot);
    let on_error =
        (take_on_error(&mut taken, "rerror", &place)?, take_on_error(&mut taken, "werror", &place)?);
    let mut copy_on_read = taken.flag("copy-on-read")?.unwrap_or(false);
    if copy_on_read && read_only {
        util::warn_report!("disabling copy-on-read on read-only drive");
        copy_on_read = false;
    }
    let (limits, group) = take_limits(&mut taken)?;
    let (invalid, failed) = (taken.flag("stats-account-invalid")?, taken.flag("stats-account-failed")?);
    let intervals = take_intervals(&mut taken)?;
    let address = taken.take("addr");
    if taken.0.iter().any(|(name, value)| name == "format" && util::option::is_help_option(value)) {
        println!("{}", formats_help());
        return Ok(None);
    }
    let (cache, writeback) = take_cache(&mut taken)?;
    let as_said = Inherited { cache, read_only, copy_on_read, ..Inherited::default() };
    let node = open_medium(taken, as_said, snapshot)?;
    let backend = backend::new_named(&id)?;
    backend.set_on_error(on_error.0, on_error.1);
    backend.set_write_cache(writeback);
    backend.stats.account(invalid, failed);
    backend.stats.keep_intervals(&intervals);
    if let Some(node) = node {
        backend.insert(node);
    }
    if limits.is_enabled() {
        let group = throttle_group::group(group.as_deref().unwrap_or(&id));
        group.set_config(limits);
        backend.set_throttle(Some(group));
    }
    let Place { interface, bus, unit, is_cdrom } = place;
    let location = options.location.clone();
    let drive = DriveInfo { backend, interface, bus, unit, is_cdrom, location, address };
    DRIVES.lock().push(drive.clone());
    Ok(Some(drive))
}

/// The text of `format=help`.
pub fn formats_help() -> String {
    let names = crate::DRIVER_NAMES.join(" ");
    format!("Supported formats: {names}\nSupported formats (read-only):")
}

fn take_place(taken: &mut Taken, default: Interface) -> Result<Place> {
    let interface = match taken.take("if") {
        None => default,
        Some(name) => match INTERFACES.iter().find(|(known, _)| *known == name) {
            Some((_, interface)) => *interface,
            None => bail!("unsupported bus type '{name}'"),
        },
    };
    let is_cdrom = match taken.take("media").as_deref() {
        None | Some("disk") => false,
        Some("cdrom") => true,
        Some(other) => bail!("'{other}' invalid media"),
    };
    let (bus, unit, index) = (taken.number("bus")?, taken.number("unit")?, taken.number("index")?);
    let most = interface.max_devices();
    let (mut bus_at, mut unit_at) = (bus.unwrap_or(0), unit);
    if let Some(index) = index {
        if bus.is_some() || unit.is_some() {
            bail!("index cannot be used with bus and unit");
        }
        bus_at = most.map_or(0, |most| index / most);
        unit_at = Some(most.map_or(index, |most| index % most));
    }
    let unit = match unit_at {
        Some(unit) => unit,
        None => {
            // The first that is free.
            let mut unit = 0;
            while drive_get(interface, bus_at, unit).is_some() {
                unit += 1;
                if most.is_some_and(|most| unit >= most) {
                    (unit, bus_at) = (0, bus_at + 1);
                }
            }
            unit
        }
    };
    if let Some(most) = most
        && unit >= most
    {
        bail!("unit {unit} too big (max is {})", most - 1);
    }
    if drive_get(interface, bus_at, unit).is_some() {
        let index = bus_at * most.unwrap_or(0) + unit;
        bail!("drive with bus={bus_at}, unit={unit} (index={index}) exists");
    }
    Ok(Place { interface, bus: bus_at, unit, is_cdrom })
}

fn made_up_id(place: &Place) -> String {
    let Place { interface, bus, unit, is_cdrom } = place;
    let kind = match interface {
        Interface::Ide | Interface::Scsi if *is_cdrom => "-cd",
        Interface::Ide | Interface::Scsi => "-hd",
        _ => "",
    };
    match interface.max_devices() {
        Some(_) => format!("{}{bus}{kind}{unit}", interface.name()),
        None => format!("{}{kind}{unit}", interface.name()),
    }
}

fn take_on_error(taken: &mut Taken, name: &str, place: &Place) -> Result<BlockdevOnError> {
    let is_read = name == "rerror";
    let Some(text) = taken.take(name) else {
        return Ok(if is_read { BlockdevOnError::Report } else { BlockdevOnError::Enospc });
    };
    if !matches!(place.interface, Interface::Ide | Interface::Scsi | Interface::Virtio | Interface::None) {
        bail!("{name} is not supported by this bus type");
    }
    match text.as_str() {
        "ignore" => Ok(BlockdevOnError::Ignore),
        "enospc" if !is_read => Ok(BlockdevOnError::Enospc),
        "stop" => Ok(BlockdevOnError::Stop),
        "report" => Ok(BlockdevOnError::Report),
        other => bail!("'{other}' invalid {} error action", if is_read { "read" } else { "write" }),
    }
}

/// `throttling.…=`, with the older names: limits, and the name of those who share them.
fn take_limits(taken: &mut Taken) -> Result<(throttle::Config, Option<String>)> {
    let mut config = throttle::Config::default();
    for (kind, name) in throttle::Kind::ALL {
        let old = name.replace("-total", "").replace("-read", "_rd").replace("-write", "_wr");
        let limit = &mut config.limits[kind as usize];
        let average = take_limit(taken, name, Some(&old))?;
        let max = take_limit(taken, &format!("{name}-max"), Some(&format!("{old}_max")))?;
        let length = take_limit(taken, &format!("{name}-max-length"), None)?;
        *limit = throttle::Limit {
            average: average.unwrap_or(0),
            max: max.unwrap_or(0),
            length: length.unwrap_or(1),
        };
    }
    config.op_size = take_limit(taken, "iops-size", Some("iops_size"))?.unwrap_or(0);
    config.check()?;
    let group = taken.take("throttling.group");
    Ok((config, group.or_else(|| taken.take("group"))))
}

/// `stats-intervals.0=` and so on: seconds of which averages are kept (`parse_stats_intervals`).
fn take_intervals(taken: &mut Taken) -> Result<Vec<u32>> {
    const PREFIX: &str = "stats-intervals.";
    let mut intervals = Vec::new();
    while let Some(text) = taken.take(&format!("{PREFIX}{}", intervals.len())) {
        match text.parse() {
            Ok(seconds) if seconds > 0 => intervals.push(seconds),
            _ => bail!("Invalid interval length: {text}"),
        }
    }
    match taken.0.iter().find_map(|(name, _)| name.strip_prefix(PREFIX)) {
        Some(other) => bail!("Invalid option stats-intervals.{other}"),
        None => Ok(intervals),
    }
}

fn take_limit(taken: &mut Taken, name: &str, old: Option<&str>) -> Result<Option<u64>> {
    let name = format!("throttling.{name}");
    let mut text = taken.take(&name);
    if let Some(old) = old
        && let Some(its) = taken.take(old)
        && text.replace(its).is_some()
    {
        bail!("'{name}' and its alias '{old}' can't be used at the same time");
    }
    // What is below zero is far too much.
    let number = |text: String| text.parse().or_else(|_| text.parse::<i64>().map(|below| below as u64));
    match text.map(number) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => bail!("Parameter '{name}' expects a number"),
    }
}

/// `cache=` and its parts: what of the host's caching is used, and whether writes stay in it until a flush.
fn take_cache(taken: &mut Taken) -> Result<(CacheMode, bool)> {
    let (mut cache, mut writeback) = match taken.take("cache").as_deref() {
        None | Some("writeback") => (CacheMode::default(), true),
        Some("none" | "off") => (CacheMode { direct: true, no_flush: false }, true),
        Some("directsync") => (CacheMode { direct: true, no_flush: false }, false),
        Some("unsafe") => (CacheMode { direct: false, no_flush: true }, true),
        Some("writethrough") => (CacheMode::default(), false),
        Some(_) => bail!("invalid cache option"),
    };
    cache.direct = taken.flag("cache.direct")?.unwrap_or(cache.direct);
    cache.no_flush = taken.flag("cache.no-flush")?.unwrap_or(cache.no_flush);
    writeback = taken.flag("cache.writeback")?.unwrap_or(writeback);
    Ok((cache, writeback))
}

/// What `aio=` takes.
const AIO: [&str; 3] = ["threads", "native", "io_uring"];

/// Opens what the options name; `None` where they name nothing.
fn open_medium(mut taken: Taken, as_said: Inherited, snapshot: bool) -> Result<Option<Arc<BlockNode>>> {
    let format = taken.take("format");
    let driver = taken.take("driver");
    if format.is_some() && driver.is_some() {
        bail!("Cannot specify both 'driver' and 'format'");
    }
    let mut format = format.or(driver);
    let file = taken.take("file");
    let unmap = match taken.take("discard").as_deref() {
        None | Some("ignore" | "off") => false,
        Some("unmap" | "on") => true,
        Some(_) => bail!("Invalid discard option"),
    };
    let auto_read_only = taken.flag("auto-read-only")?.unwrap_or(true);
    let Inherited { read_only, copy_on_read, .. } = as_said;
    let mode = Inherited {
        read_only: read_only || snapshot,
        auto_read_only: auto_read_only && !read_only,
        unmap: unmap && !snapshot,
        copy_on_read: copy_on_read && !snapshot,
        ..as_said
    };
    if taken.0.iter().any(|(name, value)| name == "aio" && !AIO.contains(&value.as_str())) {
        bail!("invalid aio option");
    }
    let file_options: Vec<_> =
        ["aio", "locking"].into_iter().filter_map(|name| Some((name, taken.take(name)?))).collect();
    if file.as_deref().is_none_or(str::is_empty) && format.is_none() && taken.0.is_empty() {
        return Ok(None);
    }
    let name = file.clone().filter(|name| !name.is_empty());
    let node = if let Some(json) = name.as_deref().filter(|name| name.starts_with("json:")) {
        filename::open(json, None, mode)?
    } else {
        let mut own = drive_options::crumpled(&taken.0)?;
        let mut below = drive_options::options_below(name.as_deref(), own.remove("file"))?;
        let has_below = below.as_object().is_some_and(|map| !map.is_empty());
        if has_below && below.get("driver").is_none() {
            let path = below["filename"].as_str().unwrap_or_default().to_owned();
            below["driver"] = filename::file_options(&path)["driver"].clone();
        }
        if let Some(file) = drive_options::innermost_file(&mut below) {
            file_options.iter().for_each(|(key, value)| file[*key] = value.clone().into());
        } else if format.as_deref().is_some_and(|f| matches!(f, "file" | "host_device")) {
            file_options
                .iter()
                .for_each(|(key, value)| drop(own.insert((*key).to_owned(), value.clone().into())));
        }
        let probed = format.is_none() && has_below;
        if probed {
            format = Some(probe(&mut below, mode, name.as_deref())?);
        }
        let Some(format) = format else { bail!("Must specify either driver or file") };
        let is_protocol = has_below && below["driver"] == format.as_str();
        own.insert("driver".to_owned(), format.clone().into());
        if is_protocol {
            let Value::Object(below) = below else { bail!("Must specify either driver or file") };
            own.extend(below);
        } else if has_below {
            own.insert("file".to_owned(), below);
        }
        if !crate::DRIVER_NAMES.contains(&format.as_str()) {
            bail!("Unknown driver '{format}'");
        }
        drive_options::complete(&mut own, mode)?;
        let options: BlockdevOptions = from_keyval(Value::Object(own.clone()))
            .map_err(|error| drive_options::in_qemus_words(error, &Value::Object(own)))?;
        node::open(&options, Inherited { probed, ..mode })?
    };
    if snapshot { temporary_overlay(node, copy_on_read).map(Some) } else { Ok(Some(node)) }
}

/// Tells the format by what is there, and warns where that is nothing.
fn probe(below: &mut Value, mode: Inherited, name: Option<&str>) -> Result<String> {
    if let Some(below) = below.as_object_mut() {
        drive_options::complete(below, mode)?;
    }
    let mut options: BlockdevOptions =
        from_keyval(below.clone()).map_err(|error| drive_options::in_qemus_words(error, below))?;
    if !filename::is_format(&options.driver) {
        options.read_only = Some(true);
        options.force_share = Some(true);
    }
    let node = node::open(&options, Inherited { copy_on_read: false, ..mode })?;
    let size = node.length().unwrap_or(0);
    let format = filename::probe_node(&node)?;
    let is_null = matches!(options.driver, BlockdevDriver::NullCo(_) | BlockdevDriver::NullAio(_));
    if format == "raw" && size > 0 && !mode.read_only && !is_null {
        util::report::print_line(format_args!(
            "WARNING: Image format was not specified for '{}' and probing guessed raw.\n         Automatically detecting \
             the format is dangerous for raw images, write operations on block 0 will be restricted.\n         Specify \
             the 'raw' format explicitly to remove the restrictions.",
            name.map_or_else(|| node.filename(), str::to_owned)
        ));
    }
    Ok(format.to_owned())
}

/// An image of its own on top of `node`, for what the guest writes; its file has no name, and is gone with us
/// (`bdrv_append_temp_snapshot`).
fn temporary_overlay(node: Arc<BlockNode>, copy_on_read: bool) -> Result<Arc<BlockNode>> {
    let fail = |error: std::io::Error| {
        Error::new(format!("Could not create temporary overlay: {}", util::log::OsError(error)))
    };
    let size = node.length().map_err(fail)?;
    let folder = std::env::var_os("TMPDIR").unwrap_or_else(|| "/var/tmp".into());
    let file = tempfile::Builder::new().prefix("vl.").tempfile_in(folder).map_err(fail)?;
    std::fs::write(file.path(), crate::drivers::qcow2_create(size).map_err(fail)?).map_err(fail)?;
    let path = file.path().to_string_lossy().into_owned();
    // Until the overlay has it, the node needs somebody.
    let keep = Child::new("snapshot", node.clone());
    let options = json!({ "driver": "qcow2", "backing": node.node_name(), "discard": "unmap",
        "file": { "driver": "file", "filename": path } });
    let cache = CacheMode { direct: false, no_flush: true };
    let overlay = node::open(
        &BlockdevOptions::from_json(options, qapi::At::Top)?,
        Inherited { cache, unmap: true, copy_on_read, ..Inherited::default() },
    )?;
    drop(keep);
    Ok(overlay)
}
