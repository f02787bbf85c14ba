//! Host resources as objects that `-object` makes. So far: memory (`memory-backend-ram`, `-file`, `-memfd`) and
//! random bytes (`rng-builtin`, `rng-random`).
//!
//! Source followed: QEMU `backends/`.
#![forbid(unsafe_code)]

mod hostmem;
mod iothread;
mod rng;
mod thread_context;

pub use hostmem::{
    HostMemPolicy, HostMemory, HostMemoryDefaults, HostNodes, default_memory_backend, find_memory_backend,
    memory_region, set_host_memory_defaults,
};
pub use iothread::IoThread;
pub use rng::{EntropyReceiver, RngBackend, RngBackendImpl, rng_backend_request_entropy};
pub use thread_context::ThreadContext;
