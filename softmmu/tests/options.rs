//! What options do, as their user sees it.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use common::daemon::wait_for_listener;
use common::{Running, guest, run, softmmu, wait_until};
use pack::Format;
use rustix::process::{Pid, Signal};

const BASE: [&str; 3] = ["-nodefaults", "-display", "none"];
/// A device through which guests end the program; a guest that is content makes the status 1.
const DEBUG_EXIT: [&str; 2] = ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"];
/// The guest `hello` says this last.
const HELLO_END: &str = "high-ram 0";

/// The program with the guest `hello` and no serial port.
fn hello() -> Command {
    let mut command = softmmu(BASE);
    command.args(DEBUG_EXIT).args(["-m", "64", "-append", "one two=2", "-kernel"]);
    command.arg(guest("hello", Format::Pvh));
    command
}

/// Fails unless `hello` has said all it says.
#[track_caller]
fn assert_hello(output: &str) {
    for line in ["boot pvh", "cmdline [one two=2]", HELLO_END] {
        assert!(output.lines().any(|l| l.trim_end() == line), "no {line:?} in {output:?}");
    }
}

/// The text for which an option asks; the program does nothing else.
#[track_caller]
fn help(arguments: &[&str]) -> String {
    let ended = run(&mut softmmu(arguments));
    assert_eq!((ended.stderr.as_str(), ended.status), ("", Some(0)), "{arguments:?}");
    ended.stdout
}

/// Waits until a process that is no child of ours is gone.
fn wait_until_gone(pid: Pid) {
    let stat = format!("/proc/{pid}/stat");
    // A zombie is gone too: who is to wait for it is not ours.
    wait_until("the process to end", || {
        fs::read_to_string(&stat).map_or(true, |stat| stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
    });
}

/// The process whose number a file holds, once it does.
fn pid_in(path: &Path) -> Pid {
    let read = || fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok().and_then(Pid::from_raw);
    wait_until("the pid file", || read().is_some());
    read().expect("a number")
}

#[test]
fn version_and_help_are_printed() {
    assert!(help(&["-version"]).starts_with("QEMU emulator version 7.2.0 (softmmu "));
    let text = help(&["-h"]);
    for option in ["-kernel", "-machine", "-serial", "-device", "-trace"] {
        assert!(text.lines().any(|line| line.starts_with(option)), "{option} in the help");
    }
    assert_eq!(help(&["--help"]), text);
}

#[test]
fn lists_name_what_there_is() {
    for (arguments, lines) in [
        (["-machine", "help"], &["Supported machines are:", "isapc ", "none ", "pc ", "pc-i440fx-7.2 "][..]),
        (["-accel", "help"], &["kvm"]),
        (["-cpu", "help"], &["x86 host ", "x86 max ", "x86 qemu64 "]),
        (["-device", "help"], &["name \"isa-serial\", bus ISA", "name \"isa-debug-exit\", bus ISA"]),
        (["-device", "isa-debug-exit,help"], &["isa-debug-exit options:", "  iobase=<uint32>"]),
        (["-object", "help"], &["  memory-backend-file", "  memory-backend-memfd", "  memory-backend-ram"]),
        (["-object", "memory-backend-file,help"], &["  mem-path=<string>", "  size="]),
        (["-chardev", "help"], &["  stdio", "  socket", "  pty", "  file", "  pipe", "  null"]),
        (
            ["-chardev", "socket,help"],
            &["chardev options:", "  server=<bool (on/off)>", "  to=<num>", "  size=<size>"],
        ),
        (["-machine", "pc,help"], &["  pit=<OnOffAuto>", "  vmport=<OnOffAuto>"]),
        (["-d", "help"], &["guest_errors "]),
        (["-trace", "help"], &["startup"]),
    ] {
        let text = help(&arguments);
        for line in lines {
            assert!(text.lines().any(|l| l.starts_with(line)), "{line:?} in {arguments:?}: {text}");
        }
    }
}

#[test]
fn sigterm_ends_the_program_in_order_and_removes_the_pid_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let running = Running::start(softmmu(BASE).args(["-S", "-pidfile"]).arg(&path));
        let pid = pid_in(&path);
        assert_eq!(pid, Pid::from_child(&running.child));
        running.signal(signal);
        let ended = running.wait();
        assert_eq!(ended.status, Some(0), "{signal:?}");
        let (signal, id) = (signal.as_raw(), std::process::id());
        let me = std::env::args().next().unwrap();
        let line = format!("softmmu: terminating on signal {signal} from pid {id} ({me})");
        assert_eq!(ended.complaints(), [line]);
        assert!(!path.exists(), "the pid file goes with the program");
    }
}

