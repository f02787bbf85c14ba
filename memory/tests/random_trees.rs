//! Random trees and random changes, against a model that walks the tree for every byte.

mod common;

use std::sync::Arc;

use common::{Event, Probe, Recorder};
use memory::{AccessRules, AddressSpace, FlatRange, MemTxResult, MemoryRegion, RamBlock, transaction};
use proptest::prelude::*;

/// Addresses looked at: all of the root and some beyond.
const ADDRESSES: u64 = 160;
const ROOT_SIZE: u128 = 140;
/// Each region's own size of memory.
const BLOCK: u64 = 4096;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Container,
    Ram,
    Io,
    RomDevice,
    /// Of one of the regions after it.
    Alias(usize),
}

#[derive(Clone, Debug)]
struct Spec {
    kind: Kind,
    size: u64,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Map { child: usize, container: usize, address: u64, priority: i32 },
    Unmap(usize),
    Enable(usize, bool),
    Move(usize, u64),
    Resize(usize, u64),
    Window(usize, u64),
    ReadOnly(usize, bool),
    RomdMode(usize, bool),
    Write(u64, u8),
}

/// A region as the model knows it.
struct Node {
    kind: Kind,
    size: u64,
    address: u64,
    priority: i32,
    enabled: bool,
    readonly: bool,
    romd_mode: bool,
    alias_offset: u64,
    container: Option<usize>,
    /// When it came to its place; of equal priorities the later shows.
    came: u64,
    memory: Vec<u8>,
}

/// Who answers for one byte.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    node: usize,
    offset: u64,
    readonly: bool,
}

struct Model {
    nodes: Vec<Node>,
    clock: u64,
}

impl Model {
    fn show(&self, node: usize, at: i128, readonly: bool) -> Option<Shown> {
        let me = &self.nodes[node];
        if !me.enabled || at < 0 || at >= i128::from(me.size) {
            return None;
        }
        let readonly = readonly || me.readonly;
        if let Kind::Alias(target) = me.kind {
            return self.show(target, at + i128::from(me.alias_offset), readonly);
        }
        let mut children: Vec<usize> =
            (0..self.nodes.len()).filter(|n| self.nodes[*n].container == Some(node)).collect();
        children.sort_by_key(|n| std::cmp::Reverse((self.nodes[*n].priority, self.nodes[*n].came)));
        let below = children
            .into_iter()
            .find_map(|child| self.show(child, at - i128::from(self.nodes[child].address), readonly));
        match me.kind {
            Kind::Container => below,
            _ => below.or(Some(Shown { node, offset: at as u64, readonly })),
        }
    }

    fn read(&self, address: u64) -> u8 {
        let Some(shown) = self.show(0, address.into(), false) else { return 0 };
        let node = &self.nodes[shown.node];
        let memory = matches!(node.kind, Kind::Ram) || matches!(node.kind, Kind::RomDevice) && node.romd_mode;
        if memory { node.memory[shown.offset as usize] } else { shown.offset as u8 }
    }

    fn write(&mut self, address: u64, value: u8) {
        if let Some(shown) = self.show(0, address.into(), false)
            && !shown.readonly
            && matches!(self.nodes[shown.node].kind, Kind::Ram)
        {
            self.nodes[shown.node].memory[shown.offset as usize] = value;
        }
    }
}

/// Both, changed in step.
struct Pair {
    model: Model,
    regions: Vec<MemoryRegion>,
    space: Arc<AddressSpace>,
    recorder: Arc<Recorder>,
}

fn memory_of(node: usize) -> Vec<u8> {
    (0..BLOCK).map(|n| (n as u8).wrapping_mul(7) ^ (node as u8) << 4).collect()
}

