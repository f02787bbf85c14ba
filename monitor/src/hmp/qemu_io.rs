//! `qemu-io`: commands of QEMU's program of that name, of which tests hold requests with (qemu-io-cmds.c).

use std::sync::Arc;

use block::BlockNode;
use block::breakpoints::{Breakpoints, with_breakpoints};
use block::driver::DebugEvent;

use super::args::Args;
use super::session::Session;

type Done = Result<(), String>;

/// What a command says that a node cannot do, or a tag that there is not.
const NOT_SUPPORTED: &str = "Operation not supported";
const NO_SUCH: &str = "No such file or directory";

fn find(args: &Args) -> Result<Arc<BlockNode>, String> {
    let name = args.word("device");
    let is_device = args.is_set("qdev");
    let backend = match is_device {
        true => block::tray::get_backend(None, Some(name)),
        false => block::tray::get_backend(Some(name), None),
    };
    match backend {
        Ok(backend) => backend.node().ok_or_else(|| format!("Device '{name}' has no medium")),
        Err(error) if is_device => Err(error.message),
        Err(_) => block::node::find_node(name)
            .ok_or_else(|| format!("Cannot find device='{name}' nor node-name='{name}'")),
    }
}

/// Calls `f` with the node's breakpoints; `what` is what it could not do else.
fn held(node: &BlockNode, what: &str, f: impl FnOnce(&Breakpoints) -> bool) -> Done {
    match with_breakpoints(node, f) {
        Some(true) => Ok(()),
        Some(false) => Err(format!("Could not {what}: {NO_SUCH}")),
        None => Err(format!("Could not {what}: {NOT_SUPPORTED}")),
    }
}

pub(crate) fn qemu_io(_: &mut Session, args: &Args) -> Done {
    let node = find(args)?;
    let words: Vec<&str> = args.word("command").split_whitespace().collect();
    match words[..] {
        [] => Ok(()),
        ["break", event, tag] => match DebugEvent::by_name(event) {
            Some(event) => held(&node, "set a breakpoint", |points| {
                points.set(event, tag);
                true
            }),
            None => Err(format!("Could not set a breakpoint: {NO_SUCH}")),
        },
        ["resume", tag] => held(&node, "resume request", |points| points.resume(tag)),
        ["remove_break", tag] => {
            held(&node, &format!("remove breakpoint {tag}"), |points| points.remove(tag))
        }
        ["wait_break", tag] => held(&node, "wait for a request", |points| points.wait(tag)),
        ["flush" | "f"] => node.flush().map_err(|error| util::log::OsError(error).to_string()),
        [command, ..] => Err(format!("command \"{command}\" not found")),
    }
}
