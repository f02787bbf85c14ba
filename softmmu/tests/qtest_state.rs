//! The `state` property: what every device saves is what it goes on with after a reset, as registers tell.

#[path = "common/state.rs"]
mod objects;

use std::collections::BTreeMap;

use libqtest::QTest;
use libqtest::chips::{CHIPS, Chip, Random, Step};
use objects::{command, objects};
use serde_json::{Value, json};

fn machine() -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program)
        .args(["-nodefaults", "-rtc", "base=2010-06-15T13:45:30,clock=vm", "-serial", "null"])
        .args(["-device", "pc-testdev"])
        .with_qmp()
        .start()
}

fn states(vm: &mut QTest) -> BTreeMap<String, Value> {
    let mut paths = Vec::new();
    objects(vm, "/machine", &mut paths);
    let mut state = |path: &String| command(vm, "qom-get", json!({"path": path, "property": "state"}));
    paths.iter().map(|path| (path.clone(), state(path))).collect()
}

/// A register that remembers, by port: index register and index, or the port alone.
const CMOS: (u16, u16) = (0x70, 0x71);

fn cmos(vm: &mut QTest, index: u8) -> u8 {
    vm.outb(CMOS.0, index);
    vm.inb(CMOS.1)
}

fn config(vm: &mut QTest, devfn: u32, register: u32) {
    vm.outl(0xcf8, 1 << 31 | devfn << 8 | register);
}

/// Leaves marks in every chip.
fn program(vm: &mut QTest) {
    for (port, value) in [
        // Both PICs at other vectors; the timer and the clock not masked.
        [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0xfe)],
        [(0xa0, 0x11), (0xa1, 0x38), (0xa1, 2), (0xa1, 1), (0xa1, 0xfe)],
        // Counter 0 a rate generator, counter 2 with its gate open; a latched count.
        [(0x43, 0x34), (0x40, 0x00), (0x40, 0x10), (0x61, 0x03), (0x43, 0x00)],
        // The clock's alarm; UART, system control port A, a key to come.
        [(0x70, 0x05), (0x71, 0x17), (0x3ff, 0x5a), (0x92, 0x02), (0x64, 0xd2)],
        [(0x60, 0x1c), (0x4d0, 0x08), (0x4d1, 0x0c), (0xb3, 0x77), (0xe0, 0x11)],
    ]
    .concat()
    {
        vm.outb(port, value);
    }
    // An entry of the I/O APIC; the HPET counts.
    vm.writel(0xfec0_0000, 0x12);
    vm.writel(0xfec0_0010, 0x0001_0055);
    vm.writel(0xfed0_0010, 1);
    // Power management at 0x600, PCI interrupt A to line 11, BIOS memory open.
    config(vm, 11, 0x40);
    vm.outl(0xcfc, 0x601);
    config(vm, 11, 0x80);
    vm.outb(0xcfc, 1);
    vm.outw(0x602, 0x0100);
    config(vm, 8, 0x60);
    vm.outb(0xcfc, 0x0b);
    config(vm, 0, 0x58);
    vm.outb(0xcfd, 0x30);
    // Firmware configuration's second byte of the signature comes next.
    vm.outw(0x510, 0);
    vm.inb(0x511);
    vm.clock_step(1_000_000);
}

/// What the marks are, and what was under way.
fn look(vm: &mut QTest) -> Vec<u32> {
    let mut seen = Vec::new();
    for port in [0x21, 0xa1, 0x40, 0x40, 0x61, 0x3ff, 0x92, 0x60, 0x4d0, 0x4d1, 0xb3, 0xe0, 0x511] {
        seen.push(vm.inb(port).into());
    }
    seen.push(vm.inl(0xcf8));
    seen.push(vm.inw(0x602).into());
    seen.push(cmos(vm, 0x05).into());
    for (devfn, register) in [(11, 0x40), (8, 0x60), (0, 0x58)] {
        config(vm, devfn, register);
        seen.push(vm.inl(0xcfc));
    }
    seen.push(vm.readl(0xfec0_0010));
    seen.push(vm.readl(0xfed0_00f0));
    // Memory shows where the bus did.
    vm.writel(0xf0000, 0x1234_5678);
    seen.push(vm.readl(0xf0000));
    // The timer's next tick makes a request of the PIC.
    vm.clock_step(4_000_000);
    vm.outb(0x20, 0x0a);
    seen.push(vm.inb(0x20).into());
    seen
}

