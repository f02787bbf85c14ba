//! 16550A serial ports and the debug console (hw/char/).
//!
//! The chip alone: a plain struct that is told the virtual time and answers with what the device around it
//! has to do. It holds no lock, starts no timer, and knows neither the interrupt line nor the character device.

#![forbid(unsafe_code)]

pub mod serial;
