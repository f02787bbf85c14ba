//! The event loop with real descriptors and threads.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use util::clock::{self, ClockType::Realtime};
use util::event_loop::{BottomHalf, EventLoop, Interest, Ready};
use util::timer::Timer;

#[test]
fn a_watch_is_called_while_its_descriptor_is_readable() {
    let event_loop = EventLoop::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let ours = Arc::new(ours);
    let received = Arc::new(Mutex::new(Vec::new()));
    let (source, sink) = (ours.clone(), received.clone());
    let watch = event_loop
        .add_fd(
            ours,
            Interest::READ,
            Arc::new(move |ready| {
                assert!(ready.contains(Ready::READ));
                let mut byte = [0];
                (&*source).read_exact(&mut byte).unwrap();
                sink.lock().unwrap().push(byte[0]);
            }),
        )
        .unwrap();
    theirs.write_all(b"abc").unwrap();
    event_loop.run_until(|| received.lock().unwrap().len() == 3).unwrap();
    assert_eq!(*received.lock().unwrap(), b"abc");

    watch.set_interest(Interest::empty()).unwrap();
    theirs.write_all(b"d").unwrap();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert_eq!(received.lock().unwrap().len(), 3);

    watch.set_interest(Interest::READ).unwrap();
    event_loop.run_once(None).unwrap();
    assert_eq!(*received.lock().unwrap(), b"abcd");
}

#[test]
fn a_hang_up_is_told_and_a_disabled_watch_does_not_spin() {
    let event_loop = EventLoop::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let sink = calls.clone();
    let handler = Arc::new(move |ready| sink.lock().unwrap().push(ready));
    let watch = event_loop.add_fd(ours, Interest::WRITE, handler).unwrap();
    drop(theirs);
    event_loop.run_once(None).unwrap();
    assert!(calls.lock().unwrap()[0].contains(Ready::HANGUP));
    watch.set_interest(Interest::empty()).unwrap();
    calls.lock().unwrap().clear();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert!(calls.lock().unwrap().is_empty());
}

#[test]
fn a_handler_may_drop_another_watch_that_is_ready_too() {
    let event_loop = EventLoop::new();
    let slots: Arc<Mutex<Vec<_>>> = Arc::default();
    let calls = Arc::new(AtomicU32::new(0));
    let mut keep = Vec::new();
    for _ in 0..2 {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        keep.push(theirs);
        let (slots_, calls_) = (slots.clone(), calls.clone());
        let handler = Arc::new(move |_| {
            calls_.fetch_add(1, Ordering::Relaxed);
            let watches = std::mem::take(&mut *slots_.lock().unwrap());
            drop(watches);
        });
        let watch = event_loop.add_fd(ours, Interest::READ, handler).unwrap();
        slots.lock().unwrap().push(watch);
    }
    event_loop.run_once(None).unwrap();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_regular_file_is_always_ready() {
    let event_loop = EventLoop::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"x").unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let handler = Arc::new(move |ready: Ready| {
        assert_eq!(ready, Ready::READ);
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let watch = event_loop.add_fd(file, Interest::READ, handler).unwrap();
    event_loop.run_until(|| calls.load(Ordering::Relaxed) == 2).unwrap();
    watch.set_interest(Interest::empty()).unwrap();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn a_watch_keeps_its_descriptor_open() {
    let event_loop = EventLoop::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let watch = event_loop.add_fd(ours, Interest::READ, Arc::new(|_| ())).unwrap();
    theirs.write_all(b"x").unwrap();
    drop(watch);
    theirs.write_all(b"x").unwrap_err();
}

#[test]
fn the_same_descriptor_is_not_watched_twice() {
    let event_loop = EventLoop::new();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let ours = Arc::new(ours);
    let _watch = event_loop.add_fd(ours.clone(), Interest::READ, Arc::new(|_| ())).unwrap();
    let error = event_loop.add_fd(ours, Interest::WRITE, Arc::new(|_| ())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn work_from_other_threads_wakes_a_sleeping_loop() {
    let event_loop = EventLoop::new();
    let done = Arc::new(AtomicU32::new(0));
    let thread = {
        let (event_loop, done) = (event_loop.clone(), done.clone());
        std::thread::spawn(move || {
            for _ in 0..1000 {
                let done = done.clone();
                event_loop.schedule(move || {
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
        })
    };
    event_loop.run_until(|| done.load(Ordering::Relaxed) == 1000).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_bottom_half_is_queued_once_and_may_schedule_itself() {
    let event_loop = EventLoop::new();
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let bottom_half = BottomHalf::new(&event_loop, move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    bottom_half.schedule();
    bottom_half.schedule();
    event_loop.run_once(None).unwrap();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    bottom_half.schedule();
    bottom_half.cancel();
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn the_main_loop_fires_timers_armed_by_other_threads_and_never_early() {
    let fired_at = Arc::new(AtomicU64::new(0));
    let sink = fired_at.clone();
    let timer =
        Arc::new(Timer::new(Realtime, move || sink.store(clock::now_ns(Realtime), Ordering::Relaxed)));
    let deadline = clock::now_ns(Realtime) + 2_000_000;
    let armer = timer.clone();
    let thread = std::thread::spawn(move || armer.mod_ns(deadline));
    EventLoop::main().run_until(|| fired_at.load(Ordering::Relaxed) != 0).unwrap();
    thread.join().unwrap();
    assert!(fired_at.load(Ordering::Relaxed) >= deadline);
    assert!(!timer.pending());
}

#[test]
fn dev_null_reads_as_ended_at_once() {
    let event_loop = EventLoop::new();
    let file = Arc::new(File::open("/dev/null").unwrap());
    let ended = Arc::new(AtomicU32::new(0));
    let (source, flag) = (file.clone(), ended.clone());
    let handler = Arc::new(move |_| {
        let read = (&*source).read(&mut [0]).unwrap();
        flag.store(1 + read as u32, Ordering::Relaxed);
    });
    let _watch = event_loop.add_fd(file, Interest::READ, handler).unwrap();
    event_loop.run_once(None).unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 1);
}
