//! Commands about disks (block/monitor/block-hmp-cmds.c).

use block::drive::{DriveOptions, Interface, drive_new};
use block::options::BlockdevOptions;
use qapi::from_keyval;
use serde_json::{Value, json};
use util::option::{Opts, OptsDesc};

use super::args::Args;
use super::qmp::{self, flag, text};
use super::session::{Session, out};

type Done = Result<(), String>;

/// What `drive_add` takes.
static DRIVE: OptsDesc = OptsDesc { name: "drive", implied: None, merge: false, descs: &[] };

pub(crate) fn info(mon: &mut Session, args: &Args) -> Done {
    let wanted = args.word("device");
    let verbose = args.is_set("verbose");
    let mut found = false;
    if !args.is_set("nodes") {
        for (n, device) in qmp::list("query-block")?.iter().enumerate() {
            if !wanted.is_empty() && ![text(device, "device"), text(device, "qdev")].contains(&wanted) {
                continue;
            }
            if n > 0 {
                mon.print("\n");
            }
            device_info(mon, device, &device["inserted"], verbose);
            found = true;
        }
        found |= wanted.is_empty();
    }
    if found {
        return Ok(());
    }
    for (n, node) in qmp::list("query-named-block-nodes")?.iter().enumerate() {
        if !wanted.is_empty() && text(node, "node-name") != wanted {
            continue;
        }
        if n > 0 {
            mon.print("\n");
        }
        device_info(mon, &Value::Null, node, verbose);
    }
    Ok(())
}

/// One device, or one node where `info` is none (`print_block_info`).
fn device_info(mon: &mut Session, info: &Value, inserted: &Value, verbose: bool) {
    device_name(mon, info, inserted);
    if !info.is_null() {
        attachment(mon, info);
    }
    if inserted.is_null() {
        return;
    }
    let cache = &inserted["cache"];
    let kind = if flag(cache, "writeback") { "writeback" } else { "writethrough" };
    let direct = if flag(cache, "direct") { ", direct" } else { "" };
    let unsafe_ = if flag(cache, "no-flush") { ", ignore flushes" } else { "" };
    out!(mon, "    Cache mode:       {kind}{direct}{unsafe_}\n");
    if !text(inserted, "backing_file").is_empty() {
        let depth = &inserted["backing_file_depth"];
        out!(mon, "    Backing file:     {} (chain depth: {depth})\n", text(inserted, "backing_file"));
    }
    if !matches!(text(inserted, "detect_zeroes"), "" | "off") {
        out!(mon, "    Detect zeroes:    {}\n", text(inserted, "detect_zeroes"));
    }
    throttling(mon, inserted);
    if verbose {
        mon.print("\nImages:\n");
        let mut image = &inserted["image"];
        while !image.is_null() {
            image_info(mon, image);
            image = &image["backing-image"];
        }
    }
}

/// The line that a drive or node begins with.
fn device_name(mon: &mut Session, info: &Value, inserted: &Value) {
    let name = text(info, "device");
    let node = text(inserted, "node-name");
    if name.is_empty() {
        let qdev = text(info, "qdev");
        mon.print(if !node.is_empty() {
            node
        } else if !qdev.is_empty() {
            qdev
        } else {
            "<anonymous>"
        });
    } else {
        mon.print(name);
        if !node.is_empty() {
            out!(mon, " ({node})");
        }
    }
    if inserted.is_null() {
        mon.print(": [not inserted]\n");
    } else {
        let read_only = if flag(inserted, "ro") { ", read-only" } else { "" };
        out!(mon, ": {} ({}{read_only})\n", text(inserted, "file"), text(inserted, "drv"));
    }
}

/// Who has it.
fn attachment(mon: &mut Session, info: &Value) {
    if !text(info, "qdev").is_empty() {
        out!(mon, "    Attached to:      {}\n", text(info, "qdev"));
    }
    let status = text(info, "io-status");
    if !matches!(status, "" | "ok") {
        out!(mon, "    I/O status:       {status}\n");
    }
    if flag(info, "removable") {
        let not = if flag(info, "locked") { "" } else { "not " };
        let tray = if flag(info, "tray_open") { "open" } else { "closed" };
        out!(mon, "    Removable device: {not}locked, tray {tray}\n");
    }
}

/// What limits a medium's requests, if anything does.
fn throttling(mon: &mut Session, inserted: &Value) {
    const LIMITS: [&str; 6] = ["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"];
    const SHOWN: [&str; 13] = [
        "bps",
        "bps_rd",
        "bps_wr",
        "bps_max",
        "bps_rd_max",
        "bps_wr_max",
        "iops",
        "iops_rd",
        "iops_wr",
        "iops_max",
        "iops_rd_max",
        "iops_wr_max",
        "iops_size",
    ];
    let value = |name: &str| inserted[name].as_u64().unwrap_or_default();
    if LIMITS.iter().all(|name| value(name) == 0) {
        return;
    }
    let shown: Vec<_> = SHOWN.iter().map(|name| format!("{name}={}", value(name))).collect();
    out!(mon, "    I/O throttling:   {} group={}\n", shown.join(" "), text(inserted, "group"));
}

/// Bytes as people read them: three digits and a unit (`size_to_str`).
fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value >= 100.0 || value.fract() == 0.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let number = format!("{value:.digits$}");
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number} {}", UNITS[unit])
}

