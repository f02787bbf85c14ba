//! Checks: `ok NAME`, or `FAIL NAME got=… want=…`, a line each; and the way out.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::io::{cli, hlt, outl};
use crate::print::Hex;
use crate::say;

/// Where QEMU's `isa-debug-exit,iobase=0xf4,iosize=0x4` listens: writing V ends the VMM with
/// status V*2+1.
const DEBUG_EXIT: u16 = 0xf4;

static FAILED: AtomicBool = AtomicBool::new(false);

/// Passes if the two are equal.
pub fn equal(name: &str, got: u64, want: u64) {
    if got == want {
        return pass(name);
    }
    FAILED.store(true, Ordering::Relaxed);
    say!("FAIL ", name, " got=", Hex(got), " want=", Hex(want));
}

/// Passes if `got` lies in `low..=high`.
pub fn within(name: &str, got: u64, low: u64, high: u64) {
    if (low..=high).contains(&got) {
        return pass(name);
    }
    FAILED.store(true, Ordering::Relaxed);
    say!("FAIL ", name, " got=", Hex(got), " want=", Hex(low), "..", Hex(high));
}

/// Passes if `condition` holds; `got` is what it was worked out from.
pub fn holds(name: &str, condition: bool, got: u64) {
    if condition {
        return pass(name);
    }
    fail(name, got);
}

/// Fails.
pub fn fail(name: &str, got: u64) {
    FAILED.store(true, Ordering::Relaxed);
    say!("FAIL ", name, " got=", Hex(got));
}

/// Passes.
pub fn pass(name: &str) {
    say!("ok ", name);
}

/// Leaves with 0 if all checks passed, else with 1.
pub fn finish() -> ! {
    exit(u32::from(FAILED.load(Ordering::Relaxed)))
}

/// Leaves: the VMM's exit status becomes `value * 2 + 1`. Without the device, halts for ever.
pub fn exit(value: u32) -> ! {
    outl(DEBUG_EXIT, value);
    cli();
    loop {
        hlt();
    }
}
