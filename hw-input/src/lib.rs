//! i8042 and PS/2 keyboard and mouse (hw/input/).
//!
//! The chips alone: plain structs that are told the virtual time and answer with what the device around them
//! has to do. They hold no lock, start no timer and raise no interrupt line themselves.

#![forbid(unsafe_code)]

pub mod i8042;
pub mod ps2;
pub mod qkeycode;
