//! Intel's Atom servers and Xeon Phi.
//!
//! What each has is what QEMU 7.2 reports of it (`query-cpu-model-expansion`).

use super::{INTEL, ModelDef, V1, Version};
use crate::features::FeatureWord::*;
use crate::features::FeatureWords;

pub(super) static KNIGHTSMILL: ModelDef = ModelDef {
    name: "KnightsMill",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 133,
    stepping: 0,
    model_id: "Intel Xeon Phi Processor (Knights Mill)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2 ss",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq ssse3 fma cx16 sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c \
             rdrand",
        ),
        (Leaf7Ebx, "fsgsbase bmi1 avx2 smep bmi2 erms avx512f rdseed adx avx512pf avx512er avx512cd"),
        (Leaf7Ecx, "avx512-vpopcntdq"),
        (Leaf7Edx, "avx512-4vnniw avx512-4fmaps"),
        (Ext1Edx, "syscall nx pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm abm 3dnowprefetch"),
        (Xsave, "xsaveopt"),
        (Leaf6Eax, "arat"),
    ]),
    caches: None,
    versions: &[V1],
};

pub(super) static DENVERTON: ModelDef = ModelDef {
    name: "Denverton",
    level: 0x15,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 95,
    stepping: 1,
    model_id: "Intel Atom Processor (Denverton)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq monitor ssse3 cx16 sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave \
             rdrand",
        ),
        (Leaf7Ebx, "fsgsbase smep erms mpx rdseed smap clflushopt sha-ni"),
        (Leaf7Edx, "spec-ctrl arch-capabilities ssbd"),
        (Ext1Edx, "syscall nx pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm 3dnowprefetch"),
        (Xsave, "xsaveopt xsavec xgetbv1"),
        (Leaf6Eax, "arat"),
        (ArchCapabilities, "rdctl-no skip-l1dfl-vmentry"),
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
             vmx-wbinvd-exit vmx-unrestricted-guest vmx-apicv-register vmx-apicv-vid vmx-rdrand-exit \
             vmx-invpcid-exit vmx-vmfunc vmx-shadow-vmcs vmx-rdseed-exit vmx-pml",
        ),
        (VmxPinbased, "vmx-intr-exit vmx-nmi-exit vmx-vnmi vmx-preemption-timer vmx-posted-intr"),
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
        (VmxMisc, "vmx-store-lma vmx-activity-hlt vmx-vmwrite-vmexit-fields"),
        (
            VmxEptVpid,
            "vmx-ept-execonly vmx-page-walk-4 vmx-ept-2mb vmx-ept-1gb vmx-invept vmx-eptad \
             vmx-invept-single-context vmx-invept-all-context vmx-invvpid vmx-invvpid-single-addr \
             vmx-invvpid-all-context vmx-invept-single-context-noglobals #14",
        ),
        (VmxBasic, "vmx-ins-outs vmx-true-ctls"),
        (VmxVmfunc, "vmx-eptp-switching"),
    ]),
    caches: None,
    versions: &[
        V1,
        Version {
            number: 2,
            alias: None,
            note: Some("no MPX, no MONITOR"),
            props: &[("monitor", "off"), ("mpx", "off")],
        },
        Version {
            number: 3,
            alias: None,
            note: Some("XSAVES, no MPX, no MONITOR"),
            props: &[("xsaves", "on"), ("vmx-xsaves", "on")],
        },
    ],
};

pub(super) static SNOWRIDGE: ModelDef = ModelDef {
    name: "Snowridge",
    level: 0x1b,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 134,
    stepping: 1,
    model_id: "Intel Atom Processor (SnowRidge)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq monitor ssse3 cx16 sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave \
             rdrand",
        ),
        (Leaf7Ebx, "fsgsbase smep erms mpx rdseed smap clflushopt clwb sha-ni"),
        (Leaf7Ecx, "umip gfni cldemote movdiri movdir64b"),
        (Leaf7Edx, "spec-ctrl arch-capabilities core-capability ssbd"),
        (Ext1Edx, "syscall nx pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm 3dnowprefetch"),
        (Xsave, "xsaveopt xsavec xgetbv1"),
        (Leaf6Eax, "arat"),
        (CoreCapability, "split-lock-detect"),
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
             vmx-wbinvd-exit vmx-unrestricted-guest vmx-apicv-register vmx-apicv-vid vmx-rdrand-exit \
             vmx-invpcid-exit vmx-vmfunc vmx-shadow-vmcs vmx-rdseed-exit vmx-pml",
        ),
        (VmxPinbased, "vmx-intr-exit vmx-nmi-exit vmx-vnmi vmx-preemption-timer vmx-posted-intr"),
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
        (VmxMisc, "vmx-store-lma vmx-activity-hlt vmx-vmwrite-vmexit-fields"),
        (
            VmxEptVpid,
            "vmx-ept-execonly vmx-page-walk-4 vmx-ept-2mb vmx-ept-1gb vmx-invept vmx-eptad \
             vmx-invept-single-context vmx-invept-all-context vmx-invvpid vmx-invvpid-single-addr \
             vmx-invvpid-all-context vmx-invept-single-context-noglobals #14",
        ),
        (VmxBasic, "vmx-ins-outs vmx-true-ctls"),
        (VmxVmfunc, "vmx-eptp-switching"),
    ]),
    caches: None,
    versions: &[
        V1,
        Version {
            number: 2,
            alias: None,
            note: None,
            props: &[("mpx", "off"), ("model-id", "Intel Atom Processor (Snowridge, no MPX)")],
        },
        Version {
            number: 3,
            alias: None,
            note: Some("XSAVES, no MPX"),
            props: &[("xsaves", "on"), ("vmx-xsaves", "on")],
        },
        Version {
            number: 4,
            alias: None,
            note: Some("no split lock detect, no core-capability"),
            props: &[("core-capability", "off"), ("split-lock-detect", "off")],
        },
    ],
};
