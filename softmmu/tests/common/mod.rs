//! Runs the program as a user does: helpers of the tests beside this directory.
//!
//! The tests need `/dev/kvm`: without it they fail.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod daemon;

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pack::Format;

/// Nothing that a test waits for takes this long, unless it hangs.
pub const TIMEOUT: Duration = Duration::from_secs(180);

/// Warnings that are the host's matter: about a CPU feature that it lacks, and more vCPUs than its CPUs.
const HOST_LACKS: [&str; 3] = [
    "softmmu: warning: host doesn't support requested feature: ",
    "softmmu: warning: Number of SMP cpus requested ",
    "softmmu: warning: Number of hotpluggable cpus requested ",
];

/// The bare-metal guests, of which this process builds and packs its own copies.
static GUESTS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../guests");
    // cargo's own lock lets one process build while others wait.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--manifest-path", "guests/Cargo.toml"])
        .args(["--config", "guests/.cargo/config.toml", "--target-dir"])
        .arg(&target)
        .current_dir(&root)
        // What cargo set for this workspace is not for that one.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "the guests must build: {}", String::from_utf8_lossy(&built.stderr));
    let release = target.join("x86_64-unknown-linux-gnu/release");
    let names: std::collections::BTreeSet<_> = pack::cases::CASES.iter().map(|case| case.guest).collect();
    let files: Vec<PathBuf> = names.into_iter().map(|name| release.join(name)).collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    pack::pack_files(&files, directory.path()).expect("the guests can be packed");
    directory
});

/// The file of a guest.
pub fn guest(name: &str, format: Format) -> PathBuf {
    GUESTS.path().join(name).with_extension(format.extension())
}

/// The program with arguments.
pub fn softmmu(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softmmu"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a program left behind when it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; none when a signal ended it.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The lines on stderr, without warnings that are the host's matter.
    pub fn complaints(&self) -> Vec<&str> {
        let of_host = |line: &&str| HOST_LACKS.iter().any(|warning| line.starts_with(warning));
        self.stderr.lines().filter(|line| !of_host(line)).collect()
    }
}

/// Collects what comes out of a pipe.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn collect(&self, mut from: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let to = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                to.0.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        })
    }
}

/// A program that runs; it is killed when the test drops it.
pub struct Running {
    pub child: Child,
    stdout: Collected,
    stderr: Collected,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Running {
    /// Starts a program.
    pub fn start(command: &mut Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (stdout, stderr) = (Collected::default(), Collected::default());
        let readers = vec![
            stdout.collect(child.stdout.take().expect("a pipe")),
            stderr.collect(child.stderr.take().expect("a pipe")),
        ];
        Running { child, stdout, stderr, readers }
    }

    /// What came on stdout up to now.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What came on stderr up to now.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for a text on stdout.
    pub fn wait_for_stdout(&self, text: &str) {
        wait_until(&format!("{text:?} on stdout"), || self.stdout().contains(text));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("the program runs");
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ended {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if start.elapsed() > TIMEOUT {
                panic!("the program hangs; stdout:\n{}stderr:\n{}", self.stdout(), self.stderr());
            }
            thread::sleep(Duration::from_millis(5));
        };
        self.readers.drain(..).for_each(|reader| reader.join().expect("the reader ends"));
        Ended { status: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ended {
    Running::start(command).wait()
}

/// Waits for something to become true; fails when it does not.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "waited for {what} in vain");
        thread::sleep(Duration::from_millis(5));
    }
}
