//! IDE CD-ROM drives over qtest: packets by ports and by the bus master, media that come and go, the drive that nobody
//! asked for.

use std::fs;
use std::path::PathBuf;

use libqtest::QTest;
use libqtest::ide::*;
use serde_json::{Value, json};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_softmmu");
const DATA: u32 = 0x30_0000;
/// Packets.
const TEST_UNIT_READY: [u8; 1] = [0];
const REQUEST_SENSE: [u8; 5] = [3, 0, 0, 0, 18];
const READ_CAPACITY: [u8; 1] = [0x25];

/// A disc of so many sectors.
fn disc(sectors: usize, seed: u8) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("disc");
    let bytes: Vec<u8> = (0..sectors * 2048).map(|n| (n / 2048) as u8 ^ n as u8 ^ seed).collect();
    fs::write(&path, bytes).expect("an image");
    (folder, path)
}

fn start(arguments: &[&str]) -> (QTest, [IdeChannel; 2]) {
    let mut vm = QTest::builder(BINARY).args(["-M", "pc"]).args(arguments).with_qmp().start();
    let channels = IdeChannel::open(&mut vm);
    (vm, channels)
}

fn read_10(lba: u32, count: u16) -> [u8; 9] {
    let ([a, b, c, d], [e, f]) = (lba.to_be_bytes(), count.to_be_bytes());
    [0x28, 0, a, b, c, d, 0, e, f]
}

/// What a packet command gives, in pieces of the drive's choice.
fn data(vm: &mut QTest, channel: IdeChannel, packet: &[u8]) -> Vec<u8> {
    let mut status = channel.packet(vm, 0, Some(0xfffe), packet);
    let mut data = Vec::new();
    while status & DRQ != 0 {
        let len = u16::from_le_bytes([channel.read(vm, 4), channel.read(vm, 5)]);
        data.extend(channel.read_data(vm, len.into()));
        status = channel.wait(vm);
    }
    assert_eq!(status & ERR, 0, "{packet:x?}");
    data
}

fn sense(vm: &mut QTest, channel: IdeChannel) -> (u8, u8) {
    let data = data(vm, channel, &REQUEST_SENSE);
    (data[2], data[12])
}

fn qmp(vm: &mut QTest, command: &str, arguments: Value) -> Value {
    vm.qmp_raw(&json!({"execute": command, "arguments": arguments}).to_string())
}

fn cdrom(path: &std::path::Path) -> [String; 2] {
    ["-cdrom".to_owned(), path.display().to_string()]
}

#[test]
fn a_disc_is_read_by_ports_and_by_the_bus_master() {
    let (_folder, path) = disc(300, 0);
    let [option, file] = cdrom(&path);
    let (mut vm, [_, channel]) = start(&["-nodefaults", &option, &file]);
    let bytes = fs::read(&path).expect("the disc");
    assert_eq!(data(&mut vm, channel, &READ_CAPACITY), [0, 0, 1, 43, 0, 0, 8, 0]);
    assert_eq!(data(&mut vm, channel, &read_10(2, 40)), bytes[2 * 2048..42 * 2048]);
    // More than goes at once, to pieces that are no whole sectors.
    assert_eq!(channel.packet(&mut vm, 0, None, &read_10(1, 100)) & ERR, 0);
    let pieces: Vec<(u32, u32)> =
        (0..4).map(|n| (DATA + n * 0xc800, 0xc800)).chain([(DATA + 4 * 0xc800, 0)]).collect();
    assert_eq!(channel.dma(&mut vm, &pieces, true), INTERRUPT);
    assert_eq!(channel.read(&mut vm, 7) & (BUSY | DRQ | ERR), 0);
    assert_eq!(vm.memread(DATA.into(), 100 * 2048), bytes[2048..101 * 2048]);
    // Answers go that way, too.
    channel.packet(&mut vm, 0, None, &[0x12, 0, 0, 0, 36]);
    assert_eq!(channel.dma(&mut vm, &[(DATA, 36)], true), INTERRUPT);
    assert_eq!(&vm.memread(DATA.into(), 36)[8..28], b"QEMU    QEMU DVD-ROM");
    // A table that is too short: the command is stuck until a reset.
    channel.packet(&mut vm, 0, None, &read_10(0, 2));
    assert_eq!(channel.dma(&mut vm, &[(DATA, 2048)], true), 0);
    channel.begin(&mut vm, 8, Taskfile::default());
    assert_eq!(
        (channel.read(&mut vm, 7), channel.read(&mut vm, 4), channel.read(&mut vm, 5)),
        (0, 0x14, 0xeb)
    );
    assert_eq!(data(&mut vm, channel, &read_10(299, 1)), bytes[299 * 2048..]);
    assert_eq!(channel.packet(&mut vm, 0, Some(2048), &read_10(299, 2)) & ERR, ERR);
    assert_eq!(sense(&mut vm, channel), (5, 0x21));
}

