//! The `state` of CPUs and of KVM's chips, on the local `/dev/kvm`: what was saved is what a guest goes on with.

mod common;
#[path = "common/state.rs"]
mod objects;

use std::thread;
use std::time::Duration;

use common::guest;
use libqtest::QTest;
use objects::{command, objects};
use pack::Format;
use serde_json::{Value, json};

/// IA32_TIME_STAMP_COUNTER, which counts on.
const TSC: u64 = 0x10;
/// Times a guest is stopped, and for how long it runs in between, in ms.
const STOPS: u32 = 4;
const BETWEEN: u64 = 5;
/// The guest goes on until this byte is not 0.
const RELEASED: u64 = 0x90_0000;

fn get(vm: &mut QTest, path: &str) -> Value {
    command(vm, "qom-get", json!({"path": path, "property": "state"}))
}

fn set(vm: &mut QTest, path: &str, value: &Value) {
    command(vm, "qom-set", json!({"path": path, "property": "state", "value": value}));
}

const SECTION: &str = "x86_64-cpu";

/// What of a CPU's state stands still while the machine does.
fn still(state: &Value) -> Value {
    let mut cpu = state[SECTION]["state"].clone();
    for running in ["apic", "events"] {
        cpu.as_object_mut().expect("an object").remove(running);
    }
    let msrs = cpu["msrs"].as_array_mut().expect("a list");
    msrs.retain(|msr| msr[0] != TSC);
    assert!(msrs.len() > 10, "{msrs:?}");
    cpu
}

/// Another state than `state`.
fn scrambled(state: &Value) -> Value {
    let mut other = state.clone();
    let cpu = &mut other[SECTION]["state"];
    for register in ["rax", "rbx", "rip", "rsp"] {
        cpu["registers"]["registers"][register] = 0x1234.into();
    }
    cpu["registers"]["cr2"] = 0x5678.into();
    cpu["registers"]["dr"][0] = 0x9abc.into();
    other
}

/// Saves, spoils and restores all of a guest with two CPUs again and again while it runs its own tests.
fn check(how: &str) {
    let arguments = ["-nodefaults", "-smp", "2", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"];
    let kernel = guest("smp", Format::Pvh);
    let machine = format!("kernel-irqchip={how}");
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(arguments)
        .args(["-S", "-machine", &machine, "-kernel", kernel.to_str().expect("UTF-8"), "-append", "held"])
        .accelerator(Some("kvm"))
        .with_qmp()
        .start();
    let mut paths = Vec::new();
    objects(&mut vm, "/machine", &mut paths);
    assert!(paths.len() > 10);
    let mut cpus = 0;
    for _ in 0..STOPS {
        command(&mut vm, "cont", json!({}));
        thread::sleep(Duration::from_millis(BETWEEN));
        command(&mut vm, "stop", json!({}));
        let states: Vec<Value> = paths.iter().map(|path| get(&mut vm, path)).collect();
        for (path, state) in paths.iter().zip(&states).filter(|(_, state)| state.get(SECTION).is_some()) {
            set(&mut vm, path, &scrambled(state));
            let spoilt = get(&mut vm, path);
            assert_eq!(spoilt[SECTION]["state"]["registers"]["registers"]["rbx"], 0x1234);
            set(&mut vm, path, state);
            assert_eq!(still(&get(&mut vm, path)), still(state), "{path}");
            cpus += 1;
        }
        for (path, state) in paths.iter().zip(&states).filter(|(_, state)| state.get(SECTION).is_none()) {
            set(&mut vm, path, state);
        }
    }
    assert_eq!(cpus, 2 * STOPS);
    vm.writeb(RELEASED, 1);
    vm.qmp(r#"{"execute": "cont"}"#);
    assert_eq!(vm.wait().code(), Some(1), "{how}");
}

#[test]
fn a_guest_goes_on_with_what_was_saved_of_the_kernels_chips() {
    check("on");
}

#[test]
fn a_guest_goes_on_with_what_was_saved_of_split_chips() {
    check("split");
}

#[test]
fn a_guest_goes_on_with_what_was_saved_of_our_chips() {
    check("off");
}
