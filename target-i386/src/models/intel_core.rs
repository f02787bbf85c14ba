//! Intel's Core processors from Sandy Bridge to Skylake, and the Xeons of their kind.
//!
//! What each has is what QEMU 7.2 reports of it (`query-cpu-model-expansion`).

use super::{INTEL, ModelDef, V1, Version};
use crate::features::FeatureWord::*;
use crate::features::FeatureWords;

pub(super) static SANDYBRIDGE: ModelDef = ModelDef {
    name: "SandyBridge",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 42,
    stepping: 1,
    model_id: "Intel Xeon E312xx (Sandy Bridge)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (Leaf1Ecx, "pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 x2apic popcnt tsc-deadline aes xsave avx"),
        (Ext1Edx, "syscall nx rdtscp lm"),
        (Ext1Ecx, "lahf-lm"),
        (Xsave, "xsaveopt"),
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
            alias: Some("SandyBridge-IBRS"),
            note: None,
            props: &[("spec-ctrl", "on"), ("model-id", "Intel Xeon E312xx (Sandy Bridge, IBRS update)")],
        },
    ],
};

pub(super) static IVYBRIDGE: ModelDef = ModelDef {
    name: "IvyBridge",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 58,
    stepping: 9,
    model_id: "Intel Xeon E3-12xx v2 (Ivy Bridge)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq ssse3 cx16 sse4.1 sse4.2 x2apic popcnt tsc-deadline aes xsave avx f16c rdrand",
        ),
        (Leaf7Ebx, "fsgsbase smep erms"),
        (Ext1Edx, "syscall nx rdtscp lm"),
        (Ext1Ecx, "lahf-lm"),
        (Xsave, "xsaveopt"),
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
             vmx-wbinvd-exit vmx-unrestricted-guest vmx-apicv-register vmx-apicv-vid vmx-rdrand-exit",
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
            alias: Some("IvyBridge-IBRS"),
            note: None,
            props: &[("spec-ctrl", "on"), ("model-id", "Intel Xeon E3-12xx v2 (Ivy Bridge, IBRS)")],
        },
    ],
};

pub(super) static HASWELL: ModelDef = ModelDef {
    name: "Haswell",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 60,
    stepping: 4,
    model_id: "Intel Core Processor (Haswell)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx \
             f16c rdrand",
        ),
        (Leaf7Ebx, "fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm"),
        (Ext1Edx, "syscall nx rdtscp lm"),
        (Ext1Ecx, "lahf-lm abm"),
        (Xsave, "xsaveopt"),
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
             vmx-wbinvd-exit vmx-unrestricted-guest vmx-apicv-register vmx-apicv-vid vmx-rdrand-exit \
             vmx-invpcid-exit vmx-vmfunc vmx-shadow-vmcs",
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
            alias: Some("Haswell-noTSX"),
            note: None,
            props: &[
                ("hle", "off"),
                ("rtm", "off"),
                ("model-id", "Intel Core Processor (Haswell, no TSX)"),
                ("stepping", "1"),
            ],
        },
        Version {
            number: 3,
            alias: Some("Haswell-IBRS"),
            note: None,
            props: &[
                ("hle", "on"),
                ("rtm", "on"),
                ("spec-ctrl", "on"),
                ("model-id", "Intel Core Processor (Haswell, IBRS)"),
                ("stepping", "4"),
            ],
        },
        Version {
            number: 4,
            alias: Some("Haswell-noTSX-IBRS"),
            note: None,
            props: &[
                ("hle", "off"),
                ("rtm", "off"),
                ("model-id", "Intel Core Processor (Haswell, no TSX, IBRS)"),
                ("stepping", "1"),
            ],
        },
    ],
};

pub(super) static BROADWELL: ModelDef = ModelDef {
    name: "Broadwell",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 61,
    stepping: 2,
    model_id: "Intel Core Processor (Broadwell)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx \
             f16c rdrand",
        ),
        (Leaf7Ebx, "fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap"),
        (Ext1Edx, "syscall nx rdtscp lm"),
        (Ext1Ecx, "lahf-lm abm 3dnowprefetch"),
        (Xsave, "xsaveopt"),
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
            alias: Some("Broadwell-noTSX"),
            note: None,
            props: &[
                ("hle", "off"),
                ("rtm", "off"),
                ("model-id", "Intel Core Processor (Broadwell, no TSX)"),
            ],
        },
        Version {
            number: 3,
            alias: Some("Broadwell-IBRS"),
            note: None,
            props: &[
                ("hle", "on"),
                ("rtm", "on"),
                ("spec-ctrl", "on"),
                ("model-id", "Intel Core Processor (Broadwell, IBRS)"),
            ],
        },
        Version {
            number: 4,
            alias: Some("Broadwell-noTSX-IBRS"),
            note: None,
            props: &[
                ("hle", "off"),
                ("rtm", "off"),
                ("model-id", "Intel Core Processor (Broadwell, no TSX, IBRS)"),
            ],
        },
    ],
};

pub(super) static SKYLAKE_CLIENT: ModelDef = ModelDef {
    name: "Skylake-Client",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 94,
    stepping: 3,
    model_id: "Intel Core Processor (Skylake)",
    features: FeatureWords::of(&[
        (
            Leaf1Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
             sse2",
        ),
        (
            Leaf1Ecx,
            "pni pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx \
             f16c rdrand",
        ),
        (Leaf7Ebx, "fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap"),
        (Ext1Edx, "syscall nx rdtscp lm"),
        (Ext1Ecx, "lahf-lm abm 3dnowprefetch"),
        (Xsave, "xsaveopt xsavec xgetbv1"),
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
            "vmx-apicv-xapic vmx-ept vmx-desc-exit vmx-rdtscp-exit vmx-vpid vmx-wbinvd-exit \
             vmx-unrestricted-guest vmx-rdrand-exit vmx-invpcid-exit vmx-vmfunc vmx-shadow-vmcs \
             vmx-rdseed-exit vmx-pml",
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
            alias: Some("Skylake-Client-IBRS"),
            note: None,
            props: &[("spec-ctrl", "on"), ("model-id", "Intel Core Processor (Skylake, IBRS)")],
        },
        Version {
            number: 3,
            alias: Some("Skylake-Client-noTSX-IBRS"),
            note: None,
            props: &[
                ("hle", "off"),
                ("rtm", "off"),
                ("model-id", "Intel Core Processor (Skylake, IBRS, no TSX)"),
            ],
        },
        Version {
            number: 4,
            alias: None,
            note: Some("IBRS, XSAVES, no TSX"),
            props: &[("xsaves", "on"), ("vmx-xsaves", "on")],
        },
    ],
};
