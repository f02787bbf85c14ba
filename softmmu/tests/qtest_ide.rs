//! IDE disks over qtest: by ports and by the bus master, as the images have it; drivers that mean no good; what
//! firmware finds; state.

use std::fs;
use std::path::PathBuf;

use libqtest::QTest;
use libqtest::ide::*;
use serde_json::{Value, json};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_softmmu");
const DATA: u32 = 0x30_0000;
const IMAGE_LEN: usize = 1 << 20;
/// Commands.
const READ: u8 = 0x20;
const WRITE: u8 = 0x30;
const READ_DMA: u8 = 0xc8;
const WRITE_DMA: u8 = 0xca;
const FLUSH: u8 = 0xe7;
const IDENTIFY: u8 = 0xec;
/// Addresses are numbers of sectors.
const LBA: u8 = 0x40;

/// An image of 1 MiB with something in it.
fn image() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("image");
    let bytes: Vec<u8> = (0..IMAGE_LEN).map(|n| (n / 512) as u8 ^ n as u8).collect();
    fs::write(&path, bytes).expect("an image");
    (folder, path)
}

fn drive(path: &std::path::Path, more: &str) -> String {
    format!("file={},format=raw{more}", path.display())
}

fn start(arguments: &[&str]) -> (QTest, [IdeChannel; 2]) {
    let mut vm = QTest::builder(BINARY).args(["-M", "pc"]).args(arguments).with_qmp().start();
    let channels = IdeChannel::open(&mut vm);
    (vm, channels)
}

fn sectors(count: u8, sector: u32) -> Taskfile {
    let [low, mid, high, top] = sector.to_le_bytes();
    Taskfile { count, lba: [low, mid, high], device: LBA | top & 15, ..Taskfile::default() }
}