#[test]
fn a_machine_has_a_drive_without_a_disc() {
    let (mut vm, [_, channel]) = start(&[]);
    let blocks = qmp(&mut vm, "query-block", json!({}))["return"].clone();
    assert_eq!(blocks.as_array().map(Vec::len), Some(1));
    let block = &blocks[0];
    assert_eq!(
        (&block["device"], &block["removable"], &block["tray_open"]),
        (&json!("ide1-cd0"), &json!(true), &json!(false))
    );
    let text = qmp(&mut vm, "human-monitor-command", json!({"command-line": "info block"}))["return"].clone();
    let text = text.as_str().expect("a text").replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "ide1-cd0: [not inserted]");
    assert!(lines[1].starts_with("    Attached to:      /machine/unattached/device["), "{text}");
    assert_eq!(lines[2], "    Removable device: not locked, tray closed");
    assert_eq!(channel.packet(&mut vm, 0, Some(64), &TEST_UNIT_READY) & ERR, ERR);
    assert_eq!(sense(&mut vm, channel), (2, 0x3a));
    for arguments in [&["-nodefaults"][..], &["-device", "virtio-scsi-pci", "-device", "scsi-cd"]] {
        let (mut vm, _) = start(arguments);
        let blocks = qmp(&mut vm, "query-block", json!({}))["return"].to_string();
        assert!(!blocks.contains("ide1-cd0"), "{arguments:?}: {blocks}");
    }
}

#[test]
fn discs_come_and_go() {
    let (_folder, first) = disc(16, 0);
    let (_other, second) = disc(32, 0x55);
    let [option, file] = cdrom(&first);
    let (mut vm, [_, channel]) = start(&["-nodefaults", &option, &file]);
    assert_eq!(data(&mut vm, channel, &READ_CAPACITY)[3], 15);
    // The guest holds it.
    channel.packet(&mut vm, 0, Some(64), &[0x1e, 0, 0, 0, 1]);
    let refused = qmp(&mut vm, "eject", json!({"device": "ide1-cd0"}));
    let text = refused["error"]["desc"].as_str().expect("it is locked");
    assert!(text.starts_with("Device 'ide1-cd0' is locked and force was not specified"), "{text}");
    let event = [0x4a, 1, 0, 0, 16, 0, 0, 0, 8];
    assert_eq!(data(&mut vm, channel, &event), [0, 4, 4, 16, 1, 2, 0, 0], "and is asked");
    channel.packet(&mut vm, 0, Some(64), &[0x1e]);
    vm.take_events();
    let change = json!({"device": "ide1-cd0", "filename": second, "format": "raw"});
    assert_eq!(qmp(&mut vm, "blockdev-change-medium", change)["return"], json!({}));
    let trays: Vec<Value> = vm
        .take_events()
        .iter()
        .filter(|e| e["event"] == "DEVICE_TRAY_MOVED")
        .map(|e| e["data"]["tray-open"].clone())
        .collect();
    assert_eq!(trays, [json!(true), json!(false)]);
    for wanted in [(2, 0x3a), (6, 0x28)] {
        assert_eq!(channel.packet(&mut vm, 0, Some(64), &TEST_UNIT_READY) & ERR, ERR);
        assert_eq!(sense(&mut vm, channel), wanted, "the old one goes, the new one comes");
    }
    assert_eq!(data(&mut vm, channel, &READ_CAPACITY)[3], 31);
    assert_eq!(
        data(&mut vm, channel, &read_10(5, 2)),
        fs::read(&second).expect("the disc")[5 * 2048..7 * 2048]
    );
    // The guest opens the tray, of which clients hear.
    vm.take_events();
    assert_eq!(channel.packet(&mut vm, 0, Some(64), &[0x1b, 0, 0, 0, 2]) & ERR, 0);
    qmp(&mut vm, "query-status", json!({}));
    let moved = vm.take_events().into_iter().find(|e| e["event"] == "DEVICE_TRAY_MOVED").expect("the tray");
    assert_eq!((&moved["data"]["device"], &moved["data"]["tray-open"]), (&json!("ide1-cd0"), &json!(true)));
    assert_eq!(qmp(&mut vm, "eject", json!({"device": "ide1-cd0"}))["return"], json!({}));
    assert_eq!(qmp(&mut vm, "query-block", json!({}))["return"][0]["inserted"], Value::Null);
    assert_eq!(channel.packet(&mut vm, 0, Some(64), &read_10(0, 1)) & ERR, ERR);
}

