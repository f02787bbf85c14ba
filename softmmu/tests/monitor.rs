//! The human monitor of the real program, through a unix socket and Debian's `socat`.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::daemon::wait_for_listener;
use common::{Running, softmmu};

/// Sends a session to the monitor and gives what came until the other end hung up.
fn socat(socket: &Path, session: &str) -> String {
    let mut socat = Command::new("socat")
        .args(["-t", "30", "-", &format!("UNIX-CONNECT:{}", socket.display())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("socat is installed: cargo xtask test installs it");
    socat.stdin.take().expect("a pipe").write_all(session.as_bytes()).expect("socat reads");
    let output = socat.wait_with_output().expect("socat ends");
    String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n")
}

fn start(socket: &Path) -> Child {
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let child = softmmu(["-nodefaults", "-display", "none", "-S", "-m", "64", "-monitor", &monitor])
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    wait_for_listener(socket);
    child
}

/// What a command printed: the lines between the end of its echo and the next prompt.
fn answer<'a>(screen: &'a str, command: &str) -> &'a str {
    let echo = format!("{command}\x1b[K\n");
    let from = screen.find(&echo).unwrap_or_else(|| panic!("no {command:?} in {screen:?}"));
    screen[from + echo.len()..].split("(qemu) ").next().unwrap_or_default()
}

#[test]
fn socat_talks_to_the_monitor() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let socket = folder.path().join("monitor");
    let mut child = start(&socket);
    let saved = folder.path().join("memory");
    let session = format!(
        "info status\ninfo kvm\np $pc\nxp /1xb 0xfffffff0\nx /1i 0xfffffff0\ninfo pic\ninfo lapic\ninfo mem\ninfo \
         stats vcpu exits,guest_mode\ninfo registers\npmemsave 0xfffffff0 5 \"{}\"\nnosuch\nboot_set nc\ni /b 0x71\nsystem_reset\ninfo cpus\ncont\n\
         info status\nquit\n",
        saved.display()
    );
    let screen = socat(&socket, &session);
    assert!(screen.starts_with("QEMU 7.2.0 monitor - type 'help' for more information\n(qemu) "), "{screen}");
    assert_eq!(answer(&screen, "info status"), "VM status: paused (prelaunch)\n");
    assert_eq!(answer(&screen, "info kvm"), "kvm support: enabled\n");
    assert_eq!(answer(&screen, "p $pc"), "0xfffffff0\n");
    assert_eq!(answer(&screen, "xp /1xb 0xfffffff0"), "00000000fffffff0: 0xea\n");
    let code = answer(&screen, "x /1i 0xfffffff0");
    assert!(code.starts_with("0xfffffff0:  ea 5b e0 00 f0           ljmpw    $0xf000:$0xe05b\n"), "{code}");
    let pic = answer(&screen, "info pic");
    assert!(
        pic.contains("ioapic0: ver=0x11 id=0x00 sel=0x00\n  pin 0  0x0000000000010000 dest=0 vec=0 "),
        "{pic}"
    );
    assert!(
        pic.contains("\npic1: irr=00 imr=00 isr=00 hprio=0 irq_base=00 rr_sel=0 elcr=00 fnm=0\n"),
        "{pic}"
    );
    assert!(
        answer(&screen, "info lapic")
            .starts_with("dumping local APIC state for CPU 0 \n\nLVT0\t 0x00010000 ")
    );
    assert_eq!(answer(&screen, "info mem"), "PG disabled\n");
    assert_eq!(
        answer(&screen, "info stats vcpu exits,guest_mode"),
        "provider: kvm\n    guest_mode (instant, boolean): no\n    exits (cumulative): 0\n"
    );
    let registers = answer(&screen, "info registers");
    assert!(
        registers.contains("\nEIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"),
        "{registers}"
    );
    assert!(!registers.contains("Code="), "{registers}");
    assert_eq!(std::fs::read(&saved).expect("pmemsave wrote it"), b"\xea\x5b\xe0\x00\xf0");
    assert_eq!(answer(&screen, "nosuch"), "unknown command: 'nosuch'\n");
    assert_eq!(answer(&screen, "boot_set nc"), "boot device list now set to nc\n");
    assert!(answer(&screen, "info cpus").starts_with("* CPU #0: thread_id="));
    assert!(screen.contains("VM status: running\n"), "{screen}");
    let status = child.wait().expect("the program ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn each_connection_is_greeted_and_a_hang_up_ends_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let socket = folder.path().join("monitor");
    let mut child = start(&socket);
    for _ in 0..2 {
        drop(std::os::unix::net::UnixStream::connect(&socket).expect("somebody listens"));
    }
    let screen = socat(&socket, "help quit\nquit\n");
    assert!(screen.starts_with("QEMU 7.2.0 monitor"), "{screen}");
    assert_eq!(answer(&screen, "help quit"), "quit|q  -- quit the emulator\n");
    assert_eq!(child.wait().expect("the program ends").code(), Some(0));
}

#[test]
fn before_the_machine_is_made_few_commands_are_there() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let socket = folder.path().join("monitor");
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let mut child = softmmu(["-nodefaults", "-display", "none", "-S", "--preconfig", "-monitor", &monitor])
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    wait_for_listener(&socket);
    let screen = socat(&socket, "info pci\ninfo version\nexit_preconfig\ninfo pci\nquit\n");
    let refused = "Command 'info pci' not available until machine initialization has completed.\n";
    assert_eq!(answer(&screen, "info pci"), refused);
    assert_eq!(answer(&screen, "info version"), "7.2.0\n");
    assert!(screen.contains("Host bridge: PCI device 8086:1237\n"), "{screen}");
    assert_eq!(child.wait().expect("the program ends").code(), Some(0));
}

#[test]
fn sigterm_ends_a_program_that_waits_for_a_client() {
    let folder = tempfile::tempdir().unwrap();
    let (pid, socket) = (folder.path().join("pid"), folder.path().join("socket"));
    let monitor = format!("unix:{},server=on", socket.display());
    let mut command = softmmu(["-nodefaults", "-display", "none", "-S", "-monitor", &monitor, "-pidfile"]);
    let running = Running::start(command.arg(&pid));
    wait_for_listener(&socket);
    running.signal(rustix::process::Signal::TERM);
    let ended = running.wait();
    assert_eq!(ended.status, Some(1));
    assert!(
        ended.stderr.contains("Failed to wait for a connection: Interrupted system call"),
        "{}",
        ended.stderr
    );
    assert!(!pid.exists() && !socket.exists(), "they go with the program");
}
