//! A server for gdb's remote protocol on a chardev: `-gdb`, `-s` and the monitor's `gdbserver`.
//!
//! The crate `gdbstub` knows the protocol; here is the machine as it sees it (`machine.rs`) and the connection
//! (`server.rs`). A client that connects stops the machine; each CPU is a thread of process 1. All of it runs on the
//! main loop's thread and waits for no client: while a slow one has not taken its answers, no more of its input is
//! read.
//!
//! Source followed: QEMU `gdbstub/gdbstub.c`. When the connection ends this does more than QEMU: breakpoints go, and
//! a machine that the client had stopped goes on.
#![forbid(unsafe_code)]

mod machine;
mod registers;
mod server;

pub use server::{gdb_exit, gdbserver_start, interrupt};
