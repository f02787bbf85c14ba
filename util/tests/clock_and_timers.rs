//! The virtual clock and timers under manual control, as the qtest accelerator drives them. One test: the
//! clock is the process's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use util::clock::{self, ClockType::Virtual};
use util::event_loop::EventLoop;
use util::timer::{self, Timer};

type Log = Arc<Mutex<Vec<(&'static str, u64)>>>;

fn logging_timer(name: &'static str, log: &Log) -> Timer {
    let log = log.clone();
    Timer::new(Virtual, move || log.lock().push((name, clock::now_ns(Virtual))))
}

#[test]
fn virtual_clock_and_its_timers() {
    the_clock_stands_until_ticks_are_enabled();
    a_stopped_clock_fires_nothing();
    clock::set_manual();
    steps_run_timers_in_order_with_the_clock_at_each_deadline();
    a_timer_can_be_moved_and_deleted();
    a_timer_that_arms_itself_is_periodic();
    overdue_timers_fire_on_the_loop();
    a_timer_that_keeps_arming_itself_in_the_past_leaves_the_loop_its_turn();
}

fn the_clock_stands_until_ticks_are_enabled() {
    assert_eq!(clock::now_ns(Virtual), 0);
    assert!(!clock::ticks_enabled());
    clock::set_virtual_ns(500);
    assert_eq!(clock::now_ns(Virtual), 500);

    clock::enable_ticks();
    let first = clock::now_ns(Virtual);
    while clock::now_ns(Virtual) == first {}
    assert!(first >= 500);

    clock::disable_ticks();
    let stopped = clock::now_ns(Virtual);
    assert!(stopped > first);
    assert_eq!(clock::now_ns(Virtual), stopped);
    clock::set_virtual_ns(1_000);
}

fn a_stopped_clock_fires_nothing() {
    let log = Log::default();
    let timer = logging_timer("t", &log);
    timer.mod_ns(1);
    EventLoop::main().run_once(Some(Duration::ZERO)).unwrap();
    assert!(log.lock().is_empty());
    assert!(timer.pending());

    clock::enable_ticks();
    EventLoop::main().run_until(|| !timer.pending()).unwrap();
    assert_eq!(log.lock().len(), 1);
    clock::disable_ticks();
    clock::set_virtual_ns(1_000);
}

fn steps_run_timers_in_order_with_the_clock_at_each_deadline() {
    let log = Log::default();
    let (a, b, c) = (logging_timer("a", &log), logging_timer("b", &log), logging_timer("c", &log));
    b.mod_ns(1_300);
    a.mod_ns(1_100);
    c.mod_ns(1_300);
    assert_eq!(timer::next_deadline_ns(Virtual), Some(1_100));
    assert_eq!(clock::step(99), 1_099);
    assert!(log.lock().is_empty());
    assert_eq!(clock::set(2_000), 2_000);
    assert_eq!(*log.lock(), [("a", 1_100), ("b", 1_300), ("c", 1_300)]);
    assert_eq!(timer::next_deadline_ns(Virtual), None);
    assert_eq!(clock::step_to_deadline(), 2_000);
}

fn a_timer_can_be_moved_and_deleted() {
    let log = Log::default();
    let timer = logging_timer("t", &log);
    assert_eq!(timer.expire_ns(), None);
    timer.mod_ns(2_500);
    timer.mod_anticipate(2_700);
    assert_eq!(timer.expire_ns(), Some(2_500));
    timer.mod_anticipate(2_400);
    assert_eq!(timer.expire_ns(), Some(2_400));
    timer.mod_ns(2_600);
    assert_eq!(clock::step_to_deadline(), 2_600);
    assert_eq!(*log.lock(), [("t", 2_600)]);
    assert!(!timer.pending());

    timer.mod_ns(2_700);
    timer.del();
    let dropped = logging_timer("dropped", &log);
    dropped.mod_ns(2_800);
    drop(dropped);
    clock::set(3_000);
    assert_eq!(log.lock().len(), 1);
}

fn a_timer_that_arms_itself_is_periodic() {
    let fired = Arc::new(AtomicU32::new(0));
    let timer = Arc::new_cyclic(|weak: &std::sync::Weak<Timer>| {
        let (weak, fired) = (weak.clone(), fired.clone());
        Timer::new(Virtual, move || {
            fired.fetch_add(1, Ordering::Relaxed);
            weak.upgrade().unwrap().mod_ns(clock::now_ns(Virtual) + 100);
        })
    });
    timer.mod_ns(3_100);
    clock::set(4_000);
    assert_eq!(fired.load(Ordering::Relaxed), 10);
    assert_eq!(timer.expire_ns(), Some(4_100));
}

fn overdue_timers_fire_on_the_loop() {
    let log = Log::default();
    let timer = logging_timer("late", &log);
    timer.mod_ns(10);
    EventLoop::main().run_until(|| !timer.pending()).unwrap();
    assert_eq!(*log.lock(), [("late", 4_000)]);
}

fn a_timer_that_keeps_arming_itself_in_the_past_leaves_the_loop_its_turn() {
    let timer = Arc::new_cyclic(|weak: &std::sync::Weak<Timer>| {
        let weak = weak.clone();
        Timer::new(Virtual, move || weak.upgrade().unwrap().mod_ns(1))
    });
    timer.mod_ns(1);
    let turns = Arc::new(AtomicU32::new(0));
    let counter = turns.clone();
    EventLoop::main().schedule(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    EventLoop::main().run_until(|| turns.load(Ordering::Relaxed) == 1).unwrap();
    timer.del();
}
