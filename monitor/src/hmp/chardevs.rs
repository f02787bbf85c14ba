//! Commands about chardevs (monitor/hmp-cmds.c, chardev/char-hmp-cmds.c).

use serde_json::json;
use util::option::{Opts, OptsDesc};

use super::args::Args;
use super::qmp;
use super::session::{Session, out};

/// The most that `ringbuf_read` takes at once: more than a command prints.
const MAX_READ: i64 = 1 << 20;

/// What `chardev-add` and `chardev-change` take.
static CHARDEV: OptsDesc = OptsDesc { name: "chardev", implied: Some("backend"), merge: false, descs: &[] };

/// The id and the options of a chardev.
fn options(mon: &mut Session, text: &str) -> Result<(Option<String>, Vec<(String, String)>), String> {
    let mut warnings = Vec::new();
    let parsed = Opts::parse(&CHARDEV, text, &mut warnings);
    let opts = parsed.map_err(|e| format!("{e}\nError: Parsing chardev args failed"))?;
    for warning in warnings {
        out!(mon, "warning: {warning}\n");
    }
    Ok((opts.id, opts.values))
}

pub(crate) fn add(mon: &mut Session, args: &Args) -> Result<(), String> {
    if args.word("args").split(',').next().is_some_and(util::option::is_help_option) {
        mon.print(&chardev::backend_help());
        return Ok(());
    }
    let (id, options) = options(mon, args.word("args"))?;
    let id = id.ok_or("Error: chardev: no id specified")?;
    if chardev::find(&id).is_some() {
        return Err(format!("Error: attempt to add duplicate property '{id}' to object (type 'container')"));
    }
    chardev::new_from_opts(&id, &options).map(drop).map_err(|e| format!("Error: {e}"))
}

/// The id of a new chardev while it is tried.
const TRIED: &str = "chardev-change";

pub(crate) fn change(mon: &mut Session, args: &Args) -> Result<(), String> {
    let id = args.word("id");
    let old = chardev::find(id).ok_or_else(|| format!("Error: Chardev '{id}' does not exist"))?;
    let (_, options) = options(mon, args.word("args"))?;
    if old.is_busy() {
        return Err("Error: Chardev user does not support chardev hotswap".to_owned());
    }
    drop(old);
    // What cannot be made leaves the old one in its place.
    let error = |e: chardev::ChardevError| format!("Error: {e}");
    drop(chardev::new_from_opts(TRIED, &options).map_err(error)?);
    chardev::remove(TRIED).map_err(error)?;
    chardev::remove(id).map_err(error)?;
    chardev::new_from_opts(id, &options).map(drop).map_err(error)
}

pub(crate) fn remove(_: &mut Session, args: &Args) -> Result<(), String> {
    chardev::remove(args.word("id")).map_err(|e| format!("Error: {e}"))
}

pub(crate) fn send_break(_: &mut Session, args: &Args) -> Result<(), String> {
    qmp::carry_out("chardev-send-break", [("id", json!(args.word("id")))])
}

pub(crate) fn ringbuf_write(_: &mut Session, args: &Args) -> Result<(), String> {
    let arguments = [("device", json!(args.word("device"))), ("data", json!(args.word("data")))];
    qmp::carry_out("ringbuf-write", arguments)
}

/// Shows what was in the buffer, with what is no text written as its code in hexadecimal.
pub(crate) fn ringbuf_read(mon: &mut Session, args: &Args) -> Result<(), String> {
    let size = args.number("size").unwrap_or_default().min(MAX_READ);
    let arguments = [("device", json!(args.word("device"))), ("size", json!(size))];
    let data = qmp::run("ringbuf-read", arguments)?;
    for c in data.as_str().unwrap_or_default().chars() {
        match c {
            '\\' => mon.print("\\\\"),
            '\n' | '\t' | ' '..='~' => out!(mon, "{c}"),
            c if c.is_ascii() => out!(mon, "\\u{:04X}", u32::from(c)),
            c => out!(mon, "{c}"),
        }
    }
    mon.print("\n");
    Ok(())
}
