//! Hyper-V enlightenments: which bits of which leaf each one is, what it needs, and the leaves.
//!
//! Leaves and bits: Hypervisor Top Level Functional Specification, "Feature and Interface
//! Discovery". Names and rules: QEMU 7.2, target/i386/kvm/kvm.c.

use crate::config::CpuConfig;
use crate::expand::CpuError;
use crate::host::{CpuidEntry, HostCpu, Register, find};
use crate::props::OnOffAuto;

mod spec {
    pub const VENDOR_AND_MAX_FUNCTIONS: u32 = 0x4000_0000;
    pub const INTERFACE: u32 = 0x4000_0001;
    pub const VERSION: u32 = 0x4000_0002;
    pub const FEATURES: u32 = 0x4000_0003;
    pub const ENLIGHTENMENT_INFO: u32 = 0x4000_0004;
    pub const IMPLEMENT_LIMITS: u32 = 0x4000_0005;
    pub const NESTED_FEATURES: u32 = 0x4000_000a;

    /// FEATURES.EAX: hypercalls.
    pub const HYPERCALL_AVAILABLE: u32 = 1 << 5;
    /// FEATURES.EBX: messages and signals of the SynIC.
    pub const POST_MESSAGES_AND_SIGNAL_EVENTS: u32 = 1 << 4 | 1 << 5;
    /// FEATURES.EDX: processors come and go.
    pub const CPU_DYNAMIC_PARTITIONING_AVAILABLE: u32 = 1 << 3;
    /// ENLIGHTENMENT_INFO.EAX: APIC by MSR.
    pub const APIC_ACCESS_RECOMMENDED: u32 = 1 << 3;
    /// ENLIGHTENMENT_INFO.EAX.
    pub const NO_NONARCH_CORESHARING: u32 = 1 << 18;
    /// NESTED_FEATURES.EAX: enlightened VMCS, versions 1 to 1.
    pub const EVMCS_VERSIONS: u32 = 1 << 8 | 1;
    /// `Hv#1`
    pub const INTERFACE_ID: u32 = 0x3123_7648;
    /// Most virtual processors that a limit can name.
    pub const LIMIT_LOGICAL_PROCESSORS: u32 = 64;
}

/// One enlightenment.
#[derive(Debug)]
pub struct Enlightenment {
    /// The property.
    pub name: &'static str,
    /// What messages call it.
    pub description: &'static str,
    /// Leaf, register and bits that tell the guest of it.
    bits: &'static [(u32, Register, u32)],
    /// Others it needs.
    needs: &'static [&'static str],
}

/// Another name of `hv-avic`.
pub(crate) const ALIAS: (&str, &str) = ("hv-apicv", "hv-avic");

const fn enlightenment(
    name: &'static str,
    description: &'static str,
    bits: &'static [(u32, Register, u32)],
    needs: &'static [&'static str],
) -> Enlightenment {
    Enlightenment { name, description, bits, needs }
}

