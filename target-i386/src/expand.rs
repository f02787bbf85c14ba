//! From a configured CPU to a realized one: features expanded, filtered by what the host has, leaf
//! levels, address widths and caches settled.
//!
//! Follows `x86_cpu_realizefn`, `x86_cpu_expand_features` and `x86_cpu_filter_features` of QEMU 7.2.

use crate::cache::CacheLeaves;
use crate::config::{CpuConfig, MCG_LMCE};
use crate::features::FeatureWord::*;
use crate::features::{Feature, FeatureWord, FeatureWords, WordSource, bits};
use crate::host::{AMD_ALIASES, HostCpu, Register};
use crate::hyperv;
use crate::models::CpuModel;
use crate::props::{LBR_FMT_MASK, LBR_FMT_UNSET};
use crate::topology::Topology;
use crate::xsave::{self, XsaveAreas};

/// Why a CPU cannot be realized, in QEMU's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// The model is the host's, and the accelerator runs on none.
    #[error("CPU model '{0}' requires KVM or HVF")]
    NoHost(String),
    /// `enforce` was asked for and features are missing; the warnings come first.
    #[error("Host doesn't support requested features")]
    Enforce {
        /// One line for each missing feature.
        warnings: Vec<String>,
    },
    /// `phys-bits` out of range.
    #[error("phys-bits should be between 32 and {MAX_PHYS_BITS}  (but is {0})")]
    PhysBits(u32),
    /// `phys-bits` for a CPU without long mode.
    #[error("phys-bits is not user-configurable in 32 bit")]
    PhysBitsIn32Bit,
    /// `legacy-cache=off` for a model that has no caches of its own.
    #[error("CPU model '{0}' doesn't support legacy-cache=off")]
    NoCaches(String),
    /// `lbr-fmt` without `pmu`.
    #[error("vPMU: LBR is unsupported without pmu=on")]
    LbrWithoutPmu,
    /// `lbr-fmt` is not the host's.
    #[error("vPMU: the lbr-fmt value ({requested:#x}) does not match the host value ({host:#x}).")]
    LbrFormat {
        /// The value asked for.
        requested: u64,
        /// The host's.
        host: u64,
    },
    /// `lmce` on a host without it.
    #[error("kvm: LMCE not supported")]
    Lmce,
    /// More machine-check banks than KVM has.
    #[error("kvm: Unsupported MCE bank count (QEMU = {wanted}, KVM = {supported})")]
    MceBanks {
        /// Ours.
        wanted: u64,
        /// KVM's.
        supported: u64,
    },
    /// KVM lacks a Hyper-V enlightenment.
    #[error("Hyper-V {0} is not supported by kernel")]
    HyperVUnsupported(&'static str),
    /// A Hyper-V enlightenment needs another.
    #[error("Hyper-V {by} requires Hyper-V {needed}")]
    HyperVNeeds {
        /// The one asked for.
        by: &'static str,
        /// The one missing.
        needed: &'static str,
    },
}

/// Physical address bits that QEMU's x86 can have.
const MAX_PHYS_BITS: u32 = 52;
/// Physical address bits of a 64-bit CPU that does not take the host's.
const DEFAULT_PHYS_BITS: u32 = 40;
/// Leaf 5 ECX: what follows is there, and interrupts end MWAIT even if masked.
const MWAIT_ENUMERATION_AND_BREAK: u32 = 0b11;
/// IA32_MCG_CAP: MCG_CTL is there (bit 8), software error recovery (bit 24); 10 banks.
const MCG_CAP_DEFAULT: u64 = 1 << 8 | 1 << 24 | MCE_BANKS;
const MCE_BANKS: u64 = 10;
const MCG_CAP_BANKS: u64 = 0xff;

