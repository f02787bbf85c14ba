//! Interrupt lines: who drives whom.

mod common;

use std::sync::{Arc, Mutex};

use hw_core::{Device, Irq, IrqPin, qdev_new};

type Log = Arc<Mutex<Vec<(u32, bool)>>>;

fn line(log: &Log, n: u32) -> Irq {
    let log = log.clone();
    Irq::new(Arc::new(move |n: u32, level: bool| log.lock().unwrap().push((n, level))), n)
}

fn take(log: &Log) -> Vec<(u32, bool)> {
    std::mem::take(&mut log.lock().unwrap())
}

#[test]
fn a_pin_drives_what_it_is_connected_to() {
    let log = Log::default();
    let pin = IrqPin::default();
    // Not connected: nothing to drive.
    pin.pulse();
    pin.connect(line(&log, 3));
    pin.set(true);
    pin.set(true);
    pin.set(false);
    pin.connect(line(&log, 4));
    pin.pulse();
    assert_eq!(take(&log), [(3, true), (3, false), (4, true), (4, false)]);
    assert_eq!(pin.target().unwrap().number(), 4);
}

#[test]
fn a_pin_that_fell_and_rose_between_two_looks_shows_an_edge() {
    let log = Log::default();
    let pin = IrqPin::default();
    pin.connect(line(&log, 0));
    pin.sync(false, || true);
    pin.sync(false, || true);
    assert_eq!(take(&log), [(0, true)]);
    pin.sync(true, || true);
    assert_eq!(take(&log), [(0, false), (0, true)]);
    pin.sync(true, || false);
    assert_eq!(take(&log), [(0, false)]);
}

#[test]
fn a_split_line_drives_all_of_its_targets() {
    let log = Log::default();
    let split = Irq::split(vec![line(&log, 0), line(&log, 2)]);
    split.set(true);
    split.set(false);
    assert_eq!(take(&log), [(0, true), (2, true), (0, false), (2, false)]);
}

#[test]
fn an_intercepted_line_reaches_its_device_and_the_watcher() {
    let (log, watched) = (Log::default(), Log::default());
    let line = line(&log, 5);
    let sink = watched.clone();
    // Whoever holds a copy of the line is intercepted, too.
    let pin = IrqPin::default();
    pin.connect(line.clone());
    line.intercept(Box::new(move |n: u32, level: bool| sink.lock().unwrap().push((n, level))));
    pin.set(true);
    line.set(false);
    assert_eq!(take(&watched), [(5, true), (5, false)]);
    assert_eq!(take(&log), [(5, true), (5, false)]);
}

#[test]
fn an_intercepted_output_reaches_what_it_drives_and_the_watcher() {
    let (log, watched) = (Log::default(), Log::default());
    let (driven, nothing_driven) = (IrqPin::default(), IrqPin::default());
    driven.connect(line(&log, 5));
    for (n, pin) in [(0, &driven), (1, &nothing_driven)] {
        let sink = watched.clone();
        pin.intercept(n, Arc::new(move |n: u32, level: bool| sink.lock().unwrap().push((n, level))));
        pin.set(true);
    }
    assert_eq!(take(&watched), [(0, true), (1, true)]);
    assert_eq!(take(&log), [(5, true)]);
}

#[test]
fn a_devices_inputs_and_outputs_are_numbered_by_name() {
    common::init();
    let log = Log::default();
    let object = qdev_new("node").unwrap();
    let device = object.cast::<Device>().unwrap();
    let sink = log.clone();
    let handler = Arc::new(move |n: u32, level: bool| sink.lock().unwrap().push((n, level)));
    device.init_gpio_in("", handler.clone(), 2);
    device.init_gpio_in("", handler.clone(), 1);
    device.init_gpio_in("nmi", handler, 1);
    device.gpio_in("", 2).unwrap().set(true);
    device.gpio_in("nmi", 0).unwrap().set(true);
    assert_eq!(take(&log), [(2, true), (0, true)]);
    assert!(device.gpio_in("", 3).is_none());
    assert_eq!(device.gpio_in_all("").len(), 3);

    let pin = Arc::new(IrqPin::default());
    device.init_gpio_out("out", &pin);
    device.connect_gpio_out("out", 0, line(&log, 9)).unwrap();
    pin.set(true);
    assert_eq!(take(&log), [(9, true)]);
    assert!(device.connect_gpio_out("out", 1, line(&log, 9)).is_err());
}
