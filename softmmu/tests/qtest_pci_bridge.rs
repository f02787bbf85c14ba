//! `pci-bridge` as a guest and a user see it.

use libqtest::QTest;
use libqtest::pci::PciFunction;
use serde_json::{Value, json};

/// The registers of ACPI's PCI hotplug.
const PCI: u16 = 0xae00;
const SELECT: u16 = PCI + 0x10;
const EJECT: u16 = PCI + 8;
/// Slot 3 of the root bus.
const BRIDGE: PciFunction = PciFunction(3 << 3);

fn pc(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(more).with_qmp().start()
}

/// A bridge in slot 3 that leads to bus 1, with a random number generator in slot 2 there.
fn bridged(more: &[&str]) -> QTest {
    let devices = [
        "-device",
        "pci-bridge,id=br1,chassis_nr=7,addr=3",
        "-device",
        "virtio-rng-pci,bus=br1,addr=2,id=r1",
    ];
    let mut vm = pc(&[&devices, more].concat());
    BRIDGE.writel(&mut vm, 0x18, 0x0001_0100);
    vm
}

fn command(vm: &mut QTest, name: &str, arguments: Value) -> Value {
    vm.qmp_raw(&json!({"execute": name, "arguments": arguments}).to_string())
}

/// The first register of a slot of bus 1.
fn ids(vm: &mut QTest, slot: u32) -> u32 {
    vm.outl(0xcf8, 1 << 31 | 1 << 16 | slot << 11);
    vm.inl(0xcfc)
}

#[test]
fn a_bridge_shows_its_chassis_and_what_is_behind_it() {
    let mut vm = bridged(&[]);
    assert_eq!((BRIDGE.readl(&mut vm, 0), BRIDGE.readw(&mut vm, 0x0a)), (0x0001_1b36, 0x0604));
    let slots = BRIDGE.capabilities(&mut vm, 4);
    assert_eq!(BRIDGE.readl(&mut vm, slots[0]), 0x0720_4004);
    assert!(BRIDGE.capabilities(&mut vm, 9).is_empty(), "nothing is reserved");
    assert_eq!((ids(&mut vm, 2), ids(&mut vm, 1)), (0x1005_1af4, u32::MAX));
    // The ports of the device, in the bridge's window.
    vm.outl(0xcf8, 0x8001_1010);
    vm.outl(0xcfc, 0xd000);
    vm.outl(0xcf8, 0x8001_1004);
    vm.outw(0xcfc, 7);
    assert_eq!(vm.inb(0xd012), 0xff);
    BRIDGE.writew(&mut vm, 0x1c, 0xd0d0);
    BRIDGE.enable(&mut vm);
    vm.outb(0xd012, 3);
    assert_eq!(vm.inb(0xd012), 3);
    // A reset of the bus below resets the device.
    BRIDGE.writew(&mut vm, 0x3e, 0x40);
    BRIDGE.writew(&mut vm, 0x3e, 0);
    vm.outl(0xcf8, 0x8001_1004);
    assert_eq!(vm.inw(0xcfc), 0);
}

