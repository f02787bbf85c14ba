//! Commands about disks, networks, sound and the balloon, as QEMU answers them where a machine has none.

use serde_json::json;

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

pub(crate) fn block_node(_: &mut Session, args: &Args) -> Done {
    Err(format!("Error: Cannot find device='{}' nor node-name=''", args.word("device")))
}

pub(crate) fn block_device(_: &mut Session, args: &Args) -> Done {
    Err(format!("Error: Device '{}' not found", args.word("device")))
}

pub(crate) fn change(mon: &mut Session, args: &Args) -> Done {
    match (args.word("device"), args.word("target")) {
        ("vnc", "password" | "passwd") => Err("Error: Could not set password".to_owned()),
        ("vnc", _) => Err("Expected 'password' after 'vnc'".to_owned()),
        _ => block_device(mon, args),
    }
}

pub(crate) fn commit(_: &mut Session, args: &Args) -> Done {
    match args.word("device") {
        "all" => Ok(()),
        device => Err(format!("Device '{device}' not found")),
    }
}

pub(crate) fn drive_add(_: &mut Session, args: &Args) -> Done {
    if args.word("opts").split(',').any(|option| option == "format=help") {
        // No format has a driver.
        return Err("Supported formats:\nSupported formats (read-only):".to_owned());
    }
    Err("Must specify either driver or file".to_owned())
}

pub(crate) fn drive_del(_: &mut Session, args: &Args) -> Done {
    Err(format!("Device '{}' not found", args.word("id")))
}

pub(crate) fn wavcapture(_: &mut Session, args: &Args) -> Done {
    Err(format!("Audiodev '{}' not found", args.word("audiodev")))
}
