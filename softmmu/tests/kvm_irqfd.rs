//! Interrupts of virtio queues by KVM's irqfds: messages reach the local APIC, masked ones wait, changed ones change.

#[path = "common/disk.rs"]
mod disk;

use disk::*;
use libqtest::QTest;
use libqtest::virtio::*;
use serde_json::{Value, json};

/// The local APIC of the first CPU: where its messages go, and of its registers, 16 bytes apart, two.
const APIC: u64 = 0xfee0_0000;
const SPURIOUS: usize = 0xf;
const REQUESTS: usize = 0x20;
const APIC_ENABLED: u32 = 0x1ff;

/// What the table of MSI-X has of a vector besides its address.
const DATA_AT: u64 = 8;
const CONTROL_AT: u64 = 12;
const MASKED: u32 = 1;
/// Where pending bits are in the region whose beginning is the table.
const PENDING: u64 = 0x800;

const CPU: &str = "/machine/unattached/device[0]";
const NULL: &str = "file=null-co://,format=raw,file.size=1M,file.read-zeroes=on";

/// A machine whose CPU halts for good at its first instruction, and takes no interrupt, with a disk that is driven;
/// where the disk's table is.
fn machine(how: &str) -> (tempfile::TempDir, Disk, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let bios = folder.path().join("bios");
    let mut code = vec![0x90; 64 << 10];
    // cli; hlt; jmp back.
    code[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    std::fs::write(&bios, code).expect("a file");
    let (drive, device) = (format!("{NULL},if=none,id=d0"), "virtio-blk-pci,addr=4,drive=d0");
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-S", "-machine", &format!("kernel-irqchip={how}"), "-bios"])
        .args([bios.to_str().expect("UTF-8"), "-drive", &drive, "-device", device])
        .accelerator(Some("kvm"))
        .with_qmp()
        .start();
    let device = VirtioPci::open(&mut vm, BLK);
    assert!(device.negotiate(&mut vm, VERSION_1));
    let table = device.enable_msix(&mut vm, APIC);
    let queue = device.queue(&mut vm, 0, QUEUE);
    device.set_queue_vector(&mut vm, 0, 1);
    vm.writeq(table + 16, APIC);
    device.driver_ok(&mut vm);
    (folder, Disk { vm, device, queue }, table)
}

fn state(vm: &mut Disk) -> Value {
    vm.qmp("qom-get", json!({ "path": CPU, "property": "state" }))
}

/// Switches the local APIC on.
fn enable_apic(disk: &mut Disk) {
    let mut state = state(disk);
    state["x86_64-cpu"]["state"]["apic"][SPURIOUS] = APIC_ENABLED.into();
    disk.qmp("qom-set", json!({ "path": CPU, "property": "state", "value": state }));
}

/// Carries out a request while the machine runs; whether `vector` is requested of the local APIC then.
fn is_requested(disk: &mut Disk, vector: usize) -> bool {
    disk.qmp("cont", json!({}));
    assert_eq!(disk.read(0, 512).0, 0);
    disk.qmp("stop", json!({}));
    has(disk, vector)
}

fn has(disk: &mut Disk, vector: usize) -> bool {
    let register = state(disk)["x86_64-cpu"]["state"]["apic"][REQUESTS + vector / 32].as_u64();
    register.expect("the register") & 1 << (vector % 32) != 0
}

/// Follows a vector through all that a driver does with it.
fn follow(how: &str) {
    let (_folder, mut disk, table) = machine(how);
    let entry = table + 16;
    enable_apic(&mut disk);
    disk.vm.writel(entry + DATA_AT, 0x41);
    assert!(is_requested(&mut disk, 0x41));
    assert!(!has(&mut disk, 0x42));
    // The message is another.
    disk.vm.writel(entry + CONTROL_AT, MASKED);
    disk.vm.writel(entry + DATA_AT, 0x42);
    disk.vm.writel(entry + CONTROL_AT, 0);
    assert!(is_requested(&mut disk, 0x42));
    // It is masked, and pending until it is not.
    disk.vm.writel(entry + CONTROL_AT, MASKED);
    disk.vm.writel(entry + DATA_AT, 0x43);
    assert_eq!(disk.vm.readl(table + PENDING), 0);
    assert!(!is_requested(&mut disk, 0x43));
    assert_eq!(disk.vm.readl(table + PENDING), 2);
    disk.qmp("cont", json!({}));
    disk.vm.writel(entry + CONTROL_AT, 0);
    assert_eq!(disk.vm.readl(table + PENDING), 0);
    disk.qmp("stop", json!({}));
    assert!(has(&mut disk, 0x43));
    disk.vm.writel(entry + CONTROL_AT, MASKED);
    assert_eq!(disk.vm.readl(table + PENDING), 0, "it was sent");
    disk.vm.writel(entry + CONTROL_AT, 0);
    // The queue has another vector, with the device at work.
    disk.vm.writel(table + DATA_AT, 0x44);
    disk.vm.writeq(table, APIC);
    disk.device.set_queue_vector(&mut disk.vm, 0, 0);
    assert!(is_requested(&mut disk, 0x44));
    // After a reset nothing is left of it.
    disk.device.set_status(&mut disk.vm, 0);
    assert_eq!(disk.vm.readl(table + PENDING), 0);
}

#[test]
fn messages_go_by_the_kernels_routes() {
    follow("on");
}

#[test]
fn messages_go_by_the_kernels_routes_where_only_local_apics_are_its() {
    follow("split");
}

/// A guest may give every vector a message that no APIC takes, and the one beside it goes on.
#[test]
fn a_message_to_nowhere_is_nobodys() {
    let (_folder, mut disk, table) = machine("on");
    enable_apic(&mut disk);
    disk.vm.writeq(table + 16, u64::MAX);
    disk.vm.writel(table + 16 + DATA_AT, u32::MAX);
    assert!(!is_requested(&mut disk, 0x45));
    disk.vm.writeq(table + 16, APIC);
    disk.vm.writel(table + 16 + DATA_AT, 0x45);
    assert!(is_requested(&mut disk, 0x45));
}
