//! Sessions typed at a monitor, over a unix socket: alone, and on a multiplexer with another frontend.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use chardev::{CharFrontend, CharHandlers, Chardev};
use parking_lot::{Mutex, MutexGuard};
use util::event_loop::EventLoop;

const GREETING: &str = "QEMU 7.2.0 monitor - type 'help' for more information\r\n";
const PROMPT: &str = "(qemu) ";
/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The main loop and the chardevs are the process's: one test at a time.
struct Terminal {
    chardev: Arc<Chardev>,
    stream: UnixStream,
    _dir: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        chardev::remove_all();
    }
}

impl Terminal {
    fn new(mux: bool) -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s").display().to_string();
        let mux = if mux { "on" } else { "off" };
        let options =
            [("backend", "socket"), ("path", &path), ("server", "on"), ("wait", "off"), ("mux", mux)];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let chardev = chardev::new_from_opts("mon", &options).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_nonblocking(true).unwrap();
        let terminal = Terminal { chardev, stream, _dir: dir, _one: one };
        let start = Instant::now();
        while !terminal.chardev.is_open() {
            assert!(start.elapsed() < PATIENCE, "the socket was not opened");
            EventLoop::main().run_once(Some(Duration::from_millis(10))).unwrap();
        }
        terminal
    }

    fn type_in(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    /// Runs the main loop until the screen ends with `end`; gives all that came.
    fn screen_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            EventLoop::main().run_once(Some(Duration::from_millis(5))).unwrap();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = self.stream.read(&mut buffer) {
                text.extend_from_slice(&buffer[..read]);
            }
            if text.ends_with(end.as_bytes()) {
                return String::from_utf8(text).unwrap();
            }
        }
        panic!("{:?} does not end with {end:?}", String::from_utf8_lossy(&text));
    }

    /// Types a line and gives what the monitor printed between its echo and the next prompt.
    fn command(&mut self, line: &str) -> String {
        self.type_in(format!("{line}\r"));
        let screen = self.screen_until(&format!("\r\n{PROMPT}"));
        let (_, output) = screen.split_once("\r\n").unwrap();
        output.strip_suffix(PROMPT).unwrap().to_owned()
    }
}

/// The guest's serial port, as far as the multiplexer is concerned.
#[derive(Default)]
struct Serial {
    frontend: CharFrontend,
    data: Mutex<Vec<u8>>,
}

impl CharHandlers for Serial {
    fn can_read(&self) -> usize {
        1
    }
    fn read(&self, data: &[u8]) {
        self.data.lock().extend_from_slice(data);
    }
}

fn serial_on(chardev: &Arc<Chardev>) -> Arc<Serial> {
    let serial = Arc::new(Serial::default());
    serial.frontend.attach(chardev).unwrap();
    let handlers: Arc<dyn CharHandlers> = serial.clone();
    let handlers: Weak<dyn CharHandlers> = Arc::downgrade(&handlers);
    serial.frontend.set_handlers(handlers);
    serial
}

