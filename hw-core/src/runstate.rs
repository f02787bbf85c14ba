//! Whether the machine runs, and requests to change that from any thread: the main loop carries them out.
//!
//! Source: QEMU `softmmu/runstate.c`, `qapi/run-state.json`.

use std::sync::Arc;

use parking_lot::Mutex;
use util::event_loop::EventLoop;

use crate::cpu;
use crate::debug::{self, DebugStop};
use crate::runstate_events::{
    GuestCrashloaded, GuestPanicAction, GuestPanicked, Powerdown, Reset, Resume, Shutdown, Stop,
};
use crate::suspend::WakeupReason;

qom::property_enum! {
    /// QAPI's `RunState`.
    pub enum RunState: "RunState" {
        Debug = "debug",
        InMigrate = "inmigrate",
        InternalError = "internal-error",
        IoError = "io-error",
        Paused = "paused",
        PostMigrate = "postmigrate",
        PreLaunch = "prelaunch",
        FinishMigrate = "finish-migrate",
        RestoreVm = "restore-vm",
        Running = "running",
        SaveVm = "save-vm",
        Shutdown = "shutdown",
        Suspended = "suspended",
        Watchdog = "watchdog",
        GuestPanicked = "guest-panicked",
        Colo = "colo",
    }
}

qom::property_enum! {
    /// QAPI's `ShutdownCause`: why the machine is to be shut down or reset.
    pub enum ShutdownCause: "ShutdownCause" {
        None = "none",
        HostError = "host-error",
        HostQmpQuit = "host-qmp-quit",
        HostQmpSystemReset = "host-qmp-system-reset",
        HostSignal = "host-signal",
        HostUi = "host-ui",
        GuestShutdown = "guest-shutdown",
        GuestReset = "guest-reset",
        GuestPanic = "guest-panic",
        SubsystemReset = "subsystem-reset",
        SnapshotLoad = "snapshot-load",
    }
}

impl ShutdownCause {
    /// Whether the guest brought it about.
    pub fn is_guest(self) -> bool {
        matches!(self, ShutdownCause::GuestShutdown | ShutdownCause::GuestReset | ShutdownCause::GuestPanic)
    }
}

qom::property_enum! {
    /// What a guest's reboot does (`-action reboot=`).
    pub enum RebootAction: "RebootAction" { Reset = "reset", Shutdown = "shutdown" }
}

qom::property_enum! {
    /// What a guest's power-off does (`-action shutdown=`).
    pub enum ShutdownAction: "ShutdownAction" { Poweroff = "poweroff", Pause = "pause" }
}

qom::property_enum! {
    /// What a guest's panic does (`-action panic=`).
    pub enum PanicAction: "PanicAction" {
        Pause = "pause",
        Shutdown = "shutdown",
        ExitFailure = "exit-failure",
        None = "none",
    }
}

qom::property_enum! {
    /// What a watchdog does that was not fed in time (`-action watchdog=`).
    pub enum WatchdogAction: "WatchdogAction" {
        Reset = "reset",
        Shutdown = "shutdown",
        Poweroff = "poweroff",
        Pause = "pause",
        Debug = "debug",
        None = "none",
        InjectNmi = "inject-nmi",
    }
}

qapi::property_type!(RunState, ShutdownCause, RebootAction, ShutdownAction, PanicAction, WatchdogAction);

/// What the main loop was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// End the program at once.
    pub exit: bool,
    /// End the program, or pause at the end.
    pub shutdown: Option<ShutdownCause>,
    /// Reset the machine.
    pub reset: Option<ShutdownCause>,
    /// Press the power button.
    pub powerdown: bool,
    /// Stop in this state.
    pub vmstop: Option<RunState>,
    /// A breakpoint was hit.
    pub debug: bool,
    /// The guest wants to sleep.
    pub suspend: bool,
    /// The guest is to be woken up.
    pub wakeup: Option<WakeupReason>,
}

struct Global {
    state: RunState,
    requests: Requests,
    reboot_action: RebootAction,
    shutdown_action: ShutdownAction,
    panic_action: PanicAction,
    watchdog_action: WatchdogAction,
    exit_status: i32,
    handlers: Vec<(u64, StateHandler)>,
    next_handler: u64,
    was_started: bool,
    powerdown: Vec<Arc<dyn Fn() + Send + Sync>>,
}

/// Called with whether the machine runs now, and the new state.
pub type StateHandler = Arc<dyn Fn(bool, RunState) + Send + Sync>;

