//! Feature words: the CPUID registers and MSRs whose bits are features, and the names of the bits.
//!
//! Names are those of QEMU 7.2 (`feature_word_info` in target/i386/cpu.c), in its order of words,
//! which is the order its warnings come in. A [`Feature`] is looked up by name at compile time, so
//! that CPU models and the code say `"avx2"` and not a bit number.

pub(crate) mod bits;
mod words;

use std::ops::{Index, IndexMut};

use crate::host::Register;
use FeatureWord::*;
use words::WORDS;

/// A register or MSR that holds features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeatureWord {
    /// CPUID(1).EDX
    Leaf1Edx,
    /// CPUID(1).ECX
    Leaf1Ecx,
    /// CPUID(7,0).EBX
    Leaf7Ebx,
    /// CPUID(7,0).ECX
    Leaf7Ecx,
    /// CPUID(7,0).EDX
    Leaf7Edx,
    /// CPUID(7,1).EAX
    Leaf7Sub1Eax,
    /// CPUID(8000_0001).EDX
    Ext1Edx,
    /// CPUID(8000_0001).ECX
    Ext1Ecx,
    /// CPUID(8000_0007).EDX
    Ext7Edx,
    /// CPUID(8000_0008).EBX
    Ext8Ebx,
    /// CPUID(C000_0001).EDX
    CentaurEdx,
    /// CPUID(4000_0001).EAX, KVM_CPUID_FEATURES
    Kvm,
    /// CPUID(4000_0001).EDX
    KvmHints,
    /// CPUID(8000_000A).EDX
    Svm,
    /// CPUID(D,1).EAX
    Xsave,
    /// CPUID(6).EAX
    Leaf6Eax,
    /// CPUID(D,0).EAX
    Xcr0Lo,
    /// CPUID(D,0).EDX
    Xcr0Hi,
    /// IA32_ARCH_CAPABILITIES
    ArchCapabilities,
    /// IA32_CORE_CAPABILITIES
    CoreCapability,
    /// IA32_PERF_CAPABILITIES
    PerfCapabilities,
    /// IA32_VMX_TRUE_PROCBASED_CTLS, bits that may be 0 or 1
    VmxProcbased,
    /// IA32_VMX_PROCBASED_CTLS2, likewise
    VmxSecondary,
    /// IA32_VMX_TRUE_PINBASED_CTLS, likewise
    VmxPinbased,
    /// IA32_VMX_TRUE_EXIT_CTLS, likewise
    VmxExit,
    /// IA32_VMX_TRUE_ENTRY_CTLS, likewise
    VmxEntry,
    /// IA32_VMX_MISC
    VmxMisc,
    /// IA32_VMX_EPT_VPID_CAP
    VmxEptVpid,
    /// IA32_VMX_BASIC
    VmxBasic,
    /// IA32_VMX_VMFUNC
    VmxVmfunc,
    /// CPUID(14,0).ECX
    Leaf14Ecx,
    /// CPUID(12,0).EAX
    SgxEax,
    /// CPUID(12,0).EBX
    SgxEbx,
    /// CPUID(12,1).EAX
    SgxSub1Eax,
    /// CPUID(D,1).ECX
    XssLo,
    /// CPUID(D,1).EDX
    XssHi,
}

/// Number of feature words.
pub const FEATURE_WORDS: usize = XssHi as usize + 1;

impl FeatureWord {
    /// All words, in QEMU's order.
    pub fn all() -> impl Iterator<Item = FeatureWord> {
        WORDS.iter().map(|info| info.word)
    }

    /// Where the word is found, and the names of its bits.
    pub const fn info(self) -> &'static WordInfo {
        &WORDS[self as usize]
    }
}

/// Where a feature word is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordSource {
    /// A register that CPUID returns.
    Cpuid {
        /// EAX on input.
        leaf: u32,
        /// ECX on input, for a leaf that has subleaves.
        subleaf: Option<u32>,
        /// The register returned.
        register: Register,
    },
    /// A model-specific register.
    Msr {
        /// Its index.
        index: u32,
    },
}

/// What is known of a feature word.
#[derive(Debug)]
pub struct WordInfo {
    /// The word.
    pub word: FeatureWord,
    /// Where it is found.
    pub source: WordSource,
    /// Names of bits: each run starts at a bit, names apart by one space.
    runs: &'static [(u32, &'static str)],
    /// Bits without a name that nevertheless migrate.
    also_migratable: u64,
    /// Bits with a name that do not migrate.
    unmigratable: u64,
    /// Bits that `host` and `max` do not turn on by themselves.
    pub never_automatic: u64,
}

const fn word(word: FeatureWord, source: WordSource, runs: &'static [(u32, &'static str)]) -> WordInfo {
    WordInfo { word, source, runs, also_migratable: 0, unmigratable: 0, never_automatic: 0 }
}

const fn cpuid(leaf: u32, subleaf: Option<u32>, register: Register) -> WordSource {
    WordSource::Cpuid { leaf, subleaf, register }
}

const fn msr(index: u32) -> WordSource {
    WordSource::Msr { index }
}

