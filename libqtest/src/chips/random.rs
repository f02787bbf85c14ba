//! Random requests.

use super::{Chip, Place, RESET, Step};

/// Numbers by chance, the same for the same seed: SplitMix64.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len() as u64) as usize)
    }

    /// A value of `bytes` bytes as registers take them: often few bits, or all.
    fn value(&mut self, bytes: u64) -> u64 {
        let value = match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(bytes * 8),
            3 => self.below(16),
            4 => self.next() & self.next() & self.next(),
            _ => self.next(),
        };
        value & u64::MAX >> (64 - bytes * 8)
    }
}

impl Chip {
    /// The next step: an access, a time to let pass, or seldom a reset.
    #[must_use]
    pub fn step(&self, random: &mut Random) -> Step {
        if random.below(400) == 0 {
            return std::iter::once(&RESET).chain(self.setup).map(|request| (*request).to_owned()).collect();
        }
        if self.clock > 0 && random.below(5) == 0 {
            let step = random.next() >> (64 - self.clock + random.below(self.clock.into()) as u32);
            return vec![format!("clock_step {}", step.max(1))];
        }
        random.of(self.places).map_or_else(Vec::new, |place| place.step(random))
    }
}

impl Place {
    fn step(&self, random: &mut Random) -> Step {
        match *self {
            Place::Ports(base, count, sizes) => vec![block(random, ["in", "out"], base, count, sizes)],
            Place::Memory(base, length, sizes) => vec![block(random, ["read", "write"], base, length, sizes)],
            Place::Config(function) => {
                let register = random.below(64) * 4;
                let address = 1 << 31 | u64::from(function) << 8 | register;
                let size = *random.of(&[1, 2, 4]).unwrap_or(&4);
                let port = 0xcfc + random.below(4 / size) * size;
                vec![format!("outl 0xcf8 {address:#x}"), access(random, ["in", "out"], port, size)]
            }
            Place::Indexed { select, count, stride, read, write, size } => {
                let index = random.below(count) * stride;
                let data = match random.below(2) {
                    0 => read.to_owned(),
                    _ => format!("{write} {:#x}", random.value(size)),
                };
                vec![format!("{select} {index:#x}"), data]
            }
            Place::Lines(path, count) => {
                let (line, level) = (random.below(count), random.below(2));
                vec![format!("set_irq_in {path} unnamed-gpio-in {line} {level}")]
            }
            Place::Requests(list) => random
                .of(list)
                .map_or_else(Vec::new, |requests| requests.split("; ").map(str::to_owned).collect()),
        }
    }
}

/// An access somewhere in a block, aligned to its size.
fn block(random: &mut Random, names: [&str; 2], base: u64, length: u64, sizes: &[u64]) -> String {
    let size = *random.of(sizes).unwrap_or(&1);
    let at = base + random.below(length / size) * size;
    access(random, names, at, size)
}

/// A read or write at `at`.
fn access(random: &mut Random, [read, write]: [&str; 2], at: u64, size: u64) -> String {
    let suffix = match size {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        _ => 'q',
    };
    match random.below(2) {
        0 => format!("{read}{suffix} {at:#x}"),
        _ => format!("{write}{suffix} {at:#x} {:#x}", random.value(size)),
    }
}
