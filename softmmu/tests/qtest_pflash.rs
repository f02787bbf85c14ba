//! Flash memory over qtest: where it shows, its commands, and that the drive has what was programmed.

use std::fs;
use std::path::Path;

use libqtest::QTest;

const FOUR_GIB: u64 = 1 << 32;
const SIZE: u64 = 256 << 10;

fn program(image: &Path, more: &str) -> Vec<String> {
    let drive = format!("if=pflash,format=raw,file={}{more}", image.display());
    ["-nodefaults", "-S", "-drive", &drive].map(str::to_owned).to_vec()
}

fn image(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("flash");
    let bytes: Vec<u8> = (0..SIZE).map(|n| (n ^ n >> 8) as u8).collect();
    fs::write(&path, bytes).unwrap();
    path
}

fn start(arguments: Vec<String>) -> QTest {
    QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(arguments).with_qmp().start()
}

fn system_reset(vm: &mut QTest) {
    vm.qmp(r#"{"execute": "system_reset"}"#);
    while !vm.take_events().iter().any(|event| event["event"] == "RESET") {
        vm.qmp(r#"{"execute": "query-status"}"#);
    }
}

#[test]
fn its_array_shows_at_the_top_and_its_end_below_1_mib() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path());
    let mut vm = start(program(&path, ",readonly=on"));
    let bytes = fs::read(&path).unwrap();
    assert_eq!(vm.memread(FOUR_GIB - SIZE, SIZE as usize), bytes);
    assert_eq!(vm.memread(0xe_0000, 0x2_0000), bytes[0x2_0000..]);
    // The copy is no flash.
    vm.writeb(0xf_0000, 0x90);
    assert_eq!(vm.memread(0xe_0000, 0x2_0000), bytes[0x2_0000..]);
    // What is read-only says so.
    vm.writeb(FOUR_GIB - SIZE, 0x20);
    vm.writeb(FOUR_GIB - SIZE, 0xd0);
    assert_eq!(vm.readb(FOUR_GIB - SIZE), 0xa0);
    vm.writeb(FOUR_GIB - SIZE, 0xff);
    assert_eq!(vm.memread(FOUR_GIB - SIZE, SIZE as usize), bytes);
}

#[test]
fn what_is_programmed_is_on_the_drive() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path());
    let mut vm = start(program(&path, ""));
    let base = FOUR_GIB - SIZE;
    vm.writeb(base + 0x1000, 0x20);
    vm.writeb(base + 0x1000, 0xd0);
    vm.writeb(base + 0x1234, 0x40);
    vm.writeb(base + 0x1234, 0x5a);
    assert_eq!(vm.readb(base), 0x80, "the status");
    system_reset(&mut vm);
    assert_eq!(vm.readl(base + 0x1234), 0xffff_ff5a);
    let mut bytes = fs::read(&path).unwrap();
    assert_eq!(bytes[0x1000..0x2000].iter().filter(|byte| **byte != 0xff).count(), 1);
    assert_eq!(bytes[0x1234], 0x5a);
    // In the middle of a sequence the state is taken and given.
    vm.writeb(base + 0x3000, 0xe8);
    vm.writeb(base + 0x3000, 1);
    vm.writeb(base + 0x3010, 0x11);
    let state = vm.qmp(
        r#"{"execute": "qom-get", "arguments": {"path": "/machine/system.flash0", "property": "state"}}"#,
    );
    system_reset(&mut vm);
    assert_eq!(vm.readb(base + 0x3010), bytes[0x3010]);
    let set = serde_json::json!({"execute": "qom-set", "arguments":
        {"path": "/machine/system.flash0", "property": "state", "value": state}});
    assert_eq!(vm.qmp(&set.to_string()), serde_json::json!({}));
    vm.writeb(base + 0x3011, 0x22);
    vm.writeb(base + 0x3000, 0xd0);
    bytes[0x3010..0x3012].copy_from_slice(&[0x11, 0x22]);
    assert!(vm.quit().success());
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn two_lie_one_below_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (code, vars) = (folder.path().join("code"), folder.path().join("vars"));
    fs::write(&code, [0xc0; 0x2000]).unwrap();
    fs::write(&vars, [0xfa; 0x1000]).unwrap();
    let node = |name: &str, path: &Path| format!("driver=file,node-name={name},filename={}", path.display());
    let arguments = [
        "-nodefaults",
        "-blockdev",
        &node("code", &code),
        "-blockdev",
        &node("vars", &vars),
        "-M",
        "pc,pflash0=code,pflash1=vars",
    ];
    let mut vm = start(arguments.map(str::to_owned).to_vec());
    assert_eq!((vm.readl(FOUR_GIB - 0x2000), vm.readl(FOUR_GIB - 4)), (0xc0c0_c0c0, 0xc0c0_c0c0));
    assert_eq!((vm.readl(FOUR_GIB - 0x3000), vm.readl(FOUR_GIB - 0x2004)), (0xfafa_fafa, 0xfafa_fafa));
    assert_ne!(vm.readl(FOUR_GIB - 0x3004), 0xfafa_fafa);
    let get = r#"{"execute": "qom-get", "arguments": {"path": "/machine", "property": "pflash1"}}"#;
    assert_eq!(vm.qmp(get), "vars");
}

/// Over qtest nobody is in system management mode.
#[test]
fn secure_flash_is_read_and_takes_no_commands() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path());
    let bytes = fs::read(&path).unwrap();
    let mut arguments = program(&path, "");
    arguments.extend(["-global", "driver=cfi.pflash01,property=secure,value=on"].map(str::to_owned));
    let mut vm = start(arguments);
    let base = FOUR_GIB - SIZE;
    for (offset, value) in [(0, 0x90), (0x1000, 0x20), (0x1000, 0xd0), (0x1234, 0x40), (0x1234, 0)] {
        vm.writeb(base + offset, value);
    }
    assert_eq!(vm.memread(base, SIZE as usize), bytes);
    // At a command, too, as from a state that was saved in that mode.
    let state = |vm: &mut QTest| {
        vm.qmp(
            r#"{"execute": "qom-get", "arguments": {"path": "/machine/system.flash0", "property": "state"}}"#,
        )
    };
    let mut value = state(&mut vm);
    let cmd = value.pointer_mut("/cfi.pflash01/state/cmd").expect("the command is state");
    assert_eq!(*cmd, 0);
    *cmd = 0x90.into();
    let set = serde_json::json!({"execute": "qom-set", "arguments":
        {"path": "/machine/system.flash0", "property": "state", "value": value}});
    assert_eq!(vm.qmp(&set.to_string()), serde_json::json!({}));
    assert_eq!(vm.memread(base, 64), bytes[..64]);
    assert_eq!(state(&mut vm), value, "it stays at the command");
    assert!(vm.quit().success());
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
