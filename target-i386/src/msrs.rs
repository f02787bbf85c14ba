//! Model-specific registers: which of them a vCPU has, their values after reset, those that follow
//! from its features, and what firmware leaves in them.
//!
//! Indices: Intel SDM volume 4, AMD APM volume 2 appendix A, Linux's Documentation/virt/kvm/x86/msr.rst.
//! Which are saved and when: `kvm_put_msrs`, `kvm_get_msrs` and `kvm_init_msrs` of QEMU 7.2.

use crate::config::CpuConfig;
use crate::expand::Expanded;
use crate::features::FeatureWord::*;
use crate::features::{Feature, bits};
use crate::host::{HostCpu, Register};

/// An MSR's index and value.
pub type MsrValue = (u32, u64);

/// Indices and values.
#[expect(missing_docs, reason = "each is the register of its name")]
pub mod spec {
    pub const KVM_WALL_CLOCK: u32 = 0x11;
    pub const KVM_SYSTEM_TIME: u32 = 0x12;
    pub const IA32_TSC: u32 = 0x10;
    pub const SMI_COUNT: u32 = 0x34;
    pub const IA32_FEATURE_CONTROL: u32 = 0x3a;
    pub const IA32_TSC_ADJUST: u32 = 0x3b;
    pub const IA32_SPEC_CTRL: u32 = 0x48;
    pub const IA32_UCODE_REV: u32 = 0x8b;
    pub const IA32_SGXLEPUBKEYHASH0: u32 = 0x8c;
    pub const IA32_SMBASE: u32 = 0x9e;
    pub const IA32_PMC0: u32 = 0xc1;
    pub const IA32_CORE_CAPABILITIES: u32 = 0xcf;
    pub const IA32_UMWAIT_CONTROL: u32 = 0xe1;
    pub const IA32_ARCH_CAPABILITIES: u32 = 0x10a;
    pub const IA32_TSX_CTRL: u32 = 0x122;
    pub const IA32_SYSENTER_CS: u32 = 0x174;
    pub const IA32_SYSENTER_ESP: u32 = 0x175;
    pub const IA32_SYSENTER_EIP: u32 = 0x176;
    pub const IA32_MCG_STATUS: u32 = 0x17a;
    pub const IA32_MCG_CTL: u32 = 0x17b;
    pub const IA32_PERFEVTSEL0: u32 = 0x186;
    pub const IA32_MISC_ENABLE: u32 = 0x1a0;
    pub const IA32_XFD: u32 = 0x1c4;
    pub const IA32_XFD_ERR: u32 = 0x1c5;
    pub const IA32_MTRR_PHYSBASE0: u32 = 0x200;
    pub const IA32_MTRR_FIX64K_00000: u32 = 0x250;
    pub const IA32_MTRR_FIX16K_80000: u32 = 0x258;
    pub const IA32_MTRR_FIX16K_A0000: u32 = 0x259;
    pub const IA32_MTRR_FIX4K_C0000: u32 = 0x268;
    pub const IA32_PAT: u32 = 0x277;
    pub const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const IA32_FIXED_CTR0: u32 = 0x309;
    pub const IA32_PERF_CAPABILITIES: u32 = 0x345;
    pub const IA32_FIXED_CTR_CTRL: u32 = 0x38d;
    pub const IA32_PERF_GLOBAL_STATUS: u32 = 0x38e;
    pub const IA32_PERF_GLOBAL_CTRL: u32 = 0x38f;
    pub const IA32_PERF_GLOBAL_OVF_CTRL: u32 = 0x390;
    pub const IA32_MC0_CTL: u32 = 0x400;
    pub const IA32_VMX_BASIC: u32 = 0x480;
    pub const IA32_VMX_MISC: u32 = 0x485;
    pub const IA32_VMX_CR0_FIXED0: u32 = 0x486;
    pub const IA32_VMX_CR4_FIXED0: u32 = 0x488;
    pub const IA32_VMX_VMCS_ENUM: u32 = 0x48a;
    pub const IA32_VMX_PROCBASED_CTLS2: u32 = 0x48b;
    pub const IA32_VMX_EPT_VPID_CAP: u32 = 0x48c;
    pub const IA32_VMX_TRUE_PINBASED_CTLS: u32 = 0x48d;
    pub const IA32_VMX_TRUE_PROCBASED_CTLS: u32 = 0x48e;
    pub const IA32_VMX_TRUE_EXIT_CTLS: u32 = 0x48f;
    pub const IA32_VMX_TRUE_ENTRY_CTLS: u32 = 0x490;
    pub const IA32_VMX_VMFUNC: u32 = 0x491;
    pub const IA32_MCG_EXT_CTL: u32 = 0x4d0;
    pub const IA32_RTIT_OUTPUT_BASE: u32 = 0x560;
    pub const IA32_RTIT_OUTPUT_MASK_PTRS: u32 = 0x561;
    pub const IA32_RTIT_CTL: u32 = 0x570;
    pub const IA32_RTIT_STATUS: u32 = 0x571;
    pub const IA32_RTIT_CR3_MATCH: u32 = 0x572;
    pub const IA32_RTIT_ADDR0_A: u32 = 0x580;
    pub const IA32_TSC_DEADLINE: u32 = 0x6e0;
    pub const IA32_PKRS: u32 = 0x6e1;
    pub const IA32_BNDCFGS: u32 = 0xd90;
    pub const IA32_XSS: u32 = 0xda0;
    pub const HV_GUEST_OS_ID: u32 = 0x4000_0000;
    pub const HV_HYPERCALL: u32 = 0x4000_0001;
    pub const HV_VP_RUNTIME: u32 = 0x4000_0010;
    pub const HV_REFERENCE_TSC: u32 = 0x4000_0021;
    pub const HV_VP_ASSIST_PAGE: u32 = 0x4000_0073;
    pub const HV_SCONTROL: u32 = 0x4000_0080;
    pub const HV_SIEFP: u32 = 0x4000_0082;
    pub const HV_SIMP: u32 = 0x4000_0083;
    pub const HV_SINT0: u32 = 0x4000_0090;
    pub const HV_STIMER0_CONFIG: u32 = 0x4000_00b0;
    pub const HV_CRASH_P0: u32 = 0x4000_0100;
    pub const HV_CRASH_CTL: u32 = 0x4000_0105;
    pub const HV_REENLIGHTENMENT_CONTROL: u32 = 0x4000_0106;
    pub const KVM_ASYNC_PF_EN: u32 = 0x4b56_4d02;
    pub const KVM_STEAL_TIME: u32 = 0x4b56_4d03;
    pub const KVM_PV_EOI_EN: u32 = 0x4b56_4d04;
    pub const KVM_POLL_CONTROL: u32 = 0x4b56_4d05;
    pub const KVM_ASYNC_PF_INT: u32 = 0x4b56_4d06;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const FMASK: u32 = 0xc000_0084;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const AMD64_TSC_RATIO: u32 = 0xc000_0104;
    pub const VM_HSAVE_PA: u32 = 0xc001_0117;
    pub const VIRT_SSBD: u32 = 0xc001_011f;

