//! The PC boards (hw/i386/).