#[test]
fn a_pid_file_belongs_to_one_program() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let first = Running::start(softmmu(BASE).args(["-S", "-pidfile"]).arg(&path));
    let pid = pid_in(&path);
    let second = run(softmmu(BASE).args(["-S", "-pidfile"]).arg(&path));
    assert_eq!(second.status, Some(1));
    assert_eq!(pid_in(&path), pid, "the file is the first one's");
    first.signal(Signal::TERM);
    assert_eq!(first.wait().status, Some(0));
}

#[test]
fn a_daemon_runs_on_and_answers_signals() {
    let directory = tempfile::tempdir().unwrap();
    let (pid, serial) = (directory.path().join("pid"), directory.path().join("serial"));
    let mut command = hello();
    command.args(["-daemonize", "-pidfile"]).arg(&pid);
    // A daemon's directory is another: the name was meant where it was typed.
    command.current_dir(&directory).args(["-serial", "file:serial"]);
    command.args(["-S", "-monitor", "unix:monitor,server=on,wait=off"]);
    let ended = run(&mut command);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    let daemon = pid_in(&pid);
    let mut monitor = UnixStream::connect(directory.path().join("monitor")).unwrap();
    assert_eq!(rustix::process::getsid(Some(daemon)), Ok(daemon), "a daemon has a session of its own");
    rustix::process::kill_process(daemon, Signal::TERM).expect("the daemon runs");
    // The connection ends with it.
    let _ = monitor.read_to_end(&mut Vec::new());
    wait_until_gone(daemon);
    assert!(!pid.exists());
    assert!(serial.exists());
}

#[test]
fn a_daemon_that_cannot_start_says_so() {
    let ended = run(softmmu(BASE).args(["-daemonize", "-device", "nosuch"]));
    assert_eq!(ended.complaints(), ["softmmu: -device nosuch: 'nosuch' is not a valid device model name"]);
    assert_eq!(ended.status, Some(1));
}

/// A program with its monitor on stdin and stdout.
struct Monitored(Running);

impl Monitored {
    fn start(command: &mut Command) -> Monitored {
        let running = Running::start(command.args(["-monitor", "stdio"]).stdin(Stdio::piped()));
        running.wait_for_stdout("(qemu) ");
        Monitored(running)
    }

    fn command(&mut self, line: &str) {
        writeln!(self.0.child.stdin.as_ref().expect("a pipe"), "{line}").expect("the program reads");
    }
}

#[test]
fn a_machine_that_starts_stopped_waits_for_the_user() {
    let directory = tempfile::tempdir().unwrap();
    let serial = directory.path().join("serial");
    let mut monitored =
        Monitored::start(hello().arg("-S").arg("-serial").arg(format!("file:{}", serial.display())));
    monitored.command("info status");
    monitored.0.wait_for_stdout("VM status: paused (prelaunch)");
    assert_eq!(fs::read_to_string(&serial).unwrap(), "");
    monitored.command("cont");
    assert_eq!(monitored.0.wait().status, Some(1));
    assert_hello(&fs::read_to_string(&serial).unwrap());
}

#[test]
fn a_guest_that_powers_off_may_be_looked_at() {
    let mut command = softmmu(BASE);
    command.args(["-no-shutdown", "-serial", "null", "-kernel"]).arg(guest("poweroff", Format::Pvh));
    let mut monitored = Monitored::start(&mut command);
    wait_until("the guest to power off", || {
        monitored.command("info status");
        monitored.0.stdout().contains("VM status: paused (shutdown)")
    });
    monitored.command("quit");
    assert_eq!(monitored.0.wait().status, Some(0));
}

