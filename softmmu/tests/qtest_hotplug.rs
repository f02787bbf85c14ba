//! CPUs, memory modules and PCI devices that come and go, by the registers that the guest's ACPI uses.

use libqtest::QTest;
use serde_json::{Value, json};

const CPU: u16 = 0xaf00;
const MEMORY: u16 = 0xa00;
const PCI: u16 = 0xae00;
const GPE: u16 = 0xafe0;
/// Bits of the first byte of GPE's status.
const GPE_PCI: u8 = 1 << 1;
const GPE_CPU: u8 = 1 << 2;
const GPE_MEMORY: u8 = 1 << 3;

fn pc(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(more).with_qmp().start()
}

fn execute(vm: &mut QTest, command: &str, arguments: Value) -> Value {
    vm.qmp(&json!({"execute": command, "arguments": arguments}).to_string())
}

fn refused(vm: &mut QTest, command: &str, arguments: Value) -> String {
    let answer = vm.qmp_raw(&json!({"execute": command, "arguments": arguments}).to_string());
    answer["error"]["desc"].as_str().unwrap_or_default().to_owned()
}

/// Takes a bit of GPE's status, as the guest's handler does.
fn take_gpe(vm: &mut QTest) -> u8 {
    let status = vm.inb(GPE);
    vm.outb(GPE, status);
    status
}

