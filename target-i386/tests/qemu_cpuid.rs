//! The CPUID of whole CPUs against what QEMU 7.2.22 gave `KVM_SET_CPUID2` for the same `-cpu` and
//! `-smp`, written down in `data/qemu-cpuid.txt` with the warnings it printed.

#![forbid(unsafe_code)]

mod common;

use common::{ONE, entries, expand, host};
use target_i386::config::CpuConfig;
use target_i386::cpuid::{VcpuPlace, build_cpuid};
use target_i386::expand::{CpuError, expand_features};
use target_i386::host::CpuidEntry;
use target_i386::models::{CpuModel, DefaultVersion};
use target_i386::topology::Topology;

const TSC_KHZ: u32 = 2_445_428;

/// `-smp`, as far as the cases have it: a number alone means cores of one socket.
fn topology(smp: &str) -> Topology {
    if let Ok(cores) = smp.parse() {
        return Topology { cores, ..ONE };
    }
    let value = |name: &str| {
        let found = smp.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.map_or(1, |text| text.parse().unwrap())
    };
    Topology { dies: value("dies"), cores: value("cores"), threads: value("threads") }
}

#[test]
fn cpuid_is_what_qemu_gives() {
    let cases: Vec<&str> = include_str!("data/qemu-cpuid.txt").split("\n\n").collect();
    assert_eq!(cases.len(), 26);
    for case in cases {
        let field = |name| case.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        let host = host(field("host"));
        let topology = topology(field("smp"));
        let cpu = expand(field("cpu"), &host, &topology).unwrap();

        let warnings: Vec<&str> = case.lines().filter_map(|line| line.strip_prefix("warning ")).collect();
        let ours: Vec<&str> = cpu.warnings.iter().flat_map(|text| text.lines()).collect();
        let ours: Vec<&str> = ours.into_iter().filter(|line| !line.contains("hyperthreading")).collect();
        let ours: Vec<&str> = ours.into_iter().filter(|line| !line.starts_with("Please")).collect();
        assert_eq!(ours, warnings, "{}", field("cpu"));

        let tables = case.lines().skip_while(|line| !line.starts_with(|c: char| c.is_ascii_digit()));
        let mut expected = entries(&tables.collect::<Vec<_>>().join("\n"));
        let apic_id = topology.apic_id_of_index(field("index").parse().unwrap());
        let place = VcpuPlace { topology, apic_id, tsc_khz: TSC_KHZ };
        let mut built = build_cpuid(&cpu, &host, &place);
        for list in [&mut expected, &mut built] {
            list.sort_by_key(|entry| (entry.function, entry.index));
        }
        for (ours, theirs) in built.iter().zip(&expected) {
            assert_eq!(show(ours), show(theirs), "{} -smp {}", field("cpu"), field("smp"));
        }
        assert_eq!(built.len(), expected.len(), "{}", field("cpu"));
    }
}

fn show(entry: &CpuidEntry) -> String {
    let CpuidEntry { function, index, flags, eax, ebx, ecx, edx } = entry;
    format!("{function:08x} {index:x} {flags:x} {eax:08x} {ebx:08x} {ecx:08x} {edx:08x}")
}

#[test]
fn what_cannot_be_is_refused_in_qemus_words() {
    let host = host("few");
    let refused = |cpu| expand(cpu, &host, &ONE).unwrap_err().to_string();
    assert_eq!(refused("qemu64,enforce,+rtm"), "Host doesn't support requested features");
    assert_eq!(refused("qemu64,phys-bits=99"), "phys-bits should be between 32 and 52  (but is 99)");
    assert_eq!(refused("qemu64,-lm,phys-bits=40"), "phys-bits is not user-configurable in 32 bit");
    assert_eq!(refused("qemu64,legacy-cache=off"), "CPU model 'qemu64' doesn't support legacy-cache=off");
    assert_eq!(refused("qemu64,lmce"), "kvm: LMCE not supported");
    assert_eq!(refused("qemu64,lbr-fmt=5"), "vPMU: LBR is unsupported without pmu=on");
    assert_eq!(
        refused("qemu64,lbr-fmt=5,pmu"),
        "vPMU: the lbr-fmt value (0x5) does not match the host value (0x0)."
    );
    let mut host = host.clone();
    host.hyperv = vec![CpuidEntry { function: 0x4000_0003, ..CpuidEntry::default() }];
    let refused = |cpu| expand(cpu, &host, &ONE).unwrap_err().to_string();
    assert_eq!(
        refused("qemu64,hv-relaxed"),
        "Hyper-V relaxed timing (hv-relaxed) is not supported by kernel"
    );
}