/// A feature and those that make no sense without it (`feature_dependencies`).
const DEPENDENCIES: [(Feature, FeatureWord, u64); 24] = {
    const ALL: u64 = u64::MAX;
    const fn on(from: Feature, to: Feature) -> (Feature, FeatureWord, u64) {
        (from, to.word, to.mask)
    }
    [
        (bits::ARCH_CAPABILITIES, ArchCapabilities, ALL),
        (bits::CORE_CAPABILITY, CoreCapability, ALL),
        (bits::PDCM, PerfCapabilities, ALL),
        (bits::VMX, VmxProcbased, ALL),
        (bits::VMX, VmxPinbased, ALL),
        (bits::VMX, VmxExit, ALL),
        (bits::VMX, VmxEntry, ALL),
        (bits::VMX, VmxMisc, ALL),
        (bits::VMX, VmxBasic, ALL),
        on(bits::LM, bits::VMX_ENTRY_IA32E_MODE),
        (bits::VMX_SECONDARY_CTLS, VmxSecondary, ALL),
        on(bits::XSAVES, bits::VMX_XSAVES),
        on(bits::RDRAND, bits::VMX_RDRAND_EXIT),
        on(bits::INVPCID, bits::VMX_INVPCID_EXIT),
        on(bits::MPX, bits::VMX_EXIT_CLEAR_BNDCFGS),
        on(bits::MPX, bits::VMX_ENTRY_LOAD_BNDCFGS),
        on(bits::RDSEED, bits::VMX_RDSEED_EXIT),
        (bits::INTEL_PT, Leaf14Ecx, ALL),
        on(bits::RDTSCP, bits::VMX_RDTSCP_EXIT),
        (bits::VMX_EPT, VmxEptVpid, 0xffff_ffff),
        on(bits::VMX_EPT, bits::VMX_UNRESTRICTED_GUEST),
        (bits::VMX_VPID, VmxEptVpid, 0xffff_ffff << 32),
        (bits::VMX_VMFUNC, VmxVmfunc, ALL),
        (bits::SVM, Svm, ALL),
    ]
};

/// Words whose features raise the leaf level, after leaf 7 EBX, which always does.
const LEVEL_WORDS: [FeatureWord; 12] = [
    Leaf1Edx,
    Leaf1Ecx,
    Leaf6Eax,
    Leaf7Ecx,
    Leaf7Sub1Eax,
    Ext1Edx,
    Ext1Ecx,
    Ext7Edx,
    Ext8Ebx,
    CentaurEdx,
    Svm,
    Xsave,
];

/// A CPU's configuration, settled: what CPUID, MSRs and reset are made from.
#[derive(Clone, Debug)]
pub struct Expanded {
    /// The configuration; its features, levels, `phys_bits` and `ucode_rev` are final.
    pub config: CpuConfig,
    /// Features that were asked for and that the host lacks (`filtered-features`).
    pub filtered: FeatureWords,
    /// What the user is to be told, a line or two each; the same for every CPU.
    pub warnings: Vec<String>,
    /// What CPUID says of the caches.
    pub caches: CacheLeaves,
    /// Sizes and places of the state components that XSAVE saves.
    pub xsave: XsaveAreas,
    /// Leaf 5.
    pub mwait: [u32; 4],
    /// IA32_MCG_CAP for `KVM_X86_SETUP_MCE`; `None` for a CPU without machine checks.
    pub mcg_cap: Option<u64>,
}

