//! What `query-block` and its like tell (block/qapi.c).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use qapi::QapiType;
use serde_json::Value;

use crate::backend::{BlockBackend, Counts, Stats};
use crate::node::BlockNode;
use crate::options::BlockdevDetectZeroesOptions;
use crate::throttle::{Bursts, Kind};
use crate::timed_average::Summary;

/// An image.
#[derive(QapiType)]
pub struct ImageInfo {
    filename: String,
    format: String,
    dirty_flag: Option<bool>,
    actual_size: Option<i64>,
    virtual_size: i64,
    cluster_size: Option<i64>,
    encrypted: Option<bool>,
    compressed: Option<bool>,
    backing_filename: Option<String>,
    full_backing_filename: Option<String>,
    backing_filename_format: Option<String>,
    backing_image: Option<Box<ImageInfo>>,
    format_specific: Option<Value>,
}

/// What of the host's caching is used.
#[derive(QapiType)]
pub struct BlockdevCacheInfo {
    writeback: bool,
    direct: bool,
    no_flush: bool,
}

/// A medium.
#[derive(QapiType)]
pub struct BlockDeviceInfo {
    file: String,
    node_name: Option<String>,
    ro: bool,
    drv: String,
    #[qapi(name = "backing_file")]
    backing_file: Option<String>,
    #[qapi(name = "backing_file_depth")]
    backing_file_depth: i64,
    encrypted: bool,
    #[qapi(name = "detect_zeroes")]
    detect_zeroes: BlockdevDetectZeroesOptions,
    bps: i64,
    #[qapi(name = "bps_rd")]
    bps_rd: i64,
    #[qapi(name = "bps_wr")]
    bps_wr: i64,
    iops: i64,
    #[qapi(name = "iops_rd")]
    iops_rd: i64,
    #[qapi(name = "iops_wr")]
    iops_wr: i64,
    #[qapi(flatten)]
    bursts: Bursts,
    group: Option<String>,
    image: ImageInfo,
    cache: BlockdevCacheInfo,
    #[qapi(name = "write_threshold")]
    write_threshold: i64,
}

/// How a device's requests go.
#[derive(QapiType)]
pub enum BlockDeviceIoStatus {
    Ok,
    Failed,
    Nospace,
}

/// A device's backend.
#[derive(QapiType)]
pub struct BlockInfo {
    device: String,
    qdev: Option<String>,
    r#type: String,
    removable: bool,
    locked: bool,
    inserted: Option<BlockDeviceInfo>,
    #[qapi(name = "tray_open")]
    tray_open: Option<bool>,
    io_status: Option<BlockDeviceIoStatus>,
}

/// Counts.
#[derive(QapiType)]
pub struct BlockDeviceStats {
    #[qapi(name = "rd_bytes")]
    rd_bytes: u64,
    #[qapi(name = "wr_bytes")]
    wr_bytes: u64,
    #[qapi(name = "unmap_bytes")]
    unmap_bytes: u64,
    #[qapi(name = "rd_operations")]
    rd_operations: u64,
    #[qapi(name = "wr_operations")]
    wr_operations: u64,
    #[qapi(name = "flush_operations")]
    flush_operations: u64,
    #[qapi(name = "unmap_operations")]
    unmap_operations: u64,
    #[qapi(name = "rd_total_time_ns")]
    rd_total_time_ns: u64,
    #[qapi(name = "wr_total_time_ns")]
    wr_total_time_ns: u64,
    #[qapi(name = "flush_total_time_ns")]
    flush_total_time_ns: u64,
    #[qapi(name = "unmap_total_time_ns")]
    unmap_total_time_ns: u64,
    #[qapi(name = "wr_highest_offset")]
    wr_highest_offset: u64,
    #[qapi(name = "rd_merged")]
    rd_merged: u64,
    #[qapi(name = "wr_merged")]
    wr_merged: u64,
    #[qapi(name = "unmap_merged")]
    unmap_merged: u64,
    #[qapi(name = "idle_time_ns")]
    idle_time_ns: Option<u64>,
    #[qapi(name = "failed_rd_operations")]
    failed_rd_operations: u64,
    #[qapi(name = "failed_wr_operations")]
    failed_wr_operations: u64,
    #[qapi(name = "failed_flush_operations")]
    failed_flush_operations: u64,
    #[qapi(name = "failed_unmap_operations")]
    failed_unmap_operations: u64,
    #[qapi(name = "invalid_rd_operations")]
    invalid_rd_operations: u64,
    #[qapi(name = "invalid_wr_operations")]
    invalid_wr_operations: u64,
    #[qapi(name = "invalid_flush_operations")]
    invalid_flush_operations: u64,
    #[qapi(name = "invalid_unmap_operations")]
    invalid_unmap_operations: u64,
    #[qapi(name = "account_invalid")]
    account_invalid: bool,
    #[qapi(name = "account_failed")]
    account_failed: bool,
    #[qapi(name = "timed_stats")]
    timed_stats: Vec<BlockDeviceTimedStats>,
}

