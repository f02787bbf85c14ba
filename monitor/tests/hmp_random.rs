//! Nothing that is typed crashes or hangs the monitor: random lines, every command with random arguments, and the
//! lines of QEMU's own test (tests/qtest/test-hmp.c).

use std::sync::Once;

use hw_core::sysbus::sysbus_get_default;
use hw_core::{DeviceImpl, SysBusDevice, qdev_new, qdev_realize};
use memory::{MemoryRegion, RamBlock, get_system_io, get_system_memory};
use proptest::prelude::*;
use qom::Object;

/// A host bridge without anything.
#[derive(Object)]
#[object(name = "test-pcihost", parent = SysBusDevice)]
struct TestHost {
    parent: SysBusDevice,
}

impl DeviceImpl for TestHost {}

qom::type_init!(TestHost);

/// A machine with some memory, and a folder of its own for the files that commands make.
fn machine() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        qom::module_call_init(qom::ModuleInitType::Qom);
        let folder = tempfile::tempdir().unwrap().keep();
        std::env::set_current_dir(folder).unwrap();
        let ram = RamBlock::anonymous("ram", 0x10_0000).unwrap();
        get_system_memory().add_subregion(0, &MemoryRegion::ram("ram", ram));
        let host = qdev_new("test-pcihost").unwrap();
        hw_pci::pci_bus_new(&host, "pci.0", &get_system_memory(), &get_system_io()).unwrap();
        qdev_realize(&host, Some(&sysbus_get_default())).unwrap();
    });
}

fn names(list: &str) -> Vec<String> {
    let words = |line: &str| line.split(" -- ").next().unwrap_or_default().to_owned();
    let lines = monitor::hmp::run(list);
    let commands = lines.lines().filter(|line| line.contains(" -- ")).map(words);
    let names = commands.map(|line| {
        let first = line.split(' ').take(if line.starts_with("info ") { 2 } else { 1 });
        first.collect::<Vec<_>>().join(" ").split('|').next().unwrap_or_default().to_owned()
    });
    // What ends the program, and the terminal of the test.
    names.filter(|name| !name.is_empty() && name != "quit").collect()
}

fn all_names() -> Vec<String> {
    machine();
    let mut all = names("help");
    all.extend(names("help info"));
    assert!(all.len() > 100, "{all:?}");
    all
}

/// Pieces that arguments are made of, some of which commands know.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(" ".to_owned()),
        prop::sample::select(vec![
            "-f",
            "-a",
            "-x",
            "/8i",
            "/3xb",
            "/",
            "0x1000",
            "-1",
            "0xffffffffffffffff",
            "$pc",
            "(",
            "'a'",
            "on",
            "off",
            "help",
            "null,id=t",
            "ringbuf,id=r",
            "t",
            "r",
            "memory-backend-ram,id=m,size=1M",
            "m",
            "/machine",
            "/objects",
            "type",
            "test-pcihost",
            "ctrl-alt-f1",
            "none",
            "all",
            "\"a b\"",
            "\"",
            "1G",
            "*",
            ",",
            "=",
            "id=",
            "99999999999999999999",
            "/99999999999xg",
        ])
        .prop_map(str::to_owned),
        "[ -.0-~]{1,8}",
        "\\PC{1,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_survive_any_arguments(
        name in prop::sample::select(all_names()),
        pieces in prop::collection::vec(piece(), 0..8),
        joined in prop::sample::select(vec![" ", ""]),
    ) {
        machine();
        let line = format!("{name} {}", pieces.join(joined));
        let text = monitor::hmp::run(&line);
        prop_assert!(text.len() < 2 << 20, "{line:?} printed {} bytes", text.len());
        monitor::hmp::run(&format!("help {line}"));
    }

    #[test]
    fn any_line_is_answered(line in "\\PC{0,200}") {
        machine();
        monitor::hmp::run(&line);
    }
}

