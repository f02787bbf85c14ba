//! NUMA: SRAT, SLIT and HMAT (ACPI 6.4, 5.2.16, 5.2.17 and 5.2.27).

use std::ops::Range;

use hw_acpi::tables::TableBlob;

use super::fixed::{Fields, needs_x2apic};
use super::hmat::HmatConfig;
use super::{AcpiConfig, AcpiCpu, AcpiError, FOUR_GIB};

const AFFINITY_ENABLED: u32 = 1;
const AFFINITY_HOTPLUGGABLE: u32 = 2;
/// Video memory and ROMs: no RAM of a node.
const LEGACY_HOLE: Range<u64> = 0xa_0000..0x10_0000;

/// The NUMA nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaConfig {
    /// Bytes of RAM of each node, in order of addresses.
    pub node_memory: Vec<u64>,
    /// Bytes of RAM below 4 GiB.
    pub below_4g: u64,
    /// Distances from node (outer) to node (inner), 10 being a node's distance to itself; `None` leaves them out.
    pub distances: Option<Vec<Vec<u8>>>,
    /// How fast memory is; `None` leaves it out.
    pub hmat: Option<HmatConfig>,
    /// Addresses of memory that can be plugged.
    pub device_memory: Option<Range<u64>>,
}

pub fn check(numa: &NumaConfig, cpus: &[AcpiCpu]) -> Result<(), AcpiError> {
    let nodes = numa.node_memory.len();
    let square = |rows: &Vec<Vec<u8>>| rows.len() == nodes && rows.iter().all(|row| row.len() == nodes);
    let known = |cpu: &AcpiCpu| cpu.node.is_none_or(|node| (node as usize) < nodes);
    if cpus.iter().all(known) && numa.distances.as_ref().is_none_or(square) {
        Ok(())
    } else {
        Err(AcpiError::Numa)
    }
}

/// The ranges of RAM of each node: the nodes' sizes laid out over low RAM and RAM above 4 GiB, without the hole.
fn node_ranges(numa: &NumaConfig) -> Vec<(u32, Range<u64>)> {
    let high = FOUR_GIB..u64::MAX;
    let areas = [0..LEGACY_HOLE.start, LEGACY_HOLE.end..numa.below_4g, high.clone()];
    let mut ranges = Vec::new();
    // Addresses of RAM if it had no gap between below_4g and 4 GiB. The legacy hole does count.
    let mut start = 0u64;
    for (node, &size) in (0..).zip(&numa.node_memory) {
        let end = start.saturating_add(size);
        let above = |linear: u64| (linear.saturating_sub(numa.below_4g)).saturating_add(FOUR_GIB);
        for area in &areas {
            let (start, end) = if *area == high { (above(start), above(end)) } else { (start, end) };
            let range = start.max(area.start)..end.min(area.end);
            if !range.is_empty() {
                ranges.push((node, range));
            }
        }
        start = end;
    }
    ranges
}

/// SRAT.
pub fn srat(numa: &NumaConfig, config: &AcpiConfig, blob: &mut TableBlob) -> u32 {
    let mut srat = Fields::default();
    srat.dwords(&[1]).qwords(&[0]);
    for cpu in &config.cpus {
        let node = cpu.node.unwrap_or(0);
        if needs_x2apic(cpu) {
            srat.bytes(&[2, 24, 0, 0]).dwords(&[node, cpu.apic_id, AFFINITY_ENABLED, 0, 0]);
        } else {
            let [low, high @ ..] = node.to_le_bytes();
            srat.bytes(&[0, 16, low, cpu.apic_id as u8]).dwords(&[AFFINITY_ENABLED]);
            srat.bytes(&[0]).bytes(&high).dwords(&[0]);
        }
    }
    let mut memory = |node: u32, range: Range<u64>, flags: u32| {
        srat.bytes(&[1, 40]).dwords(&[node]).words(&[0]).qwords(&[range.start, range.end - range.start]);
        srat.dwords(&[0, flags]).qwords(&[0]);
    };
    let ranges = node_ranges(numa);
    // QEMU keeps the table's size independent of where the nodes' borders fall.
    let unused = (numa.node_memory.len() + 2).saturating_sub(ranges.len());
    for (node, range) in ranges {
        memory(node, range, AFFINITY_ENABLED);
    }
    for _ in 0..unused {
        memory(0, 0..0, 0);
    }
    // One range in the last node for all that can be plugged: guests ask the DSDT which node a module is in.
    if let Some(range) = &numa.device_memory {
        let last = numa.node_memory.len().saturating_sub(1) as u32;
        memory(last, range.clone(), AFFINITY_ENABLED | AFFINITY_HOTPLUGGABLE);
    }
    blob.table(*b"SRAT", 1, &srat.0)
}

/// SLIT, if there are distances.
pub fn slit(numa: &NumaConfig, blob: &mut TableBlob) -> Option<u32> {
    let distances = numa.distances.as_ref()?;
    let mut slit = Fields::default();
    slit.qwords(&[distances.len() as u64]);
    distances.iter().for_each(|row| slit.0.extend_from_slice(row));
    Some(blob.table(*b"SLIT", 1, &slit.0))
}
