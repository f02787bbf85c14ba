//! Every version of every CPU model against what QEMU 7.2.22 reports of it under KVM
//! (`query-cpu-model-expansion`, type `full`), written down in `data/qemu-models.txt`: leaf levels,
//! family, model and stepping, brand string, features.

#![forbid(unsafe_code)]

mod common;

use common::{ONE, expand, host};
use target_i386::config::{CpuConfig, properties};
use target_i386::features::FeatureWord;
use target_i386::models::CpuModel;
use target_i386::option::parse_cpu_option;
use target_i386::props::PropertyValue::{Int, Str};

#[test]
fn models_are_what_qemu_reports() {
    let host = host("few");
    let lines: Vec<&str> = include_str!("data/qemu-models.txt").lines().collect();
    assert_eq!(lines.len(), 74);
    for line in lines {
        let [name, levels, numbers, model_id, features] =
            line.split('|').collect::<Vec<_>>().try_into().unwrap();
        let cpu = expand(name, &host, &ONE).unwrap();
        let props = &cpu.config.props;
        assert_eq!(
            format!("{:#x} {:#x} {:#x}", props.level, props.level_func7, props.xlevel),
            levels,
            "{name}"
        );
        let number = |property| match cpu.config.get(property) {
            Some(Int(number)) => number.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(["family", "model", "stepping"].map(number).join(" "), numbers, "{name}");
        assert_eq!(cpu.config.get("model-id"), Some(Str(model_id.to_string())), "{name}");

        // What the host lacks is still part of the model.
        let mut ours: Vec<&str> = Vec::new();
        for word in FeatureWord::all() {
            let mask = cpu.config.features[word] | cpu.filtered[word];
            ours.extend(word.info().names().filter(|(bit, _)| mask & 1 << bit != 0).map(|(_, name)| name));
        }
        ours.sort_unstable();
        ours.dedup();
        assert_eq!(ours.join(" "), features, "{name}");
    }
}

/// The features of VMX show only with `+vmx`.
#[test]
fn models_have_their_vmx_features() {
    let mut host = host("many");
    // A host with all controls, each of which may be 0 or 1.
    let all = [0x48b, 0x48d, 0x48e, 0x48f, 0x490].map(|index| (index, 0xffff_ffff << 32));
    host.feature_msrs.extend(all);
    host.feature_msrs.extend([0x480, 0x485, 0x48c, 0x491].map(|index| (index, u64::MAX)));
    let words = |cpu| expand(cpu, &host, &ONE).unwrap().config.features;
    use FeatureWord::*;
    // Values of target/i386/cpu.c's tables.
    let haswell = words("Haswell,+vmx");
    assert_eq!(haswell[VmxEptVpid], 0xf01_0633_4041);
    assert_eq!(haswell[VmxSecondary], 0x7bff);
    assert_eq!(haswell[VmxPinbased], 0xe9);
    let core2 = words("core2duo,+vmx");
    assert_eq!((core2[VmxSecondary], core2[VmxMisc], core2[VmxBasic]), (1, 0x40, 1 << 54));
    assert_eq!(words("Haswell")[VmxBasic], 0, "nothing of it without VMX");
    assert_eq!(words("Skylake-Server-v4,+vmx")[VmxVmfunc], 1);
}

#[test]
fn the_list_of_properties_is_what_can_be_set_and_read() {
    let host = host("few");
    for name in ["qemu64", "host"] {
        let model = CpuModel::by_name(name).unwrap();
        let config = CpuConfig::new(model, Default::default(), &host);
        let names: Vec<&str> = properties(&model).map(|(name, ..)| name).collect();
        for property in &names {
            assert!(config.get(property).is_some() && config.kind(property).is_some(), "{property}");
        }
        assert_eq!(names.contains(&"migratable"), name == "host");
    }
    assert!(parse_cpu_option("host").unwrap().warnings.is_empty());
}
