//! The CPUID leaves of one vCPU, for `KVM_SET_CPUID2`.
//!
//! Follows `cpu_x86_cpuid` and the list that `kvm_arch_init_vcpu` makes of it (QEMU 7.2). Leaves and
//! subleaves that are all zeros are left out: KVM answers zeros for what is missing.

use crate::cache::{Cache, CpuCaches, amd_associativity};
use crate::expand::Expanded;
use crate::features::FeatureWord::*;
use crate::features::bits;
use crate::host::{CpuidEntry, HostCpu, KVM_CPUID_FEATURES, Register};
use crate::hyperv;
use crate::topology::Topology;
use crate::xsave::ARCH_LBR;

/// Leaf 0x14: what QEMU tells of processor trace, the least any processor has (SDM volume 3C, 33.3).
pub(crate) mod intel_pt {
    pub const MAX_SUBLEAF: u32 = 1;
    /// CR3 filtering, cycle-accurate mode, IP filtering, MTC packets.
    pub const MINIMAL_EBX: u32 = 0xf;
    /// ToPA output with any number of entries, single-range output.
    pub const MINIMAL_ECX: u32 = 7;
    /// Addresses in packets are linear.
    pub const LIP: u32 = 1 << 31;
    pub const ADDRESS_RANGES: u32 = 2;
    pub const MTC_PERIODS: u32 = 0x0249 << 16;
    pub const CYCLE_THRESHOLDS: u32 = 0x1fff;
    pub const PSB_FREQUENCIES: u32 = 0x003f << 16;
}

/// Leaves 0x1D and 0x1E: AMX (SDM volume 2A, CPUID).
mod amx {
    pub const MAX_PALETTE: u32 = 1;
    pub const TOTAL_TILE_BYTES: u32 = 0x2000;
    pub const BYTES_PER_TILE: u32 = 0x400;
    pub const BYTES_PER_ROW: u32 = 0x40;
    pub const MAX_NAMES: u32 = 8;
    pub const MAX_ROWS: u32 = 0x10;
    pub const TMUL_MAX_K: u32 = 0x10;
    pub const TMUL_MAX_N: u32 = 0x40;
}

/// Leaf 1 EBX: CLFLUSH works on 8 quadwords; the APIC id is in the highest byte.
const CLFLUSH_SIZE: u32 = 8 << 8;
const APIC_ID_SHIFT: u32 = 24;
const THREADS_SHIFT: u32 = 16;
/// Leaf 1 EDX: more than one thread in a package.
const HTT: u32 = 1 << 28;
/// Leaf 0x80000001 ECX: those threads are cores.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaves 0xB and 0x1F ECX: kinds of level.
const LEVEL_SMT: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;
const LEVEL_DIE: u32 = 5 << 8;
/// Leaf 2 EAX: one call tells it all.
const DESCRIPTORS_IN_ONE_CALL: u32 = 1;
/// Leaf 4 EAX: the lowest bits are the kind of cache, 0 for none.
const CACHE_KIND: u32 = 0x1f;
const CACHE_SHARING: u32 = 0x03ff_c000;
const CACHE_CORES: u32 = 0xfc00_0000;
/// Leaves 0x80000005 and 0x80000006: entries and ways of TLBs; more than exist, to be safe.
const L1_TLB: u32 = 0x01ff_01ff;
const L2_TLB_4K_ENTRIES: u32 = 512;
const L2_TLB_4K_WAYS: u32 = 4;
/// Leaf 0x8000000A: revision of SVM, number of address space ids.
const SVM_REVISION: u32 = 1;
const SVM_ASIDS: u32 = 0x10;
/// Leaf 0xD subleaves: aligned in the compacted format, faults on first use.
const XSAVE_ALIGNED_AND_XFD: u32 = 1 << 1 | 1 << 2;
/// Leaf 0x12: the guest may make provisioning keys; KVM must be asked for it apart.
const SGX_PROVISION_KEY: u32 = 1 << 4;
/// XCR0: x87 and SSE.
const XCR0_FP_AND_SSE: u32 = 0b11;
/// `KVMKVMKVM`
const KVM_SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x4d];
const KVM_CPUID_SIGNATURE: u32 = 0x4000_0000;
/// Where KVM's leaves go when Hyper-V's are at their place.
const KVM_CPUID_SIGNATURE_NEXT: u32 = 0x4000_0100;
/// Frequencies of TSC and APIC bus, as VMware defined the leaf.
const VMWARE_FREQUENCIES: u32 = 0x10;
/// KVM's APIC bus in kHz.
const APIC_BUS_KHZ: u32 = 1_000_000;

