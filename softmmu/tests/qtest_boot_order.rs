//! What firmware is told to boot from: `bootindex=` of devices, as paths in fw_cfg.

#[path = "common/fw_cfg.rs"]
mod fw_cfg;

use fw_cfg::file;
use libqtest::QTest;
use serde_json::{Value, json};

fn pc(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(more).with_qmp().start()
}

/// The lines of the file `bootorder`, with what ends it.
fn boot_order(vm: &mut QTest) -> String {
    text(vm, "bootorder")
}

fn text(vm: &mut QTest, name: &str) -> String {
    String::from_utf8(file(vm, name).expect("the file")).expect("text")
}

fn set(vm: &mut QTest, id: &str, index: i32) -> Value {
    let path = format!("/machine/peripheral/{id}");
    let arguments = json!({"path": path, "property": "bootindex", "value": index});
    vm.qmp_raw(&json!({"execute": "qom-set", "arguments": arguments}).to_string())
}

fn reset(vm: &mut QTest) {
    let _ = vm.qmp(r#"{"execute": "system_reset"}"#);
    while !vm.take_events().iter().any(|event| event["event"] == "RESET") {
        let _ = vm.qmp(r#"{"execute": "query-status"}"#);
    }
}

const TWO_DISKS: [&str; 8] = [
    "-blockdev",
    "null-co,node-name=n0",
    "-blockdev",
    "null-co,node-name=n1",
    "-device",
    "virtio-blk-pci,id=a,drive=n0,addr=4,bootindex=2",
    "-device",
    "virtio-blk-pci,id=b,drive=n1,addr=5,bootindex=1",
];

#[test]
fn paths_are_those_of_openfirmware() {
    let mut vm = pc(&[
        "-device",
        "pci-bridge,id=br1,chassis_nr=1,addr=3",
        "-blockdev",
        "null-co,node-name=n0",
        "-blockdev",
        "null-co,node-name=n1",
        "-blockdev",
        "null-co,node-name=n2",
        "-device",
        "virtio-blk-pci,drive=n0,addr=4,bootindex=2",
        "-device",
        "virtio-scsi-pci,addr=5,id=s0",
        "-device",
        "scsi-hd,drive=n1,bus=s0.0,scsi-id=3,lun=2,bootindex=1",
        "-netdev",
        "hubport,hubid=0,id=h0",
        "-device",
        "virtio-net-pci,netdev=h0,bus=br1,addr=6,bootindex=7",
        "-device",
        "virtio-blk-pci,drive=n2,addr=8.1,bootindex=3",
        "-device",
        "scsi-cd,bus=s0.0,bootindex=0,lun=1",
        "-boot",
        "strict=on",
    ]);
    // As QEMU 7.2 lists them, but for the function's number.
    let expected = "/pci@i0cf8/scsi@5/channel@0/disk@0,1\n\
        /pci@i0cf8/scsi@5/channel@0/disk@3,2\n\
        /pci@i0cf8/scsi@4/disk@0,0\n\
        /pci@i0cf8/scsi@8,1/disk@0,0\n\
        /pci@i0cf8/pci-bridge@3/ethernet@6/ethernet-phy@0\n\
        HALT\0";
    assert_eq!(boot_order(&mut vm), expected);
}

#[test]
fn the_order_can_change_and_shows_after_a_reset() {
    let mut vm = pc(&TWO_DISKS);
    let (a, b) = ("/pci@i0cf8/scsi@4/disk@0,0", "/pci@i0cf8/scsi@5/disk@0,0");
    assert_eq!(boot_order(&mut vm), format!("{b}\n{a}\0"));
    assert_eq!(set(&mut vm, "a", 1)["error"]["desc"], "The bootindex 1 has already been used");
    assert_eq!(set(&mut vm, "a", 0)["return"], json!({}));
    assert_eq!(boot_order(&mut vm), format!("{b}\n{a}\0"));
    reset(&mut vm);
    assert_eq!(boot_order(&mut vm), format!("{a}\n{b}\0"));
    assert_eq!(set(&mut vm, "b", -1)["return"], json!({}));
    let get = json!({"path": "/machine/peripheral/b", "property": "bootindex"});
    assert_eq!(vm.qmp(&json!({"execute": "qom-get", "arguments": get}).to_string()), json!(-1));
    assert_eq!(set(&mut vm, "a", 1)["return"], json!({}), "nobody has it any more");
    reset(&mut vm);
    assert_eq!(boot_order(&mut vm), format!("{a}\0"));
}

/// Takes out what is in a slot, as a guest does.
fn unplug(vm: &mut QTest, id: &str, slot: u32) {
    let _ = vm.qmp(&json!({"execute": "device_del", "arguments": {"id": id}}).to_string());
    vm.outl(0xae10, 0);
    vm.outl(0xae08, 1 << slot);
    while !vm
        .take_events()
        .iter()
        .any(|event| event["event"] == "DEVICE_DELETED" && event["data"]["device"] == id)
    {
        let _ = vm.qmp(r#"{"execute": "query-status"}"#);
    }
}

#[test]
fn firmware_counts_cylinders_as_the_user_says() {
    let mut vm = pc(&[
        "-blockdev",
        "null-co,node-name=n0",
        "-blockdev",
        "null-co,node-name=n1",
        "-blockdev",
        "null-co,node-name=n2",
        "-device",
        "virtio-blk-pci,id=a,drive=n0,addr=4,lcyls=10000,lheads=120,lsecs=30",
        "-device",
        "virtio-scsi-pci,addr=5",
        "-device",
        "scsi-hd,drive=n1,scsi-id=1,lheads=3",
        "-device",
        "scsi-hd,drive=n2,scsi-id=2",
    ]);
    let scsi = "/pci@i0cf8/scsi@5/channel@0/disk@1,0 0 3 0\0";
    assert_eq!(text(&mut vm, "bios-geometry"), format!("/pci@i0cf8/scsi@4/disk@0,0 10000 120 30\n{scsi}"));
    // A reset takes it out, whatever the guest does.
    let _ = vm.qmp(r#"{"execute": "device_del", "arguments": {"id": "a"}}"#);
    reset(&mut vm);
    assert_eq!(text(&mut vm, "bios-geometry"), scsi);
}

#[test]
fn a_disk_that_goes_leaves_its_place() {
    let mut vm = pc(&TWO_DISKS);
    unplug(&mut vm, "b", 5);
    assert_eq!(set(&mut vm, "a", 1)["return"], json!({}));
    reset(&mut vm);
    assert_eq!(boot_order(&mut vm), "/pci@i0cf8/scsi@4/disk@0,0\0");
}

#[test]
fn without_an_index_there_is_nothing_to_say() {
    assert_eq!(boot_order(&mut pc(&["-boot", "strict=on"])), "");
}