/// All that can be asked for one by one, in QEMU's order.
pub static ENLIGHTENMENTS: [Enlightenment; 20] = {
    use Register::{Eax, Edx};
    use spec::{ENLIGHTENMENT_INFO as INFO, FEATURES, NESTED_FEATURES};
    [
        enlightenment("hv-relaxed", "relaxed timing (hv-relaxed)", &[(INFO, Eax, 1 << 5)], &[]),
        enlightenment("hv-vapic", "virtual APIC (hv-vapic)", &[(FEATURES, Eax, 1 << 4)], &[]),
        enlightenment("hv-time", "clocksources (hv-time)", &[(FEATURES, Eax, 1 << 1 | 1 << 9)], &[]),
        enlightenment("hv-crash", "crash MSRs (hv-crash)", &[(FEATURES, Edx, 1 << 10)], &[]),
        enlightenment("hv-reset", "reset MSR (hv-reset)", &[(FEATURES, Eax, 1 << 7)], &[]),
        enlightenment("hv-vpindex", "VP_INDEX MSR (hv-vpindex)", &[(FEATURES, Eax, 1 << 6)], &[]),
        enlightenment("hv-runtime", "VP_RUNTIME MSR (hv-runtime)", &[(FEATURES, Eax, 1)], &[]),
        enlightenment(
            "hv-synic",
            "synthetic interrupt controller (hv-synic)",
            &[(FEATURES, Eax, 1 << 2)],
            &[],
        ),
        enlightenment(
            "hv-stimer",
            "synthetic timers (hv-stimer)",
            &[(FEATURES, Eax, 1 << 3)],
            &["hv-time", "hv-synic"],
        ),
        enlightenment(
            "hv-frequencies",
            "frequency MSRs (hv-frequencies)",
            &[(FEATURES, Eax, 1 << 11), (FEATURES, Edx, 1 << 8)],
            &[],
        ),
        enlightenment(
            "hv-reenlightenment",
            "reenlightenment MSRs (hv-reenlightenment)",
            &[(FEATURES, Eax, 1 << 13)],
            &[],
        ),
        enlightenment(
            "hv-tlbflush",
            "paravirtualized TLB flush (hv-tlbflush)",
            &[(INFO, Eax, 1 << 2 | 1 << 11)],
            &["hv-vpindex"],
        ),
        enlightenment("hv-evmcs", "enlightened VMCS (hv-evmcs)", &[(INFO, Eax, 1 << 14)], &["hv-vapic"]),
        enlightenment(
            "hv-ipi",
            "paravirtualized IPI (hv-ipi)",
            &[(INFO, Eax, 1 << 10 | 1 << 11)],
            &["hv-vpindex"],
        ),
        enlightenment(
            "hv-stimer-direct",
            "direct mode synthetic timers (hv-stimer-direct)",
            &[(FEATURES, Edx, 1 << 19)],
            &["hv-stimer"],
        ),
        enlightenment("hv-avic", "AVIC/APICv support (hv-avic/hv-apicv)", &[(INFO, Eax, 1 << 9)], &[]),
        enlightenment(
            "hv-emsr-bitmap",
            "enlightened MSR-Bitmap (hv-emsr-bitmap)",
            &[(NESTED_FEATURES, Eax, 1 << 19)],
            &[],
        ),
        enlightenment(
            "hv-xmm-input",
            "XMM fast hypercall input (hv-xmm-input)",
            &[(FEATURES, Edx, 1 << 4)],
            &[],
        ),
        enlightenment(
            "hv-tlbflush-ext",
            "Extended gva ranges for TLB flush hypercalls (hv-tlbflush-ext)",
            &[(FEATURES, Edx, 1 << 14)],
            &["hv-tlbflush"],
        ),
        enlightenment(
            "hv-tlbflush-direct",
            "direct TLB flush (hv-tlbflush-direct)",
            &[(NESTED_FEATURES, Eax, 1 << 17)],
            &["hv-vapic"],
        ),
    ]
};

impl Enlightenment {
    fn supported(&self, host: &HostCpu) -> bool {
        self.bits.iter().all(|(leaf, register, bits)| host_register(host, *leaf, *register) & bits == *bits)
    }
}

/// The vendor where none is given.
pub(crate) const VENDOR: &str = "Microsoft Hv";

/// The set of enlightenments that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enlightenments(u32);

/// The properties' names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ENLIGHTENMENTS.iter().map(|known| known.name)
}

impl Enlightenments {
    /// The one of a name, if there is one.
    pub(crate) fn position(name: &str) -> Option<usize> {
        ENLIGHTENMENTS.iter().position(|known| known.name == name)
    }

    pub(crate) fn set(&mut self, position: usize, on: bool) {
        let bit = 1 << position;
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }

    pub(crate) fn is_on(&self, position: usize) -> bool {
        self.0 & 1 << position != 0
    }

    /// Whether the one of a name is on.
    pub fn has(&self, name: &str) -> bool {
        Self::position(name).is_some_and(|position| self.is_on(position))
    }

