//! Hosts written down, and CPUs made for them.

use target_i386::config::CpuConfig;
use target_i386::expand::{CpuError, Expanded, expand_features};
use target_i386::host::{CpuidEntry, HostCpu};
use target_i386::models::DefaultVersion;
use target_i386::option::parse_cpu_option;
use target_i386::topology::Topology;

pub const ONE: Topology = Topology { dies: 1, cores: 1, threads: 1 };

/// Lines of leaf, subleaf, flags, EAX, EBX, ECX, EDX.
pub fn entries(text: &str) -> Vec<CpuidEntry> {
    let line = |line: &str| {
        let fields: Vec<u32> = line.split(' ').map(|field| u32::from_str_radix(field, 16).unwrap()).collect();
        let [function, index, flags, eax, ebx, ecx, edx] = fields.try_into().unwrap();
        CpuidEntry { function, index, flags, eax, ebx, ecx, edx }
    };
    text.lines().map(line).collect()
}

/// `few`: an AMD processor whose KVM emulates instructions and has few features. `many`: the same with
/// a `KVM_GET_SUPPORTED_CPUID` that has nearly all of them.
pub fn host(name: &str) -> HostCpu {
    let supported = match name {
        "few" => include_str!("../data/supported-few.txt"),
        _ => include_str!("../data/supported-many.txt"),
    };
    HostCpu {
        supported: entries(supported),
        cpuid: entries(include_str!("../data/host-cpuid.txt")),
        feature_msrs: [(0x8b, 0x0100_0065), (0x10a, 0x4000_0000_0c00_0069), (0x345, 0)].into(),
        has_arch_capabilities: true,
        tsc_deadline: true,
        xcr0_supported: Some(7),
        mce_cap: Some(0x0100_0100),
        mce_banks: 32,
        ..Default::default()
    }
}

/// A CPU as the `pc` machine of QEMU 7.2 makes it.
pub fn expand(cpu: &str, host: &HostCpu, topology: &Topology) -> Result<Expanded, CpuError> {
    let option = parse_cpu_option(cpu).unwrap();
    let mut config = CpuConfig::new(option.model, DefaultVersion::Number(1), host);
    option.apply(&mut config).unwrap();
    expand_features(config, host, topology)
}
