//! Files, fifos, ring buffers and the options of all kinds.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use chardev::{CharFrontend, Event};
use common::{Bench, Recorder, error, new, run_until, settle};
use rustix::fs::{CWD, FileType, Mode, mknodat};

#[test]
fn a_file_takes_output_and_is_truncated_unless_append() {
    let _bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    for (options, expected) in [("", "one\n"), (",append=on", "one\none\n"), (",append=off", "one\n")] {
        let file = new("f", &format!("backend=file,path={}{options}", path.display())).unwrap();
        assert_eq!(file.filename(), "file");
        assert!(file.is_open());
        let frontend = CharFrontend::default();
        frontend.attach(&file).unwrap();
        assert_eq!(frontend.write(b"one\n"), 4);
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        drop((frontend, file));
        chardev::remove("f").unwrap();
    }
}

#[test]
fn a_file_may_have_an_input_file_and_any_chardev_a_log() {
    let _bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::write(at("in"), "typed").unwrap();
    let options = format!("backend=file,path={},input-path={},logfile={}", at("out"), at("in"), at("log"));
    let file = new("f", &options).unwrap();
    let recorder = Recorder::on(&file);
    recorder.wait_for("typed");
    recorder.wait_for_event(Event::Closed);
    recorder.frontend.write_all(b"printed");
    assert_eq!(fs::read_to_string(at("log")).unwrap(), "printed");
}

#[test]
fn a_pair_of_fifos_is_a_serial_line() {
    let _bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let fifo = |name: &str| {
        let path = dir.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
    };
    let (mut input, mut output) = (fifo("p.in"), fifo("p.out"));
    let pipe = new("p", &format!("backend=pipe,path={}", dir.path().join("p").display())).unwrap();
    let recorder = Recorder::on(&pipe);
    input.write_all(b"hello").unwrap();
    recorder.wait_for("hello");
    assert_eq!(recorder.frontend.write(b"there"), 5);
    let mut buffer = [0; 5];
    output.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"there");
}

#[test]
fn a_full_fifo_takes_no_more_and_tells_when_it_does() {
    let _bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let pipe = new("p", &format!("backend=pipe,path={}", path.display())).unwrap();
    let frontend = CharFrontend::default();
    frontend.attach(&pipe).unwrap();
    let mut total = 0;
    loop {
        match frontend.write(&[b'x'; 4096]) {
            0 => break,
            taken => total += taken,
        }
    }
    assert!(total >= 4096);
    let told = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = told.clone();
    assert!(frontend.add_watch(move || flag.store(true, Ordering::SeqCst)));
    settle();
    assert!(!told.load(Ordering::SeqCst));
    reader.read_exact(&mut vec![0; total]).unwrap();
    run_until(|| told.load(Ordering::SeqCst), || "not told that there is room".into());
    assert_eq!(frontend.write(b"y"), 1);
}

#[test]
fn a_ring_buffer_keeps_the_latest_output() {
    let _bench = Bench::new();
    let ring = new("r", "backend=ringbuf,size=8").unwrap();
    let frontend = CharFrontend::default();
    frontend.attach(&ring).unwrap();
    assert_eq!(frontend.write(b"0123456789"), 10);
    assert_eq!(ring.read_buffered(3).unwrap(), b"234");
    frontend.write(b"abc");
    assert_eq!(ring.read_buffered(100).unwrap(), b"56789abc");
    assert_eq!(ring.read_buffered(100).unwrap(), b"");
    assert_eq!(error("backend=ringbuf,size=3"), "size of ringbuf chardev must be power of two");
    assert_eq!(error("backend=ringbuf,size=z"), "Parameter 'size' expects a non-negative number below 2^64");
}

#[test]
fn one_frontend_at_a_time() {
    let _bench = Bench::new();
    let null = new("n", "backend=null").unwrap();
    let (one, two) = (CharFrontend::default(), CharFrontend::default());
    one.attach(&null).unwrap();
    assert_eq!(two.attach(&null).unwrap_err().to_string(), "Device 'n' is in use");
    assert_eq!(chardev::remove("n").unwrap_err().to_string(), "Chardev 'n' is busy");
    drop(one);
    two.attach(&null).unwrap();
    drop(two);
    chardev::remove("n").unwrap();
    assert_eq!(chardev::remove("n").unwrap_err().to_string(), "Chardev 'n' not found");
    assert!(chardev::find("n").is_none());
}

