//! The ISA bus (hw/isa/).
