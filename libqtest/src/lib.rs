//! A client of the qtest protocol: starts a virtual machine monitor that speaks it, this one or QEMU, and reaches
//! its devices without a guest.
//!
//! ```no_run
//! use libqtest::QTest;
//!
//! let mut vm = QTest::start("target/debug/softmmu", ["-machine", "pc"]);
//! vm.irq_intercept_in("ioapic");
//! vm.outb(0x70, 0x0d);
//! assert_eq!(vm.inb(0x71), 0x80);
//! assert!(!vm.get_irq(8));
//! vm.clock_step(1_000_000);
//! assert!(vm.quit().success());
//! ```
//!
//! As this is for tests, whatever goes wrong is a panic at the line of the test that asked: an answer that is
//! no `OK`, a program that died, an answer that did not come for a minute. [`QTest::request`] gives an answer
//! as it is.
//!
//! Source followed: QEMU `tests/qtest/libqtest.c`.
#![forbid(unsafe_code)]

pub mod chips;
pub mod ide;
pub mod pci;
mod qmp;
pub mod virtio;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use qmp::Qmp;

/// An answer that takes longer does not come.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Lines that a client knows the level of.
const MAX_IRQ: usize = 256;

/// How a program is started.
#[derive(Clone, Debug)]
pub struct QTestBuilder {
    program: OsString,
    arguments: Vec<OsString>,
    accelerator: Option<String>,
    qmp: bool,
    log: OsString,
}

impl QTestBuilder {
    /// More arguments of the program.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Another accelerator than `qtest`; none with `None`, for arguments that name one.
    #[must_use]
    pub fn accelerator(mut self, name: Option<&str>) -> Self {
        self.accelerator = name.map(str::to_owned);
        self
    }

    /// Also connects a QMP monitor, for [`QTest::qmp`].
    #[must_use]
    pub fn with_qmp(mut self) -> Self {
        self.qmp = true;
        self
    }

    /// Where the program writes what goes to and fro; nowhere where nothing is said.
    #[must_use]
    pub fn log(mut self, file: impl AsRef<OsStr>) -> Self {
        self.log = file.as_ref().to_owned();
        self
    }

    /// Starts the program and waits until it has connected.
    ///
    /// # Panics
    /// When it cannot be started, or ends.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> QTest {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let [qtest, qmp] = ["qtest.sock", "qmp.sock"].map(|name| folder.path().join(name));
        let listen = |path| UnixListener::bind(path).expect("a socket in a temporary directory");
        let qtest_listener = listen(&qtest);
        let qmp_listener = self.qmp.then(|| listen(&qmp));
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        command.arg("-qtest").arg(format!("unix:{}", qtest.display())).arg("-qtest-log").arg(&self.log);
        if self.qmp {
            command.arg("-chardev").arg(format!("socket,path={},id=char0", qmp.display()));
            command.args(["-mon", "chardev=char0,mode=control"]);
        }
        command.args(["-display", "none"]).args(&self.arguments);
        if let Some(name) = &self.accelerator {
            command.args(["-accel", name]);
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{} cannot be started: {error}", self.program.display()),
        };
        let mut child = Guard(child);
        // In the order in which the program connects, or not: both listen already.
        let qtest = accept(&qtest_listener, &mut child.0);
        let qmp = qmp_listener.map(|listener| Qmp::new(accept(&listener, &mut child.0)));
        QTest { child, qtest: BufReader::new(qtest), levels: [false; MAX_IRQ], qmp, _folder: folder }
    }
}

