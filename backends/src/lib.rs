//! Host resources as objects that `-object` makes. So far: memory (`memory-backend-ram`, `-file`, `-memfd`).
//!
//! Source followed: QEMU `backends/`.
#![forbid(unsafe_code)]

mod hostmem;

pub use hostmem::{HostMemory, default_memory_backend, find_memory_backend, memory_region};