impl Pair {
    fn new(specs: &[Spec]) -> Pair {
        let mut regions: Vec<Option<MemoryRegion>> = vec![None; specs.len()];
        for (n, spec) in specs.iter().enumerate().rev() {
            let name = n.to_string();
            let block = || {
                let block = RamBlock::anonymous(&name, BLOCK).unwrap();
                block.slice(0, BLOCK).unwrap().copy_from(&memory_of(n));
                block
            };
            // Byte by byte: a wider access would be one register's, wherever its region ends.
            let probe = || Probe::new(AccessRules::bytes(1));
            let region = match spec.kind {
                Kind::Container => MemoryRegion::container(&name, spec.size.into()),
                Kind::Ram => MemoryRegion::ram(&name, block()),
                Kind::Io => MemoryRegion::io(&name, spec.size, probe()),
                Kind::RomDevice => MemoryRegion::rom_device(&name, Arc::new(block()), probe()),
                Kind::Alias(target) => {
                    MemoryRegion::alias(&name, regions[target].as_ref().unwrap(), 0, spec.size)
                }
            };
            region.set_size(spec.size.into());
            regions[n] = Some(region);
        }
        let regions: Vec<MemoryRegion> = regions.into_iter().flatten().collect();
        let node = |(n, spec): (usize, &Spec)| Node {
            kind: spec.kind,
            size: spec.size,
            address: 0,
            priority: 0,
            enabled: true,
            readonly: false,
            romd_mode: true,
            alias_offset: 0,
            container: None,
            came: 0,
            memory: memory_of(n),
        };
        let space = AddressSpace::new("test", &regions[0]);
        let recorder = Recorder::follow(&space);
        let model = Model { nodes: specs.iter().enumerate().map(node).collect(), clock: 0 };
        Pair { model, regions, space, recorder }
    }