    fn iter(&self) -> impl Iterator<Item = &'static Enlightenment> {
        ENLIGHTENMENTS.iter().enumerate().filter(|(at, _)| self.is_on(*at)).map(|(_, one)| one)
    }

    fn leaf(&self, leaf: u32, register: Register) -> u32 {
        let bits = self.iter().flat_map(|one| one.bits);
        bits.filter(|(of, in_register, _)| *of == leaf && *in_register == register)
            .fold(0, |word, (_, _, bits)| word | bits)
    }
}

fn host_register(host: &HostCpu, leaf: u32, register: Register) -> u32 {
    find(&host.hyperv, leaf, 0).map_or(0, |entry| entry.register(register))
}

/// Whether the guest is to see Hyper-V at all (`hyperv_enabled`).
pub fn enabled(config: &CpuConfig) -> bool {
    let props = &config.props;
    props.hv_spinlocks != u32::MAX || config.enlightenments.0 != 0 || props.hv_passthrough
}

/// Takes all enlightenments back where KVM has no Hyper-V at all: QEMU starts such a guest without them.
/// Whether there were any.
pub(crate) fn drop_without_host(config: &mut CpuConfig, host: &HostCpu) -> bool {
    if !enabled(config) || !host.hyperv.is_empty() {
        return false;
    }
    config.enlightenments = Enlightenments::default();
    config.props.hv_spinlocks = u32::MAX;
    config.props.hv_passthrough = false;
    true
}

/// Checks what was asked for against what the host has, and takes over what the host has for
/// `hv-passthrough` (`kvm_hyperv_expand_features`).
///
/// # Errors
/// An enlightenment that KVM does not support, or that needs another.
pub(crate) fn expand(config: &mut CpuConfig, host: &HostCpu) -> Result<(), CpuError> {
    if !enabled(config) {
        return Ok(());
    }
    if config.props.hv_passthrough {
        pass_through(config, host);
    } else {
        for one in config.enlightenments.iter() {
            if !one.supported(host) {
                return Err(CpuError::HyperVUnsupported(one.description));
            }
            for needed in one.needs {
                require(config, one.description, needed)?;
            }
        }
    }
    if config.enlightenments.has("hv-synic") && !config.props.hv_synic_kvm_only {
        require(config, "synthetic interrupt controller (hv-synic)", "hv-vpindex")?;
    }
    Ok(())
}

/// Whether CPUs have a SynIC.
pub(crate) fn has_synic(config: &CpuConfig) -> bool {
    enabled(config) && config.enlightenments.has("hv-synic")
}

fn require(config: &CpuConfig, by: &'static str, needed: &str) -> Result<(), CpuError> {
    match Enlightenments::position(needed) {
        Some(position) if !config.enlightenments.is_on(position) => {
            let needed = ENLIGHTENMENTS.get(position).map_or("", |one| one.description);
            Err(CpuError::HyperVNeeds { by, needed })
        }
        _ => Ok(()),
    }
}

fn pass_through(config: &mut CpuConfig, host: &HostCpu) {
    use Register::{Eax, Ebx, Ecx, Edx};
    let get = |leaf, register| host_register(host, leaf, register);
    let props = &mut config.props;
    let vendor = [Ebx, Ecx, Edx].map(|register| get(spec::VENDOR_AND_MAX_FUNCTIONS, register));
    let vendor = vendor.map(u32::to_le_bytes).concat();
    props.hv_vendor_id = String::from_utf8_lossy(&vendor).trim_end_matches('\0').to_string();
    props.hv_version_id_build = get(spec::VERSION, Eax);
    props.hv_version_id_major = (get(spec::VERSION, Ebx) >> 16) as u16;
    props.hv_version_id_minor = get(spec::VERSION, Ebx) as u16;
    props.hv_version_id_spack = get(spec::VERSION, Ecx);
    props.hv_version_id_sbranch = (get(spec::VERSION, Edx) >> 24) as u8;
    props.hv_version_id_snumber = get(spec::VERSION, Edx) & 0xff_ffff;
    props.hv_max_vps = get(spec::IMPLEMENT_LIMITS, Eax) as i32;
    props.hv_spinlocks = get(spec::ENLIGHTENMENT_INFO, Ebx);
    for (at, one) in ENLIGHTENMENTS.iter().enumerate() {
        if one.supported(host) {
            config.enlightenments.set(at, true);
        }
    }
}

