//! Interrupt controllers (hw/intc/).
//!
//! Each is a chip, a plain struct that is told the levels of its inputs and answers with the level of its output or with
//! the messages it sends, and a device around it. The devices of KVM's own controllers are in `hw-i386`.

#![forbid(unsafe_code)]

pub mod i8259;
mod i8259_device;
pub mod ioapic;

pub use i8259_device::{IsaI8259, PicCommon, i8259_init, isa_pic};
