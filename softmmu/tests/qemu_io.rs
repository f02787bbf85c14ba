//! Drives from the command line and the monitor: `qemu-io`, nested options of `-drive`, and what is said of mistakes.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Ended, Running, softmmu};
use libqtest::QTest;
use serde_json::json;

/// Runs a machine without a guest, types `commands` at its monitor, and waits for its end.
fn monitor(arguments: &[&str], commands: &[&str]) -> Ended {
    let bare = ["-nodefaults", "-display", "none", "-accel", "qtest", "-monitor", "stdio"];
    let mut running = Running::start(softmmu(bare).args(arguments).stdin(Stdio::piped()));
    let typed: String = commands.iter().map(|command| format!("{command}\n")).collect();
    let mut stdin = running.child.stdin.take().expect("a pipe");
    // What ends at once does not read.
    let _ = stdin.write_all(format!("{typed}quit\n").as_bytes());
    drop(stdin);
    running.wait()
}

/// The same for the drive `d`, with commands of `qemu-io`.
fn qemu_io(drive: &str, commands: &[&str]) -> String {
    let commands: Vec<_> = commands.iter().map(|command| format!("qemu-io d \"{command}\"")).collect();
    let commands: Vec<_> = commands.iter().map(String::as_str).collect();
    let ended = monitor(&["-drive", &format!("if=none,id=d,{drive}")], &commands);
    assert_eq!((ended.status, &*ended.stderr), (Some(0), ""), "{ended:?}");
    ended.stdout.replace('\r', "")
}

#[track_caller]
fn has(screen: &str, line: &str) {
    assert!(screen.contains(&format!("{line}\n")), "no {line:?} in {screen}");
}

fn qemu_img(arguments: &[&str]) {
    let status = Command::new("qemu-img").args(arguments).status().expect("qemu-img (package qemu-utils)");
    assert!(status.success(), "qemu-img {arguments:?}");
}

/// A file of zeroes; its path.
fn image(folder: &Path, name: &str, size: usize) -> String {
    let path = folder.join(name);
    fs::write(&path, vec![0; size]).expect("a file");
    path.to_string_lossy().into_owned()
}

#[test]
fn what_is_written_is_on_the_disk_and_is_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = image(folder.path(), "disk", 1 << 20);
    let screen = qemu_io(
        &format!("file={path},format=raw"),
        &[
            "write -P 0x11 0 64k",
            "w -z 0 4k",
            "read -P 0x11 4k 60k",
            "read -P 0x11 -s 4k -l 1k 0 8k",
            "read -v -P 0x12 4k 16",
            "aio_write -P 34 128k 2k 2k",
            "aio_flush",
            "aio_read -q -P 35 128k 4k",
            "aio_flush",
            "discard 192k 64k",
            "flush",
            "truncate 2M",
            "length",
            "map",
            "alloc 4k 1k",
        ],
    );
    for line in [
        "wrote 65536/65536 bytes at offset 0",
        "wrote 4096/4096 bytes at offset 0",
        "read 61440/61440 bytes at offset 4096",
        "read 8192/8192 bytes at offset 0",
        "Pattern verification failed at offset 4096, 16 bytes",
        "00001000:  11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11  ................",
        "wrote 4096/4096 bytes at offset 131072",
        "Pattern verification failed at offset 131072, 4096 bytes",
        "discard 65536/65536 bytes at offset 196608",
        "2 MiB",
        "2 MiB (0x200000) bytes     allocated at offset 0 bytes (0x0)",
        "1024/1024 bytes allocated at offset 4 KiB",
    ] {
        has(&screen, line);
    }
    assert_eq!(screen.matches("Pattern verification failed").count(), 2, "{screen}");
    assert!(screen.contains("64 KiB, 1 ops; "), "{screen}");
    let bytes = fs::read(&path).expect("the file");
    assert_eq!(bytes.len(), 2 << 20);
    let is = |range: std::ops::Range<usize>, byte: u8| bytes[range].iter().all(|b| *b == byte);
    assert!(is(0..4096, 0) && is(4096..65536, 0x11) && is(65536..131_072, 0));
    assert!(is(131_072..135_168, 34) && is(135_168..2 << 20, 0));
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = image(folder.path(), "disk", 1 << 20);
    let screen = qemu_io(
        &format!("file={path},format=raw"),
        &[
            "read 1M 512",
            "write 2M 1",
            "write -u 0 1",
            "write -P 256 0 1",
            "write -P 1 0 3G",
            "read 0 1x",
            "read -P 1 -s 1k 0 512",
            "read 0",
            "break nosuch tag",
            "resume tag",
            "nosuch 1",
            "aio_write -i 0 512",
        ],
    );
    for line in [
        "read failed: Input/output error",
        "write failed: Input/output error",
        "-u requires -z to be specified",
        "256 is not a valid pattern byte",
        "length cannot exceed 2147483136, given 3G",
        "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- 1x",
        "pattern verification range exceeds end of read data",
        "read [-Cqv] [-P pattern [-s off] [-l len]] off len -- reads a number of bytes at a specified offset",
        "Could not set breakpoint: No such file or directory",
        "Could not resume request: Operation not supported",
        "command \"nosuch\" not found",
        "injecting invalid write request",
    ] {
        has(&screen, line);
    }
    assert_eq!(fs::read(&path).expect("the file"), vec![0; 1 << 20]);
    let screen = qemu_io(&format!("file={path},format=raw,read-only=on"), &["write 0 512", "read 0 512"]);
    has(&screen, "Block node is read-only");
    has(&screen, "read 512/512 bytes at offset 0");
    let screen = qemu_io("", &["read 0 512", "length"]);
    has(&screen, "read failed: No medium found");
    has(&screen, "getlength: No medium found");
}

