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

pub(crate) fn block_device(_: &mut Session, args: &Args) -> Done {
    Err(format!("Error: Device '{}' not found", args.word("device")))
}

pub(crate) fn commit(_: &mut Session, args: &Args) -> Done {
    match args.word("device") {
        "all" => Ok(()),
        device => Err(format!("Device '{device}' not found")),
    }
}

pub(crate) fn wavcapture(_: &mut Session, args: &Args) -> Done {
    Err(format!("Audiodev '{}' not found", args.word("audiodev")))
}
