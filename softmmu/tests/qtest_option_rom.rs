//! Option ROMs that firmware finds in fw_cfg: `-option-rom`, and `romfile=` of a device with `rombar=0`.

#[path = "common/fw_cfg.rs"]
mod fw_cfg;

use std::process::{Command, Stdio};

use fw_cfg::file;
use libqtest::QTest;
use libqtest::pci::PciFunction;
use serde_json::json;
use tempfile::TempDir;

const RNG: PciFunction = PciFunction(4 << 3);
const ROM_ADDRESS: u8 = 0x30;

fn rom(folder: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("the ROM");
    path.display().to_string()
}

fn pc(more: &[&str]) -> QTest {
    QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(["-nodefaults"]).args(more).with_qmp().start()
}

#[test]
fn firmware_finds_them_as_files_and_may_boot_from_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (rom(&folder, "a.rom", b"first"), rom(&folder, "b.rom", b"second"));
    let second = format!("romfile={b},bootindex=3");
    let mut vm = pc(&["-option-rom", &a, "-option-rom", &second, "-device", "virtio-rng-pci,addr=4"]);
    assert_eq!(file(&mut vm, "genroms/a.rom").as_deref(), Some(&b"first"[..]));
    assert_eq!(file(&mut vm, "genroms/b.rom").as_deref(), Some(&b"second"[..]));
    assert_eq!(file(&mut vm, "bootorder").as_deref(), Some(&b"/rom@genroms/b.rom\0"[..]));
    let command = json!({"execute": "human-monitor-command", "arguments": {"command-line": "info roms"}});
    let told = vm.qmp(&command.to_string());
    let line = format!("fw=genroms/{a} size=0x000005 name=\"{a}\"\r\n");
    assert!(told.as_str().expect("text").starts_with(&line), "{told}");
}

#[test]
fn a_device_without_a_rom_bar_has_its_rom_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = rom(&folder, "net.rom", &[0x55; 3000]);
    let device = format!("virtio-rng-pci,addr=4,rombar=0,romfile={path}");
    let mut vm = pc(&["-device", &device]);
    assert_eq!(file(&mut vm, "genroms/net.rom"), Some(vec![0x55; 3000]));
    RNG.writel(&mut vm, ROM_ADDRESS, u32::MAX);
    assert_eq!(RNG.readl(&mut vm, ROM_ADDRESS), 0);
    let plugged = json!({"driver": "virtio-rng-pci", "rombar": 0, "romfile": path});
    let answer = vm.qmp_raw(&json!({"execute": "device_add", "arguments": plugged}).to_string());
    assert_eq!(answer["error"]["desc"], "Hot-plugged device without ROM bar can't have an option ROM");
}

#[test]
fn mistakes_are_told_in_qemus_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = rom(&folder, "a.rom", b"x");
    let refused = |arguments: &[&str], what: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmmu"));
        command.args(["-nodefaults", "-display", "none", "-accel", "qtest"]).args(arguments);
        let output = command.stdin(Stdio::null()).output().expect("the program");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), told.trim_end()), (Some(1), format!("softmmu: {what}").as_str()));
    };
    let missing = "Could not open option rom '/no/rom': No such file or directory";
    refused(&["-option-rom", "/no/rom"], &format!("-option-rom /no/rom: {missing}"));
    let device = "virtio-rng-pci,rombar=0,romfile=/no/rom";
    refused(&["-device", device], &format!("-device {device}: {missing}"));
    refused(&["-option-rom", "bootindex=1"], "-option-rom bootindex=1: Option ROM file is not specified");
    let first = format!("{path},bootindex=1");
    refused(
        &["-option-rom", &first, "-option-rom", &first],
        &format!("-option-rom {first}: Two devices with same boot index 1"),
    );
    refused(&["-option-rom", &path, "-option-rom", &path], "duplicate fw_cfg file name: genroms/a.rom");
    let many = ["-option-rom", path.as_str()].repeat(17);
    refused(&many, &format!("-option-rom {path}: too many option ROMs"));
    refused(
        &["-M", "none", "-option-rom", &path],
        &format!("-option-rom {path}: fw_cfg device not available"),
    );
}
