//! The table of feature words.

use super::FeatureWord::*;
use super::{FEATURE_WORDS, WordInfo, cpuid, msr, word};
use crate::host::Register::{Eax, Ebx, Ecx, Edx};

/// XCR0 components that migrate: x87, SSE, AVX, MPX, AVX-512, PKRU.
pub(super) const XCR0_MIGRATABLE: u64 = 0x2ff;

pub(super) static WORDS: [WordInfo; FEATURE_WORDS] = [
    word(
        Leaf1Edx,
        cpuid(1, None, Edx),
        &[
            (0, "fpu vme de pse tsc msr pae mce cx8 apic"),
            (11, "sep mtrr pge mca cmov pat pse36 pn clflush"),
            (21, "ds acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"),
        ],
    ),
    word(
        Leaf1Ecx,
        cpuid(1, None, Ecx),
        &[
            (0, "pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid"),
            (12, "fma cx16 xtpr pdcm"),
            (17, "pcid dca sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave"),
            (28, "avx f16c rdrand hypervisor"),
        ],
    ),
    word(
        Leaf7Ebx,
        cpuid(7, Some(0), Ebx),
        &[
            (0, "fsgsbase tsc-adjust sgx bmi1 hle avx2"),
            (7, "smep bmi2 erms invpcid rtm"),
            (14, "mpx"),
            (
                16,
                "avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb intel-pt avx512pf \
            avx512er avx512cd sha-ni avx512bw avx512vl",
            ),
        ],
    ),
    word(
        Leaf7Ecx,
        cpuid(7, Some(0), Ecx),
        &[
            (1, "avx512vbmi umip pku"),
            (5, "waitpkg avx512vbmi2"),
            (8, "gfni vaes vpclmulqdq avx512vnni avx512bitalg"),
            (14, "avx512-vpopcntdq"),
            (16, "la57"),
            (22, "rdpid"),
            (24, "bus-lock-detect cldemote"),
            (27, "movdiri movdir64b"),
            (30, "sgxlc pks"),
        ],
    ),
    word(
        Leaf7Edx,
        cpuid(7, Some(0), Edx),
        &[
            (2, "avx512-4vnniw avx512-4fmaps fsrm"),
            (8, "avx512-vp2intersect"),
            (10, "md-clear"),
            (14, "serialize"),
            (16, "tsx-ldtrk"),
            (19, "arch-lbr"),
            (22, "amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp"),
            (29, "arch-capabilities core-capability ssbd"),
        ],
    ),
    word(Leaf7Sub1Eax, cpuid(7, Some(1), Eax), &[(4, "avx-vnni avx512-bf16")]),
    word(
        Ext1Edx,
        cpuid(0x8000_0001, None, Edx),
        &[
            (11, "syscall"),
            (20, "nx"),
            (22, "mmxext"),
            (25, "fxsr-opt pdpe1gb rdtscp"),
            (29, "lm 3dnowext 3dnow"),
        ],
    ),
    word(
        Ext1Ecx,
        cpuid(0x8000_0001, None, Ecx),
        &[
            (
                0,
                "lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop \
            skinit wdt",
            ),
            (15, "lwp fma4 tce"),
            (19, "nodeid-msr"),
            (21, "tbm topoext perfctr-core perfctr-nb"),
        ],
    )
    .never_automatic(1 << 22),
    word(Ext7Edx, cpuid(0x8000_0007, None, Edx), &[(8, "invtsc")]).unmigratable(1 << 8),
    word(
        Ext8Ebx,
        cpuid(0x8000_0008, None, Ebx),
        &[
            (0, "clzero"),
            (2, "xsaveerptr"),
            (9, "wbnoinvd"),
            (12, "ibpb"),
            (14, "ibrs amd-stibp"),
            (24, "amd-ssbd virt-ssbd amd-no-ssb"),
        ],
    ),
    word(
        CentaurEdx,
        cpuid(0xc000_0001, None, Edx),
        &[(2, "xstore xstore-en"), (6, "xcrypt xcrypt-en ace2 ace2-en phe phe-en pmm pmm-en")],
    ),
    word(
        Kvm,
        cpuid(0x4000_0001, None, Eax),
        &[
            (
                0,
                "kvmclock kvm-nopiodelay kvm-mmu kvmclock kvm-asyncpf kvm-steal-time kvm-pv-eoi \
            kvm-pv-unhalt",
            ),
            (9, "kvm-pv-tlb-flush"),
            (11, "kvm-pv-ipi kvm-poll-control kvm-pv-sched-yield kvm-asyncpf-int kvm-msi-ext-dest-id"),
            (24, "kvmclock-stable-bit"),
        ],
    ),
    word(KvmHints, cpuid(0x4000_0001, None, Edx), &[(0, "kvm-hint-dedicated")]).never_automatic(u64::MAX),
    word(
        Svm,
        cpuid(0x8000_000a, None, Edx),
        &[
            (0, "npt lbrv svm-lock nrip-save tsc-scale vmcb-clean flushbyasid decodeassists"),
            (10, "pause-filter"),
            (12, "pfthreshold avic"),
            (15, "v-vmsave-vmload vgif"),
            (28, "svme-addr-chk"),
        ],
    ),
    word(Xsave, cpuid(0xd, Some(1), Eax), &[(0, "xsaveopt xsavec xgetbv1 xsaves xfd")]),
    word(Leaf6Eax, cpuid(6, None, Eax), &[(2, "arat")]),
    word(Xcr0Lo, cpuid(0xd, Some(0), Eax), &[]).also_migratable(XCR0_MIGRATABLE),
    word(Xcr0Hi, cpuid(0xd, Some(0), Edx), &[]),
    word(
        ArchCapabilities,
        msr(0x10a),
        &[(0, "rdctl-no ibrs-all rsba skip-l1dfl-vmentry ssb-no mds-no pschange-mc-no tsx-ctrl taa-no")],
    ),
    word(CoreCapability, msr(0xcf), &[(5, "split-lock-detect")]),
    word(PerfCapabilities, msr(0x345), &[(13, "full-width-write")]),
    word(
        VmxProcbased,
        msr(0x48e),
        &[
            (2, "vmx-vintr-pending vmx-tsc-offset"),
            (7, "vmx-hlt-exit"),
            (9, "vmx-invlpg-exit vmx-mwait-exit vmx-rdpmc-exit vmx-rdtsc-exit"),
            (15, "vmx-cr3-load-noexit vmx-cr3-store-noexit"),
            (
                19,
                "vmx-cr8-load-exit vmx-cr8-store-exit vmx-flexpriority vmx-vnmi-pending vmx-movdr-exit \
            vmx-io-exit vmx-io-bitmap",
            ),
            (27, "vmx-mtf vmx-msr-bitmap vmx-monitor-exit vmx-pause-exit vmx-secondary-ctls"),
        ],
    ),
    word(
        VmxSecondary,
        msr(0x48b),
        &[
            (
                0,
                "vmx-apicv-xapic vmx-ept vmx-desc-exit vmx-rdtscp-exit vmx-apicv-x2apic vmx-vpid \
            vmx-wbinvd-exit vmx-unrestricted-guest vmx-apicv-register vmx-apicv-vid vmx-ple \
            vmx-rdrand-exit vmx-invpcid-exit vmx-vmfunc vmx-shadow-vmcs vmx-encls-exit vmx-rdseed-exit \
            vmx-pml",
            ),
            (20, "vmx-xsaves"),
            (25, "vmx-tsc-scaling"),
        ],
    ),
    word(
        VmxPinbased,
        msr(0x48d),
        &[(0, "vmx-intr-exit"), (3, "vmx-nmi-exit"), (5, "vmx-vnmi vmx-preemption-timer vmx-posted-intr")],
    ),
    word(
        VmxExit,
        msr(0x48f),
        &[
            (2, "vmx-exit-nosave-debugctl"),
            (12, "vmx-exit-load-perf-global-ctrl"),
            (15, "vmx-exit-ack-intr"),
            (
                18,
                "vmx-exit-save-pat vmx-exit-load-pat vmx-exit-save-efer vmx-exit-load-efer \
            vmx-exit-save-preemption-timer vmx-exit-clear-bndcfgs",
            ),
            (25, "vmx-exit-clear-rtit-ctl"),
            (29, "vmx-exit-load-pkrs"),
        ],
    ),
    word(
        VmxEntry,
        msr(0x490),
        &[
            (2, "vmx-entry-noload-debugctl"),
            (9, "vmx-entry-ia32e-mode"),
            (
                13,
                "vmx-entry-load-perf-global-ctrl vmx-entry-load-pat vmx-entry-load-efer \
            vmx-entry-load-bndcfgs",
            ),
            (18, "vmx-entry-load-rtit-ctl"),
            (22, "vmx-entry-load-pkrs"),
        ],
    ),
    word(
        VmxMisc,
        msr(0x485),
        &[
            (5, "vmx-store-lma vmx-activity-hlt vmx-activity-shutdown vmx-activity-wait-sipi"),
            (29, "vmx-vmwrite-vmexit-fields vmx-zero-len-inject"),
        ],
    ),
    word(
        VmxEptVpid,
        msr(0x48c),
        &[
            (0, "vmx-ept-execonly"),
            (6, "vmx-page-walk-4 vmx-page-walk-5"),
            (16, "vmx-ept-2mb vmx-ept-1gb"),
            (20, "vmx-invept vmx-eptad vmx-ept-advanced-exitinfo"),
            (25, "vmx-invept-single-context vmx-invept-all-context"),
            (32, "vmx-invvpid"),
            (
                40,
                "vmx-invvpid-single-addr vmx-invept-single-context vmx-invvpid-all-context \
            vmx-invept-single-context-noglobals",
            ),
        ],
    ),
    word(VmxBasic, msr(0x480), &[(54, "vmx-ins-outs vmx-true-ctls")]).never_automatic(1 << 49),
    word(VmxVmfunc, msr(0x491), &[(0, "vmx-eptp-switching")]),
    word(Leaf14Ecx, cpuid(0x14, Some(0), Ecx), &[(31, "intel-pt-lip")]),
    word(SgxEax, cpuid(0x12, Some(0), Eax), &[(0, "sgx1 sgx2")]),
    word(SgxEbx, cpuid(0x12, Some(0), Ebx), &[(0, "sgx-exinfo")]),
    word(
        SgxSub1Eax,
        cpuid(0x12, Some(1), Eax),
        &[(1, "sgx-debug sgx-mode64"), (4, "sgx-provisionkey sgx-tokenkey"), (7, "sgx-kss")],
    ),
    word(XssLo, cpuid(0xd, Some(1), Ecx), &[]),
    word(XssHi, cpuid(0xd, Some(1), Edx), &[]),
];