#[test]
fn a_plain_chardev_gets_greeting_echo_and_answers() {
    let mut terminal = Terminal::new(false);
    monitor::monitor_init_hmp(&terminal.chardev).unwrap();
    assert_eq!(terminal.screen_until(PROMPT), format!("{GREETING}{PROMPT}"));

    terminal.type_in("in");
    assert_eq!(terminal.screen_until("in\x1b[K"), "i\x1b[K\x1b[Din\x1b[K");
    // Ctrl-W, Ctrl-C, Ctrl-D: nothing of it is left, nothing ends.
    terminal.type_in("\x17\x03\x04");
    assert_eq!(terminal.screen_until("\x1b[K"), "\x1b[D\x1b[D\x1b[K");
    assert_eq!(terminal.command("info status"), "VM status: paused (prelaunch)\r\n");
    assert_eq!(terminal.command("infp\x7fo  version"), "7.2.0\r\n");
    assert_eq!(terminal.command("nosuch thing"), "unknown command: 'nosuch'\r\n");
    assert_eq!(terminal.command(""), "");
    assert!(terminal.command("info chardev").starts_with("mon: filename="));
    assert!(terminal.command("info mtree -f").contains(" AS \"memory\", root: system\r\n"));
    assert_eq!(terminal.command("info kvm"), "kvm support: disabled\r\n");
    assert_eq!(terminal.command("info registers"), "No CPU available\r\n");
    assert_eq!(terminal.command("x 0"), "Can not dump without CPU\r\n");
    assert_eq!(terminal.command("xp 0x7000"), "0000000000007000: Cannot access memory\r\n");
    assert_eq!(terminal.command("stop"), "");
    assert_eq!(terminal.command("device_add"), "Error: Parameter 'driver' is missing\r\n");
    assert_eq!(
        terminal.command("device_add nosuch,id=x"),
        "Error: 'nosuch' is not a valid device model name\r\n"
    );
    assert_eq!(terminal.command("qom-list /nosuch"), "Error: Device '/nosuch' not found\r\n");
    assert_eq!(terminal.command("info qom-tree /nosuch"), "Path '/nosuch' could not be resolved.\r\n");
    assert_eq!(terminal.command("trace-event nosuch on"), "unknown event \"nosuch\"\r\n");
    assert_eq!(terminal.command("trace-event startup on"), "");
    assert!(util::trace::list().contains(&("startup", true)));
    assert_eq!(terminal.command("trace-event startup off"), "");
    assert!(util::trace::list().contains(&("startup", false)));
    assert_eq!(
        terminal.command("logfile /nosuch/x"),
        "Error opening logfile /nosuch/x: No such file or directory\r\n"
    );
}

#[test]
fn lines_are_edited_and_recalled() {
    let mut terminal = Terminal::new(false);
    monitor::monitor_init_hmp(&terminal.chardev).unwrap();
    terminal.screen_until(PROMPT);
    terminal.command("one");
    terminal.command("two");
    terminal.command("one");
    assert_eq!(terminal.command("\x1b[A"), "unknown command: 'one'\r\n");
    // "one" typed again moved to the end, so "two" is the one before it.
    assert_eq!(terminal.command("\x1b[A\x1b[A"), "unknown command: 'two'\r\n");
    assert_eq!(terminal.command("\x1b[A\x1b[A\x1b[B"), "unknown command: 'two'\r\n");
    assert_eq!(terminal.command("\x1b[A\x1b[B"), "", "below the latest is an empty line");
    // Home, Right, Ctrl-D, End, Left, Backspace: abcd without its second and third letters.
    assert_eq!(terminal.command("abcd\x01\x1b[C\x04\x05\x1b[D\x7f"), "unknown command: 'ad'\r\n");
    assert_eq!(terminal.command("one two\x17x"), "unknown command: 'one'\r\n");
    let history = terminal.command("info history");
    let lines: Vec<_> = history.lines().filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(lines.first(), Some(&("0", "'one'")), "{history}");
    assert!(
        lines.iter().map(|line| line.1).eq(["'one'", "'two'", "'ad'", "'one x'", "'info history'"]),
        "{history}"
    );
}

#[test]
fn a_tab_completes_commands_subcommands_and_files() {
    let mut terminal = Terminal::new(false);
    monitor::monitor_init_hmp(&terminal.chardev).unwrap();
    terminal.screen_until(PROMPT);
    assert_eq!(terminal.command("info versi\t"), "7.2.0\r\n");
    terminal.type_in("info statu\t");
    terminal.screen_until("info status \x1b[K");
    assert_eq!(terminal.command(""), "VM status: paused (prelaunch)\r\n");
    terminal.type_in("qom\t");
    let screen = terminal.screen_until("(qemu) qom-\x1b[K");
    assert!(screen.ends_with("\r\nqom-get   qom-list  qom-set   \r\n(qemu) qom-\x1b[K"), "{screen:?}");
    assert_eq!(terminal.command("list"), "/\r\n");
    let folder = terminal._dir.path().display().to_string();
    std::fs::write(terminal._dir.path().join("file.log"), "").unwrap();
    assert_eq!(terminal.command(&format!("logfile {folder}/fi\t")), "");
    util::log::set_filename(None).unwrap();
}

