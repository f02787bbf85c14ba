//! What a watchdog does that was not fed in time.
//!
//! Source: QEMU `hw/watchdog/watchdog.c`, `qapi/run-state.json`.

use hw_core::cpu::inject_nmi;
use hw_core::runstate::{
    RunState, ShutdownCause, WatchdogAction, exit_request, guest_action, powerdown_request, reset_request,
    vmstop_request,
};
use qapi::{QapiEvent, QapiType};

/// A watchdog was not fed.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_WATCHDOG-arg", event = "WATCHDOG")]
struct Watchdog {
    /// What is done about it.
    action: WatchdogAction,
}

/// Tells of the watchdog, and does what the user said (`watchdog_perform_action`).
pub fn watchdog_perform_action() {
    let (_, action) = guest_action();
    qapi::emit(&Watchdog { action });
    match action {
        WatchdogAction::Reset => reset_request(ShutdownCause::GuestReset),
        WatchdogAction::Shutdown => powerdown_request(),
        WatchdogAction::Poweroff => exit_request(),
        WatchdogAction::Pause => vmstop_request(RunState::Watchdog),
        WatchdogAction::Debug => util::report::print_line(format_args!("watchdog: timer fired")),
        WatchdogAction::None => {}
        // Without a CPU there is nobody to tell.
        WatchdogAction::InjectNmi => drop(inject_nmi()),
    }
}
