//! The main loop, and carrying out what was asked of the machine.
//!
//! Source: QEMU `softmmu/runstate.c` (`qemu_main_loop`, `main_loop_should_exit`).

use std::sync::Arc;

use hw_core::cpu::{pause_all_vcpus, resume_all_vcpus};
use hw_core::machine::{current_machine, machine_reset};
use hw_core::runstate::{self, RunState, ShutdownAction, ShutdownCause};
use hw_core::suspend;
use qom::{Error, Object, Result};
use util::event_loop::EventLoop;

/// Runs until the program is to end; gives its exit status.
///
/// # Errors
/// When the host refuses what the loop waits with.
pub fn qemu_main_loop() -> Result<i32> {
    let main = EventLoop::main();
    // Most of the program only makes a machine. That it stays mapped where the host refuses is of no consequence.
    let _ = memory::release_program_code();
    loop {
        if let Some(status) = main_loop_should_exit() {
            return Ok(status);
        }
        main.run_once(None).map_err(|e| Error::new(format!("waiting for events failed: {e}")))?;
    }
}

/// Carries out the requests; `Some` with the exit status when the program is to end.
fn main_loop_should_exit() -> Option<i32> {
    let requests = runstate::take_requests();
    if requests.debug {
        runstate::vm_stop(RunState::Debug);
    }
    if requests.suspend {
        suspend::system_suspend();
    }
    if requests.exit {
        return Some(0);
    }
    if let Some(cause) = requests.shutdown {
        runstate::notify_shutdown(cause);
        let keep = cause.is_guest() && runstate::exit_status() == 0;
        if keep && runstate::shutdown_action() == ShutdownAction::Pause {
            runstate::vm_stop(RunState::Shutdown);
        } else {
            return Some(runstate::exit_status());
        }
    }
    if let Some(cause) = requests.reset {
        pause_all_vcpus();
        qemu_system_reset(cause);
        if runstate::is_running() {
            resume_all_vcpus();
        } else if runstate::needs_reset() {
            runstate::runstate_set(RunState::Paused);
        }
    }
    if let Some(reason) = requests.wakeup {
        suspend::system_wakeup(reason, reset_machine);
    }
    if requests.powerdown {
        runstate::notify_powerdown();
    }
    if let Some(state) = requests.vmstop {
        runstate::vm_stop(state);
    }
    None
}

/// Resets the machine; all CPUs stand still.
pub fn qemu_system_reset(cause: ShutdownCause) {
    let _span = util::trace::span("qemu_system_reset");
    reset_machine();
    runstate::notify_reset(cause);
}

fn reset_machine() {
    let machine: Option<Arc<dyn Object>> = current_machine();
    if let Some(machine) = machine {
        machine_reset(&machine);
    }
}