    /// IA32_PAT after reset.
    pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
    /// IA32_MISC_ENABLE: fast strings; MONITOR and MWAIT.
    pub const MISC_ENABLE_FAST_STRINGS: u64 = 1;
    pub const MISC_ENABLE_MWAIT: u64 = 1 << 18;
    pub const SMBASE_RESET: u64 = 0x3_0000;
    /// AMD64_TSC_RATIO: 1.0.
    pub const TSC_RATIO_RESET: u64 = 1 << 32;
    /// The hash of Intel's own key, as processors have it after reset.
    pub const SGXLEPUBKEYHASH_RESET: [u64; 4] =
        [0xa605_3e05_1270_b7ac, 0x6cfb_e8ba_8b3b_413d, 0xc491_6d99_f2b3_735d, 0xd4f8_c059_09f9_bb3b];
    /// Variable MTRRs that KVM's guests have.
    pub const MTRR_VARIABLE_RANGES: u32 = 8;
    /// IA32_FEATURE_CONTROL.
    pub const FEATURE_CONTROL_LOCKED: u64 = 1;
    pub const FEATURE_CONTROL_VMX_OUTSIDE_SMX: u64 = 1 << 2;
    pub const FEATURE_CONTROL_SGX_LAUNCH_CONTROL: u64 = 1 << 17;
    pub const FEATURE_CONTROL_SGX: u64 = 1 << 18;
    pub const FEATURE_CONTROL_LMCE: u64 = 1 << 20;
}
use spec::*;

/// The MSRs of `KVM_GET_MSR_INDEX_LIST`.
#[derive(Clone, Copy, Debug)]
pub struct Available<'a>(pub &'a [u32]);

impl Available<'_> {
    fn has(&self, index: u32) -> bool {
        self.0.contains(&index)
    }
}