#[test]
fn a_node_and_a_device_can_be_meant_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = image(folder.path(), "disk", 1 << 20);
    let node = format!("driver=raw,node-name=n,file.driver=file,file.filename={path}");
    // By its second name.
    let device = ["-blockdev", &node, "-device", "virtio-blk,drive=n,id=disk0"];
    let ended = monitor(
        &device,
        &[
            "qemu-io n \"write -P 7 0 512\"",
            "qemu-io -d disk0 \"read -P 7 0 512\"",
            "qemu-io nosuch \"read 0 512\"",
            "qemu-io -d nosuch \"read 0 512\"",
            "info qtree",
        ],
    );
    let screen = ended.stdout.replace('\r', "");
    has(&screen, "wrote 512/512 bytes at offset 0");
    has(&screen, "read 512/512 bytes at offset 0");
    has(&screen, "Error: Cannot find device='nosuch' nor node-name='nosuch'");
    has(&screen, "Error: Device 'nosuch' not found");
    assert!(screen.contains("dev: virtio-blk-pci, id \"disk0\"") && !screen.contains("Pattern"), "{screen}");
    assert_eq!(fs::read(&path).expect("the file")[..512], [7; 512]);
    let listed = common::run(&mut softmmu(["-device", "help"])).stdout;
    assert!(listed.contains("name \"virtio-blk-pci\", bus PCI, alias \"virtio-blk\""), "{listed}");
    let listed = common::run(&mut softmmu(["-device", "virtio-blk,help"])).stdout;
    assert!(listed.starts_with("virtio-blk-pci options:\n"), "{listed}");
}

#[test]
fn an_empty_file_that_grows_has_its_size_and_a_first_block() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    for cache in ["none", "writeback"] {
        let path = image(folder.path(), cache, 0);
        let screen = qemu_io(&format!("file={path},format=raw,cache={cache}"), &["truncate 1M", "length"]);
        has(&screen, "1 MiB");
        assert_eq!(fs::read(&path).expect("the file"), vec![0; 1 << 20], "{cache}");
    }
}

/// A chain of images `top`, `middle`, `base`, the last one raw.
fn chain(folder: &Path) -> [String; 3] {
    let base = image(folder, "base", 1 << 20);
    let [top, middle] = ["top", "middle"].map(|name| folder.join(name).to_string_lossy().into_owned());
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &base, &middle]);
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "middle", &top]);
    [top, middle, base]
}

