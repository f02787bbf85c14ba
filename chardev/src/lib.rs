//! Character devices (chardev/): the host's end of serial ports, monitors and consoles.
//!
//! A [`Chardev`] is the backend: a terminal, file, socket. A [`CharFrontend`] is the end that a device or
//! monitor holds; it attaches to one chardev, which it has to itself unless that is a multiplexer.
//! Input is read on the main event loop and handed to the frontend's [`CharHandlers`]; output is written at
//! once, by the thread that has it, and never waits; only what a guest sends byte by byte may be held back for a
//! millisecond ([`CharFrontend::write_soon`]).
//!
//! ```
//! let spec = chardev::parse_compat("serial0", "null", false)?;
//! let null = chardev::new_from_opts(&spec.id, &spec.options)?;
//! let frontend = chardev::CharFrontend::default();
//! frontend.attach(&null)?;
//! assert_eq!(frontend.write(b"lost"), 4);
//! # chardev::remove_all();
//! # Ok::<(), chardev::ChardevError>(())
//! ```
#![forbid(unsafe_code)]

mod backend;
mod chr;
mod error;
mod fd;
mod fe;
mod mux;
mod options;
mod output;
mod pty;
mod registry;
mod ringbuf;
mod serial;
mod socket;
mod spec;
mod stdio;
mod telnet;
mod udp;

pub use chr::{CharHandlers, Chardev, Event, Parity, SerialParams};
pub use error::ChardevError;
pub use fe::CharFrontend;
pub use mux::{resume_mux_open, set_commit_handler, set_escape_char, set_quit_handler, suspend_mux_open};
pub use options::ChardevSpec;
pub use registry::{find, list, remove, remove_all};
pub use spec::{backend_help, backends, new_from_compat, new_from_opts, parse_compat};
pub use stdio::{forbid_stdio, reapply_terminal, restore_terminal};
