//! Commands about disks, networks, sound and the balloon, as QEMU answers them where a machine has none.

use serde_json::{Value, json};

use super::args::Args;
use super::qmp;
use super::session::Session;

type Done = Result<(), String>;

pub(crate) fn balloon(_: &mut Session, args: &Args) -> Done {
    qmp::carry_out("balloon", [("value", json!(args.number("value")))])
}

pub(crate) fn block_job(_: &mut Session, args: &Args) -> Done {
    Err(format!("Error: Block job '{}' not found", args.word("device")))
}

pub(crate) fn commit(_: &mut Session, args: &Args) -> Done {
    match args.word("device") {
        "all" => Ok(()),
        device if block::backend::find(device).is_some() => {
            Err("Error: changes cannot be committed to backing files yet".to_owned())
        }
        device => Err(format!("Device '{device}' not found")),
    }
}

pub(crate) fn wavcapture(_: &mut Session, args: &Args) -> Done {
    Err(format!("Audiodev '{}' not found", args.word("audiodev")))
}

pub(crate) fn set_vcpu_dirty_limit(_: &mut Session, args: &Args) -> Done {
    let arguments =
        [("dirty-rate", json!(args.number("dirty_rate"))), ("cpu-index", json!(args.number("cpu_index")))];
    qmp::carry_out("set-vcpu-dirty-limit", arguments)
}

pub(crate) fn cancel_vcpu_dirty_limit(mon: &mut Session, args: &Args) -> Done {
    qmp::carry_out("cancel-vcpu-dirty-limit", [("cpu-index", json!(args.number("cpu_index")))])?;
    mon.print("[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]\n");
    Ok(())
}

/// The remote display that a password is for.
fn password_protocol(args: &Args) -> Result<(&str, Value), String> {
    match args.word("protocol") {
        protocol @ ("vnc" | "spice") => Ok(("protocol", json!(protocol))),
        other => Err(format!("Error: invalid parameter value: {other}")),
    }
}

/// The display's name, which only VNC has.
fn password_display<'a>(args: &Args) -> (&'a str, Value) {
    let display = args.text("display").filter(|_| args.word("protocol") == "vnc");
    ("display", json!(display))
}

pub(crate) fn set_password(_: &mut Session, args: &Args) -> Done {
    let protocol = password_protocol(args)?;
    let connected = args.text("connected");
    if let Some(other) = connected.filter(|word| !matches!(*word, "keep" | "fail" | "disconnect")) {
        return Err(format!("Error: invalid parameter value: {other}"));
    }
    let password = ("password", json!(args.word("password")));
    qmp::carry_out(
        "set_password",
        [protocol, password, password_display(args), ("connected", json!(connected))],
    )
}

pub(crate) fn expire_password(_: &mut Session, args: &Args) -> Done {
    let arguments = [password_protocol(args)?, ("time", json!(args.word("time"))), password_display(args)];
    qmp::carry_out("expire_password", arguments)
}

pub(crate) fn rocker(_: &mut Session, args: &Args) -> Done {
    qmp::carry_out("query-rocker", [("name", json!(args.word("name")))])
}
