//! Debian's gdb and a bare-metal guest on the local KVM.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use common::daemon::wait_for_listener;
use common::{Running, guest, softmmu, wait_until};
use pack::Format;
use pack::cases::BASE;
use rustix::process::Signal;
use tempfile::TempDir;

/// What gdb prints at the end of a command.
const DONE: &str = "@done";

/// A guest to debug, and a folder for its sockets.
struct Machine {
    program: Running,
    folder: TempDir,
}

impl Machine {
    /// Starts the guest, stopped before its first instruction.
    fn start(arguments: &[&str]) -> Machine {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let socket = folder.path().join("gdb");
        let server = format!("unix:{},server=on,wait=off", socket.display());
        let kernel = guest("debug", Format::Linked);
        let mut command = softmmu(BASE);
        command.arg("-kernel").arg(kernel).args(["-S", "-gdb", &server]).args(arguments);
        let program = Running::start(&mut command);
        wait_for_listener(&socket);
        Machine { program, folder }
    }

    /// A debugger that let the guest come to its loop.
    fn gdb_in_loop(&self) -> Gdb {
        let mut gdb = self.gdb();
        gdb.run("hbreak add_to_counter\ncontinue\ndelete");
        gdb
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("gdb")
    }

    /// A debugger that is connected.
    fn gdb(&self) -> Gdb {
        Gdb::start(&format!("target remote {}", self.socket().display()))
    }

    /// The guest ends by itself, and all that it counted is there.
    fn passes(self) {
        let ended = self.program.wait();
        assert!(ended.stdout.contains("ok counter\n"), "{}", ended.stdout);
        assert_eq!((ended.status, ended.complaints()), (Some(1), vec![]));
    }
}

struct Gdb {
    program: Running,
    stdin: ChildStdin,
    /// How much of its output has been looked at.
    seen: usize,
}

impl Gdb {
    fn start(connect: &str) -> Gdb {
        let mut command = Command::new("gdb");
        command.args(["-nx", "-q"]).arg(guest("debug", Format::Linked)).stdin(Stdio::piped());
        let mut program = Running::start(&mut command);
        let stdin = program.child.stdin.take().expect("a pipe");
        let mut gdb = Gdb { program, stdin, seen: 0 };
        gdb.run("set pagination off\nset remotetimeout 30\nset confirm off\nset language c");
        gdb.run(connect);
        gdb
    }

    /// Has gdb read a command that does not end soon.
    fn begin(&mut self, command: &str) {
        writeln!(self.stdin, "{command}\necho {DONE}\\n").expect("gdb reads");
    }

    /// What it has printed since, up to the end of the command.
    fn end(&mut self) -> String {
        let (program, seen) = (&self.program, self.seen);
        let fresh = || program.stdout().get(seen..).unwrap_or_default().to_owned();
        wait_until("the end of gdb's command", || fresh().contains(DONE));
        let fresh = fresh();
        let len = fresh.find(DONE).expect("it was there");
        self.seen += len + DONE.len();
        fresh[..len].replace("(gdb) ", "").trim().to_owned()
    }

    /// Carries out a command and gives what gdb prints.
    fn run(&mut self, command: &str) -> String {
        self.begin(command);
        self.end()
    }

    /// Waits for a text on its stderr, where messages go.
    fn complains(&self, text: &str) {
        wait_until(&format!("gdb's {text:?}"), || self.program.stderr().contains(text));
    }

    /// The value that gdb prints of an expression, in hexadecimal.
    fn value(&mut self, expression: &str) -> u64 {
        let printed = self.run(&format!("output/x {expression}"));
        let digits = printed.trim_start_matches("0x");
        u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{expression} is {printed:?}"))
    }

    fn counter(&mut self) -> u64 {
        self.value("*(long *)&counter")
    }

    /// Lets the guest run until it says that it does.
    fn continue_until_running(&mut self, machine: &Machine) {
        self.run("set var *(long *)&asked = 1");
        self.begin("continue");
        machine.program.wait_for_stdout("running\n");
    }

