//! AMD's Opteron and EPYC, and Hygon's Dhyana.
//!
//! What each has is what QEMU 7.2 reports of it (`query-cpu-model-expansion`).

use super::{AMD, HYGON, ModelDef, V1, Version};
use crate::cache::{EPYC_CACHES, EPYC_MILAN_CACHES, EPYC_ROME_CACHES};
use crate::features::FeatureWord::*;
use crate::features::FeatureWords;

pub(super) static OPTERON_G1: ModelDef = ModelDef {
    name: "Opteron_G1",
    level: 5,
    xlevel: 0x8000_0008,
    vendor: AMD,
    family: 15,
    model: 6,
    stepping: 1,
    model_id: "AMD Opteron 240 (Gen 1 Class Opteron)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni"),
        (Ext1Edx, "syscall nx lm"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static OPTERON_G2: ModelDef = ModelDef {
    name: "Opteron_G2",
    level: 5,
    xlevel: 0x8000_0008,
    vendor: AMD,
    family: 15,
    model: 6,
    stepping: 1,
    model_id: "AMD Opteron 22xx (Gen 2 Class Opteron)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni cx16"),
        (Ext1Edx, "syscall nx lm"),
        (Ext1Ecx, "lahf-lm svm"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static OPTERON_G3: ModelDef = ModelDef {
    name: "Opteron_G3",
    level: 5,
    xlevel: 0x8000_0008,
    vendor: AMD,
    family: 16,
    model: 2,
    stepping: 3,
    model_id: "AMD Opteron 23xx (Gen 3 Class Opteron)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni monitor cx16 popcnt"),
        (Ext1Edx, "syscall nx rdtscp lm"),
        (Ext1Ecx, "lahf-lm svm abm sse4a misalignsse"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static OPTERON_G4: ModelDef = ModelDef {
    name: "Opteron_G4",
    level: 0xd,
    xlevel: 0x8000_001a,
    vendor: AMD,
    family: 21,
    model: 1,
    stepping: 2,
    model_id: "AMD Opteron 62xx class CPU",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 popcnt aes xsave avx"),
        (Ext1Edx, "syscall nx pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm svm abm sse4a misalignsse 3dnowprefetch xop fma4"),
        (Svm, "npt nrip-save"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static OPTERON_G5: ModelDef = ModelDef {
    name: "Opteron_G5",
    level: 0xd,
    xlevel: 0x8000_001a,
    vendor: AMD,
    family: 21,
    model: 2,
    stepping: 0,
    model_id: "AMD Opteron 63xx class CPU",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni pclmulqdq ssse3 fma cx16 sse4.1 sse4.2 popcnt aes xsave avx f16c"),
        (Ext1Edx, "syscall nx pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm svm abm sse4a misalignsse 3dnowprefetch xop fma4 tbm"),
        (Svm, "npt nrip-save"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static EPYC: ModelDef = ModelDef {
    name: "EPYC",
    level: 0xd,
    xlevel: 0x8000_001e,
    vendor: AMD,
    family: 23,
    model: 1,
    stepping: 2,
    model_id: "AMD EPYC Processor",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand",
        ),
        (Leaf7Ebx, "fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt sha-ni"),
        (Ext1Edx, "syscall nx mmxext fxsr-opt pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext"),
        (Svm, "npt nrip-save"),
        (Xsave, "xsaveopt xsavec xgetbv1"),
        (Leaf6Eax, "arat"),
    ]),
    caches: Some(&EPYC_CACHES),
    versions: &[
        V1,
        Version {
            number: 2,
            alias: Some("EPYC-IBPB"),
            note: None,
            props: &[("ibpb", "on"), ("model-id", "AMD EPYC Processor (with IBPB)")],
        },
        Version {
            number: 3,
            alias: None,
            note: None,
            props: &[
                ("perfctr-core", "on"),
                ("clzero", "on"),
                ("xsaveerptr", "on"),
                ("xsaves", "on"),
                ("model-id", "AMD EPYC Processor"),
            ],
        },
    ],
};

pub(super) static EPYC_ROME: ModelDef = ModelDef {
    name: "EPYC-Rome",
    level: 0xd,
    xlevel: 0x8000_001e,
    vendor: AMD,
    family: 23,
    model: 49,
    stepping: 0,
    model_id: "AMD EPYC-Rome Processor",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand",
        ),
        (Leaf7Ebx, "fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt clwb sha-ni"),
        (Leaf7Ecx, "umip rdpid"),
        (Ext1Edx, "syscall nx mmxext fxsr-opt pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext perfctr-core"),
        (Ext8Ebx, "clzero xsaveerptr wbnoinvd ibpb amd-stibp"),
        (Svm, "npt nrip-save"),
        (Xsave, "xsaveopt xsavec xgetbv1 xsaves"),
        (Leaf6Eax, "arat"),
    ]),
    caches: Some(&EPYC_ROME_CACHES),
    versions: &[
        V1,
        Version { number: 2, alias: None, note: None, props: &[("ibrs", "on"), ("amd-ssbd", "on")] },
    ],
};

pub(super) static EPYC_MILAN: ModelDef = ModelDef {
    name: "EPYC-Milan",
    level: 0xd,
    xlevel: 0x8000_001e,
    vendor: AMD,
    family: 25,
    model: 1,
    stepping: 1,
    model_id: "AMD EPYC-Milan Processor",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq monitor ssse3 fma cx16 pcid sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand",
        ),
        (Leaf7Ebx, "fsgsbase bmi1 avx2 smep bmi2 erms invpcid rdseed adx smap clflushopt clwb sha-ni"),
        (Leaf7Ecx, "umip pku rdpid"),
        (Leaf7Edx, "fsrm"),
        (Ext1Edx, "syscall nx mmxext fxsr-opt pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext perfctr-core"),
        (Ext8Ebx, "clzero xsaveerptr wbnoinvd ibpb ibrs amd-stibp amd-ssbd"),
        (Svm, "npt nrip-save svme-addr-chk"),
        (Xsave, "xsaveopt xsavec xgetbv1 xsaves"),
        (Leaf6Eax, "arat"),
    ]),
    caches: Some(&EPYC_MILAN_CACHES),
    versions: &[V1],
};

pub(super) static DHYANA: ModelDef = ModelDef {
    name: "Dhyana",
    level: 0xd,
    xlevel: 0x8000_001e,
    vendor: HYGON,
    family: 24,
    model: 0,
    stepping: 1,
    model_id: "Hygon Dhyana Processor",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt xsave avx f16c rdrand"),
        (Leaf7Ebx, "fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt"),
        (Ext1Edx, "syscall nx mmxext fxsr-opt pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext"),
        (Ext8Ebx, "ibpb"),
        (Svm, "npt nrip-save"),
        (Xsave, "xsaveopt xsavec xgetbv1"),
        (Leaf6Eax, "arat"),
    ]),
    caches: Some(&EPYC_CACHES),
    versions: &[V1, Version { number: 2, alias: None, note: Some("XSAVES"), props: &[("xsaves", "on")] }],
};