/// Expands and checks a configured CPU. The topology matters for how high the leaves go.
///
/// # Errors
/// What the host or the model cannot do and the user insisted on, see [`CpuError`].
pub fn expand_features(
    mut config: CpuConfig,
    host: &HostCpu,
    topology: &Topology,
) -> Result<Expanded, CpuError> {
    if matches!(config.model, CpuModel::Host) && host.runs_nothing {
        return Err(CpuError::NoHost(config.model.to_string()));
    }
    let mut work = Filter { filtered: FeatureWords::NONE, warnings: Vec::new() };
    if config.props.hv_vendor_id.is_empty() {
        config.props.hv_vendor_id = hyperv::VENDOR.to_owned();
    }
    if config.props.hv_vendor_id.len() > 12 {
        work.warnings.push("hv-vendor-id truncated to 12 characters".to_string());
    }
    work.expand(&mut config, host, topology);
    if !host.runs_nothing {
        if hyperv::drop_without_host(&mut config, host) {
            work.warnings.push("KVM has no Hyper-V enlightenments on this host: none is shown".to_string());
        }
        hyperv::expand(&mut config, host)?;
    }
    settle_lbr(&mut config, host)?;
    let verbose = config.props.check || config.props.enforce;
    work.drop_unsupported(&mut config, host, verbose);
    if config.props.enforce && work.filtered.any() {
        return Err(CpuError::Enforce { warnings: work.warnings });
    }
    if config.vendor == *b"AuthenticAMD" {
        let repeated = u64::from(AMD_ALIASES);
        config.features[Ext1Edx] =
            config.features[Ext1Edx] & !repeated | config.features[Leaf1Edx] & repeated;
    }
    let mut mwait = [0; 4];
    if config.model.copies_host() && host.cpu_pm {
        mwait = host.host_cpuid(5, 0);
        config.features.set(bits::MONITOR, true);
        if host.supported_word(Leaf7Ecx) & bits::WAITPKG.mask != 0 {
            config.features.set(bits::WAITPKG, true);
        }
    }
    mwait[2] |= MWAIT_ENUMERATION_AND_BREAK;
    settle_microcode(&mut config, host);
    work.settle_phys_bits(&mut config, host)?;
    let caches = match config.model.definition().and_then(|def| def.caches) {
        _ if config.props.legacy_cache => CacheLeaves::legacy(),
        Some(caches) => CacheLeaves::same(caches),
        None => return Err(CpuError::NoCaches(config.model.to_string())),
    };
    let mcg_cap = work.machine_checks(&config, host)?;
    let threads = topology.threads;
    if threads > 1 && config.vendor == *b"AuthenticAMD" && !config.features.has(bits::TOPOEXT) {
        work.warnings.push(format!(
            "This family of AMD CPU doesn't support hyperthreading({threads})\n\
             Please configure -smp options properly or try enabling topoext feature."
        ));
    }
    let xsave = XsaveAreas::of(host);
    let Filter { filtered, warnings } = work;
    Ok(Expanded { config, filtered, warnings, caches, xsave, mwait, mcg_cap })
}

/// Settles features and leaf levels of a CPU that is only asked about (`x86_cpu_expand_features`): what the host
/// lacks stays.
pub(crate) fn expand(config: &mut CpuConfig, host: &HostCpu, topology: &Topology) {
    Filter { filtered: FeatureWords::NONE, warnings: Vec::new() }.expand(config, host, topology);
}

fn take_host_features(config: &mut CpuConfig, host: &HostCpu) {
    for word in FeatureWord::all() {
        let info = word.info();
        let mut offered = host.supported_word(word);
        if config.migratable {
            offered &= info.migratable();
        }
        config.features[word] |= offered & !config.user_features[word] & !info.never_automatic;
    }
}

fn settle_lbr(config: &mut CpuConfig, host: &HostCpu) -> Result<(), CpuError> {
    if config.props.lbr_fmt != LBR_FMT_UNSET {
        let word = &mut config.features[PerfCapabilities];
        *word = *word & !LBR_FMT_MASK | config.props.lbr_fmt;
    }
    let requested = config.features[PerfCapabilities] & LBR_FMT_MASK;
    if requested == 0 || host.runs_nothing {
        return Ok(());
    }
    let host = host.supported_word(PerfCapabilities) & LBR_FMT_MASK;
    if !config.props.pmu {
        Err(CpuError::LbrWithoutPmu)
    } else if requested != host {
        Err(CpuError::LbrFormat { requested, host })
    } else {
        Ok(())
    }
}

fn settle_microcode(config: &mut CpuConfig, host: &HostCpu) {
    const IA32_UCODE_REV: u32 = 0x8b;
    if config.props.ucode_rev == 0 && config.model.copies_host() {
        config.props.ucode_rev = host.feature_msrs.get(&IA32_UCODE_REV).copied().unwrap_or(0);
    }
    if config.props.ucode_rev == 0 {
        // KVM's own defaults.
        config.props.ucode_rev = if config.vendor == *b"AuthenticAMD" { 0x0100_0065 } else { 1 << 32 };
    }
}

