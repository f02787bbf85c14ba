//! Test and debug devices (hw/misc/).
