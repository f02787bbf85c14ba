//! Interrupt controllers (hw/intc/).
