//! What the host offers: its own CPUID, and what KVM says a guest may be given.
//!
//! Nothing here asks KVM: whoever holds `/dev/kvm` fills a [`HostCpu`] in, so that a host can be
//! written down in a test. Follows `kvm_arch_get_supported_cpuid` and
//! `kvm_arch_get_supported_msr_feature` of QEMU's target/i386/kvm/kvm.c.

use std::collections::BTreeMap;

use crate::features::{FeatureWord, FeatureWords, WordSource, bits};

/// One of the four registers that CPUID returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// EAX
    Eax,
    /// EBX
    Ebx,
    /// ECX
    Ecx,
    /// EDX
    Edx,
}

impl Register {
    /// The name as QEMU's messages spell it, `EAX` for instance.
    pub fn name(self) -> &'static str {
        match self {
            Register::Eax => "EAX",
            Register::Ebx => "EBX",
            Register::Ecx => "ECX",
            Register::Edx => "EDX",
        }
    }
}

/// One CPUID leaf or subleaf with what it returns; the fields of Linux's `struct kvm_cpuid_entry2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidEntry {
    /// The leaf, EAX on input.
    pub function: u32,
    /// The subleaf, ECX on input; matters when `flags` has [`CpuidEntry::SIGNIFICANT_INDEX`].
    pub index: u32,
    /// `KVM_CPUID_FLAG_*`.
    pub flags: u32,
    /// EAX on output.
    pub eax: u32,
    /// EBX on output.
    pub ebx: u32,
    /// ECX on output.
    pub ecx: u32,
    /// EDX on output.
    pub edx: u32,
}

impl CpuidEntry {
    /// `KVM_CPUID_FLAG_SIGNIFCANT_INDEX`: the leaf has subleaves, `index` selects this one.
    pub const SIGNIFICANT_INDEX: u32 = 1;

    /// The value of one register.
    pub fn register(&self, register: Register) -> u32 {
        match register {
            Register::Eax => self.eax,
            Register::Ebx => self.ebx,
            Register::Ecx => self.ecx,
            Register::Edx => self.edx,
        }
    }

    /// EAX, EBX, ECX and EDX.
    pub fn registers(&self) -> [u32; 4] {
        [self.eax, self.ebx, self.ecx, self.edx]
    }
}

/// Where KVM's interrupt controllers are (`kernel-irqchip=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IrqChip {
    /// PIC, IOAPIC and local APICs in the kernel.
    #[default]
    Kernel,
    /// Only the local APICs in the kernel.
    Split,
    /// None in the kernel.
    Off,
}

/// What the host's processor and its KVM can do.
#[derive(Clone, Debug, Default)]
pub struct HostCpu {
    /// No guest code is run, so that nothing a model has can be missing (the accelerator `qtest`).
    pub runs_nothing: bool,
    /// `KVM_GET_SUPPORTED_CPUID`.
    pub supported: Vec<CpuidEntry>,
    /// The processor's own CPUID, see [`HostCpu::read_cpuid`].
    pub cpuid: Vec<CpuidEntry>,
    /// Values of the MSRs of `KVM_GET_MSR_FEATURE_INDEX_LIST`.
    pub feature_msrs: BTreeMap<u32, u64>,
    /// Whether `KVM_GET_MSR_INDEX_LIST` has `IA32_ARCH_CAPABILITIES`.
    pub has_arch_capabilities: bool,
    /// Where the interrupt controllers are.
    pub irqchip: IrqChip,
    /// `KVM_CAP_TSC_DEADLINE_TIMER`.
    pub tsc_deadline: bool,
    /// `KVM_X86_XCOMP_GUEST_SUPP`: the XCR0 a guest may have, where KVM can say.
    pub xcr0_supported: Option<u64>,
    /// `KVM_X86_GET_MCE_CAP_SUPPORTED`, where `KVM_CAP_MCE` is there.
    pub mce_cap: Option<u64>,
    /// What `KVM_CAP_MCE` returns: the number of machine-check banks.
    pub mce_banks: u32,
    /// `KVM_GET_SUPPORTED_HV_CPUID`, empty where KVM has no Hyper-V enlightenments.
    pub hyperv: Vec<CpuidEntry>,
    /// The user gave `-overcommit cpu-pm=on`: the guest may keep the host's processor idle.
    pub cpu_pm: bool,
    /// `KVM_CAP_X86_DISABLE_EXITS` has `KVM_X86_DISABLE_EXITS_MWAIT`.
    pub can_keep_mwait: bool,
}