    fn apply(&mut self, change: Change) {
        let Pair { model, regions, space, .. } = self;
        model.clock += 1;
        match change {
            Change::Map { child, container, address, priority } => {
                let is_alias = matches!(model.nodes[container].kind, Kind::Alias(_));
                if container >= child || is_alias || model.nodes[child].container.is_some() {
                    return;
                }
                regions[container].add_subregion_overlap(address, &regions[child], priority);
                let came = model.clock;
                let node = &mut model.nodes[child];
                (node.container, node.address, node.priority) = (Some(container), address, priority);
                node.came = came;
            }
            Change::Unmap(n) => {
                regions[n].unmap();
                model.nodes[n].container = None;
            }
            Change::Enable(n, on) => {
                regions[n].set_enabled(on);
                model.nodes[n].enabled = on;
            }
            // The root stays where it is.
            Change::Move(0, _) => {}
            Change::Move(n, address) => {
                regions[n].set_address(address);
                if model.nodes[n].address != address {
                    (model.nodes[n].address, model.nodes[n].came) = (address, model.clock);
                }
            }
            Change::Resize(n, size) => {
                regions[n].set_size(size.into());
                model.nodes[n].size = size;
            }
            Change::Window(n, offset) => {
                regions[n].set_alias_offset(offset);
                model.nodes[n].alias_offset = offset;
            }
            Change::ReadOnly(n, on) => {
                regions[n].set_readonly(on);
                model.nodes[n].readonly = on;
            }
            Change::RomdMode(n, on) => {
                regions[n].set_romd_mode(on);
                model.nodes[n].romd_mode = on;
            }
            Change::Write(address, value) => {
                // Alone in its group: before a commit the old view would be written, which the model has not.
                let _: MemTxResult = space.write(address, &[value]);
                model.write(address, value);
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let view = self.space.view();
        for address in 0..ADDRESSES {
            let real = view.lookup(address).map(|range| Shown {
                node: range.region.name().parse().unwrap(),
                offset: address - range.start + range.offset,
                readonly: range.readonly,
            });
            prop_assert_eq!(real, self.model.show(0, address.into(), false), "at {}", address);
        }
        prop_assert!(view.ranges().iter().all(|r| r.start <= r.last));
        prop_assert!(view.ranges().windows(2).all(|w| w[0].last < w[1].start));
        prop_assert!(view.ranges().windows(2).all(|w| !mergeable(&w[0], &w[1])), "{:?}", view);
        prop_assert_eq!(&self.recorder.ranges()[..], view.ranges());

        let expected: Vec<u8> = (0..ADDRESSES).map(|address| self.model.read(address)).collect();
        let mut whole = vec![0xee; ADDRESSES as usize];
        let _: MemTxResult = self.space.read(0, &mut whole);
        prop_assert_eq!(&whole, &expected);
        let mut reader = self.space.reader();
        for address in 0..ADDRESSES - 4 {
            let mut part = [0xee; 4];
            let _: MemTxResult = reader.read(address, &mut part);
            prop_assert_eq!(&part[..], &expected[address as usize..][..4], "at {}", address);
        }
        Ok(())
    }
}

fn mergeable(a: &FlatRange, b: &FlatRange) -> bool {
    a.last + 1 == b.start
        && a.region == b.region
        && a.offset + (b.start - a.start) == b.offset
        && (a.readonly, a.romd_mode) == (b.readonly, b.romd_mode)
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    proptest::collection::vec((0..6usize, any::<prop::sample::Index>(), 0..80u64), 2..10).prop_map(|raw| {
        let count = raw.len();
        let spec = |(n, (kind, target, size)): (usize, (usize, prop::sample::Index, u64))| {
            let kind = match kind {
                _ if n == 0 => Kind::Container,
                0 => Kind::Container,
                1 => Kind::Io,
                2 => Kind::RomDevice,
                // Aliases and containers only lead further down the list: no region holds itself.
                3 | 4 if n + 1 < count => Kind::Alias(n + 1 + target.index(count - n - 1)),
                _ => Kind::Ram,
            };
            Spec { kind, size: if n == 0 { ROOT_SIZE as u64 } else { size } }
        };
        raw.into_iter().enumerate().map(spec).collect()
    })
}

fn change(count: usize) -> impl Strategy<Value = Change> {
    let node = 0..count;
    prop_oneof![
        8 => (node.clone(), node.clone(), 0..120u64, -2..3i32).prop_map(|(child, container, address, priority)| {
            Change::Map { child, container, address, priority }
        }),
        1 => node.clone().prop_map(Change::Unmap),
        1 => (1..count, any::<bool>()).prop_map(|(n, on)| Change::Enable(n, on)),
        2 => (node.clone(), 0..120u64).prop_map(|(n, address)| Change::Move(n, address)),
        1 => (node.clone(), 0..150u64).prop_map(|(n, size)| Change::Resize(n, size)),
        2 => (node.clone(), 0..100u64).prop_map(|(n, offset)| Change::Window(n, offset)),
        1 => (1..count, any::<bool>()).prop_map(|(n, on)| Change::ReadOnly(n, on)),
        1 => (node, any::<bool>()).prop_map(|(n, on)| Change::RomdMode(n, on)),
    ]
}

fn history() -> impl Strategy<Value = (Vec<Spec>, Vec<Vec<Change>>)> {
    specs().prop_flat_map(|specs| {
        let changes = proptest::collection::vec(change(specs.len()), 1..6);
        let write =
            (0..ADDRESSES, any::<u8>()).prop_map(|(address, value)| vec![Change::Write(address, value)]);
        let group = prop_oneof![5 => changes, 1 => write];
        (Just(specs), proptest::collection::vec(group, 1..12))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_view_is_what_walking_the_tree_gives((specs, groups) in history()) {
        let mut pair = Pair::new(&specs);
        pair.check()?;
        for group in groups {
            pair.recorder.take();
            let before = pair.space.view();
            {
                let _transaction = transaction();
                group.into_iter().for_each(|change| pair.apply(change));
            }
            pair.check()?;
            let events = pair.recorder.take();
            let rounds = events.iter().filter(|e| **e == Event::Begin).count();
            prop_assert_eq!(rounds, usize::from(*before != *pair.space.view()), "{:?}", events);
            if rounds == 1 {
                prop_assert_eq!(events.first(), Some(&Event::Begin));
                prop_assert_eq!(events.last(), Some(&Event::Commit));
            }
        }
    }
}
