//! The MC146818 real-time clock (hw/rtc/).
//!
//! The chip alone: a plain struct that is told the virtual time. It holds no lock, starts no timer and raises
//! no interrupt line itself.

#![forbid(unsafe_code)]

pub mod mc146818;
