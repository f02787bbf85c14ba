//! Hyper-V's synthetic interrupt controller (SynIC), as far as KVM leaves it to a VMM: messages and event flags that
//! devices send to virtual processors, and the hypercalls by which guests send them to devices.
//!
//! Layouts and numbers: Hypervisor Top Level Functional Specification, "Virtual Interrupt Controller" and "Inter-
//! Partition Communication". Source followed: QEMU `hw/hyperv/`.
#![forbid(unsafe_code)]

mod connection;
mod hypercall;
mod spec;
mod synic;
mod testdev;

pub use connection::MessageConnection;
pub use hypercall::{PostedMessage, hypercall, set_event_handler, set_message_handler};
pub use spec::{CONTROL, EVENT_PAGE, MESSAGE_PAGE, SINTS};
pub use synic::{SintRoute, SynicRegisters, synic_set};
pub use testdev::HypervTestdev;
