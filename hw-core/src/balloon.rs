//! The balloon, of which a machine has one at most: how much memory the guest gives back.
//!
//! Source: QEMU `softmmu/balloon.c`.

use std::sync::Arc;

use parking_lot::Mutex;
use qom::{Result, bail};

/// The device that makes the guest give memory back.
pub trait BalloonHandler: Send + Sync {
    /// How much memory the guest has now, in bytes.
    fn actual(&self) -> u64;
    /// Asks the guest to make do with `target` bytes, more than 0.
    fn set_target(&self, target: u64);
}

static HANDLER: Mutex<Option<Arc<dyn BalloonHandler>>> = Mutex::new(None);

/// Makes `handler` the machine's balloon (`qemu_add_balloon_handler`).
///
/// # Errors
/// When it has one.
pub fn add_balloon_handler(handler: Arc<dyn BalloonHandler>) -> Result<()> {
    let mut current = HANDLER.lock();
    if current.is_some() {
        bail!("Only one balloon device is supported");
    }
    *current = Some(handler);
    Ok(())
}

/// The machine has no balloon any more.
pub fn remove_balloon_handler() {
    let handler = HANDLER.lock().take();
    drop(handler);
}

/// The machine's balloon, if it has one.
pub fn balloon() -> Option<Arc<dyn BalloonHandler>> {
    HANDLER.lock().clone()
}