/// The MSRs of a vCPU with their values after reset: what to write then, and, with
/// [`saved_only`], what makes up its state. `power_on` is false for a reset of a running machine.
pub fn reset_msrs(cpu: &Expanded, host: &HostCpu, available: Available, power_on: bool) -> Vec<MsrValue> {
    let mut list = vec![
        (IA32_SYSENTER_CS, 0),
        (IA32_SYSENTER_ESP, 0),
        (IA32_SYSENTER_EIP, 0),
        (IA32_PAT, PAT_RESET),
        (CSTAR, 0),
        (KERNEL_GS_BASE, 0),
        (FMASK, 0),
        (LSTAR, 0),
        // KVM takes a write of 0 for a new processor that is to be in step with the others.
        (IA32_TSC, if power_on { 0 } else { 1 }),
        (KVM_SYSTEM_TIME, 0),
        (KVM_WALL_CLOCK, 0),
    ];
    let config = &cpu.config;
    let mut misc_enable = MISC_ENABLE_FAST_STRINGS;
    if config.features.has(bits::MONITOR) {
        misc_enable |= MISC_ENABLE_MWAIT;
    }
    let where_available = [
        (STAR, 0),
        (VM_HSAVE_PA, 0),
        (TSC_AUX, 0),
        (IA32_TSC_ADJUST, 0),
        (IA32_MISC_ENABLE, misc_enable),
        (IA32_SMBASE, SMBASE_RESET),
        (SMI_COUNT, 0),
        (IA32_PKRS, 0),
        (IA32_BNDCFGS, 0),
        (IA32_XSS, 0),
        (IA32_UMWAIT_CONTROL, 0),
        (IA32_SPEC_CTRL, 0),
        (AMD64_TSC_RATIO, TSC_RATIO_RESET),
        (IA32_TSX_CTRL, 0),
        (VIRT_SSBD, 0),
    ];
    let lacks = |index| index == TSC_AUX && !config.features.has(bits::RDTSCP);
    list.extend(where_available.into_iter().filter(|(index, _)| available.has(*index) && !lacks(*index)));
    let with_feature: [(Feature, MsrValue); 5] = [
        (bits::KVM_ASYNCPF_INT, (KVM_ASYNC_PF_INT, 0)),
        (bits::KVM_ASYNCPF, (KVM_ASYNC_PF_EN, 0)),
        (bits::KVM_PV_EOI, (KVM_PV_EOI_EN, 0)),
        (bits::KVM_STEAL_TIME, (KVM_STEAL_TIME, 0)),
        (bits::KVM_POLL_CONTROL, (KVM_POLL_CONTROL, 1)),
    ];
    let present = with_feature.into_iter().filter(|(feature, _)| config.features.has(*feature));
    list.extend(present.map(|(_, msr)| msr));
    add_performance_counters(cpu, host, &mut list);
    if config.features.has(bits::MTRR) {
        list.extend(mtrr_indices().map(|index| (index, 0)));
    }
    add_rare(cpu, host, &mut list);
    add_machine_checks(cpu, &mut list);
    list
}

/// MSRs that are part of a vCPU's state and are not written at reset, or not with the others:
/// the APIC's deadline and IA32_FEATURE_CONTROL.
pub fn saved_only(cpu: &Expanded, available: Available) -> Vec<u32> {
    let mut list = Vec::new();
    if available.has(IA32_TSC_DEADLINE) {
        list.push(IA32_TSC_DEADLINE);
    }
    if has_feature_control(cpu) {
        list.push(IA32_FEATURE_CONTROL);
    }
    list
}

fn has_feature_control(cpu: &Expanded) -> bool {
    let features = &cpu.config.features;
    let needed = [bits::VMX, bits::SMX, bits::SGX];
    needed.into_iter().any(|feature| features.has(feature)) || has_local_machine_checks(cpu)
}

fn has_local_machine_checks(cpu: &Expanded) -> bool {
    cpu.mcg_cap.is_some_and(|cap| cap & crate::config::MCG_LMCE != 0)
}

/// IA32_FEATURE_CONTROL as firmware leaves it (QEMU's fw_cfg file `etc/msr_feature_control`);
/// `None` for a CPU without it.
pub fn firmware_feature_control(cpu: &Expanded) -> Option<u64> {
    let features = &cpu.config.features;
    let mut value = 0;
    if features.has(bits::VMX) {
        value |= FEATURE_CONTROL_VMX_OUTSIDE_SMX;
    }
    if features.has(bits::SGX) {
        value |= FEATURE_CONTROL_SGX;
    }
    if features.has(bits::SGXLC) {
        value |= FEATURE_CONTROL_SGX_LAUNCH_CONTROL;
    }
    if has_local_machine_checks(cpu) {
        value |= FEATURE_CONTROL_LMCE;
    }
    (value != 0).then_some(value | FEATURE_CONTROL_LOCKED)
}

