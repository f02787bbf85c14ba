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
    // What the machine read when it was made is over.
    disk.vm.clock_step(1000 * MS);
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
    let (_folder, mut disk) = limited("iops_wr=1,iops_wr_max=10");
    let told = inserted(&mut disk);
    assert_eq!(
        (&told["iops_wr"], &told["iops_wr_max"], &told["group"]),
        (&json!(1), &json!(10), &json!("d0"))
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

const FILTER: &str = "driver=throttle,throttle-group=g,file.driver=file,file.filename";

#[test]
fn a_filter_is_limited_by_the_group_that_an_object_makes() {
    let (_folder, path) = image("raw", "1M");
    let object = ["-object", "throttle-group,id=g,limits.iops-total=10"];
    let mut disk = Disk::new(&format!("{FILTER}={path}"), "", &object);
    disk.qmp("cont", json!({}));
    write_two(&mut disk);
    begin_write(&mut disk, 2);
    assert!(is_held(&mut disk));
    disk.vm.clock_step(50 * MS);
    assert!(is_held(&mut disk));
    disk.vm.clock_step(60 * MS);
    assert_eq!(disk.end(), 0);
    assert_eq!(disk.flush(), 0, "flushes are not limited");
    begin_write(&mut disk, 3);
    assert!(is_held(&mut disk));
    // Changed limits count from when they are changed.
    let limits =
        json!({ "path": "/objects/g", "property": "limits", "value": { "iops-total": 0, "bps-read": 7 } });
    disk.qmp("qom-set", limits);
    assert_eq!(disk.end(), 0);
    let get = |disk: &mut Disk, name| disk.qmp("qom-get", json!({ "path": "/objects/g", "property": name }));
    let limits = get(&mut disk, "limits");
    assert_eq!((&limits["iops-total"], &limits["bps-read"]), (&json!(0), &json!(7)));
    assert_eq!(limits["bps-read-max-length"], 1);
    assert_eq!(get(&mut disk, "x-bps-read"), json!(7));
    let mut refused = |command: &str, arguments: Value| {
        let answer = disk.vm.qmp_raw(&json!({ "execute": command, "arguments": arguments }).to_string());
        answer["error"]["desc"].as_str().unwrap_or_default().to_owned()
    };
    let set = |name: &str, value: Value| json!({ "path": "/objects/g", "property": name, "value": value });
    assert_eq!(
        refused("qom-set", set("x-bps-read", json!(8))),
        "Property cannot be set after initialization"
    );
    let both = json!({ "bps-total": 1 });
    assert!(refused("qom-set", set("limits", both)).starts_with("bps/iops/max total values and read/write"));
    assert_eq!(refused("object-del", json!({ "id": "g" })), "object 'g' is in use, can not be deleted");
    let same = json!({ "qom-type": "throttle-group", "id": "g" });
    assert!(refused("object-add", same).starts_with("attempt to add duplicate property 'g'"));
    let unknown = json!({ "driver": "throttle", "node-name": "t", "throttle-group": "h", "file": "#none" });
    assert_eq!(refused("blockdev-add", unknown), "Throttle group 'h' does not exist");
}

#[test]
fn a_machine_that_stops_does_not_wait_for_a_filter() {
    let (_folder, path) = image("raw", "1M");
    let object = ["-object", "throttle-group,id=g,x-bps-write=100"];
    let mut disk = Disk::new(&format!("{FILTER}={path}"), "", &object);
    disk.qmp("cont", json!({}));
    begin_write(&mut disk, 0);
    assert_eq!(disk.end(), 0);
    begin_write(&mut disk, 1);
    assert!(is_held(&mut disk));
    disk.qmp("stop", json!({}));
    assert_eq!(disk.end(), 0);
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