/// The place of a vCPU and what is known of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuPlace {
    /// How many dies, cores and threads there are.
    pub topology: Topology,
    /// Its APIC id, see [`Topology::apic_id_of_index`].
    pub apic_id: u32,
    /// What `KVM_GET_TSC_KHZ` returns after the frequency asked for is set; 0 if it cannot say.
    pub tsc_khz: u32,
}

/// Makes the list for `KVM_SET_CPUID2`.
pub fn build_cpuid(cpu: &Expanded, host: &HostCpu, place: &VcpuPlace) -> Vec<CpuidEntry> {
    // What is above these is all zeros, however high the user sets the level.
    const LAST_BASIC: u32 = 0x1f;
    const LAST_EXTENDED: u32 = 0x8000_001f;
    const LAST_CENTAUR: u32 = 0xc000_0004;
    let props = &cpu.config.props;
    let leaves = Leaves { cpu, host, place };
    let mut list = hypervisor_leaves(cpu, host, place);
    let basic = 0..=props.level.min(LAST_BASIC);
    let extended = 0x8000_0000..=props.xlevel.min(LAST_EXTENDED);
    let centaur = 0xc000_0000..=props.xlevel2.min(LAST_CENTAUR);
    for leaf in basic.chain(extended).chain(centaur) {
        leaves.append(leaf, &mut list);
    }
    list.retain(|entry| entry.registers() != [0; 4]);
    list
}

fn entry(function: u32, index: u32, flags: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidEntry {
    CpuidEntry { function, index, flags, eax, ebx, ecx, edx }
}

/// Leaves 0x40000000 and up: Hyper-V's, KVM's, VMware's.
fn hypervisor_leaves(cpu: &Expanded, host: &HostCpu, place: &VcpuPlace) -> Vec<CpuidEntry> {
    let config = &cpu.config;
    let hyperv_on = hyperv::enabled(config);
    let (mut list, base) = match hyperv_on {
        true => (hyperv::leaves(config, host), KVM_CPUID_SIGNATURE_NEXT),
        false => (Vec::new(), KVM_CPUID_SIGNATURE),
    };
    if !config.props.kvm {
        return list;
    }
    let features = [config.features.low(Kvm), 0, 0, config.features.low(KvmHints)];
    let tsc_is_known = place.tsc_khz != 0 && (config.features.has(bits::INVTSC) || config.tsc_khz != 0);
    let show_frequencies = config.props.vmware_cpuid_freq && !hyperv_on && tsc_is_known;
    let last = if show_frequencies { base | VMWARE_FREQUENCIES } else { base | KVM_CPUID_FEATURES };
    let [ebx, ecx, edx] = KVM_SIGNATURE;
    list.push(entry(base, 0, 0, [last, ebx, ecx, edx]));
    list.push(entry(base | KVM_CPUID_FEATURES, 0, 0, features));
    if show_frequencies {
        list.push(entry(base | VMWARE_FREQUENCIES, 0, 0, [place.tsc_khz, APIC_BUS_KHZ, 0, 0]));
    }
    list
}

struct Leaves<'a> {
    cpu: &'a Expanded,
    host: &'a HostCpu,
    place: &'a VcpuPlace,
}

