//! What the human monitor's `info` tells of devices, memory and virtio queues, line by line as QEMU 7.2 does.

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;
use serde_json::{Value, json};

const RNG: PciFunction = PciFunction(4 << 3);
const RING: u64 = 0x10_0000;
const BUFFER: u64 = 0x30_0000;
const PATH: &str = "/machine/peripheral/r0/virtio-backend";

fn start() -> QTest {
    QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-m", "64,slots=1,maxmem=1G", "-device", "virtio-rng-pci,addr=4,id=r0"])
        .args(["-object", "memory-backend-ram,id=m1,size=128M", "-device", "pc-dimm,memdev=m1,id=d1"])
        .args(["-device", "isa-debugcon,chardev=c0", "-chardev", "null,id=c0"])
        .args(["-device", "virtio-net-pci,addr=5,mac=52:54:00:01:02:03,netdev=n0"])
        .args(["-netdev", "hubport,id=n0,hubid=0"])
        .with_qmp()
        .start()
}

fn hmp(vm: &mut QTest, line: &str) -> String {
    let command = json!({ "execute": "human-monitor-command", "arguments": { "command-line": line } });
    let text = vm.qmp(&command.to_string());
    text.as_str().expect("text").replace("\r\n", "\n")
}

fn query(vm: &mut QTest, command: &str, arguments: Value) -> Value {
    vm.qmp_raw(&json!({ "execute": command, "arguments": arguments }).to_string())
}

#[test]
fn the_tree_of_devices_has_qemus_order() {
    let mut vm = start();
    let tree = hmp(&mut vm, "info qtree");
    let function = "dev: virtio-rng-pci, id \"r0\"\n        disable-legacy = \"off\"\n        disable-modern = false\n        \
                    ioeventfd = true\n        vectors = 2 (0x2)\n";
    assert!(tree.contains(function), "{tree}");
    let rom = "        romfile = \"\"\n        romsize = 4294967295 (0xffffffff)\n        rombar = 1 (0x1)\n        \
               multifunction = false\n";
    assert!(tree.contains(rom), "{tree}");
    let bars = "addr 00:04.0, pci id 1af4:1005 (sub 1af4:0004)\n        bar 0: i/o at 0xffffffffffffffff [0x1e]\n        \
                bar 1: mem at 0xffffffffffffffff [0xffe]\n        bar 4: mem at 0xffffffffffffffff [0x3ffe]\n";
    assert!(tree.contains(bars), "{tree}");
    let device = "dev: virtio-rng-device, id \"\"\n            max-bytes = 9223372036854775807 (0x7fffffffffffffff)\n            \
                  period = 65536 (0x10000)\n            indirect_desc = true\n";
    assert!(tree.contains(device), "{tree}");
    assert!(tree.contains("\n            mac = \"52:54:00:01:02:03\"\n"), "{tree}");
    // What firmware boots from is no setting of the device's.
    assert!(!tree.contains("bootindex"), "{tree}");
}

/// Of each disk: blocks' sizes, the unit of discards, and cylinders, heads and sectors.
#[test]
fn disks_show_the_sizes_that_they_chose() {
    let image = tempfile::NamedTempFile::new().expect("an image");
    image.as_file().set_len(32 << 20).expect("32 MiB");
    let drive =
        |id: &str| format!("if=none,id={id},format=raw,file.locking=off,file={}", image.path().display());
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-device", "virtio-scsi-pci", "-snapshot"])
        .args(["-drive", &drive("v"), "-device", "virtio-blk-pci,id=virtio,drive=v"])
        .args(["-drive", &drive("s"), "-device", "scsi-hd,id=scsi,drive=s"])
        .args(["-drive", &drive("i"), "-device", "ide-hd,id=ide,drive=i"])
        .with_qmp()
        .start();
    for (id, discard) in [("virtio", u64::from(u32::MAX)), ("scsi", 4096), ("ide", 512)] {
        let names =
            ["logical_block_size", "physical_block_size", "discard_granularity", "cyls", "heads", "secs"];
        let values = names.map(|name| {
            let path = format!("/machine/peripheral/{id}");
            query(&mut vm, "qom-get", json!({ "path": path, "property": name }))["return"].as_u64()
        });
        assert_eq!(values, [512, 512, discard, 65, 16, 63].map(Some), "{id}");
    }
}

