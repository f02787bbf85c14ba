//! 16550A serial ports, the debug console, and virtio consoles (hw/char/).
//!
//! [`serial::Uart`] is the chip alone: a plain struct that is told the virtual time and answers with what the
//! device around it has to do. [`serial_isa`] is that device, with lock, timer, line and character device.

#![forbid(unsafe_code)]

pub mod debugcon;
pub mod serial;
pub mod serial_isa;
pub mod virtio_console;
pub mod virtio_serial;

use parking_lot::Mutex;

/// Serial ports there can be on an ISA bus.
pub const MAX_ISA_SERIAL_PORTS: usize = 4;

/// What `-serial` gave each port: the id of a character device.
static SERIAL_HDS: Mutex<Vec<Option<String>>> = Mutex::new(Vec::new());

/// Gives the next serial port a character device, or none (`-serial none`).
pub fn add_serial_hd(chardev: Option<String>) {
    SERIAL_HDS.lock().push(chardev);
}

/// What each serial port was given, in order (`serial_hd`).
pub fn serial_hds() -> Vec<Option<String>> {
    SERIAL_HDS.lock().clone()
}
