//! The thread that serves monitors with `oob` (QEMU's `mon_iothread`).

use std::sync::OnceLock;

use util::event_loop::EventLoop;

/// The thread's event loop; the thread is started when first needed. `None` when the host has no thread left.
pub(super) fn event_loop() -> Option<EventLoop> {
    static LOOP: OnceLock<Option<EventLoop>> = OnceLock::new();
    LOOP.get_or_init(|| {
        let event_loop = EventLoop::new();
        let own = event_loop.clone();
        let thread = std::thread::Builder::new().name("mon_iothread".to_owned());
        // It ends with the program, or when the host refuses it an epoll instance.
        thread.spawn(move || own.run_until(|| false)).ok()?;
        Some(event_loop)
    })
    .clone()
}