#[test]
fn what_the_user_got_wrong_is_said_in_a_line() {
    let _bench = Bench::new();
    for (options, expected) in [
        ("path=x", "chardev: \"x\" missing backend"),
        ("backend=bogus", "'bogus' is not a valid char driver name"),
        ("backend=vc", "chardev backend 'vc' is not supported"),
        ("backend=null,bogus=1", "Invalid parameter 'bogus'"),
        ("backend=null,path=1", "Parameter 'path' is not supported by chardev backend 'null'"),
        ("backend=null,mux=maybe", "Parameter 'mux' expects 'on' or 'off'"),
        ("backend=file", "chardev: file: no filename given"),
        ("backend=file,path=/nonexist/y", "Could not open '/nonexist/y': No such file or directory"),
        ("backend=pipe", "chardev: pipe: no device path given"),
        ("backend=pipe,path=/nonexist/y", "Could not open '/nonexist/y': No such file or directory"),
        ("backend=serial", "chardev: serial/tty: no device path given"),
        ("backend=serial,path=/nonexist/t", "Could not open '/nonexist/t': No such file or directory"),
        ("backend=mux", "chardev: mux: no chardev given"),
        ("backend=mux,chardev=none", "mux: base chardev none not found"),
        ("backend=udp", "chardev: udp: remote port not specified"),
    ] {
        assert_eq!(error(options), expected, "{options}");
        assert!(chardev::find("x").is_none());
        assert!(chardev::find("x-base").is_none());
    }
    new("x", "backend=null").unwrap();
    assert_eq!(error("backend=null"), "Duplicate ID 'x' for chardev");
    assert!(chardev::backend_help().starts_with("Available chardev backend types: \n  stdio\n"));
}

#[test]
fn short_forms_stand_for_options() {
    let _bench = Bench::new();
    for (short, expected) in [
        ("null", "backend=null"),
        ("stdio", "backend=stdio"),
        ("mon:stdio", "mux=on signal=off backend=stdio"),
        ("mon:pty", "mux=on backend=pty"),
        ("file:/a,b", "backend=file path=/a,b"),
        ("pipe:/a", "backend=pipe path=/a"),
        ("unix:/s,server=on,wait=off", "backend=socket path=/s server=on wait=off"),
        ("unix:/a,,b,server,nowait", "backend=socket path=/a,b server=on wait=off"),
        ("unix:path=/a,server=on", "backend=socket path=/a server=on"),
        ("tcp:h:1,server=on,nodelay", "backend=socket host=h port=1 server=on nodelay=on"),
        ("tcp::1", "backend=socket host= port=1"),
        ("telnet:h:1", "backend=socket host=h port=1 telnet=on"),
        ("websocket:h:1", "backend=socket host=h port=1 websocket=on"),
        ("udp:h:1@l:2", "backend=udp host=h port=1 localaddr=l localport=2"),
        ("udp::1", "backend=udp host= port=1"),
        ("/dev/ttyS0", "backend=serial path=/dev/ttyS0"),
        ("/dev/parport0", "backend=parallel path=/dev/parport0"),
        ("vc:80Cx24C", "backend=vc"),
    ] {
        let spec = chardev::parse_compat("serial0", short, true).unwrap();
        let options: Vec<_> = spec.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(options.join(" "), expected);
        assert_eq!(spec.is_mux(), short.starts_with("mon:"));
    }
    let error = |short, mon| chardev::parse_compat("s", short, mon).unwrap_err().to_string();
    assert_eq!(error("bogus", true), "'bogus' is not a valid char driver");
    assert_eq!(error("mon:bogus", true), "'bogus' is not a valid char driver");
    assert_eq!(error("tcp:foo", true), "'tcp:foo' is not a valid char driver");
    assert_eq!(error("mon:stdio", false), "mon: isn't supported in this context");

    let null = new("n", "backend=null").unwrap();
    let (found, monitor) = chardev::new_from_compat("serial0", "chardev:n", true).unwrap();
    assert!(std::sync::Arc::ptr_eq(&null, &found) && !monitor);
    chardev::new_from_compat("serial0", "chardev:m", true).unwrap_err();
}
