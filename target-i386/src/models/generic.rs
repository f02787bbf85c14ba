//! Models of no particular processor, and old ones.
//!
//! What each has is what QEMU 7.2 reports of it (`query-cpu-model-expansion`).

use super::{AMD, INTEL, ModelDef, V1};
use crate::features::FeatureWord::*;
use crate::features::FeatureWords;

pub(super) static QEMU64: ModelDef = ModelDef {
    name: "qemu64",
    level: 0xd,
    xlevel: 0x8000_000a,
    vendor: AMD,
    family: 15,
    model: 107,
    stepping: 1,
    model_id: "QEMU Virtual CPU version 2.5+",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2",
        ),
        (Leaf1Ecx, "pni cx16"),
        (Ext1Edx, "syscall nx lm"),
        (Ext1Ecx, "lahf-lm svm"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static QEMU32: ModelDef = ModelDef {
    name: "qemu32",
    level: 4,
    xlevel: 0x8000_0004,
    vendor: INTEL,
    family: 6,
    model: 6,
    stepping: 3,
    model_id: "QEMU Virtual CPU version 2.5+",
    features: FeatureWords::of(&[
        (Leaf1Edx, "fpu de pse tsc msr pae mce cx8 apic sep pge cmov pat mmx fxsr sse sse2"),
        (Leaf1Ecx, "pni"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static KVM64: ModelDef = ModelDef {
    name: "kvm64",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 15,
    model: 6,
    stepping: 1,
    model_id: "Common KVM processor",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni cx16"),
        (Ext1Edx, "syscall nx lm"),
        (
            VmxProcbased,
            "vmx-vintr-pending vmx-tsc-offset vmx-hlt-exit vmx-invlpg-exit vmx-mwait-exit vmx-rdpmc-exit \
             vmx-rdtsc-exit vmx-cr8-load-exit vmx-cr8-store-exit vmx-flexpriority vmx-movdr-exit \
             vmx-io-exit vmx-io-bitmap vmx-monitor-exit vmx-pause-exit",
        ),
        (VmxPinbased, "vmx-intr-exit vmx-nmi-exit"),
        (VmxExit, "vmx-exit-ack-intr"),
        (VmxEntry, "vmx-entry-ia32e-mode"),
        (VmxMisc, "vmx-activity-hlt"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static KVM32: ModelDef = ModelDef {
    name: "kvm32",
    level: 5,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 15,
    model: 6,
    stepping: 1,
    model_id: "Common 32-bit KVM processor",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni"),
        (
            VmxProcbased,
            "vmx-vintr-pending vmx-tsc-offset vmx-hlt-exit vmx-invlpg-exit vmx-mwait-exit vmx-rdpmc-exit \
             vmx-rdtsc-exit vmx-movdr-exit vmx-io-exit vmx-io-bitmap vmx-msr-bitmap vmx-monitor-exit \
             vmx-pause-exit",
        ),
        (VmxPinbased, "vmx-intr-exit vmx-nmi-exit"),
        (VmxExit, "vmx-exit-ack-intr"),
        (VmxEntry, "vmx-entry-ia32e-mode"),
        (VmxMisc, "vmx-activity-hlt"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static I486: ModelDef = ModelDef {
    name: "486",
    level: 1,
    xlevel: 0,
    vendor: INTEL,
    family: 4,
    model: 8,
    stepping: 0,
    model_id: "",
    features: FeatureWords::of(&[(Leaf1Edx, "fpu vme pse")]),
    caches: None,
    versions: &[V1],
};

pub(super) static PENTIUM: ModelDef = ModelDef {
    name: "pentium",
    level: 1,
    xlevel: 0,
    vendor: INTEL,
    family: 5,
    model: 4,
    stepping: 3,
    model_id: "",
    features: FeatureWords::of(&[(Leaf1Edx, "fpu vme de pse tsc msr mce cx8 apic mmx")]),
    caches: None,
    versions: &[V1],
};

pub(super) static PENTIUM2: ModelDef = ModelDef {
    name: "pentium2",
    level: 2,
    xlevel: 0,
    vendor: INTEL,
    family: 6,
    model: 5,
    stepping: 2,
    model_id: "",
    features: FeatureWords::of(&[(
        Leaf1Edx,
        "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 mmx fxsr",
    )]),
    caches: None,
    versions: &[V1],
};

pub(super) static PENTIUM3: ModelDef = ModelDef {
    name: "pentium3",
    level: 3,
    xlevel: 0,
    vendor: INTEL,
    family: 6,
    model: 7,
    stepping: 3,
    model_id: "",
    features: FeatureWords::of(&[(
        Leaf1Edx,
        "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 mmx fxsr sse",
    )]),
    caches: None,
    versions: &[V1],
};

pub(super) static ATHLON: ModelDef = ModelDef {
    name: "athlon",
    level: 2,
    xlevel: 0x8000_0008,
    vendor: AMD,
    family: 6,
    model: 2,
    stepping: 3,
    model_id: "QEMU Virtual CPU version 2.5+",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 mmx fxsr sse sse2",
        ),
        (Ext1Edx, "mmxext 3dnowext 3dnow"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static PHENOM: ModelDef = ModelDef {
    name: "phenom",
    level: 5,
    xlevel: 0x8000_001a,
    vendor: AMD,
    family: 16,
    model: 2,
    stepping: 3,
    model_id: "AMD Phenom(tm) 9550 Quad-Core Processor",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni monitor cx16 popcnt"),
        (Ext1Edx, "syscall nx mmxext fxsr-opt pdpe1gb rdtscp lm 3dnowext 3dnow"),
        (Ext1Ecx, "lahf-lm svm abm sse4a"),
        (Svm, "npt"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static COREDUO: ModelDef = ModelDef {
    name: "coreduo",
    level: 0xa,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 14,
    stepping: 8,
    model_id: "Genuine Intel(R) CPU           T2600  @ 2.16GHz",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat clflush acpi mmx fxsr sse \
             sse2 ss",
        ),
        (Leaf1Ecx, "pni monitor"),
        (Ext1Edx, "nx"),
        (
            VmxProcbased,
            "vmx-vintr-pending vmx-tsc-offset vmx-hlt-exit vmx-invlpg-exit vmx-mwait-exit vmx-rdpmc-exit \
             vmx-rdtsc-exit vmx-movdr-exit vmx-io-exit vmx-io-bitmap vmx-msr-bitmap vmx-monitor-exit \
             vmx-pause-exit",
        ),
        (VmxPinbased, "vmx-intr-exit vmx-nmi-exit"),
        (VmxExit, "vmx-exit-ack-intr"),
        (VmxEntry, "vmx-entry-ia32e-mode"),
        (VmxMisc, "vmx-activity-hlt"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static CORE2DUO: ModelDef = ModelDef {
    name: "core2duo",
    level: 0xa,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 15,
    stepping: 11,
    model_id: "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush acpi mmx fxsr \
             sse sse2 ss",
        ),
        (Leaf1Ecx, "pni monitor ssse3 cx16"),
        (Ext1Edx, "syscall nx lm"),
        (Ext1Ecx, "lahf-lm"),
        (
            VmxProcbased,
            "vmx-vintr-pending vmx-tsc-offset vmx-hlt-exit vmx-invlpg-exit vmx-mwait-exit vmx-rdpmc-exit \
             vmx-rdtsc-exit vmx-cr8-load-exit vmx-cr8-store-exit vmx-flexpriority vmx-vnmi-pending \
             vmx-movdr-exit vmx-io-exit vmx-io-bitmap vmx-msr-bitmap vmx-monitor-exit vmx-pause-exit \
             vmx-secondary-ctls",
        ),
        (VmxSecondary, "vmx-apicv-xapic"),
        (VmxPinbased, "vmx-intr-exit vmx-nmi-exit vmx-vnmi"),
        (VmxExit, "vmx-exit-ack-intr"),
        (VmxEntry, "vmx-entry-ia32e-mode"),
        (VmxMisc, "vmx-activity-hlt"),
        (VmxBasic, "vmx-ins-outs"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static N270: ModelDef = ModelDef {
    name: "n270",
    level: 0xa,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 28,
    stepping: 2,
    model_id: "Intel(R) Atom(TM) CPU N270   @ 1.60GHz",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat clflush acpi mmx fxsr sse \
             sse2 ss",
        ),
        (Leaf1Ecx, "pni monitor ssse3 movbe"),
        (Ext1Edx, "nx"),
        (Ext1Ecx, "lahf-lm"),
    ]),
    caches: None,
    versions: &[V1],
};