    /// Lets the guest leave its loop, and leaves it.
    fn release(mut self) {
        self.run("set var *(long *)&released = 1");
        let said = self.run("detach");
        assert!(said.contains("detached"), "{said}{}", self.program.stderr());
    }
}

#[test]
fn breakpoints_and_steps() {
    let machine = Machine::start(&[]);
    let mut gdb = machine.gdb();
    let start = gdb.value("$pc");
    assert_eq!(start, gdb.value("&multiboot_start"), "a guest that has not run");
    for command in ["hbreak add_to_counter", "break add_to_counter"] {
        gdb.run(command);
        let said = gdb.run("continue");
        assert!(said.contains(", 0x"), "{said}");
        assert_eq!(gdb.value("$pc"), gdb.value("&add_to_counter"), "{said}");
        assert_eq!(gdb.value("$rdi"), 2);
        let before = gdb.counter();
        gdb.run("stepi\nstepi");
        assert_eq!((gdb.value("$rax"), gdb.counter()), (before + 2, before));
        gdb.run("stepi");
        assert_eq!(gdb.counter(), before + 2);
        let said = gdb.run("finish");
        assert!(said.contains("main () at"), "{said}");
        gdb.run("delete");
    }
    gdb.release();
    machine.passes();
}

#[test]
fn registers_and_memory_are_read_and_written() {
    let machine = Machine::start(&[]);
    let mut gdb = machine.gdb_in_loop();
    assert_eq!(gdb.run("output $cr0"), "[ PG WP NE ET MP PE ]");
    assert_eq!(gdb.value("$cs"), 0x18);
    assert_eq!(gdb.value("(long)$efer") & 0x500, 0x500, "long mode");
    for (register, value) in [
        ("$r15", 0x1122_3344_5566_7788),
        ("$fs_base", 0x7fff_1234_5678),
        ("$k_gs_base", 0x1000),
        ("$cr2", 0xabc),
        ("$xmm3.v2_int64[1]", 0x0123_4567_89ab_cdef),
        ("$mxcsr", 0x1f00),
    ] {
        gdb.run(&format!("set var {register} = {value:#x}"));
        gdb.run("flushregs");
        let read = if register == "$mxcsr" { gdb.value("(int)$mxcsr") } else { gdb.value(register) };
        assert_eq!(read, value, "{register}");
    }
    gdb.run("set var $mxcsr = 0x1f80");
    // As large as a page, at no boundary.
    let spare = "(char *)0x200003";
    gdb.run(&format!("set var *{spare} = 1"));
    let file = machine.folder.path().join("memory");
    let bytes: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&file, &bytes).expect("a temporary file");
    gdb.run(&format!("restore {} binary 0x200003", file.display()));
    gdb.run(&format!("dump binary memory {}.read 0x200003 0x200003+10000", file.display()));
    let read = std::fs::read(machine.folder.path().join("memory.read")).expect("gdb wrote it");
    assert!(read == bytes, "memory is as it was written");
    gdb.run("x/x 0x7fffffffffff");
    gdb.complains("Cannot access memory at address 0x7fffffffffff");
    gdb.release();
    machine.passes();
}

#[test]
fn processors_are_threads() {
    let machine = Machine::start(&["-smp", "2"]);
    let mut gdb = machine.gdb();
    gdb.run("hbreak other_processor\ncontinue\ndelete");
    let threads = gdb.run("info threads");
    assert!(threads.contains("* 2    Thread 1.2 (CPU#1 [running])"), "{threads}");
    assert_eq!(gdb.value("$pc"), gdb.value("&other_processor"));
    gdb.run("set scheduler-locking on");
    let (counter, others) = (gdb.counter(), gdb.value("*(long *)&other_count"));
    gdb.run("stepi\nstepi\nstepi\nstepi");
    assert_eq!(gdb.value("*(long *)&other_count"), others + 2, "three instructions a round");
    assert_eq!(gdb.counter(), counter, "the first stands still");
    gdb.run("thread 1\nset scheduler-locking off\nbreak add_to_counter\ncontinue");
    assert_eq!(gdb.value("$_thread"), 1);
    gdb.run("delete");
    gdb.release();
    machine.passes();
}

