//! `virtio-blk-pci` over qtest: requests of every kind, bad ones, errors that stop the machine, sizes that change.

#[path = "common/disk.rs"]
mod disk;

use std::path::Path;
use std::process::Command;

use disk::*;
use serde_json::json;

#[test]
fn what_is_written_is_read_and_is_in_the_image() {
    for (format, options, thread) in [
        ("raw", "", ""),
        ("raw", ",aio=io_uring,cache=none", ""),
        ("raw", ",aio=native,cache=none", ",iothread=io0"),
        ("raw", ",aio=native,cache=directsync", ""),
        ("qcow2", "", ""),
        ("qcow2", ",aio=io_uring", ""),
        ("qcow2", "", ",iothread=io0"),
    ] {
        let (_folder, path) = image(format, "8M");
        let drive = format!("file={path},format={format}{options}");
        let mut disk = Disk::new(&drive, thread, &["-object", "iothread,id=io0"]);
        let data = pattern(0x5a, 8192);
        assert_eq!(disk.write(1000, &data), 0);
        assert_eq!(disk.read(1000, 8192), (0, data.clone()));
        assert_eq!(disk.read(999, 512), (0, vec![0; 512]));
        assert_eq!(disk.flush(), 0);
        assert!(disk.vm.quit().success());
        if format == "qcow2" {
            check(&path);
            let raw = format!("{path}.raw");
            let arguments = ["convert", "-O", "raw", path.as_str(), raw.as_str()];
            assert!(Command::new("qemu-img").args(arguments).status().expect("qemu-img").success());
            assert_eq!(std::fs::read(&raw).expect("the copy")[512_000..520_192], data);
        } else {
            assert_eq!(std::fs::read(&path).expect("the image")[512_000..520_192], data);
        }
    }
}

#[test]
fn zeroes_discards_and_the_name() {
    let (_folder, path) = image("qcow2", "8M");
    let mut disk = Disk::new(&format!("file={path},discard=unmap"), ",serial=a-name", &[]);
    assert_eq!(disk.write(0, &pattern(1, 65536)), 0);
    assert_eq!(disk.range(WRITE_ZEROES, 8, 8, 0), 0);
    let (status, data) = disk.read(0, 65536);
    assert_eq!(
        (status, &data[..4096], &data[8192..]),
        (0, &pattern(1, 4096)[..], &pattern(1, 65536)[8192..])
    );
    assert!(data[4096..8192].iter().all(|byte| *byte == 0));
    assert_eq!(disk.range(DISCARD, 0, 128, 0), 0);
    assert_eq!(disk.read(0, 512), (0, vec![0; 512]));
    assert_eq!(disk.range(DISCARD, 0, 1, 1), 2, "a discard has no flags");
    assert_eq!(disk.range(WRITE_ZEROES, 0, 1, 4), 2, "nor are there others");
    assert_eq!(disk.range(DISCARD, 16384, 1, 0), 1, "that is beyond the end");
    disk.begin(GET_ID, 0, &[0xee; 20], &[(DATA, 20, true)]);
    assert_eq!(disk.end(), 0);
    assert_eq!(&disk.vm.memread(DATA, 8), b"a-name\0\xee");
    disk.begin(99, 0, &[], &[]);
    assert_eq!(disk.end(), 2, "there is no such request");
    assert!(disk.vm.quit().success());
    check(&path);
}

#[test]
fn requests_beyond_the_end_fail_and_chains_without_headers_break_it() {
    let mut disk = Disk::new("file=null-co://,format=raw,file.size=1M,file.read-zeroes=on", "", &[]);
    assert_eq!(disk.read(2047, 512), (0, vec![0; 512]));
    assert_eq!(disk.read(2048, 512).0, 1);
    assert_eq!(disk.read(u64::MAX, 512).0, 1);
    assert_eq!(disk.read(2047, 1024).0, 1);
    assert_eq!(disk.read(0, 100).0, 1, "that is no sector");
    disk.queue.add(&mut disk.vm, &[(HEADER, 16, false)]);
    disk.queue.kick(&mut disk.vm);
    disk.device.wait_broken(&mut disk.vm);
    let mut again = Disk::driven(disk.vm);
    assert_eq!(again.read(0, 512), (0, vec![0; 512]));
}

/// The counts of `query-blockstats`: invalid and failed reads, whether those count as accesses, and whether there was one.
fn counts(disk: &mut Disk) -> (u64, u64, bool, bool, bool) {
    let stats = disk.qmp("query-blockstats", json!({}))[0]["stats"].take();
    let number = |name: &str| stats[name].as_u64().expect("a number");
    let accounted = |name: &str| stats[name].as_bool().expect("a switch");
    (
        number("invalid_rd_operations"),
        number("failed_rd_operations"),
        accounted("account_invalid"),
        accounted("account_failed"),
        stats.get("idle_time_ns").is_some(),
    )
}