fn add_performance_counters(cpu: &Expanded, host: &HostCpu, list: &mut Vec<MsrValue>) {
    const MAX_GENERAL: u32 = 18;
    const MAX_FIXED: u32 = 3;
    if !cpu.config.props.pmu || cpu.config.props.level < 0xa {
        return;
    }
    let eax = host.supported_cpuid(0xa, 0, Register::Eax);
    let version = eax & 0xff;
    if version == 0 {
        return;
    }
    let general = (eax >> 8 & 0xff).min(MAX_GENERAL);
    let mut fixed = 0;
    if version > 1 {
        fixed = (host.supported_cpuid(0xa, 0, Register::Edx) & 0x1f).min(MAX_FIXED);
        // Stopped before the counters are written.
        let control = [IA32_FIXED_CTR_CTRL, IA32_PERF_GLOBAL_CTRL];
        list.extend(control.map(|index| (index, 0)));
        list.extend([IA32_PERF_GLOBAL_STATUS, IA32_PERF_GLOBAL_OVF_CTRL].map(|index| (index, 0)));
    }
    list.extend((0..fixed).map(|at| (IA32_FIXED_CTR0 + at, 0)));
    list.extend((0..general).flat_map(|at| [(IA32_PMC0 + at, 0), (IA32_PERFEVTSEL0 + at, 0)]));
}

fn add_rare(cpu: &Expanded, host: &HostCpu, list: &mut Vec<MsrValue>) {
    let config = &cpu.config;
    if config.features.has(bits::INTEL_PT) {
        let ranges = host.supported_cpuid(0x14, 1, Register::Eax) & 7;
        let control = [
            IA32_RTIT_CTL,
            IA32_RTIT_STATUS,
            IA32_RTIT_OUTPUT_BASE,
            IA32_RTIT_OUTPUT_MASK_PTRS,
            IA32_RTIT_CR3_MATCH,
        ];
        list.extend(control.map(|index| (index, 0)));
        list.extend((0..ranges).map(|at| (IA32_RTIT_ADDR0_A + at, 0)));
    }
    if config.features.has(bits::SGXLC) {
        list.extend((IA32_SGXLEPUBKEYHASH0..).zip(SGXLEPUBKEYHASH_RESET));
    }
    if config.features.has(bits::XFD) {
        list.extend([(IA32_XFD, 0), (IA32_XFD_ERR, 0)]);
    }
    if crate::hyperv::enabled(config) {
        add_hyperv(config, list);
    }
}

/// What a guest has that takes KVM for Hyper-V.
fn add_hyperv(config: &CpuConfig, list: &mut Vec<MsrValue>) {
    /// The sources of interrupts of a SynIC, and what they are after a reset: masked, with no vector.
    const SINTS: u32 = 16;
    const SINT_MASKED: u64 = 1 << 16;
    /// Four timers, two registers each.
    const STIMER_REGISTERS: u32 = 8;
    /// The guest may report a crash.
    const CRASH_NOTIFY: u64 = 1 << 63;
    let has = |name| config.enlightenments.has(name);
    list.extend([(HV_GUEST_OS_ID, 0), (HV_HYPERCALL, 0)]);
    let with =
        [("hv-runtime", HV_VP_RUNTIME), ("hv-time", HV_REFERENCE_TSC), ("hv-vapic", HV_VP_ASSIST_PAGE)];
    list.extend(with.into_iter().filter(|(name, _)| has(name)).map(|(_, index)| (index, 0)));
    if has("hv-synic") {
        list.extend([HV_SCONTROL, HV_SIEFP, HV_SIMP].map(|index| (index, 0)));
        list.extend((0..SINTS).map(|at| (HV_SINT0 + at, SINT_MASKED)));
    }
    if has("hv-stimer") {
        list.extend((0..STIMER_REGISTERS).map(|at| (HV_STIMER0_CONFIG + at, 0)));
    }
    if has("hv-crash") {
        list.extend((HV_CRASH_P0..HV_CRASH_CTL).map(|index| (index, 0)));
        list.push((HV_CRASH_CTL, CRASH_NOTIFY));
    }
    if has("hv-reenlightenment") {
        list.extend((0..3).map(|at| (HV_REENLIGHTENMENT_CONTROL + at, 0)));
    }
}

