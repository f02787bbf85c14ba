//! The MC146818 real-time clock (hw/rtc/).
//!
//! [`mc146818::Mc146818`] is the chip, a plain struct that is told the time; [`Mc146818Rtc`] is the device around
//! it with the lock, the timer and the interrupt line.

#![forbid(unsafe_code)]

mod device;
pub mod mc146818;

pub use device::{
    LostTickPolicy, Mc146818Rtc, RtcOptions, rtc_get_memory, rtc_get_seconds, rtc_set_memory, set_rtc_options,
};
