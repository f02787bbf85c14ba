//! Older machines: what the devices of `pc-i440fx-7.1` and those before it differ in from those of the next one.
//!
//! Left out are the properties of devices that are not there, and those that change nothing but the format of a migrated
//! state. Source: QEMU `hw/i386/pc_piix.c`, and the tables `hw_compat_*` of `hw/core/machine.c` and `pc_compat_*` of
//! `hw/i386/pc.c`.

use hw_core::machine::{CompatProperty, MachineClass};
use qom::TypeInfo;
use target_i386::models::DefaultVersion;

use crate::pc::PcMachineClass;

/// The machine that the others are versions of.
const NEWEST: &str = "pc-i440fx-7.2-machine";

/// A machine, as it differs from the next newer one.
struct Version {
    name: &'static str,
    properties: &'static [CompatProperty],
    /// What else is different.
    options: fn(&mut MachineClass, &mut PcMachineClass),
}

/// Newest first.
const VERSIONS: &[Version] = &[
    Version { name: "pc-i440fx-7.1", properties: BEFORE_7_2, options: |_, _| () },
    Version { name: "pc-i440fx-7.0", properties: &[], options: |_, pc| pc.enforce_amd_1tb_hole = false },
    Version { name: "pc-i440fx-6.2", properties: &[], options: |_, _| () },
    Version {
        name: "pc-i440fx-6.1",
        properties: BEFORE_6_2,
        options: |machine, _| machine.prefer_sockets = true,
    },
    Version { name: "pc-i440fx-6.0", properties: BEFORE_6_1, options: |_, _| () },
    Version { name: "pc-i440fx-5.2", properties: BEFORE_6_0, options: |_, _| () },
    Version { name: "pc-i440fx-5.1", properties: BEFORE_5_2, options: before_5_2 },
    Version { name: "pc-i440fx-5.0", properties: BEFORE_5_1, options: before_5_1 },
    Version { name: "pc-i440fx-4.2", properties: BEFORE_5_0, options: |_, _| () },
    Version { name: "pc-i440fx-4.1", properties: BEFORE_4_2, options: |_, _| () },
    Version {
        name: "pc-i440fx-4.0",
        properties: BEFORE_4_1,
        options: |_, pc| pc.default_cpu_version = DefaultVersion::Legacy,
    },
    Version { name: "pc-i440fx-3.1", properties: BEFORE_4_0, options: |_, _| () },
    Version { name: "pc-i440fx-3.0", properties: BEFORE_3_1, options: |_, _| () },
    Version { name: "pc-i440fx-2.12", properties: BEFORE_3_0, options: |_, _| () },
    Version { name: "pc-i440fx-2.11", properties: BEFORE_2_12, options: |_, _| () },
    Version {
        name: "pc-i440fx-2.10",
        properties: BEFORE_2_11,
        options: |machine, _| machine.auto_enable_numa_with_memhp = false,
    },
    Version { name: "pc-i440fx-2.9", properties: BEFORE_2_10, options: |_, _| () },
    Version { name: "pc-i440fx-2.8", properties: BEFORE_2_9, options: |_, _| () },
    Version { name: "pc-i440fx-2.7", properties: BEFORE_2_8, options: |_, _| () },
    Version { name: "pc-i440fx-2.6", properties: BEFORE_2_7, options: |_, _| () },
    Version { name: "pc-i440fx-2.5", properties: &[], options: |_, _| () },
];

fn before_5_2(_: &mut MachineClass, pc: &mut PcMachineClass) {
    pc.kvmclock_create_always = false;
    pc.pci_root_uid = 1;
}

fn before_5_1(machine: &mut MachineClass, _: &mut PcMachineClass) {
    machine.numa_mem_supported = true;
    machine.auto_enable_numa_with_memdev = false;
}

const BEFORE_7_2: &[CompatProperty] = &[
    ("virtio-device", "queue_reset", "false"),
    ("virtio-rng-pci", "vectors", "0"),
    ("virtio-rng-pci-transitional", "vectors", "0"),
    ("virtio-rng-pci-non-transitional", "vectors", "0"),
];