/// Basic and extended leaves that have subleaves, of those [`HostCpu::read_cpuid`] collects.
const LEAVES_WITH_SUBLEAVES: [u32; 4] = [4, 7, 0xd, 0x8000_001d];

impl HostCpu {
    /// Reads the CPUID of the processor this runs on: what `host`, `max`, `host-phys-bits` and
    /// `host-cache-info` copy from.
    #[cfg(target_arch = "x86_64")]
    pub fn read_cpuid() -> Vec<CpuidEntry> {
        use std::arch::x86_64::__cpuid_count;
        const LAST_XSTATE_COMPONENT: u32 = 31;
        const LAST_CACHE: u32 = 7;
        let mut entries = Vec::new();
        for first in [0, 0x8000_0000_u32] {
            // No processor has more than this many leaves in a range; a hypervisor may claim it.
            let last = __cpuid_count(first, 0).eax.clamp(first, first + 0x3f);
            for function in first..=last {
                let has_subleaves = LEAVES_WITH_SUBLEAVES.contains(&function);
                let last_index = match function {
                    0xd => LAST_XSTATE_COMPONENT,
                    7 => 1,
                    _ if has_subleaves => LAST_CACHE,
                    _ => 0,
                };
                for index in 0..=last_index {
                    let out = __cpuid_count(function, index);
                    let flags = if has_subleaves { CpuidEntry::SIGNIFICANT_INDEX } else { 0 };
                    let (eax, ebx, ecx, edx) = (out.eax, out.ebx, out.ecx, out.edx);
                    entries.push(CpuidEntry { function, index, flags, eax, ebx, ecx, edx });
                }
            }
        }
        entries
    }

    /// What the processor itself returns for a leaf; zeros for one it lacks.
    pub fn host_cpuid(&self, function: u32, index: u32) -> [u32; 4] {
        find(&self.cpuid, function, index).map_or([0; 4], |entry| entry.registers())
    }

    /// The vendor string of the processor.
    pub fn vendor(&self) -> [u8; 12] {
        let [_, ebx, ecx, edx] = self.host_cpuid(0, 0);
        vendor_bytes([ebx, edx, ecx])
    }

    /// The processor's signature as leaf 1 has it, reduced to family, model and stepping.
    pub fn family_model_stepping(&self) -> (u32, u32, u32) {
        let eax = self.host_cpuid(1, 0)[0];
        let family = (eax >> 8 & 0xf) + (eax >> 20 & 0xff);
        (family, eax >> 4 & 0xf | (eax & 0xf_0000) >> 12, eax & 0xf)
    }

