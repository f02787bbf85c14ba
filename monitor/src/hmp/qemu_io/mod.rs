//! `qemu-io`: commands of QEMU's program of that name, carried out on a drive or a node (qemu-io-cmds.c).
//!
//! What they print goes to the program's standard output, as QEMU has it: scripts look for it there.

mod allocation;
mod report;
mod requests;
mod words;

use std::sync::Arc;
use std::time::Instant;

use block::backend::{self, BlockBackend, Op, Request};
use block::breakpoints::{Breakpoints, with_breakpoints};
use block::driver::DebugEvent;

use super::args::Args;
use super::session::Session;
use report::{say, size_text};

type Done = Result<(), String>;

/// What a command says that a node cannot do, or a tag that there is not.
const NOT_SUPPORTED: &str = "Operation not supported";
const NO_SUCH: &str = "No such file or directory";

/// What the command is about; for a node a backend that lives as long as the command.
fn find(args: &Args) -> Result<Arc<BlockBackend>, String> {
    let name = args.word("device");
    if args.is_set("qdev") {
        return block::tray::get_backend(None, Some(name)).map_err(|error| format!("Error: {error}"));
    }
    if let Some(backend) = backend::find(name) {
        return Ok(backend);
    }
    let node = block::node::lookup(name).map_err(|error| format!("Error: {error}"))?;
    Ok(backend::new_nameless(node))
}

/// Calls `f` with the breakpoints below; `what` is what it could not do else.
fn held(backend: &BlockBackend, what: &str, f: impl FnOnce(&Breakpoints) -> bool) {
    match backend.node().and_then(|node| with_breakpoints(&node, f)) {
        Some(true) => {}
        Some(false) => say!("Could not {what}: {NO_SUCH}"),
        None => say!("Could not {what}: {NOT_SUPPORTED}"),
    }
}

fn set_breakpoint(backend: &BlockBackend, event: &str, tag: &str) {
    match DebugEvent::by_name(event) {
        Some(event) => held(backend, "set breakpoint", |points| {
            points.set(event, tag);
            true
        }),
        None => say!("Could not set breakpoint: {NO_SUCH}"),
    }
}

/// Waits for all requests that are under way, and counts that as a flush.
fn aio_flush(backend: &BlockBackend) {
    let begun = Instant::now();
    backend::all_backends().iter().for_each(|backend| backend.drain());
    let flush = Request { op: Op::Flush, offset: 0, bytes: 0, memory: Box::new(()) };
    backend.stats.count(&flush, begun, &Ok(()));
}

fn truncate(backend: &BlockBackend, size: &str) -> Done {
    let Some(size) = words::size(size) else { return Ok(()) };
    let Some(node) = backend.node() else { return Err("No medium inserted".to_owned()) };
    backend.drain();
    node.truncate(size).map_err(|error| error.message)?;
    if let Some(device) = backend.device() {
        device.resized();
    }
    Ok(())
}

fn length(backend: &BlockBackend) {
    match requests::node_of(backend).and_then(|node| node.length()) {
        Ok(size) => say!("{}", size_text(size as f64)),
        Err(error) => say!("getlength: {}", util::log::OsError(error)),
    }
}

pub(crate) fn qemu_io(_: &mut Session, args: &Args) -> Done {
    let backend = find(args)?;
    let words: Vec<&str> = args.word("command").split_whitespace().collect();
    match words[..] {
        [] => {}
        ["read" | "r", ref rest @ ..] => requests::read(&backend, rest),
        ["write" | "w", ref rest @ ..] => requests::write(&backend, rest)?,
        ["aio_read", ref rest @ ..] => requests::aio_read(&backend, rest),
        ["aio_write", ref rest @ ..] => requests::aio_write(&backend, rest)?,
        ["discard" | "d", ref rest @ ..] => requests::discard(&backend, rest)?,
        ["aio_flush"] => aio_flush(&backend),
        ["flush" | "f"] => requests::flush(&backend)?,
        ["length" | "l"] => length(&backend),
        ["alloc" | "a", ref rest @ ..] => allocation::alloc(&backend, rest),
        ["map"] => allocation::map(&backend),
        ["truncate" | "t", size] => truncate(&backend, size)?,
        ["break", event, tag] => set_breakpoint(&backend, event, tag),
        ["resume", tag] => held(&backend, "resume request", |points| points.resume(tag)),
        ["remove_break", tag] => {
            held(&backend, &format!("remove breakpoint {tag}"), |points| points.remove(tag));
        }
        ["wait_break", tag] => held(&backend, "wait for a request", |points| points.wait(tag)),
        [command, ..] => return Err(format!("command \"{command}\" not found")),
    }
    if backend.name().is_empty() && !backend.is_attached() {
        // Only this command knows it.
        backend.drain();
    }
    Ok(())
}