const BEFORE_6_2: &[CompatProperty] = &[
    ("x86_64-cpu", "hv-version-id-build", "0x1bbc"),
    ("x86_64-cpu", "hv-version-id-major", "0x0006"),
    ("x86_64-cpu", "hv-version-id-minor", "0x0001"),
];

const BEFORE_6_1: &[CompatProperty] = &[
    ("vhost-vsock-device", "seqpacket", "off"),
    ("qemu64-x86_64-cpu", "family", "6"),
    ("qemu64-x86_64-cpu", "model", "6"),
    ("qemu64-x86_64-cpu", "stepping", "3"),
    ("x86_64-cpu", "x-vendor-cpuid-only", "off"),
];

const BEFORE_6_0: &[CompatProperty] =
    &[("virtio-blk-device", "report-discard-granularity", "off"), ("virtio-net-pci-base", "vectors", "3")];

const BEFORE_5_2: &[CompatProperty] = &[
    ("vhost-user-blk", "num-queues", "1"),
    ("virtio-blk-device", "num-queues", "1"),
    ("virtio-scsi-device", "num_queues", "1"),
    // The guest says that it panicked, not that it has loaded another kernel for that.
    ("pvpanic", "events", "1"),
    ("virtio-pci", "x-ats-page-aligned", "off"),
    ("x86_64-cpu", "kvm-msi-ext-dest-id", "off"),
];

const BEFORE_5_1: &[CompatProperty] = &[
    ("virtio-balloon-device", "page-poison", "false"),
    ("vmport", "x-read-set-eax", "off"),
    ("vmport", "x-signal-unsupported-cmd", "off"),
    ("vmport", "x-report-vmx-type", "off"),
    ("vmport", "x-cmds-v2", "off"),
    ("virtio-device", "x-disable-legacy-check", "true"),
];

const BEFORE_5_0: &[CompatProperty] = &[
    ("virtio-blk-device", "queue-size", "128"),
    ("virtio-scsi-device", "virtqueue_size", "128"),
    ("virtio-blk-device", "x-enable-wce-if-config-wce", "off"),
    ("virtio-blk-device", "seg-max-adjust", "off"),
    ("virtio-scsi-device", "seg_max_adjust", "off"),
    ("virtio-device", "use-disabled-flag", "false"),
];

const BEFORE_4_2: &[CompatProperty] = &[("virtio-pci", "x-pcie-flr-init", "off")];

const BEFORE_4_1: &[CompatProperty] =
    &[("virtio-device", "use-started", "false"), ("virtio-balloon-device", "qemu-4-0-config-size", "true")];

const BEFORE_4_0: &[CompatProperty] = &[
    ("memory-backend-file", "x-use-canonical-path-for-ramblock-id", "true"),
    ("memory-backend-memfd", "x-use-canonical-path-for-ramblock-id", "true"),
    ("virtio-blk-device", "discard", "false"),
    ("virtio-blk-device", "write-zeroes", "false"),
    ("virtio-balloon-device", "qemu-4-0-config-size", "false"),
    ("Opteron_G3-x86_64-cpu", "rdtscp", "off"),
    ("Opteron_G4-x86_64-cpu", "rdtscp", "off"),
    ("Opteron_G4-x86_64-cpu", "npt", "off"),
    ("Opteron_G4-x86_64-cpu", "nrip-save", "off"),
    ("Opteron_G5-x86_64-cpu", "rdtscp", "off"),
    ("Opteron_G5-x86_64-cpu", "npt", "off"),
    ("Opteron_G5-x86_64-cpu", "nrip-save", "off"),
    ("EPYC-x86_64-cpu", "npt", "off"),
    ("EPYC-x86_64-cpu", "nrip-save", "off"),
    ("EPYC-IBPB-x86_64-cpu", "npt", "off"),
    ("EPYC-IBPB-x86_64-cpu", "nrip-save", "off"),
    ("Skylake-Client-x86_64-cpu", "mpx", "on"),
    ("Skylake-Client-IBRS-x86_64-cpu", "mpx", "on"),
    ("Skylake-Server-x86_64-cpu", "mpx", "on"),
    ("Skylake-Server-IBRS-x86_64-cpu", "mpx", "on"),
    ("Cascadelake-Server-x86_64-cpu", "mpx", "on"),
    ("Icelake-Server-x86_64-cpu", "mpx", "on"),
    ("Cascadelake-Server-x86_64-cpu", "stepping", "5"),
    ("x86_64-cpu", "x-intel-pt-auto-level", "off"),
];

