//! Whether a signal has told the program to end, for those who wait outside the event loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// What signal handlers set.
pub fn flag() -> Arc<AtomicBool> {
    REQUESTED.clone()
}

/// Whether one came; a system call that it interrupts is not to be begun again then.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Acquire)
}

/// The signal meant something else.
pub fn withdraw() {
    REQUESTED.store(false, Ordering::Release);
}
