//! Caches as CPUID tells of them: leaves 2 and 4 in Intel's form, 0x80000005, 0x80000006 and
//! 0x8000001D in AMD's.
//!
//! Encodings: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E. Contents: QEMU 7.2,
//! target/i386/cpu.c, whose leaves disagree with each other for all models but EPYC and Dhyana.

use crate::topology::Topology;

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

/// What a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// Data.
    Data,
    /// Instructions.
    Instruction,
    /// Both.
    Unified,
}

/// One cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// What it holds.
    pub kind: CacheKind,
    /// 1 to 3.
    pub level: u32,
    /// Size in bytes.
    pub size: u32,
    /// Line size in bytes.
    pub line_size: u32,
    /// Ways.
    pub associativity: u32,
    /// Sets; 0 where only leaf 2 speaks of the cache.
    pub sets: u32,
    /// Lines for one tag (AMD).
    pub lines_per_tag: u32,
    /// It needs no set-up by software.
    pub self_init: bool,
    /// WBINVD does not reach the same level of other cores.
    pub no_invd_sharing: bool,
    /// It includes the levels below.
    pub inclusive: bool,
    /// Its index is a hash of the address.
    pub complex_indexing: bool,
}

const CACHE: Cache = Cache {
    kind: CacheKind::Unified,
    level: 1,
    size: 0,
    line_size: 64,
    associativity: 8,
    sets: 0,
    lines_per_tag: 1,
    self_init: false,
    no_invd_sharing: false,
    inclusive: false,
    complex_indexing: false,
};

const L1D: Cache = Cache {
    kind: CacheKind::Data,
    size: 32 * KIB,
    sets: 64,
    self_init: true,
    no_invd_sharing: true,
    ..CACHE
};
const L1I: Cache = Cache { kind: CacheKind::Instruction, ..L1D };
const AMD_L2: Cache = Cache { level: 2, size: 512 * KIB, sets: 1024, ..CACHE };
const L3: Cache = Cache {
    level: 3,
    size: 16 * MIB,
    associativity: 16,
    sets: 16384,
    self_init: true,
    inclusive: true,
    complex_indexing: true,
    ..CACHE
};

/// The caches of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuCaches {
    /// Level 1, data.
    pub l1d: Cache,
    /// Level 1, instructions.
    pub l1i: Cache,
    /// Level 2.
    pub l2: Cache,
    /// Level 3.
    pub l3: Cache,
}

pub(crate) const EPYC_CACHES: CpuCaches = CpuCaches {
    l1d: L1D,
    l1i: Cache { size: 64 * KIB, associativity: 4, sets: 256, ..L1I },
    l2: AMD_L2,
    l3: Cache { size: 8 * MIB, sets: 8192, ..L3 },
};
pub(crate) const EPYC_ROME_CACHES: CpuCaches = CpuCaches { l1d: L1D, l1i: L1I, l2: AMD_L2, l3: L3 };
pub(crate) const EPYC_MILAN_CACHES: CpuCaches =
    CpuCaches { l3: Cache { size: 32 * MIB, sets: 32768, ..L3 }, ..EPYC_ROME_CACHES };

/// What each family of leaves says of the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLeaves {
    /// Leaf 2.
    pub leaf_2: CpuCaches,
    /// Leaf 4.
    pub leaf_4: CpuCaches,
    /// Leaves 0x80000005, 0x80000006 and 0x8000001D.
    pub amd: CpuCaches,
}

impl CacheLeaves {
    /// All leaves tell of the same caches.
    pub fn same(caches: &CpuCaches) -> Self {
        Self { leaf_2: *caches, leaf_4: *caches, amd: *caches }
    }

    /// What QEMU told before models had caches of their own (`legacy-cache=on`).
    pub fn legacy() -> Self {
        let l2 = Cache { level: 2, no_invd_sharing: true, self_init: true, ..CACHE };
        let leaf_4 = CpuCaches {
            l1d: L1D,
            l1i: L1I,
            l2: Cache { size: 4 * MIB, associativity: 16, sets: 4096, ..l2 },
            l3: L3,
        };
        let amd_l1 = Cache { size: 64 * KIB, associativity: 2, sets: 512, ..L1D };
        Self {
            leaf_2: CpuCaches { l2: Cache { size: 2 * MIB, ..l2 }, ..leaf_4 },
            leaf_4,
            amd: CpuCaches {
                l1d: amd_l1,
                l1i: Cache { kind: CacheKind::Instruction, ..amd_l1 },
                l2: Cache { associativity: 16, sets: 512, ..AMD_L2 },
                l3: L3,
            },
        }
    }
}