const BEFORE_3_1: &[CompatProperty] = &[
    ("x86_64-cpu", "x-hv-synic-kvm-only", "on"),
    ("Skylake-Server-x86_64-cpu", "pku", "off"),
    ("Skylake-Server-IBRS-x86_64-cpu", "pku", "off"),
];

const BEFORE_3_0: &[CompatProperty] = &[
    ("x86_64-cpu", "legacy-cache", "on"),
    ("x86_64-cpu", "topoext", "off"),
    ("EPYC-x86_64-cpu", "xlevel", "0x8000000a"),
    ("EPYC-IBPB-x86_64-cpu", "xlevel", "0x8000000a"),
];

const BEFORE_2_12: &[CompatProperty] = &[
    ("virtio-blk-pci", "vectors", "2"),
    ("vhost-user-blk-pci", "vectors", "2"),
    ("x86_64-cpu", "x-migrate-smi-count", "off"),
    ("Skylake-Server-x86_64-cpu", "clflushopt", "off"),
];

const BEFORE_2_11: &[CompatProperty] = &[
    ("virtio-mouse-device", "wheel-axis", "false"),
    ("virtio-tablet-device", "wheel-axis", "false"),
    ("x86_64-cpu", "x-hv-max-vps", "0x40"),
];

const BEFORE_2_10: &[CompatProperty] =
    &[("pci-bridge", "shpc", "off"), ("virtio-net-device", "x-mtu-bypass-backend", "off")];

const BEFORE_2_9: &[CompatProperty] = &[
    ("fw_cfg_io", "x-file-slots", "0x10"),
    ("pci-bridge", "shpc", "on"),
    ("pci-device", "x-pcie-extcap-init", "off"),
    ("virtio-pci", "x-pcie-deverr-init", "off"),
    ("virtio-pci", "x-pcie-lnkctl-init", "off"),
    ("virtio-pci", "x-pcie-pm-init", "off"),
    ("x86_64-cpu", "tcg-cpuid", "off"),
    ("x86_64-cpu", "vmware-cpuid-freq", "off"),
    ("Haswell-x86_64-cpu", "stepping", "1"),
];

const BEFORE_2_8: &[CompatProperty] = &[
    ("virtio-pci", "page-per-vq", "on"),
    ("virtio-serial-device", "emergency-write", "off"),
    ("ioapic", "version", "0x11"),
    ("virtio-pci", "x-ignore-backend-features", "on"),
    ("x86_64-cpu", "l3-cache", "off"),
    ("x86_64-cpu", "full-cpuid-auto-level", "off"),
    ("Opteron_G3-x86_64-cpu", "family", "15"),
    ("Opteron_G3-x86_64-cpu", "model", "6"),
    ("Opteron_G3-x86_64-cpu", "stepping", "1"),
];

const BEFORE_2_7: &[CompatProperty] = &[
    // Of the devices that have both interfaces.
    ("virtio-pci", "disable-modern", "on"),
    ("virtio-pci", "disable-legacy", "off"),
    ("x86_64-cpu", "cpuid-0xb", "off"),
    ("x86_64-cpu", "fill-mtrr-mask", "off"),
];

qom::type_init!(fn register);

/// Registers the older machines.
fn register() {
    for (at, version) in VERSIONS.iter().enumerate() {
        let differences = VERSIONS.get(..=at).unwrap_or_default();
        qom::type_register(TypeInfo::new(format!("{}-machine", version.name), NEWEST, move |class| {
            let mut pc = *class.get_mut::<PcMachineClass>();
            let machine = class.get_mut::<MachineClass>();
            machine.name = version.name;
            machine.alias = None;
            machine.is_default = false;
            for version in differences {
                machine.compat_props.push(version.properties);
                (version.options)(machine, &mut pc);
            }
            *class.get_mut::<PcMachineClass>() = pc;
        }));
    }
}