#[track_caller]
fn accept(listener: &UnixListener, child: &mut Child) -> UnixStream {
    listener.set_nonblocking(true).expect("a socket can be asked without waiting");
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a socket can be waited for");
                stream.set_read_timeout(Some(TIMEOUT)).expect("a time that is not 0");
                return stream;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("no connection: {error}"),
        }
        if let Ok(Some(status)) = child.try_wait() {
            panic!("the program ended before it connected: {status}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Ends the program when a test fails.
#[derive(Debug)]
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that runs, and the connection to it.
#[derive(Debug)]
pub struct QTest {
    child: Guard,
    qtest: BufReader<UnixStream>,
    levels: [bool; MAX_IRQ],
    qmp: Option<Qmp>,
    _folder: tempfile::TempDir,
}

impl QTest {
    /// Says how `program` is started.
    #[must_use]
    pub fn builder(program: impl AsRef<OsStr>) -> QTestBuilder {
        QTestBuilder {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            accelerator: Some("qtest".to_owned()),
            qmp: false,
            log: "/dev/null".into(),
        }
    }

    /// Starts `program` with more arguments, under the accelerator `qtest`.
    ///
    /// # Panics
    /// As [`QTestBuilder::start`].
    #[must_use]
    #[track_caller]
    pub fn start(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        QTest::builder(program).args(arguments).start()
    }

    /// Sends bytes as they are, with no line's end, and waits for nothing.
    ///
    /// # Panics
    /// When the program is gone.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.qtest.get_mut().write_all(bytes) {
            panic!("the program takes no request: {error}");
        }
    }

    /// The next line, without its end, whatever it is; the levels it tells of are not noted.
    ///
    /// # Panics
    /// When the program is gone, or sends nothing.
    #[track_caller]
    pub fn receive(&mut self) -> String {
        let mut line = String::new();
        match self.qtest.read_line(&mut line) {
            Ok(0) => panic!("the program closed the connection"),
            Ok(_) => line.trim_end_matches('\n').to_owned(),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The answer to `line`, whatever it is. Lines about interrupts before it are noted.
    ///
    /// # Panics
    /// When the program is gone, or does not answer.
    #[track_caller]
    pub fn request(&mut self, line: &str) -> String {
        self.send(format!("{line}\n").as_bytes());
        loop {
            let answer = self.receive();
            let (level, number) = match answer.split_once("IRQ ").map(|(_, rest)| rest.split_once(' ')) {
                Some(Some(("raise", number))) => (true, number),
                Some(Some(("lower", number))) => (false, number),
                _ => return answer,
            };
            let number = number.parse::<usize>().ok();
            match number.and_then(|number| self.levels.get_mut(number)) {
                Some(known) => *known = level,
                None => panic!("not an interrupt: {answer}"),
            }
        }
    }

    /// All lines of the answer to `line`, those about interrupts before it first; they are not noted.
    /// [`chips::RESET`] has none.
    ///
    /// # Panics
    /// As [`QTest::request`].
    #[track_caller]
    pub fn answers(&mut self, line: &str) -> Vec<String> {
        if line == chips::RESET {
            self.system_reset();
            return Vec::new();
        }
        self.send(format!("{line}\n").as_bytes());
        let mut lines = vec![self.receive()];
        while lines.last().is_some_and(|line| line.starts_with("IRQ ")) {
            lines.push(self.receive());
        }
        lines
    }

    /// Has the machine reset, and waits until it is.
    ///
    /// # Panics
    /// As [`QTest::qmp`].
    #[track_caller]
    pub fn system_reset(&mut self) {
        self.take_events();
        self.qmp(r#"{"execute": "system_reset"}"#);
        while !self.take_events().iter().any(|event| event["event"] == "RESET") {
            self.qmp(r#"{"execute": "query-status"}"#);
        }
    }

    /// What follows `OK` in the answer to `line`.
    #[track_caller]
    fn ok(&mut self, line: &str) -> String {
        let answer = self.request(line);
        match answer.strip_prefix("OK") {
            Some(rest) => rest.trim_start().to_owned(),
            None => panic!("{line:.80}: {answer}"),
        }
    }

    #[track_caller]
    fn hex(&mut self, line: &str) -> u64 {
        let answer = self.ok(line);
        let digits = answer.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        digits.unwrap_or_else(|| panic!("{line}: not a number: {answer}"))
    }

    #[track_caller]
    fn time(&mut self, line: &str) -> u64 {
        let answer = self.ok(line);
        answer.parse().unwrap_or_else(|_| panic!("{line}: not a time: {answer}"))
    }

    /// A block of guest memory, in hexadecimal digits on the way.
    ///
    /// # Panics
    /// As [`QTest::request`], and when the answer is no `OK`.
    #[track_caller]
    pub fn memread(&mut self, address: u64, len: usize) -> Vec<u8> {
        let answer = self.ok(&format!("read {address:#x} {len:#x}"));
        let digits = answer.strip_prefix("0x").unwrap_or(&answer).as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let data: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        data.filter(|data| data.len() == len).expect("as many bytes as were asked for")
    }

    /// Writes a block of guest memory, in hexadecimal digits on the way.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn memwrite(&mut self, address: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let mut line = format!("write {address:#x} {:#x} 0x", data.len());
        for byte in data {
            // Writing to a string cannot fail.
            let _ = write!(line, "{byte:02x}");
        }
        self.ok(&line);
    }

    /// A block of guest memory, in base64 on the way.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn bufread(&mut self, address: u64, len: usize) -> Vec<u8> {
        let answer = self.ok(&format!("b64read {address:#x} {len:#x}"));
        let data = STANDARD.decode(answer).ok().filter(|data| data.len() == len);
        data.expect("as many bytes as were asked for")
    }

    /// Writes a block of guest memory, in base64 on the way.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn bufwrite(&mut self, address: u64, data: &[u8]) {
        self.ok(&format!("b64write {address:#x} {:#x} {}", data.len(), STANDARD.encode(data)));
    }

    /// Has every byte of a block of guest memory be `byte`.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn memset(&mut self, address: u64, byte: u8, len: u64) {
        self.ok(&format!("memset {address:#x} {len:#x} {byte:#04x}"));
    }

    /// Moves virtual time by `ns` nanoseconds; gives the time then.
    ///
    /// # Panics
    /// As [`QTest::memread`]; also under another accelerator than `qtest`.
    #[track_caller]
    pub fn clock_step(&mut self, ns: u64) -> u64 {
        self.time(&format!("clock_step {ns}"))
    }

    /// Moves virtual time to the next deadline; gives the time then.
    ///
    /// # Panics
    /// As [`QTest::clock_step`].
    #[track_caller]
    pub fn clock_step_next(&mut self) -> u64 {
        self.time("clock_step")
    }

    /// Moves virtual time to `ns` nanoseconds; gives the time then.
    ///
    /// # Panics
    /// As [`QTest::clock_step`].
    #[track_caller]
    pub fn clock_set(&mut self, ns: u64) -> u64 {
        self.time(&format!("clock_set {ns}"))
    }

    /// Has the program tell of changes of the inputs of the device at `path`.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn irq_intercept_in(&mut self, path: &str) {
        self.ok(&format!("irq_intercept_in {path}"));
    }

    /// Has the program tell of changes of the outputs of the device at `path`.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn irq_intercept_out(&mut self, path: &str) {
        self.ok(&format!("irq_intercept_out {path}"));
    }

    /// The level of intercepted line `number`.
    ///
    /// # Panics
    /// As [`QTest::request`], and for a number above 255.
    #[track_caller]
    pub fn get_irq(&mut self, number: usize) -> bool {
        // Lines about interrupts come with an answer.
        self.inb(0);
        self.levels[number]
    }

    /// Sets an input of the device at `path`; the unnamed ones are called `unnamed-gpio-in`.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn set_irq_in(&mut self, path: &str, name: &str, number: u32, level: bool) {
        self.ok(&format!("set_irq_in {path} {name} {number} {}", u8::from(level)));
    }

    /// The answer to a QMP command: what is behind `return`. Events that come first are kept for
    /// [`QTest::take_events`].
    ///
    /// # Panics
    /// Without [`QTestBuilder::with_qmp`]; when the program is gone or does not answer; on an error.
    #[track_caller]
    pub fn qmp(&mut self, command: &str) -> Value {
        let mut answer = self.qmp_raw(command);
        match answer.get_mut("return") {
            Some(value) => value.take(),
            None => panic!("{command}: {answer}"),
        }
    }

    /// The whole answer to a QMP command, an error perhaps.
    ///
    /// # Panics
    /// Without [`QTestBuilder::with_qmp`]; when the program is gone or does not answer.
    #[track_caller]
    pub fn qmp_raw(&mut self, command: &str) -> Value {
        self.qmp.as_mut().expect("started with_qmp").request(command)
    }

    /// The events that came before the last answers.
    pub fn take_events(&mut self) -> Vec<Value> {
        self.qmp.as_mut().map(Qmp::take_events).unwrap_or_default()
    }

    /// Ends the program with SIGTERM; gives its exit status.
    ///
    /// # Panics
    /// When it cannot be waited for.
    #[track_caller]
    pub fn quit(mut self) -> ExitStatus {
        // It may have ended.
        let _ = kill_process(Pid::from_child(&self.child.0), Signal::TERM);
        self.wait()
    }

    /// Kills the program, which cannot do anything about it.
    ///
    /// # Panics
    /// When it cannot be waited for.
    #[track_caller]
    pub fn kill(mut self) -> ExitStatus {
        // It may have ended.
        let _ = self.child.0.kill();
        self.wait()
    }

    /// Waits for the program's end; gives its exit status.
    ///
    /// # Panics
    /// When it cannot be waited for.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.child.0.wait().expect("a child can be waited for")
    }
}

macro_rules! accesses {
    ($($read:ident $write:ident $space:literal $address:ty, $value:ty;)*) => {
        impl QTest {
            $(
                #[doc = concat!("Reads ", $space, ".")]
                ///
                /// # Panics
                /// As [`QTest::memread`].
                #[track_caller]
                pub fn $read(&mut self, address: $address) -> $value {
                    let value = self.hex(&format!(concat!(stringify!($read), " {:#x}"), address));
                    <$value>::try_from(value).expect("as wide as was asked for")
                }

                #[doc = concat!("Writes ", $space, ".")]
                ///
                /// # Panics
                /// As [`QTest::memread`].
                #[track_caller]
                pub fn $write(&mut self, address: $address, value: $value) {
                    self.ok(&format!(concat!(stringify!($write), " {:#x} {:#x}"), address, value));
                }
            )*
        }
    };
}

accesses! {
    inb outb "a byte of a port" u16, u8;
    inw outw "a word of a port" u16, u16;
    inl outl "a long word of a port" u16, u32;
    readb writeb "a byte of guest memory" u64, u8;
    readw writew "two bytes of guest memory" u64, u16;
    readl writel "four bytes of guest memory" u64, u32;
    readq writeq "eight bytes of guest memory" u64, u64;
}
