//! Limits of a disk's requests over qtest, whose clock says how many may pass.

#[path = "common/disk.rs"]
mod disk;

use disk::*;
use serde_json::{Value, json};

const MS: u64 = 1_000_000;

/// A disk with limits, of a machine that runs.
fn limited(limits: &str) -> (tempfile::TempDir, Disk) {
    let (folder, path) = image("raw", "1M");
    let mut disk = Disk::new(&format!("file={path},format=raw,{limits}"), "", &[]);
    disk.qmp("cont", json!({}));
    (folder, disk)
}

fn begin_write(disk: &mut Disk, sector: u64) {
    disk.begin(OUT, sector, &[sector as u8; 512], &[(DATA, 512, false)]);
}

/// Whether the request that was begun is held back.
fn is_held(disk: &mut Disk) -> bool {
    // An answer to it means that the main loop went round.
    disk.qmp("query-status", json!({}));
    disk.queue.used(&mut disk.vm).is_none()
}

fn inserted(disk: &mut Disk) -> Value {
    disk.qmp("query-block", json!({}))[0]["inserted"].take()
}

/// With ten a second one may come at once, and a second makes the bucket too full for a third.
fn write_two(disk: &mut Disk) {
    for sector in 0..2 {
        begin_write(disk, sector);
        assert_eq!(disk.end(), 0);
    }
}

#[test]
fn what_is_too_much_waits_for_its_time() {
    let (_folder, mut disk) = limited("throttling.iops-total=10,throttling.group=g");
    write_two(&mut disk);
    begin_write(&mut disk, 2);
    assert!(is_held(&mut disk));
    disk.vm.clock_step(50 * MS);
    assert!(is_held(&mut disk));
    disk.vm.clock_step(60 * MS);
    assert_eq!(disk.end(), 0);
    let told = inserted(&mut disk);
    assert_eq!((&told["iops"], &told["bps"], &told["group"]), (&json!(10), &json!(0), &json!("g")));
    assert_eq!(told.get("iops_max"), None);
    assert_eq!(disk.flush(), 0, "flushes are not limited");
}

#[test]
fn limits_are_changed_and_taken_away() {
    let (_folder, mut disk) = limited("iops_wr=10,iops_wr_max=10");
    let told = inserted(&mut disk);
    assert_eq!(
        (&told["iops_wr"], &told["iops_wr_max"], &told["group"]),
        (&json!(10), &json!(10), &json!("d0"))
    );
    for sector in 0..11 {
        begin_write(&mut disk, sector);
        assert_eq!(disk.end(), 0, "within the burst");
    }
    begin_write(&mut disk, 12);
    assert!(is_held(&mut disk));
    assert_eq!(disk.read(0, 512).0, 0, "reads are not limited");
    let none =
        json!({ "device": "d0", "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0 });
    disk.qmp("block_set_io_throttle", none);
    assert_eq!(disk.end(), 0);
    assert_eq!(inserted(&mut disk).get("group"), None);
}

#[test]
fn a_machine_that_stops_waits_for_nobody() {
    let (_folder, mut disk) = limited("throttling.bps-write=100");
    begin_write(&mut disk, 0);
    assert_eq!(disk.end(), 0);
    begin_write(&mut disk, 1);
    assert!(is_held(&mut disk));
    disk.qmp("stop", json!({}));
    assert_eq!(disk.end(), 0);
}
