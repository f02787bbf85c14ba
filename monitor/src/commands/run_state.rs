//! Starting, stopping, resetting, and what the guest's own reboot, power-off and panic do.
//!
//! Source: QEMU `monitor/qmp-cmds.c`, `softmmu/runstate-action.c`, `qapi/run-state.json`, `qapi/misc.json`.

use hw_core::runstate::{
    self, PanicAction, RebootAction, RunState, ShutdownAction, ShutdownCause, WatchdogAction,
};
use hw_core::suspend::{self, WakeupReason};
use qapi::QapiType;
use qom::{Result, bail};

use super::unsupported;

/// Whether the machine runs.
#[derive(QapiType)]
struct StatusInfo {
    running: bool,
    /// Always off: an accelerator without hardware does it.
    singlestep: bool,
    status: RunState,
}

/// Tells whether the machine runs, and why it does not.
#[qapi::command("query-status", preconfig)]
fn query_status() -> Result<StatusInfo> {
    Ok(StatusInfo { running: runstate::is_running(), singlestep: false, status: runstate::runstate_get() })
}

/// Stops the machine.
#[qapi::command("stop")]
fn stop() -> Result<()> {
    // A machine that stands still keeps the reason why it does.
    if runstate::is_running() {
        runstate::vm_stop(RunState::Paused);
    }
    Ok(())
}

/// Lets the machine go on.
#[qapi::command("cont")]
fn cont() -> Result<()> {
    if crate::dump::in_progress() {
        bail!("There is a dump in process, please wait.");
    }
    if runstate::needs_reset() {
        bail!("Resetting the Virtual Machine is required");
    }
    // Only a wake-up event ends a suspension.
    if runstate::runstate_get() != RunState::Suspended {
        runstate::vm_start();
    }
    Ok(())
}

/// Resets the machine.
#[qapi::command("system_reset")]
fn system_reset() -> Result<()> {
    runstate::reset_request(ShutdownCause::HostQmpSystemReset);
    Ok(())
}

/// Presses the power button.
#[qapi::command("system_powerdown")]
fn system_powerdown() -> Result<()> {
    runstate::powerdown_request();
    Ok(())
}

/// Wakes the guest up.
#[qapi::command("system_wakeup")]
fn system_wakeup() -> Result<()> {
    if !suspend::wakeup_supported() {
        bail!("wake-up from suspend is not supported by this guest");
    }
    suspend::wakeup_request(WakeupReason::Other)
}

/// Says what a guest's reboot, power-off and panic and a watchdog do from now on.
#[qapi::command("set-action", preconfig)]
fn set_action(
    reboot: Option<RebootAction>,
    shutdown: Option<ShutdownAction>,
    panic: Option<PanicAction>,
    watchdog: Option<WatchdogAction>,
) -> Result<()> {
    runstate::set_action(reboot, shutdown);
    runstate::set_guest_action(panic, watchdog);
    Ok(())
}

/// Says what a watchdog does from now on.
#[qapi::command("watchdog-set-action")]
fn watchdog_set_action(action: WatchdogAction) -> Result<()> {
    runstate::set_guest_action(None, Some(action));
    Ok(())
}

/// Sends every CPU a non-maskable interrupt.
#[qapi::command("inject-nmi")]
fn inject_nmi() -> Result<()> {
    match hw_core::cpu::inject_nmi() {
        true => Ok(()),
        false => Err(unsupported()),
    }
}
