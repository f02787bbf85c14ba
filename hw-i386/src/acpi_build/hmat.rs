//! HMAT: how fast the memory of nodes is (ACPI 6.3, 5.2.27).

use hw_acpi::tables::TableBlob;

use super::fixed::Fields;

/// Flag of a proximity domain: its initiator is known.
const INITIATOR_VALID: u16 = 1 << 0;
/// QEMU's number for an initiator that is not.
const NO_INITIATOR: u32 = 128;
/// Fixed part of a latency and bandwidth structure.
const MATRIX_SIZE: u32 = 32;

/// What the table says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HmatConfig {
    /// For each node the node that its memory is nearest to.
    pub initiators: Vec<Option<u16>>,
    /// Nodes with CPUs, ascending.
    pub with_cpus: Vec<u32>,
    /// Latencies and bandwidths.
    pub matrices: Vec<HmatMatrix>,
    /// Caches on the memory's side, by node and level.
    pub caches: Vec<HmatCache>,
}

/// Latencies or bandwidths between nodes (5.2.27.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmatMatrix {
    /// Memory hierarchy: 0 is memory, 1 to 3 caches.
    pub hierarchy: u8,
    /// Data type: 0 to 2 latencies, 3 to 5 bandwidths.
    pub data_type: u8,
    /// Picoseconds or MiB a second that entries are multiples of.
    pub base: u64,
    /// Initiator, target, multiple of the base.
    pub entries: Vec<(u16, u16, u16)>,
}

/// A cache on the memory's side (5.2.27.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HmatCache {
    /// The memory's node.
    pub node: u32,
    /// Bytes.
    pub size: u64,
    /// How many levels the node has.
    pub levels: u8,
    /// Which one this is, from 1.
    pub level: u8,
    /// 0 not known, 1 direct, 2 complex.
    pub associativity: u8,
    /// 0 not known, 1 write back, 2 write through.
    pub policy: u8,
    /// Bytes of a line.
    pub line: u16,
}

fn proximity_domain(hmat: &mut Fields, node: u32, initiator: Option<u16>) {
    hmat.words(&[0, 0]).dwords(&[40]);
    hmat.words(&[if initiator.is_some() { INITIATOR_VALID } else { 0 }, 0]);
    hmat.dwords(&[initiator.map_or(NO_INITIATOR, u32::from), node, 0]).qwords(&[0, 0]);
}

fn matrix(hmat: &mut Fields, config: &HmatConfig, matrix: &HmatMatrix) {
    let (initiators, targets) = (config.with_cpus.len(), config.initiators.len());
    let mut entries = vec![0u16; initiators * targets];
    for (from, to, multiple) in &matrix.entries {
        let row = config.with_cpus.iter().position(|node| *node == u32::from(*from));
        let at = row.map(|row| row * targets + usize::from(*to));
        if let Some(entry) = at.and_then(|at| entries.get_mut(at)) {
            *entry = *multiple;
        }
    }
    let (rows, columns) = (initiators as u32, targets as u32);
    hmat.words(&[1, 0]).dwords(&[MATRIX_SIZE + 4 * rows + 4 * columns + 2 * rows * columns]);
    hmat.bytes(&[matrix.hierarchy, matrix.data_type, 0, 0]);
    hmat.dwords(&[rows, columns, 0]).qwords(&[matrix.base]);
    hmat.dwords(&config.with_cpus).dwords(&(0..columns).collect::<Vec<_>>()).words(&entries);
}

fn cache(hmat: &mut Fields, cache: &HmatCache) {
    let attributes = [(cache.levels, 0), (cache.level, 4), (cache.associativity, 8), (cache.policy, 12)];
    let attributes =
        attributes.iter().fold(u32::from(cache.line) << 16, |all, (field, at)| all | u32::from(*field) << at);
    hmat.words(&[2, 0])
        .dwords(&[32, cache.node, 0])
        .qwords(&[cache.size])
        .dwords(&[attributes])
        .words(&[0, 0]);
}

/// HMAT.
pub fn hmat(config: &HmatConfig, blob: &mut TableBlob) -> u32 {
    let mut hmat = Fields::default();
    hmat.dwords(&[0]);
    for (node, initiator) in (0..).zip(&config.initiators) {
        proximity_domain(&mut hmat, node, *initiator);
    }
    config.matrices.iter().for_each(|m| matrix(&mut hmat, config, m));
    config.caches.iter().for_each(|c| cache(&mut hmat, c));
    blob.table(*b"HMAT", 2, &hmat.0)
}