static GLOBAL: Mutex<Global> = Mutex::new(Global {
    state: RunState::PreLaunch,
    requests: Requests {
        exit: false,
        shutdown: None,
        reset: None,
        powerdown: false,
        vmstop: None,
        debug: false,
        suspend: false,
        wakeup: None,
    },
    reboot_action: RebootAction::Reset,
    shutdown_action: ShutdownAction::Poweroff,
    panic_action: PanicAction::Shutdown,
    watchdog_action: WatchdogAction::Reset,
    exit_status: 0,
    handlers: Vec::new(),
    next_handler: 0,
    was_started: false,
    powerdown: Vec::new(),
});

/// The state now.
pub fn runstate_get() -> RunState {
    GLOBAL.lock().state
}

/// Changes the state without starting or stopping anything.
pub fn runstate_set(state: RunState) {
    GLOBAL.lock().state = state;
}

/// Whether the machine ran at all since it was made.
pub fn was_started() -> bool {
    GLOBAL.lock().was_started
}

/// Whether CPUs run.
pub fn is_running() -> bool {
    runstate_get() == RunState::Running
}

/// Whether the machine must be reset before it can go on (`runstate_needs_reset`).
pub fn needs_reset() -> bool {
    matches!(runstate_get(), RunState::InternalError | RunState::Shutdown)
}

/// Says what a guest's reboot and power-off do from now on.
pub fn set_action(reboot: Option<RebootAction>, shutdown: Option<ShutdownAction>) {
    let mut global = GLOBAL.lock();
    global.reboot_action = reboot.unwrap_or(global.reboot_action);
    global.shutdown_action = shutdown.unwrap_or(global.shutdown_action);
}

/// Says what a guest's panic and its watchdog do from now on.
pub fn set_guest_action(panic: Option<PanicAction>, watchdog: Option<WatchdogAction>) {
    let mut global = GLOBAL.lock();
    global.panic_action = panic.unwrap_or(global.panic_action);
    global.watchdog_action = watchdog.unwrap_or(global.watchdog_action);
}

/// What a guest's panic and a watchdog that was not fed do.
pub fn guest_action() -> (PanicAction, WatchdogAction) {
    let global = GLOBAL.lock();
    (global.panic_action, global.watchdog_action)
}

/// What a guest's power-off does.
pub fn shutdown_action() -> ShutdownAction {
    GLOBAL.lock().shutdown_action
}

fn change(change: impl FnOnce(&mut Global)) {
    change(&mut GLOBAL.lock());
    EventLoop::main().notify();
}

/// Adds to what the main loop is asked for.
pub(crate) fn request(add: impl FnOnce(&mut Requests)) {
    change(|global| add(&mut global.requests));
}

/// Asks for the end of the program, or a pause where `-no-shutdown` says so.
pub fn shutdown_request(cause: ShutdownCause) {
    request(|requests| requests.shutdown = Some(cause));
}

/// Asks for the end of the program without a word to anybody, with status 0: what a watchdog does, which QEMU calls
/// `exit` for.
pub fn exit_request() {
    request(|requests| requests.exit = true);
    leave_guest();
}

/// Asks for the end of the program with an exit status (`isa-debug-exit`).
pub fn shutdown_request_with_code(cause: ShutdownCause, status: i32) {
    change(|g| {
        g.exit_status = status;
        g.requests.shutdown = Some(cause);
    });
}

/// Asks for a reset of the machine, which is a shutdown for a guest's reset under `-no-reboot`. The CPU that
/// asked runs no further: its thread stops at its next exit.
pub fn reset_request(cause: ShutdownCause) {
    change(|g| match (g.reboot_action, cause) {
        (RebootAction::Shutdown, ShutdownCause::GuestReset) => g.requests.shutdown = Some(cause),
        _ => g.requests.reset = Some(cause),
    });
    leave_guest();
}

/// Has the CPU whose thread this is wait for the main loop instead of going on.
pub fn leave_guest() {
    if let Some(index) = cpu::current_cpu() {
        cpu::for_each_cpu(|cpu| {
            if cpu.index() == index {
                cpu.stop_self();
            }
        });
    }
}

/// Presses the power button.
pub fn powerdown_request() {
    request(|requests| requests.powerdown = true);
}

/// Asks for a stop in `state`.
pub fn vmstop_request(state: RunState) {
    request(|requests| requests.vmstop = Some(state));
    leave_guest();
}

/// Has the machine stop for the debugger, and the CPU whose thread this is at once
/// (`qemu_system_debug_request`).
pub fn debug_request(stop: DebugStop) {
    debug::note_stop(stop);
    request(|requests| requests.debug = true);
    leave_guest();
}

