//! Interrupt controllers (hw/intc/).
//!
//! The chips alone: plain structs that are told the levels of their inputs and answer with the level of their
//! output or with the messages they send.

#![forbid(unsafe_code)]

pub mod i8259;
pub mod ioapic;
