//! Intel's Xeons from Skylake on.
//!
//! What each has is what QEMU 7.2 reports of it (`query-cpu-model-expansion`).

use super::{INTEL, ModelDef, V1, Version};
use crate::features::FeatureWord::*;
use crate::features::FeatureWords;

pub(super) static SKYLAKE_SERVER: ModelDef = ModelDef {
    name: "Skylake-Server",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 85,
    stepping: 4,
    model_id: "Intel Xeon Processor (Skylake)",
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
        (
            Leaf7Ebx,
            "fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm avx512f avx512dq rdseed adx smap clflushopt \
             clwb avx512cd avx512bw avx512vl",
        ),
        (Leaf7Ecx, "pku"),
        (Ext1Edx, "syscall nx pdpe1gb rdtscp lm"),
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
    ]),
    caches: None,
    versions: &[
        V1,
        Version {
            number: 2,
            alias: Some("Skylake-Server-IBRS"),
            note: None,
            props: &[
                ("clflushopt", "off"),
                ("spec-ctrl", "on"),
                ("model-id", "Intel Xeon Processor (Skylake, IBRS)"),
            ],
        },
        Version {
            number: 3,
            alias: Some("Skylake-Server-noTSX-IBRS"),
            note: None,
            props: &[
                ("hle", "off"),
                ("rtm", "off"),
                ("model-id", "Intel Xeon Processor (Skylake, IBRS, no TSX)"),
            ],
        },
        Version {
            number: 4,
            alias: None,
            note: Some("IBRS, EPT switching, no TSX"),
            props: &[("vmx-eptp-switching", "on")],
        },
        Version {
            number: 5,
            alias: None,
            note: Some("IBRS, XSAVES, EPT switching, no TSX"),
            props: &[("xsaves", "on"), ("vmx-xsaves", "on")],
        },
    ],
};

pub(super) static CASCADELAKE_SERVER: ModelDef = ModelDef {
    name: "Cascadelake-Server",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 85,
    stepping: 6,
    model_id: "Intel Xeon Processor (Cascadelake)",
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
        (
            Leaf7Ebx,
            "fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm avx512f avx512dq rdseed adx smap clflushopt \
             clwb avx512cd avx512bw avx512vl",
        ),
        (Leaf7Ecx, "pku avx512vnni"),
        (Leaf7Edx, "spec-ctrl ssbd"),
        (Ext1Edx, "syscall nx pdpe1gb rdtscp lm"),
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
    ]),
    caches: None,
    versions: &[
        V1,
        Version {
            number: 2,
            alias: None,
            note: Some("ARCH_CAPABILITIES"),
            props: &[
                ("arch-capabilities", "on"),
                ("rdctl-no", "on"),
                ("ibrs-all", "on"),
                ("skip-l1dfl-vmentry", "on"),
                ("mds-no", "on"),
            ],
        },
        Version {
            number: 3,
            alias: Some("Cascadelake-Server-noTSX"),
            note: Some("ARCH_CAPABILITIES, no TSX"),
            props: &[("hle", "off"), ("rtm", "off")],
        },
        Version {
            number: 4,
            alias: None,
            note: Some("ARCH_CAPABILITIES, EPT switching, no TSX"),
            props: &[("vmx-eptp-switching", "on")],
        },
        Version {
            number: 5,
            alias: None,
            note: Some("ARCH_CAPABILITIES, EPT switching, XSAVES, no TSX"),
            props: &[("xsaves", "on"), ("vmx-xsaves", "on")],
        },
    ],
};

pub(super) static COOPERLAKE: ModelDef = ModelDef {
    name: "Cooperlake",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 85,
    stepping: 10,
    model_id: "Intel Xeon Processor (Cooperlake)",
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
        (
            Leaf7Ebx,
            "fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm avx512f avx512dq rdseed adx smap clflushopt \
             clwb avx512cd avx512bw avx512vl",
        ),
        (Leaf7Ecx, "pku avx512vnni"),
        (Leaf7Edx, "spec-ctrl stibp arch-capabilities ssbd"),
        (Leaf7Sub1Eax, "avx512-bf16"),
        (Ext1Edx, "syscall nx pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm abm 3dnowprefetch"),
        (Xsave, "xsaveopt xsavec xgetbv1"),
        (Leaf6Eax, "arat"),
        (ArchCapabilities, "rdctl-no ibrs-all skip-l1dfl-vmentry mds-no pschange-mc-no taa-no"),
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
            note: Some("XSAVES"),
            props: &[("xsaves", "on"), ("vmx-xsaves", "on")],
        },
    ],
};

pub(super) static ICELAKE_SERVER: ModelDef = ModelDef {
    name: "Icelake-Server",
    level: 0xd,
    xlevel: 0x8000_0008,
    vendor: INTEL,
    family: 6,
    model: 134,
    stepping: 0,
    model_id: "Intel Xeon Processor (Icelake)",
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
        (
            Leaf7Ebx,
            "fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm avx512f avx512dq rdseed adx smap clflushopt \
             clwb avx512cd avx512bw avx512vl",
        ),
        (
            Leaf7Ecx,
            "avx512vbmi umip pku avx512vbmi2 gfni vaes vpclmulqdq avx512vnni avx512bitalg avx512-vpopcntdq \
             la57",
        ),
        (Leaf7Edx, "spec-ctrl ssbd"),
        (Ext1Edx, "syscall nx pdpe1gb rdtscp lm"),
        (Ext1Ecx, "lahf-lm abm 3dnowprefetch"),
        (Ext8Ebx, "wbnoinvd"),
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
    ]),
    caches: None,
    versions: &[
        V1,
        Version {
            number: 2,
            alias: Some("Icelake-Server-noTSX"),
            note: Some("no TSX"),
            props: &[("hle", "off"), ("rtm", "off")],
        },
        Version {
            number: 3,
            alias: None,
            note: None,
            props: &[
                ("arch-capabilities", "on"),
                ("rdctl-no", "on"),
                ("ibrs-all", "on"),
                ("skip-l1dfl-vmentry", "on"),
                ("mds-no", "on"),
                ("pschange-mc-no", "on"),
                ("taa-no", "on"),
            ],
        },
        Version {
            number: 4,
            alias: None,
            note: None,
            props: &[
                ("avx512ifma", "on"),
                ("sha-ni", "on"),
                ("rdpid", "on"),
                ("fsrm", "on"),
                ("vmx-rdseed-exit", "on"),
                ("vmx-pml", "on"),
                ("vmx-eptp-switching", "on"),
                ("model", "106"),
            ],
        },
        Version {
            number: 5,
            alias: None,
            note: Some("XSAVES"),
            props: &[("xsaves", "on"), ("vmx-xsaves", "on")],
        },
        Version { number: 6, alias: None, note: Some("5-level EPT"), props: &[("vmx-page-walk-5", "on")] },
    ],
};