#[test]
fn a_serial_port_is_on_stdio_or_in_a_file() {
    let ended = run(hello().args(["-serial", "stdio"]));
    assert_hello(&ended.stdout);
    assert_eq!(ended.status, Some(1));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("serial");
    let ended = run(hello().arg("-serial").arg(format!("file:{}", path.display())));
    assert_hello(&fs::read_to_string(&path).unwrap());
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""));

    let by_id = ["-chardev", "stdio,id=c", "-serial", "chardev:c"];
    assert_hello(&run(hello().args(by_id)).stdout);
    let device = ["-chardev", "stdio,id=c", "-device", "isa-serial,chardev=c"];
    assert_hello(&run(hello().args(device)).stdout);
}

#[test]
fn a_serial_port_is_on_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    for end in ["pipe.in", "pipe.out"] {
        let made = Command::new("mkfifo").arg(directory.path().join(end)).status().unwrap();
        assert!(made.success());
    }
    let running = Running::start(hello().arg("-serial").arg(format!("pipe:{}", path.display())));
    let mut output = String::new();
    File::open(path.with_extension("out")).unwrap().read_to_string(&mut output).unwrap();
    assert_hello(&output);
    assert_eq!(running.wait().status, Some(1));
}

#[test]
fn a_serial_port_is_on_a_pseudo_terminal() {
    // What is not read yet when the program closes the terminal is lost, so the guest must not end it.
    let mut command = softmmu(BASE);
    command.args(["-m", "64", "-append", "one two=2", "-kernel"]).arg(guest("hello", Format::Pvh));
    let mut monitored = Monitored::start(command.args(["-S", "-serial", "pty"]));
    let said = || monitored.0.stdout() + &monitored.0.stderr();
    let name = || Some(said().split_once("redirected to ")?.1.split_once(" (label serial0)")?.0.to_owned());
    wait_until("the terminal's name", || name().is_some());
    let mut terminal = File::options().read(true).write(true).open(name().unwrap()).unwrap();
    let mut output = Vec::new();
    // The program looks now and then whether somebody has the terminal open; until then nobody hears the guest. What is
    // typed is in the port's receiver when it has (bit 0 of its line status).
    terminal.write_all(b"x").unwrap();
    wait_until("the terminal to be seen", || {
        monitored.command("i /b 0x3fd");
        monitored.0.stdout().contains("portb[0x03fd] = 0x61")
    });
    monitored.command("cont");
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&output).lines().any(|line| line.trim_end() == HELLO_END) {
        match terminal.read(&mut buffer) {
            Ok(length @ 1..) => output.extend_from_slice(&buffer[..length]),
            _ => break,
        }
    }
    assert_hello(&String::from_utf8_lossy(&output));
    monitored.command("quit");
    assert_eq!(monitored.0.wait().status, Some(0));
}

#[test]
fn a_serial_port_is_a_server_or_a_client_of_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    // wait=on: the guest starts when somebody listens.
    let server = Running::start(hello().arg("-serial").arg(format!("unix:{},server=on", path.display())));
    wait_for_listener(&path);
    let mut output = String::new();
    UnixStream::connect(&path).unwrap().read_to_string(&mut output).unwrap();
    assert_hello(&output);
    assert_eq!(server.wait().status, Some(1));
    assert!(!path.exists(), "the socket goes with the program");

    let listener = UnixListener::bind(&path).unwrap();
    let client = Running::start(hello().arg("-serial").arg(format!("unix:{}", path.display())));
    let mut output = String::new();
    listener.accept().unwrap().0.read_to_string(&mut output).unwrap();
    assert_hello(&output);
    assert_eq!(client.wait().status, Some(1));
}

