//! The guest's sleep with its memory kept: asked for by the guest, ended by a clock, a key or a user.
//!
//! Source: QEMU `softmmu/runstate.c` (`qemu_system_suspend_request` and what follows it).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use parking_lot::Mutex;
use qom::{Result, bail};

use crate::cpu;
use crate::runstate::{self, RunState};
use crate::runstate_events::{Suspend, SuspendDisk, Wakeup};

/// What wakes the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeupReason {
    /// The alarm of the real-time clock.
    Rtc,
    /// The PM timer.
    PmTimer,
    /// Anything else, such as a key or the monitor.
    Other,
}

impl WakeupReason {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

type SuspendNotifier = Arc<dyn Fn() + Send + Sync>;
type WakeupNotifier = Arc<dyn Fn(WakeupReason) + Send + Sync>;

static SUPPORTED: AtomicBool = AtomicBool::new(false);
static WAKING: AtomicBool = AtomicBool::new(false);
/// What may wake the guest, by [`WakeupReason::bit`].
static ENABLED: AtomicU8 = AtomicU8::new(u8::MAX);
static SUSPEND: Mutex<Vec<SuspendNotifier>> = Mutex::new(Vec::new());
static WAKEUP: Mutex<Vec<WakeupNotifier>> = Mutex::new(Vec::new());

/// Asks for the guest to sleep; the CPU that asked runs no further.
pub fn suspend_request() {
    if runstate::runstate_get() != RunState::Suspended {
        runstate::request(|requests| requests.suspend = true);
        runstate::leave_guest();
    }
}

/// Asks for the guest to be woken up; nothing happens where the guest does not want this reason to.
///
/// # Errors
/// When it does not sleep.
pub fn wakeup_request(reason: WakeupReason) -> Result<()> {
    if runstate::runstate_get() != RunState::Suspended {
        bail!("Unable to wake up: guest is not in suspended state");
    }
    if ENABLED.load(Ordering::Acquire) & reason.bit() != 0 {
        runstate::runstate_set(RunState::Running);
        runstate::request(|requests| requests.wakeup = Some(reason));
    }
    Ok(())
}

/// The guest says whether `reason` may wake it.
pub fn wakeup_enable(reason: WakeupReason, enabled: bool) {
    if enabled {
        ENABLED.fetch_or(reason.bit(), Ordering::AcqRel);
    } else {
        ENABLED.fetch_and(!reason.bit(), Ordering::AcqRel);
    }
}

/// The machine can wake its guest up.
pub fn register_wakeup_support() {
    SUPPORTED.store(true, Ordering::Release);
}

/// Whether the machine can wake its guest up.
pub fn wakeup_supported() -> bool {
    SUPPORTED.load(Ordering::Acquire)
}

/// Has `notifier` called when the guest goes to sleep.
pub fn register_suspend_notifier(notifier: SuspendNotifier) {
    SUSPEND.lock().push(notifier);
}

/// Has `notifier` called when the guest was woken up, after the machine's reset.
pub fn register_wakeup_notifier(notifier: WakeupNotifier) {
    WAKEUP.lock().push(notifier);
}

/// Whether the machine is being reset for a guest that wakes up; memory is the guest's then.
pub fn is_waking() -> bool {
    WAKING.load(Ordering::Acquire)
}

/// Sends the guest to sleep; for the main loop.
pub fn system_suspend() {
    cpu::pause_all_vcpus();
    let notifiers = SUSPEND.lock().clone();
    notifiers.iter().for_each(|notifier| notifier());
    runstate::runstate_set(RunState::Suspended);
    qapi::emit(&Suspend {});
}

/// Wakes the guest up, `reset` being the machine's; for the main loop.
pub fn system_wakeup(reason: WakeupReason, reset: impl FnOnce()) {
    cpu::pause_all_vcpus();
    WAKING.store(true, Ordering::Release);
    reset();
    WAKING.store(false, Ordering::Release);
    let notifiers = WAKEUP.lock().clone();
    notifiers.iter().for_each(|notifier| notifier(reason));
    cpu::resume_all_vcpus();
    qapi::emit(&Wakeup {});
}

/// The guest saved itself and is powered off.
pub fn suspend_to_disk() {
    qapi::emit(&SuspendDisk {});
    runstate::shutdown_request(runstate::ShutdownCause::GuestShutdown);
}