fn controller(vm: &mut QTest) -> String {
    let list = vm.qmp(r#"{"execute": "qom-list", "arguments": {"path": "/machine/unattached"}}"#);
    let found = list.as_array().expect("a list").iter().find(|p| p["type"] == "child<piix3-ide>");
    format!("/machine/unattached/{}", found.expect("the controller")["name"].as_str().expect("a name"))
}

#[test]
fn hda_and_its_like_are_where_pcs_have_them() {
    let (_folders, paths): (Vec<_>, Vec<_>) = (0..4).map(|_| image()).unzip();
    for (path, mark) in paths.iter().zip(1u8..) {
        let mut bytes = fs::read(path).expect("the image");
        bytes[..512].fill(mark);
        fs::write(path, bytes).expect("the image");
    }
    let path = |n: usize| paths[n].to_str().expect("a path");
    let (mut vm, channels) = start(&["-hda", path(0), "-hdb", path(1), "-hdc", path(2), "-hdd", path(3)]);
    assert_eq!(IDE.readl(&mut vm, 0), 0x7010_8086);
    assert_eq!(IDE.readl(&mut vm, 8), 0x0101_8000);
    // Firmware says here that the ports are decoded.
    IDE.writew(&mut vm, 0x40, 0x8000);
    assert_eq!(IDE.readl(&mut vm, 0x40), 0x8000);
    for (n, mark) in (1u8..=4).enumerate() {
        let channel = channels[n / 2];
        let taskfile = Taskfile { device: LBA | (n as u8 & 1) << 4, ..sectors(1, 0) };
        assert_eq!(channel.command(&mut vm, READ, taskfile) & (DRQ | ERR), DRQ);
        assert_eq!(channel.read_data(&mut vm, 512), [mark; 512]);
    }
    let names: Vec<Value> = vm.qmp(r#"{"execute": "query-block"}"#).as_array().expect("a list").clone();
    let names: Vec<_> = names.iter().map(|drive| drive["device"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["ide0-hd0", "ide0-hd1", "ide1-hd0", "ide1-hd1"]);
}

#[test]
fn what_is_written_is_in_the_image() {
    let (_folder, path) = image();
    let (mut vm, [channel, _]) = start(&["-nodefaults", "-drive", &drive(&path, "")]);
    vm.irq_intercept_in("ioapic");
    // By ports.
    assert_eq!(channel.command(&mut vm, WRITE, sectors(2, 3)) & DRQ, DRQ);
    for byte in [0x11, 0x22] {
        channel.write_data(&mut vm, &[byte; 512]);
        assert_eq!(channel.wait(&mut vm) & ERR, 0);
        assert!(vm.get_irq(14));
        channel.read(&mut vm, 7);
        assert!(!vm.get_irq(14), "the status takes it back");
    }
    // From three pieces of memory, of odd sizes and places.
    vm.memset(DATA.into(), 0x33, 1024);
    channel.begin(&mut vm, WRITE_DMA, sectors(2, 9));
    let pieces = [(DATA + 2, 6), (DATA + 100, 506), (DATA + 10, 512)];
    assert_eq!(channel.dma(&mut vm, &pieces, false), INTERRUPT);
    assert_eq!(channel.read(&mut vm, 7) & (BUSY | DRQ | ERR), 0);
    assert_eq!(channel.command(&mut vm, FLUSH, Taskfile::default()) & ERR, 0);
    let bytes = fs::read(&path).expect("the image");
    assert_eq!((&bytes[3 * 512..4 * 512], &bytes[4 * 512..5 * 512]), (&[0x11; 512][..], &[0x22; 512][..]));
    assert_eq!(bytes[9 * 512..11 * 512], [0x33; 1024]);
    // And back.
    channel.begin(&mut vm, READ_DMA, sectors(3, 8));
    assert_eq!(channel.dma(&mut vm, &[(DATA, 0x600)], true), INTERRUPT);
    assert_eq!(vm.memread(DATA.into(), 1536), bytes[8 * 512..11 * 512]);
    assert_eq!(vm.quit().code(), Some(0));
}

#[test]
fn tables_that_are_too_long_or_too_short_are_told_apart() {
    let (_folder, path) = image();
    let (mut vm, [channel, _]) = start(&["-nodefaults", "-drive", &drive(&path, "")]);
    for (len, wanted) in [(512, 0), (1024, INTERRUPT), (1536, INTERRUPT | ACTIVE), (0, INTERRUPT | ACTIVE)] {
        channel.begin(&mut vm, READ_DMA, sectors(2, 0));
        assert_eq!(channel.dma(&mut vm, &[(DATA, len)], true), wanted, "{len}");
        assert_eq!(channel.wait(&mut vm) & (DRQ | ERR), 0);
    }
    // Beyond the end of the disk.
    channel.begin(&mut vm, READ_DMA, sectors(2, 2047));
    assert_eq!(channel.dma(&mut vm, &[(DATA, 1024)], true), INTERRUPT);
    assert_eq!((channel.read(&mut vm, 7) & ERR, channel.read(&mut vm, 1)), (ERR, 4));
    // A list of what is not needed, whose second range is not there.
    vm.memwrite(DATA.into(), &[1u64 << 48 | 8, 2 << 48 | 2047].map(u64::to_le_bytes).concat());
    vm.memset(u64::from(DATA) + 16, 0, 496);
    let trim = Taskfile { features: 1, count: 1, device: LBA, ..Taskfile::default() };
    channel.begin(&mut vm, 6, trim);
    assert_eq!(channel.dma(&mut vm, &[(DATA, 512)], false), INTERRUPT);
    assert_eq!(channel.read(&mut vm, 7) & ERR, ERR);
}

#[test]
fn a_driver_that_means_no_good_gets_nowhere() {
    let (_folder, path) = image();
    let (mut vm, [channel, _]) = start(&["-nodefaults", "-m", "64", "-drive", &drive(&path, "")]);
    // To what is no memory, to the end of it, and where the table itself is.
    for address in [0xffff_fe00, 0xfee0_0000, 64 << 20, (64 << 20) - 256, 0x20_0000] {
        channel.begin(&mut vm, READ_DMA, sectors(1, 0));
        assert_eq!(channel.dma(&mut vm, &[(address, 512)], true), INTERRUPT);
        channel.begin(&mut vm, WRITE_DMA, sectors(1, 100));
        assert_eq!(channel.dma(&mut vm, &[(address, 512)], false), INTERRUPT);
    }
    // What is no memory reads as zeroes.
    channel.begin(&mut vm, WRITE_DMA, sectors(1, 101));
    channel.dma(&mut vm, &[(0xfee0_0000, 512)], false);
    assert_eq!(fs::read(&path).expect("the image")[101 * 512..102 * 512], [0; 512]);
    // Without an end, and while it may not master the bus.
    channel.begin(&mut vm, READ_DMA, sectors(0, 0));
    IDE.writew(&mut vm, 4, 1);
    channel.dma(&mut vm, &[(0, 0)], true);
    IDE.enable(&mut vm);
    // Resets, and registers that move, in the middle.
    for _ in 0..50 {
        channel.begin(&mut vm, READ_DMA, sectors(8, 0));
        channel.set_table(&mut vm, &[(DATA, 4096)]);
        channel.start(&mut vm, true);
        IDE.writel(&mut vm, 0x20, 0xd001);
        channel.control(&mut vm, 4);
        channel.control(&mut vm, 0);
        IDE.map_bar(&mut vm, 4);
        channel.stop(&mut vm);
        channel.begin(&mut vm, WRITE, sectors(1, 0));
        vm.outw(0x1f0, 0xffff);
        channel.control(&mut vm, 4);
        channel.control(&mut vm, 0);
    }
    vm.system_reset();
    let [channel, _] = IdeChannel::open(&mut vm);
    assert_eq!(channel.command(&mut vm, READ, sectors(1, 2)) & (DRQ | ERR), DRQ);
    assert_eq!(channel.read_data(&mut vm, 512), fs::read(&path).expect("the image")[1024..1536]);
}

#[test]
fn firmware_finds_the_disks() {
    let (_folders, paths): (Vec<_>, Vec<_>) = (0..2).map(|_| image()).unzip();
    let first = format!("if=none,id=d0,file={},format=raw", paths[0].display());
    let second = format!("if=none,id=d1,file={},format=raw", paths[1].display());
    let (mut vm, _) = start(&[
        "-nodefaults",
        "-drive",
        &first,
        "-drive",
        &second,
        "-device",
        "ide-hd,drive=d0,bus=ide.0,unit=1,bootindex=3,cyls=300,heads=12,secs=34",
        "-device",
        "ide-hd,drive=d1,bus=ide.1,bios-chs-trans=rechs,bootindex=1",
    ]);
    let mut cmos = |at: u8| {
        vm.outb(0x70, at);
        vm.inb(0x71)
    };
    assert_eq!((cmos(0x12), cmos(0x19), cmos(0x1a), cmos(0x39)), (0x0f, 0, 47, 0x30));
    let geometry: Vec<u8> = (0x24..0x2d).map(&mut cmos).collect();
    assert_eq!(geometry, [44, 1, 12, 0xff, 0xff, 0xc8, 44, 1, 34]);
    let order =
        vm.qmp(r#"{"execute": "human-monitor-command", "arguments": {"command-line": "info qtree"}}"#);
    let tree = order.as_str().expect("a text");
    assert!(
        tree.contains("dev: piix3-ide") && tree.contains("type IDE") && tree.contains("dev: ide-hd"),
        "{tree}"
    );
}

#[test]
fn options_that_cannot_be_are_refused() {
    let cases = [
        (vec!["-device", "ide-hd"], "ide-hd: No drive specified"),
        (
            vec!["-blockdev", "null-co,node-name=n", "-device", "ide-hd,drive=n,unit=2"],
            "Can't create IDE unit 2, bus supports only 2 units",
        ),
        (
            vec![
                "-blockdev",
                "null-co,node-name=n",
                "-device",
                "ide-cd,unit=0,bus=ide.0",
                "-device",
                "ide-hd,drive=n,unit=0,bus=ide.0",
            ],
            "IDE unit 0 is in use",
        ),
        (
            vec!["-blockdev", "null-co,node-name=n,read-only=on", "-device", "ide-hd,drive=n"],
            "Block node is read-only",
        ),
        (
            vec![
                "-blockdev",
                "null-co,node-name=n",
                "-device",
                "ide-hd,drive=n,logical_block_size=4096,physical_block_size=4096",
            ],
            "logical_block_size must be 512 for IDE",
        ),
        (
            vec!["-blockdev", "null-co,node-name=n", "-device", "ide-hd,drive=n,cyls=1,heads=17,secs=1"],
            "heads must be between 1 and 16",
        ),
        (
            vec!["-blockdev", "null-co,node-name=n", "-device", "ide-hd,drive=n,discard_granularity=4096"],
            "discard_granularity must be 512 for ide",
        ),
        (vec!["-drive", "if=ide,index=5,media=cdrom"], "Too many IDE buses defined (3 > 2)"),
        (vec!["-drive", "if=ide,index=0"], "Device needs media, but drive is empty"),
    ];
    for (arguments, wanted) in cases {
        let output = std::process::Command::new(BINARY)
            .args(["-M", "pc,accel=qtest", "-display", "none", "-nodefaults"])
            .args(&arguments)
            .output()
            .expect("the program");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(wanted), "{arguments:?}: {error}");
        assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
    }
}

#[test]
fn errors_stop_the_machine_and_are_tried_again() {
    let (_folder, path) = image();
    let node = json!({"driver": "blkdebug", "node-name": "n", "image": {"driver": "file", "filename": path},
        "inject-error": [{"event": "none", "once": true, "errno": 28, "iotype": "write"}]});
    let device = ["-device", "ide-hd,drive=n,id=d,werror=stop"];
    for by_dma in [false, true] {
        let (mut vm, [channel, _]) =
            start(&["-nodefaults", "-blockdev", &node.to_string(), device[0], device[1]]);
        vm.memset(DATA.into(), 0x44, 512);
        let command = if by_dma { WRITE_DMA } else { WRITE };
        channel.begin(&mut vm, command, sectors(1, 7));
        match by_dma {
            true => {
                channel.set_table(&mut vm, &[(DATA, 512)]);
                channel.start(&mut vm, false);
            }
            false => channel.write_data(&mut vm, &[0x44; 512]),
        }
        while vm.qmp(r#"{"execute": "query-status"}"#)["status"] != "io-error" {}
        assert_ne!(fs::read(&path).expect("the image")[7 * 512], 0x44);
        vm.qmp(r#"{"execute": "cont"}"#);
        for _ in 0..100_000 {
            if channel.wait(&mut vm) & DRQ == 0 {
                break;
            }
        }
        assert_eq!(channel.read(&mut vm, 7) & (BUSY | DRQ | ERR), 0);
        assert_eq!(fs::read(&path).expect("the image")[7 * 512..8 * 512], [0x44; 512]);
        let mut bytes = fs::read(&path).expect("the image");
        bytes[7 * 512..8 * 512].fill(0);
        fs::write(&path, bytes).expect("the image");
    }
}

#[test]
fn a_transfer_in_flight_is_saved() {
    let (_folder, path) = image();
    let drive = drive(&path, "");
    let arguments = ["-nodefaults", "-S", "-drive", &drive, "-snapshot"];
    let (mut vm, [channel, _]) = start(&arguments);
    channel.command(&mut vm, READ, sectors(2, 4));
    let first = channel.read_data(&mut vm, 300);
    let path_of = controller(&mut vm);
    let get = json!({"execute": "qom-get", "arguments": {"path": path_of, "property": "state"}});
    let state = vm.qmp(&get.to_string());
    vm.kill();
    let (mut other, [channel, _]) = start(&arguments);
    let set = json!({"execute": "qom-set",
        "arguments": {"path": controller(&mut other), "property": "state", "value": state}});
    assert_eq!(other.qmp(&set.to_string()), json!({}));
    let rest = channel.read_data(&mut other, 512 - 300);
    assert_eq!(channel.wait(&mut other) & (DRQ | ERR), DRQ);
    let second = channel.read_data(&mut other, 512);
    assert_eq!([first, rest, second].concat(), fs::read(&path).expect("the image")[4 * 512..6 * 512]);
    // With a place in the buffer that is not there it is refused.
    let mut bad = state;
    bad["pci-ide"]["state"][0]["devices"][0]["end"] = json!(1 << 30);
    let set = json!({"execute": "qom-set",
        "arguments": {"path": controller(&mut other), "property": "state", "value": bad}});
    assert!(other.qmp_raw(&set.to_string())["error"].is_object());
}

#[test]
fn a_pc_without_pci_has_controllers_of_its_own() {
    let (_folder, path) = image();
    let mut vm = QTest::builder(BINARY).args(["-M", "isapc", "-hda", path.to_str().expect("a path")]).start();
    for at in [2, 3, 4, 5] {
        vm.outb(0x1f0 + at, 1);
    }
    vm.outb(0x1f6, 0);
    vm.outb(0x1f7, IDENTIFY);
    assert_eq!(vm.inb(0x1f7), 0x58);
    assert_eq!(vm.inw(0x1f0), 0x40);
    vm.outb(0x176, 0);
    assert_eq!(vm.inb(0x174), 0x14, "the CD-ROM drive of the second channel");
}