    /// The 48 bytes of the processor's brand string.
    pub fn model_id(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        let words = (0x8000_0002..=0x8000_0004).flat_map(|leaf| self.host_cpuid(leaf, 0));
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The number of physical address bits (`host_cpu_phys_bits`).
    pub fn phys_bits(&self) -> u32 {
        // A 64-bit processor without the leaf is an early Intel one, with 36 bits.
        if self.host_cpuid(0x8000_0000, 0)[0] >= 0x8000_0008 {
            self.host_cpuid(0x8000_0008, 0)[0] & 0xff
        } else {
            36
        }
    }

    /// What KVM supports for one register of one leaf (`kvm_arch_get_supported_cpuid`).
    pub fn supported_cpuid(&self, function: u32, index: u32, register: Register) -> u32 {
        use Register::{Eax, Ebx, Ecx, Edx};
        let told = find(&self.supported, function, index).map_or(0, |entry| entry.register(register));
        let low = |mask: u64| mask as u32;
        match (function, index, register) {
            // KVM before 2.6.30 left these out.
            (1, _, Edx) => told | low(bits::MTRR.mask | bits::PAT.mask | bits::MCE.mask | bits::MCA.mask),
            (1, _, Ecx) => self.supported_leaf_1_ecx(told),
            // The local APIC is emulated, so its timer always runs.
            (6, _, Eax) => told | low(bits::ARAT.mask),
            (7, 0, Ebx) if self.tsx_broken() => told & !low(bits::RTM.mask | bits::HLE.mask),
            // Linux 4.17 to 4.20 claimed it on AMD.
            (7, 0, Edx) if !self.has_arch_capabilities => told & !low(bits::ARCH_CAPABILITIES.mask),
            (0xd, 0, Eax) => self.xcr0_supported.map_or(told, low),
            (0xd, 0, Edx) => self.xcr0_supported.map_or(told, |xcr0| (xcr0 >> 32) as u32),
            // Harmless where the guest's topology is given: models with it run everywhere.
            (0x8000_0001, _, Ecx) => told | low(bits::TOPOEXT.mask),
            (0x8000_0001, _, Edx) => told | self.supported_cpuid(1, 0, Edx) & AMD_ALIASES,
            (KVM_CPUID_FEATURES, _, Eax) => match self.irqchip {
                IrqChip::Kernel => told,
                IrqChip::Split => told | low(bits::KVM_MSI_EXT_DEST_ID.mask),
                IrqChip::Off => told & !low(bits::KVM_PV_UNHALT.mask),
            },
            (KVM_CPUID_FEATURES, _, Edx) => told | low(bits::KVM_HINT_DEDICATED.mask),
            _ => told,
        }
    }

    fn supported_leaf_1_ecx(&self, told: u32) -> u32 {
        let in_kernel = self.irqchip != IrqChip::Off;
        let mut word = told | bits::HYPERVISOR.mask as u32;
        if in_kernel && self.tsc_deadline {
            word |= bits::TSC_DEADLINE.mask as u32;
        }
        if !in_kernel {
            word &= !(bits::X2APIC.mask as u32);
        }
        if self.cpu_pm && self.can_keep_mwait {
            word |= bits::MONITOR.mask as u32;
        }
        word
    }

    /// Haswells whose microcode cannot be trusted to have turned TSX off (`host_tsx_broken`).
    fn tsx_broken(&self) -> bool {
        let (family, model, stepping) = self.family_model_stepping();
        self.vendor() == *b"GenuineIntel"
            && family == 6
            && (matches!(model, 60 | 69 | 70) || model == 63 && stepping < 4)
    }

    /// What KVM supports of one feature MSR (`kvm_arch_get_supported_msr_feature`).
    fn supported_msr(&self, index: u32) -> u64 {
        let value = self.feature_msrs.get(&index).copied().unwrap_or(0);
        if VMX_CONTROLS.contains(&index) {
            // The low half has a bit for each control that must be 1, the high half one for each
            // that may be.
            (value >> 32) & !(value & 0xffff_ffff)
        } else {
            value
        }
    }

    /// What KVM supports of a feature word (`x86_cpu_get_supported_feature_word`).
    pub fn supported_word(&self, word: FeatureWord) -> u64 {
        if self.runs_nothing {
            return u64::MAX;
        }
        match word.info().source {
            WordSource::Cpuid { leaf, subleaf, register } => {
                self.supported_cpuid(leaf, subleaf.unwrap_or(0), register).into()
            }
            WordSource::Msr { index } => self.supported_msr(index),
        }
    }

    /// [`Self::supported_word`] of all words.
    pub fn supported_words(&self) -> FeatureWords {
        let mut words = FeatureWords::NONE;
        for word in FeatureWord::all() {
            words[word] = self.supported_word(word);
        }
        words
    }
}

/// KVM's feature leaf.
pub(crate) const KVM_CPUID_FEATURES: u32 = 0x4000_0001;
/// Bits of leaf 0x80000001 EDX that on AMD repeat those of leaf 1 EDX (`CPUID_EXT2_AMD_ALIASES`).
pub(crate) const AMD_ALIASES: u32 = 0x0183_f3ff;
/// IA32_VMX_PROCBASED_CTLS2 and the four IA32_VMX_TRUE_*_CTLS.
const VMX_CONTROLS: [u32; 5] = [0x48b, 0x48d, 0x48e, 0x48f, 0x490];

pub(crate) fn find(entries: &[CpuidEntry], function: u32, index: u32) -> Option<&CpuidEntry> {
    entries.iter().find(|entry| entry.function == function && entry.index == index)
}

/// The vendor string from EBX, EDX and ECX of leaf 0.
pub(crate) fn vendor_bytes(words: [u32; 3]) -> [u8; 12] {
    let mut vendor = [0; 12];
    for (chunk, word) in vendor.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    vendor
}