#[test]
fn the_lines_of_qemus_test_are_accepted() {
    machine();
    for name in names("help info") {
        let text = monitor::hmp::run(&name);
        assert!(!text.starts_with("unknown command"), "{name}: {text}");
    }
    for line in [
        "announce_self",
        "boot_set ndc",
        "chardev-add null,id=testchardev1",
        "chardev-send-break testchardev1",
        "chardev-change testchardev1 ringbuf",
        "chardev-remove testchardev1",
        "commit all",
        "cpu 0",
        "device_add ?",
        "device_add usb-mouse,id=mouse1",
        "drive_add ignored format=help",
        "mouse_button 7",
        "mouse_move 10 10",
        "mouse_button 0",
        "device_del mouse1",
        "gdbserver",
        "gva2gpa 0",
        "hostfwd_add tcp::43210-:43210",
        "hostfwd_remove tcp::43210-:43210",
        "i /w 0",
        "log all",
        "log none",
        "memsave 0 4096 \"/dev/null\"",
        "netdev_add user,id=net1",
        "set_link net1 off",
        "set_link net1 on",
        "netdev_del net1",
        "nmi",
        "o /w 0 0x1234",
        "object_add memory-backend-ram,id=mem1,size=256M",
        "object_del mem1",
        "pmemsave 0 4096 \"/dev/null\"",
        "p $pc + 8",
        "qom-list /",
        "qom-set /machine initrd test",
        "qom-get /machine initrd",
        "screendump /dev/null",
        "sendkey x",
        "stopcapture 0",
        "sum 0 512",
        "x /8i 0x100",
        "xp /16x 0",
    ] {
        let text = monitor::hmp::run(line);
        assert!(!text.contains("unknown command") && !text.contains("has not been found"), "{line}: {text}");
    }
    assert_eq!(monitor::hmp::run("chardev-remove testchardev1"), "Error: Chardev 'testchardev1' not found\n");
    assert_eq!(monitor::hmp::run("object_del mem1"), "Error: object 'mem1' not found\n");
    assert_eq!(monitor::hmp::run("sum 0 0x10"), "00000\n");
    assert_eq!(
        monitor::hmp::run("pmemsave 0 8 nosuch/file"),
        "Error: Could not open 'nosuch/file': No such file or directory\n"
    );
}

#[test]
fn ports_and_sums_and_expressions() {
    machine();
    let run = monitor::hmp::run;
    assert_eq!(run("i /b 0x1234"), "portb[0x1234] = 0xff\n");
    assert_eq!(run("i/h 0x70.0xd"), "portw[0x0071] = 0xffff\n");
    assert_eq!(run("i /w 0x80"), "portl[0x0080] = 0xffffffff\n");
    assert_eq!(run("p/x 1+2*3"), "0x7\n");
    assert_eq!(run("p/d -1"), "-1\n");
    assert_eq!(run("print/c 0x41"), "'A'\n");
    assert_eq!(run("p/o 8"), "010\n");
    assert_eq!(run("gpa2hva 0xfee00000"), "No memory is mapped at address 0xfee00000\n");
    assert!(run("gpa2hva 0x1000").starts_with("Host virtual address for 0x1000 (ram) is 0x"));
    assert_eq!(run("cpu 3"), "invalid CPU index\n");
    assert_eq!(run("info lapic"), "No CPU available\n");
    assert_eq!(run("chardev-add ringbuf,id=rb"), "");
    assert_eq!(run("ringbuf_write rb \"a\\nb\\\\\""), "");
    assert_eq!(run("ringbuf_read rb 100"), "a\nb\\\\\n");
    assert_eq!(run("chardev-change rb nosuch"), "Error: 'nosuch' is not a valid char driver name\n");
    assert_eq!(run("chardev-change rb null"), "");
    assert_eq!(run("info chardev"), "rb: filename=null\n");
    assert_eq!(run("chardev-remove rb"), "");
    assert_eq!(run("info irq"), "");
    assert_eq!(run("qom-set -j /machine x {"), "Error: JSON parse error, premature EOI\n");
}
