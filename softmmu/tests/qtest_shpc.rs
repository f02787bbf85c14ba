//! The standard hot-plug controller of `pci-bridge` and its MSI, as a guest and a user see them.

use libqtest::QTest;
use libqtest::pci::PciFunction;
use serde_json::{Value, json};

/// Slot 3 of the root bus.
const BRIDGE: PciFunction = PciFunction(3 << 3);
/// Capabilities of the bridge.
const SHPC: u8 = 0x40;
const MSI: u8 = 0x4c;
/// Registers of the controller.
const COMMAND: u64 = 0x14;
const LOCATOR: u64 = 0x18;
const CONTROL: u64 = 0x20;
/// Memory that messages go to.
const MESSAGES: u64 = 0x1000;

fn start(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(more).with_qmp().start()
}

fn command(vm: &mut QTest, name: &str, arguments: Value) -> Value {
    vm.qmp_raw(&json!({"execute": name, "arguments": arguments}).to_string())
}

fn add_device(vm: &mut QTest, id: &str, slot: &str) -> Value {
    command(vm, "device_add", json!({"driver": "virtio-rng-pci", "id": id, "bus": "br1", "addr": slot}))
}

/// A bridge that was plugged into the running machine, with its registers' address.
fn plugged() -> (QTest, u64) {
    let mut vm = start(&[]);
    let bridge = json!({"driver": "pci-bridge", "id": "br1", "chassis_nr": 7, "addr": "3"});
    assert_eq!(command(&mut vm, "device_add", bridge)["return"], json!({}));
    BRIDGE.writel(&mut vm, 0x18, 0x0001_0100);
    let bar = BRIDGE.map_bar(&mut vm, 0);
    (vm, bar)
}

/// Slot registers, by slot.
fn slot(bar: u64, number: u64) -> u64 {
    bar + 0x24 + 4 * (number - 1)
}

