//! Intel's processors from Core 2 to the first Core i7, and the Xeons of their kind.
//!
//! What each has is what QEMU 7.2 reports of it (`query-cpu-model-expansion`).

use super::{INTEL, ModelDef, V1, Version};
use crate::features::FeatureWord::*;
use crate::features::FeatureWords;

pub(super) static CONROE: ModelDef = ModelDef {
    name: "Conroe",
    level: 0xa,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 15,
    stepping: 3,
    model_id: "Intel Celeron_4x0 (Conroe/Merom Class Core 2)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni ssse3"),
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

pub(super) static PENRYN: ModelDef = ModelDef {
    name: "Penryn",
    level: 0xa,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 23,
    stepping: 3,
    model_id: "Intel Core 2 Duo P9xxx (Penryn Class Core 2)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni ssse3 cx16 sse4.1"),
        (Ext1Edx, "syscall nx lm"),
        (Ext1Ecx, "lahf-lm"),
        (
            VmxProcbased,
            "vmx-vintr-pending vmx-tsc-offset vmx-hlt-exit vmx-invlpg-exit vmx-mwait-exit vmx-rdpmc-exit \
             vmx-rdtsc-exit vmx-cr8-load-exit vmx-cr8-store-exit vmx-flexpriority vmx-vnmi-pending \
             vmx-movdr-exit vmx-io-exit vmx-io-bitmap vmx-msr-bitmap vmx-monitor-exit vmx-pause-exit \
             vmx-secondary-ctls",
        ),
        (VmxSecondary, "vmx-apicv-xapic vmx-wbinvd-exit"),
        (VmxPinbased, "vmx-intr-exit vmx-nmi-exit vmx-vnmi"),
        (VmxExit, "vmx-exit-load-perf-global-ctrl vmx-exit-ack-intr"),
        (VmxEntry, "vmx-entry-ia32e-mode vmx-entry-load-perf-global-ctrl"),
        (VmxMisc, "vmx-activity-hlt"),
        (VmxBasic, "vmx-ins-outs"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static NEHALEM: ModelDef = ModelDef {
    name: "Nehalem",
    level: 0xb,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 26,
    stepping: 3,
    model_id: "Intel Core i7 9xx (Nehalem Class Core i7)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni ssse3 cx16 sse4.1 sse4.2 popcnt"),
        (Ext1Edx, "syscall nx lm"),
        (Ext1Ecx, "lahf-lm"),
        (
            VmxProcbased,
            "vmx-vintr-pending vmx-tsc-offset vmx-hlt-exit vmx-invlpg-exit vmx-mwait-exit vmx-rdpmc-exit \
             vmx-rdtsc-exit vmx-cr3-load-noexit vmx-cr3-store-noexit vmx-cr8-load-exit vmx-cr8-store-exit \
             vmx-flexpriority vmx-vnmi-pending vmx-movdr-exit vmx-io-exit vmx-io-bitmap vmx-mtf \
             vmx-msr-bitmap vmx-monitor-exit vmx-pause-exit vmx-secondary-ctls",
        ),
        (
            VmxSecondary,
            "vmx-apicv-xapic vmx-ept vmx-desc-exit vmx-rdtscp-exit vmx-apicv-x2apic vmx-vpid \
             vmx-wbinvd-exit",
        ),
        (VmxPinbased, "vmx-intr-exit vmx-nmi-exit vmx-vnmi vmx-preemption-timer"),
        (
            VmxExit,
            "vmx-exit-nosave-debugctl vmx-exit-load-perf-global-ctrl vmx-exit-ack-intr vmx-exit-save-pat \
             vmx-exit-load-pat vmx-exit-save-efer vmx-exit-load-efer vmx-exit-save-preemption-timer",
        ),
        (
            VmxEntry,
            "vmx-entry-noload-debugctl vmx-entry-ia32e-mode vmx-entry-load-perf-global-ctrl \
             vmx-entry-load-pat vmx-entry-load-efer",
        ),
        (VmxMisc, "vmx-activity-hlt"),
        (
            VmxEptVpid,
            "vmx-ept-execonly vmx-page-walk-4 vmx-ept-2mb vmx-ept-1gb vmx-invept vmx-invept-single-context \
             vmx-invept-all-context vmx-invvpid vmx-invvpid-single-addr vmx-invvpid-all-context \
             vmx-invept-single-context-noglobals #14",
        ),
        (VmxBasic, "vmx-ins-outs vmx-true-ctls"),
    ]),
    caches: None,
    versions: &[
        V1,
        Version {
            number: 2,
            alias: Some("Nehalem-IBRS"),
            note: None,
            props: &[("spec-ctrl", "on"), ("model-id", "Intel Core i7 9xx (Nehalem Core i7, IBRS update)")],
        },
    ],
};

pub(super) static WESTMERE: ModelDef = ModelDef {
    name: "Westmere",
    level: 0xb,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 44,
    stepping: 1,
    model_id: "Westmere E56xx/L56xx/X56xx (Nehalem-C)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 popcnt aes"),
        (Ext1Edx, "syscall nx lm"),
        (Ext1Ecx, "lahf-lm"),
        (Leaf6Eax, "arat"),
        (
            VmxProcbased,
            "vmx-vintr-pending vmx-tsc-offset vmx-hlt-exit vmx-invlpg-exit vmx-mwait-exit vmx-rdpmc-exit \
             vmx-rdtsc-exit vmx-cr3-load-noexit vmx-cr3-store-noexit vmx-cr8-load-exit vmx-cr8-store-exit \
             vmx-flexpriority vmx-vnmi-pending vmx-movdr-exit vmx-io-exit vmx-io-bitmap vmx-mtf \
             vmx-msr-bitmap vmx-monitor-exit vmx-pause-exit vmx-secondary-ctls",
        ),
        (
            VmxSecondary,
            "vmx-apicv-xapic vmx-ept vmx-desc-exit vmx-rdtscp-exit vmx-apicv-x2apic vmx-vpid \
             vmx-wbinvd-exit vmx-unrestricted-guest",
        ),
        (VmxPinbased, "vmx-intr-exit vmx-nmi-exit vmx-vnmi vmx-preemption-timer"),
        (
            VmxExit,
            "vmx-exit-nosave-debugctl vmx-exit-load-perf-global-ctrl vmx-exit-ack-intr vmx-exit-save-pat \
             vmx-exit-load-pat vmx-exit-save-efer vmx-exit-load-efer vmx-exit-save-preemption-timer",
        ),
        (
            VmxEntry,
            "vmx-entry-noload-debugctl vmx-entry-ia32e-mode vmx-entry-load-perf-global-ctrl \
             vmx-entry-load-pat vmx-entry-load-efer",
        ),
        (VmxMisc, "vmx-store-lma vmx-activity-hlt"),
        (
            VmxEptVpid,
            "vmx-ept-execonly vmx-page-walk-4 vmx-ept-2mb vmx-ept-1gb vmx-invept vmx-invept-single-context \
             vmx-invept-all-context vmx-invvpid vmx-invvpid-single-addr vmx-invvpid-all-context \
             vmx-invept-single-context-noglobals #14",
        ),
        (VmxBasic, "vmx-ins-outs vmx-true-ctls"),
    ]),
    caches: None,
    versions: &[
        V1,
        Version {
            number: 2,
            alias: Some("Westmere-IBRS"),
            note: None,
            props: &[("spec-ctrl", "on"), ("model-id", "Westmere E56xx/L56xx/X56xx (IBRS update)")],
        },
    ],
};
