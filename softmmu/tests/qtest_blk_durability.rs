//! What a disk keeps when the program is killed, and when the host's disk is full, over qtest.

#[path = "common/disk.rs"]
mod disk;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::*;
use serde_json::json;

/// What was flushed is in the image after the program was killed, in the middle of a flush perhaps.
fn survives_kills(version: &str, check: fn(&str)) {
    let rounds = std::env::var("KILLS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8);
    for round in 0..rounds {
        let (_folder, path) = image_with(&["-f", "qcow2", "-o", version], "64M");
        let mut disk = Disk::new(&format!("file={path},discard=unmap"), "", &[]);
        let at = |block: u64| block * 37 % 1000 * 64;
        let mut flushed = 0;
        for block in 0..8 + round % 13 {
            assert_eq!(disk.write(at(block), &[block as u8 + 1; 4096]), 0);
            if block % 3 == round % 3 {
                assert_eq!(disk.flush(), 0);
                flushed = block + 1;
            }
        }
        disk.begin(FLUSH, 0, &[], &[]);
        std::thread::sleep(std::time::Duration::from_micros(round * 97 % 5000));
        disk.vm.kill();
        check(&path);
        let bytes = contents(&path);
        for block in 0..flushed {
            let at = (at(block) * 512) as usize;
            let data = &bytes[at..at + 4096];
            assert!(data.iter().all(|byte| *byte == block as u8 + 1), "round {round}, block {block}");
        }
    }
}

/// What an image has, as `qemu-img` reads it.
fn contents(path: &str) -> Vec<u8> {
    let raw = format!("{path}.raw");
    let arguments = ["convert", "-O", "raw", path, raw.as_str()];
    assert!(Command::new("qemu-img").args(arguments).status().expect("qemu-img").success());
    std::fs::read(&raw).expect("the copy")
}

/// Nothing is wrong but that clusters may be counted that nothing refers to. Whether there are such.
fn has_leaks_only(path: &str) -> bool {
    let status = Command::new("qemu-img").args(["check", "-q", path]).status().expect("qemu-img can be run");
    assert!(matches!(status.code(), Some(0 | 3)), "{status}");
    status.code() == Some(3)
}

/// Version 2 has no mark that says so.
fn check_for_leaks_only(path: &str) {
    has_leaks_only(path);
}

/// In the middle of a flush the mark is there by which whoever opens the image repairs it; but for that it is clean.
fn check_by_mark(path: &str) {
    /// The last byte of the incompatible features, and the bit in it (QEMU docs/interop/qcow2.txt).
    const FEATURES: usize = 79;
    const DIRTY: u8 = 1;
    if has_leaks_only(path) {
        let header = std::fs::read(path).expect("the image");
        assert_eq!(header[FEATURES] & DIRTY, DIRTY, "leaks in an image without the mark");
        let repair = Command::new("qemu-img").args(["check", "-q", "-r", "leaks", path]).status();
        assert!(repair.expect("qemu-img can be run").success());
    }
    check(path);
}

#[test]
fn a_kill_loses_nothing_that_was_flushed() {
    survives_kills("compat=1.1", check_by_mark);
}

#[test]
fn a_kill_loses_nothing_that_was_flushed_in_version_2() {
    survives_kills("compat=0.10", check_for_leaks_only);
}

/// Blocks that are written to a disk that has no room for them all.
const BLOCKS: u64 = 24;
const BLOCK: usize = 32 << 10;

/// A program that mounts a small file system, where only it sees it, makes an image there and leaves less room than
/// the guest needs; then it is the program under test.
fn on_a_small_disk(folder: &Path, format: &str) -> PathBuf {
    let place = folder.display();
    let inner = format!(
        "mount -t tmpfs -o size=2m small '{place}/small' && echo $$ >'{place}/pid' &&\n\
         qemu-img create -q -f {format} '{place}/small/image' 2M &&\n\
         head -c 1700k /dev/zero >'{place}/small/filler' && exec '{}' \"$@\"\n",
        env!("CARGO_BIN_EXE_softmmu")
    );
    let program = folder.join("program");
    std::fs::create_dir(folder.join("small")).expect("a folder");
    std::fs::write(folder.join("inner"), inner).expect("a file");
    let outer = format!("#!/bin/sh\nexec unshare -rm sh '{place}/inner' \"$@\"\n");
    std::fs::write(&program, outer).expect("a file");
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it can be run");
    program
}

/// The host's disk is full in truth: the machine stops, goes on when there is room, and has lost nothing.
fn survives_a_full_disk(format: &str) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let program = on_a_small_disk(folder.path(), format);
    let image = folder.path().join("small/image");
    let drive = format!("file={},format={format}", image.display());
    let mut disk = Disk::of_program(&program, &drive, "", &[]);
    disk.qmp("cont", json!({}));
    let pid = std::fs::read_to_string(folder.path().join("pid")).expect("the process");
    let inside = |name: &str| format!("/proc/{}/root{}/small/{name}", pid.trim(), folder.path().display());
    let mut stops = 0;
    for block in 0..BLOCKS {
        let data = vec![block as u8 + 1; BLOCK];
        disk.begin(OUT, block * (BLOCK as u64 / 512), &data, &[(DATA, BLOCK as u32, false)]);
        while disk.queue.used(&mut disk.vm).is_none() {
            let status = disk.qmp("query-status", json!({}));
            if status["status"] == "io-error" {
                let events = disk.vm.take_events();
                let error =
                    events.iter().find(|event| event["event"] == "BLOCK_IO_ERROR").expect("the event");
                assert_eq!(
                    (&error["data"]["nospace"], &error["data"]["action"]),
                    (&json!(true), &json!("stop"))
                );
                stops += 1;
                assert!(stops < 3, "there is room now");
                std::fs::remove_file(inside("filler")).expect("the filler is there once");
                disk.qmp("cont", json!({}));
            }
        }
        assert_eq!(disk.vm.memread(STATUS, 1), [0], "block {block}");
    }
    assert_eq!(stops, 1, "the disk was full");
    assert_eq!(disk.flush(), 0);
    let copy = folder.path().join("copy");
    std::fs::copy(inside("image"), &copy).expect("a copy");
    let bytes = contents(copy.to_str().expect("a path in UTF-8"));
    for (block, data) in bytes.chunks(BLOCK).take(BLOCKS as usize).enumerate() {
        assert!(data.iter().all(|byte| *byte == block as u8 + 1), "block {block}");
    }
}

#[test]
fn a_full_disk_stops_the_machine_with_raw() {
    survives_a_full_disk("raw");
}

#[test]
fn a_full_disk_stops_the_machine_with_qcow2() {
    survives_a_full_disk("qcow2");
}
