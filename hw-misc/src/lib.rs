//! Devices for tests: ways for a small guest to end the program and to exercise the machine.
#![forbid(unsafe_code)]

pub mod debugexit;
pub mod pc_testdev;
pub mod pci_testdev;
pub mod pvpanic;
pub mod vmcoreinfo;
