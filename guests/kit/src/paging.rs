//! Memory above the 4 GiB that start.s maps.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::{check, io};

/// Present, writable; in a directory's entry a 2 MiB page.
const TABLE: u64 = 0x03;
const PAGE: u64 = 0x83;

#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

static SPARE: [Table; 8] = [const { Table([const { AtomicU64::new(0) }; 512]) }; 8];
static USED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    #[link_name = "pdpt"]
    static PDPT: Table;
}

/// Maps the 1 GiB around an address below 512 GiB one to one, if it is not mapped yet. There are
/// eight of them; a guest that asks for more fails.
pub fn map_gigabyte(address: u64) {
    // SAFETY: start.s defines it, zero but for its first four entries; a table of atomics may be
    // shared with the processor.
    let pdpt = unsafe { &PDPT };
    let gigabyte = address >> 30;
    let Some(entry) = pdpt.0.get(gigabyte as usize) else { return give_up(address) };
    if entry.load(Ordering::Relaxed) != 0 {
        return;
    }
    let Some(directory) = SPARE.get(USED.fetch_add(1, Ordering::Relaxed)) else { return give_up(address) };
    for (page, i) in directory.0.iter().zip(0..) {
        page.store(gigabyte << 30 | i << 21 | PAGE, Ordering::Relaxed);
    }
    // An entry that was not present is not cached: no flush.
    entry.store(io::address_of(directory) | TABLE, Ordering::SeqCst);
}

fn give_up(address: u64) {
    check::fail("cannot-map", address);
    check::finish();
}