#[test]
fn devices_go_on_after_a_reset_with_the_state_they_saved() {
    let mut vm = machine();
    program(&mut vm);
    let saved = states(&mut vm);
    let expected = look(&mut vm);

    let mut vm = machine();
    program(&mut vm);
    command(&mut vm, "stop", json!({}));
    vm.system_reset();
    let fresh = states(&mut vm);
    let changed = saved.iter().filter(|(path, state)| fresh.get(*path) != Some(state)).count();
    assert!(changed > 10, "only {changed} devices show that they were programmed");
    for (path, state) in &saved {
        command(&mut vm, "qom-set", json!({"path": path, "property": "state", "value": state}));
    }
    for (path, state) in states(&mut vm) {
        assert_eq!(saved.get(&path), Some(&state), "{path}");
    }
    command(&mut vm, "cont", json!({}));
    assert_eq!(look(&mut vm), expected);
}

#[test]
fn every_chip_of_the_board_has_a_state() {
    let states = states(&mut machine());
    let sections: Vec<&str> = states
        .values()
        .flat_map(|state| state.as_object().expect("an object").keys())
        .map(String::as_str)
        .collect();
    for name in [
        "pci-device",
        "PIIX3",
        "PIIX4_PM",
        "i440FX-pcihost",
        "mc146818rtc",
        "isa-pit",
        "isa-pcspk",
        "isa-i8259",
        "ioapic",
        "apic",
        "x86_64-cpu",
        "hpet",
        "isa-serial",
        "i8042",
        "port92",
        "fw_cfg_io",
        "pc-testdev",
    ] {
        assert!(sections.contains(&name), "{name} is not among {sections:?}");
    }
}

#[test]
fn a_state_that_is_none_is_refused() {
    let mut vm = machine();
    let states = states(&mut vm);
    let of = |section: &str| {
        let (path, state) = states.iter().find(|(_, s)| s.get(section).is_some()).expect("the section");
        (path.clone(), state.clone())
    };
    let set = |vm: &mut QTest, path: &str, value: &Value| {
        let arguments = json!({"path": path, "property": "state", "value": value});
        vm.qmp_raw(&json!({"execute": "qom-set", "arguments": arguments}).to_string())
    };
    let (pit, state) = of("isa-pit");
    assert_eq!(
        set(&mut vm, &pit, &state)["error"]["desc"],
        "the state of a device can only be set while the machine is stopped"
    );
    command(&mut vm, "stop", json!({}));
    let mut zero = state.clone();
    zero["isa-pit"]["state"]["counters"][0]["count"] = 0.into();
    let mut old = state.clone();
    old["isa-pit"]["version"] = 0.into();
    let (_, other) = of("isa-pcspk");
    for (wrong, text) in [
        (zero, "the state is none that an 8254 can have"),
        (old, "the state 'isa-pit' is not of version 1"),
        (other, "'isa-pit' has no state 'isa-pcspk'"),
        (json!({}), "'isa-pit' needs the state 'isa-pit', too"),
        (json!(7), "a device's state is an object"),
    ] {
        assert_eq!(set(&mut vm, &pit, &wrong)["error"]["desc"], text);
    }
    assert!(set(&mut vm, &pit, &state).get("return").is_some());
}

/// A chip's machine, which has carried out steps.
fn after(chip: &Chip, steps: &[Step]) -> QTest {
    let mut vm = chip.machine(QTest::builder(env!("CARGO_BIN_EXE_softmmu"))).start();
    chip.set_up(&mut vm);
    for request in steps.iter().flatten() {
        vm.answers(request);
    }
    vm
}

