//! Packets that go from where they lie in memory.

mod common;

use common::TestNic;
use memory::vm_memory::VolatileSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Sends `bytes` in two parts; gives whether they were taken so.
fn send(from: &TestNic, bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    let (first, second) = bytes.split_at_mut(middle);
    from.nc().send_parts(&[VolatileSlice::from(first), VolatileSlice::from(second)])
}

fn pair() -> (Arc<TestNic>, Arc<TestNic>) {
    let to = TestNic::new("hubport,id=h,hubid=0");
    let from = TestNic::beside(&to.nc());
    (from, to)
}

#[test]
fn they_go_where_they_are_taken_and_nowhere_else() {
    let (from, to) = pair();
    assert!(!send(&from, b"nobody takes it so"));
    to.takes_parts.store(true, Ordering::SeqCst);
    assert!(send(&from, b"whole"));
    assert_eq!(to.frames.lock().pop_front().unwrap(), b"whole");
    for end in [&from, &to] {
        end.nc().set_link_down(true);
        assert!(!send(&from, b"no link"));
        end.nc().set_link_down(false);
    }
    assert!(to.frames.lock().is_empty());
}

#[test]
fn they_overtake_nothing_that_waits() {
    let (from, to) = pair();
    to.takes_parts.store(true, Ordering::SeqCst);
    to.set_full(true);
    assert!(!send(&from, b"full"));
    assert!(!from.nc().send_async(b"waits"));
    to.full.store(false, Ordering::SeqCst);
    assert!(!send(&from, b"in front"));
    to.nc().flush();
    assert!(send(&from, b"behind"));
    let frames: Vec<_> = to.frames.lock().drain(..).collect();
    assert_eq!(frames, [b"waits".to_vec(), b"behind".to_vec()]);
}
