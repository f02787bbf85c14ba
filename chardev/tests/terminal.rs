//! Chardevs on terminals: pty, a serial device, and the program's own terminal.

mod common;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use chardev::{Event, Parity, SerialParams};
use common::{Bench, Recorder, new, run_until};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{ControlModes, InputModes, LocalModes, tcgetattr};

#[test]
fn a_pty_is_connected_while_somebody_has_it_open() {
    let _bench = Bench::new();
    let pty = new("p", "backend=pty").unwrap();
    let recorder = Recorder::on(&pty);
    let path = pty.filename().strip_prefix("pty:").unwrap().to_owned();
    assert!(path.starts_with("/dev/pts/"));
    assert!(!pty.is_open());
    assert_eq!(recorder.frontend.write(b"lost"), 4);

    for text in ["x", "xy"] {
        let mut terminal = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert!(!tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO));
        terminal.write_all(&text.as_bytes()[text.len() - 1..]).unwrap();
        recorder.wait_for(text);
        assert!(pty.is_open());
        assert_eq!(recorder.frontend.write(b"hi"), 2);
        let mut buffer = [0; 2];
        terminal.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hi");
        drop(terminal);
        run_until(|| !recorder.frontend.add_watch(|| ()), || "still connected".into());
    }
}

/// A terminal: the end that a person or modem has, and the other's end and name.
fn terminal() -> (File, OwnedFd, String) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    (File::from(master), slave, name)
}

#[test]
fn a_serial_device_is_raw_and_set_as_the_guest_says() {
    let _bench = Bench::new();
    let (mut modem, slave, name) = terminal();
    let serial = new("s", &format!("backend=serial,path={name}")).unwrap();
    assert_eq!(serial.filename(), "serial");
    let recorder = Recorder::on(&serial);
    modem.write_all(b"RING\r\x03").unwrap();
    recorder.wait_for("RING\r\x03");
    recorder.frontend.write(b"ATA\n");
    let mut buffer = [0; 4];
    modem.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"ATA\n");
    assert_eq!(tcgetattr(&slave).unwrap().output_speed(), 115_200);

    let params = SerialParams { speed: 9600, parity: Parity::Odd, data_bits: 7, stop_bits: 2 };
    recorder.frontend.set_serial_params(&params).unwrap();
    let tty = tcgetattr(&slave).unwrap();
    assert_eq!(tty.output_speed(), 9600);
    assert!(tty.control_modes.contains(ControlModes::CS7 | ControlModes::PARODD | ControlModes::CSTOPB));
    recorder.frontend.send_break().unwrap();

    drop((modem, slave));
    recorder.wait_for_event(Event::Closed);
}

/// Runs [`stdio_child`] on a terminal of its own.
fn run_stdio_child(mode: &str, check: impl FnOnce(&mut File, &OwnedFd)) {
    let (mut screen, slave, _) = terminal();
    let before = tcgetattr(&slave).unwrap();
    let dup = || Stdio::from(slave.try_clone().unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stdio_child", "--ignored", "--nocapture"])
        .env("STDIO_CHILD", mode)
        .stdin(dup())
        .stdout(dup())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"ready") {
        let mut byte = [0];
        screen.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    check(&mut screen, &slave);
    screen.write_all(b"q").unwrap();
    child.wait().unwrap();
    let after = tcgetattr(&slave).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);
    let flags = rustix::fs::fcntl_getfl(&slave).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
}

#[test]
#[ignore = "run by others on a terminal"]
fn stdio_child() {
    let bench = Bench::new();
    let mode = std::env::var("STDIO_CHILD").unwrap();
    let (options, panics) = match mode.as_str() {
        "panic" => ("backend=stdio", true),
        options => (options, false),
    };
    let stdio = new("s", options).unwrap();
    let again = new("t", "backend=stdio").unwrap_err();
    assert_eq!(again.to_string(), "cannot use stdio by multiple character devices");
    let recorder = Recorder::on(&stdio);
    recorder.frontend.write_all(b"ready");
    run_until(|| recorder.text().ends_with('q'), || "nothing typed".into());
    if panics {
        // Neither the end of the test nor that of the chardev is to set the terminal back.
        std::mem::forget(bench);
        panic!("as it was asked to");
    }
}

#[test]
fn the_terminal_is_raw_while_stdio_is_used_and_set_back_at_the_end() {
    run_stdio_child("backend=stdio", |_, tty| {
        let tty = tcgetattr(tty).unwrap();
        assert!(!tty.local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON));
        assert!(!tty.input_modes.contains(InputModes::ICRNL));
        assert!(tty.local_modes.contains(LocalModes::ISIG));
    });
}

#[test]
fn ctrl_c_is_input_with_signal_off() {
    run_stdio_child("backend=stdio,signal=off", |screen, tty| {
        assert!(!tcgetattr(tty).unwrap().local_modes.contains(LocalModes::ISIG));
        screen.write_all(b"\x03").unwrap();
    });
}

#[test]
fn a_panic_sets_the_terminal_back() {
    run_stdio_child("panic", |_, _| ());
}