#[test]
fn options_of_nodes_below_leave_drivers_to_be_found_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let [top, middle, base] = chain(folder.path());
    let shown = |drive: &str| {
        let ended =
            monitor(&["-drive", &format!("if=none,id=d,{drive}")], &["info block -n", "info block -v"]);
        assert_eq!((ended.status, &*ended.stderr), (Some(0), ""), "{drive}: {ended:?}");
        ended.stdout.replace('\r', "")
    };
    let screen = shown(&format!("file={top},backing.node-name=mid,backing.backing.node-name=last"));
    has(&screen, &format!("mid: {middle} (qcow2, read-only)"));
    has(&screen, &format!("last: {base} (raw, read-only)"));
    let screen = shown(&format!("file={top},backing.file.filename={base},backing.node-name=other"));
    has(&screen, &format!("other: {base} (raw, read-only)"));
    assert!(!screen.contains(&middle), "{screen}");
    // The name says what was overridden.
    let file = |name: &str| format!("{{\"driver\":\"file\",\"filename\":\"{name}\"}}");
    let (below, own) = (file(&base), file(&top));
    let name = format!(
        "json:{{\"backing\":{{\"driver\":\"raw\",\"file\":{below}}},\"driver\":\"qcow2\",\"file\":{own}}}"
    );
    assert!(screen.contains(&name), "{name} in {screen}");
    // A node is found without -n as well.
    let drive = format!("if=none,id=d,file={top},file.node-name=f,backing.node-name=mid");
    let screen = monitor(&["-drive", &drive], &["info block mid", "info block f"]).stdout.replace('\r', "");
    has(&screen, &format!("mid: {middle} (qcow2, read-only)"));
    has(&screen, &format!("f: {top} (file)"));
    let screen = shown(&format!("file={base},driver=raw,file.driver=raw,file.node-name=in,file.offset=512k"));
    assert!(screen.contains("in: json:{\"driver\":\"raw\"") && screen.contains("(524288 bytes)"), "{screen}");
    let screen = shown("driver=null-co,size=3M,node-name=null");
    assert!(screen.contains("null: json:{") && screen.contains("virtual size: 3 MiB"), "{screen}");
    has(&shown("driver=null-co,node-name=null"), "null: null-co:// (null-co)");
}

/// As libguestfs opens an overlay of an image that another machine may have.
#[test]
fn what_is_said_of_a_backing_files_file_goes_with_the_name_that_the_image_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let [top, middle, _] = chain(folder.path());
    let other = format!("if=none,file={middle},format=qcow2");
    let other = libqtest::QTest::start(env!("CARGO_BIN_EXE_softmmu"), ["-drive", &other]);
    let open = |locking: &str| {
        let file = format!("file.file.filename={top},file.driver=qcow2,file.node-name=image");
        let drive = format!("if=none,id=d,read-only=on,{file},file.backing.file.locking={locking}");
        monitor(&["-drive", &drive], &["info block -n"])
    };
    let ended = open("on");
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("Failed to get shared \"write\" lock"), "{}", ended.stderr);
    let ended = open("off");
    assert_eq!((ended.status, &*ended.stderr), (Some(0), ""), "{ended:?}");
    has(&ended.stdout.replace('\r', ""), &format!("image: {top} (qcow2, read-only)"));
    assert!(other.quit().success());
}

#[test]
fn mistakes_in_options_of_drives_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = image(folder.path(), "disk", 1 << 20);
    let text = "Block format 'raw' does not support the option 'foo'";
    let own = folder.path().to_string_lossy();
    for (options, message) in [
        (format!("file={path},format=raw,foo=1"), text.to_owned()),
        (format!("file={path},driver=raw,file.driver=raw,file.foo=1"), text.to_owned()),
        (
            format!("file={path},format=raw,file.foo=1"),
            "Block protocol 'file' doesn't support the option 'foo'".to_owned(),
        ),
        (
            format!("file={path},format=raw,backing.driver=null-co"),
            "Driver doesn't support backing files".to_owned(),
        ),
        ("driver=file".to_owned(), "The 'file' block driver requires a file name".to_owned()),
        ("driver=file,filename=".to_owned(), "The 'file' block driver requires a file name".to_owned()),
        ("driver=raw".to_owned(), "A block device must be specified for \"file\"".to_owned()),
        ("file.driver=nosuch".to_owned(), "Unknown driver 'nosuch'".to_owned()),
        (
            "file.filename=no:where".to_owned(),
            "Could not open 'no:where': No such file or directory".to_owned(),
        ),
        (
            format!("file={path},format=raw,readonly=on,read-only=off"),
            "'read-only' and its alias 'readonly' can't be used at the same time".to_owned(),
        ),
        (
            format!("file={path},format=raw,iops=-1"),
            "bps/iops/max values must be within [0, 1000000000000000]".to_owned(),
        ),
        (format!("file={path},format=qcow2"), "Image is not in qcow2 format".to_owned()),
        (
            format!("file={path},file.filename={path}"),
            "Can't specify 'file' and 'filename' options at the same time".to_owned(),
        ),
        (format!("file={path},format=raw,aio=foo"), "invalid aio option".to_owned()),
        (
            format!("file={path},format=raw,offset=1x"),
            "Parameter 'offset' expects a non-negative number below 2^64".to_owned(),
        ),
        (
            "file=null-co://,force-share=on".to_owned(),
            "force-share=on can only be used with read-only images".to_owned(),
        ),
        (format!("file={own},format=raw"), format!("'file' driver requires '{own}' to be a regular file")),
    ] {
        let ended = monitor(&["-drive", &format!("if=none,{options}")], &[]);
        let line = format!("softmmu: -drive if=none,{options}: {message}\n");
        assert_eq!((ended.status, ended.stderr), (Some(1), line));
    }
}

