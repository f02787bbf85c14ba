//! The signal that gets a vCPU's thread out of the guest.
//!
//! Its handler sets `immediate_exit` in the page shared with KVM, so that it also works when it comes between
//! the last look at the requests and `KVM_RUN` (`kvm_ipi_signal`).

use std::cell::Cell;
use std::ptr;
use std::sync::Once;

use kvm_bindings::kvm_run;
use qom::{Error, Result};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

thread_local! {
    /// The page of the vCPU that this thread runs. Const-initialised and without destructor, so that a signal
    /// handler may read it.
    static RUN: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

/// The signal's number.
pub(crate) fn signal() -> i32 {
    SIGRTMIN()
}

extern "C" fn on_signal(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let run = RUN.get();
    if !run.is_null() {
        // SAFETY: `Registration` keeps the page mapped while RUN holds its address, and only this thread
        // reads RUN. The kernel reads the byte at any time, hence volatile.
        unsafe { ptr::addr_of_mut!((*run).immediate_exit).write_volatile(1) };
    }
}

/// Installs the handler, once for the program.
pub(crate) fn install() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = register_signal_handler(signal(), on_signal)
            .map_err(|error| Error::new(format!("cannot install the handler of the vCPU signal: {error}")));
    });
    result
}

/// This thread runs the vCPU with that page until this is dropped.
pub(crate) struct Registration;

impl Registration {
    pub(crate) fn new(run: &mut kvm_run) -> Registration {
        RUN.set(run);
        Registration
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        RUN.set(ptr::null_mut());
    }
}

/// Sends the signal to a thread.
pub(crate) fn kick_thread(thread: libc::pthread_t) {
    // SAFETY: the caller holds the thread's JoinHandle, so that its pthread_t is valid.
    unsafe { libc::pthread_kill(thread, signal()) };
}