#[test]
fn the_tables_of_contents_are_a_discs() {
    let (_folder, path) = disc(256, 0);
    let [option, file] = cdrom(&path);
    let (mut vm, [_, channel]) = start(&["-nodefaults", &option, &file]);
    let toc = data(&mut vm, channel, &[0x43, 2, 0, 0, 0, 0, 0, 0, 64, 0]);
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0, 0, 0x16, 0xaa, 0, 0, 0, 5, 31]);
    let configuration = data(&mut vm, channel, &[0x46, 0, 0, 0, 0, 0, 0, 0, 64]);
    assert_eq!(configuration, [0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 3, 8, 0, 16, 0, 0, 0, 8, 1, 0]);
    assert_eq!(data(&mut vm, channel, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8]), [0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(data(&mut vm, channel, &[0x51, 0, 0, 0, 0, 0, 0, 0, 34])[..8], [0, 32, 14, 1, 1, 1, 1, 32]);
    let capabilities = data(&mut vm, channel, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128]);
    assert_eq!(
        (capabilities.len(), &capabilities[..12]),
        (30, &[0, 28, 0x70, 0, 0, 0, 0, 0, 0x2a, 20, 0x3b, 0][..])
    );
    assert_eq!(channel.packet(&mut vm, 0, Some(64), &[0xad, 0, 0, 0, 0, 0, 0, 0, 0, 64]) & ERR, ERR);
    assert_eq!(sense(&mut vm, channel), (5, 0x30), "it is no DVD");
    let list = data(&mut vm, channel, &[0xad, 0, 0, 0, 0, 0, 0, 0xff, 0, 64]);
    assert_eq!(list[..8], [0, 18, 0, 0, 0, 0x40, 8, 4]);
}

#[test]
fn errors_of_the_host_stop_the_machine_where_that_is_asked_for() {
    let (_folder, path) = disc(16, 3);
    let node = json!({"driver": "blkdebug", "node-name": "n", "read-only": true,
        "image": {"driver": "file", "filename": path, "read-only": true},
        "inject-error": [{"event": "none", "once": true, "errno": 5, "iotype": "read"}]});
    let (mut vm, [channel, _]) = start(&[
        "-nodefaults",
        "-blockdev",
        &node.to_string(),
        "-device",
        "ide-cd,drive=n,rerror=stop,bus=ide.0",
    ]);
    channel.packet(&mut vm, 0, None, &read_10(3, 2));
    channel.set_table(&mut vm, &[(DATA, 4096)]);
    channel.start(&mut vm, true);
    while qmp(&mut vm, "query-status", json!({}))["return"]["status"] != "io-error" {}
    qmp(&mut vm, "cont", json!({}));
    let bytes = fs::read(&path).expect("the disc");
    for _ in 0..100_000 {
        if channel.wait(&mut vm) & DRQ == 0 {
            break;
        }
    }
    assert_eq!(channel.read(&mut vm, 7) & (BUSY | DRQ | ERR), 0);
    assert_eq!(vm.memread(DATA.into(), 4096), bytes[3 * 2048..5 * 2048]);
}