#[test]
fn two_devices_have_one_medium_only_where_both_let_the_other_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = image(folder.path(), "disk", 1 << 20);
    let with = |node: &str, first: &str, second: &str| {
        let node = format!("driver=raw,node-name=n,file.driver=file,file.filename={path}{node}");
        let first = format!("virtio-blk-pci,drive=n,id=a{first}");
        let second = format!("virtio-blk-pci,drive=n,id=b{second}");
        let ended = monitor(&["-blockdev", &node, "-device", &first, "-device", &second], &[]);
        (ended.status, ended.stderr.lines().last().unwrap_or_default().to_owned())
    };
    let refused = |second: &str, writer: &str, alone: &str| {
        let user = |id: &str| {
            format!("block device '/machine/peripheral/{id}/virtio-backend' (uses node 'n' as 'root' child)")
        };
        let (writer, alone) = (user(writer), user(alone));
        let line = format!(
            "softmmu: -device virtio-blk-pci,drive=n,id=b{second}: Permission conflict on node 'n': permissions 'write' \
             are both required by {writer} and unshared by {alone}."
        );
        (Some(1), line)
    };
    let fine = (Some(0), String::new());
    assert_eq!(with("", "", ""), refused("", "a", "b"));
    assert_eq!(with("", ",share-rw=on", ""), refused("", "a", "b"));
    assert_eq!(with("", "", ",share-rw=on"), refused(",share-rw=on", "b", "a"));
    assert_eq!(with("", ",share-rw=on", ",share-rw=on"), fine);
    assert_eq!(with(",read-only=on", "", ""), fine);
}

#[test]
fn averages_are_kept_of_the_intervals_that_were_asked_for() {
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .with_qmp()
        .args(["-drive", "if=none,id=d,driver=null-co,stats-intervals.0=10,stats-intervals.1=60"])
        .start();
    vm.clock_step(20_000_000_000);
    for command in ["aio_read 0 4k", "aio_read 0 4k", "aio_write 0 64k", "aio_flush"] {
        let line = format!("qemu-io d \"{command}\"");
        let arguments = json!({ "command-line": line });
        vm.qmp(&format!("{{'execute': 'human-monitor-command', 'arguments': {arguments}}}"));
    }
    let mut timed = |step: u64| {
        vm.clock_step(step);
        vm.qmp("{'execute': 'query-blockstats'}")[0]["stats"].clone()
    };
    let stats = timed(1_000_000_000);
    assert_eq!(
        (&stats["idle_time_ns"], &stats["rd_total_time_ns"]),
        (&1_000_000_000.into(), &2_000_000.into())
    );
    let [short, long] = [&stats["timed_stats"][0], &stats["timed_stats"][1]];
    assert_eq!((&short["interval_length"], &long["interval_length"]), (&10.into(), &60.into()));
    for interval in [short, long] {
        for name in ["min_rd", "max_rd", "avg_rd", "min_wr", "max_wr", "avg_wr", "max_flush"] {
            assert_eq!(interval[format!("{name}_latency_ns")], 1_000_000, "{name} in {interval}");
        }
        let depth = |name: &str| interval[name].as_f64().expect("a number");
        assert!(depth("avg_rd_queue_depth") > depth("avg_wr_queue_depth"), "{interval}");
    }
    let stats = timed(20_000_000_000);
    assert_eq!(stats["timed_stats"][0]["max_rd_latency_ns"], 0);
    assert_eq!(stats["timed_stats"][1]["max_rd_latency_ns"], 1_000_000);
    let mistake = monitor(&["-drive", "if=none,driver=null-co,stats-intervals.0=0"], &[]);
    assert!(mistake.stderr.ends_with(": Invalid interval length: 0\n"), "{mistake:?}");
}
