//! Clients that misbehave: whatever comes over QMP, the human monitor, qtest or gdb's socket, the guest, the other
//! clients and the program go on, and the program's memory does not grow.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::daemon::wait_for_listener;
use common::{Running, guest, softmmu, wait_until};
use pack::Format;
use serde_json::{Value, json};

/// What a client sends in all, where it sends without end.
const FLOOD: usize = 100 << 20;
/// What the program's memory may grow by, in KiB: less than a third of what is sent.
const GROWTH: u64 = 32 << 10;

/// A running guest, and a client that behaves.
struct Machine {
    program: Running,
    folder: tempfile::TempDir,
    qmp: BufReader<UnixStream>,
    resident: u64,
}

impl Machine {
    fn start() -> Machine {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let socket = |name: &str| format!("unix:{},server=on,wait=off", folder.path().join(name).display());
        let mut command = softmmu(["-nodefaults", "-display", "none", "-m", "64", "-serial", "stdio"]);
        command.arg("-kernel").arg(guest("debug", Format::Pvh));
        for (option, name) in
            [("-qmp", "good"), ("-qmp", "qmp"), ("-monitor", "monitor"), ("-qtest", "qtest"), ("-gdb", "gdb")]
        {
            command.arg(option).arg(socket(name));
        }
        command.args(["-qtest-log", "/dev/null"]);
        let program = Running::start(&mut command);
        let path = folder.path().join("good");
        wait_for_listener(&folder.path().join("gdb"));
        let qmp = BufReader::new(connect(&path));
        let mut machine = Machine { program, folder, qmp, resident: 0 };
        machine.line();
        machine.call(json!({ "execute": "qmp_capabilities" }));
        machine.goes_on("the start");
        machine.resident = machine.resident();
        machine
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.qmp.read_line(&mut line).expect("the program answers in time");
        serde_json::from_str(&line).expect("an answer is JSON")
    }

    /// Calls a command and gives what it returns.
    fn call(&mut self, request: Value) -> Value {
        self.qmp.get_ref().write_all(format!("{request}\n").as_bytes()).expect("the program reads");
        loop {
            let mut answer = self.line();
            if let Some(value) = answer.get_mut("return") {
                return value.take();
            }
            assert!(answer.get("event").is_some(), "{answer}");
        }
    }

    fn registers(&mut self) -> Value {
        self.call(json!({
            "execute": "human-monitor-command",
            "arguments": { "command-line": "info registers" },
        }))
    }

    /// Asserts that the guest runs, that others are answered, and that the memory did not grow.
    fn goes_on(&mut self, after: &str) {
        assert_eq!(self.call(json!({ "execute": "query-status" }))["status"], "running", "after {after}");
        let before = self.registers();
        wait_until(&format!("the guest to go on after {after}"), || self.registers() != before);
        if self.resident > 0 {
            let grown = self.resident().saturating_sub(self.resident);
            assert!(grown < GROWTH, "{grown} KiB more after {after}");
        }
    }

    /// The program's resident memory in KiB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.program.child.id()));
        let status = status.expect("the program runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn quit(mut self) {
        self.call(json!({ "execute": "quit" }));
        assert_eq!(self.program.wait().status, Some(0));
    }
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(common::TIMEOUT)).expect("a timeout");
    stream
}

/// Sends a piece again and again while somebody reads whatever comes back; gives up when thrown out.
fn flood(socket: &Path, piece: &[u8], total: usize) {
    let stream = connect(socket);
    let mut reader = stream.try_clone().expect("a descriptor");
    reader.set_read_timeout(None).expect("no timeout");
    let reader = std::thread::spawn(move || {
        let mut answers = [0; 1 << 16];
        while let Ok(1..) = reader.read(&mut answers) {}
    });
    let block = piece.repeat((64 << 10) / piece.len());
    let mut sent = 0;
    while sent < total {
        match (&stream).write(&block) {
            Ok(length) => sent += length,
            Err(_) => break,
        }
    }
    // The program hears of the end when it has taken all.
    stream.shutdown(Shutdown::Write).expect("a connection");
    reader.join().expect("the reader ends");
}

/// Sends requests and never reads, until no more are taken.
fn deafen(socket: &Path, begin: &str, request: &str) -> UnixStream {
    let stream = connect(socket);
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let mut sent = 0;
    let mut requests = begin.as_bytes();
    let block = request.repeat(1000);
    while let Ok(length) = (&stream).write(requests) {
        sent += length;
        assert!(sent < FLOOD, "it is listened to for ever");
        requests = block.as_bytes();
    }
    stream
}

#[test]
fn floods_stop_nobody() {
    let mut machine = Machine::start();
    // Those that are answered at every byte or word are shorter.
    let floods: [(&str, &[u8], usize); 9] = [
        ("qmp", b"[", FLOOD),
        ("qmp", b"{\"a\":", FLOOD / 10),
        ("qmp", b"\"half a message", FLOOD / 500),
        ("qmp", b"\xff\x00}]", FLOOD / 500),
        ("monitor", b"info ", FLOOD / 500),
        ("monitor", b"\x1b[\xff\x00\t\n", FLOOD / 500),
        ("qtest", b"write 0x0 0x", FLOOD / 2),
        ("gdb", b"$m0,ffffffff#", FLOOD / 500),
        ("gdb", b"\x03+-$#", FLOOD / 500),
    ];
    for (name, piece, total) in floods {
        let what = format!("a flood of {:?} over {name}", String::from_utf8_lossy(piece));
        flood(&machine.socket(name), piece, total);
        // A debugger stops the guest by rights; that it hung up is seen in a moment.
        let good = &mut machine;
        wait_until(&what, || good.call(json!({ "execute": "query-status" }))["status"] == "running");
        machine.goes_on(&what);
    }
    machine.quit();
}

#[test]
fn clients_that_never_read_stop_nobody() {
    let mut machine = Machine::start();
    let deaf = [
        ("qmp", "{'execute': 'qmp_capabilities'}", "{'execute': 'query-qmp-schema'}"),
        ("monitor", "\n", "info mtree\n"),
        ("qtest", "\n", "read 0x0 0x10000\n"),
    ];
    let mut clients = Vec::new();
    for (name, begin, request) in deaf {
        clients.push(deafen(&machine.socket(name), begin, request));
        machine.goes_on(&format!("a client of {name} that never reads"));
    }
    // With all of them there.
    machine.goes_on("all");
    drop(clients);
    machine.goes_on("their end");
    machine.quit();
}
