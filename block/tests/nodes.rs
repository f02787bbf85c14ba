//! Nodes as clients make them, see them and take them away.

use std::sync::atomic::{AtomicU32, Ordering};

use qapi::find_command;
use serde_json::{Value, json};

/// Carries out a command of QMP.
fn qmp(name: &str, arguments: Value) -> Result<Value, String> {
    let command = find_command(name).expect("the command is there");
    command
        .run(arguments.as_object().expect("arguments are an object").clone())
        .map_err(|error| error.message)
}

/// A node-name that no other test uses.
fn name(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What `query-named-block-nodes` tells of a node.
fn info(node: &str) -> Option<Value> {
    let nodes = qmp("query-named-block-nodes", json!({})).unwrap();
    nodes.as_array().unwrap().iter().find(|n| n["node-name"] == node).cloned()
}

#[test]
fn a_node_comes_shows_and_goes() {
    let node = name("null");
    qmp("blockdev-add", json!({ "driver": "null-co", "node-name": node, "size": 1 << 20 })).unwrap();
    let info_of = info(&node).unwrap();
    assert_eq!(info_of["drv"], "null-co");
    assert_eq!(info_of["ro"], false);
    assert_eq!(info_of["image"]["virtual-size"], 1 << 20);
    assert_eq!(info_of["cache"], json!({ "direct": false, "no-flush": false, "writeback": true }));
    let again = qmp("blockdev-add", json!({ "driver": "null-aio", "node-name": node }));
    assert_eq!(again.unwrap_err(), format!("Duplicate nodes with node-name='{node}'"));
    qmp("blockdev-del", json!({ "node-name": node })).unwrap();
    assert_eq!(info(&node), None);
    let gone = qmp("blockdev-del", json!({ "node-name": node }));
    assert_eq!(gone.unwrap_err(), format!("Failed to find node with node-name='{node}'"));
}

#[test]
fn a_node_below_another_stays() {
    let (lower, upper) = (name("lower"), name("upper"));
    qmp("blockdev-add", json!({ "driver": "null-co", "node-name": lower })).unwrap();
    qmp("blockdev-add", json!({ "driver": "raw", "node-name": upper, "file": lower })).unwrap();
    let used = qmp("blockdev-del", json!({ "node-name": lower }));
    assert_eq!(used.unwrap_err(), format!("Block device {lower} is in use"));
    qmp("blockdev-del", json!({ "node-name": upper })).unwrap();
    qmp("blockdev-del", json!({ "node-name": lower })).unwrap();
}

#[test]
fn mistakes_are_told_in_qemus_words() {
    let add = |options| qmp("blockdev-add", options).unwrap_err();
    assert_eq!(add(json!({ "driver": "null-co" })), "'node-name' must be specified for the root node");
    assert_eq!(
        add(json!({ "driver": "nulx", "node-name": "n" })),
        "Parameter 'driver' does not accept value 'nulx'"
    );
    assert_eq!(
        add(json!({ "driver": "raw", "node-name": "n", "file": "zz" })),
        "Cannot find device='zz' nor node-name='zz'"
    );
    assert_eq!(add(json!({ "driver": "null-co", "node-name": "1n" })), "Invalid node-name: '1n'");
    assert_eq!(
        add(json!({ "driver": "null-co", "node-name": "n", "offset": 1 })),
        "Parameter 'offset' is unexpected"
    );
}

#[test]
fn errors_are_injected_where_and_when_rules_say() {
    let node = name("blkdebug");
    let rules = json!([
        { "event": "none", "sector": 2, "errno": 28, "iotype": "write" },
        { "event": "read_aio", "once": true },
    ]);
    let options = json!({ "driver": "blkdebug", "node-name": node, "inject-error": rules,
        "image": { "driver": "null-co", "read-zeroes": true, "size": 4096 } });
    qmp("blockdev-add", options).unwrap();
    let blkdebug = block::node::find_node(&node).unwrap();
    blkdebug.pwrite(0, &[0; 1024]).unwrap();
    assert_eq!(blkdebug.pwrite(512, &[0; 1024]).unwrap_err().raw_os_error(), Some(28));
    blkdebug.pread(1024, &mut [0; 512]).unwrap();
    blkdebug.driver().debug_event(block::driver::DebugEvent::ReadAio);
    assert_eq!(blkdebug.pread(0, &mut [0; 512]).unwrap_err().raw_os_error(), Some(5));
    blkdebug.pread(0, &mut [0; 512]).unwrap();
    assert!(blkdebug.pread(4096, &mut [0; 1]).is_err(), "that is beyond the end");
}

#[test]
fn rules_come_from_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("rules");
    std::fs::write(&config, "[inject-error]\nevent = \"none\"\nerrno = \"28\"\n").unwrap();
    let node = name("blkdebug");
    let options = json!({ "driver": "blkdebug", "node-name": node, "config": config.to_str().unwrap(),
        "image": { "driver": "null-co" } });
    qmp("blockdev-add", options).unwrap();
    let blkdebug = block::node::find_node(&node).unwrap();
    assert_eq!(blkdebug.flush().map_err(|e| e.raw_os_error()), Ok(()), "nothing was written yet");
    assert_eq!(blkdebug.pwrite(0, &[0; 512]).unwrap_err().raw_os_error(), Some(28));
    std::fs::write(&config, "[inject-error]\nevent = \"nonsense\"\n").unwrap();
    let options = json!({ "driver": "blkdebug", "node-name": name("blkdebug"), "config": config.to_str().unwrap(),
        "image": { "driver": "null-co" } });
    assert_eq!(qmp("blockdev-add", options).unwrap_err(), "Invalid event name \"nonsense\"");
}
