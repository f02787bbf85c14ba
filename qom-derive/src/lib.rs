//! Derive macro for qom types.
