//! NUMA: nodes of memory and CPUs, how far they are apart and how fast they are.
//!
//! Source: QEMU `hw/core/numa.c`, and of `hw/core/machine.c` what concerns nodes.

mod hmat;
pub mod options;

use std::collections::BTreeMap;
use std::sync::Arc;

use memory::MemoryRegion;
use qom::{Error, Object, Result, bail};

use crate::machine::{CpuInstanceProperties, Machine, MachineClass, PossibleCpu};
pub use hmat::{HMAT_LB_LEVELS, HMAT_LB_TYPES, HmatLbData, HmatLbInfo};
use options::{NumaDistOptions, NumaHmatCacheOptions, NumaNodeOptions, NumaOptions};

/// Nodes there can be.
pub const MAX_NODES: usize = 128;
/// A node's distance to itself.
const NUMA_DISTANCE_MIN: u8 = 10;
const HMAT_DISABLED: &str = "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with \
     -machine hmat=on before using any of hmat specific options";

/// A node.
#[derive(Clone, Default)]
pub struct NumaNode {
    /// Bytes of memory.
    pub mem: u64,
    memdev: Option<Arc<dyn Object>>,
    /// Whether CPUs belong to it; known with `hmat=on` only.
    pub has_cpu: bool,
    /// The node that its memory is nearest to.
    pub initiator: Option<u16>,
    lb_info_provided: u8,
    /// Caches on the memory's side, by level from 1.
    pub caches: [Option<NumaHmatCacheOptions>; HMAT_LB_LEVELS],
    /// Distances to other nodes, as far as said.
    distance: BTreeMap<usize, u8>,
}

/// All nodes.
#[derive(Clone, Default)]
pub struct NumaState {
    nodes: BTreeMap<usize, NumaNode>,
    /// The node of each CPU that there can be, by index, as far as said.
    cpu_nodes: BTreeMap<usize, i64>,
    have_distance: bool,
    have_mem: bool,
    have_memdevs: bool,
    /// `-machine hmat=on`.
    pub hmat_enabled: bool,
    /// Latencies and bandwidths by level and kind.
    pub hmat_lb: [[HmatLbInfo; HMAT_LB_TYPES]; HMAT_LB_LEVELS],
}

impl NumaState {
    /// How many nodes there are; 0 where nothing is said of NUMA.
    pub fn num_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A node.
    pub fn node(&self, id: usize) -> Option<&NumaNode> {
        self.nodes.get(&id)
    }