#[test]
fn what_cannot_be_is_counted_as_the_user_wants() {
    let null = "file=null-co://,format=raw,file.size=1M";
    let mut disk = Disk::new(null, "", &[]);
    assert_eq!(counts(&mut disk), (0, 0, true, true, false));
    assert_eq!(disk.read(2048, 512).0, 1);
    assert_eq!(counts(&mut disk), (1, 0, true, true, true));
    let mut disk = Disk::new(&format!("{null},stats-account-failed=off"), ",account-invalid=off", &[]);
    assert_eq!(disk.read(2048, 512).0, 1);
    assert_eq!(disk.range(WRITE_ZEROES, 2048, 1, 0), 1);
    assert_eq!(counts(&mut disk), (1, 0, false, false, false));
    let stats = disk.qmp("query-blockstats", json!({}));
    assert_eq!(stats[0]["stats"]["invalid_wr_operations"], 1);
}

#[test]
fn cylinders_are_those_of_the_partitions_or_the_users() {
    let (_folder, path) = image("raw", "32M");
    let geometry = |more: &str| {
        let disk = &mut Disk::new(&format!("file={path},format=raw"), more, &[]);
        let config = disk.device.device;
        (disk.vm.readw(config + 16), disk.vm.readb(config + 18), disk.vm.readb(config + 19))
    };
    assert_eq!(geometry(""), (65, 16, 63));
    let mut bytes = std::fs::read(&path).expect("the image");
    bytes[0x1be + 5..0x1be + 7].copy_from_slice(&[7, 32]);
    bytes[0x1be + 12] = 1;
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(&path, bytes).expect("the image");
    assert_eq!(geometry(""), (256, 8, 32));
    assert_eq!(geometry(",cyls=300,heads=5,secs=7"), (300, 5, 7));
}

#[test]
fn a_disk_that_cannot_be_written_says_so() {
    let (_folder, path) = image("raw", "1M");
    let mut disk = Disk::new(&format!("file={path},format=raw,readonly=on"), "", &[]);
    assert_ne!(disk.device.features(&mut disk.vm) & F_RO, 0);
    assert_eq!(disk.write(0, &[1; 512]), 1);
    assert_eq!(std::fs::read(&path).expect("the image")[0], 0);
}

#[test]
fn another_size_is_told() {
    let (_folder, path) = image("qcow2", "1M");
    let mut disk = Disk::new(&format!("file={path}"), "", &[]);
    assert_eq!(disk.vm.readq(disk.device.device), 2048);
    disk.device.read_isr(&mut disk.vm);
    disk.qmp("block_resize", json!({ "device": "d0", "size": 4 << 20 }));
    assert_eq!(disk.vm.readq(disk.device.device), 8192);
    assert_eq!(disk.device.read_isr(&mut disk.vm) & 2, 2, "the driver is interrupted");
    assert_eq!(disk.write(8191, &[7; 512]), 0);
    assert!(disk.vm.quit().success());
    check(&path);
}

/// The host's disk is full: the machine stops, and goes on where it was when there is room.
#[test]
fn a_full_disk_stops_the_machine_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let config = folder.path().join("rules");
    std::fs::write(
        &config,
        "[inject-error]\nevent = \"none\"\nerrno = \"28\"\nsector = \"8\"\nonce = \"on\"\n",
    )
    .expect("a file");
    let (_folder, path) = image("raw", "1M");
    let drive = format!("file=blkdebug:{}:{path},format=raw", config.display());
    let mut disk = Disk::new(&drive, ",rerror=ignore", &[]);
    disk.vm.qmp(r#"{"execute":"cont"}"#);
    assert_eq!(disk.read(8, 512).0, 0, "its error is hidden");
    drop(disk);
    let mut disk = Disk::new(&drive, "", &[]);
    let data = pattern(9, 4096);
    disk.begin(OUT, 8, &data, &[(DATA, 4096, false)]);
    let status = loop {
        let status = disk.qmp("query-status", json!({}));
        if status["running"] == false {
            break status;
        }
    };
    assert_eq!(status["status"], "io-error");
    let events = disk.vm.take_events();
    let event = events.iter().find(|event| event["event"] == "BLOCK_IO_ERROR").expect("the event");
    assert_eq!(event["data"]["action"], "stop");
    assert_eq!(event["data"]["nospace"], true);
    assert_eq!(event["data"]["reason"], "No space left on device");
    assert_eq!(disk.qmp("query-block", json!({}))[0]["io-status"], "nospace");
    assert_eq!(disk.queue.used(&mut disk.vm), None);
    disk.qmp("cont", json!({}));
    assert_eq!(disk.end(), 0);
    assert_eq!(disk.qmp("query-block", json!({}))[0]["io-status"], "ok");
    assert_eq!(disk.flush(), 0);
    assert_eq!(std::fs::read(&path).expect("the image")[4096..8192], data);
}

