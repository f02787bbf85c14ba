//! Clients of QMP monitors over unix sockets. The test's thread runs the main loop, clients have their own.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use util::event_loop::EventLoop;

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Monitors on unix sockets. The main loop and the monitors are the process's: one test at a time.
pub struct Server {
    dir: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Server {
    pub fn new() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock();
        // Commands are taken as by a machine that is complete.
        hw_core::machine::qdev_machine_creation_done().unwrap();
        Server { dir: tempfile::tempdir().unwrap(), _one: one }
    }

    /// Puts a monitor on a socket of that name.
    pub fn add(&self, name: &str, pretty: bool) -> PathBuf {
        let path = self.dir.path().join(name);
        let text = path.display().to_string();
        let options = [("backend", "socket"), ("path", &text), ("server", "on"), ("wait", "off")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let chardev = chardev::new_from_opts(name, &options).unwrap();
        monitor::monitor_init_qmp(&chardev, pretty).unwrap();
        path
    }

    /// Runs the main loop while `client` does its part on a thread of its own; gives what that gives.
    pub fn serve<T: Send + 'static>(&self, client: impl FnOnce() -> T + Send + 'static) -> T {
        let client = std::thread::spawn(client);
        // Nothing wakes the loop at the thread's end.
        while !client.is_finished() {
            EventLoop::main().run_once(Some(Duration::from_millis(10))).unwrap();
        }
        client.join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        monitor::qmp::finish();
        chardev::remove_all();
    }
}

/// A client.
pub struct Client {
    pub stream: UnixStream,
    reader: BufReader<UnixStream>,
    pub events: Vec<Value>,
}

impl Client {
    /// Connects; the greeting is still to be read.
    pub fn connect(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Client { stream, reader, events: Vec::new() }
    }

    /// Connects and negotiates, with `oob` or not.
    pub fn negotiated(path: &std::path::Path, oob: bool) -> Self {
        let mut client = Self::connect(path);
        assert!(client.receive().get("QMP").is_some());
        let enable = if oob { json!(["oob"]) } else { json!([]) };
        let answer = client.call(json!({ "execute": "qmp_capabilities", "arguments": { "enable": enable } }));
        assert_eq!(answer, json!({ "return": {} }));
        client
    }

    pub fn send(&mut self, data: impl AsRef<[u8]>) {
        self.stream.write_all(data.as_ref()).unwrap();
    }

    /// Sends text and a descriptor with it.
    pub fn send_fd(&mut self, text: &str, fd: impl AsFd) {
        let fds = [fd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        let text = [IoSlice::new(text.as_bytes())];
        sendmsg(&self.stream, &text, &mut ancillary, SendFlags::empty()).unwrap();
    }

    /// The next line, which ends as QEMU's do; empty at the end of the connection.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line
    }

    /// The next message.
    pub fn receive(&mut self) -> Value {
        let line = self.line();
        assert!(line.ends_with("\r\n"), "{line:?}");
        serde_json::from_str(&line).unwrap()
    }

    /// The next answer; events before it are kept.
    pub fn answer(&mut self) -> Value {
        loop {
            let message = self.receive();
            if message.get("event").is_none() {
                return message;
            }
            self.events.push(message);
        }
    }

    pub fn call(&mut self, request: Value) -> Value {
        self.send(request.to_string());
        self.answer()
    }

    /// Sends text and gives class and text of the error that it is answered with.
    pub fn refused(&mut self, text: impl AsRef<[u8]>) -> (String, String) {
        self.send(text);
        let answer = self.answer();
        let member = |name: &str| answer["error"][name].as_str().unwrap_or_default().to_owned();
        (member("class"), member("desc"))
    }
}