#[test]
fn ctrl_c_stops_and_kill_ends() {
    let machine = Machine::start(&[]);
    let mut gdb = machine.gdb_in_loop();
    gdb.continue_until_running(&machine);
    gdb.program.signal(Signal::INT);
    let said = gdb.end();
    assert!(said.contains("received signal SIGINT"), "{said}");
    gdb.run("monitor info status");
    gdb.complains("VM status: paused");
    gdb.run("kill");
    let ended = machine.program.wait();
    assert_eq!((ended.status, ended.complaints()), (Some(0), vec!["softmmu: QEMU: Terminated via GDBstub"]));
}

#[test]
fn the_end_of_the_guest_is_told() {
    let machine = Machine::start(&[]);
    let mut gdb = machine.gdb_in_loop();
    gdb.run("set var *(long *)&released = 1");
    let said = gdb.run("continue");
    assert!(said.contains("exited with code 01"), "{said}");
    machine.passes();
}

#[test]
fn a_lost_debugger_leaves_the_machine_running() {
    let machine = Machine::start(&[]);
    // One is lost while the guest is at its breakpoint, one while it runs.
    let mut gdb = machine.gdb_in_loop();
    gdb.run("break add_to_counter\ncontinue");
    gdb.run("set var *(long *)&asked = 1");
    drop(gdb);
    machine.program.wait_for_stdout("running\n");
    let mut gdb = machine.gdb();
    assert_eq!(gdb.value("*(unsigned char *)&add_to_counter"), 0x48, "no breakpoint is left behind");
    let counter = gdb.counter();
    gdb.begin("continue");
    drop(gdb);
    let mut gdb = machine.gdb();
    assert!(gdb.counter() >= counter);
    gdb.release();
    machine.passes();
}

/// A client that is none, or takes nothing.
fn nonsense(socket: &Path, bytes: &[u8], answers: bool) {
    let mut stream = UnixStream::connect(socket).expect("somebody listens");
    // It may hang up on us, or take no more.
    stream.set_nonblocking(true).expect("a socket");
    let _ = stream.write(bytes);
    if answers {
        stream.set_nonblocking(false).expect("a socket");
        let mut some = [0];
        stream.read_exact(&mut some).expect("an answer comes");
    }
}

#[test]
fn nonsense_stops_nothing() {
    let machine = Machine::start(&[]);
    let socket = machine.socket();
    for bytes in [
        &b"\x03\x03---+++noise$g#66$?#3f"[..],
        b"$mffffffffffffffff,ffffffffffffffff#0e",
        b"$vCont;s;c;t;q#00$vCont;t#b9",
        b"$Z9,1,1#be$Z2,1,ffffffffffffffff#00$H#48$Gzz#3b",
        b"$qXfer:features:read:target.xml:ffffffffffffffff,fff#5e$qXfer:features:read:nosuch:0,1#d1",
    ] {
        nonsense(&socket, bytes, true);
    }
    nonsense(&socket, &[b"$".as_slice(), &[b'a'; 100_000]].concat(), false);
    nonsense(&socket, &b"$g#67".repeat(4000), false);
    machine.gdb_in_loop().release();
    machine.passes();
}

#[test]
fn the_monitor_starts_and_stops_it() {
    let machine = Machine::start(&[]);
    let mut gdb = machine.gdb_in_loop();
    gdb.run("set var *(long *)&asked = 1");
    gdb.run("monitor gdbserver none");
    gdb.complains("Remote connection closed");
    machine.program.wait_for_stdout("running\n");
}