#[test]
fn query_pci_lists_buses_below() {
    let mut vm = bridged(&[]);
    BRIDGE.writel(&mut vm, 0x20, 0xe01f_e000);
    let found = command(&mut vm, "query-pci", json!({}));
    let bridge = found["return"][0]["devices"].as_array().unwrap().iter().find(|d| d["slot"] == 3).unwrap();
    let (bus, below) = (&bridge["pci_bridge"]["bus"], &bridge["pci_bridge"]["devices"][0]);
    assert_eq!((&bus["secondary"], &bus["subordinate"], &bus["number"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(bus["memory_range"], json!({"base": 0xe000_0000u32, "limit": 0xe01f_ffffu32}));
    assert_eq!((&below["qdev_id"], &below["bus"], &below["slot"]), (&json!("r1"), &json!(1), &json!(2)));
    assert!(bridge["id"].get("subsystem").is_none());
    let text = command(&mut vm, "human-monitor-command", json!({"command-line": "info pci"}));
    let text = text["return"].as_str().unwrap();
    assert!(text.contains("      secondary bus 1.\r\n"), "{text}");
    assert!(text.contains("  Bus  1, device   2, function 0:\r\n"), "{text}");
    assert!(text.contains("      memory range [0xe0000000, 0xe01fffff]\r\n"), "{text}");
}

#[test]
fn devices_come_and_go_behind_a_bridge() {
    let mut vm = bridged(&["-device", "pci-bridge,id=br2,chassis_nr=8,addr=4"]);
    // The root bus is number 0; of the others the bridge plugged last comes first.
    for (bus, number) in [("pci.0", 0), ("br2", 1), ("br1", 2)] {
        let path = if number == 0 {
            "/machine/i440fx/pci.0".to_owned()
        } else {
            format!("/machine/peripheral/{bus}/{bus}")
        };
        let found = command(&mut vm, "qom-get", json!({"path": path, "property": "acpi-pcihp-bsel"}));
        assert_eq!(found["return"], number, "{found}");
    }
    let device = json!({"driver": "virtio-rng-pci", "id": "r2", "bus": "br1", "addr": "5"});
    assert_eq!(command(&mut vm, "device_add", device)["return"], json!({}));
    vm.outl(SELECT, 2);
    assert_eq!((vm.inl(PCI), vm.inl(PCI)), (1 << 5, 0));
    assert_eq!(ids(&mut vm, 5), 0x1005_1af4);
    command(&mut vm, "device_del", json!({"id": "r2"}));
    assert_eq!(vm.inl(PCI + 4), 1 << 5);
    vm.outl(SELECT, 1);
    assert_eq!(vm.inl(PCI + 4), 0);
    vm.outl(EJECT, 1 << 5);
    vm.outl(SELECT, 2);
    assert_eq!((vm.inl(PCI + 4), ids(&mut vm, 5)), (1 << 5, 0x1005_1af4), "it was another bus's slot");
    vm.outl(EJECT, 1 << 5);
    let gone = |event: &Value| event["event"] == "DEVICE_DELETED" && event["data"]["device"] == "r2";
    while !vm.take_events().iter().any(gone) {
        let _ = vm.qmp(r#"{"execute": "query-status"}"#);
    }
    assert_eq!(ids(&mut vm, 5), u32::MAX);
    // The bridges themselves were there from the start: they stay, as a firmware finds.
    vm.outl(SELECT, 0);
    assert_eq!(vm.inl(PCI + 0xc) & 0b11011, 0);
}

#[test]
fn a_bridge_that_came_later_takes_no_devices_without_a_controller_of_its_own() {
    let mut vm = bridged(&[]);
    let bridge = json!({"driver": "pci-bridge", "id": "br9", "chassis_nr": 9, "shpc": false});
    assert_eq!(command(&mut vm, "device_add", bridge)["return"], json!({}));
    let refused = command(&mut vm, "device_add", json!({"driver": "virtio-rng-pci", "bus": "br9"}));
    assert_eq!(refused["error"]["desc"], "Bus 'br9' does not support hotplugging");
}

#[test]
fn without_hotplug_behind_bridges_only_the_root_bus_takes_devices() {
    let off = "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off";
    let mut vm = bridged(&["-global", off, "-global", "pci-bridge.shpc=off"]);
    let refused = command(&mut vm, "device_add", json!({"driver": "virtio-rng-pci", "bus": "br1"}));
    assert_eq!(refused["error"]["desc"], "Bus 'br1' does not support hotplugging");
    let device = json!({"driver": "virtio-rng-pci", "id": "r2", "addr": "5"});
    assert_eq!(command(&mut vm, "device_add", device)["return"], json!({}));
    vm.outl(SELECT, 1);
    assert_eq!((vm.inl(SELECT), vm.inl(PCI)), (0, 1 << 5));
}

#[test]
fn reservations_are_what_the_user_says() {
    let mut vm =
        pc(&["-device", "pci-bridge,addr=3,chassis_nr=1,bus-reserve=3,io-reserve=8K,pref64-reserve=1G"]);
    let at = BRIDGE.capabilities(&mut vm, 9)[0];
    let words: Vec<u32> = (0..8).map(|n| BRIDGE.readl(&mut vm, at + 4 * n)).collect();
    assert_eq!(words, [0x0120_4c09, 3, 0x2000, 0, u32::MAX, u32::MAX, 1 << 30, 0]);
}

#[test]
fn a_bridge_needs_a_chassis() {
    let mut vm = pc(&[]);
    let refused = |vm: &mut QTest, more: Value| {
        let mut arguments = json!({"driver": "pci-bridge"});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command(vm, "device_add", arguments)["error"]["desc"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(
        refused(&mut vm, json!({})),
        "Bridge chassis not specified. Each bridge is required to be assigned a unique chassis id > 0."
    );
    let conflict = json!({"chassis_nr": 1, "pref32-reserve": 1, "pref64-reserve": 1});
    assert_eq!(refused(&mut vm, conflict), "PCI resource reserve cap: PREF32 and PREF64 conflict");
}
