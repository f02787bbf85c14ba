//! i8042 and PS/2 keyboard and mouse, and virtio's keyboard, mouse and tablet (hw/input/).
//!
//! [`i8042::I8042`] and what hangs on it are the chips alone: plain structs that are told the virtual time and
//! answer with what is to be done. [`I8042Device`] is the device around them, with lock, timer and lines.

#![forbid(unsafe_code)]

mod device;
mod evdev;
pub mod i8042;
pub mod input;
pub mod ps2;
pub mod qkeycode;
pub mod virtio_input;

pub use device::I8042Device;
