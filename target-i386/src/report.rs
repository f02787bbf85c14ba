//! What QMP tells of a CPU's features: names of those the host lacks, and the words themselves.
//!
//! Source: QEMU `target/i386/cpu.c` (`x86_cpu_get_unavailable_features`, `x86_cpu_get_feature_words`).

use std::sync::Arc;

use qom::{PropertyInfo, Value};
use serde_json::json;

use crate::cpu::X86Cpu;
use crate::features::{FeatureWord, FeatureWords, WordSource};
use crate::xsave;

/// The names of all features in `words`, in QEMU's order; bits without a name are left out.
pub(crate) fn feature_names(words: &FeatureWords) -> Vec<&'static str> {
    FeatureWord::all()
        .flat_map(|word| {
            (0..u64::BITS).filter(move |bit| words[word] & 1 << bit != 0).map(move |bit| (word, bit))
        })
        .filter_map(|(word, bit)| match word {
            // A state component goes by the feature that brings it.
            FeatureWord::Xcr0Lo => xsave::feature_of(bit),
            FeatureWord::Xcr0Hi => xsave::feature_of(bit + 32),
            _ => word.info().name(bit),
        })
        .collect()
}

/// QAPI's `X86CPUFeatureWordInfo` of each word that CPUID returns.
fn word_infos(words: &FeatureWords) -> Value {
    let info = |word: FeatureWord| {
        let WordSource::Cpuid { leaf, subleaf, register } = word.info().source else { return None };
        let mut info = json!({
            "cpuid-input-eax": leaf,
            "cpuid-register": register.name(),
            "features": words[word] & u64::from(u32::MAX),
        });
        if let Some(subleaf) = subleaf {
            info["cpuid-input-ecx"] = subleaf.into();
        }
        Some(info)
    };
    FeatureWord::all().filter_map(info).collect()
}

fn property(name: &str, type_name: &str, read: fn(&X86Cpu) -> Value) -> PropertyInfo {
    PropertyInfo {
        get: Some(Arc::new(move |object| Ok(object.cast::<X86Cpu>().map_or(Value::Null, read)))),
        ..PropertyInfo::new(name, type_name)
    }
}

/// The features that were asked for and that the host lacks.
fn filtered(cpu: &X86Cpu) -> FeatureWords {
    cpu.expanded().map_or(FeatureWords::NONE, |expanded| expanded.filtered)
}

/// The properties of a CPU that tell of its features.
pub(crate) fn properties() -> [PropertyInfo; 3] {
    [
        property("unavailable-features", "strList", |cpu| feature_names(&filtered(cpu)).into()),
        property("filtered-features", "X86CPUFeatureWordInfo", |cpu| word_infos(&filtered(cpu))),
        property("feature-words", "X86CPUFeatureWordInfo", |cpu| {
            cpu.with_config(|config| Some(word_infos(&config.features))).unwrap_or(Value::Null)
        }),
    ]
}