impl Cache {
    /// The descriptor byte of leaf 2; 0xff, see leaf 4, where there is none.
    ///
    /// Of the manual's table only what [`CpuCaches`] above and its levels can hold.
    pub fn descriptor(&self) -> u8 {
        use CacheKind::{Data, Instruction, Unified};
        match (self.level, self.kind, self.size / KIB, self.associativity) {
            (1, Data, 32, 8) => 0x2c,
            (1, Instruction, 32, 8) => 0x30,
            (2, Unified, 512, 8) => 0x80,
            (2, Unified, 2048, 8) => 0x7d,
            (3, Unified, 8192, 16) => 0x4b,
            (3, Unified, 16384, 16) => 0x4d,
            _ => 0xff,
        }
    }

    fn kind_and_level(&self) -> u32 {
        let kind = match self.kind {
            CacheKind::Data => 1,
            CacheKind::Instruction => 2,
            CacheKind::Unified => 3,
        };
        kind | self.level << 5 | u32::from(self.self_init) << 8
    }

    /// EBX, ECX and EDX of leaves 4 and 0x8000001D.
    fn geometry(&self) -> [u32; 3] {
        let flags = u32::from(self.no_invd_sharing)
            | u32::from(self.inclusive) << 1
            | u32::from(self.complex_indexing) << 2;
        let ways = self.associativity.saturating_sub(1) << 22;
        [self.line_size.saturating_sub(1) | ways, self.sets.saturating_sub(1), flags]
    }

    /// A subleaf of leaf 4: shared by `apic_ids` ids, in a package of `cores` cores.
    pub fn leaf_4(&self, apic_ids: u32, cores: u32) -> [u32; 4] {
        let [ebx, ecx, edx] = self.geometry();
        let sharing = cores.wrapping_sub(1) << 26 | apic_ids.wrapping_sub(1) << 14;
        [self.kind_and_level() | sharing, ebx, ecx, edx]
    }

    /// A subleaf of leaf 0x8000001D.
    pub fn leaf_8000001d(&self, topology: &Topology) -> [u32; 4] {
        let sharing = match self.level {
            3 => topology.threads_per_die(),
            _ => topology.threads,
        };
        let [ebx, ecx, edx] = self.geometry();
        [self.kind_and_level() | sharing.wrapping_sub(1) << 14, ebx, ecx, edx]
    }

    /// ECX or EDX of leaf 0x80000005.
    pub fn leaf_80000005(&self) -> u32 {
        (self.size / KIB) << 24 | self.associativity << 16 | self.lines_per_tag << 8 | self.line_size
    }

    /// ECX of leaf 0x80000006 for a level 2 cache, EDX for a level 3 cache.
    pub fn leaf_80000006(&self) -> u32 {
        let size = match self.level {
            3 => (self.size / (512 * KIB)) << 18,
            _ => (self.size / KIB) << 16,
        };
        size | amd_associativity(self.associativity) << 12 | self.lines_per_tag << 8 | self.line_size
    }
}

/// How leaf 0x80000006 writes a number of ways.
pub(crate) fn amd_associativity(ways: u32) -> u32 {
    match ways {
        0..=2 => ways,
        4 => 4,
        8 => 6,
        16 => 8,
        32 => 0xa,
        48 => 0xb,
        64 => 0xc,
        96 => 0xd,
        128 => 0xe,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_the_geometry_makes_of_them() {
        let legacy = CacheLeaves::legacy();
        for caches in [&EPYC_CACHES, &EPYC_ROME_CACHES, &EPYC_MILAN_CACHES, &legacy.leaf_4, &legacy.amd] {
            for cache in [caches.l1d, caches.l1i, caches.l2, caches.l3] {
                assert_eq!(cache.size, cache.line_size * cache.associativity * cache.sets, "{cache:?}");
            }
        }
    }

    #[test]
    fn legacy_leaf_2_has_the_manuals_descriptors() {
        let CpuCaches { l1d, l1i, l2, l3 } = CacheLeaves::legacy().leaf_2;
        assert_eq!([l1d, l1i, l2, l3].map(|cache| cache.descriptor()), [0x2c, 0x30, 0x7d, 0x4d]);
    }

    #[test]
    fn leaf_4_and_8000001d_share_the_top_level() {
        let topology = Topology { dies: 2, cores: 4, threads: 2 };
        assert_eq!(L3.leaf_4(8, 4), [0x0c01_c163, 0x03c0_003f, 0x3fff, 6]);
        assert_eq!(L3.leaf_8000001d(&topology), [0x0001_c163, 0x03c0_003f, 0x3fff, 6]);
        assert_eq!(L1D.leaf_8000001d(&topology)[0], 0x4121);
    }
}