/// Random steps for a chip.
fn random_steps(chip: &Chip, random: &mut Random, count: usize) -> Vec<Step> {
    (0..count).map(|_| chip.step(random)).collect()
}

/// Those that let time pass.
fn waits(steps: &[Step]) -> Vec<Step> {
    steps
        .iter()
        .filter(|step| step.iter().any(|request| request.starts_with("clock_step")))
        .cloned()
        .collect()
}

/// What a reset leaves as the guest had it, as in QEMU: section, and members somewhere in it.
const KEPT: &[(&str, &[&str])] = &[
    ("PIIX4_PM", &["apm", "smbus", "memory", "select"]),
    ("i440FX-pcihost", &["state"]),
    ("hpet", &["fsb_route"]),
    ("i8042", &["data"]),
    ("i8257", &["address", "base_address", "base_count", "mode", "page"]),
    (
        "isa-pit",
        &[
            "bcd",
            "count_latched",
            "latched_count",
            "read_state",
            "rw_mode",
            "status",
            "status_latched",
            "write_latch",
            "write_state",
        ],
    ),
    ("isa-pcspk", &["data_on", "refresh"]),
    (
        "mc146818rtc",
        &[
            "cmos",
            "index",
            "origin_ns",
            "offset_ns",
            "origin_seconds",
            "periodic_base",
            "periodic_after_reset",
        ],
    ),
    ("isa-serial", &["fcr"]),
    ("pc-testdev", &["iomem", "word"]),
    // What no device of QEMU's resets: most of what is behind the header.
    ("pci-device", &["config"]),
    ("port92", &["state"]),
];

/// Takes members out, however deep they are.
fn forget(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !names.contains(&name.as_str()));
            members.values_mut().for_each(|value| forget(value, names));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| forget(value, names)),
        _ => {}
    }
}

/// The states after a reset, without what it keeps.
fn states_after_reset(vm: &mut QTest) -> BTreeMap<String, Value> {
    vm.system_reset();
    let mut states = states(vm);
    for state in states.values_mut() {
        for (section, names) in KEPT {
            if let Some(section) = state.get_mut(section) {
                forget(section, names);
            }
        }
    }
    states
}

#[test]
fn a_reset_at_any_moment_leaves_every_chip_as_at_the_start() {
    for chip in CHIPS {
        for seed in 0..2 {
            let steps = random_steps(chip, &mut Random::new(seed), 150);
            let fresh = states_after_reset(&mut after(chip, &waits(&steps)));
            for (path, state) in states_after_reset(&mut after(chip, &steps)) {
                assert_eq!(state, fresh[&path], "{}, seed {seed}: {path}", chip.name);
            }
        }
    }
}

/// Where chips' requests have memory.
const MEMORY: u64 = 0x1000;

#[test]
fn a_state_saved_at_any_moment_goes_on_in_another_machine() {
    for chip in CHIPS {
        for seed in 0..2 {
            let mut random = Random::new(seed);
            let (before, then) = (random_steps(chip, &mut random, 100), random_steps(chip, &mut random, 100));
            let [mut one, mut other] = [after(chip, &before), after(chip, &waits(&before))];
            for vm in [&mut one, &mut other] {
                command(vm, "stop", json!({}));
            }
            let saved = states(&mut one);
            for (path, state) in &saved {
                command(&mut other, "qom-set", json!({"path": path, "property": "state", "value": state}));
            }
            for (path, state) in states(&mut other) {
                assert_eq!(saved[&path], state, "{}, seed {seed}: {path}", chip.name);
            }
            // Memory is no device's state.
            other.memwrite(MEMORY, &one.memread(MEMORY, 0x1000));
            for vm in [&mut one, &mut other] {
                command(vm, "cont", json!({}));
            }
            // What lines did meanwhile.
            for vm in [&mut one, &mut other] {
                vm.answers("endianness");
            }
            for request in then.iter().flatten() {
                let name = chip.name;
                assert_eq!(one.answers(request), other.answers(request), "{name}, seed {seed}: {request}");
            }
        }
    }
}