#[test]
fn a_serial_port_is_a_server_or_a_client_of_a_tcp_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = Running::start(hello().arg("-serial").arg(format!("tcp:{address}")));
    let mut output = String::new();
    listener.accept().unwrap().0.read_to_string(&mut output).unwrap();
    assert_hello(&output);
    assert_eq!(client.wait().status, Some(1));

    // Which port it is given is told when somebody is waited for.
    let server = Running::start(hello().args(["-serial", "tcp:127.0.0.1:0,server=on"]));
    let port = || {
        let told = server.stdout() + &server.stderr();
        let (_, rest) = told.split_once("waiting for connection on: disconnected:tcp:127.0.0.1:")?;
        rest.split_once(",server=on")?.0.parse::<u16>().ok()
    };
    wait_until("the port", || port().is_some());
    let mut output = String::new();
    TcpStream::connect(("127.0.0.1", port().unwrap())).unwrap().read_to_string(&mut output).unwrap();
    assert_hello(&output);
    assert_eq!(server.wait().status, Some(1));
}

#[test]
fn options_come_from_a_file_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let config = "[device \"out\"]\n  driver = \"isa-debug-exit\"\n  iobase = \"0xf4\"\n  iosize = \"0x4\"\n\
                  [chardev \"c\"]\n  backend = \"stdio\"\n[device]\n  driver = \"isa-serial\"\n  chardev = \"c\"\n";
    fs::write(&path, config).unwrap();
    let mut command = softmmu(BASE);
    command.arg("-readconfig").arg(&path).arg("-kernel").arg(guest("first", Format::Pvh));
    let ended = run(&mut command);
    assert_eq!((ended.stdout.trim_end(), ended.status), ("F", Some(1)), "{}", ended.stderr);
}

#[test]
fn a_global_setting_is_every_devices_default() {
    let mut command = softmmu(BASE);
    command.args(["-global", "isa-debug-exit.iobase=0xf4", "-global", "isa-debug-exit.iosize=4"]);
    command.args(["-device", "isa-debug-exit", "-serial", "stdio", "-kernel"]);
    let ended = run(command.arg(guest("first", Format::Pvh)));
    assert_eq!((ended.stdout.trim_end(), ended.status), ("F", Some(1)), "{}", ended.stderr);
}

#[test]
fn the_guests_memory_is_what_the_user_made() {
    let memory = ["-machine", "memory-backend=m", "-serial", "stdio"];
    let memfd = ["-object", "memory-backend-memfd,id=m,size=64M"];
    assert_hello(&run(hello().args(memory).args(memfd)).stdout);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memory");
    let file = format!("memory-backend-file,id=m,size=64M,mem-path={},share=on", path.display());
    assert_hello(&run(hello().args(memory).args(["-object", &file])).stdout);
    let contents = fs::read(&path).unwrap();
    assert_eq!(contents.len(), 64 << 20);
    let code = fs::read(guest("hello", Format::Pvh)).unwrap();
    assert_eq!(contents[0x10_0000..][..16], image(&code)[..16], "the kernel lies at 1 MiB of the file");

    let other = ["-object", "memory-backend-memfd,id=m,size=32M"];
    let ended = run(hello().args(memory).args(other));
    let line = "softmmu: Machine memory size does not match the size of the memory backend";
    assert_eq!((ended.complaints(), ended.status), (vec![line], Some(1)));
}

#[test]
fn memory_is_in_the_file_that_the_user_names_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memory");
    let memory = ["-m", "32M", "-mem-prealloc", "-serial", "stdio", "-mem-path"];
    assert_hello(&run(hello().args(memory).arg(&path)).stdout);
    assert_eq!(fs::metadata(&path).unwrap().len(), 32 << 20);
    fs::remove_file(&path).unwrap();
    assert_hello(&run(hello().args(memory).arg(directory.path())).stdout);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

    let ended = run(hello().args(memory).args(["/nonexistent/x"]));
    let line = "softmmu: can't open backing store /nonexistent/x for guest RAM: No such file or directory";
    assert_eq!((ended.complaints(), ended.status), (vec![line], Some(1)));
    let ended = run(hello().args(memory).arg(&path).args(["-machine", "memory-backend=m"]));
    let line = "softmmu: '-mem-path' can't be used together with'-machine memory-backend'";
    assert_eq!((ended.complaints(), ended.status), (vec![line], Some(1)));
}