#[test]
fn regions_have_owners() {
    let mut vm = start();
    let tree = hmp(&mut vm, "info mtree -o");
    let line =
        |text: &str, name: &str| text.lines().find(|l| l.contains(name)).unwrap_or_default().to_owned();
    assert!(line(&tree, "(prio 0, ram): m1").ends_with(": m1 owner:{obj path=/objects/m1}"), "{tree}");
    assert!(
        line(&tree, "isa-debugcon").contains(" owner:{dev path=/machine/peripheral-anon/device["),
        "{tree}"
    );
    assert!(line(&tree, ": system").ends_with(" parent:{obj path=/machine/unattached}"), "{tree}");
    let view = hmp(&mut vm, "info mtree -f -d -o");
    assert!(line(&view, "(prio 0, ram): m1").ends_with(": m1 owner:{obj path=/objects/m1}"), "{view}");
    assert!(view.contains("\n  Dispatch\n    Physical sections\n      #0 @0000000000000000.."), "{view}");
    RNG.map_bar(&mut vm, 4);
    RNG.enable(&mut vm);
    let view = hmp(&mut vm, "info mtree -f -o");
    assert!(line(&view, "virtio-pci-common-virtio-rng").ends_with(" owner:{dev id=r0}"), "{view}");
    assert_eq!(hmp(&mut vm, "info mtree -f").matches("owner:").count(), 0);
}

#[test]
fn each_cpu_and_each_function_has_an_address_space() {
    let mut vm = start();
    let tree = hmp(&mut vm, "info mtree");
    let everybody = "address-space: cpu-memory-0\naddress-space: memory\n  0000000000000000-ffffffffffffffff (prio 0, i/o): \
                     system\n";
    assert!(tree.starts_with(everybody), "{tree}");
    let root = "  0000000000000000-ffffffffffffffff (prio 0, i/o): bus master container\n";
    assert!(tree.contains(&format!("address-space: virtio-rng-pci\n{root}\n")), "{tree}");
    let view = hmp(&mut vm, "info mtree -f");
    let others = " AS \"virtio-rng-pci\", root: bus master container\n";
    let nobody = " Root memory region: (none)\n  No rendered FlatView\n\n";
    assert!(view.contains(others) && view.ends_with(nobody), "{view}");
    RNG.enable(&mut vm);
    let alias = "    0000000000000000-ffffffffffffffff (prio 0, i/o): alias bus master @system \
                 0000000000000000-ffffffffffffffff\n";
    let tree = hmp(&mut vm, "info mtree");
    assert!(tree.contains(&format!("address-space: virtio-rng-pci\n{root}{alias}\n")), "{tree}");
    let view = hmp(&mut vm, "info mtree -f");
    let masters = " AS \"cpu-memory-0\", root: system\n AS \"memory\", root: system\n AS \"virtio-rng-pci\", root: bus \
                   master container\n Root memory region: system\n";
    assert!(view.contains(masters), "{view}");
}

