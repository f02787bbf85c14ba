//! What listeners hear: one round for a transaction, removals before additions, only what changed.

mod common;

use std::sync::Arc;

use common::{Event, Recorder, io, ram};
use memory::{AddressSpace, IoEventFd, MemoryListener, MemoryRegion, transaction};
use vmm_sys_util::eventfd::EventFd;

struct Setup {
    root: MemoryRegion,
    space: Arc<AddressSpace>,
    recorder: Arc<Recorder>,
}

fn setup() -> Setup {
    let root = MemoryRegion::container("root", 1 << 32);
    let space = AddressSpace::new("test", &root);
    let recorder = Recorder::follow(&space);
    assert_eq!(recorder.take(), [Event::Begin, Event::Commit]);
    Setup { root, space, recorder }
}

fn del(start: u64, last: u64, name: &str) -> Event {
    Event::Del(start, last, name.to_owned())
}

fn add(start: u64, last: u64, name: &str) -> Event {
    Event::Add(start, last, name.to_owned())
}

fn eventfd(address: u64, data: Option<u64>) -> IoEventFd {
    IoEventFd { address, size: 2, data, eventfd: Arc::new(EventFd::new(0).unwrap()) }
}

#[test]
fn a_new_listener_hears_what_is_there() {
    let Setup { root, space, .. } = setup();
    root.add_subregion(0, &ram("ram", 0x1000, 0));
    let device = io("device", 0x100);
    device.add_eventfd(eventfd(0x10, None));
    device.add_coalescing(0x20, 8);
    root.add_subregion(0x8000, &device);
    let late = Recorder::follow(&space);
    let expected = [
        Event::Begin,
        add(0, 0xfff, "ram"),
        add(0x8000, 0x80ff, "device"),
        Event::FdAdd(0x8010),
        Event::CoalescedAdd(0x8020, 8),
        Event::Commit,
    ];
    assert_eq!(late.take(), expected);
    let listener: Arc<dyn MemoryListener> = late.clone();
    space.remove_listener(&listener);
    let expected = [
        Event::Begin,
        Event::CoalescedDel(0x8020, 8),
        Event::FdDel(0x8010),
        del(0x8000, 0x80ff, "device"),
        del(0, 0xfff, "ram"),
        Event::Commit,
    ];
    assert_eq!(late.take(), expected);
    device.set_enabled(false);
    assert_eq!(late.take(), []);
}

#[test]
fn a_transaction_is_one_round() {
    let Setup { root, recorder, space: _space } = setup();
    let (low, high) = (ram("low", 0x1000, 0), ram("high", 0x1000, 0));
    {
        let _transaction = transaction();
        root.add_subregion(0, &low);
        root.add_subregion(0x1000, &high);
        high.set_size(0x800);
        assert_eq!(recorder.take(), []);
    }
    assert_eq!(
        recorder.take(),
        [Event::Begin, add(0, 0xfff, "low"), add(0x1000, 0x17ff, "high"), Event::Commit]
    );
}

#[test]
fn removals_come_first_and_from_the_top() {
    let Setup { root, recorder, space: _space } = setup();
    let (a, b, c) = (ram("a", 0x1000, 0), ram("b", 0x1000, 0), ram("c", 0x1000, 0));
    root.add_subregion(0, &a);
    root.add_subregion(0x1000, &b);
    root.add_subregion(0x4000, &c);
    recorder.take();
    {
        let _transaction = transaction();
        a.set_address(0x1000);
        b.set_address(0);
    }
    let expected = [
        Event::Begin,
        del(0x1000, 0x1fff, "b"),
        del(0, 0xfff, "a"),
        add(0, 0xfff, "b"),
        add(0x1000, 0x1fff, "a"),
        Event::Commit,
    ];
    assert_eq!(recorder.take(), expected);
    assert_eq!(recorder.ranges().len(), 3);
}

#[test]
fn a_region_split_by_another_is_told_anew() {
    let Setup { root, recorder, space: _space } = setup();
    root.add_subregion(0, &ram("ram", 0x3000, 0));
    root.add_subregion(0x10000, &ram("other", 0x1000, 0));
    recorder.take();
    root.add_subregion_overlap(0x1000, &io("device", 0x1000), 1);
    let expected = [
        Event::Begin,
        del(0, 0x2fff, "ram"),
        add(0, 0xfff, "ram"),
        add(0x1000, 0x1fff, "device"),
        add(0x2000, 0x2fff, "ram"),
        Event::Commit,
    ];
    assert_eq!(recorder.take(), expected);
}

