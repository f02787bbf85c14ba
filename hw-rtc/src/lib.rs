//! The MC146818 real-time clock (hw/rtc/).
