//! QMP's commands about block devices (blockdev.c, block/qapi.c, block/monitor/).

use std::sync::Arc;

use qapi::QapiType;
use qom::{Result, bail};

use crate::info::{self, BlockDeviceInfo, BlockInfo, BlockStats};
use crate::options::BlockdevOptions;
use crate::throttle::Bursts;
use crate::tray::get_backend;
use crate::{BlockNode, backend, node, throttle_group};

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
        // The oldest first, which the other list has last.
        return Ok(node::all_nodes().iter().rev().map(|node| info::node_stats(node, false)).collect());
    }
    let all = backend::all_backends();
    let shown = all.iter().filter(|b| !b.name().is_empty() || b.is_attached());
    Ok(shown.map(|backend| info::backend_stats(backend)).collect())
}

/// Changes the size of a disk, which its device tells the guest.
#[qapi::command("block_resize")]
fn block_resize(
    /// The device.
    device: Option<String>,
    /// Or the node.
    node_name: Option<String>,
    /// The new size in bytes.
    size: i64,
) -> Result<()> {
    let node = lookup(device.as_deref(), node_name.as_deref())?;
    let Ok(size) = u64::try_from(size) else { bail!("Parameter 'size' expects a >0 size") };
    // Requests under way were checked against the old size.
    let users: Vec<_> = backend::all_backends()
        .into_iter()
        .filter(|backend| backend.node().is_some_and(|other| Arc::ptr_eq(&other, &node)))
        .collect();
    users.iter().for_each(|backend| backend.drain());
    node.truncate(size)?;
    users.iter().filter_map(|backend| backend.device()).for_each(|device| device.resized());
    Ok(())
}

/// The node of a device or a node-name (`bdrv_lookup_bs`).
fn lookup(device: Option<&str>, node_name: Option<&str>) -> Result<Arc<BlockNode>> {
    if let Some(found) = device.and_then(backend::find) {
        return match found.node() {
            Some(node) => Ok(node),
            None => bail!("Device '{}' has no medium", found.name()),
        };
    }
    match node_name.and_then(node::find_node) {
        Some(node) => Ok(node),
        None => bail!(
            "Cannot find device='{}' nor node-name='{}'",
            device.unwrap_or_default(),
            node_name.unwrap_or_default()
        ),
    }
}

/// Limits what a disk may do in a second.
#[qapi::command("block_set_io_throttle", preconfig)]
fn block_set_io_throttle(#[qapi(flatten)] options: BlockIOThrottle) -> Result<()> {
    let (device, id) = (options.device.as_deref(), options.id.as_deref());
    let backend = get_backend(device, id)?;
    if backend.node().is_none() {
        bail!("Device has no medium");
    }
    let BlockIOThrottle { bps, bps_rd, bps_wr, iops, iops_rd, iops_wr, .. } = options;
    let config = options.bursts.config([bps, bps_rd, bps_wr, iops, iops_rd, iops_wr]);
    config.check()?;
    if !config.is_enabled() {
        backend.set_throttle(None);
        return Ok(());
    }
    let has = backend.throttle();
    let group = match (&options.group, has) {
        (None, Some(group)) => group,
        (Some(name), Some(group)) if group.name() == name => group,
        (name, _) => {
            let name = name.as_deref().or(device).or(id).unwrap_or_default();
            let group = throttle_group::group(name);
            backend.set_throttle(Some(group.clone()));
            group
        }
    };
    group.set_config(config);
    Ok(())
}

/// Limits of a disk.
#[derive(QapiType)]
struct BlockIOThrottle {
    /// The drive.
    device: Option<String>,
    /// Or its device's id.
    id: Option<String>,
    /// Bytes a second.
    bps: i64,
    /// Bytes read a second.
    #[qapi(name = "bps_rd")]
    bps_rd: i64,
    /// Bytes written a second.
    #[qapi(name = "bps_wr")]
    bps_wr: i64,
    /// Operations a second.
    iops: i64,
    /// Reads a second.
    #[qapi(name = "iops_rd")]
    iops_rd: i64,
    /// Writes a second.
    #[qapi(name = "iops_wr")]
    iops_wr: i64,
    #[qapi(flatten)]
    bursts: Bursts,
    /// The drives of a group share limits.
    group: Option<String>,
}