#[test]
fn descriptors_of_the_start_are_opened_by_their_set() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let start = |options: &[&str]| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 7>\"$0\" 8<\"$0\"; exec \"$@\""]).arg(&path);
        let program = hello();
        run(shell.arg(program.get_program()).args(program.get_args()).args(options))
    };
    // The set has two, of which one can be written.
    let set =
        ["-add-fd", "fd=8,set=2", "-add-fd", "fd=7,set=2,opaque=serial", "-serial", "file:/dev/fdset/2"];
    let ended = start(&set);
    assert_hello(&fs::read_to_string(&path).unwrap());
    assert_eq!(ended.complaints(), [""; 0]);
    for (option, why) in [
        ("set=2", "fd option is required and must be non-negative"),
        ("fd=2,set=2", "fd cannot be a standard I/O stream"),
        ("fd=7", "set option is required and must be non-negative"),
        ("fd=99,set=2", "fd is not valid or already in use"),
    ] {
        let ended = start(&["-add-fd", option]);
        assert_eq!(ended.complaints(), [format!("softmmu: -add-fd {option}: {why}")]);
        assert_eq!(ended.status, Some(1));
    }
}

/// The first segment of a 64-bit ELF file: of a guest the one at 1 MiB.
fn image(elf: &[u8]) -> &[u8] {
    let at = |offset: usize| u64::from_le_bytes(elf[offset..][..8].try_into().unwrap()) as usize;
    let header = at(32);
    &elf[at(header + 8)..]
}

#[test]
fn the_steps_of_starting_up_are_told_by_qemus_names() {
    let ended = run(hello().args(["-serial", "stdio", "-trace", "startup"]));
    assert_hello(&ended.stdout);
    let told = ended.stdout + &ended.stderr;
    // On a thread of its own, beside the others.
    assert!(told.contains("KVM_CREATE_VM"), "{told}");
    let mut rest = told.as_str();
    // In the order of the path.
    for step in [
        "qemu_init",
        "module_call_init",
        "qemu_create_machine",
        "configure_accelerators",
        "accel_init_machine",
        "kvm_init",
        "kvm_arch_init",
        "machine_run_board_init",
        "pc_init1",
        "x86_cpus_init",
        "x86_cpu_realizefn",
        "qemu_init_vcpu",
        "pc_memory_init",
        "qdev_machine_creation_done",
        "acpi_build",
        "accel_finish_init",
        "qemu_kvm_start_vcpu",
        "kvm_init_vcpu",
        "kvm_arch_init_vcpu",
        "qemu_system_reset",
        "vm_start",
    ] {
        rest = rest.split_once(step).unwrap_or_else(|| panic!("no {step} in its place in:\n{told}")).1;
    }
}

#[test]
fn what_the_guest_does_wrong_is_logged_in_qemus_words() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = softmmu(pack::cases::BASE);
    command.arg("-kernel").arg(guest("exits", Format::Pvh)).args(["-device", "pc-testdev"]);
    let ended = run(command.args(["-d", "guest_errors", "-D"]).arg(&log));
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let log = fs::read_to_string(log).unwrap();
    // Eight bytes are two accesses to where nothing is.
    for address in ["0xF8000000", "0xF8000004"] {
        for what in ["read", "write"] {
            let line = format!("Invalid {what} at addr {address}, size 4, region '(null)', reason: rejected");
            assert!(log.lines().any(|l| l == line), "{line}: {log}");
        }
    }
}

#[test]
fn a_log_goes_to_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let ended = run(hello().args(["-serial", "stdio", "-d", "cpu_reset", "-D"]).arg(&path));
    assert_hello(&ended.stdout);
    let log = fs::read_to_string(&path).unwrap();
    assert!(log.contains("CPU Reset (CPU 0)"), "the log: {log:?}");
}