fn add_machine_checks(cpu: &Expanded, list: &mut Vec<MsrValue>) {
    let Some(cap) = cpu.mcg_cap else { return };
    list.extend([(IA32_MCG_STATUS, 0), (IA32_MCG_CTL, u64::MAX)]);
    if has_local_machine_checks(cpu) {
        list.push((IA32_MCG_EXT_CTL, 0));
    }
    for bank in 0..(cap & 0xff) as u32 {
        let first = IA32_MC0_CTL + 4 * bank;
        list.extend([(first, u64::MAX), (first + 1, 0), (first + 2, 0), (first + 3, 0)]);
    }
}

/// MSRs that say what the CPU has, to be written once, after CPUID (`kvm_init_msrs`). A host may
/// refuse some: that is to be told, not fatal.
pub fn feature_msrs(cpu: &Expanded, host: &HostCpu, available: Available) -> Vec<MsrValue> {
    let config = &cpu.config;
    let mut list = Vec::new();
    let mut where_available = |index, value| {
        if available.has(index) {
            list.push((index, value));
        }
    };
    where_available(IA32_ARCH_CAPABILITIES, config.features[ArchCapabilities]);
    where_available(IA32_CORE_CAPABILITIES, config.features[CoreCapability]);
    let host_performance = host.supported_word(PerfCapabilities);
    if config.props.pmu && host_performance != 0 {
        where_available(IA32_PERF_CAPABILITIES, config.features[PerfCapabilities] & host_performance);
    }
    where_available(IA32_UCODE_REV, config.props.ucode_rev);
    if config.features.has(bits::VMX) {
        add_vmx(cpu, host, available, &mut list);
    }
    list
}

/// IA32_VMX_*: features as the CPU has them, sizes and revision as the host has them
/// (`kvm_msr_entry_add_vmx`; SDM volume 3D, appendix A).
fn add_vmx(cpu: &Expanded, host: &HostCpu, available: Available, list: &mut Vec<MsrValue>) {
    /// Revision, size of regions, their memory type.
    const BASIC_FROM_HOST: u64 = 0x7fff_ffff | 0x1fff << 32 | 0x3c_0000 << 32;
    /// Rate of the preemption timer, length of MSR lists.
    const MISC_FROM_HOST: u64 = 0x1f | 0x0e00_0000;
    /// Memory types of EPT structures: uncacheable and write-back.
    const EPT_FROM_HOST: u64 = 1 << 8 | 1 << 14;
    const EXIT_HOST_ADDRESS_SPACE_SIZE: u64 = 1 << (32 + 9);
    const CR0_PE_NE_PG: u64 = 1 | 1 << 5 | 1 << 31;
    const CR4_VMXE: u64 = 1 << 13;
    /// Highest index of a VMCS field: of the TSC multiplier, of the preemption timer.
    const LAST_FIELD_TSC_MULTIPLIER: u64 = 0x32;
    const LAST_FIELD_PREEMPTION_TIMER: u64 = 0x2e;

    let told = |index| host.feature_msrs.get(&index).copied().unwrap_or(0);
    let features = &cpu.config.features;
    if told(IA32_VMX_BASIC) == 0 {
        return;
    }
    let long_mode = if features.has(bits::LM) { EXIT_HOST_ADDRESS_SPACE_SIZE } else { 0 };
    let ept = if features.has(bits::VMX_EPT) { EPT_FROM_HOST } else { 0 };
    let last_field = match features.has(bits::VMX_TSC_SCALING) {
        true => LAST_FIELD_TSC_MULTIPLIER,
        false => LAST_FIELD_PREEMPTION_TIMER,
    };
    // Controls whose reserved bits, and no others, must be 1.
    let controls = |word, must_be_one: u32| vmx_controls(features.low(word), must_be_one);
    list.extend([
        (IA32_VMX_TRUE_PROCBASED_CTLS, controls(VmxProcbased, 0x0401_e172)),
        (IA32_VMX_TRUE_PINBASED_CTLS, controls(VmxPinbased, 0x16)),
        (IA32_VMX_TRUE_EXIT_CTLS, controls(VmxExit, 0x3_6dff) | long_mode),
        (IA32_VMX_TRUE_ENTRY_CTLS, controls(VmxEntry, 0x11ff)),
        (IA32_VMX_PROCBASED_CTLS2, controls(VmxSecondary, 0)),
        (IA32_VMX_EPT_VPID_CAP, features[VmxEptVpid] | told(IA32_VMX_EPT_VPID_CAP) & ept),
        (IA32_VMX_BASIC, features[VmxBasic] | told(IA32_VMX_BASIC) & BASIC_FROM_HOST),
        (IA32_VMX_MISC, features[VmxMisc] | told(IA32_VMX_MISC) & MISC_FROM_HOST),
        (IA32_VMX_CR0_FIXED0, CR0_PE_NE_PG),
        (IA32_VMX_CR4_FIXED0, CR4_VMXE),
        (IA32_VMX_VMCS_ENUM, last_field),
    ]);
    if available.has(IA32_VMX_VMFUNC) {
        list.push((IA32_VMX_VMFUNC, features[VmxVmfunc]));
    }
}