fn wait_for_deletion(vm: &mut QTest, id: &str) {
    let gone = |event: &Value| event["event"] == "DEVICE_DELETED" && event["data"]["device"] == id;
    while !vm.take_events().iter().any(gone) {
        let _ = vm.qmp(r#"{"execute": "query-status"}"#);
    }
}

/// Whether INTA# of the bridge is raised.
fn intx(vm: &mut QTest) -> bool {
    BRIDGE.readw(vm, 6) & 8 != 0
}

#[test]
fn a_bridge_has_a_controller_and_msi_by_default() {
    let devices =
        ["-device", "pci-bridge,id=br1,chassis_nr=7,addr=3", "-device", "virtio-rng-pci,bus=br1,addr=2"];
    let mut vm = start(&devices);
    assert_eq!((BRIDGE.readb(&mut vm, 0x34), BRIDGE.readb(&mut vm, 0x3d)), (MSI, 1));
    assert_eq!(BRIDGE.readl(&mut vm, SHPC), 0x0000_000c);
    assert_eq!(BRIDGE.readl(&mut vm, 0x48), 0x0720_4004);
    assert_eq!(BRIDGE.readl(&mut vm, MSI), 0x0180_4805);
    BRIDGE.writel(&mut vm, 0x10, u32::MAX);
    assert_eq!(BRIDGE.readl(&mut vm, 0x10), 0xffff_ff04);
    // Registers by the capability, word by word.
    for (word, value) in [(1, 31), (3, 0xe001_011f), (8, 0xf), (9, 0x7f00_0d0f), (10, 0x7f00_0006), (200, 0)]
    {
        BRIDGE.writeb(&mut vm, SHPC + 2, word);
        assert_eq!(BRIDGE.readl(&mut vm, SHPC + 4), value, "{word}");
    }
    BRIDGE.writeb(&mut vm, SHPC + 2, 8);
    BRIDGE.writel(&mut vm, SHPC + 4, 5);
    let bar = BRIDGE.map_bar(&mut vm, 0);
    assert_eq!((vm.readl(bar + CONTROL), vm.readl(bar + 0xa0)), (5, 0));
}

#[test]
fn without_the_controller_there_is_no_msi_nor_register() {
    let mut vm = start(&["-device", "pci-bridge,id=br1,chassis_nr=7,addr=3,shpc=off,msi=on"]);
    assert!(BRIDGE.capabilities(&mut vm, 5).is_empty() && BRIDGE.capabilities(&mut vm, 12).is_empty());
    BRIDGE.writel(&mut vm, 0x10, u32::MAX);
    assert_eq!((BRIDGE.readl(&mut vm, 0x10), BRIDGE.readb(&mut vm, 0x3d)), (0, 0));
    let mut vm = start(&["-device", "pci-bridge,id=br1,chassis_nr=7,addr=3,msi=off"]);
    assert!(BRIDGE.capabilities(&mut vm, 5).is_empty() && !BRIDGE.capabilities(&mut vm, 12).is_empty());
}

#[test]
fn devices_come_and_go_by_the_controller() {
    let (mut vm, bar) = plugged();
    let refused = command(&mut vm, "device_add", json!({"driver": "virtio-rng-pci", "bus": "br1"}));
    let text = "Unsupported PCI slot 0 for standard hotplug controller. Valid slots are between 1 and 31.";
    assert_eq!(refused["error"]["desc"], text);
    vm.writeb(slot(bar, 5) + 3, 0);
    vm.writel(bar + CONTROL, 0xe);
    assert_eq!(add_device(&mut vm, "r1", "5")["return"], json!({}));
    assert_eq!((vm.readl(slot(bar, 5)), vm.readl(bar + LOCATOR)), (0x000d_000f, 1 << 5));
    assert!(intx(&mut vm));
    vm.writeb(slot(bar, 5) + 2, 0x1f);
    assert!(!intx(&mut vm));
    // On.
    vm.writew(bar + COMMAND, 0x0506);
    assert_eq!((vm.readw(slot(bar, 5)), vm.readl(bar + CONTROL)), (6, 0x1_000e));
    // The user may ask more than once; the guest lets it go.
    for _ in 0..2 {
        assert_eq!(command(&mut vm, "device_del", json!({"id": "r1"}))["return"], json!({}));
    }
    assert_eq!((vm.readb(slot(bar, 5) + 2), intx(&mut vm)), (4, true));
    vm.writew(bar + COMMAND, 0x050f);
    wait_for_deletion(&mut vm, "r1");
    assert_eq!(vm.readl(slot(bar, 5)), 0x000d_0d0f);
    // A slot that is off lets go at once.
    assert_eq!(add_device(&mut vm, "r2", "6")["return"], json!({}));
    assert_eq!(command(&mut vm, "device_del", json!({"id": "r2"}))["return"], json!({}));
    wait_for_deletion(&mut vm, "r2");
}

#[test]
fn a_guest_ejects_what_acpi_plugged() {
    let devices = ["-device", "pci-bridge,id=br1,chassis_nr=7,addr=3"];
    let mut vm = start(&[&devices[..], &["-device", "virtio-rng-pci,bus=br1,addr=2,id=r1"]].concat());
    let bar = BRIDGE.map_bar(&mut vm, 0);
    vm.writew(bar + COMMAND, 0x020f);
    wait_for_deletion(&mut vm, "r1");
    assert_eq!(vm.readw(slot(bar, 2)), 0x0d0f);
}

#[test]
fn messages_are_sent_in_place_of_intx_and_wait_while_masked() {
    let (mut vm, bar) = plugged();
    vm.writel(bar + CONTROL, 0xa);
    BRIDGE.writel(&mut vm, MSI + 4, MESSAGES as u32);
    BRIDGE.writew(&mut vm, MSI + 12, 0x1234);
    // The end of a command interrupts.
    let interrupt = |vm: &mut QTest| {
        vm.writel(bar + CONTROL, 0x1_000a);
        vm.writel(MESSAGES, 0);
        vm.writeb(bar + COMMAND, 0x40);
        vm.readl(MESSAGES)
    };
    assert_eq!((interrupt(&mut vm), intx(&mut vm)), (0, true));
    BRIDGE.writew(&mut vm, MSI + 2, 1);
    assert!(!intx(&mut vm), "MSI takes its place");
    assert_eq!((interrupt(&mut vm), intx(&mut vm)), (0x1234, false));
    BRIDGE.writel(&mut vm, MSI + 16, 1);
    assert_eq!((interrupt(&mut vm), BRIDGE.readl(&mut vm, MSI + 20)), (0, 1));
    BRIDGE.writel(&mut vm, MSI + 16, 0);
    assert_eq!((vm.readl(MESSAGES), BRIDGE.readl(&mut vm, MSI + 20)), (0x1234, 0));
    // Not while it may not master the bus.
    BRIDGE.writew(&mut vm, 4, 2);
    assert_eq!(interrupt(&mut vm), 0);
    // Off again, INTA# is what the registers say.
    BRIDGE.writew(&mut vm, MSI + 2, 0);
    assert!(intx(&mut vm));
    vm.system_reset();
    assert_eq!((BRIDGE.readl(&mut vm, MSI + 4), BRIDGE.readw(&mut vm, MSI + 12)), (0, 0));
}

#[test]
fn the_registers_are_saved() {
    let (mut vm, bar) = plugged();
    vm.writeb(slot(bar, 5) + 3, 0x11);
    vm.writel(bar + CONTROL, 3);
    let path = "/machine/peripheral/br1";
    command(&mut vm, "stop", json!({}));
    let saved = command(&mut vm, "qom-get", json!({"path": path, "property": "state"}))["return"].clone();
    vm.system_reset();
    let restore = json!({"path": path, "property": "state", "value": saved});
    assert_eq!(command(&mut vm, "qom-set", restore)["return"], json!({}));
    assert_eq!((vm.readl(bar + CONTROL), vm.readb(slot(bar, 5) + 3)), (3, 0x11));
}