/// One image (`bdrv_image_info_dump`).
fn image_info(mon: &mut Session, image: &Value) {
    let size = image["virtual-size"].as_u64().unwrap_or_default();
    out!(mon, "image: {}\nfile format: {}\n", text(image, "filename"), text(image, "format"));
    out!(mon, "virtual size: {} ({size} bytes)\n", human(size));
    match image["actual-size"].as_u64() {
        Some(actual) => out!(mon, "disk size: {}\n", human(actual)),
        None => mon.print("disk size: unavailable\n"),
    }
    if let Some(cluster) = image["cluster-size"].as_u64() {
        out!(mon, "cluster_size: {cluster}\n");
    }
    if !text(image, "backing-filename").is_empty() {
        let (name, full) = (text(image, "backing-filename"), text(image, "full-backing-filename"));
        out!(mon, "backing file: {name}");
        if name != full && !full.is_empty() {
            out!(mon, " (actual path: {full})");
        }
        mon.print("\n");
        if !text(image, "backing-filename-format").is_empty() {
            out!(mon, "backing file format: {}\n", text(image, "backing-filename-format"));
        }
    }
    let specific = &image["format-specific"]["data"];
    if specific.is_null() {
        return;
    }
    mon.print("Format specific information:\n");
    for (key, name) in [
        ("compat", "compat"),
        ("compression-type", "compression type"),
        ("lazy-refcounts", "lazy refcounts"),
        ("refcount-bits", "refcount bits"),
        ("corrupt", "corrupt"),
        ("extended-l2", "extended l2"),
    ] {
        match &specific[key] {
            Value::Null => {}
            Value::String(value) => out!(mon, "    {name}: {value}\n"),
            value => out!(mon, "    {name}: {value}\n"),
        }
    }
}

pub(crate) fn stats(mon: &mut Session, _: &Args) -> Done {
    for device in qmp::list("query-blockstats")? {
        // A device's own backend has no name.
        out!(mon, "{}:", text(&device, "device"));
        let counts = &device["stats"];
        for key in [
            "rd_bytes",
            "wr_bytes",
            "rd_operations",
            "wr_operations",
            "flush_operations",
            "wr_total_time_ns",
            "rd_total_time_ns",
            "flush_total_time_ns",
            "rd_merged",
            "wr_merged",
            "idle_time_ns",
        ] {
            out!(mon, " {key}={}", counts[key].as_u64().unwrap_or_default());
        }
        mon.print("\n");
    }
    Ok(())
}

pub(crate) fn resize(_: &mut Session, args: &Args) -> Done {
    let arguments = [("device", json!(args.word("device"))), ("size", json!(args.number("size")))];
    qmp::carry_out("block_resize", arguments)
}

pub(crate) fn set_io_throttle(_: &mut Session, args: &Args) -> Done {
    let device = args.word("device");
    let key = if block::backend::find(device).is_some() { "device" } else { "id" };
    let limit = |name| (name, json!(args.number(name)));
    let [bps, bps_rd, bps_wr] = ["bps", "bps_rd", "bps_wr"].map(limit);
    let [iops, iops_rd, iops_wr] = ["iops", "iops_rd", "iops_wr"].map(limit);
    let arguments = [(key, json!(device)), bps, bps_rd, bps_wr, iops, iops_rd, iops_wr];
    qmp::carry_out("block_set_io_throttle", arguments)
}

pub(crate) fn eject(_: &mut Session, args: &Args) -> Done {
    let arguments = [("device", json!(args.word("device"))), ("force", json!(args.is_set("force")))];
    qmp::carry_out("eject", arguments)
}

pub(crate) fn change(_: &mut Session, args: &Args) -> Done {
    match (args.word("device"), args.word("target")) {
        ("vnc", "password" | "passwd") => Err("Error: Could not set password".to_owned()),
        ("vnc", _) => Err("Expected 'password' after 'vnc'".to_owned()),
        (device, target) => {
            let given = |name| match args.word(name) {
                "" => Value::Null,
                word => json!(word),
            };
            let arguments = [
                ("device", json!(device)),
                ("filename", json!(target)),
                ("format", given("arg")),
                ("read-only-mode", given("read-only-mode")),
                ("force", json!(args.is_set("force"))),
            ];
            qmp::carry_out("blockdev-change-medium", arguments)
        }
    }
}

pub(crate) fn drive_add(mon: &mut Session, args: &Args) -> Done {
    let given = args.word("opts");
    if args.is_set("node") {
        let tree = util::keyval::parse(given, Some("driver")).map_err(|e| e.to_string())?.map;
        if !tree.contains_key("node-name") {
            return Err("'node-name' needs to be specified".to_owned());
        }
        let options: BlockdevOptions = from_keyval(Value::Object(tree)).map_err(|e| e.message)?;
        return block::node::blockdev_add(&options).map(drop).map_err(|e| e.message);
    }
    if given.split(',').any(|option| matches!(option, "format=help" | "format=?")) {
        return Err(block::drive::formats_help());
    }
    let opts = Opts::parse(&DRIVE, given, &mut Vec::new()).map_err(|e| e.to_string())?;
    if let Some(id) = opts.id.as_deref().filter(|id| block::backend::find(id).is_some()) {
        return Err(format!("Duplicate ID '{id}' for drive"));
    }
    let options = DriveOptions {
        id: opts.id.as_deref(),
        values: &opts.values,
        snapshot: false,
        default_interface: Interface::Ide,
        location: String::new(),
    };
    match drive_new(&options).map_err(|e| e.message)? {
        Some(drive) if drive.interface != Interface::None => {
            drive.backend.remove();
            block::drive::drive_forget(&drive.backend);
            Err(format!("Can't hot-add drive to type {}", drive.interface as u8))
        }
        Some(_) => {
            mon.print("OK\n");
            Ok(())
        }
        None => Ok(()),
    }
}

pub(crate) fn drive_del(_: &mut Session, args: &Args) -> Done {
    block::drive::drive_del(args.word("id")).map_err(|error| error.message)
}