/// The leaves that show Hyper-V to the guest (`hyperv_fill_cpuids`).
pub(crate) fn leaves(config: &CpuConfig, host: &HostCpu) -> Vec<CpuidEntry> {
    use Register::{Eax, Ebx, Edx};
    let (props, on) = (&config.props, &config.enlightenments);
    let evmcs = if on.has("hv-evmcs") { spec::EVMCS_VERSIONS } else { 0 };
    let nested = on.leaf(spec::NESTED_FEATURES, Eax) | evmcs;
    let last = if nested != 0 { spec::NESTED_FEATURES } else { spec::IMPLEMENT_LIMITS };
    let entry = |function, [eax, ebx, ecx, edx]: [u32; 4]| CpuidEntry {
        function,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    };

    let mut messages = 0;
    if on.has("hv-synic") && !props.hv_synic_kvm_only {
        messages = spec::POST_MESSAGES_AND_SIGNAL_EVENTS;
    }
    let mut advice = on.leaf(spec::ENLIGHTENMENT_INFO, Eax);
    if on.has("hv-vapic") && !on.has("hv-avic") {
        advice |= spec::APIC_ACCESS_RECOMMENDED;
    }
    advice |= match props.hv_no_nonarch_coresharing {
        OnOffAuto::On => spec::NO_NONARCH_CORESHARING,
        OnOffAuto::Auto => host_register(host, spec::ENLIGHTENMENT_INFO, Eax) & spec::NO_NONARCH_CORESHARING,
        OnOffAuto::Off => 0,
    };
    let [vendor_1, vendor_2, vendor_3] = vendor_words(&props.hv_vendor_id);
    let version = u32::from(props.hv_version_id_major) << 16 | u32::from(props.hv_version_id_minor);
    let service = u32::from(props.hv_version_id_sbranch) << 24 | props.hv_version_id_snumber & 0xff_ffff;
    let (interface, limits) = if props.hv_passthrough {
        let of = |leaf| find(&host.hyperv, leaf, 0).map_or([0; 4], |entry| entry.registers());
        (of(spec::INTERFACE), of(spec::IMPLEMENT_LIMITS))
    } else {
        ([spec::INTERFACE_ID, 0, 0, 0], [0, spec::LIMIT_LOGICAL_PROCESSORS, 0, 0])
    };
    let features = [
        on.leaf(spec::FEATURES, Eax) | spec::HYPERCALL_AVAILABLE,
        on.leaf(spec::FEATURES, Ebx) | messages,
        0,
        // KVM does not show it, Windows wants it to take in new processors.
        on.leaf(spec::FEATURES, Edx) | spec::CPU_DYNAMIC_PARTITIONING_AVAILABLE,
    ];
    let mut leaves = vec![
        entry(spec::VENDOR_AND_MAX_FUNCTIONS, [last, vendor_1, vendor_2, vendor_3]),
        entry(spec::INTERFACE, interface),
        entry(spec::VERSION, [props.hv_version_id_build, version, props.hv_version_id_spack, service]),
        entry(spec::FEATURES, features),
        entry(spec::ENLIGHTENMENT_INFO, [advice, props.hv_spinlocks, 0, 0]),
        entry(spec::IMPLEMENT_LIMITS, [props.hv_max_vps as u32, limits[1], limits[2], limits[3]]),
    ];
    if nested != 0 {
        leaves.push(entry(spec::NESTED_FEATURES, [nested, 0, 0, 0]));
    }
    leaves
}

/// The first 12 bytes of a vendor name.
fn vendor_words(vendor: &str) -> [u32; 3] {
    let mut words = [0; 3];
    for (at, byte) in vendor.bytes().take(12).enumerate() {
        if let Some(word) = words.get_mut(at / 4) {
            *word |= u32::from(byte) << (8 * (at % 4));
        }
    }
    words
}
