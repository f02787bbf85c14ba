//! `info virtio` and its kin: virtio devices and their queues (monitor/hmp-cmds.c).

use serde_json::{Value, json};

use super::args::Args;
use super::qmp;
use super::session::{Session, out};

pub(crate) fn info_virtio(mon: &mut Session, _: &Args) -> Result<(), String> {
    let devices = qmp::list("x-query-virtio")?;
    if devices.is_empty() {
        out!(mon, "No VirtIO devices\n");
    }
    for device in &devices {
        out!(mon, "{} [{}]\n", qmp::text(device, "path"), qmp::text(device, "name"));
    }
    Ok(())
}

/// The words of a list, one a line; nothing for none.
fn words(list: &Value) -> String {
    let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    words.map(|word| format!("\t{word}")).collect::<Vec<_>>().join(",\n")
}

fn print_features(mon: &mut Session, title: &str, features: &Value) {
    out!(mon, "  {title}:\n{}\n", words(&features["transports"]));
    let own = words(&features["dev-features"]);
    if !own.is_empty() {
        out!(mon, "{own}\n");
    }
    if let Some(unknown) = features["unknown-dev-features"].as_u64() {
        out!(mon, "  unknown-features({unknown:#018x})\n");
    }
}

/// A value as it stands in the tables: text without quotes, all else as JSON has it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Names and values in two columns; members that are not there are left out.
fn print_table(mon: &mut Session, width: usize, members: &[&str], of: &Value) {
    for member in members {
        if let Some(value) = of.get(member) {
            let name = format!("{}:", member.replace('-', "_"));
            out!(mon, "  {name:<width$} {}\n", plain(value));
        }
    }
}

pub(crate) fn info_status(mon: &mut Session, args: &Args) -> Result<(), String> {
    let path = args.word("path");
    let status = qmp::run("x-query-virtio-status", [("path", json!(path))])?;
    let vhost = if qmp::flag(&status, "vhost-started") { "(vhost)" } else { "" };
    out!(mon, "{path}:\n  device_name:             {} {vhost}\n", qmp::text(&status, "name"));
    const MEMBERS: [&str; 14] = [
        "device-id",
        "vhost-started",
        "bus-name",
        "broken",
        "disabled",
        "disable-legacy-check",
        "started",
        "use-started",
        "start-on-kick",
        "use-guest-notifier-mask",
        "vm-running",
        "num-vqs",
        "queue-sel",
        "isr",
    ];
    print_table(mon, 24, &MEMBERS, &status);
    out!(mon, "  endianness:              {}\n", qmp::text(&status, "device-endian"));
    out!(mon, "  status:\n{}\n", words(&status["status"]["statuses"]));
    if let Some(unknown) = status["status"]["unknown-statuses"].as_u64() {
        out!(mon, "  unknown-statuses({unknown:#018x})\n");
    }
    print_features(mon, "Guest features", &status["guest-features"]);
    print_features(mon, "Host features", &status["host-features"]);
    print_features(mon, "Backend features", &status["backend-features"]);
    Ok(())
}

pub(crate) fn info_queue_status(mon: &mut Session, args: &Args) -> Result<(), String> {
    let path = args.word("path");
    let arguments = [("path", json!(path)), ("queue", json!(args.number("queue")))];
    let status = qmp::run("x-query-virtio-queue-status", arguments)?;
    out!(mon, "{path}:\n  device_name:          {}\n", qmp::text(&status, "name"));
    const MEMBERS: [&str; 7] = [
        "queue-index",
        "inuse",
        "used-idx",
        "signalled-used",
        "signalled-used-valid",
        "last-avail-idx",
        "shadow-avail-idx",
    ];
    print_table(mon, 21, &MEMBERS, &status);
    out!(mon, "  VRing:\n");
    let number = |member: &str| status[member].as_u64().unwrap_or_default();
    out!(mon, "    num:          {}\n", number("vring-num"));
    out!(mon, "    num_default:  {}\n", number("vring-num-default"));
    out!(mon, "    align:        {}\n", number("vring-align"));
    out!(mon, "    desc:         {:#018x}\n", number("vring-desc"));
    out!(mon, "    avail:        {:#018x}\n", number("vring-avail"));
    out!(mon, "    used:         {:#018x}\n", number("vring-used"));
    Ok(())
}

pub(crate) fn info_vhost_queue_status(mon: &mut Session, args: &Args) -> Result<(), String> {
    let path = args.word("path");
    let arguments = [("path", json!(path)), ("queue", json!(args.number("queue")))];
    let status = qmp::run("x-query-virtio-vhost-queue-status", arguments)?;
    out!(mon, "{path}:\n  device_name:          {} (vhost)\n", qmp::text(&status, "name"));
    out!(mon, "  kick:                 {}\n  call:                 {}\n", status["kick"], status["call"]);
    out!(mon, "  VRing:\n    num:         {}\n", status["num"]);
    let number = |member: String| status[member].as_u64().unwrap_or_default();
    for part in ["desc", "avail", "used"] {
        out!(mon, "    {:<12} {:#018x}\n", format!("{part}:"), number(part.to_owned()));
        out!(mon, "    {:<12} {:#018x}\n", format!("{part}_phys:"), number(format!("{part}-phys")));
        out!(mon, "    {:<12} {}\n", format!("{part}_size:"), number(format!("{part}-size")));
    }
    Ok(())
}

pub(crate) fn info_queue_element(mon: &mut Session, args: &Args) -> Result<(), String> {
    let path = args.word("path");
    let arguments = [
        ("path", json!(path)),
        ("queue", json!(args.number("queue"))),
        ("index", json!(args.number("index"))),
    ];
    let element = qmp::run("x-query-virtio-queue-element", arguments)?;
    let name = qmp::text(&element, "name");
    out!(mon, "{path}:\n  device_name: {name}\n  index:   {}\n", element["index"]);
    out!(mon, "  desc:\n    descs:\n");
    let descriptor = |one: &Value| {
        let flags: Vec<_> = one["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let flags = if flags.is_empty() { String::new() } else { format!(" ({})", flags.join(", ")) };
        format!("        addr {:#x} len {}{flags}", one["addr"].as_u64().unwrap_or_default(), one["len"])
    };
    let descriptors = element["descs"].as_array().into_iter().flatten().map(descriptor);
    out!(mon, "{}\n", descriptors.collect::<Vec<_>>().join(",\n"));
    let (avail, used) = (&element["avail"], &element["used"]);
    out!(mon, "  avail:\n    flags: {}\n    idx:   {}\n", avail["flags"], avail["idx"]);
    out!(
        mon,
        "    ring:  {}\n  used:\n    flags: {}\n    idx:   {}\n",
        avail["ring"],
        used["flags"],
        used["idx"]
    );
    Ok(())
}