/// Whether something was asked for that the main loop has not taken up.
pub fn has_requests() -> bool {
    GLOBAL.lock().requests != Requests::default()
}

/// The guest said that it panicked: does what the options say (`qemu_system_guest_panicked`).
pub fn guest_panicked() {
    let (action, _) = guest_action();
    let pauses = shutdown_action() == ShutdownAction::Pause;
    let told = match action {
        PanicAction::Pause => GuestPanicAction::Pause,
        PanicAction::Shutdown if pauses => GuestPanicAction::Pause,
        PanicAction::Shutdown | PanicAction::ExitFailure => GuestPanicAction::Poweroff,
        PanicAction::None => GuestPanicAction::Run,
    };
    qapi::emit(&GuestPanicked { action: told });
    if told == GuestPanicAction::Run {
        return;
    }
    vmstop_request(RunState::GuestPanicked);
    match action {
        PanicAction::ExitFailure => shutdown_request_with_code(ShutdownCause::GuestPanic, 1),
        PanicAction::Shutdown if !pauses => shutdown_request(ShutdownCause::GuestPanic),
        _ => {}
    }
}

/// The guest said that its kernel panicked and another takes over (`qemu_system_guest_crashloaded`).
pub fn guest_crashloaded() {
    qapi::emit(&GuestCrashloaded { action: GuestPanicAction::Run });
}

/// Takes what was asked for since the last time; for the main loop.
pub fn take_requests() -> Requests {
    std::mem::take(&mut GLOBAL.lock().requests)
}

/// What the program's exit status is to be.
pub fn exit_status() -> i32 {
    GLOBAL.lock().exit_status
}

/// Has `handler` called when the power button is pressed.
pub fn register_powerdown_notifier(handler: Arc<dyn Fn() + Send + Sync>) {
    GLOBAL.lock().powerdown.push(handler);
}

/// Says that the program ends; for the main loop (`qemu_system_shutdown`).
pub fn notify_shutdown(reason: ShutdownCause) {
    qapi::emit(&Shutdown { guest: reason.is_guest(), reason });
}

/// Says that the machine was reset; for the main loop.
pub fn notify_reset(reason: ShutdownCause) {
    if !matches!(reason, ShutdownCause::None | ShutdownCause::SubsystemReset | ShutdownCause::SnapshotLoad) {
        qapi::emit(&Reset { guest: reason.is_guest(), reason });
    }
}

/// Calls the handlers of the power button; for the main loop (`qemu_system_powerdown`).
pub fn notify_powerdown() {
    qapi::emit(&Powerdown {});
    let handlers = GLOBAL.lock().powerdown.clone();
    handlers.iter().for_each(|handler| handler());
}

/// Has `handler` called when the machine starts and stops; gives a number to remove it by.
pub fn add_state_handler(handler: StateHandler) -> u64 {
    let mut global = GLOBAL.lock();
    global.next_handler += 1;
    let id = global.next_handler;
    global.handlers.push((id, handler));
    id
}

/// Undoes [`add_state_handler`].
pub fn remove_state_handler(id: u64) {
    GLOBAL.lock().handlers.retain(|(i, _)| *i != id);
}

fn tell(running: bool, state: RunState) {
    let handlers = GLOBAL.lock().handlers.clone();
    handlers.iter().for_each(|(_, handler)| handler(running, state));
}

/// Does all that starting the machine takes but letting CPUs run; `false` if it runs already. On the main loop's
/// thread.
pub fn vm_prepare_start() -> bool {
    if is_running() {
        return false;
    }
    util::clock::enable_ticks();
    GLOBAL.lock().was_started = true;
    runstate_set(RunState::Running);
    tell(true, RunState::Running);
    qapi::emit(&Resume {});
    true
}

/// Starts the CPUs and the virtual clock. On the main loop's thread.
pub fn vm_start() {
    if vm_prepare_start() {
        cpu::resume_all_vcpus();
    }
}

/// Stops the CPUs and the virtual clock, in `state`. On the main loop's thread.
pub fn vm_stop(state: RunState) {
    let was_running = is_running();
    if was_running {
        util::clock::disable_ticks();
        cpu::pause_all_vcpus();
    }
    runstate_set(state);
    if was_running {
        tell(false, state);
        // What the guest has under way ends, and is on the disk: others may look at it now.
        block::backend::drain_and_flush_all();
        qapi::emit(&Stop {});
    }
}