impl WordInfo {
    const fn also_migratable(self, mask: u64) -> Self {
        Self { also_migratable: mask, ..self }
    }

    const fn unmigratable(self, mask: u64) -> Self {
        Self { unmigratable: mask, ..self }
    }

    const fn never_automatic(self, mask: u64) -> Self {
        Self { never_automatic: mask, ..self }
    }

    /// The named bits, lowest first.
    pub fn names(&self) -> impl Iterator<Item = (u32, &'static str)> {
        self.runs.iter().flat_map(|(first, names)| (*first..).zip(names.split(' ')))
    }

    /// The name of a bit; `None` for one that has none.
    pub fn name(&self, bit: u32) -> Option<&'static str> {
        self.names().find(|(at, _)| *at == bit).map(|(_, name)| name)
    }

    /// The bits that a migratable guest may have (`x86_cpu_get_migratable_flags`).
    pub fn migratable(&self) -> u64 {
        let named = self.names().fold(0, |mask, (bit, _)| mask | 1 << bit);
        self.also_migratable | named & !self.unmigratable
    }

    /// The word as QEMU's warnings describe it: `CPUID.01H:EDX` or `MSR(10AH)`.
    pub fn description(&self) -> String {
        match self.source {
            WordSource::Cpuid { leaf, register, .. } => format!("CPUID.{leaf:02X}H:{}", register.name()),
            WordSource::Msr { index } => format!("MSR({index:02X}H)"),
        }
    }
}

/// One named feature: the bit (for `kvmclock` and `vmx-invept-single-context`, two bits) of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The word.
    pub word: FeatureWord,
    /// The bits of it.
    pub mask: u64,
}

impl Feature {
    /// Finds a feature by its own name, not by one of [`ALIASES`].
    pub fn by_name(name: &str) -> Option<Feature> {
        WORDS.iter().find_map(|info| {
            let mask =
                info.names().filter(|(_, known)| *known == name).fold(0, |mask, (bit, _)| mask | 1 << bit);
            (mask != 0).then_some(Feature { word: info.word, mask })
        })
    }

    /// Finds a feature while compiling, which a wrong name stops.
    pub const fn named(name: &str) -> Feature {
        let mut at = 0;
        while at < FEATURE_WORDS {
            let mask = mask_of(&WORDS[at], name.as_bytes(), 0, name.len());
            if mask != 0 {
                return Feature { word: WORDS[at].word, mask };
            }
            at += 1;
        }
        panic!("no feature of this name")
    }
}

/// The bits that `text[start..end]` names in a word; 0 if it names none.
const fn mask_of(info: &WordInfo, text: &[u8], start: usize, end: usize) -> u64 {
    let (mut mask, mut run) = (0, 0);
    while run < info.runs.len() {
        let (mut bit, names) = (info.runs[run].0, info.runs[run].1.as_bytes());
        let mut at = 0;
        while at < names.len() {
            let mut length = 0;
            let mut same = true;
            while at + length < names.len() && names[at + length] != b' ' {
                same = same && start + length < end && text[start + length] == names[at + length];
                length += 1;
            }
            if same && start + length == end {
                mask |= 1 << bit;
            }
            at += length + 1;
            bit += 1;
        }
        run += 1;
    }
    mask
}

/// The value of every feature word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureWords([u64; FEATURE_WORDS]);

impl FeatureWords {
    /// No feature at all.
    pub const NONE: FeatureWords = FeatureWords([0; FEATURE_WORDS]);

    /// Makes a table while compiling: names, apart by one space, for each word that has any. `#14`
    /// is bit 14, which has no name. A name that the word does not have stops the compilation.
    pub const fn of(table: &[(FeatureWord, &str)]) -> FeatureWords {
        let mut words = [0; FEATURE_WORDS];
        let mut row = 0;
        while row < table.len() {
            let (word, text) = (table[row].0, table[row].1.as_bytes());
            let mut start = 0;
            while start < text.len() {
                let mut end = start;
                while end < text.len() && text[end] != b' ' {
                    end += 1;
                }
                let mask = if text[start] == b'#' {
                    1 << number(text, start + 1, end)
                } else {
                    mask_of(&WORDS[word as usize], text, start, end)
                };
                assert!(mask != 0, "the word has no feature of this name");
                words[word as usize] |= mask;
                start = end + 1;
            }
            row += 1;
        }
        FeatureWords(words)
    }

    /// Whether all bits of a feature are set.
    pub fn has(&self, feature: Feature) -> bool {
        self[feature.word] & feature.mask == feature.mask
    }

    /// Sets or clears the bits of a feature.
    pub fn set(&mut self, feature: Feature, on: bool) {
        if on {
            self[feature.word] |= feature.mask;
        } else {
            self[feature.word] &= !feature.mask;
        }
    }

    /// A word that CPUID returns: the features of an MSR word's upper half have no place in it.
    pub fn low(&self, word: FeatureWord) -> u32 {
        self[word] as u32
    }

    /// Whether any bit of any word is set.
    pub fn any(&self) -> bool {
        self.0.iter().any(|word| *word != 0)
    }
}

