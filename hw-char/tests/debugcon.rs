//! `isa-debugcon` with a reader that takes nothing for a while.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use hw_char as _;
use hw_core::qdev_create;
use hw_core::sysbus::sysbus_get_default;
use hw_isa::isa_bus_new;
use memory::{AddressSpace, MemoryRegion};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use util::event_loop::EventLoop;

/// What fits in a fifo and in the device.
const FIFO: usize = 64 << 10;
const BUFFER: usize = 64 << 10;
const PORT: u64 = 0xe9;

fn byte(n: usize) -> u8 {
    (n % 251) as u8
}

#[test]
fn a_stuck_reader_neither_stops_the_guest_nor_grows_the_buffer() {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let directory = tempfile::tempdir().unwrap();
    let fifo = |name: &str| {
        let path = directory.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let nonblocking = OFlags::NONBLOCK.bits() as i32;
        OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path).unwrap()
    };
    let (_input, mut output) = (fifo("p.in"), fifo("p.out"));
    let path = directory.path().join("p").display().to_string();
    let options = [("backend", "pipe"), ("path", &path)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    chardev::new_from_opts("d", &options).unwrap();
    let io = MemoryRegion::container("io", 1 << 16);
    let bridge = qdev_create("isabus-bridge", Some(&sysbus_get_default()), &[]).unwrap();
    let bus = isa_bus_new(&bridge, &MemoryRegion::container("memory", 1 << 32), &io).unwrap();
    qdev_create("isa-debugcon", Some(&bus), &[("chardev", "d".into())]).unwrap();
    let ports = AddressSpace::new("ports", &io);
    assert_eq!(ports.reader().read_value(PORT, 1), 0xe9);

    // Each of these would wait for a reader that never comes.
    for n in 0..FIFO + BUFFER + 5000 {
        ports.reader().write_value(PORT, byte(n).into(), 1);
    }
    let mut got = vec![0; FIFO];
    output.read_exact(&mut got).unwrap();
    // Now there is room: what waited follows, without what came when the buffer was full.
    for _ in 0..1000 {
        EventLoop::main().run_once(Some(Duration::ZERO)).unwrap();
        let mut more = [0; 4096];
        // Nothing there is no end: the next round may bring more.
        let count = output.read(&mut more).unwrap_or(0);
        got.extend_from_slice(&more[..count]);
    }
    assert!(got.iter().enumerate().all(|(n, &b)| b == byte(n)), "in order and complete");
    assert_eq!(got.len(), FIFO + BUFFER);
    ports.reader().write_value(PORT, 0x5a, 1);
    let mut last = [0];
    output.read_exact(&mut last).unwrap();
    assert_eq!(last, [0x5a]);
}