#[test]
fn regions_and_lines_are_in_the_tree_of_objects() {
    let mut vm = start();
    let found =
        query(&mut vm, "qom-get", json!({ "path": "/machine/i440fx/ioapic/ioapic[0]", "property": "size" }));
    assert_eq!(found["return"], 0x1000, "{found}");
    let tree = hmp(&mut vm, "info qom-tree");
    for line in [
        "    /device[0] (isa-debugcon)\n      /isa-debugcon[0] (memory-region)\n",
        "      /hpet[0] (memory-region)\n      /unnamed-gpio-in[0] (irq)\n      /unnamed-gpio-in[1] (irq)\n",
        "      /virtio-pci-common-virtio-rng[0] (memory-region)\n",
        "    /system[0] (memory-region)\n",
    ] {
        assert!(tree.contains(line), "{line}{tree}");
    }
    let list = query(&mut vm, "qom-list", json!({ "path": "/objects/m1" }));
    assert!(list.to_string().contains(r#"{"name":"m1[0]","type":"child<memory-region>"}"#), "{list}");
    // They go when their region does, and stay one.
    assert_eq!(hmp(&mut vm, "info qom-tree").matches("/hpet[").count(), 1);
}

#[test]
fn ports_of_consoles_tell_their_state_and_pics_their_order() {
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-device", "virtio-serial-pci", "-chardev", "null,id=c"])
        .args(["-device", "virtserialport,chardev=c"])
        .with_qmp()
        .start();
    let tree = hmp(&mut vm, "info qtree");
    assert!(tree.contains("port 1, guest off, host on, throttle off\n"), "{tree}");
    let pics = hmp(&mut vm, "info pic");
    assert!(pics.find("\npic1: ") < pics.find("\npic0: "), "{pics}");
    assert_eq!(hmp(&mut vm, "info irq").matches("isa-i8259").count(), 1);
}

#[test]
fn plugged_memory_is_told_as_qemu_tells_it() {
    let mut vm = start();
    assert_eq!(
        hmp(&mut vm, "info memory-devices"),
        "Memory device [dimm]: \"d1\"\n  addr: 0x100000000\n  slot: 0\n  node: 0\n  size: 134217728\n  \
         memdev: /objects/m1\n  hotplugged: false\n  hotpluggable: true\n"
    );
}

#[test]
fn virtio_devices_tell_their_state() {
    let mut vm = start();
    let idle = query(&mut vm, "x-query-virtio-queue-element", json!({ "path": PATH, "queue": 0 }));
    assert_eq!(idle["error"]["desc"], "Region caches not initialized");
    let device = VirtioPci::open(&mut vm, RNG);
    assert!(device.negotiate(&mut vm, VERSION_1 | 1 << 28));
    let mut queue = device.queue(&mut vm, 0, RING);
    device.driver_ok(&mut vm);
    let status = query(&mut vm, "x-query-virtio-status", json!({ "path": PATH }))["return"].clone();
    assert_eq!(
        (&status["name"], &status["device-id"], &status["num-vqs"]),
        (&json!("virtio-rng"), &json!(4), &json!(1))
    );
    assert_eq!(
        (&status["started"], &status["broken"], &status["vhost-started"]),
        (&json!(true), &json!(false), &json!(false))
    );
    let names = |list: &Value| -> Vec<String> {
        let words = list.as_array().expect("a list").iter().filter_map(Value::as_str);
        words.map(|word| word.split(':').next().unwrap_or_default().to_owned()).collect()
    };
    let done = ["ACKNOWLEDGE", "DRIVER", "FEATURES_OK", "DRIVER_OK"].map(|s| format!("VIRTIO_CONFIG_S_{s}"));
    assert_eq!(names(&status["status"]["statuses"]), done);
    let accepted = ["VIRTIO_F_VERSION_1", "VIRTIO_RING_F_INDIRECT_DESC"];
    assert_eq!(names(&status["guest-features"]["transports"]), accepted);
    assert_eq!(status["guest-features"].get("unknown-dev-features"), None);
    // The ring's first chain, which the device cannot have taken when it is asked for by its number.
    queue.add(&mut vm, &[(BUFFER, 16, true), (BUFFER + 0x1000, 32, true)]);
    let arguments = json!({ "path": PATH, "queue": 0, "index": 0 });
    let element = query(&mut vm, "x-query-virtio-queue-element", arguments)["return"].clone();
    let descriptor =
        |addr: u64, len: u32, flags: &[&str]| json!({ "addr": addr, "len": len, "flags": flags });
    assert_eq!(
        element["descs"],
        json!([descriptor(BUFFER + 0x1000, 32, &["write"]), descriptor(BUFFER, 16, &["write", "next"])])
    );
    assert_eq!(element["avail"], json!({ "flags": 0, "idx": 1, "ring": 0 }));
    queue.kick(&mut vm);
    queue.wait_used(&mut vm);
    let state =
        query(&mut vm, "x-query-virtio-queue-status", json!({ "path": PATH, "queue": 0 }))["return"].clone();
    assert_eq!(
        (&state["vring-desc"], &state["last-avail-idx"], &state["used-idx"]),
        (&json!(RING), &json!(1), &json!(1))
    );
    assert_eq!((&state["inuse"], &state["vring-num-default"]), (&json!(0), &json!(8)));
    let text = hmp(&mut vm, &format!("info virtio-queue-status {PATH} 0"));
    assert!(
        text.starts_with(&format!(
            "{PATH}:\n  device_name:          virtio-rng\n  queue_index:          0\n"
        )),
        "{text}"
    );
    assert!(text.contains("  last_avail_idx:       1\n") && text.contains("    num:          8\n"), "{text}");
    let text = hmp(&mut vm, &format!("info virtio-status {PATH}"));
    assert!(text.contains("  device_id:               4\n  vhost_started:           false\n"), "{text}");
    let text = hmp(&mut vm, &format!("info virtio-queue-element {PATH} 0 0"));
    assert!(
        text.contains("        addr 0x301000 len 32 (write),\n        addr 0x300000 len 16 (write, next)\n"),
        "{text}"
    );
    let text = hmp(&mut vm, &format!("info virtio-status {}", &PATH[1..]));
    assert!(text.starts_with("Error: Path machine/peripheral/"), "{text}");
    assert_eq!(
        hmp(&mut vm, &format!("info virtio-queue-status {PATH} 7")),
        "Error: Invalid virtqueue number 7\n"
    );
}

#[test]
fn a_chain_without_an_end_is_told_to_the_end_of_its_table() {
    let mut vm = start();
    let device = VirtioPci::open(&mut vm, RNG);
    assert!(device.negotiate(&mut vm, VERSION_1));
    let mut queue = device.queue(&mut vm, 0, RING);
    device.driver_ok(&mut vm);
    let head = queue.add(&mut vm, &[(BUFFER, 16, true)]);
    // A descriptor that leads to itself.
    queue.set_descriptor(&mut vm, head, (BUFFER, 16), 3, head);
    let element =
        query(&mut vm, "x-query-virtio-queue-element", json!({ "path": PATH, "queue": 0, "index": 0 }));
    assert_eq!(element["return"]["descs"].as_array().map(Vec::len), Some(8));
    // One that is no memory.
    queue.set_descriptor(&mut vm, head, (u64::MAX - 8, 0xffff_fff0), 4, 0);
    let element =
        query(&mut vm, "x-query-virtio-queue-element", json!({ "path": PATH, "queue": 0, "index": 0 }));
    assert_eq!(element["error"]["desc"], "Cannot map descriptor ring");
}

#[test]
fn the_firmware_and_its_tables_are_roms() {
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-display", "none", "-S"])
        .accelerator(Some("kvm"))
        .with_qmp()
        .start();
    let roms = hmp(&mut vm, "info roms");
    let bios =
        "addr=00000000fffc0000 size=0x040000 mem=rom name=\"bios-256k.bin\"\n/rom@etc/acpi/tables size=0x";
    assert!(roms.starts_with(bios), "{roms}");
    assert_eq!(roms.lines().count(), 4, "{roms}");
    assert_eq!(hmp(&mut vm, "p /c 0xfff0"), "'\\xfff0'\n");
    assert_eq!(hmp(&mut vm, "p /c 65"), "'A'\n");
}

#[test]
fn a_machine_check_reaches_a_cpu_of_kvm() {
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-display", "none", "-S", "-smp", "2"])
        .accelerator(Some("kvm"))
        .with_qmp()
        .start();
    assert_eq!(hmp(&mut vm, "mce 0 99 0xbe00000000000000 5 0 0"), "Invalid MCE bank number\n");
    assert_eq!(hmp(&mut vm, "mce 0 1 0 5 0 0"), "Invalid MCE status code\n");
    assert_eq!(hmp(&mut vm, "mce 9 1 0 5 0 0"), "");
    // One that was corrected is noted only.
    assert_eq!(hmp(&mut vm, "mce 0 1 0x9c00000000000000 0 0x1000 0"), "");
    // A guest that is not ready for it comes to its end.
    assert_eq!(
        hmp(&mut vm, "mce 0 2 0xbe00000000000000 5 0 0"),
        "CPU 0: MCE capability is not enabled, raising triple fault"
    );
    let events = vm.take_events();
    let actions: Vec<_> = events
        .iter()
        .filter(|e| e["event"] == "MEMORY_FAILURE")
        .map(|e| e["data"]["action"].clone())
        .collect();
    assert_eq!(actions, ["inject", "reset"]);
}
