//! The human monitor (monitor/).
