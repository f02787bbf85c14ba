//! Timers: HPET, i8254 (hw/timer/).
