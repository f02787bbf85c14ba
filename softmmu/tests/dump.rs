//! `dump-guest-memory`: core files of a stopped guest, as gdb and this test read them.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{guest, wait_until};
use libqtest::QTest;
use pack::Format;
use serde_json::{Value, json};

/// A guest that counts in long mode, with 16 MiB and a second CPU.
fn start(arguments: &[&str]) -> (QTest, tempfile::TempDir) {
    let kernel = guest("debug", Format::Pvh);
    let vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-display", "none", "-m", "16", "-device", "vmcoreinfo", "-device"])
        .args(["isa-debug-exit,iobase=0xf4,iosize=0x4", "-kernel", kernel.to_str().expect("UTF-8")])
        .args(arguments)
        .accelerator(Some("kvm"))
        .with_qmp()
        .start();
    (vm, tempfile::tempdir().expect("a temporary directory"))
}

fn command(vm: &mut QTest, name: &str, arguments: Value) -> Value {
    vm.qmp_raw(&json!({ "execute": name, "arguments": arguments }).to_string())
}

fn dump(vm: &mut QTest, file: &Path, mut more: Value) -> Value {
    more["protocol"] = format!("file:{}", file.display()).into();
    if more.get("paging").is_none() {
        more["paging"] = false.into();
    }
    command(vm, "dump-guest-memory", more)
}

