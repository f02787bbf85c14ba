//! Memory's latencies, bandwidths and caches: what the HMAT is made of (`parse_numa_hmat_lb`,
//! `parse_numa_hmat_cache`).

use qom::{Result, bail};

use super::options::{HmatLBDataType, NumaHmatCacheOptions, NumaHmatLBOptions};
use super::{NumaNode, NumaState};

/// Levels of the hierarchy: memory and three caches.
pub const HMAT_LB_LEVELS: usize = 4;
/// Kinds of numbers: three latencies, three bandwidths.
pub const HMAT_LB_TYPES: usize = 6;
const MIB: u64 = 1 << 20;
/// Set in [`NumaNode::lb_info_provided`].
const LATENCY: u8 = 1 << 0;
const BANDWIDTH: u8 = 1 << 1;

/// A number for a pair of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HmatLbData {
    /// The node of the CPUs.
    pub initiator: u16,
    /// The node of the memory.
    pub target: u16,
    /// Nanoseconds or bytes a second.
    pub data: u64,
}

/// All numbers of a kind for a level, and what they are multiples of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HmatLbInfo {
    /// Nanoseconds or bytes a second; what the table has are multiples of it below 0xffff.
    pub base: u64,
    /// Of latencies the greatest multiple, of bandwidths all bits.
    range_bitmap: u64,
    /// The numbers.
    pub list: Vec<HmatLbData>,
}

impl HmatLBDataType {
    /// Whether it is a time.
    pub fn is_latency(self) -> bool {
        (self as usize) <= HmatLBDataType::WriteLatency as usize
    }
}

impl HmatLbInfo {
    /// Takes a latency, in ns.
    fn add_latency(&mut self, latency: u64, initiator: u16, target: u16) -> Result<()> {
        self.base = if self.base == 0 { u64::MAX } else { self.base };
        if latency == 0 {
            return Ok(());
        }
        let (mut rest, mut unit) = (latency, 1u64);
        while rest.is_multiple_of(10) {
            rest /= 10;
            unit *= 10;
        }
        let greatest = self.range_bitmap.max(latency / self.base);
        if greatest >= u16::MAX.into() {
            bail!(
                "Latency {latency} between initiator={initiator} and target={target} should not differ from \
                 previously entered min or max values on more than {}",
                u16::MAX - 1
            );
        }
        (self.base, self.range_bitmap) = (self.base.min(unit), greatest);
        Ok(())
    }

    /// Takes a bandwidth, in bytes a second.
    fn add_bandwidth(&mut self, bandwidth: u64, initiator: u16, target: u16) -> Result<()> {
        self.base = self.base.max(1);
        if bandwidth == 0 {
            return Ok(());
        }
        let bits = self.range_bitmap | bandwidth;
        let first = bits.trailing_zeros();
        let last = u64::BITS - bits.leading_zeros();
        if last - first > u16::BITS || bandwidth >> first >= u16::MAX.into() {
            bail!(
                "Bandwidth {bandwidth} between initiator={initiator} and target={target} should not differ from \
                 previously entered values on more than {}",
                u16::MAX - 1
            );
        }
        (self.base, self.range_bitmap) = (1 << first, bits);
        Ok(())
    }
}

impl NumaState {
    /// Takes a latency or a bandwidth.
    pub(super) fn add_hmat_lb(&mut self, options: &NumaHmatLBOptions) -> Result<()> {
        let (initiator, target, nodes) = (options.initiator, options.target, self.num_nodes());
        for (name, node) in [("initiator", initiator), ("target", target)] {
            if usize::from(node) > nodes {
                bail!("Invalid {name}={node}, it should be less than {nodes}");
            }
        }
        if !self.node(initiator.into()).is_some_and(|node| node.has_cpu) {
            bail!("Invalid initiator={initiator}, it isn't an initiator proximity domain");
        }
        if self.node(target.into()).is_none() {
            bail!("The target={target} should point to an existing node");
        }
        let latency = options.data_type.is_latency();
        let (kind, wrong) = if latency { ("latency", "bandwidth") } else { ("bandwidth", "latency") };
        let (given, not_wanted) = match latency {
            true => (options.latency, options.bandwidth),
            false => (options.bandwidth, options.latency),
        };
        let Some(data) = given else { bail!("Missing '{kind}' option") };
        if not_wanted.is_some() {
            bail!("Invalid option '{wrong}' since the data type is {kind}");
        }
        if !latency && !data.is_multiple_of(MIB) {
            bail!("Bandwidth {data} between initiator={initiator} and target={target} should be 1MB aligned");
        }
        let info = &mut self.hmat_lb[options.hierarchy as usize][options.data_type as usize];
        if info.list.iter().any(|known| (known.initiator, known.target) == (initiator, target)) {
            bail!("Duplicate configuration of the {kind} for initiator={initiator} and target={target}");
        }
        match latency {
            true => info.add_latency(data, initiator, target)?,
            false => info.add_bandwidth(data, initiator, target)?,
        }
        info.list.push(HmatLbData { initiator, target, data });
        if data != 0
            && let Some(node) = self.node_mut(target.into())
        {
            node.lb_info_provided |= if latency { LATENCY } else { BANDWIDTH };
        }
        Ok(())
    }

    /// Takes a cache.
    pub(super) fn add_hmat_cache(&mut self, options: &NumaHmatCacheOptions) -> Result<()> {
        let (id, level, size, nodes) = (options.node_id, options.level, options.size, self.num_nodes());
        if id as usize >= nodes {
            bail!("Invalid node-id={id}, it should be less than {nodes}");
        }
        let node = match self.node_mut(id as usize) {
            Some(node) if node.lb_info_provided == LATENCY | BANDWIDTH => node,
            _ => bail!(
                "The latency and bandwidth information of node-id={id} should be provided before memory side \
                 cache attributes"
            ),
        };
        if level < 1 || usize::from(level) >= HMAT_LB_LEVELS {
            bail!(
                "Invalid level={level}, it should be larger than 0 and less than or equal to {}",
                HMAT_LB_LEVELS - 1
            );
        }
        node.add_cache(level, size, options)
    }
}

impl NumaNode {
    fn add_cache(&mut self, level: u8, size: u64, options: &NumaHmatCacheOptions) -> Result<()> {
        let at = usize::from(level);
        let id = options.node_id;
        if self.caches[at].is_some() {
            bail!("Duplicate configuration of the side cache for node-id={id} and level={level}");
        }
        if level > 1 {
            let Some(below) = &self.caches[at - 1] else {
                bail!("Cache level={} shall be defined first", level - 1)
            };
            if size <= below.size {
                bail!(
                    "Invalid size={size}, the size of level={level} should be larger than the size({}) of level={}",
                    below.size,
                    level - 1
                );
            }
        }
        if let Some(above) = self.caches.get(at + 1).and_then(Option::as_ref)
            && size >= above.size
        {
            bail!(
                "Invalid size={size}, the size of level={level} should be less than the size({}) of level={}",
                above.size,
                level + 1
            );
        }
        self.caches[at] = Some(options.clone());
        Ok(())
    }
}
