//! What `-numa` and `set-numa-node` take (`qapi/machine.json`).

use qapi::QapiType;

use crate::machine::CpuInstanceProperties;

/// A part of the NUMA configuration.
#[derive(QapiType, Clone, Debug)]
#[qapi(tag = "type", tag_type = "NumaOptionsType")]
pub enum NumaOptions {
    /// A node.
    Node(NumaNodeOptions),
    /// How far two nodes are apart.
    Dist(NumaDistOptions),
    /// The node of CPUs.
    Cpu(NumaCpuOptions),
    /// How fast memory is.
    HmatLb(NumaHmatLBOptions),
    /// A cache on the memory's side.
    HmatCache(NumaHmatCacheOptions),
}

/// A node.
#[derive(QapiType, Clone, Debug, Default)]
pub struct NumaNodeOptions {
    /// Its number; without one, the number of nodes there are.
    pub nodeid: Option<u16>,
    /// Its CPUs, by index.
    pub cpus: Option<Vec<u16>>,
    /// Its memory in bytes, the old way.
    pub mem: Option<u64>,
    /// Its memory: a memory backend.
    pub memdev: Option<String>,
    /// The node that its memory is nearest to.
    pub initiator: Option<u16>,
}

/// How far two nodes are apart.
#[derive(QapiType, Clone, Debug)]
pub struct NumaDistOptions {
    /// From this node.
    pub src: u16,
    /// To this node.
    pub dst: u16,
    /// 10 is a node's distance to itself, 255 is unreachable.
    pub val: u8,
}

/// The CPUs that these properties fit belong to the node among them.
#[derive(QapiType, Clone, Debug)]
pub struct NumaCpuOptions {
    /// The properties.
    #[qapi(flatten)]
    pub props: CpuInstanceProperties,
}

/// Whose latency or bandwidth it is.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmatLBMemoryHierarchy {
    /// The memory's.
    Memory,
    /// The first cache's.
    FirstLevel,
    /// The second cache's.
    SecondLevel,
    /// The third cache's.
    ThirdLevel,
}

/// What a number says.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmatLBDataType {
    /// Nanoseconds.
    AccessLatency,
    /// Nanoseconds.
    ReadLatency,
    /// Nanoseconds.
    WriteLatency,
    /// Bytes a second.
    AccessBandwidth,
    /// Bytes a second.
    ReadBandwidth,
    /// Bytes a second.
    WriteBandwidth,
}

/// How fast a node's memory is from another.
#[derive(QapiType, Clone, Debug)]
pub struct NumaHmatLBOptions {
    /// The node of the CPUs.
    pub initiator: u16,
    /// The node of the memory.
    pub target: u16,
    /// Of the memory or a cache.
    pub hierarchy: HmatLBMemoryHierarchy,
    /// What the number says.
    pub data_type: HmatLBDataType,
    /// Nanoseconds.
    pub latency: Option<u64>,
    /// Bytes a second.
    pub bandwidth: Option<u64>,
}

/// Where a cache keeps what.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmatCacheAssociativity {
    /// Not known.
    None,
    /// Direct mapped.
    Direct,
    /// Otherwise.
    Complex,
}

/// What becomes of writes.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmatCacheWritePolicy {
    /// Not known.
    None,
    /// Kept for later.
    WriteBack,
    /// Handed on at once.
    WriteThrough,
}

/// A cache on the memory's side.
#[derive(QapiType, Clone, Debug)]
pub struct NumaHmatCacheOptions {
    /// The node of the memory.
    pub node_id: u32,
    /// Bytes.
    pub size: u64,
    /// 1 to 3.
    pub level: u8,
    /// Where it keeps what.
    pub associativity: HmatCacheAssociativity,
    /// What becomes of writes.
    pub policy: HmatCacheWritePolicy,
    /// Bytes of a line.
    pub line: u16,
}