/// What was taken away and what there is to say of it.
struct Filter {
    filtered: FeatureWords,
    warnings: Vec<String>,
}

impl Filter {
    /// Takes features away (`mark_unavailable_features`).
    fn mark(&mut self, config: &mut CpuConfig, word: FeatureWord, mask: u64, prefix: Option<&str>) {
        if !config.props.force_features {
            config.features[word] &= !mask;
        }
        self.filtered[word] |= mask;
        let Some(prefix) = prefix else { return };
        let info = word.info();
        for bit in (0..u64::BITS).filter(|bit| mask & 1 << bit != 0) {
            let name = info.name(bit).map(|name| format!(".{name}")).unwrap_or_default();
            self.warnings.push(format!("{prefix}: {}{name} [bit {bit}]", info.description()));
        }
    }

    fn expand(&mut self, config: &mut CpuConfig, host: &HostCpu, topology: &Topology) {
        if config.model.copies_host() {
            take_host_features(config, host);
        }
        self.drop_dependent(config);
        if !config.props.kvm {
            config.features[Kvm] = 0;
        }
        xsave::enable_components(&mut config.features);
        self.settle_levels(config, topology.dies);
    }

    fn drop_dependent(&mut self, config: &mut CpuConfig) {
        const PREFIX: &str = "This feature depends on other features that were not requested";
        for (from, word, mask) in DEPENDENCIES {
            if config.features[from.word] & from.mask == 0 {
                let useless = config.features[word] & mask;
                self.mark(config, word, useless & config.user_features[word], Some(PREFIX));
                config.features[word] &= !useless;
            }
        }
    }

    fn settle_levels(&mut self, config: &mut CpuConfig, dies: u32) {
        let mut level_func7 = 0;
        raise(config, &mut level_func7, Leaf7Ebx);
        if config.props.full_cpuid_auto_level {
            for word in LEVEL_WORDS {
                raise(config, &mut level_func7, word);
            }
            let is_intel = config.vendor == *b"GenuineIntel";
            let raise_to = |level: &mut u32, to: u32| *level = (*level).max(to);
            if config.features.has(bits::INTEL_PT) {
                if config.props.intel_pt_auto_level {
                    raise_to(&mut config.props.min_level, 0x14);
                } else if config.props.min_level < 0x14 {
                    let why = "Intel PT need CPUID leaf 0x14, please set by \
                               \"-cpu ...,intel-pt=on,min-level=0x14\"";
                    self.mark(config, bits::INTEL_PT.word, bits::INTEL_PT.mask, Some(why));
                }
            }
            if dies > 1 && (is_intel || !config.props.vendor_cpuid_only) {
                raise_to(&mut config.props.min_level, 0x1f);
            }
            if config.features.has(bits::SVM) {
                raise_to(&mut config.props.min_xlevel, 0x8000_000a);
            }
            if config.features.has(bits::SGX) {
                raise_to(&mut config.props.min_level, 0x12);
            }
        }
        let props = &mut config.props;
        let settle = |level: &mut u32, least: u32| {
            if *level == u32::MAX {
                *level = least;
            }
        };
        settle(&mut props.level_func7, level_func7);
        settle(&mut props.level, props.min_level);
        settle(&mut props.xlevel, props.min_xlevel);
        settle(&mut props.xlevel2, props.min_xlevel2);
    }

    fn drop_unsupported(&mut self, config: &mut CpuConfig, host: &HostCpu, verbose: bool) {
        let prefix = verbose.then_some("host doesn't support requested feature");
        for word in FeatureWord::all() {
            let missing = config.features[word] & !host.supported_word(word);
            self.mark(config, word, missing, prefix);
        }
        if !host.runs_nothing && config.features.has(bits::INTEL_PT) && !intel_pt_fits(config, host) {
            self.mark(config, bits::INTEL_PT.word, bits::INTEL_PT.mask, prefix);
        }
    }