#[test]
fn missing_features_are_told_once_and_in_order() {
    let host = host("few");
    let warnings = |cpu| expand(cpu, &host, &ONE).unwrap().warnings;
    assert_eq!(
        warnings("host,+rtm,-sse,+vmx-ept"),
        [
            "This feature depends on other features that were not requested: MSR(48BH).vmx-ept [bit 1]",
            "host doesn't support requested feature: CPUID.07H:EBX.rtm [bit 11]",
        ]
    );
    assert_eq!(
        warnings("max,phys-bits=40"),
        ["Host physical bits (48) does not match phys-bits property (40)"]
    );
    assert!(warnings("Haswell,check=off").is_empty());
    assert_eq!(
        warnings("qemu64,check=off,hv-relaxed,hv-spinlocks=4096"),
        ["KVM has no Hyper-V enlightenments on this host: none is shown"]
    );
    let CpuError::Enforce { warnings } = expand("EPYC,enforce", &host, &ONE).unwrap_err() else { panic!() };
    assert_eq!(warnings.len(), 29);
    let smt = Topology { threads: 2, ..ONE };
    assert_eq!(
        expand("Opteron_G1,check=off", &host, &smt).unwrap().warnings,
        ["This family of AMD CPU doesn't support hyperthreading(2)\n\
          Please configure -smp options properly or try enabling topoext feature."]
    );
}

#[test]
fn hyperv_shows_itself_where_kvm_has_it() {
    let mut host = host("few");
    let leaf = |function, eax, edx| CpuidEntry { function, eax, edx, ..Default::default() };
    host.hyperv = vec![leaf(0x4000_0003, 0x2af, 0x8_0118), leaf(0x4000_0004, 0x2c24, 0)];
    let cpu = expand("qemu64,hv-relaxed,hv-time,hv-spinlocks=0x1fff,hv-vpindex=off", &host, &ONE).unwrap();
    let place = VcpuPlace { topology: ONE, apic_id: 0, tsc_khz: TSC_KHZ };
    let list = build_cpuid(&cpu, &host, &place);
    let at = |function| list.iter().find(|entry| entry.function == function).unwrap().registers();
    assert_eq!(at(0x4000_0000), [0x4000_0005, 0x7263_694d, 0x666f_736f, 0x7648_2074], "Microsoft Hv");
    assert_eq!(at(0x4000_0001)[0], 0x3123_7648, "Hv#1");
    assert_eq!(at(0x4000_0002), [0x3839, 0xa_0000, 0, 0]);
    assert_eq!(at(0x4000_0003), [0x222, 0, 0, 8]);
    assert_eq!(at(0x4000_0004), [0x20, 0x1fff, 0, 0]);
    assert_eq!(at(0x4000_0005), [u32::MAX, 64, 0, 0]);
    assert_eq!(at(0x4000_0100), [0x4000_0101, 0x4b4d_564b, 0x564b_4d56, 0x4d], "KVM's leaves make way");
    let refused = expand("qemu64,hv-stimer", &host, &ONE).unwrap_err().to_string();
    assert_eq!(refused, "Hyper-V synthetic timers (hv-stimer) requires Hyper-V clocksources (hv-time)");
}

#[test]
fn every_model_can_be_realized() {
    for name in ["few", "many"] {
        let host = host(name);
        for model in CpuModel::all() {
            for version in [DefaultVersion::Legacy, DefaultVersion::Number(1), DefaultVersion::Latest] {
                let config = CpuConfig::new(model, version, &host);
                let cpu = expand_features(config, &host, &ONE).unwrap();
                let place = VcpuPlace { topology: ONE, apic_id: 0, tsc_khz: 0 };
                assert!(build_cpuid(&cpu, &host, &place).len() < 80, "{model}: KVM takes no more");
            }
        }
    }
}

#[test]
fn levels_without_end_are_no_trouble() {
    let host = host("few");
    let cpu = expand("host,level=0xfffffffe,xlevel=0xffffffff,xlevel2=0xfffffff0", &host, &ONE).unwrap();
    let topology = Topology { dies: u32::MAX, cores: u32::MAX, threads: u32::MAX };
    let place = VcpuPlace { topology, apic_id: u32::MAX, tsc_khz: 0 };
    assert!(build_cpuid(&cpu, &host, &place).len() < 80);
}