impl Leaves<'_> {
    fn append(&self, leaf: u32, list: &mut Vec<CpuidEntry>) {
        const STATEFUL_AND_READ_NEXT: u32 = 2 | 4;
        let (flags, subleaves) = match leaf {
            2 => (STATEFUL_AND_READ_NEXT, 1),
            4 | 0x8000_001d => (CpuidEntry::SIGNIFICANT_INDEX, 32),
            7 | 0x12 | 0x14 | 0x1d | 0x1e => (CpuidEntry::SIGNIFICANT_INDEX, 2),
            // With the level that ends them.
            0xb => (CpuidEntry::SIGNIFICANT_INDEX, 3),
            0x1f => (CpuidEntry::SIGNIFICANT_INDEX, 4),
            0xd => (CpuidEntry::SIGNIFICANT_INDEX, 64),
            _ => (0, 1),
        };
        for index in 0..subleaves {
            let registers = self.registers(leaf, index);
            let past_the_last_cache = matches!(leaf, 4 | 0x8000_001d) && registers[0] & CACHE_KIND == 0;
            if past_the_last_cache {
                break;
            }
            list.push(entry(leaf, index, flags, registers));
        }
    }

    fn registers(&self, leaf: u32, index: u32) -> [u32; 4] {
        let (config, host) = (&self.cpu.config, self.host);
        let (props, features) = (&config.props, &config.features);
        let low = |word| features.low(word);
        let has_lbr = props.pmu && features.has(bits::ARCH_LBR);
        match leaf {
            0 => self.vendor(props.level),
            1 => self.leaf_1(),
            2 => self.leaf_2(),
            4 => self.leaf_4(index),
            5 => self.cpu.mwait,
            6 => [low(Leaf6Eax), 0, 0, 0],
            7 if index == 0 => [props.level_func7, low(Leaf7Ebx), low(Leaf7Ecx), low(Leaf7Edx)],
            7 => [low(Leaf7Sub1Eax), 0, 0, 0],
            0xa if props.pmu => self.supported(0xa, 0),
            0xb if props.cpuid_0xb => self.leaf_b(index),
            0xd if features.has(bits::XSAVE) => self.leaf_d(index, has_lbr),
            0x12 if features.has(bits::SGX) => self.leaf_12(index),
            0x14 if features.has(bits::INTEL_PT) => self.leaf_14(index),
            0x1c if has_lbr => {
                let [eax, ebx, ecx, _] = self.supported(0x1c, 0);
                [eax, ebx, ecx, 0]
            }
            0x1d if features.has(bits::AMX_TILE) => leaf_1d(index),
            0x1e if features.has(bits::AMX_TILE) && index == 0 => {
                [0, amx::TMUL_MAX_K | amx::TMUL_MAX_N << 8, 0, 0]
            }
            0x1f if self.place.topology.dies > 1 => self.leaf_1f(index),
            0x8000_0000 => self.vendor(props.xlevel),
            0x8000_0001 => self.leaf_80000001(),
            0x8000_0002..=0x8000_0004 => self.model_id(leaf - 0x8000_0002),
            0x8000_0005 | 0x8000_0006 if config.host_cache_info => host.host_cpuid(leaf, 0),
            0x8000_0005 => {
                let caches = &self.cpu.caches.amd;
                [L1_TLB, L1_TLB, caches.l1d.leaf_80000005(), caches.l1i.leaf_80000005()]
            }
            0x8000_0006 => self.leaf_80000006(),
            0x8000_0007 => [0, 0, 0, low(Ext7Edx)],
            0x8000_0008 => self.leaf_80000008(),
            0x8000_000a if features.has(bits::SVM) => [SVM_REVISION, SVM_ASIDS, 0, low(Svm)],
            0x8000_001d if config.host_cache_info => host.host_cpuid(leaf, index),
            0x8000_001d => {
                self.cache(&self.cpu.caches.amd, index, |cache| cache.leaf_8000001d(&self.place.topology))
            }
            0x8000_001e => self.leaf_8000001e(),
            0xc000_0000 => [props.xlevel2, 0, 0, 0],
            0xc000_0001 => [config.signature, 0, 0, low(CentaurEdx)],
            _ => [0; 4],
        }
    }

    fn supported(&self, leaf: u32, index: u32) -> [u32; 4] {
        [Register::Eax, Register::Ebx, Register::Ecx, Register::Edx]
            .map(|register| self.host.supported_cpuid(leaf, index, register))
    }

    fn vendor_is(&self, vendor: &[u8; 12]) -> bool {
        self.cpu.config.vendor == *vendor
    }

    /// Whether leaves that only Intel defines are to stay empty on AMD.
    fn hides_intel_leaves(&self) -> bool {
        self.cpu.config.props.vendor_cpuid_only && self.vendor_is(b"AuthenticAMD")
    }

    fn vendor(&self, level: u32) -> [u32; 4] {
        let [ebx, edx, ecx] = words(&self.cpu.config.vendor);
        [level, ebx, ecx, edx]
    }

    fn model_id(&self, part: u32) -> [u32; 4] {
        let words: [u32; 12] = words(&self.cpu.config.model_id);
        let at = part as usize * 4;
        std::array::from_fn(|register| words.get(at + register).copied().unwrap_or(0))
    }

    /// Threads in a die, which is what QEMU 7.2 counts as a package here.
    fn threads(&self) -> u32 {
        self.place.topology.threads_per_die()
    }

    fn leaf_1(&self) -> [u32; 4] {
        let config = &self.cpu.config;
        let threads = self.threads();
        let mut ebx = self.place.apic_id << APIC_ID_SHIFT | CLFLUSH_SIZE;
        let (mut ecx, mut edx) = (config.features.low(Leaf1Ecx), config.features.low(Leaf1Edx));
        if threads > 1 {
            ebx |= (threads & 0xff) << THREADS_SHIFT;
            edx |= HTT;
        }
        if !config.props.pmu {
            ecx &= !(bits::PDCM.mask as u32);
        }
        [config.signature, ebx, ecx, edx]
    }

    fn leaf_2(&self) -> [u32; 4] {
        if self.cpu.config.host_cache_info {
            return self.host.host_cpuid(2, 0);
        }
        if self.hides_intel_leaves() {
            return [0; 4];
        }
        let CpuCaches { l1d, l1i, l2, l3 } = self.cpu.caches.leaf_2;
        let l3 = if self.cpu.config.props.l3_cache { l3.descriptor().into() } else { 0 };
        let edx = u32::from_be_bytes([0, l1d.descriptor(), l1i.descriptor(), l2.descriptor()]);
        [DESCRIPTORS_IN_ONE_CALL, 0, l3, edx]
    }

    fn leaf_4(&self, index: u32) -> [u32; 4] {
        let topology = &self.place.topology;
        if self.cpu.config.host_cache_info {
            return self.host_leaf_4(index);
        }
        if self.hides_intel_leaves() || index == 3 && !self.cpu.config.props.l3_cache {
            return [0; 4];
        }
        let sharing = match index {
            2 => topology.threads,
            3 => 1_u32.checked_shl(topology.die_offset()).unwrap_or(0),
            _ => 1,
        };
        self.cache(&self.cpu.caches.leaf_4, index, |cache| cache.leaf_4(sharing, topology.cores))
    }

    /// The host's leaf 4 with the guest's numbers of cores and threads.
    fn host_leaf_4(&self, index: u32) -> [u32; 4] {
        let topology = &self.place.topology;
        let [mut eax, ebx, ecx, edx] = self.host.host_cpuid(4, index);
        if eax & CACHE_KIND != 0 {
            let ids = |count: u32| count.max(1).next_power_of_two() - 1;
            eax = eax & !CACHE_CORES | ids(topology.cores) << 26;
            let host_threads = 1 + ((eax & CACHE_SHARING) >> 14);
            if host_threads > topology.threads_per_socket() {
                eax = eax & !CACHE_SHARING | ids(topology.threads_per_socket()) << 14;
            }
        }
        [eax, ebx, ecx, edx]
    }

    fn cache(&self, caches: &CpuCaches, index: u32, encode: impl Fn(&Cache) -> [u32; 4]) -> [u32; 4] {
        match index {
            0 => encode(&caches.l1d),
            1 => encode(&caches.l1i),
            2 => encode(&caches.l2),
            3 => encode(&caches.l3),
            _ => [0; 4],
        }
    }

    fn leaf_b(&self, index: u32) -> [u32; 4] {
        let topology = &self.place.topology;
        self.topology_level(
            index,
            match index {
                0 => Some((topology.core_offset(), topology.threads, LEVEL_SMT)),
                1 => Some((topology.socket_offset(), topology.threads_per_die(), LEVEL_CORE)),
                _ => None,
            },
        )
    }

    fn leaf_1f(&self, index: u32) -> [u32; 4] {
        let topology = &self.place.topology;
        self.topology_level(
            index,
            match index {
                0 => Some((topology.core_offset(), topology.threads, LEVEL_SMT)),
                1 => Some((topology.die_offset(), topology.threads_per_die(), LEVEL_CORE)),
                2 => Some((topology.socket_offset(), topology.threads_per_socket(), LEVEL_DIE)),
                _ => None,
            },
        )
    }

    fn topology_level(&self, index: u32, level: Option<(u32, u32, u32)>) -> [u32; 4] {
        let (shift, count, kind) = level.unwrap_or((0, 0, 0));
        [shift & 0x1f, count & 0xffff, index | kind, self.place.apic_id]
    }

    fn leaf_d(&self, index: u32, has_lbr: bool) -> [u32; 4] {
        let features = &self.cpu.config.features;
        let user = features[Xcr0Hi] << 32 | features[Xcr0Lo];
        let supervisor = features[XssHi] << 32 | features[XssLo];
        let areas = &self.cpu.xsave;
        match index {
            0 => {
                let size = areas.total_size(user, false);
                [features.low(Xcr0Lo), size, size, features.low(Xcr0Hi)]
            }
            1 => {
                let mut ecx = features.low(XssLo) & !(ARCH_LBR as u32);
                if has_lbr && features.has(bits::XSAVES) {
                    ecx |= ARCH_LBR as u32;
                }
                let size = areas.total_size(user | supervisor, true);
                [features.low(Xsave), size, ecx, features.low(XssHi)]
            }
            0xf if has_lbr => self.supported(0xd, index),
            _ => {
                let area = areas.get(index);
                if user & 1 << index != 0 {
                    [area.size, area.offset, area.flags & XSAVE_ALIGNED_AND_XFD, 0]
                } else if supervisor & 1 << index != 0 {
                    [area.size, 0, 1, 0]
                } else {
                    [0; 4]
                }
            }
        }
    }

    fn leaf_12(&self, index: u32) -> [u32; 4] {
        let features = &self.cpu.config.features;
        let [eax, ebx, ecx, edx] = self.supported(0x12, index);
        if index == 0 {
            [eax & features.low(SgxEax), ebx & features.low(SgxEbx), ecx, edx]
        } else {
            let attributes = eax & features.low(SgxSub1Eax) & !SGX_PROVISION_KEY;
            [attributes, 0, ecx & features.low(Xcr0Lo) | XCR0_FP_AND_SSE, edx & features.low(Xcr0Hi)]
        }
    }

    fn leaf_14(&self, index: u32) -> [u32; 4] {
        use intel_pt as pt;
        if index == 0 {
            let ip_format = self.cpu.config.features.low(Leaf14Ecx) & pt::LIP;
            [pt::MAX_SUBLEAF, pt::MINIMAL_EBX, pt::MINIMAL_ECX | ip_format, 0]
        } else {
            [pt::MTC_PERIODS | pt::ADDRESS_RANGES, pt::PSB_FREQUENCIES | pt::CYCLE_THRESHOLDS, 0, 0]
        }
    }

    fn leaf_80000001(&self) -> [u32; 4] {
        let config = &self.cpu.config;
        let mut ecx = config.features.low(Ext1Ecx);
        // Linux takes the bit for "no hyper-threading", so Intel's must not have it.
        if self.threads() > 1 && !self.vendor_is(b"GenuineIntel") {
            ecx |= CMP_LEGACY;
        }
        [config.signature, 0, ecx, config.features.low(Ext1Edx)]
    }

    fn leaf_80000006(&self) -> [u32; 4] {
        let caches = &self.cpu.caches.amd;
        let ways = amd_associativity(L2_TLB_4K_WAYS);
        let tlb = ways << 28 | L2_TLB_4K_ENTRIES << 16 | ways << 12 | L2_TLB_4K_ENTRIES;
        let l3 = if self.cpu.config.props.l3_cache { caches.l3.leaf_80000006() } else { 0 };
        [0, tlb, caches.l2.leaf_80000006(), l3]
    }

    fn leaf_80000008(&self) -> [u32; 4] {
        let config = &self.cpu.config;
        let mut eax = config.props.phys_bits;
        if config.features.has(bits::LM) {
            eax |= if config.features.has(bits::LA57) { 57 } else { 48 } << 8;
        }
        let ecx = match self.threads() {
            threads @ 2.. => self.place.topology.socket_offset() << 12 | (threads - 1),
            _ => 0,
        };
        [eax, config.features.low(Ext8Ebx), ecx, 0]
    }

    fn leaf_8000001e(&self) -> [u32; 4] {
        let VcpuPlace { topology, apic_id, .. } = *self.place;
        let core = topology.ids_of_apic_id(apic_id).core;
        if core > 255 {
            return [0; 4];
        }
        let node = apic_id.checked_shr(topology.die_offset()).unwrap_or(0) & 0xff;
        let ebx = topology.threads.saturating_sub(1) << 8 | core;
        [apic_id, ebx, topology.dies.saturating_sub(1) << 8 | node, 0]
    }
}

fn leaf_1d(index: u32) -> [u32; 4] {
    if index == 0 {
        return [amx::MAX_PALETTE, 0, 0, 0];
    }
    let tiles = amx::TOTAL_TILE_BYTES | amx::BYTES_PER_TILE << 16;
    [tiles, amx::BYTES_PER_ROW | amx::MAX_NAMES << 16, amx::MAX_ROWS, 0]
}

/// Bytes as the little-endian words that registers hold.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    words
}
