//! The QMP server: JSON commands on a chardev, their answers, and events.
//!
//! [`monitor_init_qmp`] puts a monitor on a chardev. A session begins with a greeting when the other end opens;
//! after `qmp_capabilities` it takes commands, which `qapi` knows. Those with `execute` run on the main loop's
//! thread, one at a time, over all monitors in turn (`dispatch`). A client that asked for the capability `oob` can
//! send others with `exec-oob` while one of these runs: from then on its monitor is served by a thread of its
//! own (`io_thread.rs`). Before, nothing could be told apart, so there is no such thread.
//!
//! Nothing waits for a client and nothing grows because of one. While it does not read its answers, no more
//! of its input is read; then its events are dropped (`output.rs`). What it writes is bounded as QEMU bounds it
//! ([`json`]).
//!
//! Sources followed: QEMU `monitor/qmp.c`, `monitor/monitor.c`, `monitor/qmp-cmds-control.c`, `qapi/qmp-dispatch.c`,
//! `docs/interop/qmp-spec.txt`.

mod control;
mod dispatch;
mod events;
mod fds;
mod introspect;
mod io_thread;
pub use util::json;
mod output;
mod session;

pub use dispatch::finish;
pub use session::{QmpMonitor, current, monitor_init_qmp};