/// The low half has a bit for each control that must be 1, the high half one for each that may be.
fn vmx_controls(optional: u32, default_one: u32) -> u64 {
    let must_be_one = default_one & !optional;
    let may_be_one = default_one | optional;
    u64::from(may_be_one) << 32 | u64::from(must_be_one)
}

fn mtrr_indices() -> impl Iterator<Item = u32> {
    let fixed = [IA32_MTRR_FIX64K_00000, IA32_MTRR_FIX16K_80000, IA32_MTRR_FIX16K_A0000];
    let fixed = fixed.into_iter().chain(IA32_MTRR_FIX4K_C0000..IA32_MTRR_FIX4K_C0000 + 8);
    let variable = IA32_MTRR_PHYSBASE0..IA32_MTRR_PHYSBASE0 + 2 * MTRR_VARIABLE_RANGES;
    [IA32_MTRR_DEF_TYPE].into_iter().chain(fixed).chain(variable)
}

/// Where SeaBIOS lets PCI addresses below 4 GiB start on an i440FX, from the end of memory there.
pub fn seabios_pci_hole(low_ram: u64) -> u64 {
    const GIB: u64 = 1 << 30;
    match low_ram {
        0..=0x8000_0000 => 2 * GIB,
        0x8000_0001..=0xc000_0000 => 3 * GIB,
        above => above,
    }
}

/// The MTRRs as SeaBIOS leaves them: memory write-back, its ROM area write-protected, everything from
/// `pci_hole` to 4 GiB uncached. `low_ram` is the end of memory below 4 GiB, `pci_hole` where PCI
/// addresses start there ([`seabios_pci_hole`]), both in bytes. For a CPU without MTRRs, none.
pub fn firmware_mtrrs(cpu: &Expanded, low_ram: u64, pci_hole: u64) -> Vec<MsrValue> {
    const UNCACHEABLE: u64 = 0;
    const WRITE_PROTECTED: u64 = 5;
    const WRITE_BACK: u64 = 6;
    /// IA32_MTRR_DEF_TYPE: fixed and variable ranges are on.
    const ENABLE: u64 = 0xc00;
    const RANGE_IS_VALID: u64 = 1 << 11;
    if !cpu.config.features.has(bits::MTRR) {
        return Vec::new();
    }
    // One byte for each eighth of a register's range that memory fills.
    let fixed = |start: u64, step: u64, kind: u64| {
        (0..8).filter(|at| low_ram >= start + step * (at + 1)).fold(0, |value, at| value | kind << (8 * at))
    };
    let addresses = 1_u64.checked_shl(cpu.config.props.phys_bits).map_or(u64::MAX, |above| above - 1);
    let hole_size = (1_u64 << 32).saturating_sub(pci_hole);
    let mask = hole_size.wrapping_neg() & addresses;
    let mut list = vec![
        (IA32_MTRR_FIX64K_00000, fixed(0, 0x1_0000, WRITE_BACK)),
        (IA32_MTRR_FIX16K_80000, fixed(0x8_0000, 0x4000, WRITE_BACK)),
        (IA32_MTRR_FIX16K_A0000, 0),
    ];
    list.extend((0..8).map(|at: u32| {
        let start = 0xc_0000 + u64::from(at) * 0x8000;
        (IA32_MTRR_FIX4K_C0000 + at, fixed(start, 0x1000, WRITE_PROTECTED))
    }));
    list.extend([
        (IA32_MTRR_PHYSBASE0, pci_hole | UNCACHEABLE),
        (IA32_MTRR_PHYSBASE0 + 1, mask | RANGE_IS_VALID),
        (IA32_MTRR_DEF_TYPE, ENABLE | WRITE_BACK),
    ]);
    list
}
