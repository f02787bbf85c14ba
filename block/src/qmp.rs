//! QMP's commands about block devices (blockdev.c, block/qapi.c, block/monitor/).

use qom::Result;

use crate::info::{self, BlockDeviceInfo, BlockInfo, BlockStats};
use crate::options::BlockdevOptions;
use crate::{backend, node};

/// Makes a node.
#[qapi::command("blockdev-add", preconfig)]
fn blockdev_add(#[qapi(flatten)] options: BlockdevOptions) -> Result<()> {
    node::blockdev_add(&options).map(drop)
}

/// Takes away a node that a command made.
#[qapi::command("blockdev-del", preconfig)]
fn blockdev_del(node_name: String) -> Result<()> {
    node::blockdev_del(&node_name)
}

/// Lists the block devices.
#[qapi::command("query-block", preconfig)]
fn query_block() -> Result<Vec<BlockInfo>> {
    let all = backend::all_backends();
    let shown = all.iter().filter(|b| !b.name().is_empty() || b.is_attached());
    Ok(shown.map(|backend| info::block_info(backend)).collect())
}

/// Lists the nodes that have names: all.
#[qapi::command("query-named-block-nodes", preconfig)]
fn query_named_block_nodes(
    /// Without those below a node in what is told of it.
    flat: Option<bool>,
) -> Result<Vec<BlockDeviceInfo>> {
    let flat = flat.unwrap_or(false);
    Ok(node::all_nodes().iter().map(|node| info::device_info(node, None, flat)).collect())
}

/// Tells what the block devices, or all nodes, did.
#[qapi::command("query-blockstats", preconfig)]
fn query_blockstats(
    /// Nodes instead of devices.
    query_nodes: Option<bool>,
) -> Result<Vec<BlockStats>> {
    if query_nodes == Some(true) {
        return Ok(node::all_nodes().iter().map(|node| info::node_stats(node, true)).collect());
    }
    let all = backend::all_backends();
    let shown = all.iter().filter(|b| !b.name().is_empty() || b.is_attached());
    Ok(shown.map(|backend| info::backend_stats(backend)).collect())
}
