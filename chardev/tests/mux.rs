//! The multiplexer's escape sequences, typed at a unix socket.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chardev::{Chardev, Event};
use common::{Bench, Recorder, new, run_until, settle};

struct Terminal {
    _bench: Bench,
    _dir: tempfile::TempDir,
    stream: UnixStream,
    mux: Arc<Chardev>,
}

impl Terminal {
    fn new() -> Self {
        let bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s").display().to_string();
        let mux = new("m", &format!("backend=socket,path={path},server=on,wait=off,mux=on")).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_nonblocking(true).unwrap();
        run_until(|| mux.is_open(), || "not opened".into());
        Terminal { _bench: bench, _dir: dir, stream, mux }
    }

    fn type_in(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
        settle();
    }

    /// What the screen has got since it was looked at last.
    fn screen(&mut self) -> String {
        settle();
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = self.stream.read(&mut buffer) {
            text.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8(text).unwrap()
    }
}

#[test]
fn the_focus_goes_round_and_only_it_gets_input() {
    let mut terminal = Terminal::new();
    let monitor = Recorder::on(&terminal.mux);
    let serial = Recorder::on(&terminal.mux);
    assert_eq!(*monitor.events.lock(), [Event::MuxIn, Event::Opened, Event::MuxOut]);
    assert_eq!(*serial.events.lock(), [Event::MuxIn, Event::Opened]);
    terminal.type_in("one");
    assert_eq!((serial.text(), monitor.text()), ("one".into(), String::new()));

    // In one go: what follows the switch is for the other.
    terminal.type_in("\x01cinfo\n\x01ctwo");
    serial.wait_for("onetwo");
    monitor.wait_for("info\n");
    assert_eq!(serial.events.lock()[2..], [Event::MuxOut, Event::MuxIn]);

    // Anyone may write.
    monitor.frontend.write(b"(qemu) ");
    serial.frontend.write(b"login: ");
    assert_eq!(terminal.screen(), "(qemu) login: ");
}

#[test]
fn the_escape_character_sends_itself_help_and_breaks() {
    let mut terminal = Terminal::new();
    let serial = Recorder::on(&terminal.mux);
    terminal.type_in("a\x01\x01b\x01");
    terminal.type_in("zc");
    assert_eq!(serial.text(), "a\x01bc");
    terminal.type_in("\x01b");
    serial.wait_for_event(Event::Break);
    terminal.type_in("\x01h");
    assert_eq!(
        terminal.screen(),
        "\n\r\
         C-a h    print this help\n\r\
         C-a x    exit emulator\n\r\
         C-a s    save disk data back to file (if -snapshot)\n\r\
         C-a t    toggle console timestamps\n\r\
         C-a b    send break (magic sysrq)\n\r\
         C-a c    switch between console and monitor\n\r\
         C-a C-a  sends C-a\n\r"
    );
    chardev::set_escape_char(0x02);
    terminal.type_in("\x01\x02b");
    chardev::set_escape_char(0x01);
    serial.wait_for_event(Event::Break);
    assert_eq!(serial.text(), "a\x01bc\x01");
}

#[test]
fn exit_says_so_and_ends_the_program() {
    let mut terminal = Terminal::new();
    let _serial = Recorder::on(&terminal.mux);
    let quit = Arc::new(AtomicBool::new(false));
    let flag = quit.clone();
    chardev::set_quit_handler(move || flag.store(true, Ordering::SeqCst));
    terminal.type_in("x");
    assert!(!quit.load(Ordering::SeqCst));
    terminal.type_in("\x01x");
    assert!(quit.load(Ordering::SeqCst));
    assert_eq!(terminal.screen(), "QEMU: Terminated\n\r");
}

#[test]
fn timestamps_begin_lines() {
    let mut terminal = Terminal::new();
    let serial = Recorder::on(&terminal.mux);
    terminal.type_in("\x01t");
    assert_eq!(serial.frontend.write(b"rest of line\none\ntw"), 19);
    serial.frontend.write(b"o\n");
    let screen = terminal.screen();
    let lines: Vec<_> = screen.lines().collect();
    assert_eq!(lines[0], "rest of line");
    let stamped = |line: &str, text: &str| {
        let (stamp, rest) = line.split_at(15);
        let digits = stamp.replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!((digits.as_str(), rest), ("[00:00:00.000] ", text));
    };
    stamped(lines[1], "one");
    stamped(lines[2], "two");
    terminal.type_in("\x01t");
    serial.frontend.write(b"plain\n");
    assert_eq!(terminal.screen(), "plain\n");
}

#[test]
fn input_that_a_frontend_has_no_room_for_waits_for_it() {
    let mut terminal = Terminal::new();
    let serial = Recorder::on(&terminal.mux);
    serial.room.store(1, Ordering::SeqCst);
    let typed: String = ('a'..='z').cycle().take(100).collect();
    terminal.type_in(&typed);
    assert_eq!(serial.text(), "a");
    serial.room.store(50, Ordering::SeqCst);
    serial.frontend.accept_input();
    serial.wait_for(&typed[..51]);
    serial.room.store(1000, Ordering::SeqCst);
    serial.frontend.accept_input();
    serial.wait_for(&typed);
}

#[test]
fn opening_can_be_put_off_until_the_machine_is_complete() {
    let mut terminal = Terminal::new();
    let path = terminal.mux.filename();
    assert_eq!(path, "mux");
    chardev::suspend_mux_open();
    let base = new("n", "backend=null,mux=on").unwrap();
    let early = Recorder::on(&base);
    assert_eq!(*early.events.lock(), [Event::MuxIn]);
    chardev::resume_mux_open();
    assert_eq!(*early.events.lock(), [Event::MuxIn, Event::Opened]);
    terminal.screen();
}

#[test]
fn a_multiplexer_has_four_frontends() {
    let terminal = Terminal::new();
    let _four: Vec<_> = (0..4).map(|_| Recorder::on(&terminal.mux)).collect();
    let fifth = chardev::CharFrontend::default();
    assert_eq!(fifth.attach(&terminal.mux).unwrap_err().to_string(), "Device 'm' is in use");
}