    fn settle_phys_bits(&mut self, config: &mut CpuConfig, host: &HostCpu) -> Result<(), CpuError> {
        let props = &mut config.props;
        if !config.features.has(bits::LM) {
            if props.phys_bits != 0 {
                return Err(CpuError::PhysBitsIn32Bit);
            }
            props.phys_bits = if config.features.has(bits::PSE36) { 36 } else { 32 };
            return Ok(());
        }
        let host_bits = host.phys_bits();
        if props.phys_bits != 0 && props.phys_bits != host_bits && !host.runs_nothing {
            self.warnings.push(format!(
                "Host physical bits ({host_bits}) does not match phys-bits property ({})",
                props.phys_bits
            ));
        }
        if props.host_phys_bits && !host.runs_nothing {
            props.phys_bits = host_bits;
            let limit = u32::from(props.host_phys_bits_limit);
            if limit != 0 {
                props.phys_bits = host_bits.min(limit);
            }
        }
        match props.phys_bits {
            0 => props.phys_bits = DEFAULT_PHYS_BITS,
            32..=MAX_PHYS_BITS => {}
            wrong => return Err(CpuError::PhysBits(wrong)),
        }
        Ok(())
    }

    /// IA32_MCG_CAP of family 6 and later (`mce_init`), as far as KVM has it.
    fn machine_checks(&mut self, config: &CpuConfig, host: &HostCpu) -> Result<Option<u64>, CpuError> {
        let has_checks = config.features.has(bits::MCE) && config.features.has(bits::MCA);
        if config.signature >> 8 & 0xf < 6 || !has_checks {
            return Ok(None);
        }
        let Some(supported) = host.mce_cap else { return Ok(None) };
        let wanted = MCG_CAP_DEFAULT | if config.props.lmce { MCG_LMCE } else { 0 };
        if u64::from(host.mce_banks) < MCE_BANKS {
            return Err(CpuError::MceBanks { wanted: MCE_BANKS, supported: host.mce_banks.into() });
        }
        let missing = wanted & !(supported | MCG_CAP_BANKS);
        if missing & MCG_LMCE != 0 {
            return Err(CpuError::Lmce);
        }
        if missing != 0 {
            self.warnings.push(format!("Unsupported MCG_CAP bits: 0x{missing:x}"));
        }
        Ok(Some(wanted & !missing))
    }
}

/// Raises the level of the leaves that a word's leaf belongs to, if the word has any feature
/// (`x86_cpu_adjust_feat_level`).
fn raise(config: &mut CpuConfig, level_func7: &mut u32, word: FeatureWord) {
    let WordSource::Cpuid { leaf, subleaf, .. } = word.info().source else { return };
    if config.features[word] == 0 {
        return;
    }
    let level = match leaf >> 28 {
        0 => &mut config.props.min_level,
        8 => &mut config.props.min_xlevel,
        0xc => &mut config.props.min_xlevel2,
        _ => return,
    };
    *level = (*level).max(leaf);
    if leaf == 7 {
        *level_func7 = (*level_func7).max(subleaf.unwrap_or(0));
    }
}

/// Whether the host's processor trace has what leaf 0x14 tells the guest; it cannot be configured.
fn intel_pt_fits(config: &CpuConfig, host: &HostCpu) -> bool {
    use crate::cpuid::intel_pt as pt;
    use Register::{Eax, Ebx, Ecx};
    let supported = |index, register| host.supported_cpuid(0x14, index, register);
    let covers = |have: u32, want: u32| have & want == want;
    let ip_format = supported(0, Ecx) & pt::LIP;
    supported(0, Eax) != 0
        && covers(supported(0, Ebx), pt::MINIMAL_EBX)
        && covers(supported(0, Ecx), pt::MINIMAL_ECX)
        && covers(supported(1, Eax), pt::MTC_PERIODS)
        && supported(1, Eax) & 0x3 >= pt::ADDRESS_RANGES
        && covers(supported(1, Ebx), pt::PSB_FREQUENCIES | pt::CYCLE_THRESHOLDS)
        && ip_format == config.features.low(Leaf14Ecx) & pt::LIP
}
