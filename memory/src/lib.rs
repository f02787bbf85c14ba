//! QEMU's memory API: a tree of [`MemoryRegion`]s, flattened into what an [`AddressSpace`] shows, watched by
//! [`MemoryListener`]s.
//!
//! ```
//! use memory::{AddressSpace, MemoryRegion, RamBlock};
//!
//! let root = MemoryRegion::container("system", 1 << 32);
//! let ram = MemoryRegion::ram("ram", RamBlock::anonymous("ram", 1 << 20).unwrap());
//! let space = AddressSpace::new("memory", &root);
//! root.add_subregion(0x1000, &ram);
//! space.write(0x1ffe, &[1, 2, 3, 4]);
//! let mut back = [0; 4];
//! space.read(0x1ffe, &mut back);
//! assert_eq!(back, [1, 2, 3, 4]);
//! ```
//!
//! Changes to the tree go through one lock; inside a [`transaction`] they become visible together, at its
//! end, as one new [`FlatView`]. Look-ups take no lock: the view is immutable and replaced as a whole, so a
//! vCPU may still be inside an access to a region that was just removed, and the view it holds keeps that
//! region alive until it is done.
//!
//! Guest RAM is reached through vm-memory's volatile slices only; a view is that crate's
//! [`GuestMemory`](vm_memory::GuestMemory). `unsafe` is used for such mappings, to name them to
//! the host, and to lend an eventfd's descriptor.
//!
//! Source followed: QEMU `softmmu/memory.c`, `softmmu/physmem.c`, `docs/devel/memory.rst`.
#![deny(unsafe_code)]

mod access;
mod address_space;
mod attrs;
mod flat_view;
mod guest_memory;
mod io;
mod iovec;
mod listener;
mod program;
mod ram;
mod region;

pub use access::{AccessLimits, AccessRules, Endianness, MemTxResult, RegionOps};
pub use address_space::{
    AddressSpace, SpaceReader, address_space_io, address_space_memory, get_system_io, get_system_memory,
};
pub use attrs::{access_is_secure, with_secure_access};
pub use flat_view::{FlatRange, FlatView};
pub use iovec::IoVecs;
pub use listener::{EventNotifier, IoEventFd, MemoryListener};
pub use program::release_program_code;
pub use ram::{MAX_HOST_NODES, NumaPolicy, RamBlock, RamSource, file_page_size};
pub use region::{MemoryRegion, RegionKind, Transaction, transaction};
pub use vm_memory;