#[test]
fn memory_that_becomes_read_only_is_told_anew() {
    let Setup { root, recorder, space: _space } = setup();
    let memory = ram("ram", 0x1000, 0);
    root.add_subregion(0, &memory);
    recorder.take();
    memory.set_readonly(true);
    assert_eq!(recorder.take(), [Event::Begin, del(0, 0xfff, "ram"), add(0, 0xfff, "ram"), Event::Commit]);
    assert!(recorder.ranges()[0].readonly);
}

#[test]
fn what_changes_nothing_is_not_told() {
    let Setup { root, recorder, space: _space } = setup();
    root.add_subregion_overlap(0, &ram("top", 0x1000, 0), 1);
    recorder.take();
    let below = ram("below", 0x1000, 0);
    root.add_subregion(0, &below);
    below.set_enabled(false);
    {
        let _transaction = transaction();
        below.set_address(0x8000);
        below.set_enabled(true);
        below.unmap();
    }
    assert_eq!(recorder.take(), []);
}

#[test]
fn eventfds_come_go_and_move_with_their_region() {
    let Setup { root, recorder, space: _space } = setup();
    let device = io("device", 0x100);
    root.add_subregion(0x1000, &device);
    recorder.take();
    let (first, second) = (eventfd(0x10, Some(1)), eventfd(0x10, Some(2)));
    device.add_eventfd(first.clone());
    assert_eq!(recorder.take(), [Event::Begin, Event::FdAdd(0x1010), Event::Commit]);
    device.add_eventfd(second);
    assert_eq!(recorder.take(), [Event::Begin, Event::FdAdd(0x1010), Event::Commit]);
    device.del_eventfd(&first);
    assert_eq!(recorder.take(), [Event::Begin, Event::FdDel(0x1010), Event::Commit]);
    device.set_address(0x2000);
    let expected = [
        Event::Begin,
        del(0x1000, 0x10ff, "device"),
        add(0x2000, 0x20ff, "device"),
        Event::FdDel(0x1010),
        Event::FdAdd(0x2010),
        Event::Commit,
    ];
    assert_eq!(recorder.take(), expected);
}

#[test]
fn an_eventfd_that_is_covered_does_not_signal() {
    let Setup { root, recorder, space: _space } = setup();
    let device = io("device", 0x100);
    device.add_eventfd(eventfd(0x10, None));
    root.add_subregion(0x1000, &device);
    recorder.take();
    let cover = io("cover", 1);
    // Half of its two bytes.
    root.add_subregion_overlap(0x1011, &cover, 1);
    assert!(recorder.take().contains(&Event::FdDel(0x1010)));
    cover.unmap();
    assert!(recorder.take().contains(&Event::FdAdd(0x1010)));
}

#[test]
fn an_eventfd_shows_through_each_alias() {
    let Setup { root, recorder, space: _space } = setup();
    let device = io("device", 0x100);
    device.add_eventfd(eventfd(0x10, None));
    root.add_subregion(0x1000, &MemoryRegion::alias("one", &device, 0, 0x100));
    root.add_subregion(0x2000, &MemoryRegion::alias("two", &device, 0x10, 0x10));
    let events = recorder.take();
    assert!(events.contains(&Event::FdAdd(0x1010)) && events.contains(&Event::FdAdd(0x2000)));
}

#[test]
fn coalesced_ranges_are_clipped_and_told_once() {
    let Setup { root, recorder, space: _space } = setup();
    let device = io("device", 0x100);
    device.add_coalescing(0x20, 0x40);
    root.add_subregion(0x1000, &device);
    assert!(recorder.take().contains(&Event::CoalescedAdd(0x1020, 0x40)));
    // Something unrelated does not tell it again.
    root.add_subregion(0x8000, &io("unrelated", 1));
    assert_eq!(recorder.take(), [Event::Begin, add(0x8000, 0x8000, "unrelated"), Event::Commit]);
    device.set_size(0x30);
    let events = recorder.take();
    assert!(events.contains(&Event::CoalescedDel(0x1020, 0x40)), "{events:?}");
    assert!(events.contains(&Event::CoalescedAdd(0x1020, 0x10)), "{events:?}");
    device.clear_coalescing();
    assert_eq!(recorder.take(), [Event::Begin, Event::CoalescedDel(0x1020, 0x10), Event::Commit]);
}

#[test]
fn listeners_are_told_before_readers_see_the_change_or_after_but_always_both() {
    let Setup { root, space, recorder } = setup();
    root.add_subregion(0, &ram("ram", 0x1000, 0));
    assert_eq!(recorder.ranges(), space.view().ranges());
    root.add_subregion_overlap(0x800, &io("device", 0x10), 1);
    assert_eq!(recorder.ranges(), space.view().ranges());
}