/// Averages of an interval.
#[derive(QapiType)]
pub struct BlockDeviceTimedStats {
    #[qapi(name = "interval_length")]
    interval_length: i64,
    #[qapi(name = "min_rd_latency_ns")]
    min_rd_latency_ns: u64,
    #[qapi(name = "max_rd_latency_ns")]
    max_rd_latency_ns: u64,
    #[qapi(name = "avg_rd_latency_ns")]
    avg_rd_latency_ns: u64,
    #[qapi(name = "min_wr_latency_ns")]
    min_wr_latency_ns: u64,
    #[qapi(name = "max_wr_latency_ns")]
    max_wr_latency_ns: u64,
    #[qapi(name = "avg_wr_latency_ns")]
    avg_wr_latency_ns: u64,
    #[qapi(name = "min_flush_latency_ns")]
    min_flush_latency_ns: u64,
    #[qapi(name = "max_flush_latency_ns")]
    max_flush_latency_ns: u64,
    #[qapi(name = "avg_flush_latency_ns")]
    avg_flush_latency_ns: u64,
    #[qapi(name = "avg_rd_queue_depth")]
    avg_rd_queue_depth: f64,
    #[qapi(name = "avg_wr_queue_depth")]
    avg_wr_queue_depth: f64,
}

fn timed((seconds, [read, write, flush]): (u32, [Summary; 3])) -> BlockDeviceTimedStats {
    BlockDeviceTimedStats {
        interval_length: seconds.into(),
        min_rd_latency_ns: read.least,
        max_rd_latency_ns: read.greatest,
        avg_rd_latency_ns: read.mean,
        min_wr_latency_ns: write.least,
        max_wr_latency_ns: write.greatest,
        avg_wr_latency_ns: write.mean,
        min_flush_latency_ns: flush.least,
        max_flush_latency_ns: flush.greatest,
        avg_flush_latency_ns: flush.mean,
        avg_rd_queue_depth: read.density,
        avg_wr_queue_depth: write.density,
    }
}

/// Counts of a device's backend or of a node, and of those below.
#[derive(QapiType)]
pub struct BlockStats {
    device: Option<String>,
    qdev: Option<String>,
    node_name: Option<String>,
    stats: BlockDeviceStats,
    driver_specific: Option<Value>,
    parent: Option<Box<BlockStats>>,
    backing: Option<Box<BlockStats>>,
}

