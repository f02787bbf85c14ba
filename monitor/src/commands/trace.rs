//! Trace events.
//!
//! Source: QEMU `trace/qmp.c`, `qapi/trace.json`.

use hw_core::cpu::cpu_list;
use qapi::QapiType;
use qom::{Result, bail};
use util::trace;

#[derive(QapiType)]
enum TraceEventState {
    Unavailable,
    Disabled,
    Enabled,
}

#[derive(QapiType)]
struct TraceEventInfo {
    name: String,
    state: TraceEventState,
    /// Whether it can be switched for one CPU; none can.
    vcpu: bool,
}

/// The events that `name` stands for, and whether each is on.
fn matching(name: &str, vcpu: Option<i64>) -> Result<Vec<(&'static str, bool)>> {
    if let Some(index) = vcpu
        && usize::try_from(index).map_or(true, |index| index >= cpu_list().len())
    {
        bail!("invalid vCPU index {index}");
    }
    let found: Vec<_> =
        trace::list().into_iter().filter(|(event, _)| trace::glob_match(name, event)).collect();
    if !name.contains('*') {
        match found.first() {
            None => bail!("unknown event \"{name}\""),
            Some(_) if vcpu.is_some() => bail!("event \"{name}\" is not vCPU-specific"),
            Some(_) => {}
        }
    }
    Ok(if vcpu.is_some() { Vec::new() } else { found })
}

/// Tells which trace events are on.
#[qapi::command("trace-event-get-state")]
fn trace_event_get_state(
    /// A name, in which `*` stands for any text.
    name: String,
    vcpu: Option<i64>,
) -> Result<Vec<TraceEventInfo>> {
    let state = |on| if on { TraceEventState::Enabled } else { TraceEventState::Disabled };
    let info =
        |(name, on): (&str, bool)| TraceEventInfo { name: name.to_owned(), state: state(on), vcpu: false };
    Ok(matching(&name, vcpu)?.into_iter().map(info).collect())
}

/// Switches trace events on or off.
#[qapi::command("trace-event-set-state")]
fn trace_event_set_state(
    name: String,
    enable: bool,
    /// Whether an event that was not built in is no error.
    #[qapi(name = "ignore-unavailable")]
    _ignore: Option<bool>,
    vcpu: Option<i64>,
) -> Result<()> {
    for (event, _) in matching(&name, vcpu)? {
        trace::enable(&if enable { event.to_owned() } else { format!("-{event}") });
    }
    Ok(())
}
