//! Readers on other threads while the map changes: each access sees one map, never a mixture.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{at, ram, shown};
use memory::{AddressSpace, MemTxResult, MemoryRegion, transaction};

/// How often the map changes.
const CHANGES: u32 = 2000;

/// Until the map has changed often enough, and at least once, `read` must give all `0xaa` or all `0xbb`.
fn watch(done: &AtomicBool, mut read: impl FnMut(&mut [u8]) -> MemTxResult) {
    loop {
        let last = done.load(Ordering::Acquire);
        let mut data = [0; 16];
        assert_eq!(read(&mut data), MemTxResult::Ok);
        assert!(data == [0xaa; 16] || data == [0xbb; 16], "{data:x?}");
        if last {
            return;
        }
    }
}

#[test]
fn an_access_over_two_regions_sees_both_before_or_both_after_a_transaction() {
    let root = MemoryRegion::container("root", 0x1000);
    let space = AddressSpace::new("test", &root);
    let old = [ram("old 0", 8, 0xaa), ram("old 1", 8, 0xaa)];
    let new = [ram("new 0", 8, 0xbb), ram("new 1", 8, 0xbb)];
    for pair in [&old, &new] {
        let _transaction = transaction();
        root.add_subregion(0, &pair[0]);
        root.add_subregion(8, &pair[1]);
    }
    new.iter().for_each(|region| region.set_enabled(false));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| watch(&done, |data| space.read(0, data)));
        scope.spawn(|| {
            let mut reader = space.reader();
            watch(&done, |data| reader.read(0, data));
        });
        for n in 0..CHANGES {
            let _transaction = transaction();
            let show_new = n % 2 == 0;
            old.iter().for_each(|region| region.set_enabled(!show_new));
            new.iter().for_each(|region| region.set_enabled(show_new));
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn a_reader_sees_a_change_as_soon_as_it_is_committed() {
    let root = MemoryRegion::container("root", 0x1000);
    let space = AddressSpace::new("test", &root);
    let mut reader = space.reader();
    let (first, second) = (ram("first", 8, 1), ram("second", 8, 2));
    root.add_subregion(0, &first);
    let mut byte = [0];
    assert_eq!(reader.read(0, &mut byte), MemTxResult::Ok);
    assert_eq!(byte, [1]);
    root.add_subregion_overlap(0, &second, 1);
    assert_eq!(reader.read(0, &mut byte), MemTxResult::Ok);
    assert_eq!(byte, [2]);
    // The range that the reader remembers is gone altogether.
    second.unmap();
    first.unmap();
    assert_eq!(reader.read(0, &mut byte), MemTxResult::DecodeError);
}

#[test]
fn changes_of_other_threads_wait_for_a_transaction_and_all_arrive() {
    let root = MemoryRegion::container("root", 0x10000);
    let space = AddressSpace::new("test", &root);
    thread::scope(|scope| {
        for n in 0..8 {
            let root = &root;
            scope.spawn(move || root.add_subregion(n * 0x100, &ram(&format!("region {n}"), 0x100, 0)));
        }
    });
    for n in 0..8 {
        assert_eq!(shown(&space, n * 0x100 + 5), at(&format!("region {n}"), 5));
    }
}
