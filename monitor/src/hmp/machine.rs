//! Commands that steer the machine and the log.

use hw_core::runstate::{self, RunState, ShutdownCause};

use super::args::Args;
use super::output::{Output, out};

pub(crate) fn quit(output: &mut Output, _: &Args) -> Result<(), String> {
    output.ends_session = true;
    runstate::shutdown_request(ShutdownCause::HostQmpQuit);
    Ok(())
}

pub(crate) fn stop(_: &mut Output, _: &Args) -> Result<(), String> {
    // A machine that stands still keeps the reason why it does.
    if runstate::is_running() {
        runstate::vm_stop(RunState::Paused);
    }
    Ok(())
}

pub(crate) fn cont(_: &mut Output, _: &Args) -> Result<(), String> {
    match runstate::runstate_get() {
        RunState::InternalError | RunState::Shutdown => {
            Err("Error: Resetting the Virtual Machine is required".to_owned())
        }
        // Only a wake-up event ends it.
        RunState::Suspended => Ok(()),
        _ => {
            runstate::vm_start();
            Ok(())
        }
    }
}

pub(crate) fn system_reset(_: &mut Output, _: &Args) -> Result<(), String> {
    runstate::reset_request(ShutdownCause::HostQmpSystemReset);
    Ok(())
}

pub(crate) fn system_powerdown(_: &mut Output, _: &Args) -> Result<(), String> {
    runstate::powerdown_request();
    Ok(())
}

pub(crate) fn logfile(_: &mut Output, args: &Args) -> Result<(), String> {
    util::log::set_filename(Some(args.word(0))).map_err(|e| e.to_string())
}

pub(crate) fn trace_event(output: &mut Output, args: &Args) -> Result<(), String> {
    let (name, prefix) = match args.word(1) {
        "on" => (args.word(0), ""),
        "off" => (args.word(0), "-"),
        _ => {
            out!(output, "Expected 'on' or 'off'\n");
            return Err("Try \"help trace-event\" for more information".to_owned());
        }
    };
    let known = name.contains('*') || util::trace::list().iter().any(|(known, _)| *known == name);
    if name.starts_with('-') || !known || !util::trace::enable(&format!("{prefix}{name}")) {
        return Err(format!("unknown event \"{name}\""));
    }
    Ok(())
}