/// Waits for a device to be gone.
fn await_deleted(vm: &mut QTest, id: &str) {
    loop {
        let gone = |event: &Value| event["event"] == "DEVICE_DELETED" && event["data"]["device"] == id;
        // Any answer comes after what the main loop had to do before.
        let _ = vm.qmp(r#"{"execute": "query-status"}"#);
        if vm.take_events().iter().any(gone) {
            return;
        }
    }
}

fn add_cpu(vm: &mut QTest, socket: u32) -> Value {
    let arguments = json!({"driver": "qemu64-x86_64-cpu", "id": "cpu1", "socket-id": socket, "core-id": 0, "thread-id": 0});
    execute(vm, "device_add", arguments)
}

#[test]
fn a_cpu_comes_and_goes() {
    let mut vm = pc(&["-smp", "1,maxcpus=3,sockets=3"]);
    // Firmware of old finds a bitmap; a zero turns it into registers.
    assert_eq!(vm.inb(CPU), 1);
    vm.outb(CPU, 0);
    add_cpu(&mut vm, 1);
    assert_eq!(take_gpe(&mut vm), GPE_CPU);
    vm.outl(CPU, 0);
    vm.outb(CPU + 5, 0);
    assert_eq!((vm.inl(CPU + 8), vm.inb(CPU + 4)), (1, 3));
    vm.outb(CPU + 4, 2);
    assert_eq!(vm.inb(CPU + 4), 1);
    // The number of CPUs in the CMOS, less one.
    vm.outb(0x70, 0x5f);
    assert_eq!(vm.inb(0x71), 1);

    execute(&mut vm, "device_del", json!({"id": "cpu1"}));
    assert_eq!((take_gpe(&mut vm), vm.inb(CPU + 4)), (GPE_CPU, 5));
    vm.outb(CPU + 4, 4);
    vm.outb(CPU + 4, 8);
    assert_eq!(vm.inb(CPU + 4), 0);
    await_deleted(&mut vm, "cpu1");
    let places = execute(&mut vm, "query-hotpluggable-cpus", json!({}));
    assert_eq!(places.as_array().unwrap().iter().filter(|place| !place["qom-path"].is_null()).count(), 1);
    add_cpu(&mut vm, 1);
    assert_eq!(vm.inb(CPU + 4), 3);
}

#[test]
fn the_guest_tells_how_far_it_is_with_a_cpu() {
    let mut vm = pc(&["-smp", "1,maxcpus=2,sockets=2"]);
    add_cpu(&mut vm, 1);
    vm.outb(CPU, 0);
    vm.outl(CPU, 1);
    vm.outb(CPU + 5, 1);
    vm.outl(CPU + 8, 1);
    vm.outb(CPU + 5, 2);
    vm.outl(CPU + 8, 0x80);
    let list = execute(&mut vm, "query-acpi-ospm-status", json!({}));
    let wanted = json!({"device": "cpu1", "slot": "1", "slot-type": "CPU", "source": 1, "status": 128});
    assert_eq!(list[1], wanted);
    let events = vm.take_events();
    let told = events.iter().find(|event| event["event"] == "ACPI_DEVICE_OST").unwrap();
    assert_eq!(told["data"]["info"], wanted);
}

#[test]
fn cpus_that_have_no_place_are_refused() {
    let mut vm = pc(&["-smp", "1,maxcpus=2,sockets=2"]);
    let mut add = |more: Value| {
        let mut arguments = json!({"driver": "qemu64-x86_64-cpu"});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(&mut vm, "device_add", arguments)
    };
    assert_eq!(add(json!({})), "CPU socket-id is not set");
    assert_eq!(
        add(json!({"socket-id": 2, "core-id": 0, "thread-id": 0})),
        "Invalid CPU socket-id: 2 must be in range 0:1"
    );
    assert_eq!(add(json!({"socket-id": 0, "core-id": 0, "thread-id": 0})), "CPU[0] with APIC ID 0 exists");
    let other = json!({"driver": "Haswell-x86_64-cpu", "socket-id": 1, "core-id": 0, "thread-id": 0});
    assert_eq!(
        refused(&mut vm, "device_add", other),
        "Invalid CPU type, expected cpu type: 'qemu64-x86_64-cpu'"
    );
}

const DIMM: [&str; 4] = ["-m", "64M,slots=2,maxmem=1G", "-object", "memory-backend-ram,id=mem1,size=128M"];

#[test]
fn a_memory_module_comes_and_goes() {
    let mut vm = pc(&DIMM);
    execute(&mut vm, "device_add", json!({"driver": "pc-dimm", "id": "dimm1", "memdev": "mem1"}));
    assert_eq!(take_gpe(&mut vm), GPE_MEMORY);
    vm.outl(MEMORY, 0);
    let words: Vec<_> = (0..5).map(|n| vm.inl(MEMORY + 4 * n)).collect();
    assert_eq!(words, [0, 1, 128 << 20, 0, 0]);
    assert_eq!(vm.inb(MEMORY + 0x14), 3);
    vm.outb(MEMORY + 0x14, 2);
    let address = 1 << 32;
    vm.memwrite(address, b"module");
    assert_eq!(vm.memread(address, 6), b"module");
    let devices = execute(&mut vm, "query-memory-devices", json!({}));
    let data = &devices[0]["data"];
    assert_eq!(
        (&devices[0]["type"], &data["addr"], &data["slot"]),
        (&json!("dimm"), &json!(address), &json!(0))
    );
    let summary = execute(&mut vm, "query-memory-size-summary", json!({}));
    assert_eq!(summary, json!({"base-memory": 64 << 20, "plugged-memory": 128 << 20}));

    execute(&mut vm, "device_del", json!({"id": "dimm1"}));
    assert_eq!((take_gpe(&mut vm), vm.inb(MEMORY + 0x14)), (GPE_MEMORY, 5));
    vm.outb(MEMORY + 0x14, 8);
    await_deleted(&mut vm, "dimm1");
    assert_eq!(vm.inb(MEMORY + 0x14), 4);
    assert_ne!(vm.memread(address, 6), b"module");
    execute(&mut vm, "object-del", json!({"id": "mem1"}));
}

#[test]
fn memory_modules_without_room_are_refused() {
    let mut vm = pc(&DIMM);
    let mut add = |more: Value| {
        let mut arguments = json!({"driver": "pc-dimm", "memdev": "mem1"});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(&mut vm, "device_add", arguments)
    };
    assert_eq!(add(json!({"slot": 2})), "invalid slot number 2, valid range is [0-1]");
    assert_eq!(add(json!({"addr": 0x1_0000_1000u64})), "address must be aligned to 0x200000 bytes");
    assert_eq!(
        add(json!({"node": 1})),
        "'DIMM property node has value 1' which exceeds the number of numa nodes: 1"
    );
    let mut vm = pc(&["-object", "memory-backend-ram,id=mem1,size=128M"]);
    assert_eq!(
        refused(&mut vm, "device_add", json!({"driver": "pc-dimm", "memdev": "mem1"})),
        "no slots where allocated, please specify the 'slots' option"
    );
}

#[test]
fn a_pci_device_comes_and_goes() {
    let mut vm = pc(&[]);
    execute(&mut vm, "device_add", json!({"driver": "virtio-rng-pci", "id": "rng1", "addr": "4"}));
    assert_eq!(take_gpe(&mut vm), GPE_PCI);
    // Reading the slots clears them.
    assert_eq!((vm.inl(PCI), vm.inl(PCI), vm.inl(PCI + 4)), (1 << 4, 0, 0));
    assert_eq!(vm.inl(PCI + 0xc) & 0b11, 0);
    vm.outl(0xcf8, 0x8000_2000);
    assert_eq!(vm.inw(0xcfc), 0x1af4);

    execute(&mut vm, "device_del", json!({"id": "rng1"}));
    assert_eq!((take_gpe(&mut vm), vm.inl(PCI + 4)), (GPE_PCI, 1 << 4));
    vm.outl(PCI + 8, 1 << 4);
    await_deleted(&mut vm, "rng1");
    assert_eq!(vm.inl(PCI + 4), 0);
    assert_eq!(vm.inw(0xcfc), 0xffff);
}

#[test]
fn a_reset_takes_devices_that_were_to_go() {
    let mut vm = pc(&["-device", "virtio-rng-pci,id=rng1,addr=4"]);
    execute(&mut vm, "device_del", json!({"id": "rng1"}));
    execute(&mut vm, "system_reset", json!({}));
    await_deleted(&mut vm, "rng1");
}

/// What the guest's `_DSM` asks for, by bus and slot.
fn index_of(vm: &mut QTest, bus: u32, slot: u32) -> u32 {
    vm.outl(PCI + 0x10, bus);
    vm.outl(PCI + 0x14, 1 << slot);
    vm.inl(PCI + 0x14)
}

#[test]
fn a_pci_device_may_have_an_index_that_no_other_has() {
    let bridge = "pci-bridge,id=br,chassis_nr=1,addr=3";
    let (first, below) =
        ("virtio-rng-pci,addr=4,acpi-index=7", "virtio-rng-pci,bus=br,addr=5,acpi-index=16383");
    let mut vm = pc(&["-device", bridge, "-device", first, "-device", below]);
    assert_eq!([index_of(&mut vm, 0, 4), index_of(&mut vm, 1, 5), index_of(&mut vm, 0, 3)], [7, 16383, 0]);
    assert_eq!(vm.inl(PCI + 0x14), 0, "it is read once");
    let with =
        |index: u32| json!({"driver": "virtio-rng-pci", "id": "late", "addr": "6", "acpi-index": index});
    for (index, what) in [
        (7, "a PCI device with acpi-index = 7 already exist"),
        (16383, "a PCI device with acpi-index = 16383 already exist"),
        (16384, "acpi-index should be less or equal to 16383"),
    ] {
        assert_eq!(refused(&mut vm, "device_add", with(index)), what);
    }
    for _ in 0..2 {
        execute(&mut vm, "device_add", with(8));
        assert_eq!(index_of(&mut vm, 0, 6), 8);
        execute(&mut vm, "device_del", json!({"id": "late"}));
        vm.outl(PCI + 8, 1 << 6);
        await_deleted(&mut vm, "late");
    }
}
