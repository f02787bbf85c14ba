//! NUMA nodes as the monitors and the firmware see them.

use libqtest::QTest;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const NUMA: u16 = 0x0d;

fn pc(more: &[&str]) -> QTest {
    let program = env!("CARGO_BIN_EXE_softmmu");
    QTest::builder(program).args(["-nodefaults"]).args(more).with_qmp().start()
}

fn hmp(vm: &mut QTest, line: &str) -> String {
    let command =
        format!(r#"{{"execute": "human-monitor-command", "arguments": {{"command-line": "{line}"}}}}"#);
    vm.qmp(&command).as_str().unwrap_or_default().replace('\r', "")
}

const TWO_NODES: [&str; 16] = [
    "-m",
    "96M",
    "-smp",
    "4,sockets=2,cores=2",
    "-object",
    "memory-backend-ram,id=m0,size=64M",
    "-object",
    "memory-backend-ram,id=m1,size=32M",
    "-numa",
    "node,memdev=m0",
    "-numa",
    "node,memdev=m1",
    "-numa",
    "cpu,node-id=1,socket-id=0",
    "-numa",
    "cpu,node-id=0,socket-id=1",
];

#[test]
fn info_numa_lists_cpus_and_memory_of_each_node() {
    let mut vm = pc(&TWO_NODES);
    assert_eq!(
        hmp(&mut vm, "info numa"),
        "2 nodes\nnode 0 cpus: 2 3\nnode 0 size: 64 MB\nnode 0 plugged: 0 MB\n\
         node 1 cpus: 0 1\nnode 1 size: 32 MB\nnode 1 plugged: 0 MB\n"
    );
    assert_eq!(hmp(&mut pc(&[]), "info numa"), "0 nodes\n");
}

#[test]
fn the_nodes_memory_lies_one_behind_the_other() {
    let mut vm = pc(&TWO_NODES);
    let border = 64 << 20;
    vm.memwrite(border - 2, &[1, 2, 3, 4]);
    assert_eq!(vm.memread(border - 2, 4), [1, 2, 3, 4]);
}

#[test]
fn firmware_is_told_of_nodes_by_apic_id() {
    let mut vm = pc(&TWO_NODES);
    vm.outw(SELECTOR, NUMA);
    let mut word = || (0..8).fold(0, |value, at| value | u64::from(vm.inb(DATA)) << (8 * at));
    let words: Vec<_> = (0..7).map(|_| word()).collect();
    assert_eq!(words, [2, 1, 1, 0, 0, 64 << 20, 32 << 20]);
}