/// A terminal with a shell that shows its settings, runs the program, and shows them again.
struct Terminal {
    shell: Running,
    controller: File,
    output: Vec<u8>,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Terminal {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        // Signals typed at the terminal are for the program; the shell stays to show what it left.
        let script = format!(
            "exec <{name} >{name} 2>&1; trap : INT HUP QUIT; echo before $(stty -g); \
             \"$0\" \"$@\"; echo status $?; echo after $(stty -g)."
        );
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", &script]).arg(env!("CARGO_BIN_EXE_softmmu")).args(BASE).args(arguments);
        let shell = Running::start(command.stdin(Stdio::null()));
        Terminal { shell, controller: File::from(controller), output: Vec::new() }
    }

    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let seen = String::from_utf8_lossy(&self.output).into_owned();
            if seen.contains(text) {
                return seen;
            }
            let mut buffer = [0; 4096];
            let length = self.controller.read(&mut buffer).unwrap_or(0);
            assert!(length > 0, "waited for {text:?} in vain: {seen}");
            self.output.extend_from_slice(&buffer[..length]);
        }
    }

    /// Whether the terminal hands on each byte as it is typed.
    fn is_raw(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.controller).unwrap().local_modes;
        !modes.intersects(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
    }

    /// The settings before and after, and the program's exit status.
    fn end(mut self) -> (String, String, String) {
        let seen = self.wait_for(".\r\n");
        let after = |word: &str| {
            let start = seen.split_once(word).unwrap_or_else(|| panic!("no {word:?} in {seen}")).1;
            start.split(['\r', '.']).next().unwrap_or_default().to_owned()
        };
        let all = (after("before "), after("after "), after("status "));
        assert!(self.shell.wait().status.is_some());
        all
    }
}

#[test]
fn the_terminal_is_restored_whatever_ends_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let arguments = ["-S", "-serial", "stdio", "-pidfile", path.to_str().unwrap()];
    for signal in [None, Some(Signal::INT), Some(Signal::HUP), Some(Signal::TERM)] {
        let mut terminal = Terminal::start(&arguments);
        let pid = pid_in(&path);
        wait_until("the terminal to be raw", || terminal.is_raw());
        match signal {
            None => terminal.controller.write_all(b"\x03").unwrap(),
            Some(signal) => rustix::process::kill_process(pid, signal).unwrap(),
        }
        let (before, after, status) = terminal.end();
        assert_eq!(before, after, "{signal:?}");
        assert_eq!(status, "0", "{signal:?}");
    }
}

#[test]
fn the_terminal_is_restored_when_the_guest_powers_off_or_an_error_ends_the_program() {
    let kernel = guest("poweroff", Format::Pvh);
    let kernel = kernel.to_str().unwrap();
    for (arguments, wanted) in [
        (["-serial", "stdio", "-kernel", kernel], "0"),
        (["-serial", "stdio", "-device", "nosuch"], "1"),
        (["-serial", "stdio", "-kernel", "/no/such/file"], "1"),
    ] {
        let (before, after, status) = Terminal::start(&arguments).end();
        assert_eq!(before, after, "{arguments:?}");
        assert_eq!(status, wanted, "{arguments:?}");
    }
}

#[test]
fn ctrl_a_x_ends_a_program_without_graphics() {
    let mut terminal = Terminal::start(&["-nographic", "-S", "-serial", "mon:stdio"]);
    wait_until("the terminal to be raw", || terminal.is_raw());
    // Ctrl-C is for the guest here.
    terminal.controller.write_all(b"\x03\x01h").unwrap();
    terminal.wait_for("C-a x");
    terminal.controller.write_all(b"\x01c").unwrap();
    terminal.wait_for("(qemu) ");
    terminal.controller.write_all(b"\x01x").unwrap();
    let (before, after, status) = terminal.end();
    assert_eq!((before, status.as_str()), (after, "0"));
}

#[test]
fn without_a_kernel_the_firmware_runs() {
    let console = ["-chardev", "stdio,id=d", "-device", "isa-debugcon,iobase=0x402,chardev=d"];
    let running = Running::start(softmmu(BASE).args(console));
    running.wait_for_stdout("SeaBIOS (version ");
    // What it reads in fw_cfg.
    running.wait_for_stdout("Running on QEMU (i440fx)");
    running.signal(Signal::TERM);
    assert_eq!(running.wait().status, Some(0));
}
