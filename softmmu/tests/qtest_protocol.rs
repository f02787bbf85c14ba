//! The qtest protocol itself: QEMU's answers to the letter, whatever a client sends, with any accelerator.

use std::fs;
use std::process::{Command, Stdio};

use libqtest::QTest;

const PROGRAM: &str = env!("CARGO_BIN_EXE_softmmu");

fn pc() -> QTest {
    QTest::start(PROGRAM, ["-nodefaults"])
}

#[test]
fn answers_have_qemus_form() {
    let mut vm = pc();
    for (request, answer) in [
        ("endianness", "OK little"),
        ("outb 0x92 0", "OK"),
        ("inb 0x92", "OK 0x0000"),
        ("inw 0x1234", "OK 0xffff"),
        ("inl 0x1234", "OK 0xffffffff"),
        ("outl 0xcf8 0x80000000", "OK"),
        ("inl 3320", "OK 0x80000000"),
        ("writeq 0x1000 0x1122334455667788", "OK"),
        ("readb 0x1000", "OK 0x0000000000000088"),
        ("readw 0x1000", "OK 0x0000000000007788"),
        ("readl 010004", "OK 0x0000000011223344"),
        ("readq 0x1000", "OK 0x1122334455667788"),
        ("writeb 0x1000 0x1ff", "OK"),
        ("writew 0x1002 0xaabb", "OK"),
        ("writel 0x1004 0", "OK"),
        ("read 0x1000 8", "OK 0xff77bbaa00000000"),
        ("b64read 0x1000 4", "OK /3e7qg=="),
        ("write 0x1000 4 0xABcd", "OK"),
        ("read 0x1000 5", "OK 0xabcd000000"),
        ("write 0x1000 1 0x123456", "OK"),
        ("read 0x1000 2", "OK 0x12cd"),
        ("b64write 0x1000 3 AQIDBA==", "OK"),
        ("read 0x1000 4", "OK 0x01020300"),
        ("memset 0x1000 3 0x5a", "OK"),
        ("memset 0x1000 0 0xff", "OK"),
        ("read 0x1000 4", "OK 0x5a5a5a00"),
        ("module_load block- curl", "OK"),
        ("clock_set 1000", "OK 1000"),
        ("clock_set 10", "OK 1000"),
        ("clock_step 5", "OK 1005"),
        ("clock_step -5", "OK 1005"),
        ("irq_intercept_in nothing", "FAIL Unknown device"),
        ("irq_intercept_out /machine", "FAIL Unknown device"),
        ("set_irq_in nothing unnamed-gpio-in 0 1", "FAIL Unknown device"),
        ("write 0 1 0x", "ERR invalid argument size"),
        ("b64write 0 1 AA", "ERR invalid argument size"),
        ("frobnicate 1", "FAIL Unknown command 'frobnicate'"),
        ("", "FAIL Unknown command ''"),
    ] {
        assert_eq!(vm.request(request), answer, "{request}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused_and_the_next_request_is_answered() {
    let mut vm = pc();
    for request in [
        "inb",
        "inb x",
        "inb 0x10000",
        "inb -1",
        "outb 0x80",
        "outb 0x80 1z",
        "outl 0x80 99999999999999999999",
        "readq",
        "writeq 0",
        "read 0",
        "read 0 0",
        "write 0 4",
        "write 0 4 0xzz",
        "write 0 4 0x1é",
        "b64write 0 4 ?*!#",
        "memset 0 4",
        "clock_step x",
        "clock_set",
        "clock_set 9223372036854775808",
        "irq_intercept_in",
        "set_irq_in a b 1",
        "module_load block-",
    ] {
        let command = request.split(' ').next().unwrap_or_default();
        assert_eq!(vm.request(request), format!("FAIL Invalid arguments for '{command}'"), "{request}");
    }
    vm.send(b"\xff\xfe\x00\n");
    assert!(vm.receive().starts_with("FAIL Unknown command"));
    // Requests in one piece, and one in pieces.
    vm.send(b"endianness\ninb 0x1234\nend");
    vm.send(b"ianness\n");
    assert_eq!([vm.receive(), vm.receive(), vm.receive()], ["OK little", "OK 0x00ff", "OK little"]);
    assert!(vm.quit().success());
}

#[test]
fn a_line_without_end_is_not_kept() {
    let mut vm = pc();
    let piece = vec![b'1'; 1 << 20];
    for _ in 0..40 {
        vm.send(&piece);
    }
    vm.send(b"\n");
    assert_eq!(vm.receive(), "FAIL Line too long");
    assert_eq!(vm.request("endianness"), "OK little");
}

#[test]
fn large_blocks_go_both_ways() {
    let mut vm = pc();
    let data: Vec<u8> = (0..300_001_u32).map(|n| (n * 7 + (n >> 8)) as u8).collect();
    vm.memwrite(0x10_0000, &data);
    assert_eq!(vm.bufread(0x10_0000, data.len()), data);
    vm.bufwrite(0x20_0001, &data);
    assert_eq!(vm.memread(0x20_0001, data.len()), data);
    vm.memset(0x20_0001, 0xee, 300_000);
    assert_eq!(vm.memread(0x20_0000 + 300_000, 3), [0xee, data[300_000], 0]);
}

#[test]
fn who_reads_no_answer_gets_no_further_and_others_do() {
    let mut vm = pc();
    // More than the connection holds, and more than there is memory.
    vm.send(b"read 0 0xffffffffffffffff\nmemset 0 0xffffffffffffffff 0\n");
    assert!(vm.quit().success());
}

#[test]
fn the_clock_steps_to_the_next_deadline_if_there_is_one() {
    let mut vm = QTest::start(PROGRAM, ["-nodefaults", "-machine", "pit=off", "-rtc", "clock=vm"]);
    assert_eq!(vm.clock_step_next(), 0);
    // The RTC's periodic interrupt, 1024 times a second.
    vm.outb(0x70, 0x0b);
    vm.outb(0x71, 0x42);
    assert_eq!(vm.clock_step_next(), vm.clock_step(0));
    let first = vm.clock_step(0);
    // Its flag is cleared, so that there is another.
    vm.outb(0x70, 0x0c);
    assert_eq!(vm.inb(0x71), 0xc0);
    let second = vm.clock_step_next();
    assert!((976_000..977_000).contains(&(second - first)), "{first} {second}");
}

#[test]
fn intercepting_a_second_device_is_refused() {
    let mut vm = QTest::start(PROGRAM, ["-nodefaults", "-device", "isa-debug-exit,id=a"]);
    assert_eq!(vm.request("irq_intercept_in /machine/peripheral/a"), "OK");
    assert_eq!(vm.request("irq_intercept_out a"), "OK");
    let other = vm.request("irq_intercept_in /machine/unattached/device[0]");
    assert_eq!(other, "FAIL IRQ intercept already enabled");
    assert_eq!(vm.request("set_irq_in a unnamed-gpio-in 0 1"), "FAIL Unknown input");
}

#[test]
fn a_machine_without_anything_has_memory_to_read() {
    let mut vm = QTest::start(PROGRAM, ["-machine", "none"]);
    assert_eq!(vm.readl(0), 0);
    assert_eq!(vm.inb(0x70), 0xff);
    assert_eq!(vm.clock_step_next(), 0, "there is no deadline");
    let end = i64::MAX as u64;
    assert_eq!(vm.clock_set(end), end);
    assert_eq!(vm.clock_step(1), end);
    assert!(vm.quit().success());
}

#[test]
fn under_kvm_the_clock_is_not_the_clients() {
    let builder = QTest::builder(PROGRAM).accelerator(Some("kvm"));
    let mut vm = builder.args(["-nodefaults", "-S"]).start();
    assert_eq!(vm.request("clock_step 1"), "FAIL Unknown command 'clock_step'");
    assert_eq!(vm.request("clock_set 1"), "FAIL Unknown command 'clock_set'");
    vm.outl(0xcf8, 0x8000_0000);
    assert_eq!(vm.inl(0xcfc), 0x1237_8086);
    vm.writel(0x1000, 0x1234_5678);
    assert_eq!(vm.memread(0x1000, 4), [0x78, 0x56, 0x34, 0x12]);
    assert!(vm.quit().success());
}

#[test]
fn the_log_says_what_went_to_and_fro() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let log = folder.path().join("log");
    let mut vm = QTest::builder(PROGRAM).log(&log).args(["-machine", "none"]).start();
    vm.request("inb  1");
    vm.outb(0x80, 1);
    assert!(vm.quit().success());
    let text = fs::read_to_string(&log).expect("the log was written");
    let lines: Vec<_> = text.lines().map(|line| line.split_once("] ").expect("a time")).collect();
    let said: Vec<_> = lines.iter().map(|(_, text)| *text).collect();
    let expected = ["OPENED", "inb  1", "FAIL Invalid arguments for 'inb'", "outb 0x80 0x1", "OK"];
    assert_eq!(said.get(..5), Some(&expected[..]));
    let kinds: String = lines.iter().filter_map(|(head, _)| head.chars().nth(1)).collect();
    assert!(kinds.starts_with("IRSRS"), "{text}");
    assert_eq!(lines[0].0, "[I 0.000000");
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_cannot_be_had_is_said() {
    let none = ["-machine", "none", "-accel", "qtest"];
    let with = |more: &[&'static str]| run(&[&none, more].concat());
    let (status, text) = with(&["-qtest", "unix:/nonexistent/socket"]);
    assert_eq!(status, Some(1));
    assert!(
        text.contains("softmmu: Failed to initialize device for qtest: \"unix:/nonexistent/socket\"\n"),
        "{text}"
    );
    let (status, text) = with(&["-qtest", "null", "-qtest-log", "/nonexistent/log"]);
    assert_eq!(status, Some(1));
    assert_eq!(text, "softmmu: -qtest-log /nonexistent/log: No such file or directory (os error 2)\n");
    let (_, text) = with(&["-object", "qtest,id=q"]);
    assert_eq!(text, "softmmu: No backend specified\n");
    let (_, text) = with(&["-object", "qtest,id=q,chardev=c"]);
    assert_eq!(text, "softmmu: Cannot find character device 'c'\n");
    let twice = ["-chardev", "null,id=c", "-object", "qtest,id=q,chardev=c,log=none", "-qtest", "null"];
    let (_, text) = with(&twice);
    assert!(text.ends_with("softmmu: Only one instance of qtest can be created\n"), "{text}");
}

#[test]
fn the_first_accelerator_that_works_is_taken() {
    let wanted = ["-accel", "tcg", "-accel", "qtest", "-machine", "none"];
    let builder = QTest::builder(PROGRAM).accelerator(None);
    let mut vm = builder.args(wanted).start();
    assert_eq!(vm.clock_step(7), 7);
    assert!(vm.quit().success());
    let (status, text) = run(&["-accel", "tcg", "-accel", "xen", "-machine", "none"]);
    assert_eq!(status, Some(1));
    assert_eq!(
        text,
        "softmmu: -accel tcg: invalid accelerator tcg\nsoftmmu: -accel xen: invalid accelerator xen\n"
    );
    let (_, text) = run(&["-accel", "tcg", "-accel", "qtest", "-machine", "none", "-device", "nothing"]);
    assert!(
        text.starts_with("softmmu: -accel tcg: invalid accelerator tcg\nsoftmmu: falling back to QTest\n"),
        "{text}"
    );
}

#[test]
fn cpus_keep_what_their_model_has() {
    // On the host's KVM some of it is missing.
    for arguments in [["-cpu", "EPYC-Milan,enforce"], ["-cpu", "max,enforce"], ["-cpu", "486"]] {
        let vm = QTest::builder(PROGRAM).args(arguments).args(["-nodefaults", "-smp", "3"]).start();
        assert!(vm.quit().success());
    }
    let (status, text) = run(&["-accel", "qtest", "-nodefaults", "-cpu", "host"]);
    assert_eq!((status, text.as_str()), (Some(1), "softmmu: CPU model 'host' requires KVM or HVF\n"));
}

#[test]
fn the_command_line_can_be_asked_for_what_it_takes() {
    let mut vm = QTest::builder(PROGRAM).with_qmp().start();
    let rtc = vm.qmp(r#"{"execute": "query-command-line-options", "arguments": {"option": "rtc"}}"#);
    let parameter = |name| serde_json::json!({"name": name, "type": "string"});
    let parameters = ["driftfix", "clock", "base"].map(parameter);
    assert_eq!(rtc, serde_json::json!([{"option": "rtc", "parameters": parameters}]));
    let all = vm.qmp(r#"{"execute": "query-command-line-options"}"#);
    for option in ["machine", "smp-opts", "memory", "chardev", "drive", "sandbox"] {
        assert!(all.as_array().unwrap().iter().any(|o| o["option"] == option), "{option}");
    }
    let drive = all.as_array().unwrap().iter().find(|o| o["option"] == "drive").unwrap();
    let names: Vec<_> = drive["parameters"].as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    for name in ["copy-on-read", "throttling.group", "throttling.iops-total-max-length"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    let none = vm.qmp_raw(r#"{"execute": "query-command-line-options", "arguments": {"option": "foo"}}"#);
    assert_eq!(none["error"]["desc"], "invalid option name: foo");
}