    fn node_mut(&mut self, id: usize) -> Option<&mut NumaNode> {
        self.nodes.get_mut(&id)
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &NumaNode> {
        self.nodes.values()
    }

    /// The node of the CPU of an index.
    pub fn cpu_node(&self, index: usize) -> Option<i64> {
        self.cpu_nodes.get(&index).copied()
    }

    /// Distances from node (outer) to node (inner), where they are configured.
    pub fn distances(&self) -> Option<Vec<Vec<u8>>> {
        let row = |node: &NumaNode| {
            (0..self.num_nodes()).map(|to| node.distance.get(&to).copied().unwrap_or_default()).collect()
        };
        self.have_distance.then(|| self.nodes().map(row).collect())
    }

    fn add_distance(&mut self, options: &NumaDistOptions) -> Result<()> {
        let NumaDistOptions { src, dst, val } = *options;
        let too_large = |id: u16| usize::from(id) >= MAX_NODES;
        if too_large(src) || too_large(dst) {
            let name = if too_large(src) { "src" } else { "dst" };
            bail!("Parameter '{name}' expects an integer between 0 and {}", MAX_NODES - 1);
        }
        if self.node(src.into()).is_none() || self.node(dst.into()).is_none() {
            bail!(
                "Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first."
            );
        }
        if val < NUMA_DISTANCE_MIN {
            bail!("NUMA distance ({val}) is invalid, it shouldn't be less than {NUMA_DISTANCE_MIN}.");
        }
        if src == dst && val != NUMA_DISTANCE_MIN {
            bail!("Local distance of node {src} should be {NUMA_DISTANCE_MIN}.");
        }
        if let Some(node) = self.node_mut(src.into()) {
            node.distance.insert(dst.into(), val);
        }
        self.have_distance = true;
        Ok(())
    }

    fn distance(&self, src: usize, dst: usize) -> Option<u8> {
        self.node(src)?.distance.get(&dst).copied()
    }

    /// One direction of a pair is enough unless a pair differs; then all are needed.
    fn validate_distance(&self) -> Result<()> {
        let count = self.num_nodes();
        let mut asymmetrical = false;
        for src in 0..count {
            for dst in src + 1..count {
                match (self.distance(src, dst), self.distance(dst, src)) {
                    (None, None) => bail!(
                        "The distance between node {src} and {dst} is missing, at least one distance value \
                         between each nodes should be provided."
                    ),
                    (Some(there), Some(back)) => asymmetrical |= there != back,
                    _ => {}
                }
            }
        }
        let missing = |src: usize| (0..count).any(|dst| src != dst && self.distance(src, dst).is_none());
        if asymmetrical && (0..count).any(missing) {
            bail!(
                "At least one asymmetrical pair of distances is given, please provide distances for both \
                 directions of all node pairs."
            );
        }
        Ok(())
    }

    fn complete_distance(&mut self) {
        let count = self.num_nodes();
        for src in 0..count {
            for dst in 0..count {
                let back = if src == dst { Some(NUMA_DISTANCE_MIN) } else { self.distance(dst, src) };
                if let (Some(node), Some(back)) = (self.nodes.get_mut(&src), back) {
                    node.distance.entry(dst).or_insert(back);
                }
            }
        }
    }

    /// Gives CPUs whose properties fit to a node (`machine_set_cpu_numa_node`).
    fn set_cpu_node(&mut self, props: &CpuInstanceProperties, slots: &[PossibleCpu]) -> Result<()> {
        let Some(node_id) = props.node_id else { bail!("Missing mandatory node-id property") };
        let mut found = false;
        for (index, slot) in slots.iter().enumerate() {
            if !fits(props, &slot.props)? {
                continue;
            }
            if let Some(other) = self.cpu_node(index).filter(|other| *other != node_id) {
                bail!("CPU is already assigned to node-id: {other}");
            }
            found = true;
            self.cpu_nodes.insert(index, node_id);
            if self.hmat_enabled {
                self.set_initiator_of_cpus(node_id)?;
            }
        }
        if !found {
            bail!("no match found");
        }
        Ok(())
    }

    fn set_initiator_of_cpus(&mut self, node_id: i64) -> Result<()> {
        let id = u16::try_from(node_id).unwrap_or(u16::MAX);
        let Some(node) = self.node_mut(id.into()) else { return Ok(()) };
        if let Some(other) = node.initiator.filter(|other| *other != id) {
            bail!("The initiator of CPU NUMA node {id} should be itself (got {other})");
        }
        (node.has_cpu, node.initiator) = (true, Some(id));
        Ok(())
    }

    fn add_node(&mut self, options: &NumaNodeOptions, slots: &[PossibleCpu], qtest: bool) -> Result<()> {
        let id = options.nodeid.map_or(self.num_nodes(), usize::from);
        if id >= MAX_NODES {
            bail!("Max number of NUMA nodes reached: {id}");
        }
        if self.node(id).is_some() {
            bail!("Duplicate NUMA nodeid: {id}");
        }
        let mut node = NumaNode::default();
        if let Some(initiator) = options.initiator {
            if !self.hmat_enabled {
                bail!("{HMAT_DISABLED}");
            }
            if usize::from(initiator) >= MAX_NODES {
                bail!("The initiator id {initiator} expects an integer between 0 and {}", MAX_NODES - 1);
            }
            node.initiator = Some(initiator);
        }
        self.have_memdevs |= options.memdev.is_some();
        self.have_mem |= options.mem.is_some();
        let mixed = self.have_memdevs && self.have_mem && (options.mem.is_some() || options.memdev.is_some());
        if let Some(mem) = options.mem.filter(|_| !mixed) {
            node.mem = mem;
            if !qtest {
                util::warn_report!("Parameter -numa node,mem is deprecated, use -numa node,memdev instead");
            }
        }
        if let Some(memdev) = options.memdev.as_ref().filter(|_| !mixed) {
            let Ok(backend) = backends::find_memory_backend(memdev) else {
                bail!("memdev={memdev} is ambiguous")
            };
            node.mem = backend.property_get("size")?.as_u64().unwrap_or_default();
            node.memdev = Some(backend);
        }
        self.nodes.insert(id, node);
        for cpu in options.cpus.iter().flatten() {
            let Some(slot) = slots.get(usize::from(*cpu)) else {
                bail!("CPU index ({cpu}) should be smaller than maxcpus ({})", slots.len())
            };
            let props = CpuInstanceProperties { node_id: Some(id as i64), ..slot.props.clone() };
            self.set_cpu_node(&props, slots)?;
        }
        if mixed {
            bail!("numa configuration should use either mem= or memdev=,mixing both is not allowed");
        }
        Ok(())
    }

    /// Adds what an option says, for CPUs in `slots` (`set_numa_options`).
    fn add(&mut self, options: &NumaOptions, slots: &[PossibleCpu], qtest: bool) -> Result<()> {
        match options {
            NumaOptions::Node(node) => self.add_node(node, slots, qtest),
            NumaOptions::Dist(distance) => self.add_distance(distance),
            NumaOptions::Cpu(cpu) => {
                let Some(id) = cpu.props.node_id else { bail!("Missing mandatory node-id property") };
                if usize::try_from(id).ok().and_then(|id| self.node(id)).is_none() {
                    bail!(
                        "Invalid node-id={id}, NUMA node must be defined with -numa node,nodeid=ID before it's \
                         used with -numa cpu,node-id=ID"
                    );
                }
                self.set_cpu_node(&cpu.props, slots)
            }
            NumaOptions::HmatLb(_) | NumaOptions::HmatCache(_) if !self.hmat_enabled => {
                bail!("{HMAT_DISABLED}")
            }
            NumaOptions::HmatLb(lb) => self.add_hmat_lb(lb),
            NumaOptions::HmatCache(cache) => self.add_hmat_cache(cache),
        }
    }

    /// Checks the nodes against each other and the memory (`numa_complete_configuration`).
    fn complete(&mut self, ram_size: u64) -> Result<()> {
        let highest = self.nodes.keys().next_back().map_or(0, |id| id + 1);
        if let Some(missing) = (0..highest).rev().find(|id| !self.nodes.contains_key(id)) {
            bail!("numa: Node ID missing: {missing}");
        }
        let total = self.nodes().fold(0u64, |total, node| total.wrapping_add(node.mem));
        if self.num_nodes() > 0 && total != ram_size {
            bail!("total memory for NUMA nodes ({total:#x}) should equal RAM size ({ram_size:#x})");
        }
        if self.have_distance {
            self.validate_distance()?;
            self.complete_distance();
        }
        Ok(())
    }

    /// Memory that the nodes' backends are, one behind the other (`numa_init_memdev_container`).
    fn memory(&self, name: &str, size: u64) -> Result<Option<MemoryRegion>> {
        if !self.have_memdevs {
            return Ok(None);
        }
        let container = MemoryRegion::container(name, size.into());
        let mut address = 0;
        for node in self.nodes() {
            let Some(backend) = &node.memdev else { continue };
            let Ok(region) = backends::memory_region(backend) else {
                let id = backend.base().parent().map(|(_, name)| name).unwrap_or_default();
                bail!("memory backend {id} can't be used multiple times.")
            };
            container.add_subregion(address, &region);
            address += node.mem;
        }
        Ok(Some(container))
    }

    /// Gives the CPUs that nobody spoke of to nodes (`machine_numa_finish_cpu_init`).
    fn finish_cpus(&mut self, slots: &[PossibleCpu], qtest: bool) -> Result<()> {
        let default_mapping = self.cpu_nodes.is_empty();
        let mut unmapped = Vec::new();
        for (index, slot) in slots.iter().enumerate() {
            if self.cpu_node(index).is_some() {
                continue;
            }
            let mut props = slot.props.clone();
            let socket = props.socket_id.unwrap_or_default();
            props.node_id = Some(if default_mapping { socket % self.num_nodes() as i64 } else { 0 });
            if !default_mapping {
                unmapped.push(format!("CPU {index} [{}]", slot_text(&slot.props)));
            }
            self.set_cpu_node(&props, slots)?;
        }
        if self.hmat_enabled {
            self.validate_initiator()?;
        }
        if !unmapped.is_empty() && !qtest {
            util::warn_report!("CPU(s) not present in any NUMA nodes: {}", unmapped.join(", "));
            util::warn_report!(
                "All CPU(s) up to maxcpus should be described in NUMA config, ability to start \
                 up with partial NUMA mappings is obsoleted and will be removed in future"
            );
        }
        Ok(())
    }

    fn validate_initiator(&self) -> Result<()> {
        for (id, node) in &self.nodes {
            let Some(initiator) = node.initiator else { continue };
            match self.node(initiator.into()) {
                None => {
                    bail!("NUMA node {initiator} is missing, use '-numa node' option to declare it first")
                }
                Some(other) if !other.has_cpu => bail!("The initiator of NUMA node {id} is invalid"),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether a place is among those that `props` names; what the machine does not have is an error.
fn fits(props: &CpuInstanceProperties, slot: &CpuInstanceProperties) -> Result<bool> {
    let pairs = [
        ("thread-id", props.thread_id, slot.thread_id),
        ("core-id", props.core_id, slot.core_id),
        ("cluster-id", props.cluster_id, slot.cluster_id),
        ("socket-id", props.socket_id, slot.socket_id),
        ("die-id", props.die_id, slot.die_id),
    ];
    if let Some((name, ..)) = pairs.iter().find(|(_, wanted, has)| wanted.is_some() && has.is_none()) {
        bail!("{name} is not supported");
    }
    Ok(pairs.iter().all(|(_, wanted, has)| wanted.is_none() || wanted == has))
}

fn slot_text(props: &CpuInstanceProperties) -> String {
    let ids = [
        ("socket-id", props.socket_id),
        ("die-id", props.die_id),
        ("cluster-id", props.cluster_id),
        ("core-id", props.core_id),
        ("thread-id", props.thread_id),
    ];
    let texts = ids.iter().filter_map(|(name, id)| Some(format!("{name}: {}", (*id)?)));
    texts.collect::<Vec<_>>().join(", ")
}

fn is_qtest() -> bool {
    qom::object_get_root().child("accel").is_some_and(|accel| accel.is_a("qtest-accel"))
}

/// The places for CPUs; none on a machine that knows no topology.
fn slots(object: &Arc<dyn Object>) -> Result<Vec<PossibleCpu>> {
    match object.class().get::<MachineClass>().and_then(|class| class.possible_cpus) {
        Some(possible) => Ok(possible(object)),
        None => Err(Error::new("NUMA is not supported by this machine-type")),
    }
}

/// Adds what `-numa` or `set-numa-node` says.
///
/// # Errors
/// In QEMU's words, when it does not fit what was said before.
pub fn set_numa_options(object: &Arc<dyn Object>, options: &NumaOptions) -> Result<()> {
    let slots = slots(object)?;
    let Some(machine) = object.cast::<Machine>() else { bail!("'{}' is not a machine", object.type_name()) };
    if matches!(options, NumaOptions::Node(node) if node.mem.is_some())
        && !machine.machine_class().numa_mem_supported
    {
        return Err(Error::new("Parameter -numa node,mem is not supported by this machine type")
            .with_hint("Use -numa node,memdev instead"));
    }
    let hmat = object.property_get("hmat").is_ok_and(|value| value == true);
    let mut numa = machine.numa().lock();
    numa.hmat_enabled = hmat;
    numa.add(options, &slots, is_qtest())
}

/// Completes the configuration before the board is made; gives the memory that nodes' backends are.
///
/// # Errors
/// In QEMU's words, when nodes, memory and CPUs do not fit each other.
pub(crate) fn complete_configuration(
    object: &Arc<dyn Object>,
    machine: &Machine,
    class: &MachineClass,
) -> Result<Option<MemoryRegion>> {
    let config = machine.config();
    let with_slots = config.ram_slots > 0 && class.auto_enable_numa_with_memhp;
    let grows = config.maxram_size > config.ram_size && class.auto_enable_numa_with_memdev;
    if machine.numa().lock().num_nodes() == 0 && !with_slots && !grows {
        return Ok(None);
    }
    let slots = slots(object)?;
    let mut numa = machine.numa().lock();
    if numa.num_nodes() == 0 {
        numa.nodes.insert(0, NumaNode { mem: config.ram_size, ..NumaNode::default() });
    }
    numa.complete(config.ram_size)?;
    let memory = match class.default_ram_id {
        Some(name) => numa.memory(name, config.ram_size)?,
        None => None,
    };
    if memory.is_some() && machine.memory_backend.get().is_some() {
        bail!("'-machine memory-backend' and '-numa memdev' properties are mutually exclusive");
    }
    numa.finish_cpus(&slots, is_qtest())?;
    Ok(memory)
}