/// The node that has what is not in `node` itself: its backing file, or what a filter passes on.
fn cow_or_filter(node: &BlockNode) -> Option<Arc<BlockNode>> {
    node.backing().or_else(|| node.filtered())
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn image_info(node: &BlockNode, with_backing: bool) -> ImageInfo {
    let details = node.driver().image_details();
    let backing = node.backing();
    let below = cow_or_filter(node).filter(|_| with_backing);
    ImageInfo {
        filename: node.filename(),
        format: node.driver().format_name().to_owned(),
        dirty_flag: details.dirty,
        actual_size: node.driver().allocated_size().map(signed),
        virtual_size: signed(node.length().unwrap_or(0)),
        cluster_size: details.cluster_size.map(signed),
        encrypted: None,
        compressed: None,
        full_backing_filename: details
            .backing_filename
            .as_ref()
            .and_then(|_| Some(backing.as_ref()?.filename())),
        backing_filename: details.backing_filename,
        backing_filename_format: details.backing_format,
        backing_image: below.map(|below| Box::new(image_info(&below, true))),
        format_specific: details.specific,
    }
}

/// What there is to tell of a medium; `backend`'s write cache shows, where it is that of a device.
pub(crate) fn device_info(
    node: &Arc<BlockNode>,
    backend: Option<&BlockBackend>,
    flat: bool,
) -> BlockDeviceInfo {
    let mode = node.mode();
    let backing = cow_or_filter(node);
    let depth = std::iter::successors(backing, |below| cow_or_filter(below)).count();
    let backing_file = node.backing().map(|below| below.filename());
    let group = backend.and_then(BlockBackend::throttle);
    let limits = group.as_ref().map(|group| group.config()).unwrap_or_default();
    let average = |kind| i64::try_from(limits.of(kind).average).unwrap_or(i64::MAX);
    BlockDeviceInfo {
        file: node.filename(),
        node_name: Some(node.node_name().to_owned()),
        ro: node.is_read_only(),
        drv: node.driver().format_name().to_owned(),
        backing_file,
        backing_file_depth: depth as i64,
        encrypted: false,
        detect_zeroes: node.detect_zeroes(),
        bps: average(Kind::BpsTotal),
        bps_rd: average(Kind::BpsRead),
        bps_wr: average(Kind::BpsWrite),
        iops: average(Kind::IopsTotal),
        iops_rd: average(Kind::IopsRead),
        iops_wr: average(Kind::IopsWrite),
        bursts: Bursts::of(&limits),
        group: group.map(|group| group.name().to_owned()),
        image: image_info(node, !flat),
        cache: BlockdevCacheInfo {
            writeback: backend.is_none_or(BlockBackend::write_cache),
            direct: mode.cache.direct,
            no_flush: mode.cache.no_flush,
        },
        write_threshold: 0,
    }
}

/// What there is to tell of a backend.
pub(crate) fn block_info(backend: &BlockBackend) -> BlockInfo {
    let device = backend.device();
    let node = backend.node();
    BlockInfo {
        device: backend.name().to_owned(),
        qdev: device.as_ref().map(|device| device.id()),
        r#type: "unknown".to_owned(),
        removable: device.as_ref().is_none_or(|device| device.is_removable()),
        locked: device.as_ref().is_some_and(|device| device.is_medium_locked()),
        inserted: node.as_ref().map(|node| device_info(node, Some(backend), false)),
        tray_open: device.as_ref().and_then(|device| device.is_tray_open()),
        io_status: device.as_ref().filter(|_| backend.has_io_status()).map(|_| match backend.io_status() {
            "nospace" => BlockDeviceIoStatus::Nospace,
            "failed" => BlockDeviceIoStatus::Failed,
            _ => BlockDeviceIoStatus::Ok,
        }),
    }
}

fn counts(stats: Option<&Stats>, node: Option<&BlockNode>) -> BlockDeviceStats {
    let nothing = Stats::default();
    let (account_invalid, account_failed) = stats.map_or((false, false), Stats::accounted);
    let stats = stats.unwrap_or(&nothing);
    let bytes = |c: &Counts| c.bytes.load(Ordering::Relaxed);
    let done = |c: &Counts| c.operations.load(Ordering::Relaxed);
    let time = |c: &Counts| c.time_ns.load(Ordering::Relaxed);
    let failed = |c: &Counts| c.failed.load(Ordering::Relaxed);
    let merged = |c: &Counts| c.merged.load(Ordering::Relaxed);
    let invalid = |c: &Counts| c.invalid.load(Ordering::Relaxed);
    let Stats { read, write, unmap, flush, .. } = stats;
    BlockDeviceStats {
        rd_bytes: bytes(read),
        wr_bytes: bytes(write),
        unmap_bytes: bytes(unmap),
        rd_operations: done(read),
        wr_operations: done(write),
        flush_operations: done(flush),
        unmap_operations: done(unmap),
        rd_total_time_ns: time(read),
        wr_total_time_ns: time(write),
        flush_total_time_ns: time(flush),
        unmap_total_time_ns: time(unmap),
        wr_highest_offset: node.map_or(0, BlockNode::write_highest),
        rd_merged: merged(read),
        wr_merged: merged(write),
        unmap_merged: merged(unmap),
        idle_time_ns: stats.idle_time_ns(),
        failed_rd_operations: failed(read),
        failed_wr_operations: failed(write),
        failed_flush_operations: failed(flush),
        failed_unmap_operations: failed(unmap),
        invalid_rd_operations: invalid(read),
        invalid_wr_operations: invalid(write),
        invalid_flush_operations: invalid(flush),
        invalid_unmap_operations: invalid(unmap),
        account_invalid,
        account_failed,
        timed_stats: stats.averages().into_iter().map(timed).collect(),
    }
}

/// The counts of a node and of those below: for a device's (`of_device`) also of what has the data that it does not have
/// itself.
pub(crate) fn node_stats(node: &BlockNode, of_device: bool) -> BlockStats {
    let children = node.driver().children();
    let file = children.iter().find(|child| child.name != "backing");
    let of = |node: &BlockNode| Box::new(node_stats(node, of_device));
    BlockStats {
        device: None,
        qdev: None,
        node_name: Some(node.node_name().to_owned()),
        stats: counts(None, Some(node)),
        driver_specific: node.driver().specific_stats(),
        parent: file.map(|child| of(&child.node)),
        backing: cow_or_filter(node).filter(|_| of_device).map(|below| of(&below)),
    }
}

/// The counts of a backend and of the nodes below.
pub(crate) fn backend_stats(backend: &BlockBackend) -> BlockStats {
    let node = backend.node();
    let below = node.as_ref().map(|node| node_stats(node, true));
    let (node_name, parent, backing) =
        below.map_or((None, None, None), |b| (b.node_name, b.parent, b.backing));
    BlockStats {
        device: Some(backend.name().to_owned()),
        qdev: backend.device().map(|device| device.id()),
        node_name,
        stats: counts(Some(&backend.stats), node.as_deref()),
        driver_specific: node.as_ref().and_then(|node| node.driver().specific_stats()),
        parent,
        backing,
    }
}