#[test]
fn every_connection_is_greeted_and_has_its_history() {
    let mut terminal = Terminal::new(false);
    monitor::monitor_init_hmp(&terminal.chardev).unwrap();
    terminal.screen_until(PROMPT);
    terminal.command("nosuch");
    let path = terminal._dir.path().join("s");
    terminal.stream = UnixStream::pair().unwrap().0;
    while terminal.chardev.is_open() {
        EventLoop::main().run_once(Some(Duration::from_millis(10))).unwrap();
    }
    terminal.stream = UnixStream::connect(path).unwrap();
    terminal.stream.set_nonblocking(true).unwrap();
    assert_eq!(terminal.screen_until(PROMPT), format!("{GREETING}{PROMPT}"));
    assert_eq!(terminal.command("\x1b[A"), "unknown command: 'nosuch'\r\n");
}

#[test]
fn the_multiplexer_switches_between_guest_and_monitor() {
    let mut terminal = Terminal::new(true);
    monitor::monitor_init_hmp(&terminal.chardev).unwrap();
    let first = terminal.screen_until(PROMPT);
    assert_eq!(first, format!("{GREETING}{PROMPT}"));
    // The port comes later and takes the focus.
    let serial = serial_on(&terminal.chardev);
    terminal.type_in("ls\x01c");
    terminal.screen_until(PROMPT);
    assert_eq!(*serial.data.lock(), b"ls");
    assert_eq!(terminal.command("info status"), "VM status: paused (prelaunch)\r\n");
    terminal.type_in("half\x01cpwd\x01c");
    assert!(terminal.screen_until(PROMPT).ends_with("half\x1b[K\r\n(qemu) "));
    assert_eq!(*serial.data.lock(), b"lspwd");
    // What was typed before the switch is forgotten.
    assert_eq!(terminal.command("nosuch"), "unknown command: 'nosuch'\r\n");
}

#[test]
fn without_focus_the_greeting_waits() {
    let mut terminal = Terminal::new(true);
    // As for `-nographic`: the multiplexer tells its frontends when the machine is complete.
    let _serial = serial_on(&terminal.chardev);
    monitor::monitor_init_hmp(&terminal.chardev).unwrap();
    terminal.screen_until(PROMPT);
    terminal.type_in("\x01c");
    terminal.screen_until("\r\n");
    terminal.type_in("\x01c");
    assert_eq!(terminal.screen_until(PROMPT), PROMPT);
}

#[test]
fn a_slow_terminal_gets_everything_in_the_end() {
    let mut terminal = Terminal::new(false);
    monitor::monitor_init_hmp(&terminal.chardev).unwrap();
    terminal.screen_until(PROMPT);
    let mut typed = String::new();
    for _ in 0..1000 {
        typed.push_str("help info\r");
    }
    terminal.type_in(&typed);
    terminal.type_in("trace-event startup on\rlast\r");
    // Nobody reads: the monitor stops taking input instead of keeping more and more.
    let is_on = || util::trace::list().contains(&("startup", true));
    for _ in 0..20_000 {
        EventLoop::main().run_once(Some(Duration::ZERO)).unwrap();
    }
    assert!(!is_on());
    let screen = terminal.screen_until("unknown command: 'last'\r\n(qemu) ");
    assert_eq!(screen.matches("info version  -- ").count(), 1000);
    assert!(is_on());
    assert_eq!(terminal.command("trace-event startup off"), "");
}

#[test]
fn quit_asks_for_the_end_and_takes_no_more() {
    let mut terminal = Terminal::new(false);
    monitor::monitor_init_hmp(&terminal.chardev).unwrap();
    terminal.screen_until(PROMPT);
    terminal.type_in("q\rsystem_reset\r");
    assert!(terminal.screen_until("\r\n").ends_with("q\x1b[K\r\n"));
    let requests = hw_core::runstate::take_requests();
    assert_eq!(requests.shutdown, Some(hw_core::runstate::ShutdownCause::HostQmpQuit));
    assert_eq!(requests.reset, None);
}
