//! The events of the run state (`qapi/run-state.json`).

use qapi::{QapiEvent, QapiType};

use crate::runstate::ShutdownCause;

/// The CPUs stopped.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_STOP-arg", event = "STOP")]
pub(crate) struct Stop {}

/// The CPUs go on.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_RESUME-arg", event = "RESUME")]
pub(crate) struct Resume {}

/// The guest sleeps with its memory kept.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_SUSPEND-arg", event = "SUSPEND")]
pub(crate) struct Suspend {}

/// The guest saved itself and wants the power off.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_SUSPEND_DISK-arg", event = "SUSPEND_DISK")]
pub(crate) struct SuspendDisk {}

/// The guest was woken up.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_WAKEUP-arg", event = "WAKEUP")]
pub(crate) struct Wakeup {}

/// The power button was pressed.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_POWERDOWN-arg", event = "POWERDOWN")]
pub(crate) struct Powerdown {}

/// The machine was reset.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_RESET-arg", event = "RESET")]
pub(crate) struct Reset {
    /// The guest asked for it.
    pub guest: bool,
    /// Why.
    pub reason: ShutdownCause,
}

/// The program ends, unless a power-off only pauses the machine.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_SHUTDOWN-arg", event = "SHUTDOWN")]
pub(crate) struct Shutdown {
    /// The guest asked for it.
    pub guest: bool,
    /// Why.
    pub reason: ShutdownCause,
}

qom::property_enum! {
    /// What is done about a guest's panic.
    pub enum GuestPanicAction: "GuestPanicAction" { Pause = "pause", Poweroff = "poweroff", Run = "run" }
}
qapi::property_type!(GuestPanicAction);

/// The guest's kernel panicked.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_GUEST_PANICKED-arg", event = "GUEST_PANICKED")]
pub(crate) struct GuestPanicked {
    /// What is done about it.
    pub action: GuestPanicAction,
}

/// The guest's kernel panicked, and its kernel for crashes takes over.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_GUEST_CRASHLOADED-arg", event = "GUEST_CRASHLOADED")]
pub(crate) struct GuestCrashloaded {
    /// What is done about it.
    pub action: GuestPanicAction,
}