/// Waits until the guest is past its start.
fn run_to_long_mode(vm: &mut QTest) {
    const LMA: u64 = 1 << 10;
    wait_until("long mode", || {
        let line = json!({ "command-line": "info registers" });
        let answer = command(vm, "human-monitor-command", line);
        let text = answer["return"].as_str().unwrap_or_default();
        let efer = text.split("EFER=").nth(1).and_then(|rest| rest.get(..16));
        efer.and_then(|digits| u64::from_str_radix(digits, 16).ok()).is_some_and(|efer| efer & LMA != 0)
    });
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Type, offset, virtual and physical address, and length of each program header of a 64-bit file.
fn headers(core: &[u8]) -> Vec<[u64; 5]> {
    assert_eq!(core[..6], [0x7f, b'E', b'L', b'F', 2, 1]);
    let (first, count) = (number(core, 32, 8) as usize, number(core, 56, 2) as usize);
    let header = |at: usize| {
        [
            number(core, at, 4),
            number(core, at + 8, 8),
            number(core, at + 16, 8),
            number(core, at + 24, 8),
            number(core, at + 32, 8),
        ]
    };
    (0..count).map(|n| header(first + 56 * n)).collect()
}

/// The byte of physical memory that a file has.
fn at(core: &[u8], address: u64) -> Option<u8> {
    let holds = |h: &&[u64; 5]| h[0] == 1 && (h[3]..h[3] + h[4]).contains(&address);
    let header = headers(core);
    let header = header.iter().find(holds)?;
    core.get((header[1] + (address - header[3])) as usize).copied()
}

#[test]
fn a_dump_has_all_memory_and_the_guest_goes_on() {
    let (mut vm, folder) = start(&["-smp", "2"]);
    let file = folder.path().join("core");
    assert_eq!(command(&mut vm, "query-dump", json!({}))["return"]["status"], "none");
    let formats = command(&mut vm, "query-dump-guest-memory-capability", json!({}));
    assert_eq!(formats["return"]["formats"], json!(["elf"]));
    run_to_long_mode(&mut vm);
    assert_eq!(dump(&mut vm, &file, json!({}))["return"], json!({}));
    let names: Vec<_> = vm.take_events().iter().map(|e| e["event"].clone()).collect();
    assert_eq!(names, ["STOP", "DUMP_COMPLETED", "RESUME"]);
    let status = command(&mut vm, "query-dump", json!({}));
    assert_eq!(status["return"]["status"], "completed");
    assert_eq!(status["return"]["completed"], status["return"]["total"]);
    assert_eq!(command(&mut vm, "query-status", json!({}))["return"]["status"], "running");
    let core = fs::read(&file).expect("the dump");
    let headers = headers(&core);
    assert_eq!((headers[0][0], headers[1][0], headers[1][3]), (4, 1, 0));
    let total: u64 = headers[1..].iter().map(|h| h[4]).sum();
    assert_eq!(status["return"]["total"], total);
    assert!(total >= 16 << 20);
    assert_eq!(core.len() as u64, headers[1][1] + total);
    // Two CPUs with two notes each.
    assert_eq!(headers[0][4], 2 * (20 + 336 + 20 + 440));
    command(&mut vm, "stop", json!({}));
    vm.memwrite(0x90_0000, b"mark");
    assert_eq!(dump(&mut vm, &file, json!({ "detach": true }))["return"], json!({}));
    wait_until("the dump", || command(&mut vm, "query-dump", json!({}))["return"]["status"] == "completed");
    assert_eq!(command(&mut vm, "query-status", json!({}))["return"]["status"], "paused");
    let core = fs::read(&file).expect("the dump");
    let bytes: Option<Vec<u8>> = (0..4).map(|n| at(&core, 0x90_0000 + n)).collect();
    assert_eq!(bytes.as_deref(), Some(&b"mark"[..]));
}

#[test]
fn a_range_and_the_guests_own_addresses() {
    let (mut vm, folder) = start(&[]);
    let file = folder.path().join("core");
    run_to_long_mode(&mut vm);
    let range = json!({ "begin": 0x10_0000, "length": 0x2000 });
    assert_eq!(dump(&mut vm, &file, range)["return"], json!({}));
    let core = fs::read(&file).expect("the dump");
    let headers_of_range = headers(&core);
    assert_eq!(headers_of_range.len(), 2);
    assert_eq!(headers_of_range[1][2..], [0x10_0000, 0x10_0000, 0x2000]);
    assert_eq!(core.len() as u64, headers_of_range[1][1] + 0x2000);
    assert_eq!(dump(&mut vm, &file, json!({ "paging": true }))["return"], json!({}));
    let core = fs::read(&file).expect("the dump");
    // The guest's tables show memory where it is.
    assert!(headers(&core)[1..].iter().all(|h| h[2] == h[3]), "{:x?}", headers(&core));
    assert!(at(&core, 0x10_0000).is_some());
}

fn gdb(core: &Path, commands: &[&str]) -> String {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", "set pagination off", "-ex"])
        .arg(format!("core-file {}", core.display()));
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let output = gdb.output().expect("gdb is installed: cargo xtask test installs it");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn debians_gdb_reads_it() {
    let (mut vm, folder) = start(&["-smp", "2"]);
    let file = folder.path().join("core");
    run_to_long_mode(&mut vm);
    command(&mut vm, "stop", json!({}));
    vm.memwrite(0x90_0000, &0x1234_5678_u32.to_le_bytes());
    assert_eq!(dump(&mut vm, &file, json!({}))["return"], json!({}));
    let line = json!({ "command-line": "p/x $eip" });
    let rip = command(&mut vm, "human-monitor-command", line)["return"].as_str().map(|t| t.trim().to_owned());
    let text = gdb(&file, &["info threads", "p/x $rip", "x/1xw 0x900000"]);
    assert!(text.contains("= ") && rip.is_some_and(|rip| text.contains(&rip)), "{text}");
    assert!(text.contains("0x900000:\t0x12345678"), "{text}");
    assert!(
        text.lines().filter(|line| line.contains("LWP") || line.contains("Thread")).count() >= 2,
        "{text}"
    );
}

#[test]
fn what_is_asked_wrong_is_refused() {
    let (mut vm, folder) = start(&["-S"]);
    let file = folder.path().join("core");
    let mut refused = |arguments: Value| -> String {
        let answer = dump(&mut vm, &file, arguments);
        answer["error"]["desc"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(refused(json!({ "begin": 0 })), "Parameter 'length' is missing");
    assert_eq!(refused(json!({ "length": 1 })), "Parameter 'begin' is missing");
    assert_eq!(refused(json!({ "begin": 0, "length": 0 })), "Invalid parameter 'length'");
    assert_eq!(refused(json!({ "begin": 1_u64 << 40, "length": 1 })), "dump: no guest memory to dump");
    assert_eq!(refused(json!({ "format": "kdump-lzo" })), "kdump-lzo is not available now");
    assert_eq!(
        refused(json!({ "format": "kdump-zlib", "paging": true })),
        "kdump-compressed format doesn't support paging or filter"
    );
    let other = |vm: &mut QTest, protocol: &str| {
        let answer = command(vm, "dump-guest-memory", json!({ "paging": false, "protocol": protocol }));
        answer["error"]["desc"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(other(&mut vm, "tape"), "Invalid parameter 'protocol'");
    assert_eq!(other(&mut vm, "fd:x"), "File descriptor named 'x' has not been found");
    assert_eq!(
        other(&mut vm, "file:/nosuch/file"),
        "Could not open '/nosuch/file': No such file or directory"
    );
    assert_eq!(other(&mut vm, "file:/dev/full"), "dump: failed to write elf header: No space left on device");
    assert_eq!(command(&mut vm, "query-dump", json!({}))["return"]["status"], "failed");
    let status = json!({ "command-line": "info dump" });
    assert_eq!(command(&mut vm, "human-monitor-command", status)["return"], "Status: failed\r\n");
}
