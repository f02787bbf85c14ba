//! Where an access comes from, for the devices that answer by it.
//!
//! Source: QEMU `include/exec/memattrs.h`, of whose `MemTxAttrs` a PC has one that devices look at.

use std::cell::Cell;

thread_local! {
    static SECURE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the access that is being answered comes from a CPU in system management mode (`MemTxAttrs.secure`).
pub fn access_is_secure() -> bool {
    SECURE.get()
}

/// Makes the accesses of `f` as a CPU in system management mode does.
pub fn with_secure_access<R>(f: impl FnOnce() -> R) -> R {
    let before = SECURE.replace(true);
    let result = f();
    SECURE.set(before);
    result
}