const fn number(text: &[u8], mut at: usize, end: usize) -> u32 {
    let mut value = 0;
    while at < end {
        value = value * 10 + (text[at] - b'0') as u32;
        at += 1;
    }
    value
}

impl Index<FeatureWord> for FeatureWords {
    type Output = u64;

    fn index(&self, word: FeatureWord) -> &u64 {
        &self.0[word as usize]
    }
}

impl IndexMut<FeatureWord> for FeatureWords {
    fn index_mut(&mut self, word: FeatureWord) -> &mut u64 {
        &mut self.0[word as usize]
    }
}

/// Other names of features (`object_property_add_alias` in `x86_cpu_initfn`).
pub const ALIASES: &[(&str, &str)] = &[
    ("sse3", "pni"),
    ("pclmuldq", "pclmulqdq"),
    ("sse4-1", "sse4.1"),
    ("sse4-2", "sse4.2"),
    ("xd", "nx"),
    ("ffxsr", "fxsr-opt"),
    ("i64", "lm"),
    ("ds_cpl", "ds-cpl"),
    ("tsc_adjust", "tsc-adjust"),
    ("fxsr_opt", "fxsr-opt"),
    ("lahf_lm", "lahf-lm"),
    ("cmp_legacy", "cmp-legacy"),
    ("nodeid_msr", "nodeid-msr"),
    ("perfctr_core", "perfctr-core"),
    ("perfctr_nb", "perfctr-nb"),
    ("kvm_nopiodelay", "kvm-nopiodelay"),
    ("kvm_mmu", "kvm-mmu"),
    ("kvm_asyncpf", "kvm-asyncpf"),
    ("kvm_asyncpf_int", "kvm-asyncpf-int"),
    ("kvm_steal_time", "kvm-steal-time"),
    ("kvm_pv_eoi", "kvm-pv-eoi"),
    ("kvm_pv_unhalt", "kvm-pv-unhalt"),
    ("kvm_poll_control", "kvm-poll-control"),
    ("svm_lock", "svm-lock"),
    ("nrip_save", "nrip-save"),
    ("tsc_scale", "tsc-scale"),
    ("vmcb_clean", "vmcb-clean"),
    ("pause_filter", "pause-filter"),
    ("sse4_1", "sse4.1"),
    ("sse4_2", "sse4.2"),
];

#[cfg(test)]
mod tests {
    use super::words::XCR0_MIGRATABLE;
    use super::*;

    #[test]
    fn words_are_where_their_number_says() {
        for (at, info) in WORDS.iter().enumerate() {
            assert_eq!(info.word as usize, at);
        }
    }

    #[test]
    fn every_name_and_alias_is_found_again() {
        for info in &WORDS {
            for (bit, name) in info.names() {
                let found = Feature::by_name(name).unwrap();
                assert_eq!(found.word, info.word, "{name}");
                assert_ne!(found.mask & 1 << bit, 0, "{name}");
                assert_eq!(Feature::named(name), found);
                assert_eq!(info.name(bit), Some(name));
            }
        }
        for (_, name) in ALIASES {
            assert!(Feature::by_name(name).is_some(), "{name}");
        }
        assert_eq!(Feature::by_name("sse5"), None);
        assert_eq!(Feature::by_name(""), None);
    }

    #[test]
    fn bits_are_where_the_manuals_have_them() {
        // Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.
        for (name, word, bit) in [
            ("fpu", Leaf1Edx, 0),
            ("pbe", Leaf1Edx, 31),
            ("avx", Leaf1Ecx, 28),
            ("avx512vl", Leaf7Ebx, 31),
            ("la57", Leaf7Ecx, 16),
            ("ssbd", Leaf7Edx, 31),
            ("lm", Ext1Edx, 29),
            ("topoext", Ext1Ecx, 22),
            ("xsaves", Xsave, 3),
            ("vmx-true-ctls", VmxBasic, 55),
            ("svme-addr-chk", Svm, 28),
        ] {
            assert_eq!(Feature::by_name(name), Some(Feature { word, mask: 1 << bit }), "{name}");
        }
        assert_eq!(bits::KVMCLOCK.mask, 0b1001, "both clock sources");
    }

    #[test]
    fn words_describe_themselves_as_qemu_does() {
        assert_eq!(Leaf1Edx.info().description(), "CPUID.01H:EDX");
        assert_eq!(Ext1Ecx.info().description(), "CPUID.80000001H:ECX");
        assert_eq!(Xsave.info().description(), "CPUID.0DH:EAX");
        assert_eq!(VmxSecondary.info().description(), "MSR(48BH)");
        assert_eq!(CoreCapability.info().description(), "MSR(CFH)");
    }

    #[test]
    fn unnamed_and_unmigratable_bits_do_not_migrate() {
        assert_eq!(Ext7Edx.info().migratable(), 0);
        assert_eq!(Leaf6Eax.info().migratable(), bits::ARAT.mask);
        assert_eq!(Xcr0Lo.info().migratable(), XCR0_MIGRATABLE);
        assert_eq!(Leaf1Ecx.info().migratable() & 1 << 27, 0, "OSXSAVE is the guest's");
    }
}