#[test]
fn users_mistakes_are_named() {
    let (_folder, path) = image("raw", "1M");
    let null = "if=none,id=d0,format=raw,file=null-co://";
    let cases: [(&str, &str, &str); 14] = [
        (null, "virtio-blk-pci", "drive property not set"),
        (null, "virtio-blk-pci,drive=x", "Property 'virtio-blk-device.drive' can't find value 'x'"),
        ("if=none,id=d0", "virtio-blk-pci,drive=d0", "Device needs media, but drive is empty"),
        (null, "virtio-blk-pci,drive=d0,num-queues=0", "num-queues property must be larger than 0"),
        (null, "virtio-blk-pci,drive=d0,queue-size=2", "invalid queue-size property (2), must be > 2"),
        (
            null,
            "virtio-blk-pci,drive=d0,queue-size=100",
            "invalid queue-size property (100), must be a power of 2 (max 1024)",
        ),
        (
            null,
            "virtio-blk-pci,drive=d0,logical_block_size=4096,physical_block_size=512",
            "logical_block_size > physical_block_size not supported",
        ),
        (
            null,
            "virtio-blk-pci,drive=d0,min_io_size=100",
            "min_io_size must be a multiple of logical_block_size",
        ),
        (
            null,
            "virtio-blk-pci,drive=d0,logical_block_size=4k,physical_block_size=4k,discard_granularity=6k",
            "discard_granularity must be a multiple of logical_block_size",
        ),
        (
            null,
            "virtio-blk-pci,drive=d0,logical_block_size=3",
            "Property .logical_block_size doesn't take value 3 (minimum: 512, maximum: 2097152)",
        ),
        (
            null,
            "virtio-blk-pci,drive=d0,physical_block_size=1536",
            "Property .physical_block_size doesn't take value '1536', it's not a power of 2",
        ),
        (
            null,
            "virtio-blk-pci,drive=d0,opt_io_size=4G",
            "Property virtio-blk-device.opt_io_size doesn't take value 4294967296 (maximum: 4294967295)",
        ),
        (null, "virtio-blk-pci,drive=d0,heads=256,cyls=1,secs=1", "heads must be between 1 and 255"),
        (
            null,
            "virtio-blk-pci,drive=d0,scsi=on",
            "Please set scsi=off for virtio-blk devices in order to use virtio 1.0",
        ),
    ];
    for (drive, device, expected) in cases {
        refused(&["-drive", drive, "-device", device], &format!("softmmu: -device {device}: {expected}"));
    }
    let twice = ["-drive", null, "-device", "virtio-blk-pci,drive=d0", "-device", "virtio-blk-pci,drive=d0"];
    let expected =
        "softmmu: -device virtio-blk-pci,drive=d0: Drive 'd0' is already in use by another block device";
    refused(&twice, expected);
    assert!(Path::new(&path).exists());
}

#[track_caller]
fn refused(arguments: &[&str], expected: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-accel", "qtest", "-nodefaults", "-display", "none"])
        .args(arguments)
        .output()
        .expect("softmmu can be run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((text.trim_end(), output.status.code()), (expected, Some(1)));
}

#[test]
fn another_program_that_writes_is_refused() {
    let (_folder, path) = image("raw", "1M");
    let drive = format!("file={path},format=raw");
    let _disk = Disk::new(&drive, "", &[]);
    let drive = format!("{drive},if=none,id=d0");
    let output = Command::new(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-accel", "qtest", "-nodefaults", "-drive", &drive, "-device", "virtio-blk-pci,drive=d0"])
        .output()
        .expect("softmmu can be run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let hint = format!("Is another process using the image [{path}]?");
    assert!(text.contains("Failed to get \"write\" lock") && text.contains(&hint), "{text}");
}

/// Four blocks made available at once, in another order than they are on the disk; the last lies apart.
fn write_together(disk: &mut Disk) -> [u64; 4] {
    let sectors = [24u64, 8, 16, 64];
    for (slot, sector) in (0u64..).zip(sectors) {
        let (header, data, status) = (HEADER + slot * 16, DATA + slot * 4096, STATUS + slot);
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&OUT.to_le_bytes());
        bytes[8..].copy_from_slice(&sector.to_le_bytes());
        disk.vm.memwrite(header, &bytes);
        disk.vm.memwrite(data, &[sector as u8; 4096]);
        disk.vm.memwrite(status, &[0xff]);
        disk.queue.add(&mut disk.vm, &[(header, 16, false), (data, 4096, false), (status, 1, true)]);
    }
    disk.queue.kick(&mut disk.vm);
    for _ in sectors {
        disk.queue.wait_used(&mut disk.vm);
    }
    assert_eq!(disk.vm.memread(STATUS, 4), [0; 4]);
    sectors
}

#[test]
fn requests_that_follow_each_other_are_merged() {
    for (options, merged) in [("", 2), (",request-merging=off", 0)] {
        let (_folder, path) = image("raw", "1M");
        let mut disk = Disk::new(&format!("file={path},format=raw"), options, &[]);
        disk.qmp("cont", json!({}));
        let sectors = write_together(&mut disk);
        let bytes = std::fs::read(&path).expect("the image");
        for sector in sectors {
            let at = sector as usize * 512;
            assert!(bytes[at..at + 4096].iter().all(|byte| u64::from(*byte) == sector), "{sector}");
        }
        let stats = disk.qmp("query-blockstats", json!({}));
        let stats = &stats[0]["stats"];
        assert_eq!((&stats["wr_merged"], &stats["wr_operations"]), (&json!(merged), &json!(4)), "{options}");
        assert_eq!(stats["wr_bytes"], 4 * 4096);
    }
}
