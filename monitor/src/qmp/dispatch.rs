//! Carrying out commands: the checks of a request, and whose turn it is on the main loop.
//!
//! Source: QEMU `qapi/qmp-dispatch.c`, `monitor_qmp_dispatcher_co` in `monitor/qmp.c`.

use std::sync::{Arc, OnceLock};

use hw_core::runstate;
use parking_lot::Mutex;
use qom::{Error, ErrorClass, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value};
use util::event_loop::{BottomHalf, EventLoop};

use super::json::Message;
use super::session::{MONITORS, QmpMonitor, Request};

/// What a request is answered with.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    result: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Return(Value),
    Error(ErrorContent),
}

#[derive(Debug, Serialize)]
struct ErrorContent {
    class: &'static str,
    desc: String,
}

/// An answer that goes out at the main loop's next turn.
type Deferred = (Arc<QmpMonitor>, Answer, u64);

static DEFERRED: Mutex<Option<Deferred>> = Mutex::new(None);
/// A command is carried out on the main loop: one that runs a turn of the loop itself starts no other.
static BUSY: Mutex<()> = Mutex::new(());

/// Has the main loop carry out what waits.
pub(super) fn kick() {
    static BOTTOM_HALF: OnceLock<BottomHalf> = OnceLock::new();
    BOTTOM_HALF.get_or_init(|| BottomHalf::new(EventLoop::main(), run)).schedule();
}

/// The next request, of each monitor in turn.
fn next_request() -> Option<(Arc<QmpMonitor>, Request)> {
    let mut monitors = MONITORS.lock();
    let (n, request) = monitors.iter().enumerate().find_map(|(n, m)| Some((n, m.begin_request()?)))?;
    let monitor = monitors.remove(n)?;
    monitors.push_back(monitor.clone());
    Some((monitor, request))
}

/// Answers what was deferred, then carries out one request.
fn run() {
    let Some(_busy) = BUSY.try_lock() else { return };
    answer_deferred();
    let Some((monitor, Request { message, session })) = next_request() else { return };
    let answer = monitor.dispatch(message);
    kick();
    if runstate::has_requests() {
        // What the main loop does about them is told as an event before the answer, as in QEMU.
        *DEFERRED.lock() = Some((monitor, answer, session));
    } else {
        monitor.send(session, &answer);
        monitor.finish_request();
    }
}

fn answer_deferred() {
    let deferred = DEFERRED.lock().take();
    if let Some((monitor, answer, session)) = deferred {
        monitor.send(session, &answer);
        monitor.finish_request();
    }
}

/// The program ends: clients get the answers they are owed, no more commands are carried out
/// (`monitor_cleanup`).
pub fn finish() {
    let _busy = BUSY.try_lock();
    answer_deferred();
    let monitors = std::mem::take(&mut *MONITORS.lock());
    monitors.iter().for_each(|monitor| monitor.flush());
}

/// Carries out a request of a client that has negotiated, and may have asked for `oob`.
pub(super) fn qmp_dispatch(message: Message, negotiated: bool, oob: bool) -> Answer {
    let mut id = None;
    let result = match message {
        Err(wrong) => Err(Error::new(wrong)),
        Ok(Value::Object(mut request)) => {
            id = request.remove("id");
            carry_out(request, negotiated, oob)
        }
        Ok(_) => Err(Error::new("QMP input must be a JSON object")),
    };
    let result = match result {
        Ok(value) => Outcome::Return(value),
        Err(error) => Outcome::Error(ErrorContent { class: error.class.as_str(), desc: error.message }),
    };
    Answer { result, id }
}

/// The command, its arguments, and whether it is to be out of band (`qmp_dispatch_check_obj`).
fn check(request: Map<String, Value>, oob: bool) -> Result<(String, Map<String, Value>, bool)> {
    let mut command: Option<(&str, String)> = None;
    let mut arguments = Map::new();
    for (name, value) in request {
        let how = match name.as_str() {
            "execute" => "execute",
            "exec-oob" if oob => "exec-oob",
            "arguments" => {
                let Value::Object(map) = value else {
                    bail!("QMP input member 'arguments' must be an object")
                };
                arguments = map;
                continue;
            }
            _ => bail!("QMP input member '{name}' is unexpected"),
        };
        let Value::String(text) = value else { bail!("QMP input member '{name}' must be a string") };
        if let Some((other, _)) = command.replace((how, text)) {
            bail!("QMP input member '{name}' clashes with '{other}'");
        }
    }
    match command {
        Some((how, name)) => Ok((name, arguments, how == "exec-oob")),
        None => bail!("QMP input lacks member 'execute'"),
    }
}

fn carry_out(request: Map<String, Value>, negotiated: bool, oob: bool) -> Result<Value> {
    let (name, arguments, out_of_band) = check(request, oob)?;
    if !negotiated && name != "qmp_capabilities" {
        let error = Error::new("Expecting capabilities negotiation with 'qmp_capabilities'");
        return Err(error.with_class(ErrorClass::CommandNotFound));
    }
    let Some(command) = qapi::find_command(&name) else {
        let error = Error::new(format!("The command {name} has not been found"));
        return Err(error.with_class(ErrorClass::CommandNotFound));
    };
    if out_of_band && !command.options.allow_oob {
        bail!("The command {name} does not support OOB");
    }
    if !hw_core::machine::is_ready() && !command.options.allow_preconfig {
        bail!("The command '{name}' is permitted only after machine initialization has completed");
    }
    command.run(arguments)
}
